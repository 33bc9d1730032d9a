"""When a plan's commission is settled and paid out: how often it is gathered, how long it is held, the least that is paid.

They say when an IB gets its pay, never how much it is, and count for everything that is not settled or paid yet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from app.commissions.settlement import EVERY
from app.core.actor import Actor
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.models.commissions import Plan

MOST_HOLD_DAYS = 366


@dataclass(frozen=True)
class PaymentTerms:
    """`minimum_minor` in the plan's currency; `settle_every` one of settlement.EVERY."""

    settle_every: str
    hold_days: int
    minimum_minor: int


def terms_of(plan: Plan) -> PaymentTerms:
    """As they stand now."""
    return PaymentTerms(plan.settle_every, plan.hold_days, plan.min_payout_minor)


def set_terms(
    session: Session, plan_id: int, *, settle_every: str, hold_days: int, minimum: Money, reason: str, actor: Actor
) -> PaymentTerms:
    """Change a plan's terms; the audit trail keeps the former ones. Raises NotFound, InvalidInput with all problems."""
    problems: dict[str, str] = {}
    said = " ".join(reason.split())
    with unit_of_work(session, actor) as unit:
        plan = session.get(Plan, plan_id, with_for_update=True)
        if plan is None:
            raise NotFound
        if settle_every not in EVERY:
            problems["settle_every"] = N_("Please choose one of the list.")
        if not 0 <= hold_days <= MOST_HOLD_DAYS:
            problems["hold_days"] = N_("Please give a number of days from 0 to 366.")
        if minimum.currency != plan.currency or minimum.amount_minor < 0:
            problems["minimum"] = N_("Please enter an amount of the plan's currency, zero or more.")
        if not said:
            problems["reason"] = N_("Please give a reason.")
        if problems:
            raise InvalidInput(problems)
        before = terms_of(plan)
        plan.settle_every, plan.hold_days, plan.min_payout_minor = settle_every, hold_days, minimum.amount_minor
        after = terms_of(plan)
        if after != before:
            unit.audit("plan.payment_terms", f"plan:{plan.id}", before=asdict(before), after=asdict(after), reason=said[:500])
            unit.emit("plan.payment_terms_changed", subject_id=plan.id)
        return after
