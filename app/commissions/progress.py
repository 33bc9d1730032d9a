"""Where an IB stands now in the tiers and caps of the plan it is paid by, and how far it is to the next band. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions.components import COMPONENTS
from app.commissions.measures import Measures
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.snapshots import PlanBook
from app.commissions.standings import counters
from app.commissions.tally import Counter
from app.commissions.tier_steps import NOW, position_unit
from app.commissions.tiers import Band, Tiers, band_at, end_of, moment, previous, start_of
from app.models.commissions import Plan


@dataclass(frozen=True)
class CapStanding:
    """What a rule has paid an IB in the present day or month, of the most that it pays."""

    period: str
    paid: Decimal
    cap: Decimal


@dataclass(frozen=True)
class Standing:
    """Where one rule stands for an IB. `label` says what `position` is (a message id); it is None where it cannot be known yet.

    `band` pays now, `following` is the next one, None in the last; all of them are None for a rule that has caps only.
    `owner_id` is the IB whose plan it is, and whose branch is counted.
    """

    plan: str
    owner_id: int
    rule: str
    currency: str
    rate_unit: str
    caps: tuple[CapStanding, ...]
    label: str = ""
    unit: str = ""
    since: date | None = None
    last_day: date | None = None
    position: Decimal | None = None
    band: Band | None = None
    following: Band | None = None

    @property
    def to_go(self) -> Decimal | None:
        """How much is missing to the next band."""
        return None if self.following is None or self.position is None else self.following.start - self.position


def standing(session: Session, ib_id: int, at: datetime) -> list[Standing]:
    """The rules with tiers or caps of the plan that pays an IB at a moment, in the plan's order; empty when it has none.

    The counters are those of the deals judged so far.
    """
    book = PlanBook(session, (), ibs=(ib_id,))
    upline = book.levels(book.chain(ib_id, at), at)
    plan = book.plan(upline, at)
    if plan is None or plan.span is None:
        return []
    owner_id = book.owner(upline, at)
    name = session.scalars(select(Plan.name).where(Plan.id == plan.plan_id)).one()
    return [_standing(session, plan, rule, name, owner_id, ib_id, at) for rule in plan.rules if rule.is_counted]


def _standing(session: Session, plan: PlanSnapshot, rule: Rule, name: str, owner_id: int, ib_id: int, at: datetime) -> Standing:
    of_caps = {
        period: Counter(plan.plan_id, owner_id, period, start_of(period, at), rule.key, ib_id)
        for period in (rule.caps.periods if rule.caps else ())
    }
    found = counters(session, of_caps.values())
    caps = tuple(
        CapStanding(period, found.get(of_caps[period], Decimal(0)), cap)
        for period, cap in (rule.caps.periods.items() if rule.caps else ())
    )
    unit = "%" if COMPONENTS[rule.component].is_percentage else rule.currency
    if rule.tiers is None:
        return Standing(name, owner_id, rule.key, rule.currency, unit, caps)
    tiers = rule.tiers
    starts_on = start_of(tiers.period, at)
    if tiers.basis == "previous":
        starts_on = previous(tiers.period, starts_on)
    position = _position(session, plan, rule, tiers, owner_id, starts_on, at)
    index = None if position is None else band_at(tiers, position)
    return Standing(
        plan=name,
        owner_id=owner_id,
        rule=rule.key,
        currency=rule.currency,
        rate_unit=unit,
        caps=caps,
        label=NOW[tiers.measure, tiers.basis],
        unit=position_unit(tiers, rule.currency),
        since=starts_on,
        last_day=end_of(tiers.period, starts_on) - timedelta(days=1),
        position=position,
        band=None if index is None else tiers.bands[index],
        following=None if index is None or index + 1 == len(tiers.bands) else tiers.bands[index + 1],
    )


def _position(
    session: Session, plan: PlanSnapshot, rule: Rule, tiers: Tiers, owner_id: int, starts_on: date, at: datetime
) -> Decimal | None:
    if tiers.measure == "lots":
        volume = Counter(plan.plan_id, owner_id, tiers.period, starts_on, rule.key, 0)
        return counters(session, [volume]).get(volume, Decimal(0))
    until = end_of(tiers.period, starts_on) if tiers.basis == "previous" else start_of("day", at)
    return Measures(session).known(owner_id, rule, moment(starts_on), moment(until))
