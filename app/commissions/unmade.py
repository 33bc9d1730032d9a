"""Whether what an occasion rested on has gone since it was paid: a deposit, deals. Reads, and writes nothing.

Only what was undone counts. Documents and country are not asked for again: they change for other reasons, and the IB did what
the rule asks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions.conditions import Conditions, month_counts, reached_at
from app.commissions.errors import InvalidPlan
from app.commissions.plans import Rule, parse_rules
from app.commissions.snapshots import DayRates
from app.commissions.won_clients import Story, worth
from app.core.arrays import any_of
from app.models.commissions import Accrual, Plan, PlanVersion
from app.models.occasions import Occasion

log = logging.getLogger("lotwise.commissions")


def conditions_paid(session: Session, occasions: Sequence[Occasion]) -> dict[int, Conditions]:
    """The conditions of the rule by which each was paid; of a version that cannot be read there are none."""
    rows = session.execute(
        select(Accrual.occasion_id, Accrual.rule, PlanVersion, Plan.currency)
        .distinct()
        .join(PlanVersion, PlanVersion.id == Accrual.plan_version_id)
        .join(Plan, Plan.id == PlanVersion.plan_id)
        .where(Accrual.occasion_id == any_of([one.id for one in occasions]))
    )
    read: dict[int, dict[str, Rule]] = {}
    found: dict[int, Conditions] = {}
    for occasion_id, key, version, currency in rows:
        if version.id not in read:
            read[version.id] = _readable(version, currency)
        rule = read[version.id].get(key)
        if occasion_id is not None and rule is not None and rule.conditions is not None:
            found[occasion_id] = rule.conditions
    return found


def unmade_client(one: Occasion, conditions: Conditions, story: Story, rates: DayRates) -> dict[str, Any] | None:
    """What shows that a client has not traded, or paid in, enough any more; None while it has."""
    until = story.facts.registered_at + timedelta(days=conditions.within_days)
    if conditions.first_deposit and not _paid_in(one, conditions.first_deposit, story, until, rates):
        return {"deposit_id": one.facts["deposit_id"], "needed": f"{conditions.first_deposit:f}"}
    traded = story.facts.closed
    reached = reached_at(conditions.lots, traded)
    if not conditions.lots or (reached is not None and reached <= until):
        return None
    in_time = sum((lots for moment, lots in traded if moment <= until), Decimal(0))
    return {"lots": f"{in_time:f}", "needed": f"{conditions.lots:f}"}


def unmade_month(conditions: Conditions, active: int) -> dict[str, Any] | None:
    """What shows that a month with so many active clients has too few of them now; None while it has enough."""
    if month_counts(conditions, active):
        return None
    return {"active_clients": active, "needed": conditions.active_clients}


def _paid_in(one: Occasion, needed: Decimal, story: Story, until: datetime, rates: DayRates) -> bool:
    """Whether the deposit is there still, or else another one that is large enough, or may be: nobody knows without a rate."""
    if any(deposit.id == one.facts["deposit_id"] for deposit in story.deposits):
        return True
    if story.facts.deposited_at is None or story.facts.deposited_at > until:
        return False
    amount = worth(story.deposit, one.facts["currency"], rates)
    return amount is None or amount >= needed


def _readable(version: PlanVersion, currency: str) -> dict[str, Rule]:
    try:
        return {rule.key: rule for rule in parse_rules(version.rules, currency)}
    except InvalidPlan as error:
        log.error("plan version cannot be read version=%s fields=%s", version.id, ",".join(error.problems))
        return {}
