"""Personal terms of IBs put to use: proposed by one person, agreed by another one; rates that an IB gives to those below it."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions import cascade, flags
from app.commissions.agreed import AgreedTerms, personal
from app.commissions.components import COMPONENTS
from app.commissions.errors import ReplacesAnother, TermsTooEarly
from app.commissions.plans import MAX_PERCENT, MAX_RATE, Rule, parse_rules
from app.commissions.terms import PersonalTerms
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import four_eyes
from app.models.commissions import Plan, PlanVersion
from app.models.ib_terms import IBTerms, IBTermsProposal
from app.models.partners import IntroducingBroker

LONGEST_REASON = 500
LEAST_MULTIPLIER, MOST_MULTIPLIER = Decimal("0.01"), Decimal(10)

#: How far ahead terms may be set.
FURTHEST = timedelta(days=366)


def propose_terms(
    session: Session, *, ib_id: int, terms: PersonalTerms, valid_from: datetime | None, reason: str, actor: Actor
) -> IBTermsProposal:
    """Ask that an IB have these terms from a moment on, in place of all it had; without a moment, from the approval on.

    Raises NotFound, TermsWaiting, TermsTooEarly, InvalidInput with all problems, a rate above that of the IB above included
    where the plan refuses it.
    """
    with unit_of_work(session, actor) as unit:
        if session.get(IntroducingBroker, ib_id) is None:
            raise NotFound
        said = " ".join(reason.split())
        begin = valid_from or now()
        _check(session, ib_id, terms, begin, said)
        proposal = IBTermsProposal(ib_id=ib_id, valid_from=valid_from, reason=said[:LONGEST_REASON], proposed_by=str(actor))
        _write(proposal, terms)
        session.add(proposal)
        session.flush()
        unit.audit("ib_terms.propose", f"ib_terms_proposal:{proposal.id}", after=_shown(proposal), reason=proposal.reason)
        unit.emit("ib_terms.proposed", subject_id=proposal.id, ib_id=ib_id)
        return proposal


def approve_terms(session: Session, proposal_id: int, *, actor: Actor, replaces: int | None = None) -> IBTermsProposal:
    """Agree to proposed terms. `replaces` are the IB's last terms that whoever decides has seen (`last_terms_id`).

    Raises NotFound, OwnRequest for the one who proposed, RequestDecided, ReplacesAnother, and what the terms are refused for
    by now.
    """
    with unit_of_work(session, actor) as unit:
        proposal = _open(session, proposal_id)
        four_eyes.require_other(proposal, actor)
        session.get(IntroducingBroker, proposal.ib_id, with_for_update={"key_share": True})
        if replaces is not None and replaces != last_terms_id(session, proposal.ib_id):
            raise ReplacesAnother
        begin, terms = proposal.valid_from or now(), personal(proposal)
        _check(session, proposal.ib_id, terms, begin, proposal.reason)
        row = begin_terms(unit, proposal.ib_id, terms, begin, proposal.reason)
        proposal.terms_id, proposal.valid_from = row.id, begin
        _decide(unit, proposal, "approved", "approve")
        return proposal


def reject_terms(session: Session, proposal_id: int, *, reason: str, actor: Actor) -> IBTermsProposal:
    """Turn proposed terms down. Raises NotFound, OwnRequest, RequestDecided, InvalidInput without a reason."""
    with unit_of_work(session, actor) as unit:
        proposal = _open(session, proposal_id)
        four_eyes.require_other(proposal, actor)
        said = " ".join(reason.split())
        if not said:
            raise InvalidInput({"reason": N_("Please give a reason.")})
        _decide(unit, proposal, "rejected", "reject", said[:LONGEST_REASON])
        return proposal


def withdraw_terms(session: Session, proposal_id: int, *, actor: Actor) -> IBTermsProposal:
    """Take back one's own proposal. Raises NotFound, NotYourRequest, RequestDecided."""
    with unit_of_work(session, actor) as unit:
        proposal = _open(session, proposal_id)
        four_eyes.require_proposer(proposal, actor)
        _decide(unit, proposal, "withdrawn", "withdraw")
        return proposal


def rate_problem(rule: Rule, rate: Decimal) -> str | None:
    """What is wrong with a rate of a rule (a message id); None when it will do."""
    most = MAX_PERCENT if COMPONENTS[rule.component].is_percentage else MAX_RATE
    if not rate.is_finite() or not 0 < rate <= most or _places(rate) > 10:
        return N_("A rate is above 0 and at most 100,000, a percentage at most 100, with ten decimals at most.")
    return None


def present_terms(session: Session, ib_id: int, at: datetime) -> PersonalTerms:
    """What is agreed with an IB at a moment; empty terms when nothing is."""
    return AgreedTerms(session, [ib_id]).of(ib_id, at) or PersonalTerms()


def last_terms_id(session: Session, ib_id: int) -> int:
    """The terms that were agreed last with an IB, whenever they hold; 0 for none."""
    last = _last(session, ib_id)
    return last.id if last is not None else 0


def begin_terms(unit: UnitOfWork, ib_id: int, terms: PersonalTerms, at: datetime, reason: str) -> IBTerms:
    """Have terms hold from a moment on, ending those before; for use cases that have checked them. Raises TermsTooEarly.

    Emits ib_terms.begun. A rate above that of the IB above, where nobody refuses it, is flagged.
    """
    session = unit.session
    # One at a time per IB: the span that ends here must be the last one.
    ib = session.get(IntroducingBroker, ib_id, with_for_update={"key_share": True})
    if ib is None:
        raise NotFound
    last = _last(session, ib_id)
    if last is not None and at <= last.valid_from:
        raise TermsTooEarly
    before = None if last is None else _shown(last)
    if last is not None and last.valid_to is None:
        last.valid_to = at
        session.flush()
    row = IBTerms(ib_id=ib_id, valid_from=at, set_by=str(unit.actor), reason=reason)
    _write(row, terms)
    session.add(row)
    session.flush()
    unit.audit("ib_terms.begin", f"introducing_broker:{ib_id}", before=before, after=_shown(row), reason=reason)
    unit.emit("ib_terms.begun", subject_id=row.id, client_id=ib.client_id, ib_id=ib_id, valid_from=at.isoformat())
    flags.raise_cascade(session, cascade.breaches_of_terms(session, ib_id, terms, at))
    return row


def _last(session: Session, ib_id: int) -> IBTerms | None:
    return session.scalar(select(IBTerms).where(IBTerms.ib_id == ib_id).order_by(IBTerms.valid_from.desc()).limit(1))


def _check(session: Session, ib_id: int, terms: PersonalTerms, at: datetime, reason: str) -> None:
    """Raises InvalidInput with all problems, or TermsTooEarly."""
    problems: dict[str, str] = {}
    if not reason:
        problems["reason"] = N_("Please give a reason.")
    if at > now() + FURTHEST:
        problems["valid_from"] = N_("This is more than a year ahead.")
    multiplier, handed = terms.multiplier, terms.hand_on_percent
    if multiplier is not None and not (LEAST_MULTIPLIER <= multiplier <= MOST_MULTIPLIER and _places(multiplier) <= 4):
        problems["multiplier"] = N_("A multiplier is between 0.01 and 10, with four decimals at most.")
    if handed is not None and not (0 < handed <= MAX_PERCENT and _places(handed) <= 4):
        problems["hand_on_percent"] = N_("A percentage above 0 and at most 100, with four decimals at most.")
    problems |= _problems_of_rates(session, terms, at)
    last = _last(session, ib_id)
    if not problems and terms == (personal(last) if last and last.valid_to is None else PersonalTerms()):
        problems["multiplier"] = N_("The IB has these terms already.")
    if not problems:
        problems |= _problems_of_cascade(session, cascade.breaches_of_terms(session, ib_id, terms, at))
    if problems:
        raise InvalidInput(problems)
    if last is not None and at <= last.valid_from:
        raise TermsTooEarly


def _problems_of_rates(session: Session, terms: PersonalTerms, at: datetime) -> dict[str, str]:
    """What is wrong with each rate, under rates.<plan>.<rule>; the newest version that holds or is to hold counts."""
    problems: dict[str, str] = {}
    for plan_id in sorted({plan_id for plan_id, _ in terms.rates}):
        versions = select(PlanVersion).where(PlanVersion.plan_id == plan_id).order_by(PlanVersion.version.desc())
        version, plan = session.scalar(versions.limit(1)), session.get(Plan, plan_id)
        rules = {rule.key: rule for rule in parse_rules(version.rules, plan.currency)} if version and plan else {}
        for key, rate in ((key, rate) for (owner, key), rate in terms.rates.items() if owner == plan_id):
            rule = rules.get(key)
            if rule is None or rule.beneficiary == "trader":
                problems[f"rates.{plan_id}.{key}"] = N_("The plan has no such rule for IBs.")
            elif problem := rate_problem(rule, rate):
                problems[f"rates.{plan_id}.{key}"] = problem
    return problems


def _problems_of_cascade(session: Session, breaches: list[cascade.Breach]) -> dict[str, str]:
    """The breaches that their plan refuses."""
    refusing = set(
        session.scalars(select(Plan.id).where(Plan.id.in_({one.plan_id for one in breaches}), Plan.cascade_guard == "refuse"))
    )
    above = N_("This is more than the IB above has.")
    return {f"rates.{one.plan_id}.{one.rule}": above for one in breaches if one.plan_id in refusing}


def _places(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 99


def _write(row: IBTerms | IBTermsProposal, terms: PersonalTerms) -> None:
    rates: dict[str, dict[str, str]] = defaultdict(dict)
    for (plan_id, key), rate in sorted(terms.rates.items()):
        rates[str(plan_id)][key] = f"{rate:f}"
    row.multiplier, row.hand_on_percent, row.rates = terms.multiplier, terms.hand_on_percent, dict(rates)


def _shown(row: IBTerms | IBTermsProposal) -> dict[str, object]:
    """The values as the audit keeps them."""
    return {
        "ib_id": row.ib_id,
        "multiplier": None if row.multiplier is None else f"{row.multiplier:f}",
        "hand_on_percent": None if row.hand_on_percent is None else f"{row.hand_on_percent:f}",
        "rates": row.rates,
        "valid_from": row.valid_from.isoformat() if row.valid_from else None,
    }


def _open(session: Session, proposal_id: int) -> IBTermsProposal:
    proposal = session.get(IBTermsProposal, proposal_id, with_for_update=True, populate_existing=True)
    if proposal is None:
        raise NotFound
    four_eyes.require_open(proposal)
    return proposal


def _decide(unit: UnitOfWork, proposal: IBTermsProposal, status: str, verb: str, reason: str = "") -> None:
    proposal.status, proposal.decided_by, proposal.decided_at = status, str(unit.actor), now()
    proposal.decision_reason = reason
    unit.session.flush()
    unit.audit(
        f"ib_terms.{verb}",
        f"ib_terms_proposal:{proposal.id}",
        before={"status": "proposed"},
        after={"status": status, "terms_id": proposal.terms_id},
        reason=reason,
    )
    unit.emit(f"ib_terms.{status}", subject_id=proposal.id, ib_id=proposal.ib_id)
