"""What an IB earned, in sums: where it stands now, and by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import func, select, true, union_all
from sqlalchemy.orm import Session, aliased

from app.commissions.lines import first_id_since
from app.commissions.payout_figures import MOVED
from app.commissions.settlement import boundary
from app.core.money import Money
from app.ledger import chart
from app.models.commissions import Accrual, AccrualSum, Plan, PlanVersion, Settlement
from app.models.ledger import Account
from app.models.payouts import Payout


@dataclass(frozen=True)
class Total:
    """An IB's sums in one currency: unsettled, the remainder carried, settled in all, the ledger's balance, paid out."""

    currency: str
    unsettled: Decimal
    carried: Decimal
    settled: Money
    ledger_balance: Money
    paid: Money


@dataclass(frozen=True)
class DayFigure:
    """What an IB accrued on one UTC day by currency, and the lots of the deals behind it, each counted once."""

    day: date
    lots: Decimal
    amounts: dict[str, Decimal]


@dataclass(frozen=True)
class Waiting:
    """Unsettled accruals in one currency, and when those plans that accrued them settle next; None: every few minutes."""

    currency: str
    amount: Decimal
    every: str
    settles_at: datetime | None


@dataclass(frozen=True)
class BranchFigure:
    """What an IB accrued from a branch below it in one currency, and the lots of the deals behind it."""

    currency: str
    amount: Decimal
    lots: Decimal


def totals(session: Session, ib_id: int) -> list[Total]:
    """An IB's sums per currency, in order of currency; empty before the first accrual."""
    waiting = session.execute(
        select(AccrualSum.currency, func.sum(AccrualSum.amount).label("amount"))
        .where(AccrualSum.ib_id == ib_id, AccrualSum.settlement_id.is_(None))
        .group_by(AccrualSum.currency)
    )
    unsettled: dict[str, Decimal] = {row.currency: row.amount for row in waiting}
    posted = session.execute(
        select(
            Settlement.paid_currency, func.sum(Settlement.amount_minor).label("minor"), func.max(Settlement.id).label("last")
        )
        .where(Settlement.ib_id == ib_id)
        .group_by(Settlement.paid_currency)
    ).all()
    # One remainder: it goes with the IB from one currency of pay into the next.
    last = select(Settlement.paid_currency, Settlement.carried_out)
    last = last.where(Settlement.id == max((row.last for row in posted), default=None))
    carried: dict[str, Decimal] = {row.paid_currency: row.carried_out for row in session.execute(last)}
    settled = {row.paid_currency: int(row.minor) for row in posted}
    moved = select(Payout.currency, func.sum(Payout.amount_minor)).where(Payout.ib_id == ib_id, Payout.state.in_(MOVED))
    paid = {currency: int(minor) for currency, minor in session.execute(moved.group_by(Payout.currency))}
    return [
        Total(
            currency=currency,
            unsettled=unsettled.get(currency, Decimal(0)),
            carried=carried.get(currency, Decimal(0)),
            settled=Money(settled.get(currency, 0), currency),
            ledger_balance=_ledger_balance(session, ib_id, currency),
            paid=Money(paid.get(currency, 0), currency),
        )
        for currency in sorted({*unsettled, *settled})
    ]


def by_day(session: Session, ib_id: int, since: datetime, until: datetime) -> list[DayFigure]:
    """What an IB accrued on each UTC day that has something, the first day first.

    The lots of a deal count once, however many rules paid for it.
    """
    currencies = _currencies(session, ib_id)
    of_deal = (
        select(
            func.date_trunc("day", Accrual.accrued_at, "UTC").label("day"),
            (func.max(func.abs(Accrual.lots)) * func.min(func.sign(Accrual.lots))).label("lots"),
            *(func.sum(Accrual.amount).filter(Accrual.currency == one).label(f"in_{one}") for one in currencies),
        )
        .where(
            Accrual.ib_id == ib_id,
            Accrual.id >= first_id_since(session, ib_id, since),
            Accrual.accrued_at >= since,
            Accrual.accrued_at < until,
        )
        .group_by("day", Accrual.deal_id, Accrual.kind)
        .subquery()
    )
    sums = [func.coalesce(func.sum(of_deal.c[f"in_{one}"]), 0) for one in currencies]
    query = select(of_deal.c.day, func.sum(of_deal.c.lots), *sums).group_by(of_deal.c.day).order_by(of_deal.c.day)
    return [
        DayFigure(day.date(), lots, dict(zip(currencies, amounts, strict=True)))
        for day, lots, *amounts in session.execute(query)
    ]


def waiting(session: Session, ib_id: int, at: datetime) -> list[Waiting]:
    """What waits for its settlement, by currency and rhythm, the soonest first."""
    query = (
        select(AccrualSum.currency, Plan.settle_every, func.sum(AccrualSum.amount))
        .join(PlanVersion, PlanVersion.id == AccrualSum.plan_version_id)
        .join(Plan, Plan.id == PlanVersion.plan_id)
        .where(AccrualSum.ib_id == ib_id, AccrualSum.settlement_id.is_(None))
        .group_by(AccrualSum.currency, Plan.settle_every)
    )
    found = [Waiting(currency, amount, every, _next(every, at)) for currency, every, amount in session.execute(query)]
    return sorted(found, key=lambda one: (one.settles_at or at, one.currency))


def settlements(session: Session, ib_id: int, limit: int = 10) -> list[Settlement]:
    """An IB's newest settlements that posted something, the newest first."""
    query = select(Settlement).where(Settlement.ib_id == ib_id, Settlement.amount_minor != 0)
    return list(session.scalars(query.order_by(Settlement.id.desc()).limit(limit)))


def from_branches(
    session: Session, ib_id: int, depth: int, branches: Sequence[int], since: datetime
) -> dict[int, list[BranchFigure]]:
    """What an IB accrued since a moment from each of these branches, by branch, as the tree stood when the deals were done, or
    clients were won.

    The heads of the branches stand `depth` steps below the IB: on each deal they have the level that many lower.
    """
    of_deal = (
        select(
            Accrual.deal_id,
            Accrual.occasion_id,
            Accrual.level,
            Accrual.currency,
            func.sum(Accrual.amount).label("amount"),
            func.max(func.abs(Accrual.lots)).label("lots"),
            func.min(func.sign(Accrual.lots)).label("sign"),
        )
        .where(
            Accrual.ib_id == ib_id,
            Accrual.id >= first_id_since(session, ib_id, since),
            Accrual.accrued_at >= since,
            Accrual.level > depth,
        )
        .group_by(Accrual.deal_id, Accrual.occasion_id, Accrual.kind, Accrual.level, Accrual.currency)
        .subquery()
    )
    lower = aliased(Accrual)
    at_head = select(lower.ib_id).where(lower.level == of_deal.c.level - depth)
    of_same = [at_head.where(lower.deal_id == of_deal.c.deal_id), at_head.where(lower.occasion_id == of_deal.c.occasion_id)]
    head = union_all(*of_same).limit(1).lateral("head")
    lots = func.sum(of_deal.c.lots * of_deal.c.sign).label("lots")
    query = select(head.c.ib_id, of_deal.c.currency, func.sum(of_deal.c.amount).label("amount"), lots)
    query = query.select_from(of_deal).join(head, true()).where(head.c.ib_id.in_(branches))
    found: dict[int, list[BranchFigure]] = defaultdict(list)
    for row in session.execute(query.group_by(head.c.ib_id, of_deal.c.currency).order_by(head.c.ib_id, of_deal.c.currency)):
        found[row.ib_id].append(BranchFigure(row.currency, row.amount, row.lots))
    return dict(found)


def _next(every: str, at: datetime) -> datetime | None:
    """When plans of this rhythm settle next: at the end of the hour, day, week or month that runs."""
    if every == "minutes":
        return None
    began = boundary(every, at)
    if every == "month":
        return boundary(every, began + timedelta(days=32))
    return began + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}[every]


def _currencies(session: Session, ib_id: int) -> list[str]:
    """The currencies that an IB ever accrued in."""
    unsettled = select(AccrualSum.currency).where(AccrualSum.ib_id == ib_id, AccrualSum.settlement_id.is_(None))
    settled = select(Settlement.currency).where(Settlement.ib_id == ib_id)
    return sorted(session.scalars(unsettled.union(settled)))


def _ledger_balance(session: Session, ib_id: int, currency: str) -> Money:
    code = chart.ib_commission(ib_id, currency).code
    return Money(session.scalar(select(Account.balance).where(Account.code == code)) or 0, currency)
