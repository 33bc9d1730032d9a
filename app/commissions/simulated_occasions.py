"""Clients who were won and months in a simulation: what they were paid, and what they would be by proposed rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions.conditions import MAX_DAYS
from app.commissions.due import Due, rules_on
from app.commissions.paid_months import ibs_with_plans, month_ends, months
from app.commissions.plans import PlanSnapshot
from app.commissions.reasons import Reason
from app.commissions.recompute import Scope
from app.commissions.snapshots import DayRates, PlanBook
from app.commissions.won_clients import Paid, stories, won
from app.core.arrays import any_of, in_parts
from app.models.clients import Client
from app.models.commissions import Accrual
from app.models.occasions import Occasion, OccasionTakenBack
from app.models.partners import Attribution

#: Clients looked at together.
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Given:
    """What one occasion gave one IB; `of_ib_id` is the IB whose client or month it was. `amount` is None without a rate."""

    of_ib_id: int
    ib_id: int
    amount: Decimal | None
    currency: str
    at: datetime


def occasions_paid(session: Session, scope: Scope) -> Iterator[Given]:
    """What the scope's plan paid for clients and months of the period, what was taken back included."""
    rows = session.execute(
        select(Occasion.ib_id, Accrual.ib_id, Accrual.amount, Accrual.currency, Occasion.happened_at)
        .join(Accrual, Accrual.occasion_id == Occasion.id)
        .where(Occasion.plan_id == scope.plan_id, Occasion.happened_at >= scope.since, Occasion.happened_at < scope.until)
    )
    for of_ib_id, ib_id, amount, currency, at in rows:
        yield Given(of_ib_id, ib_id or 0, amount, currency, at)


def occasions_due(session: Session, scope: Scope, proposed: PlanSnapshot) -> Iterator[Given]:
    """What proposed rules would have paid for clients who were won in the period and for months that ended in it."""
    for due in _clients(session, scope, proposed):
        yield from _given(due, scope, proposed)
    for end in month_ends(scope.since, scope.until) if rules_on(proposed, "month") else ():
        for due in months(session, end, ibs_with_plans(session, end), proposed):
            yield from _given(due, scope, proposed)


def _clients(session: Session, scope: Scope, proposed: PlanSnapshot) -> Iterator[Due]:
    """Whoever could be won in the period; those whom another plan won first belong to it."""
    if not rules_on(proposed, "client"):
        return
    registered = (Client.created_at >= scope.since - timedelta(days=MAX_DAYS), Client.created_at < scope.until)
    rates = DayRates(session)
    for ids in in_parts(
        session.scalars(select(Client.id).where(*registered, Client.id.in_(select(Attribution.client_id)))).all(), CHUNK
    ):
        book, paid = PlanBook(session, ids, proposed=proposed), _paid_by_others(session, ids, proposed.plan_id)
        for story in stories(session, session.scalars(select(Client).where(Client.id == any_of(ids))).all()):
            yield from won(story, book, rates, paid.get(story.client_id, {}))


def _paid_by_others(session: Session, ids: list[int], plan_id: int) -> dict[int, Paid]:
    rows = session.execute(
        select(Occasion.client_id, Occasion.plan_id, Occasion.rule, Occasion.happened_at)
        .outerjoin(OccasionTakenBack, OccasionTakenBack.occasion_id == Occasion.id)
        .where(Occasion.client_id == any_of(ids), Occasion.plan_id != plan_id, OccasionTakenBack.occasion_id.is_(None))
    )
    found: dict[int, dict[int, tuple[frozenset[str], datetime]]] = defaultdict(dict)
    for client_id, other_id, rule, at in rows:
        found[client_id or 0][other_id] = (frozenset({rule}), at)
    return dict(found)


def _given(due: Due, scope: Scope, proposed: PlanSnapshot) -> Iterator[Given]:
    if due.plan is not proposed or not scope.since <= due.at < scope.until:
        return
    if isinstance(due.lines, Reason):
        yield Given(due.ib_id, due.ib_id, None, due.rule.currency, due.at)
        return
    for made in due.lines:
        if made.ib_id is not None:
            yield Given(due.ib_id, made.ib_id, made.amount, made.currency, due.at)
