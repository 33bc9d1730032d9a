"""FX positions: what conversions have left the house holding or owing, what it is worth, and what closes have booked of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from flask.typing import ResponseReturnValue
from flask_appbuilder import expose, has_access, permission_name
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.money import Money, exponent, reporting_currency
from app.extensions import db
from app.ledger import chart, revaluation
from app.ledger.errors import NoRate
from app.ledger.revaluation import Position
from app.models.ledger import Account, Entry, Transaction
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.facts import transaction_kind
from app.surfaces.filters import Filters
from app.views.columns import account_link, transaction_link
from app.views.fx_reference import source_words
from app.views.guarded import DeskPage

#: How many closes are listed; all of them stand on the account's own page.
CLOSES = 24


@dataclass(frozen=True)
class Booked:
    """What one transaction took into income (negative: gave back)."""

    txn_id: UUID
    kind: str
    effective_at: datetime
    amount: Money


@dataclass(frozen=True)
class Report:
    """Everything at one moment. `unrealised`, `taken` and `worth` are None where a rate is missing."""

    at: datetime
    currency: str
    positions: list[Position]
    unrealised: Decimal | None
    taken: Decimal | None
    booked: list[Booked]

    @property
    def open_result(self) -> Decimal | None:
        """What the next close would take."""
        return None if self.unrealised is None or self.taken is None else self.unrealised - self.taken

    @property
    def without_rate(self) -> list[str]:
        return [one.currency for one in self.positions if one.result is None]

    @property
    def stale(self) -> list[str]:
        return [one.currency for one in self.positions if one.is_stale and one.position]


class FXPositionPage(DeskPage):
    """One page, now or as of the end of a day; the same as a file."""

    class_permission_name = "FX positions"
    route_base = "/fx-positions"
    extra_args = {
        "account_link": account_link,
        "transaction_link": transaction_link,
        "transaction_kind": transaction_kind,
        "source_words": source_words,
    }

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        filters = Filters()
        day, moment = filters.as_of("at")
        if filters.problems:
            return self.render_template("office/fx_positions.html", filters=filters, day=None, report=None), 422
        # All figures are of one moment, also those of several statements.
        with Session(db.engine.execution_options(isolation_level="REPEATABLE READ")) as snapshot:
            found = report(snapshot, moment)
        if filters.wants_csv:
            return csv_file(f"fx-positions-{day or found.at.date()}", _head(), _rows(found))
        return self.render_template(
            "office/fx_positions.html",
            filters=filters,
            day=day,
            report=found,
            digits=exponent(found.currency),
            accounts={
                "position": lambda currency: chart.fx_position(currency).code,
                "revaluation": chart.fx_revaluation(found.currency).code,
                "result": chart.fx_result(found.currency).code,
            },
        )


def report(session: Session, before: datetime | None) -> Report:
    """The positions as they stood before a moment (now, unless given), and what was booked of their result by then."""
    at = before or now()
    positions = revaluation.position_report(session, at)
    try:
        taken = revaluation.taken(session, at)
    except NoRate:  # taken in a former reporting currency that nobody knows a rate of any more
        taken = None
    return Report(at, reporting_currency(), positions, revaluation.unrealised(positions), taken, _booked(session, at))


def _booked(session: Session, before: datetime) -> list[Booked]:
    """The newest transactions on the revaluation accounts; a debit there is what income gained."""
    rows = session.execute(
        select(Transaction.id, Transaction.kind, Entry.effective_at, Entry.debit - Entry.credit, Account.currency)
        .select_from(Entry)
        .join(Account, Account.id == Entry.account_id)
        .join(Transaction, Transaction.id == Entry.txn_id)
        .where(Account.code.like("fx:revaluation:%"), Entry.effective_at < before)
        .order_by(Entry.effective_at.desc(), Transaction.id.desc())
        .limit(CLOSES)
    )
    return [Booked(txn_id, kind, at, Money(int(minor), currency)) for txn_id, kind, at, minor, currency in rows]


def _head() -> list[str]:
    return [
        gettext("As of"),
        gettext("Currency"),
        gettext("Position"),
        gettext("Rate"),
        gettext("Source"),
        gettext("Observed"),
        gettext("Old rate"),
        gettext("Reporting currency"),
        gettext("Value"),
        gettext("Cost"),
        gettext("Result"),
    ]


def _rows(found: Report) -> Iterator[list[Cell]]:
    """One row for each currency, then the sum and what of it closes have booked; unrounded, empty where a rate is missing."""
    for one in found.positions:
        start: list[Cell] = [found.at, one.currency, one.position, one.rate, one.source, one.observed_at]
        yield [*start, gettext("Yes") if one.is_stale else "", found.currency, one.value, one.cost, one.result]
    for words, amount in (
        (gettext("Unrealised result"), found.unrealised),
        (gettext("Booked by closes"), found.taken),
        (gettext("Not booked yet"), found.open_result),
    ):
        yield [found.at, words, None, None, None, None, None, found.currency, None, None, amount]
