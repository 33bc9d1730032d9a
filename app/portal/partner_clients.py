"""The IB's clients: a list with filters, order and pages, and as a file; what it shows is the house's policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext
from flask_babel import lazy_gettext as _l

from app.clients.countries import COUNTRIES, country_names
from app.extensions import db
from app.partners import client_list
from app.partners.client_list import SORTS, ClientFilter
from app.partners.client_stages import STAGES
from app.partners.privacy import current_privacy
from app.portal.guards import client_required
from app.portal.partner import blueprint, own_ib
from app.surfaces.csv_files import Cell
from app.surfaces.filters import Filters
from app.surfaces.xlsx_files import table_file

PAGE = 50

WORDS = {
    "registered": _l("Registered"),
    "verified": _l("Mail confirmed"),
    "approved": _l("Approved"),
    "deposited": _l("Deposited"),
    "traded": _l("Trades"),
    "former": _l("Former client"),
}


@blueprint.get("/clients", endpoint="clients")
@client_required
def show_clients() -> ResponseReturnValue:
    """The clients that fit the filters; ?export=csv or xlsx: all of them as a file."""
    filters = Filters("portal_partner.clients")
    wanted = read_filter(filters)
    if filters.wanted_file and not filters.problems:
        return table_file(filters.wanted_file, "clients", _head(), _rows(own_ib().id, wanted))
    return render_template("portal/partner_clients.html", **_found(filters, wanted))


@blueprint.get("/clients/live")
@client_required
def clients_live() -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    filters = Filters("portal_partner.clients")
    return render_template("portal/partner_clients_live.html", **_found(filters, read_filter(filters)))


def read_filter(filters: Filters) -> ClientFilter:
    """The clients that the address asks for."""
    since, until = filters.days("from", "to")
    return ClientFilter(
        text=filters.text("q"),
        stage=filters.choice("stage", WORDS),
        country=filters.choice("country", COUNTRIES),
        since=since,
        until=until,
        ib_id=filters.whole("ib"),
        sort=filters.choice("sort", SORTS) or "since",
        is_descending=(filters.choice("dir", ("up", "down")) or "down") == "down",
    )


def _found(filters: Filters, wanted: ClientFilter) -> dict[str, Any]:
    ib, session = own_ib(), db.session()
    page = max(0, request.args.get("page", 0, type=int))
    given: dict[str, Any] = {**filters.given}
    total = 0 if filters.problems else client_list.count_clients(session, ib.id, wanted)
    found = client_list.list_clients(session, ib.id, wanted, first=page * PAGE, most=PAGE) if total else []
    countries = dict(country_names(str(get_locale())))
    return {
        "filters": filters,
        "is_filtered": bool(set(given) - {"sort", "dir"}),
        "wanted": wanted,
        "policy": current_privacy(session),
        "words": WORDS,
        "stages": STAGES,
        "ib": ib,
        "sub_ibs": client_list.sub_ibs(session, ib.id),
        "clients": found,
        "total": total,
        "first": page * PAGE + 1,
        "countries": countries,
        "newer": filters.address(page=page - 1 or None) if page else None,
        "older": filters.address(page=page + 1) if (page + 1) * PAGE < total else None,
        "live_url": url_for("portal_partner.clients_live", page=page or None, **given),
        "sorted_by": lambda name: _sorted_by(filters, wanted, name),
    }


def _sorted_by(filters: Filters, wanted: ClientFilter, name: str) -> dict[str, str]:
    """How a column's head leads to the list sorted by it, the other way round when it is so already."""
    is_this = wanted.sort == name
    goes_down = not wanted.is_descending if is_this else name in {"since", "lots"}
    link = {"sort": filters.address(sort=name, dir="down" if goes_down else "up")}
    return {**link, "sorted": "descending" if wanted.is_descending else "ascending"} if is_this else link


def _head() -> list[str]:
    return [
        gettext("Client number"),
        gettext("Client"),
        gettext("Mail address"),
        gettext("Country"),
        gettext("Stands at"),
        gettext("Client since (UTC)"),
        gettext("Until (UTC)"),
        gettext("Of sub-IB"),
        gettext("Lots in 30 days"),
        gettext("Balances"),
    ]


def _rows(ib_id: int, wanted: ClientFilter) -> Iterator[list[Cell]]:
    for one in client_list.each_client(db.session(), ib_id, wanted):
        held = ", ".join(f"{balance:f} {currency}" for currency, balance in one.balances or ())
        yield [
            *(one.client_id, one.name, one.email, one.country, str(WORDS[one.stage]), one.since, one.until, one.under),
            *(one.lots, held),
        ]
