"""The cascade: no IB's own rate above that of the IB over it, which would be paid for nothing.

An IB's rate of a rule is its personal one, or the plan's for the place where it stands, times its multiplier. Where only the
difference is paid (override), the IB above stands on the second level; otherwise both are compared as a client's own IB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from app.commissions.deals import EXACT
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.snapshots import PlanBook
from app.commissions.terms import PersonalTerms
from app.models.commissions import IBPlan
from app.models.ib_terms import IBTerms
from app.models.partners import IBParent


@dataclass(frozen=True)
class Breach:
    """That `lower_id` has a higher rate of a rule than `upper_id`, who stands over it."""

    plan_id: int
    rule: str
    lower_id: int
    lower_rate: Decimal
    upper_id: int
    upper_rate: Decimal


def own_rate(rule: Rule, plan_id: int, terms: PersonalTerms | None, *, above: bool) -> Decimal:
    """The rate of an IB as a client's own IB, or right above it; with its multiplier."""
    level = min(1 if above and rule.mode == "override" else 0, len(rule.levels) - 1)
    given = rule.levels[level] if rule.mode in ("rates", "override") else rule.rate
    if terms is None:
        return given
    rate = terms.rates.get((plan_id, rule.key), given)
    return rate if terms.multiplier is None else EXACT.multiply(rate, terms.multiplier)


def breaches_of_terms(session: Session, ib_id: int, terms: PersonalTerms, at: datetime) -> list[Breach]:
    """Where an IB with these terms would have a higher rate than the IB above, or a lower one than an IB right below."""
    below = session.scalars(select(IBParent.ib_id).where(IBParent.parent_id == ib_id, holds(IBParent, at))).all()
    book = PlanBook(session, (), ibs=[ib_id, *below])
    found: list[Breach] = []
    for lower in (ib_id, *below):
        upline = book.levels(book.chain(lower, at), at)
        plan = book.plan(upline, at)
        if plan is not None and len(upline) > 1:
            agreed = [terms if one.ib_id == ib_id else one.terms for one in upline[:2]]
            found += _pair(plan, lower, agreed[0], upline[1].ib_id, agreed[1])
    return found


def breaches_of_plan(session: Session, plan: PlanSnapshot, at: datetime) -> list[Breach]:
    """Where IBs with personal terms would stand against each other, if a plan had these rules from a moment on."""
    agreed = list(session.scalars(select(IBTerms.ib_id).where(holds(IBTerms, at))))
    if not agreed:
        return []
    below = session.scalars(select(IBParent.ib_id).where(IBParent.parent_id.in_(agreed), holds(IBParent, at))).all()
    book = PlanBook(session, (), ibs=[*agreed, *below])
    found: list[Breach] = []
    for lower in sorted({*agreed, *below}):
        upline = book.levels(book.chain(lower, at), at)
        present = book.plan(upline, at)
        if len(upline) > 1 and present is not None and present.plan_id == plan.plan_id:
            found += _pair(plan, lower, upline[0].terms, upline[1].ib_id, upline[1].terms)
    return found


def holds(table: type[IBParent | IBTerms | IBPlan], at: datetime) -> ColumnElement[bool]:
    """The spans of a table that hold at a moment."""
    return and_(table.valid_from <= at, or_(table.valid_to.is_(None), table.valid_to > at))


def _pair(
    plan: PlanSnapshot, lower_id: int, lower: PersonalTerms | None, upper_id: int, upper: PersonalTerms | None
) -> Iterator[Breach]:
    """The rules by which the lower one has more; the plan's own levels are the plan's business."""
    if lower is None and upper is None:
        return
    for rule in plan.rules:
        if rule.beneficiary == "trader":
            continue
        rates = own_rate(rule, plan.plan_id, lower, above=False), own_rate(rule, plan.plan_id, upper, above=True)
        if rates[0] > rates[1]:
            yield Breach(plan.plan_id, rule.key, lower_id, rates[0], upper_id, rates[1])
