"""From accruals to the ledger: one transaction per IB, currency and period, rounded down, the remainder carried.

Rounding happens here, once. What is cut off goes into the next settlement, so that over all settlements an IB gets the
exact sum of its accruals, never more, and less by under one minor unit. A negative sum waits until new accruals outweigh it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.commissions.errors import SettlementIncomplete
from app.core.actor import Actor
from app.core.errors import AppError, NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting
from app.models.commissions import Accrual, Settlement
from app.models.partners import IntroducingBroker

log = logging.getLogger("lotwise.commissions")

KIND = "commission_settlement"


@dataclass(frozen=True)
class Settled:
    """One settlement as posted: `accrued` + `carried_in` = `amount` + `carried_out`, exactly.

    `ledger_txn_id` is None only when accruals reversed in the same moment left nothing to post.
    """

    id: int
    ib_id: int
    period: str
    accrued: Decimal
    carried_in: Decimal
    amount: Money
    carried_out: Decimal
    ledger_txn_id: UUID | None


def settle(session: Session, *, ib_id: int, currency: str, period: str, at: datetime, actor: Actor) -> Settled | None:
    """Post what an IB has earned in a currency and not been given yet, effective at `at`. Emits commission.settled.

    `period` names the run; a period is settled once. None, with nothing changed, when it was settled before or when what
    is due is less than one minor unit: then the accruals wait for the next period. Raises NotFound for an unknown IB,
    and what the ledger raises.
    """
    with unit_of_work(session, actor) as unit:
        # Two runs for the same IB follow one another; accruals written meanwhile are not held up by this lock.
        client_id = session.scalar(
            select(IntroducingBroker.client_id).where(IntroducingBroker.id == ib_id).with_for_update(key_share=True)
        )
        if client_id is None:
            raise NotFound
        own = (Settlement.ib_id == ib_id, Settlement.currency == currency)
        if session.scalar(select(Settlement.id).where(*own, Settlement.period == period)) is not None:
            return None
        last = select(Settlement.carried_out).where(*own).order_by(Settlement.id.desc()).limit(1)
        carried_in = session.scalar(last) or Decimal(0)
        due = session.scalar(select(func.sum(Accrual.amount)).where(*_unsettled(ib_id, currency))) or Decimal(0)
        if Money.round_down(due + carried_in, currency).amount_minor <= 0:
            return None

        row = Settlement(
            ib_id=ib_id,
            currency=currency,
            period=period,
            accrued=Decimal(0),
            carried_in=carried_in,
            amount_minor=0,
            carried_out=carried_in,
        )
        session.add(row)
        session.flush()
        row.accrued = accrued = _take(session, ib_id, currency, row.id)
        amount = max(Money.round_down(accrued + carried_in, currency), Money.zero(currency))
        row.amount_minor = amount.amount_minor
        row.carried_out = carried_out = accrued + carried_in - amount.decimal
        row.ledger_txn_id = txn_id = _post(session, amount, client_id, row, at, actor) if amount else None
        session.flush()
        unit.emit(
            "commission.settled",
            subject_id=row.id,
            client_id=client_id,
            ib_id=ib_id,
            amount_minor=amount.amount_minor,
            currency=currency,
            period=period,
        )
        return Settled(row.id, ib_id, period, accrued, carried_in, amount, carried_out, txn_id)


def settle_all(session: Session, at: datetime, period: str) -> list[Settled]:
    """Settle every IB and currency with unsettled accruals, each in a transaction of its own; call it outside a unit of work.

    One that fails does not stop the others; at the end SettlementIncomplete names those that failed. Run again with the
    same period it settles only what the first run did not.
    """
    pairs = session.execute(
        select(Accrual.ib_id, Accrual.currency)
        .where(Accrual.settlement_id.is_(None))
        .distinct()
        .order_by(Accrual.ib_id, Accrual.currency)
    ).all()
    settled: list[Settled] = []
    failed: list[tuple[int, str, str]] = []
    for ib_id, currency in pairs:
        try:
            made = settle(
                session, ib_id=ib_id, currency=currency, period=period, at=at, actor=Actor.system("commission_settlement")
            )
        except (AppError, SQLAlchemyError) as error:
            log.exception("settlement failed ib=%s currency=%s period=%s", ib_id, currency, period)
            failed.append((ib_id, currency, getattr(error, "code", None) or type(error).__name__))
            continue
        if made:
            settled.append(made)
    if failed:
        raise SettlementIncomplete(failed=failed)
    return settled


def _unsettled(ib_id: int, currency: str) -> tuple[ColumnElement[bool], ...]:
    return (Accrual.ib_id == ib_id, Accrual.currency == currency, Accrual.settlement_id.is_(None))


def _take(session: Session, ib_id: int, currency: str, settlement_id: int) -> Decimal:
    """Mark all unsettled accruals as settled and sum up exactly those, in one statement: others may arrive meanwhile."""
    taken = (
        update(Accrual)
        .where(*_unsettled(ib_id, currency))
        .values(settlement_id=settlement_id)
        .returning(Accrual.amount)
        .execution_options(synchronize_session=False)
        .cte("taken")
    )
    return session.scalar(select(func.sum(taken.c.amount))) or Decimal(0)


def _post(session: Session, amount: Money, client_id: int, row: Settlement, at: datetime, actor: Actor) -> UUID:
    """Debit the house's commission expense, credit what we owe the IB."""
    expense = chart.commission_expense(amount.currency)
    payable = chart.ib_commission(row.ib_id, amount.currency, client_id=client_id)
    chart.open_accounts(session, expense, payable)
    return posting.post(
        session,
        key=f"commission-settlement:{row.ib_id}:{amount.currency}:{row.period}",
        kind=KIND,
        effective_at=at,
        actor=actor,
        legs=[posting.debit(expense, amount), posting.credit(payable, amount)],
        metadata={"settlement_id": row.id, "ib_id": row.ib_id, "period": row.period},
    )
