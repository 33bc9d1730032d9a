"""The client portal: what a client sees and does, page by page. No business rule lives here; the pages call use cases."""

from __future__ import annotations

from flask import Flask

from app.portal import (
    account_settings,
    accounts,
    convert,
    documents,
    gallery,
    home,
    live,
    money,
    onboarding,
    partner,
    partner_clients,
    partner_joining,
    partner_lines,
    partner_links,
    partner_material,
    partner_network,
    partner_payouts,
    partner_questions,
    partner_rates,
    profile,
)
from app.portal.guards import load_client, navigation, portal

#: Pages with an address space of their own. A new subject is one more module here, and one more place in guards.PLACES.
SUBJECTS = (accounts, account_settings, money, convert, partner)

#: Pages directly below /portal; importing them put their routes on the `portal` blueprint.
PAGES = (home, onboarding, documents, profile, live, gallery)

#: Pages of the IB's area, on the `partner` blueprint in the same way; see app/portal/partner.py.
PARTNER_PAGES = (
    *(partner_clients, partner_joining, partner_lines, partner_links, partner_network, partner_payouts),
    *(partner_material, partner_questions, partner_rates),
)


def init_app(app: Flask) -> None:
    app.before_request(load_client)
    app.context_processor(navigation)
    app.context_processor(partner.navigation)
    app.register_blueprint(portal)
    for subject in SUBJECTS:
        app.register_blueprint(subject.blueprint)
    live.init_app(app)
