"""Where plans with tiers and caps of a period stand: read and moved by whoever judges deals as they arrive.

A period's row is held from the first look until the transaction ends, so that two workers count one after the other. What
the order of arrival made different is noted at the period, and put right by app/commissions/true_up.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.commissions.engine import Accrued, Outcome
from app.commissions.measures import Measures
from app.commissions.snapshots import DayRates, PlanBook
from app.commissions.stored_deals import StoredDeal, credit_percent_at, opened_at
from app.commissions.tally import Case, Counter, Home, Place, Tally, looked_at
from app.commissions.tiers import Tiers, band_at, end_of, start_of
from app.models.plan_tiers import PlanCounter, PlanPeriod

_HOME = (PlanPeriod.plan_id, PlanPeriod.owner_id, PlanPeriod.span, PlanPeriod.starts_on)

LATE, REVERSED, CROSSED, PREVIOUS = "late", "reversed", "crossed", "previous"


def cases_of(session: Session, deals: Sequence[StoredDeal], book: PlanBook, rates: DayRates | None = None) -> list[Case]:
    """The deals with all that decides what they pay, as it stood in `book` when each was done.

    `rates` keep those of days that were asked for before, where deals come page by page.
    """
    rates = rates or DayRates(session)
    found = []
    for deal in deals:
        at = deal.facts.done_at
        upline = book.upline(deal.client_id, at)
        plan = book.plan(upline, at)
        owner_id = book.owner(upline, at) if plan is not None and plan.span else 0
        place = (at, deal.server_id, deal.ticket)
        facts = deal.facts
        if plan is not None and plan.needs_category:
            facts = replace(facts, category=book.category(deal.client_id, at))
        found.append(Case(facts, plan, upline, rates.of(facts, plan), owner_id, place))
    asked = [deal for deal, case in zip(deals, found, strict=True) if case.plan is not None and case.plan.needs_opening]
    openings = opened_at(session, asked)
    on_credit = [deal.id for deal, case in zip(deals, found, strict=True) if case.plan is not None and case.plan.needs_credit]
    credit = credit_percent_at(session, on_credit)
    if not openings and not credit:
        return found
    return [
        replace(
            case,
            deal=replace(
                case.deal,
                opened_at=openings.get(case.deal.deal_id),
                credit_percent=credit.get(case.deal.deal_id, Decimal(0)),
            ),
        )
        for case in found
    ]


class Standings:
    """The periods of some deals, held; judge and take back, then `save`."""

    def __init__(self, session: Session, cases: Iterable[Case]) -> None:
        self._session = session
        cases = [case for case in cases if case.home is not None]
        self._last = lock(session, {case.home for case in cases if case.home})
        looked: set[Counter] = set().union(*(looked_at(case) for case in cases))
        self._before = counters(session, looked)
        self._tally = Tally(Measures(session).known, self._before)
        self._tiers: dict[tuple[int, str], Tiers] = {}
        self._dirty: dict[Home, str] = {}

    def judge(self, cases: Sequence[Case]) -> dict[int, Outcome]:
        """What each deal pays where its plan stands, by deal id; the deals in the order that counts."""
        return {case.deal.deal_id: self._judge(case) for case in sorted(cases, key=lambda case: case.place)}

    def _judge(self, case: Case) -> Outcome:
        outcome, home = self._tally.judge(case), case.home
        if outcome.accruals and home:
            last = self._last[home]
            if last and case.place < last:
                self._dirty[home] = LATE
            else:
                self._last[home] = case.place
            self._remember(case)
        return outcome

    def take_back(self, case: Case, reversals: Collection[Accrued]) -> None:
        """Count the reverse of what a deal was given."""
        if case.home and reversals:
            self._tally.add(case, reversals)
            self._dirty[case.home] = REVERSED
            self._remember(case)

    def save(self) -> None:
        """Write what was counted, and which periods have to be trued up."""
        moved = {
            counter: self._tally.counts[counter] - self._before.get(counter, Decimal(0)) for counter in self._tally.changed
        }
        for counter in moved:
            self._note_crossing(counter)
        if moved:
            statement = insert(PlanCounter)
            self._session.execute(
                statement.on_conflict_do_update(
                    index_elements=list(Counter._fields), set_={"quantity": PlanCounter.quantity + statement.excluded.quantity}
                ),
                [{**counter._asdict(), "quantity": quantity} for counter, quantity in sorted(moved.items())],
            )
        for home, last in self._last.items():
            values = {} if last is None else dict(zip(("last_done_at", "last_server_id", "last_ticket"), last, strict=True))
            if values:
                self._session.execute(update(PlanPeriod).where(tuple_(*_HOME) == home).values(**values))
            if home in self._dirty:
                mark(self._session, home, self._dirty[home])

    def _note_crossing(self, counter: Counter) -> None:
        """Whole tiers that came into another band pay all of the period by that."""
        tiers = self._tiers.get((counter.plan_id, counter.rule)) if not counter.ib_id else None
        if tiers is None:
            return
        before, now = self._before.get(counter, Decimal(0)), self._tally.counts[counter]
        if band_at(tiers, before) != band_at(tiers, now):
            for home in self._last:
                if home[:2] == counter[:2] and home.starts_on == start_of(home.span, counter.starts_on):
                    self._dirty.setdefault(home, CROSSED)

    def _remember(self, case: Case) -> None:
        for rule in case.plan.rules if case.plan else ():
            if case.plan and rule.tiers and rule.tiers.is_running and rule.tiers.mode == "whole":
                self._tiers[case.plan.plan_id, rule.key] = rule.tiers


def lock(session: Session, homes: Collection[Home]) -> dict[Home, Place | None]:
    """Hold the rows of these periods, made where there are none, in one order for everybody; with the last deal judged."""
    if not homes:
        return {}
    rows = [{**home._asdict(), "ends_on": end_of(home.span, home.starts_on)} for home in sorted(homes)]
    session.execute(insert(PlanPeriod).on_conflict_do_nothing(), rows)
    held = session.execute(
        select(*_HOME, PlanPeriod.last_done_at, PlanPeriod.last_server_id, PlanPeriod.last_ticket)
        .where(tuple_(*_HOME).in_(homes))
        .order_by(*_HOME)
        .with_for_update()
    ).all()
    return {
        Home(row.plan_id, row.owner_id, row.span, row.starts_on): (
            row.last_done_at,
            row.last_server_id or 0,
            row.last_ticket or 0,
        )
        if row.last_done_at
        else None
        for row in held
    }


def counters(session: Session, wanted: Collection[Counter]) -> dict[Counter, Decimal]:
    """The counters that there are, of all rules in the periods of those wanted."""
    if not wanted:
        return {}
    periods = {counter[:4] for counter in wanted}
    columns = (PlanCounter.plan_id, PlanCounter.owner_id, PlanCounter.period, PlanCounter.starts_on)
    rows = session.execute(
        select(*columns, PlanCounter.rule, PlanCounter.ib_id, PlanCounter.quantity).where(
            tuple_(*columns).in_(periods), PlanCounter.ib_id.in_({counter.ib_id for counter in wanted})
        )
    )
    return {Counter(*row[:6]): row[6] for row in rows}


def mark(session: Session, home: Home, why: str) -> None:
    """Note that a period has to be trued up; the first reason stands."""
    session.execute(
        update(PlanPeriod)
        .where(tuple_(*_HOME) == home, PlanPeriod.dirty_at.is_(None))
        .values(dirty_at=func.now(), dirty_why=why)
    )
