"""The back office: Flask-AppBuilder screens over our models, by desk. One file per subject; `guarded` holds the two bases."""

from __future__ import annotations

from flask import Flask
from flask_appbuilder import AppBuilder

from app.extensions import db
from app.surfaces import formats


def init_app(app: Flask) -> None:
    """Bind Flask-AppBuilder and register every desk. Called inside the application context."""
    from app.views import (
        breaks,
        chart_of_accounts,
        client_categories,
        client_money,
        clients,
        commission_desk,
        commission_flags,
        connections,
        documents,
        external,
        foreign_operations,
        fx,
        home,
        ib_terms,
        ledger,
        ledger_requests,
        login_imports,
        marketing,
        metatrader,
        partner_agreements,
        partner_joining,
        partner_moves,
        partner_network,
        partner_policy,
        partner_privacy,
        partners,
        payment_terms,
        payments,
        payout_runs,
        payouts,
        plans,
        products,
        proofs,
        replays,
        simulations,
        simulator,
        staff,
        symbol_groups,
        system,
        tickets,
        trading_accounts,
        trading_rules,
    )

    appbuilder = AppBuilder(update_perms=False)
    appbuilder.init_app(app, db.session)
    # Flask-AppBuilder made Babel; the language of a request is ours to choose (portal clients are not its users).
    app.extensions["babel"].locale_selector = formats.select_locale
    for desk in (
        clients,
        client_categories,
        commission_desk,
        documents,
        payments,
        payout_runs,
        payouts,
        chart_of_accounts,
        client_money,
        ledger,
        ledger_requests,
        fx,
        external,
        proofs,
        connections,
        breaks,
        foreign_operations,
        trading_accounts,
        marketing,
        metatrader,
        products,
        trading_rules,
        login_imports,
        partners,
        partner_network,
        partner_policy,
        partner_privacy,
        partner_agreements,
        partner_joining,
        partner_moves,
        payment_terms,
        plans,
        symbol_groups,
        ib_terms,
        commission_flags,
        replays,
        simulations,
        tickets,
        system,
    ):
        desk.register(appbuilder)
    if not app.extensions["settings"].is_production:
        simulator.register(appbuilder)
    staff.name_menus(appbuilder)
    app.context_processor(home.navigation)
