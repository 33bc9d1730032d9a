"""Truing up: a period of a plan with tiers or caps is judged anew in the order of its deals; the differences are written.

While deals arrive they are paid by where the plan stands at that moment. Late deals, reversals and whole tiers that reach
another band change that for deals already paid. A true-up adds lines of kind adjust:true-up, so that in the end it does not
matter in which order things came. Deals that were never paid are left alone: what was judged stays judged.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, insert, or_, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.commissions.accrual import tell
from app.commissions.engine import Accrued, Outcome
from app.commissions.measures import Measures
from app.commissions.overrides import given_clients
from app.commissions.recompute import Key, ever_brought
from app.commissions.snapshots import PlanBook
from app.commissions.standings import PREVIOUS, cases_of, counters
from app.commissions.stored_deals import StoredDeal, load_deals
from app.commissions.tally import Case, Counter, Home, looked_at, recount
from app.commissions.tiers import PERIODS, end_of, moment, start_of
from app.commissions.units import SHARDS, Line, Sum, lock_shard, shard_of, write_unit
from app.core.actor import Actor
from app.core.arrays import any_of
from app.core.errors import AppError
from app.core.uow import unit_of_work
from app.models.commissions import Accrual, PlanVersion
from app.models.metatrader import Deal, TradingAccount
from app.models.plan_tiers import PlanCounter, PlanPeriod

log = logging.getLogger("lotwise.commissions")

_ACTOR = Actor.system("commission_true_up")


#: Amount and lots of all lines of a key.
_Stored = dict[Key, tuple[Decimal, Decimal]]


def true_up_all(session: Session, at: datetime) -> int:
    """True up the periods that need it, and once each that ended by `at`; returns how many lines that took.

    Each in a transaction of its own: one that fails stays marked and stops no other. Call it outside a unit of work.
    """
    due = or_(PlanPeriod.dirty_at.is_not(None), (PlanPeriod.closed_at.is_(None)) & (PlanPeriod.ends_on <= at.date()))
    ids = session.scalars(select(PlanPeriod.id).where(due).order_by(PlanPeriod.starts_on, PlanPeriod.id)).all()
    session.rollback()
    written = 0
    for period_id in ids:
        try:
            written += true_up(session, period_id, at)
        except (AppError, SQLAlchemyError):
            log.exception("period of a plan was not trued up period=%s", period_id)
    return written


def true_up(session: Session, period_id: int, at: datetime) -> int:
    """Judge one period anew as it stands at `at`, and write what differs; returns how many lines that took.

    Accrual of the servers concerned waits until this is done.
    """
    with unit_of_work(session, _ACTOR) as unit:
        period = session.get_one(PlanPeriod, period_id)
        # Those whom a replay gave to somebody may be of this branch too; whose they were tells the book of each deal.
        clients = {*ever_brought(session, period.owner_id), *given_clients(session)}
        of_branch = TradingAccount.client_id == any_of(clients)
        for server_id in sorted(
            session.scalars(select(TradingAccount.server_id).where(of_branch).group_by(TradingAccount.server_id))
        ):
            for shard in range(SHARDS):
                lock_shard(session, server_id, shard)
        session.refresh(period, with_for_update=True)
        why = period.dirty_why
        home = Home(period.plan_id, period.owner_id, period.span, period.starts_on)
        home, cases, deals, stored = _window(session, home, clients, select(TradingAccount.id).where(of_branch))
        looked: set[Counter] = set().union(*(looked_at(case) for case in cases))
        before = counters(session, [counter for counter in looked if counter.starts_on < home.starts_on and not counter.ib_id])
        outcomes, tally = recount(cases, Measures(session).known, before)
        lines = differences(f"adjust:true-up:{home.starts_on}:{period.id}.{period.true_ups + 1}", cases, outcomes, stored)
        tell(unit, _write(session, lines, {deal.id: deal for deal in deals}))
        _replace_counters(session, home, tally.counts)
        _clean(session, home, at)
        if lines:
            period.true_ups += 1
        if why != PREVIOUS and any(_looks_back(case) for case in cases):
            _mark_next(session, home)
        return len(lines)


def differences(kind: str, cases: Sequence[Case], outcomes: Mapping[int, Outcome], stored: _Stored) -> list[Line]:
    """The lines that make what is stored what it should be, of rules that count, and of all that a margin guard cuts with them.

    Only what was paid is corrected: who gets another level or rule since, by a move into the past or changed facts, is found
    by a replay. Pure.
    """
    lines = []
    for case in sorted(cases, key=lambda case: case.place):
        plan = case.plan
        moving = {rule.key for rule in plan.rules if rule.is_counted or plan.margin_guard == "cap"} if plan else set()
        for made in outcomes[case.deal.deal_id].accruals:
            key = _key(case.deal.deal_id, made)
            if made.rule not in moving or key not in stored:
                continue
            amount, lots = stored[key]
            if made.amount != amount or made.lots != lots:
                lines.append(Line(case.deal.deal_id, kind, replace(made, amount=made.amount - amount, lots=made.lots - lots)))
    return lines


def _window(
    session: Session, home: Home, clients: Collection[int], accounts: Any
) -> tuple[Home, list[Case], list[StoredDeal], _Stored]:
    """The deals that were paid in a period; in a longer one, where a version of the plan counts in that."""
    book = PlanBook(session, clients)
    while True:
        since, until = moment(home.starts_on), moment(end_of(home.span, home.starts_on))
        deals = load_deals(session, Deal.trading_account_id.in_(accounts), Deal.done_at >= since, Deal.done_at < until)
        alive = [deal for deal in deals if not deal.is_dead]
        stored = _stored(session, home.plan_id, [deal.id for deal in alive])
        paid = {key.deal_id for key in stored}
        cases = [
            case
            for case in cases_of(session, [deal for deal in alive if deal.id in paid], book)
            if case.home and case.home[:2] == home[:2] and _same_calendar(case.home.span, home.span)
        ]
        longest = max((case.home.span for case in cases if case.home), key=PERIODS.index, default=home.span)
        if PERIODS.index(longest) <= PERIODS.index(home.span):
            return home, cases, alive, stored
        home = home._replace(span=longest, starts_on=start_of(longest, home.starts_on))


def _same_calendar(one: str, other: str) -> bool:
    """Whether one period lies within the other: weeks do not within months."""
    return one == other or "day" in (one, other) or "week" not in (one, other)


def _stored(session: Session, plan_id: int, deal_ids: Sequence[int]) -> _Stored:
    versions = select(PlanVersion.id).where(PlanVersion.plan_id == plan_id)
    rows = session.execute(
        select(*(getattr(Accrual, name) for name in Key._fields), Accrual.amount, Accrual.lots).where(
            Accrual.deal_id == any_of(deal_ids), Accrual.plan_version_id.in_(versions)
        )
    )
    found: _Stored = defaultdict(lambda: (Decimal(0), Decimal(0)))
    for row in rows:
        key = Key(*row[:-2])
        amount, lots = found[key]
        found[key] = (amount + row.amount, lots + row.lots)
    return dict(found)


def _key(deal_id: int, made: Accrued) -> Key:
    return Key(deal_id, made.plan_version_id, made.rule, made.level, made.ib_id, made.client_id, made.currency)


def _write(session: Session, lines: Iterable[Line], deals: Mapping[int, StoredDeal]) -> list[Sum]:
    parts: dict[tuple[int, int], list[Line]] = defaultdict(list)
    for line in lines:
        assert line.deal_id is not None
        deal = deals[line.deal_id]
        parts[deal.server_id, shard_of(deal.ticket)].append(line)
    return [one for (server_id, shard), part in sorted(parts.items()) for one in write_unit(session, server_id, shard, part)]


def _replace_counters(session: Session, home: Home, counts: Mapping[Counter, Decimal]) -> None:
    periods = [period for period in PERIODS[: PERIODS.index(home.span) + 1] if _same_calendar(period, home.span)]
    ends_on = end_of(home.span, home.starts_on)
    session.execute(
        delete(PlanCounter).where(
            PlanCounter.plan_id == home.plan_id,
            PlanCounter.owner_id == home.owner_id,
            PlanCounter.period.in_(periods),
            PlanCounter.starts_on >= home.starts_on,
            PlanCounter.starts_on < ends_on,
        )
    )
    rows = [
        {**counter._asdict(), "quantity": quantity}
        for counter, quantity in sorted(counts.items())
        if quantity and counter.starts_on >= home.starts_on
    ]
    if rows:
        session.execute(insert(PlanCounter), rows)


def _clean(session: Session, home: Home, at: datetime) -> None:
    """All periods within the one that was trued up are in order, and closed where they have ended."""
    ends_on = end_of(home.span, home.starts_on)
    within = (
        PlanPeriod.plan_id == home.plan_id,
        PlanPeriod.owner_id == home.owner_id,
        PlanPeriod.starts_on >= home.starts_on,
        PlanPeriod.ends_on <= ends_on,
    )
    session.execute(update(PlanPeriod).where(*within).values(dirty_at=None, dirty_why=""))
    session.execute(update(PlanPeriod).where(*within, PlanPeriod.ends_on <= at.date()).values(closed_at=at))


def _looks_back(case: Case) -> bool:
    """Whether the next period depends on the volume of this one."""
    rules = case.plan.rules if case.plan else ()
    return any(rule.tiers and rule.tiers.measure == "lots" and rule.tiers.basis == "previous" for rule in rules)


def _mark_next(session: Session, home: Home) -> None:
    following = (
        select(PlanPeriod.id)
        .where(
            PlanPeriod.plan_id == home.plan_id,
            PlanPeriod.owner_id == home.owner_id,
            PlanPeriod.starts_on >= end_of(home.span, home.starts_on),
        )
        .order_by(PlanPeriod.starts_on)
        .limit(1)
    )
    session.execute(
        update(PlanPeriod)
        .where(PlanPeriod.id.in_(following), PlanPeriod.dirty_at.is_(None))
        .values(dirty_at=text("now()"), dirty_why=PREVIOUS)
    )
