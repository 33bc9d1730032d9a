"""The IB's area: its pages in order, who may come in, and its start page.

A new page is a module of its own that puts its routes on `blueprint` (or has one below /portal/partner), is imported in
app/portal/__init__.py, and adds one line to PAGES. Its template extends portal/partner_page.html and sets `partner_active`.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from app.commissions import figures, lines
from app.core.errors import N_, NotFound
from app.extensions import db
from app.partners import attribution, links
from app.portal.guards import client_required

blueprint = Blueprint("portal_partner", __name__, url_prefix="/portal/partner")

#: The tabs of the area: key, label, endpoint.
PAGES = (
    ("overview", N_("Overview"), "portal_partner.index"),
    ("clients", N_("Clients"), "portal_partner.clients"),
    ("network", N_("Network"), "portal_partner.network"),
    ("lines", N_("Commission"), "portal_partner.lines"),
    ("links", N_("Links"), "portal_partner.links"),
)

LINES = 25


def own_ib() -> links.IB:
    """The IB that the signed-in client is; NotFound for everybody else."""
    ib = links.ib_by_client(db.session(), g.client.id)
    if ib is None:
        raise NotFound()
    return ib


def navigation() -> dict[str, Any]:
    """Template context of the area: its tabs."""
    if not request.path.startswith("/portal/partner"):
        return {}
    return {
        "partner_pages": [{"key": key, "label": gettext(label), "href": url_for(endpoint)} for key, label, endpoint in PAGES]
    }


@blueprint.get("/")
@client_required
def index() -> ResponseReturnValue:
    """The IB's start page; a client who is no IB reads what it would be."""
    if links.ib_by_client(db.session(), g.client.id) is None:
        return render_template("portal/partner_none.html")
    return render_template("portal/partner.html", **overview())


@blueprint.get("/live")
@client_required
def live() -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    return render_template("portal/partner_live.html", **overview())


def overview() -> dict[str, Any]:
    ib = own_ib()
    session = db.session()
    before = request.args.get("before", type=int)
    found = lines.accrual_lines(session, ib.id, before, LINES + 1)
    return {
        "ib": ib,
        "totals": figures.totals(session, ib.id),
        "lines": found[:LINES],
        "older": url_for("portal_partner.index", before=found[LINES - 1].id) if len(found) > LINES else None,
        "newer": url_for("portal_partner.index") if before else None,
        "clients": attribution.clients_of(session, ib.id),
    }
