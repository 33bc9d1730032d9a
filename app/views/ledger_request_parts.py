"""What the pages of requests show: amounts, legs with balances, the transaction to be reversed, the period to be closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from markupsafe import Markup
from sqlalchemy import ColumnElement, Select, select

from app.core.errors import AppError
from app.core.money import Money, exponent, reporting_currency
from app.extensions import db
from app.ledger import adjustments, approvals, period_review, revaluation, sources
from app.ledger.adjustments import LegEffect
from app.ledger.errors import LedgerError
from app.models.controls import REQUEST_KINDS, LedgerRequest
from app.models.ledger import Account, Transaction
from app.surfaces import formats
from app.surfaces.csv_files import Cell
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views import ledger_links
from app.views.columns import person

KINDS = {"adjustment": _l("Adjustment"), "reversal": _l("Reversal"), "period_close": _l("Period close")}
STATES = {"proposed": _l("Proposed"), "approved": _l("Approved"), "rejected": _l("Rejected"), "withdrawn": _l("Withdrawn")}
TABS = ("proposed", "decided")
CHUNK = 500


@dataclass(frozen=True)
class Original:
    """A transaction to be reversed: what it did, what a reversal would do, and what caused it.

    `keeps_state`: the cause is a deposit, a settlement or the like, which goes on as if the money had moved.
    """

    txn: Transaction
    legs: Sequence[LegEffect]
    mirror: Sequence[LegEffect]
    problems: Sequence[str]
    cause: Markup | None
    keeps_state: bool

    @property
    def amounts(self) -> list[Money]:
        return debited(self.legs)


@dataclass(frozen=True)
class Period:
    """A period to be closed: what is open in it, and the result of the FX positions that would be posted."""

    last_day: date
    last_close: Any
    blockers: Sequence[str]
    warnings: Sequence[str]
    positions: Sequence[revaluation.Position]
    result: Decimal | None
    currency: str


def conditions(filters: Filters, tab: str) -> list[ColumnElement[bool]]:
    """Which requests the list shows."""
    wanted: list[ColumnElement[bool]] = [(LedgerRequest.status == "proposed") == (tab == "proposed")]
    if kind := filters.choice("kind", REQUEST_KINDS):
        wanted.append(LedgerRequest.kind == kind)
    if status := filters.choice("status", tuple(STATES)):
        wanted.append(LedgerRequest.status == status)
    if words := filters.text("reason"):
        wanted.append(LedgerRequest.reason.icontains(words, autoescape=True))
    start, end = filters.days("from", "to")
    if start:
        wanted.append(LedgerRequest.proposed_at >= start)
    if end:
        wanted.append(LedgerRequest.proposed_at < end)
    return wanted


def amounts(request: LedgerRequest) -> list[Money]:
    """How much is debited, and credited, in each currency."""
    return debited(approvals.legs_of(db.session(), request)) if request.kind != "period_close" else []


def debited(legs: Sequence[Any]) -> list[Money]:
    sums: dict[str, Money] = {}
    for leg in legs:
        if leg.side == "debit":
            sums[leg.money.currency] = sums.get(leg.money.currency, Money.zero(leg.money.currency)) + leg.money
    return [sums[currency] for currency in sorted(sums)]


def effects(request: LedgerRequest) -> Sequence[LegEffect]:
    """The legs with balances: as they were once posted, as they would be while open. None where an account cannot hold it."""
    session = db.session()
    if request.txn_id is not None:
        return adjustments.posted(session, request.txn_id)
    try:
        return adjustments.effects(session, approvals.legs_of(session, request))
    except LedgerError:
        return []


def original(txn_id: UUID | None) -> Original | None:
    """The transaction of this id; None when there is none."""
    session = db.session()
    txn = session.get(Transaction, txn_id) if txn_id else None
    if txn is None:
        return None
    mirror: Sequence[LegEffect] = []
    problems: list[AppError] = []
    try:
        mirror = adjustments.effects(session, adjustments.mirrored(session, txn.id))
        problems = adjustments.shortages(mirror)
    except LedgerError as error:
        problems = [error]
    cause = sources.cause_of(session, txn)
    return Original(
        txn,
        adjustments.posted(session, txn.id),
        mirror,
        [sentence(error) for error in problems],
        ledger_links.row_link(cause.subject, cause.id) if cause else None,
        keeps_state=cause is not None and cause.subject != LedgerRequest.__tablename__,
    )


def period(end: datetime | None) -> Period | None:
    """What must be known before the time up to `end` is closed."""
    if end is None:
        return None
    session = db.session()
    review = period_review.review(session, end)
    positions = revaluation.position_report(session, end)
    return Period(
        last_day=last_day(end),
        last_close=review.last_close,
        blockers=[_finding(one) for one in review.blockers],
        warnings=[_finding(one) for one in review.warnings],
        positions=positions,
        result=revaluation.unrealised(positions),
        currency=reporting_currency(),
    )


def closing_posts(request: LedgerRequest) -> Sequence[Transaction]:
    """What the close has posted for the FX positions."""
    end = request.closed_through
    if end is None or request.status != "approved":
        return []
    key = f"{revaluation.KIND}:{end.astimezone(UTC).isoformat()}"
    return db.session.scalars(select(Transaction).where(Transaction.idempotency_key == key)).all()


def last_day(end: datetime) -> date:
    """The last day of a period that is closed up to this moment."""
    return (end.astimezone(UTC) - timedelta(days=1)).date()


def known_accounts(codes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The accounts among these codes that are open, or could be, as the form shows them."""
    wanted = {code.strip() for code in codes if code.isprintable()}
    open_ones = db.session.scalars(select(Account).where(Account.code.in_(wanted)))
    found = {account.code: about(account) for account in open_ones}
    return found | {code: known for code in wanted - found.keys() if (known := unopened_account(code))}


def unopened_account(code: str) -> dict[str, Any] | None:
    """An account that would be opened with the posting, as the form shows it."""
    session = db.session()
    spec = adjustments.to_be_opened(session, code)
    if spec is None or session.scalar(select(Account.id).where(Account.code == code)) is not None:
        return None
    text = gettext("%(kind)s, will be opened", kind=kind_words(spec.kind))
    return {"code": spec.code, "currency": spec.currency, "digits": exponent(spec.currency), "text": text}


def about(account: Account) -> dict[str, Any]:
    """An account in a suggestion: what it is, and what is available on it."""
    available = formats.money(account.posted - account.set_aside)
    return {
        "code": account.code,
        "currency": account.currency,
        "digits": exponent(account.currency),
        "text": gettext("%(kind)s, %(amount)s available", kind=kind_words(account.kind), amount=available),
    }


def kind_words(kind: str) -> str:
    words = {
        "asset": gettext("Asset"),
        "liability": gettext("Liability"),
        "equity": gettext("Equity"),
        "income": gettext("Income"),
        "expense": gettext("Expense"),
    }
    return words.get(kind, kind)


def form_totals(rows: Sequence[Any]) -> list[tuple[str, Money, Money, Money]]:
    """Debits, credits and their difference by currency, of the rows that can be read; without script the page shows these."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        currency = row.account.strip().rpartition(":")[2]
        try:
            money = Money.parse(row.amount, currency)
        except AppError:
            continue
        sums.setdefault(currency, [0, 0])[row.side == "credit"] += money.amount_minor
    found = []
    for currency, (debits, credits_) in sorted(sums.items()):
        try:
            found.append(
                (currency, Money(debits, currency), Money(credits_, currency), Money(abs(debits - credits_), currency))
            )
        except AppError:  # beyond what any account holds; the use case says so
            continue
    return found


def head() -> list[str]:
    return [
        gettext("No."),
        gettext("Kind"),
        gettext("State"),
        gettext("Currency"),
        gettext("Amount"),
        gettext("Effective"),
        gettext("Reason"),
        gettext("Proposed by"),
        gettext("Proposed"),
        gettext("Decided by"),
        gettext("Decided"),
        gettext("Reason of the decision"),
        gettext("Transaction"),
    ]


def rows(query: Select[LedgerRequest]) -> Iterator[list[Cell]]:
    """One row for each currency of each request."""
    for one in db.session.scalars(query).all():
        moment = one.effective_at or one.closed_through
        start: list[Cell] = [one.id, str(KINDS[one.kind]), str(STATES[one.status])]
        end: list[Cell] = [moment, one.reason, person(one.proposed_by), one.proposed_at]
        end += [person(one.decided_by) if one.decided_by else None, one.decided_at, one.decision_reason]
        end.append(str(one.txn_id) if one.txn_id else None)
        moved: list[Money | None] = [*amounts(one)]
        for money in moved or [None]:
            yield [*start, money.currency if money else None, money, *end]


def _finding(finding: period_review.Finding) -> str:
    return sentence(AppError(finding.message, **finding.data))
