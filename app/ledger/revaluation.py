"""What the FX positions are worth, what they cost, and the posting of the difference when a period is closed.

A position is what conversions have left the house holding (positive) or owing (negative) in one currency. Its cost is what
it was exchanged for, in the reporting currency, when it was booked; worth less cost is the result. docs/fx.md has an example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money, reporting_currency
from app.core.uow import unit_of_work
from app.ledger import chart, close, position_costs, posting, queries
from app.ledger.errors import NoRate
from app.ledger.known_rates import rate_text
from app.ledger.rates import RateBook
from app.models.ledger import Account, Entry, PeriodClose, Transaction

KIND = "revaluation"
#: The last moment of a period that ends before another begins.
_INSTANT = timedelta(microseconds=1)
_EXACT = Context(prec=80)


@dataclass(frozen=True)
class Position:
    """One currency's position. `value`, `cost` and `result` are in the reporting currency, unrounded.

    They are None where no rate is known, and `is_stale` where the only one known is too old to convert by.
    """

    currency: str
    position: Money
    value: Decimal | None
    cost: Decimal | None
    result: Decimal | None
    rate: Decimal | None
    source: str
    observed_at: datetime | None
    is_stale: bool


def position_report(session: Session, at: datetime | None = None) -> list[Position]:
    """All positions as they stood before a moment (now, unless given), by currency, valued at the rates of that moment.

    The results add up to what the house has won or lost by the rates: the worth of all positions together, as each
    conversion costs in one currency what it brings in another.
    """
    moment = at or now()
    book = RateBook(session, reporting_currency(), moment)
    accounts = _accounts(session, chart.fx_position)
    costs = position_costs.costs(session, [account.id for account in accounts], _settled(session, moment), book)
    return [
        _position(queries.balance_as_of(session, account.code, moment), costs.get(account.currency, Decimal(0)), book)
        for account in accounts
    ]


def unrealised(report: list[Position]) -> Decimal | None:
    """What all positions have won or lost together; None where one of them has no rate."""
    results = [position.result for position in report]
    return None if None in results else sum((result for result in results if result is not None), Decimal(0))


def taken(session: Session, through: datetime) -> Decimal:
    """What closes before a moment have taken into income, in the reporting currency.

    What was taken in another one counts at the rates of the moment; raises NoRate where there is none.
    """
    book = RateBook(session, reporting_currency(), through)
    total = Decimal(0)
    for account in _accounts(session, chart.fx_revaluation):
        # An equity account's debits count as less: what was taken stands there as a negative balance.
        worth = book.value(-queries.balance_as_of(session, account.code, through)).amount
        if worth is None:
            raise NoRate(base=account.currency, quote=reporting_currency())
        total += worth
    return total


def post_result(session: Session, *, through: datetime, actor: Actor) -> list[UUID]:
    """Take the positions' result up to `through` into income, as far as earlier closes have not. Returns what was posted.

    One transaction with the rates it was made of, effective at the last instant of the period; none when nothing has
    changed. A second call for the same `through` posts nothing more. To be called before the period is closed, in the same
    unit of work. Raises NoRate when a position has no rate at all, PeriodClosed when it is too late.
    """
    with unit_of_work(session, actor) as unit:
        close.hold_up_postings(session)  # a conversion that is under way now would be neither in this close nor in the next
        key = f"{KIND}:{through.astimezone(UTC).isoformat()}"
        done = session.scalar(select(Transaction.id).where(Transaction.idempotency_key == key))
        if done is not None:
            return [done]
        reporting = reporting_currency()
        report = position_report(session, through)
        total = unrealised(report)
        if total is None:
            raise NoRate(base=next(one.currency for one in report if one.result is None), quote=reporting)
        gained = Money.round_down(total - taken(session, through), reporting)
        if not gained:
            return []
        revaluation, result = chart.fx_revaluation(reporting), chart.fx_result(reporting)
        chart.open_accounts(session, revaluation, result)
        sides = (revaluation, result) if gained.amount_minor > 0 else (result, revaluation)
        txn_id = posting.post(
            session,
            key=key,
            kind=KIND,
            effective_at=through - _INSTANT,
            actor=actor,
            legs=[posting.debit(sides[0], abs(gained)), posting.credit(sides[1], abs(gained))],
            metadata={
                "through": through.isoformat(),
                "reporting_currency": reporting,
                "result": str(total),
                "positions": [_document(one) for one in report],
            },
        )
        unit.emit(
            "fx.result_posted", txn_id=str(txn_id), through=through.isoformat(), minor=gained.amount_minor, currency=reporting
        )
        return [txn_id]


def _accounts(session: Session, make: Callable[[str], chart.AccountSpec]) -> list[Account]:
    """The accounts that a function of the chart makes, one for each currency, by code."""
    pattern = make(reporting_currency()).code.removesuffix(reporting_currency()) + "%"
    return list(session.scalars(select(Account).where(Account.code.like(pattern)).order_by(Account.code)))


def _position(position: Money, cost: Decimal, book: RateBook) -> Position:
    valued = book.value(position)
    if valued.amount is None and not position:
        valued = replace(valued, amount=Decimal(0))  # nothing is worth nothing at any rate
    if valued.amount is not None and position.currency == book.currency:
        cost = valued.amount
    return Position(
        position.currency,
        position,
        valued.amount,
        None if valued.amount is None else cost,
        None if valued.amount is None else _EXACT.subtract(valued.amount, cost),
        valued.rate,
        valued.source,
        valued.observed_at,
        valued.is_stale,
    )


def _settled(session: Session, moment: datetime) -> position_costs.Settled:
    """The costs as the last close before the moment wrote them down, so that entries before it need not be read."""
    reversal = aliased(Transaction)
    details = session.scalar(
        select(Transaction.details)
        .join(Entry, Entry.txn_id == Transaction.id)
        .join(Account, Account.id == Entry.account_id)
        .where(
            Account.code == chart.fx_revaluation(reporting_currency()).code,
            Entry.effective_at < moment,
            Transaction.kind == KIND,
            exists().where(PeriodClose.closed_through > Entry.effective_at),
            ~exists().where(reversal.reverses == Transaction.id),
        )
        .order_by(Entry.effective_at.desc())
        .limit(1)
    )
    if details is None:
        return position_costs.Settled()
    costs = {one["currency"]: Decimal(one["cost"]) for one in details["positions"] if one["currency"] != reporting_currency()}
    return position_costs.Settled(datetime.fromisoformat(details["through"]), costs)


def _document(one: Position) -> dict[str, Any]:
    return {
        "currency": one.currency,
        "position_minor": one.position.amount_minor,
        "value": str(one.value),
        "cost": str(one.cost),
        "rate": rate_text(one.rate) if one.rate else "",
        "source": one.source,
        "observed_at": one.observed_at.isoformat() if one.observed_at else "",
        "is_stale": one.is_stale,
    }
