"""Rates that an IB gives to the IBs right below it, out of its own: without four eyes, from the next day (UTC) on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions import cascade
from app.commissions.agreements import begin_terms, present_terms, rate_problem
from app.commissions.engine import Upline
from app.commissions.errors import TermsTooEarly
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.snapshots import PlanBook
from app.core.actor import Actor
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.commissions import Plan
from app.models.ib_terms import IBTerms
from app.models.partners import IBParent


@dataclass(frozen=True)
class Offer:
    """A rate that may be given to a sub-IB: its plan and rule, what it has at a moment, and the most it may get then.

    `coming` is the same when the next change counts: what the sub-IB will have, from `coming_from` on, is not yet `present`
    where a change was made that begins later. None of both where the rate will not be the upline's to give any more.
    """

    sub_ib_id: int
    plan_id: int
    plan: str
    rule: Rule
    present: Decimal
    most: Decimal
    coming: Offer | None = None
    coming_from: datetime | None = None


@dataclass(frozen=True)
class Given:
    """That a sub-IB has a rate from a moment on."""

    terms_id: int
    sub_ib_id: int
    rule_key: str
    rate: Decimal
    valid_from: datetime


def has_below(session: Session, upline_ib: int, at: datetime) -> bool:
    """Whether any IB stands right below this one."""
    below = select(IBParent.id).where(IBParent.parent_id == upline_ib, cascade.holds(IBParent, at))
    return session.scalar(select(below.exists())) or False


def offers(session: Session, upline_ib: int, at: datetime) -> list[Offer]:
    """All rates that an IB may give to the IBs right below it. Of a rule whose levels each have a rate (override) the IB above
    gets the difference, so it may give away up to its own; other rules are the house's to give, and are not here.
    """
    below = session.scalars(
        select(IBParent.ib_id).where(IBParent.parent_id == upline_ib, cascade.holds(IBParent, at)).order_by(IBParent.ib_id)
    ).all()
    return [offer for sub in below for offer in _with_coming(session, upline_ib, sub, at)]


def offer_rate(
    session: Session, upline_ib: int, sub_ib: int, rule_key: str, rate: Decimal, at: datetime, actor: Actor
) -> Given:
    """Give an IB right below another one a rate of its own, from the next day (UTC) on; a second one on the same day begins
    right after the first. Needs no four eyes: it is paid out of the upline's own rate.

    `rate` is per lot or in percent, as the rule's. Raises NotFound when `sub_ib` is not right below `upline_ib`,
    InvalidInput for a rule that is not to be given or a rate above the upline's own or below that of an IB under the sub-IB,
    TermsTooEarly when staff set terms that begin later. Emits ib_terms.begun on the sub-IB's timeline; staff see it in the
    history of its terms, and in the audit.
    """
    with unit_of_work(session, actor) as unit:
        begin = _next_begin(session, sub_ib, at)
        mine = {offer.rule.key: offer for offer in _of(session, upline_ib, sub_ib, begin)}
        offer = mine.get(rule_key)
        if offer is None:
            raise InvalidInput({"rule": N_("This rate is not yours to give.")})
        before = present_terms(session, sub_ib, begin)
        terms = replace(before, rates={**before.rates, (offer.plan_id, rule_key): rate})
        problem = rate_problem(offer.rule, rate)
        if problem is None and rate > offer.most:
            problem = N_("This is more than you have yourself.")
        for breach in cascade.breaches_of_terms(session, sub_ib, terms, begin) if problem is None else ():
            if breach.rule == rule_key:
                own = N_("With its multiplier this is more than you have yourself.")
                problem = own if breach.lower_id == sub_ib else N_("An IB below has more than this already.")
        if problem is not None:
            raise InvalidInput({"rate": problem})
        row = begin_terms(unit, sub_ib, terms, begin, f"given by IB {upline_ib}")
        return Given(row.id, sub_ib, rule_key, rate, begin)


def _with_coming(session: Session, upline_ib: int, sub_ib: int, at: datetime) -> list[Offer]:
    """What one IB may give to another one right below it, with what will be when a change of today begins to count."""
    begin = max(_tomorrow(at), _last_begin(session, sub_ib) or at)
    try:
        later = {(offer.plan_id, offer.rule.key): offer for offer in _of(session, upline_ib, sub_ib, begin)}
    except NotFound:  # it will stand elsewhere
        later = {}
    found = _of(session, upline_ib, sub_ib, at)
    coming = [later.get((offer.plan_id, offer.rule.key)) for offer in found]
    return [replace(offer, coming=then, coming_from=begin if then else None) for offer, then in zip(found, coming, strict=True)]


def _of(session: Session, upline_ib: int, sub_ib: int, at: datetime) -> list[Offer]:
    """What one IB may give to another one right below it; none where it does not stand there, or has no such rules."""
    book = PlanBook(session, (), ibs=[sub_ib])
    upline = book.levels(book.chain(sub_ib, at), at)
    plan = book.plan(upline, at)
    if len(upline) < 2 or upline[1].ib_id != upline_ib:
        raise NotFound
    if plan is None or plan.is_broken:
        return []
    name = session.scalar(select(Plan.name).where(Plan.id == plan.plan_id)) or ""
    found = []
    for rule in plan.rules:
        if rule.mode == "override" and rule.beneficiary == "ibs":
            present = _rate(rule, plan, upline[0], above=False)
            found.append(Offer(sub_ib, plan.plan_id, name, rule, present, _rate(rule, plan, upline[1], above=True)))
    return found


def _rate(rule: Rule, plan: PlanSnapshot, one: Upline, *, above: bool) -> Decimal:
    """An IB's own rate without its multiplier: the difference is taken before that."""
    terms = replace(one.terms, multiplier=None) if one.terms else None
    return cascade.own_rate(rule, plan.plan_id, terms, above=above)


def _next_begin(session: Session, sub_ib: int, at: datetime) -> datetime:
    """The beginning of the next day, or right after what begins then already."""
    midnight, last = _tomorrow(at), _last_begin(session, sub_ib)
    if last is None or last < midnight:
        return midnight
    if last >= midnight + timedelta(hours=1):
        raise TermsTooEarly
    return last + timedelta(seconds=1)


def _tomorrow(at: datetime) -> datetime:
    """The beginning of the next day (UTC)."""
    return datetime.combine(at.astimezone(UTC).date() + timedelta(days=1), time(), UTC)


def _last_begin(session: Session, ib_id: int) -> datetime | None:
    return session.scalar(select(func.max(IBTerms.valid_from)).where(IBTerms.ib_id == ib_id))
