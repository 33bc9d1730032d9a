"""Counting what tiers and caps of a period depend on, while deals are judged one after the other. Pure.

The order that counts is that of the deals themselves: by time, server and ticket. Whoever judges them as they arrive may stand
somewhere else; `recount` judges a whole period anew, in that order, and is what finally holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from app.commissions.deals import EXACT, DealFacts
from app.commissions.engine import Accrued, Outcome, Rates, Upline, compute
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.tiers import BEGINNING, Position, Tiers, moment, previous, start_of


class Home(NamedTuple):
    """What stands and falls together: the deals that a plan pays in the branch of its owner in one span of time."""

    plan_id: int
    owner_id: int
    span: str
    starts_on: date


class Counter(NamedTuple):
    """Of a plan in its owner's branch: the lots that a rule paid for in a period; with an IB's id, what it paid that IB."""

    plan_id: int
    owner_id: int
    period: str
    starts_on: date
    rule: str
    ib_id: int


Place = tuple[datetime, int, int]


@dataclass(frozen=True, slots=True)
class Case:
    """A deal with all that decides what it pays. `owner_id` is the IB whose plan it is; `place` its place among all deals."""

    deal: DealFacts
    plan: PlanSnapshot | None
    upline: tuple[Upline, ...]
    rates: Rates
    owner_id: int
    place: Place

    @property
    def home(self) -> Home | None:
        """None when no rule of its plan counts."""
        if self.plan is None or self.plan.span is None:
            return None
        return Home(self.plan.plan_id, self.owner_id, self.plan.span, start_of(self.plan.span, self.deal.done_at))


#: What a measure that is not counted here amounted to, for an owner from a moment until another; None: not known yet.
Known = Callable[[int, Rule, datetime, datetime], Decimal | None]


class Tally:
    """The counters while deals are judged. `finals`: what whole tiers reach in the end, where that is known already."""

    def __init__(
        self, known: Known, counts: Mapping[Counter, Decimal], finals: Mapping[Counter, Decimal] | None = None
    ) -> None:
        self.counts: dict[Counter, Decimal] = defaultdict(Decimal, counts)
        self.changed: set[Counter] = set()
        self._known = known
        self._finals = finals

    def judge(self, case: Case) -> Outcome:
        """Judge a deal where it stands now, and count it."""
        plan = case.plan
        if plan is None or plan.span is None:
            return compute(case.deal, plan, case.upline, case.rates)
        positions = {rule.key: self._position(case, rule) for rule in plan.rules if rule.is_counted}
        outcome = compute(case.deal, plan, case.upline, case.rates, positions)
        self.add(case, outcome.accruals)
        return outcome

    def add(self, case: Case, accruals: Iterable[Accrued]) -> None:
        """Count what a deal was given, or with the negative lots and amounts of reversals take it back."""
        plan = case.plan
        if plan is None or plan.span is None:
            return
        rules = {rule.key: rule for rule in plan.rules if rule.is_counted}
        seen: set[str] = set()
        for made in accruals:
            rule = rules.get(made.rule)
            if rule is None:
                continue
            if made.rule not in seen and made.lots and rule.tiers and rule.tiers.measure == "lots":
                self._count(_volume(case, rule, rule.tiers), made.lots)
                seen.add(made.rule)
            if made.ib_id is not None and rule.caps:
                for period in rule.caps.periods:
                    self._count(_counter(case, rule, period, made.ib_id), made.amount)

    def _count(self, counter: Counter, quantity: Decimal) -> None:
        self.counts[counter] = EXACT.add(self.counts[counter], quantity)
        self.changed.add(counter)

    def _position(self, case: Case, rule: Rule) -> Position:
        paid = {
            (period, above.ib_id): self.counts[_counter(case, rule, period, above.ib_id)]
            for period in (rule.caps.periods if rule.caps else ())
            for above in case.upline
        }
        return Position(self._reached(case, rule), paid)

    def _reached(self, case: Case, rule: Rule) -> Decimal | None:
        tiers, at = rule.tiers, case.deal.done_at
        if tiers is None:
            return BEGINNING.tier
        starts_on = start_of(tiers.period, at)
        before = previous(tiers.period, starts_on)
        if tiers.measure != "lots":
            if tiers.basis == "previous":
                return self._known(case.owner_id, rule, moment(before), moment(starts_on))
            return self._known(case.owner_id, rule, moment(starts_on), moment(start_of("day", at)))
        volume = _volume(case, rule, tiers)
        if tiers.basis == "previous":
            return self.counts[volume._replace(starts_on=before)]
        if tiers.mode == "marginal":
            return self.counts[volume]
        if self._finals is not None:
            return self._finals.get(volume, Decimal(0))
        return EXACT.add(self.counts[volume], case.deal.lots_closed if rule.when == "close" else case.deal.lots)


def recount(
    cases: Sequence[Case], known: Known, before: Mapping[Counter, Decimal] | None = None
) -> tuple[dict[int, Outcome], Tally]:
    """Judge deals in the order that counts, by deal id, and where everything stands after them.

    `before` are volumes of periods before that tiers look back at. What whole tiers reach is known after a first round only.
    """
    ordered = sorted(cases, key=lambda case: case.place)
    first = Tally(known, before or {})
    outcomes = {case.deal.deal_id: first.judge(case) for case in ordered}
    if not any(waits_for_end(case.plan) for case in ordered):
        return outcomes, first
    second = Tally(known, before or {}, finals=first.counts)
    return {case.deal.deal_id: second.judge(case) for case in ordered}, second


def looked_at(case: Case) -> set[Counter]:
    """The counters that decide what a deal pays, as far as they are counted here."""
    found: set[Counter] = set()
    for rule in case.plan.rules if case.plan else ():
        if rule.tiers and rule.tiers.measure == "lots":
            volume = _volume(case, rule, rule.tiers)
            found |= {volume, volume._replace(starts_on=previous(volume.period, volume.starts_on))}
        for period in rule.caps.periods if rule.caps else ():
            found |= {_counter(case, rule, period, above.ib_id) for above in case.upline}
    return found


def waits_for_end(plan: PlanSnapshot | None) -> bool:
    """Whether a rule pays all of a period by what it reaches in the end."""
    return plan is not None and any(rule.tiers and rule.tiers.is_running and rule.tiers.mode == "whole" for rule in plan.rules)


def _volume(case: Case, rule: Rule, tiers: Tiers) -> Counter:
    return _counter(case, rule, tiers.period, 0)


def _counter(case: Case, rule: Rule, period: str, ib_id: int) -> Counter:
    plan_id = case.plan.plan_id if case.plan else 0
    return Counter(plan_id, case.owner_id, period, start_of(period, case.deal.done_at), rule.key, ib_id)
