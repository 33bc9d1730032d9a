"""The IB's network: the tree of the IBs below, a level at a time, with what each branch brought."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import render_template
from flask.typing import ResponseReturnValue

from app.commissions import figures
from app.core.clock import now
from app.extensions import db
from app.partners import network
from app.portal.guards import client_required
from app.portal.partner import blueprint, own_ib
from app.surfaces.filters import Filters

#: The figures of a branch are those of so many days.
DAYS = 30
#: IBs shown of one level.
MOST = 1_000


@blueprint.get("/network", endpoint="network")
@client_required
def show_network() -> ResponseReturnValue:
    """The whole branch of the IB; ?q= finds IBs in it by name."""
    ib, filters = own_ib(), Filters("portal_partner.network")
    words = filters.text("q")
    found = network.find_below(db.session(), ib.id, words, now()) if words else None
    return render_template("portal/partner_network.html", filters=filters, words=words, found=found, **_level(ib.id))


@blueprint.get("/network/<int:ib_id>")
@client_required
def network_branch(ib_id: int) -> ResponseReturnValue:
    """The branch of one IB below, as a page. An IB elsewhere is not found."""
    filters = Filters("portal_partner.network")
    return render_template("portal/partner_network.html", filters=filters, words="", found=None, **_level(ib_id))


@blueprint.get("/network/<int:ib_id>/below")
@client_required
def network_below(ib_id: int) -> ResponseReturnValue:
    """The next level of one IB below, as a part of the tree."""
    return render_template("portal/partner_network_level.html", **_level(ib_id))


def _level(ib_id: int) -> dict[str, Any]:
    session, at, me = db.session(), now(), own_ib().id
    path = network.path_to(session, me, ib_id, at)
    branches = network.level_below(session, ib_id, at, MOST)
    since = at - timedelta(days=DAYS)
    brought = figures.from_branches(session, me, len(path), [one.ib_id for one in branches], since) if branches else {}
    return {"path": path, "branches": branches, "brought": brought, "days": DAYS, "is_cut": len(branches) == MOST}
