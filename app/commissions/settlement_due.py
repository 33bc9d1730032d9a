"""What is due to IBs and clients, before it is settled: read from the sums that units leave, by beneficiary and currency."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.commissions.deals import EXACT
from app.commissions.engine import cut
from app.core.arrays import any_of
from app.core.money import Money
from app.ledger.errors import NoRate
from app.ledger.known_rates import FoundRate, KnownRates
from app.models.commissions import AccrualSum, AccrualUnit, Plan, PlanVersion, Settlement
from app.models.partners import IntroducingBroker

#: Whom the sums belong to: an IB, or the client who traded.
Whose = Literal["ib", "client"]


@dataclass(frozen=True)
class Run:
    """One run of settlement: which plans' sums it takes, how old, whose, and by which rates.

    Once per period, beneficiary and currency.
    """

    every: str
    until: datetime
    period: str
    at: datetime
    whose: Whose
    rates: KnownRates

    @property
    def column(self) -> InstrumentedAttribute[Any]:
        return AccrualSum.ib_id if self.whose == "ib" else AccrualSum.client_id

    @property
    def own(self) -> InstrumentedAttribute[Any]:
        return Settlement.ib_id if self.whose == "ib" else Settlement.client_id


@dataclass
class Due:
    """What one beneficiary is owed in one currency, on its way to a settlement. `rate`: None where there is none."""

    whose_id: int
    client_id: int
    currency: str
    paid_currency: str
    rate: FoundRate | None
    accrued: Decimal
    carried_in: Decimal = Decimal(0)
    amount_minor: int = 0
    id: int = 0
    txn_id: UUID | None = None

    @property
    def converted(self) -> Decimal:
        return cut(EXACT.multiply(self.accrued, self.rate.rate) if self.rate else self.accrued)

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.paid_currency)

    @property
    def carried_out(self) -> Decimal:
        return EXACT.subtract(EXACT.add(self.converted, self.carried_in), self.amount.decimal)

    def round(self, carried_in: Decimal) -> None:
        """Take what was carried, and find the whole minor units of both; nothing while the sum is negative."""
        self.carried_in = carried_in
        whole = Money.round_down(EXACT.add(self.converted, carried_in), self.paid_currency)
        self.amount_minor = max(whole.amount_minor, 0)


def find_due(session: Session, run: Run) -> list[Due]:
    """What a run finds, in order of beneficiary: an IB is paid in its own currency, a client in that of the rebate."""
    sums = sums_due(session, run)
    owners = _owners(session, run, [whose_id for whose_id, _ in sums])
    due = []
    for (whose_id, currency), amount in sums.items():
        client_id, paid_currency = owners.get(whose_id, (whose_id, currency))
        due.append(Due(whose_id, client_id, currency, paid_currency, run.rates.find(currency, paid_currency), amount))
    return due


def _owners(session: Session, run: Run, ids: Collection[int]) -> dict[int, tuple[int, str]]:
    """The client each IB is, and its currency of pay; clients are themselves, and paid in the currency of the rebate."""
    if run.whose == "client":
        return {}
    brokers = select(IntroducingBroker.id, IntroducingBroker.client_id, IntroducingBroker.currency)
    found = session.execute(brokers.where(IntroducingBroker.id == any_of(list(ids))))
    return {row.id: (row.client_id, row.currency) for row in found}


def sums_due(session: Session, run: Run, of: Sequence[Due] | None = None) -> dict[tuple[int, str], Decimal]:
    """What is not settled yet, by beneficiary and currency, in their order; of these beneficiaries, or of all."""
    query = (
        select(run.column, AccrualSum.currency, func.sum(AccrualSum.amount))
        .where(run.column.is_not(None) if of is None else run.column == any_of([one.whose_id for one in of]), *unsettled(run))
        .group_by(run.column, AccrualSum.currency)
        .order_by(run.column, AccrualSum.currency)
    )
    return {(row[0] or 0, row[1]): row[2] for row in session.execute(query)}


def unsettled(run: Run) -> tuple[ColumnElement[bool], ...]:
    """Which sums a run takes."""
    versions = select(PlanVersion.id).join(Plan).where(Plan.settle_every == run.every)
    units = select(AccrualUnit.id).where(AccrualUnit.created_at < run.until)
    return (
        AccrualSum.settlement_id.is_(None),
        AccrualSum.plan_version_id.in_(versions),
        AccrualSum.unit_id.in_(units),
    )


def name_currency(session: Session, run: Run, waiting: Sequence[Due]) -> None:
    """What each is paid in, now that it cannot change any more: an IB in its own currency. Raises NoRate."""
    owners = _owners(session, run, [one.whose_id for one in waiting])
    for one in waiting:
        one.paid_currency = owners[one.whose_id][1] if one.whose_id in owners else one.currency
        one.rate = run.rates.find(one.currency, one.paid_currency)
        if one.rate is None:
            raise NoRate(base=one.currency, quote=one.paid_currency)
