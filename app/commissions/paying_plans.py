"""The plans by which an IB may be paid: its own, those of the IBs below it, and those it has personal rates of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.commissions.agreements import present_terms
from app.commissions.cascade import holds
from app.commissions.errors import InvalidPlan
from app.commissions.plans import Rule, parse_rules
from app.models.commissions import IBPlan, Plan, PlanVersion
from app.partners import branches, tree

#: IBs of a branch whose plans are looked at.
MOST = 500


@dataclass(frozen=True)
class PayingPlan:
    """The rules for IBs of a plan's newest version."""

    plan_id: int
    plan: str
    rules: tuple[Rule, ...]


def rules_for(session: Session, ib_id: int, at: datetime) -> list[PayingPlan]:
    """In the order of the plans' names; plans whose rules cannot be read are left out."""
    above = tree.upline_at(tree.uplines(session, [ib_id]), ib_id, at)
    below = [one.ib_id for one in branches.branch(session, ib_id, at, MOST)]
    held = {
        row.ib_id: row.plan_id
        for row in session.execute(
            select(IBPlan.ib_id, IBPlan.plan_id).where(IBPlan.ib_id.in_([*above, *below]), holds(IBPlan, at))
        )
    }
    nearest = next((held[one] for one in above if one in held), None)
    wanted = {held[one] for one in below if one in held} | {plan_id for plan_id, _ in present_terms(session, ib_id, at).rates}
    if nearest is not None:
        wanted.add(nearest)
    newest = select(PlanVersion, Plan).join(Plan, Plan.id == PlanVersion.plan_id).where(PlanVersion.plan_id.in_(wanted))
    newest = newest.ext(distinct_on(PlanVersion.plan_id)).order_by(PlanVersion.plan_id, PlanVersion.version.desc())
    found = []
    for version, plan in session.execute(newest):
        try:
            rules = parse_rules(version.rules, plan.currency)
        except InvalidPlan:
            continue
        found.append(PayingPlan(plan.id, plan.name, tuple(rule for rule in rules if rule.beneficiary == "ibs")))
    return sorted(found, key=lambda one: one.plan)
