"""From booked deals to accruals: each deal judged once, each number kept with what explains it.

A deal is judged when it is booked. A later revision, or a deletion at the server, adds the reverse of what the revision
before it accrued; nothing is ever changed or removed. Deliveries may repeat and arrive in any order.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Row, any_, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.commissions.engine import WAITING, Accrued, Outcome, Reason, compute
from app.commissions.snapshots import DayRates, PlanBook, StoredDeal, load_deals, opened_at
from app.core.actor import Actor
from app.core.uow import UnitOfWork, unit_of_work
from app.models.commissions import Accrual, DealOutcome
from app.models.metatrader import Deal
from app.models.partners import IntroducingBroker

log = logging.getLogger("lotwise.commissions")

ACCRUE, REVERSE = "accrue", "reverse"

#: Deals of one statement, so that its parameters stay far from PostgreSQL's 65,535.
BATCH = 1000

#: The advisory locks of accrual: this class, and the server's id.
_LOCK_CLASS = 7_201_02

_NATURAL_KEY = ("deal_id", "plan_version_id", "rule", "level", "ib_id", "kind")

#: What explains an amount that is not just lots x rate.
_EXPLAINING = ("base", "base_currency", "fx_rate", "fx_source", "fx_observed_at", "uncapped")

#: Of an accrual just written: the IB, the amount, its currency.
_Written = Row[int, Decimal, str]


def accrue_deals(session: Session, deal_ids: Sequence[int]) -> int:
    """Judge newly booked deals, given by their ids; returns how many accruals were written.

    Harmless to repeat, also at the same time. Emits one commission.accrued per IB that the batch concerns, on the
    timeline of the IB's own client id.
    """
    written: list[_Written] = []
    ids = sorted(set(deal_ids))
    with unit_of_work(session, Actor.system("commissions")) as unit:
        _lock_servers(session, ids)
        for start in range(0, len(ids), BATCH):
            written += _accrue_batch(session, ids[start : start + BATCH])
        _tell(unit, written)
    return len(written)


def accrue_waiting(session: Session, limit: int = BATCH) -> int:
    """Judge again deals that could not be priced, those that waited longest first; returns how many accruals were written.

    Deals of logins that are still nobody's account are left alone: a trading server may hold many of them.
    """
    waiting = session.scalars(
        select(DealOutcome.deal_id)
        .join(Deal, Deal.id == DealOutcome.deal_id)
        .where(DealOutcome.reason.in_(sorted(WAITING)))
        .where((DealOutcome.reason != Reason.NO_ACCOUNT) | Deal.trading_account_id.is_not(None))
        .order_by(DealOutcome.judged_at)
        .limit(limit)
    ).all()
    return accrue_deals(session, waiting) if waiting else 0


def stored(deal_id: int, made: Accrued) -> dict[str, Any]:
    """The row that an accrual becomes."""
    return {
        "deal_id": deal_id,
        "plan_version_id": made.plan_version_id,
        "rule": made.rule,
        "level": made.level,
        "ib_id": made.ib_id,
        "kind": ACCRUE,
        "amount": made.amount,
        "currency": made.currency,
        "lots": made.lots,
        "rate": made.rate,
        "base": made.base,
        "base_currency": made.base_currency,
        "fx_rate": made.fx.rate if made.fx else None,
        "fx_source": made.fx.source if made.fx else None,
        "fx_observed_at": made.fx.observed_at if made.fx else None,
        "uncapped": made.uncapped,
    }


def _lock_servers(session: Session, deal_ids: list[int]) -> None:
    """One accrual at a time per server.

    Two revisions of a deal may be judged by two workers at once. The second must see what the first accrued, or it would
    not reverse it; each statement after the lock sees all that was committed before it.
    """
    named = Deal.id == any_(literal(deal_ids, ARRAY(BigInteger)))
    servers = session.scalars(select(Deal.server_id).where(named).distinct()).all()
    for server_id in sorted(servers):
        session.execute(text("SELECT pg_advisory_xact_lock(:class, :server)"), {"class": _LOCK_CLASS, "server": server_id})


def _accrue_batch(session: Session, deal_ids: list[int]) -> list[_Written]:
    deals = load_deals(session, deal_ids)
    found = select(DealOutcome.deal_id, DealOutcome.reason).where(DealOutcome.deal_id.in_([deal.id for deal in deals]))
    judged = {row.deal_id: row.reason for row in session.execute(found)}
    dead = [deal for deal in deals if deal.is_dead]
    # What was judged stays judged: plans and attributions entered later belong to a replay, not to a repeated delivery.
    due = [deal for deal in deals if not deal.is_dead and (deal.id not in judged or judged[deal.id] in WAITING)]
    outcomes = _judge(session, due)
    written = _write_accruals(session, [(deal_id, made) for deal_id, outcome in outcomes.items() for made in outcome.accruals])
    written += _write_reversals(session, [deal.id for deal in dead])
    outcomes.update({deal.id: compute(deal.facts, None, ()) for deal in dead})
    _write_outcomes(session, outcomes)
    return written


def _judge(session: Session, deals: list[StoredDeal]) -> dict[int, Outcome]:
    """What each deal accrues, by deal id, under the attribution and plan that held when it was done."""
    book = PlanBook(session, {deal.client_id for deal in deals if deal.client_id is not None})
    uplines = {deal.id: book.upline(deal.client_id, deal.facts.done_at) for deal in deals}
    plans = {deal.id: book.plan(uplines[deal.id], deal.facts.done_at) for deal in deals}
    rates = DayRates(session)
    timed = [deal for deal in deals if (plan := plans[deal.id]) is not None and plan.needs_opening]
    openings = opened_at(session, timed)
    return {
        deal.id: compute(
            replace(deal.facts, opened_at=openings.get(deal.id)),
            plans[deal.id],
            uplines[deal.id],
            rates.of(deal.facts, plans[deal.id]),
        )
        for deal in deals
    }


def _write_accruals(session: Session, accruals: list[tuple[int, Accrued]]) -> list[_Written]:
    if not accruals:
        return []
    rows = [stored(deal_id, made) for deal_id, made in accruals]
    statement = insert(Accrual.__table__).on_conflict_do_nothing(index_elements=_NATURAL_KEY)
    columns = Accrual.__table__.c
    return list(session.execute(statement.returning(columns.ib_id, columns.amount, columns.currency), rows).all())


def _write_reversals(session: Session, deal_ids: list[int]) -> list[_Written]:
    """Add the reverse of everything these revisions accrued and that is not reversed yet."""
    if not deal_ids:
        return []
    columns = Accrual.__table__.c
    accrued = select(
        columns.deal_id,
        columns.plan_version_id,
        columns.rule,
        columns.level,
        columns.ib_id,
        literal(REVERSE),
        -columns.amount,
        columns.currency,
        -columns.lots,
        columns.rate,
        -columns.base,
        columns.base_currency,
        columns.fx_rate,
        columns.fx_source,
        columns.fx_observed_at,
        -columns.uncapped,
    ).where(columns.deal_id.in_(deal_ids), columns.kind == ACCRUE)
    names = [*_NATURAL_KEY, "amount", "currency", "lots", "rate", *_EXPLAINING]
    statement = insert(Accrual.__table__).from_select(names, accrued).on_conflict_do_nothing(index_elements=_NATURAL_KEY)
    return list(session.execute(statement.returning(columns.ib_id, columns.amount, columns.currency)).all())


def _write_outcomes(session: Session, outcomes: dict[int, Outcome]) -> None:
    if not outcomes:
        return
    for reason, deals in Counter(outcome.reason for outcome in outcomes.values() if outcome.reason in WAITING).items():
        log.warning("deals cannot be priced yet reason=%s deals=%d", reason, deals)
    rows = [
        {"deal_id": deal_id, "accruals": len(outcome.accruals), "reason": outcome.reason or ""}
        for deal_id, outcome in sorted(outcomes.items())
    ]
    statement = insert(DealOutcome.__table__)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["deal_id"],
            set_={"accruals": statement.excluded.accruals, "reason": statement.excluded.reason, "judged_at": func.now()},
        ),
        rows,
    )


def _tell(unit: UnitOfWork, written: Iterable[_Written]) -> None:
    """One fact per IB: how many accruals the batch added, and their unrounded sum per currency as text."""
    sums: dict[int, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    counts: dict[int, int] = defaultdict(int)
    for ib_id, amount, currency in written:
        sums[ib_id][currency] += amount
        counts[ib_id] += 1
    found = select(IntroducingBroker.id, IntroducingBroker.client_id).where(IntroducingBroker.id.in_(sums))
    clients = {row.id: row.client_id for row in unit.session.execute(found)}
    for ib_id in sorted(sums):
        amounts = {currency: f"{amount:f}" for currency, amount in sorted(sums[ib_id].items())}
        unit.emit("commission.accrued", subject_id=ib_id, client_id=clients[ib_id], accruals=counts[ib_id], amounts=amounts)
