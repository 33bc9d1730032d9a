"""How much of an IB's settled commission can be paid out, and why not more.

    balance of the commission account − open holds − what is still in its hold days − what it owes = available

An IB owes what was reversed or adjusted and not outweighed yet: its unsettled sum and the remainder, when they are below
zero together. That sum never stands in the ledger (docs/commissions.md), so it is taken off here: first of the currency that
the IB is paid in now, and what is left of it, converted, of money that still stands in currencies it was paid in before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions.deals import EXACT
from app.commissions.engine import cut
from app.core.errors import N_
from app.core.money import Money
from app.ledger import rates as fx
from app.ledger.known_rates import KnownRates
from app.models.clients import Client
from app.models.commissions import AccrualSum, Plan, PlanVersion, Settlement
from app.models.ledger import Account
from app.models.partners import IntroducingBroker

Reason = Literal["", "nothing", "owes", "no_rate", "held", "in_hold_days", "below_minimum"]

#: Why an IB with something on its account, or below zero, gets nothing.
REASONS: dict[str, str] = {
    "nothing": N_("Nothing to pay"),
    "owes": N_("Negative, carried over"),
    "no_rate": N_("No exchange rate for a negative sum or the minimum"),
    "held": N_("All of it is in a payout already"),
    "in_hold_days": N_("In its hold days, or settled later"),
    "below_minimum": N_("Below the minimum"),
}


@dataclass(frozen=True)
class Payable:
    """What one IB has in one currency, all in minor units. `owes`, `in_hold` and `held` are parts that are not payable.

    `is_priced`: everything could be converted; else nothing is available.
    """

    ib_id: int
    client_id: int
    name: str
    balance: Money
    held: Money
    in_hold: Money
    owes: Money
    minimum: Money
    is_priced: bool = True

    @property
    def currency(self) -> str:
        return self.balance.currency

    @property
    def available(self) -> Money:
        """What can be paid, whatever the minimum; never below zero."""
        return _at_least_zero(self.free - self.owes) if self.is_priced else Money.zero(self.currency)

    @property
    def free(self) -> Money:
        """What can be paid, or makes up for what the IB owes; never below zero."""
        return _at_least_zero(self.balance - self.held - self.in_hold)

    @property
    def uncovered(self) -> Money:
        """What the IB owes beyond that."""
        return _at_least_zero(self.owes - self.free)

    @property
    def reason(self) -> Reason:
        """Why nothing is paid; empty when something is."""
        if not self.is_priced:
            return "no_rate"
        if self.available:
            return "below_minimum" if self.available < self.minimum else ""
        if self.owes:
            return "owes"
        if self.in_hold:
            return "in_hold_days"
        return "held" if self.held else "nothing"

    def figures(self) -> dict[str, Any]:
        """What a payout keeps of it, in minor units of its currency."""
        names = ("balance", "held", "in_hold", "owes", "minimum", "available")
        return {f"{name}_minor": getattr(self, name).amount_minor for name in names}


def payables(session: Session, until: datetime, ib_ids: Sequence[int] | None = None) -> list[Payable]:
    """Per IB and currency what can be paid of all that was settled before `until`; of these IBs, or of all, by id.

    Of each IB the currency that it is paid in comes first. IBs without settled commission and without debt are left out.
    The balance is that of now: nobody gets what is gone.
    """
    accounts = _accounts(session, ib_ids)
    in_hold = _in_hold_days(session, until, ib_ids)
    rates = fx.known(session)
    debts = _debts(session, rates, ib_ids)
    minimums = _minimums(session, rates, ib_ids)
    found = []
    for row in accounts:
        debt = debts.get(row.ib_id, Decimal(0))
        owes = None if debt is None else _converted(rates, debt, row.own, row.currency)
        # Nothing is added to a currency of before: what is below the minimum would stay there for ever.
        minimum = minimums.get((row.ib_id, row.currency), Decimal(0)) if row.currency == row.own else Decimal(0)
        balance, held, zero = row.balance or 0, row.held or 0, Money.zero(row.currency)
        if not balance and owes == 0:
            continue
        one = Payable(
            ib_id=row.ib_id,
            client_id=row.client_id,
            name=f"{row.first_name} {row.last_name}".strip(),
            balance=Money(balance, row.currency),
            held=Money(held, row.currency),
            in_hold=Money(max(0, min(in_hold.get((row.ib_id, row.currency), 0), balance - held)), row.currency),
            owes=zero if owes is None else _round_up(owes, row.currency),
            minimum=zero if minimum is None else _round_up(minimum, row.currency),
            is_priced=owes is not None and minimum is not None,
        )
        found.append(one)
        if debt and one.is_priced:
            left = _converted(rates, one.uncovered.decimal, row.currency, row.own)
            debts[row.ib_id] = None if left is None else min(debt, left)
    return found


def payable(session: Session, ib_id: int, until: datetime) -> Payable:
    """What one IB can be paid in its own currency; all zero for one that has earned nothing yet."""
    ib = session.get_one(IntroducingBroker, ib_id)
    for one in payables(session, until, [ib_id]):
        if one.currency == ib.currency:
            return one
    zero = Money.zero(ib.currency)
    return Payable(ib_id, ib.client_id, ib.client.full_name, zero, zero, zero, zero, zero)


def _accounts(session: Session, ib_ids: Sequence[int] | None) -> Sequence[Any]:
    """Each IB's commission accounts, and a row without one for an IB that may only owe something."""
    ib = IntroducingBroker
    mine = Account.code.like(func.concat("ib:", ib.id, ":commission:%"))
    query = (
        select(
            ib.id.label("ib_id"),
            ib.client_id,
            Client.first_name,
            Client.last_name,
            ib.currency.label("own"),
            func.coalesce(Account.currency, ib.currency).label("currency"),
            Account.balance,
            Account.held,
        )
        .join(Client, Client.id == ib.client_id)
        .outerjoin(Account, (Account.client_id == ib.client_id) & mine)
        .order_by(ib.id, Account.currency != ib.currency, Account.currency)
    )
    if ib_ids is not None:
        query = query.where(ib.id.in_(ib_ids))
    return session.execute(query).all()


def _in_hold_days(session: Session, until: datetime, ib_ids: Sequence[int] | None) -> dict[tuple[int, str], int]:
    """What was settled so late that its hold days are not over at `until`; the longest of its plans' counts."""
    longest = session.scalar(select(func.max(Plan.hold_days))) or 0
    hold_days = (
        select(func.coalesce(func.max(Plan.hold_days), 0))
        .select_from(AccrualSum)
        .join(PlanVersion, PlanVersion.id == AccrualSum.plan_version_id)
        .join(Plan, Plan.id == PlanVersion.plan_id)
        .where(AccrualSum.settlement_id == Settlement.id)
        .scalar_subquery()
    )
    query = (
        select(Settlement.ib_id, Settlement.paid_currency, func.sum(Settlement.amount_minor))
        .where(
            Settlement.ib_id.is_not(None),
            Settlement.settled_at >= until - timedelta(days=longest),
            # In hours: days of the database's own time zone are not all equally long.
            Settlement.settled_at + func.make_interval(0, 0, 0, 0, hold_days * 24) >= until,
        )
        .group_by(Settlement.ib_id, Settlement.paid_currency)
    )
    if ib_ids is not None:
        query = query.where(Settlement.ib_id.in_(ib_ids))
    return {(row[0] or 0, row[1]): int(row[2]) for row in session.execute(query)}


def _debts(session: Session, rates: KnownRates, ib_ids: Sequence[int] | None) -> dict[int, Decimal | None]:
    """What each IB owes, in its own currency; None where it cannot be told for want of a rate. IBs that owe nothing: none."""
    waiting = (
        select(AccrualSum.ib_id, IntroducingBroker.currency, AccrualSum.currency, func.sum(AccrualSum.amount))
        .join(IntroducingBroker, IntroducingBroker.id == AccrualSum.ib_id)
        .where(AccrualSum.settlement_id.is_(None))
        .group_by(AccrualSum.ib_id, IntroducingBroker.currency, AccrualSum.currency)
    )
    newest = select(func.max(Settlement.id)).where(Settlement.ib_id.is_not(None)).group_by(Settlement.ib_id)
    carried = (
        select(Settlement.ib_id, IntroducingBroker.currency, Settlement.paid_currency, Settlement.carried_out)
        .join(IntroducingBroker, IntroducingBroker.id == Settlement.ib_id)
        .where(Settlement.id.in_(newest))
    )
    if ib_ids is not None:
        waiting, carried = waiting.where(AccrualSum.ib_id.in_(ib_ids)), carried.where(Settlement.ib_id.in_(ib_ids))
    sums: dict[int, Decimal] = defaultdict(Decimal)
    unpriced: set[int] = set()
    for ib_id, own, currency, amount in [*session.execute(waiting), *session.execute(carried)]:
        converted = _converted(rates, amount, currency, own)
        if converted is not None:
            sums[ib_id or 0] = EXACT.add(sums[ib_id or 0], converted)
        elif amount < 0:
            unpriced.add(ib_id or 0)
    owed: dict[int, Decimal | None] = {ib_id: -total for ib_id, total in sums.items() if total < 0}
    return {**owed, **dict.fromkeys(unpriced)}


def _minimums(session: Session, rates: KnownRates, ib_ids: Sequence[int] | None) -> dict[tuple[int, str], Decimal | None]:
    """The least that is paid: the highest minimum of the plans that the newest settlement was made by, in its currency."""
    newest = select(func.max(Settlement.id)).where(Settlement.ib_id.is_not(None))
    if ib_ids is not None:
        newest = newest.where(Settlement.ib_id.in_(ib_ids))
    newest = newest.group_by(Settlement.ib_id, Settlement.paid_currency)
    query = (
        select(Settlement.ib_id, Settlement.paid_currency, Plan.currency, Plan.min_payout_minor)
        .join(AccrualSum, AccrualSum.settlement_id == Settlement.id)
        .join(PlanVersion, PlanVersion.id == AccrualSum.plan_version_id)
        .join(Plan, Plan.id == PlanVersion.plan_id)
        .where(Settlement.id.in_(newest), Plan.min_payout_minor > 0)
        .distinct()
    )
    highest: dict[tuple[int, str], Decimal | None] = {}
    for ib_id, paid, currency, minimum_minor in session.execute(query):
        key, rate = (ib_id or 0, paid), rates.find(currency, paid)
        known = highest.get(key, Decimal(0))
        if rate is None or known is None:
            highest[key] = None
        else:
            highest[key] = max(known, EXACT.multiply(Money(minimum_minor, currency).decimal, rate.rate))
    return highest


def _converted(rates: KnownRates, value: Decimal, currency: str, into: str) -> Decimal | None:
    """To ten places, as settlements convert. None where the rate is missing; of nothing it does not matter."""
    if not value:
        return value
    rate = rates.find(currency, into)
    return cut(EXACT.multiply(value, rate.rate)) if rate else None


def _at_least_zero(money: Money) -> Money:
    return money if money.amount_minor > 0 else Money.zero(money.currency)


def _round_up(value: Decimal, currency: str) -> Money:
    whole = Money.round_down(value, currency)
    return whole if whole.decimal == value else whole + Money(1, currency)
