"""Quotes that clients were given, and the conversions made of them: a list with filters, a page for each, a file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from flask import abort
from flask.typing import ResponseReturnValue
from flask_appbuilder import expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import joinedload

from app.core.clock import now
from app.extensions import db
from app.models.fx import FXQuote
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.filters import Filters
from app.views.columns import client_link, transaction_link
from app.views.fx_reference import source_words
from app.views.guarded import DeskPage

PAGE_SIZE = 50
CHUNK = 1000
STATES = {"open": _l("Offer stands"), "converted": _l("Converted"), "expired": _l("Expired")}


class FXQuoteView(DeskPage):
    """Read-only: quotes are made by clients, and a conversion is corrected by reversing its transaction."""

    class_permission_name = "FX quotes"
    route_base = "/conversions"
    default_view = "list"
    extra_args = {
        "client_link": client_link,
        "transaction_link": transaction_link,
        "source_words": source_words,
        "states": STATES,
    }

    @expose("/")
    @has_access
    @permission_name("list")
    def list(self) -> ResponseReturnValue:
        """The newest first."""
        filters, at = Filters(), now()
        query, after = _wanted(filters, at), filters.after_number("after")
        if filters.wants_csv and not filters.problems:
            return csv_file("conversions", _head(), _rows(query, at))
        if after is not None:
            query = query.where(FXQuote.id < after)
        found = [] if filters.problems else db.session.scalars(query.limit(PAGE_SIZE + 1)).all()
        shown = found[:PAGE_SIZE]
        page = self.render_template(
            "office/fx_quotes.html",
            filters=filters,
            quotes=[(one, one.state(at), percent(one)) for one in shown],
            is_first=after is None,
            next_after=shown[-1].id if len(found) > PAGE_SIZE else None,
        )
        return page, 422 if filters.problems else 200

    @expose("/<int:pk>")
    @has_access
    @permission_name("show")
    def show(self, pk: int) -> ResponseReturnValue:
        """What was promised, what it was made of, and what became of it."""
        found = db.session.get(FXQuote, pk)
        if found is None:
            abort(404)
        return self.render_template(
            "office/fx_quote.html",
            one=found,
            state=found.state(now()),
            percent=percent(found),
            sources=[{**used, "observed_at": _moment(used["observed_at"])} for used in found.sources],
        )


def percent(one: FXQuote) -> Decimal:
    """What the spread is of the amount given, with two decimals."""
    return (Decimal(one.spread_minor) * 100 / one.sell_minor).quantize(Decimal("0.01"))


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _wanted(filters: Filters, at: datetime) -> Select[FXQuote]:
    query = select(FXQuote).options(joinedload(FXQuote.client)).order_by(FXQuote.id.desc())
    client_id, currency = filters.whole("client"), filters.currency("currency")
    state = filters.choice("state", STATES)
    start, end = filters.days("from", "to")
    conditions: list[ColumnElement[bool]] = []
    if client_id is not None:
        conditions.append(FXQuote.client_id == client_id)
    if currency:
        conditions.append(or_(FXQuote.sell_currency == currency, FXQuote.buy_currency == currency))
    if state:
        conditions.append(_in_state(state, at))
    if start:
        conditions.append(FXQuote.quoted_at >= start)
    if end:
        conditions.append(FXQuote.quoted_at < end)
    return query.where(*conditions)


def _in_state(state: str, at: datetime) -> ColumnElement[bool]:
    if state == "converted":
        return FXQuote.txn_id.is_not(None)
    is_over = FXQuote.expires_at <= at
    return and_(FXQuote.txn_id.is_(None), is_over if state == "expired" else ~is_over)


def _head() -> list[str]:
    return [
        gettext("No."),
        gettext("Client"),
        gettext("Quoted"),
        gettext("State"),
        gettext("Given"),
        gettext("Currency given"),
        gettext("Spread"),
        gettext("Rate"),
        gettext("Got"),
        gettext("Currency got"),
        gettext("Converted"),
        gettext("Transaction"),
    ]


def _rows(query: Select[FXQuote], at: datetime) -> Iterator[list[Cell]]:
    for one in db.session.scalars(query.execution_options(yield_per=CHUNK)):
        start: list[Cell] = [one.id, one.client_id, one.quoted_at, str(STATES[one.state(at)])]
        amounts: list[Cell] = [one.sold, one.sell_currency, one.spread, one.rate, one.bought, one.buy_currency]
        yield [*start, *amounts, one.converted_at, str(one.txn_id or "")]
