"""Plans and their versions put to use: a plan is made, a version published, an IB paid by a plan from a day on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions import cascade, flags, symbol_groups
from app.commissions.errors import AssignmentOverlap, InvalidPlan, PlanNameTaken, PlanNotYetValid, VersionOverlap
from app.commissions.plans import MARGIN_GUARDS, PlanSnapshot, parse_rules, rules_document
from app.core.actor import Actor
from app.core.errors import N_, NotFound
from app.core.money import exponent
from app.core.uow import unit_of_work
from app.models.commissions import Accrual, IBPlan, Plan, PlanVersion
from app.models.metatrader import Deal
from app.models.partners import IntroducingBroker

#: That what was published and settled stays; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "records.sql"

MAX_NAME = 100

#: What happens to personal rates above those of the IB above.
CASCADE_GUARDS = ("refuse", "flag")


@dataclass(frozen=True)
class Published:
    """One version of a plan, valid from a moment until the next version's."""

    id: int
    plan_id: int
    version: int
    valid_from: datetime


def create_plan(session: Session, name: str, currency: str, actor: Actor) -> int:
    """Make a plan without rules; returns its id. Raises InvalidPlan, PlanNameTaken, or InvalidMoney for the currency."""
    name = " ".join(name.split())
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidPlan({"name": N_("A plan needs a name of 100 characters at most.")})
    exponent(currency)
    with unit_of_work(session, actor) as unit:
        if session.scalar(select(Plan.id).where(Plan.name == name)) is not None:
            raise PlanNameTaken
        plan = Plan(name=name, currency=currency)
        session.add(plan)
        session.flush()
        unit.audit("plan.created", f"plan:{plan.id}", after={"name": name, "currency": currency})
        return plan.id


def publish_version(
    session: Session, plan_id: int, document: object, valid_from: datetime, actor: Actor, margin_guard: str = "off"
) -> Published:
    """Publish rules for a plan from `valid_from` on. The version is stored with all defaults written out and never changes.
    `margin_guard` is one of MARGIN_GUARDS.

    Raises NotFound, InvalidPlan with all problems, or VersionOverlap when it would begin before an earlier version or
    before a deal that this plan has paid already. Emits plan.published.
    """
    with unit_of_work(session, actor) as unit:
        plan = session.get(Plan, plan_id, with_for_update={"key_share": True})
        if plan is None:
            raise NotFound
        parsed = parse_rules(document, plan.currency)
        symbol_groups.resolved(session, parsed, valid_from)
        rules = rules_document(parsed)
        breaches = cascade.breaches_of_plan(session, PlanSnapshot(0, parsed, plan_id=plan_id), valid_from)
        if breaches and plan.cascade_guard == "refuse":
            raise InvalidPlan({"rules": N_("By these rules an IB with personal terms would have more than the IB above it.")})
        if margin_guard not in MARGIN_GUARDS:
            raise InvalidPlan({"margin_guard": N_("This is not one of the choices.")})
        last = session.scalar(
            select(PlanVersion).where(PlanVersion.plan_id == plan_id).order_by(PlanVersion.version.desc()).limit(1)
        )
        paid_until = session.scalar(
            select(func.max(Deal.done_at))
            .join(Accrual, Accrual.deal_id == Deal.id)
            .join(PlanVersion, PlanVersion.id == Accrual.plan_version_id)
            .where(PlanVersion.plan_id == plan_id)
        )
        if (last and valid_from <= last.valid_from) or (paid_until and valid_from <= paid_until):
            raise VersionOverlap
        version = PlanVersion(plan_id=plan_id, version=last.version + 1 if last else 1, valid_from=valid_from, rules=rules)
        version.margin_guard = margin_guard
        session.add(version)
        session.flush()
        flags.raise_cascade(session, breaches)
        made = Published(version.id, plan_id, version.version, valid_from)
        unit.audit(
            "plan.published",
            f"plan:{plan_id}",
            before={"version": last.version, "rules": last.rules} if last else None,
            after={
                "version": made.version,
                "rules": rules,
                "margin_guard": margin_guard,
                "valid_from": valid_from.isoformat(),
            },
        )
        unit.emit("plan.published", subject_id=plan_id, version=made.version, valid_from=valid_from.isoformat())
    return made


def set_cascade_guard(session: Session, plan_id: int, guard: str, actor: Actor) -> None:
    """Say whether a personal rate above that of the IB above is refused or flagged. Raises NotFound, InvalidPlan."""
    with unit_of_work(session, actor) as unit:
        plan = session.get(Plan, plan_id, with_for_update=True, populate_existing=True)
        if plan is None:
            raise NotFound
        if guard not in CASCADE_GUARDS:
            raise InvalidPlan({"guard": N_("This is not one of the choices.")})
        before, plan.cascade_guard = plan.cascade_guard, guard
        session.flush()
        unit.audit("plan.cascade_guard", f"plan:{plan_id}", before={"guard": before}, after={"guard": guard})


def assign_plan(session: Session, ib_id: int, plan_id: int, valid_from: datetime, actor: Actor) -> int:
    """Pay an IB by a plan from `valid_from` on, ending the assignment before; returns the new assignment's id.

    Raises NotFound, PlanNotYetValid, or AssignmentOverlap when the present assignment begins at or after that moment.
    """
    with unit_of_work(session, actor) as unit:
        ib = session.get(IntroducingBroker, ib_id, with_for_update={"key_share": True})
        if ib is None or session.get(Plan, plan_id) is None:
            raise NotFound
        valid = select(PlanVersion.id).where(PlanVersion.plan_id == plan_id, PlanVersion.valid_from <= valid_from).limit(1)
        if session.scalar(valid) is None:
            raise PlanNotYetValid
        latest = session.scalar(select(IBPlan).where(IBPlan.ib_id == ib_id).order_by(IBPlan.valid_from.desc()).limit(1))
        if latest and (valid_from <= latest.valid_from or (latest.valid_to and valid_from < latest.valid_to)):
            raise AssignmentOverlap
        if latest and latest.valid_to is None:
            latest.valid_to = valid_from
            session.flush()
        row = IBPlan(ib_id=ib_id, plan_id=plan_id, valid_from=valid_from)
        session.add(row)
        session.flush()
        unit.audit(
            "ib_plan.assigned",
            f"introducing_broker:{ib_id}",
            before={"plan_id": latest.plan_id} if latest else None,
            after={"plan_id": plan_id, "valid_from": valid_from.isoformat()},
        )
        unit.emit("ib_plan.assigned", subject_id=ib_id, client_id=ib.client_id, plan_id=plan_id)
        return row.id
