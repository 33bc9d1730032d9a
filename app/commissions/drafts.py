"""Rules of a plan with four eyes: one person proposes a version, another one publishes it or turns it down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions import symbol_groups
from app.commissions.components import COMPONENTS
from app.commissions.errors import InvalidPlan, ReplacesAnother
from app.commissions.plans import MARGIN_GUARDS, Rule, parse_rules, rules_document
from app.commissions.publishing import publish_version
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import four_eyes, rates
from app.models.commissions import Plan, PlanDraft, PlanVersion
from app.models.metatrader import Product

LONGEST_REASON = 500


def propose_version(
    session: Session,
    plan_id: int,
    document: object,
    valid_from: datetime,
    reason: str,
    actor: Actor,
    margin_guard: str = "off",
) -> PlanDraft:
    """Ask that a plan have these rules from `valid_from` on. Nothing is paid by them before somebody else approves.

    Raises NotFound, InvalidPlan with all problems of the rules, InvalidInput without a reason.
    """
    with unit_of_work(session, actor) as unit:
        plan = session.get(Plan, plan_id)
        if plan is None:
            raise NotFound
        parsed = parse_rules(document, plan.currency)
        symbol_groups.resolved(session, parsed, valid_from)
        _require_rates(session, parsed)
        rules = rules_document(parsed)
        if margin_guard not in MARGIN_GUARDS:
            raise InvalidPlan({"margin_guard": N_("This is not one of the choices.")})
        draft = PlanDraft(plan_id=plan_id, rules=rules, valid_from=valid_from, reason=_reason(reason), proposed_by=str(actor))
        draft.margin_guard = margin_guard
        session.add(draft)
        session.flush()
        unit.audit(
            "plan_draft.propose",
            f"plan_draft:{draft.id}",
            after={"plan_id": plan_id, "rules": rules, "margin_guard": margin_guard, "valid_from": valid_from.isoformat()},
            reason=draft.reason,
        )
        unit.emit("plan_draft.proposed", subject_id=draft.id, plan_id=plan_id)
        return draft


def approve_draft(session: Session, draft_id: int, *, actor: Actor, replaces: int | None = None) -> PlanDraft:
    """Publish the proposed rules. `replaces` is the newest version that whoever decides has seen them beside, 0 for none.

    Raises NotFound, OwnRequest for the one who proposed, RequestDecided, VersionOverlap, ReplacesAnother.
    """
    with unit_of_work(session, actor) as unit:
        draft = _open(session, draft_id)
        four_eyes.require_other(draft, actor)
        session.get(Plan, draft.plan_id, with_for_update={"key_share": True})  # as publishing does: one after the other
        newest = session.scalar(select(func.max(PlanVersion.id)).where(PlanVersion.plan_id == draft.plan_id))
        if replaces is not None and replaces != (newest or 0):
            raise ReplacesAnother
        draft.version_id = publish_version(session, draft.plan_id, draft.rules, draft.valid_from, actor, draft.margin_guard).id
        _decide(unit, draft, "approved", "approve")
        return draft


def reject_draft(session: Session, draft_id: int, *, reason: str, actor: Actor) -> PlanDraft:
    """Turn proposed rules down. Raises NotFound, OwnRequest, RequestDecided, InvalidInput without a reason."""
    with unit_of_work(session, actor) as unit:
        draft = _open(session, draft_id)
        four_eyes.require_other(draft, actor)
        _decide(unit, draft, "rejected", "reject", _reason(reason))
        return draft


def withdraw_draft(session: Session, draft_id: int, *, actor: Actor) -> PlanDraft:
    """Take back one's own proposal. Raises NotFound, NotYourRequest, RequestDecided."""
    with unit_of_work(session, actor) as unit:
        draft = _open(session, draft_id)
        four_eyes.require_proposer(draft, actor)
        _decide(unit, draft, "withdrawn", "withdraw")
        return draft


def _require_rates(session: Session, rules: Sequence[Rule]) -> None:
    """Refuse rules that take a part of money in a currency to which nothing leads from an account's: their deals would wait
    from the first one on. Old rates will do here: they show that somebody quotes the pair.
    """
    known = rates.known(session)
    currencies = session.scalars(select(Product.currency).where(~Product.is_demo).distinct()).all()
    problems = {
        f"rules[{index}].currency": N_("No exchange rate leads to this currency from that of some account product.")
        for index, rule in enumerate(rules)
        if COMPONENTS[rule.component].is_money
        and any(known.find(currency, rule.currency, stale_too=True) is None for currency in currencies)
    }
    if problems:
        raise InvalidPlan(problems)


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if not reason:
        raise InvalidInput({"reason": N_("Please give a reason.")})
    return reason[:LONGEST_REASON]


def _open(session: Session, draft_id: int) -> PlanDraft:
    draft = session.get(PlanDraft, draft_id, with_for_update=True, populate_existing=True)
    if draft is None:
        raise NotFound
    four_eyes.require_open(draft)
    return draft


def _decide(unit: UnitOfWork, draft: PlanDraft, status: str, verb: str, reason: str = "") -> None:
    draft.status, draft.decided_by, draft.decided_at, draft.decision_reason = status, str(unit.actor), now(), reason
    unit.session.flush()
    unit.audit(
        f"plan_draft.{verb}",
        f"plan_draft:{draft.id}",
        before={"status": "proposed"},
        after={"status": status, "version_id": draft.version_id},
        reason=reason,
    )
    unit.emit(f"plan_draft.{status}", subject_id=draft.id, plan_id=draft.plan_id)
