"""From accruals to the ledger: one transaction per beneficiary, currency and period, rounded down, the remainder carried.

An IB gets what it accrued in its own currency, by the one rate of the run, on its commission account; a client gets rebates
on the wallet. Rounding happens here, once. What is cut off goes into the next settlement, so that over all settlements
everybody gets the exact sum, never more, and less by under one minor unit. A negative sum waits until new accruals outweigh it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.commissions.deals import EXACT
from app.commissions.engine import cut
from app.commissions.errors import SettlementIncomplete
from app.commissions.settlement_due import Due, Run, find_due, name_currency, sums_due, unsettled
from app.core.actor import Actor
from app.core.arrays import any_of
from app.core.errors import AppError
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting
from app.ledger import rates as fx
from app.ledger.errors import NoRate
from app.models.clients import Client
from app.models.commissions import AccrualSum, Settlement
from app.models.partners import IntroducingBroker

log = logging.getLogger("lotwise.commissions")

IB_KIND, REBATE_KIND = "commission_settlement", "rebate_settlement"

#: How long a plan gathers accruals before they are settled; "minutes": as often as the job runs.
EVERY = ("minutes", "hour", "day", "week", "month")

#: Settled in one transaction; when one of them fails, each gets its own.
CHUNK = 200

_ACTOR = Actor.system("commission_settlement")


@dataclass(frozen=True)
class Settled:
    """One settlement as posted: `converted` + `carried_in` = `amount` + `carried_out`, exactly.

    `ledger_txn_id` is None only when accruals reversed in the same moment left nothing to post.
    """

    id: int
    ib_id: int | None
    client_id: int | None
    period: str
    accrued: Decimal
    converted: Decimal
    carried_in: Decimal
    amount: Money
    carried_out: Decimal
    ledger_txn_id: UUID | None


def settle_all(session: Session, at: datetime) -> list[Settled]:
    """Settle what is due at `at`, for every IB and client; call it outside a unit of work. Emits commission.settled.

    Many in one transaction, and each alone when that fails: one that fails does not stop the others. At the end
    SettlementIncomplete names those that failed, such as for want of a rate. Run again, it settles only what was not settled.
    """
    settled: list[Settled] = []
    failed: list[tuple[int, str, str]] = []
    rates = fx.known(session, at)
    session.rollback()
    for every in EVERY:
        until = boundary(every, at)
        for whose in ("ib", "client"):
            run = Run(every, until, f"{every}:{until:%Y-%m-%dT%H:%M:%S}", at, whose, rates)
            due = find_due(session, run)
            session.rollback()
            failed += [(one.whose_id, one.currency, NoRate.code) for one in due if one.rate is None]
            payable = [one for one in due if one.rate is not None]
            for start in range(0, len(payable), CHUNK):
                part = payable[start : start + CHUNK]
                try:
                    settled += _settle(session, run, part)
                except (AppError, SQLAlchemyError) as error:
                    log.warning("settlement of many failed error=%s", type(error).__name__)
                    settled += _one_by_one(session, run, part, failed)
    if failed:
        raise SettlementIncomplete(failed=failed)
    return settled


def boundary(every: str, at: datetime) -> datetime:
    """The moment before which accruals are settled at `at`: when the last whole hour, day, week or month (UTC) ended."""
    at = at.astimezone(UTC)
    if every == "minutes":
        return at
    hour = at.replace(minute=0, second=0, microsecond=0)
    if every == "hour":
        return hour
    day = hour.replace(hour=0)
    if every == "day":
        return day
    return day - timedelta(days=day.weekday()) if every == "week" else day.replace(day=1)


def _one_by_one(session: Session, run: Run, part: Sequence[Due], failed: list[tuple[int, str, str]]) -> list[Settled]:
    settled: list[Settled] = []
    for one in part:
        try:
            settled += _settle(session, run, [one])
        except (AppError, SQLAlchemyError) as error:
            log.exception("settlement failed %s=%s currency=%s period=%s", run.whose, one.whose_id, one.currency, run.period)
            failed.append((one.whose_id, one.currency, getattr(error, "code", None) or type(error).__name__))
    return settled


def _settle(session: Session, run: Run, waiting: Sequence[Due]) -> list[Settled]:
    """Settle these in one transaction; those already settled for the period, and those that are owed nothing, are left out."""
    with unit_of_work(session, _ACTOR) as unit:
        _lock(session, run, waiting)
        name_currency(session, run, waiting)
        before, carried = _settled_before(session, run, waiting), _carried(session, run, waiting)
        now_due = sums_due(session, run, waiting)
        for one in waiting:
            # After a failed attempt nothing of it is left, here neither.
            one.id, one.txn_id = 0, None
            one.accrued = now_due.get((one.whose_id, one.currency), Decimal(0))
        due = _rounded((one for one in waiting if (one.whose_id, one.currency) not in before), carried)
        due = [one for one in due if one.amount_minor]
        if not due:
            return []
        _insert(session, run, due)
        taken = _take(session, run, due)
        for one in due:
            one.accrued = taken.get(one.id, Decimal(0))
        due = _rounded(due, carried)
        _post(session, run, [one for one in due if one.amount_minor])
        _complete(session, due)
        unit.emit_many(
            "commission.settled" if run.whose == "ib" else "rebate.settled",
            (
                (
                    one.id,
                    one.client_id,
                    {
                        **({"ib_id": one.whose_id} if run.whose == "ib" else {}),
                        "amount_minor": one.amount_minor,
                        "currency": one.paid_currency,
                        "period": run.period,
                    },
                )
                for one in due
            ),
        )
        return [_settled(run, one) for one in due]


def _lock(session: Session, run: Run, waiting: Sequence[Due]) -> None:
    """Two runs for the same beneficiary follow one another; accruals written meanwhile are not held up by this lock."""
    table = IntroducingBroker if run.whose == "ib" else Client
    ids = [one.whose_id for one in waiting]
    session.execute(select(table.id).where(table.id == any_of(ids)).order_by(table.id).with_for_update(key_share=True)).all()


def _settled_before(session: Session, run: Run, waiting: Sequence[Due]) -> set[tuple[int, str]]:
    """Beneficiary and currency of what was settled for this period already."""
    ids = [one.whose_id for one in waiting]
    query = select(run.own, Settlement.currency).where(run.own == any_of(ids), Settlement.period == run.period)
    return {(row[0] or 0, row[1]) for row in session.execute(query)}


def _carried(session: Session, run: Run, waiting: Sequence[Due]) -> dict[tuple[int, str], Decimal]:
    """What the last settlement of each left, by currency of pay. An IB has one, and takes it along into the next, converted."""
    into = {one.whose_id: one.paid_currency for one in waiting}
    keys = (run.own,) if run.whose == "ib" else (run.own, Settlement.paid_currency)
    newest = select(func.max(Settlement.id)).where(run.own == any_of(list(into))).group_by(*keys)
    query = select(run.own, Settlement.paid_currency, Settlement.carried_out).where(Settlement.id.in_(newest))
    carried = {}
    for whose_id, before, left in session.execute(query.where(Settlement.carried_out != 0)):
        paid = into[whose_id] if run.whose == "ib" else before
        rate = run.rates.find(before, paid)
        if rate is None:
            raise NoRate(base=before, quote=paid)
        carried[whose_id, paid] = cut(EXACT.multiply(left, rate.rate))
    return carried


def _rounded(waiting: Iterable[Due], carried: Mapping[tuple[int, str], Decimal]) -> list[Due]:
    """Round each; of several of one beneficiary, each takes what the one before carries on."""
    left, rounded = dict(carried), []
    for one in waiting:
        key = (one.whose_id, one.paid_currency)
        one.round(left.get(key, Decimal(0)))
        if one.amount_minor or one.id:
            left[key] = one.carried_out
        rounded.append(one)
    return rounded


def _insert(session: Session, run: Run, due: Sequence[Due]) -> None:
    """The rows that sums can point at; what they amount to is known when the sums are taken."""
    ids = session.scalars(
        text("SELECT nextval(pg_get_serial_sequence('settlement', 'id')) FROM generate_series(1, :n)"), {"n": len(due)}
    ).all()
    rows = []
    for one, id_ in zip(due, ids, strict=True):
        one.id = id_
        rows.append(
            {
                "id": id_,
                run.own.key: one.whose_id,
                "currency": one.currency,
                "accrued": 0,
                "paid_currency": one.paid_currency,
                "fx_rate": one.rate.rate if one.rate and one.currency != one.paid_currency else None,
                "fx_source": one.rate.source if one.rate and one.currency != one.paid_currency else None,
                "fx_observed_at": one.rate.observed_at if one.rate else None,
                "converted": 0,
                "carried_in": one.carried_in,
                "amount_minor": 0,
                "carried_out": one.carried_in,
                "period": run.period,
            }
        )
    session.execute(Settlement.__table__.insert(), rows)


def _take(session: Session, run: Run, due: Sequence[Due]) -> dict[int, Decimal]:
    """Mark the sums as taken and add up exactly those, in one statement: others may arrive meanwhile."""
    taken = (
        update(AccrualSum)
        .where(
            Settlement.id == any_of([one.id for one in due]),
            run.column == run.own,
            AccrualSum.currency == Settlement.currency,
            *unsettled(run),
        )
        .values(settlement_id=Settlement.id)
        .returning(AccrualSum.settlement_id, AccrualSum.amount)
        .execution_options(synchronize_session=False)
        .cte("taken")
    )
    query = select(taken.c.settlement_id, func.sum(taken.c.amount)).group_by(taken.c.settlement_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _post(session: Session, run: Run, due: Sequence[Due]) -> None:
    """Debit the house's commission expense; credit what we owe the IB, or the client's wallet."""
    postings, accounts = [], []
    for one in due:
        expense = chart.commission_expense(one.paid_currency)
        if run.whose == "ib":
            owed = chart.ib_commission(one.whose_id, one.paid_currency, client_id=one.client_id)
        else:
            owed = chart.client_wallet(one.client_id, one.paid_currency)
        accounts += [expense, owed]
        postings.append(
            posting.Posting(
                key=f"{'commission' if run.whose == 'ib' else 'rebate'}-settlement:{one.whose_id}:{one.currency}:{run.period}",
                kind=IB_KIND if run.whose == "ib" else REBATE_KIND,
                effective_at=run.at,
                actor=_ACTOR,
                legs=[posting.debit(expense, one.amount), posting.credit(owed, one.amount)],
                metadata={"settlement_id": one.id, run.own.key: one.whose_id, "period": run.period},
            )
        )
    chart.open_accounts(session, *accounts)
    for one, txn_id in zip(due, posting.post_many(session, postings), strict=True):
        one.txn_id = txn_id


def _complete(session: Session, due: Iterable[Due]) -> None:
    rows = [
        {
            "id": one.id,
            "accrued": one.accrued,
            "converted": one.converted,
            "amount_minor": one.amount_minor,
            "carried_in": one.carried_in,
            "carried_out": one.carried_out,
            "ledger_txn_id": one.txn_id,
        }
        for one in due
    ]
    session.execute(update(Settlement), rows)


def _settled(run: Run, one: Due) -> Settled:
    return Settled(
        id=one.id,
        ib_id=one.whose_id if run.whose == "ib" else None,
        client_id=None if run.whose == "ib" else one.whose_id,
        period=run.period,
        accrued=one.accrued,
        converted=one.converted,
        carried_in=one.carried_in,
        amount=one.amount,
        carried_out=one.carried_out,
        ledger_txn_id=one.txn_id,
    )
