"""Commission that no deal causes: for a client who was won, and for a month. Each is paid once, with what made it come true.

What it rests on may go: deals are deleted at the server, or corrected, deposits are charged back. Then it is taken back, whole,
by the reverse of its lines; where the conditions come true again, it is paid again. What cannot be worked out yet waits where
staff see it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.commissions.accrual import ACCRUE, REVERSE, opposite, tell
from app.commissions.components import COMPONENTS
from app.commissions.conditions import MAX_DAYS
from app.commissions.due import Due, Kind
from app.commissions.overrides import given_clients
from app.commissions.paid_months import active_clients, ibs_with_plans, month_ends, months, name_of
from app.commissions.reasons import Reason
from app.commissions.snapshots import DayRates, PlanBook
from app.commissions.units import Line, lock_shard, write_unit
from app.commissions.unmade import conditions_paid, unmade_client, unmade_month
from app.commissions.won_clients import IS_GONE, Paid, stories, won
from app.core.actor import Actor
from app.core.arrays import any_of, in_parts
from app.core.uow import UnitOfWork, unit_of_work
from app.models.clients import Client
from app.models.commissions import Accrual, PlanVersion
from app.models.occasions import Occasion, OccasionProgress, OccasionTakenBack, OccasionWait
from app.models.partners import Attribution
from app.models.payments import Deposit

#: Clients, or IBs, looked at in one transaction.
CHUNK = 500
#: Months that are looked at again after their end: what comes late may still make or break them.
MONTHS_BACK = 3
#: Clients are looked at again for so long after their days are over.
_LATE = timedelta(days=31)
#: Deals booked so lately may still be joined by one with a lower id.
_SETTLING = timedelta(minutes=10)

_ACTOR = Actor.system("commissions")

_LAST_DEAL = text("SELECT id FROM deal WHERE booked_at < :at ORDER BY id DESC LIMIT 1")

#: Clients whose days are long over, and of whose days deals were booked, changed or deleted since.
_NEWS = text(
    """
    SELECT DISTINCT t.client_id FROM deal d
    JOIN trading_account t ON t.id = d.trading_account_id
    JOIN client c ON c.id = t.client_id
    WHERE d.id > :after AND d.id <= :last AND d.entry IN (1, 2, 3) AND c.created_at <= :since
      AND d.done_at <= c.created_at + CAST(:days AS interval)
    """
)

#: Clients who were won by a deposit that is gone, and are not taken back yet.
_LOST = (
    select(Occasion.client_id)
    .join(Deposit, Deposit.id == Occasion.facts["deposit_id"].astext.cast(BigInteger))
    .outerjoin(OccasionTakenBack, OccasionTakenBack.occasion_id == Occasion.id)
    .where(Occasion.kind == "client", OccasionTakenBack.occasion_id.is_(None), IS_GONE)
)


def accrue_occasions(session: Session, at: datetime) -> int:
    """Pay all clients won and months ended until `at` that were not paid yet, and take back what does not hold any more;
    returns how many occasions were paid or taken back.

    Harmless to repeat, also at the same time. Call it outside a unit of work. After a standstill of any length it makes up
    for everything.
    """
    before = session.scalar(select(OccasionProgress))
    looked_at, deal_id = (before.looked_at, before.deal_id) if before else (None, 0)
    last = session.scalar(_LAST_DEAL, {"at": at - _SETTLING}) or 0
    clients = _clients_to_look_at(session, looked_at, deal_id, last)
    session.rollback()
    written = 0
    for chunk in in_parts(clients, CHUNK):
        with unit_of_work(session, _ACTOR) as unit:
            lock_shard(session, 0, 0)
            written += _look_at_clients(unit, chunk)
    for end in month_ends(_months_since(looked_at or at), at) if _has_rules(session, "month") else ():
        ibs = ibs_with_plans(session, end)
        session.rollback()
        for chunk in in_parts(ibs, CHUNK):
            with unit_of_work(session, _ACTOR) as unit:
                lock_shard(session, 0, 0)
                written += _look_at_month(unit, end, chunk)
    with unit_of_work(session, _ACTOR):
        moved = insert(OccasionProgress).values(id=1, looked_at=at, deal_id=last)
        greatest = {
            "looked_at": func.greatest(OccasionProgress.looked_at, moved.excluded.looked_at),
            "deal_id": func.greatest(OccasionProgress.deal_id, moved.excluded.deal_id),
        }
        session.execute(moved.on_conflict_do_update(index_elements=["id"], set_=greatest))
    return written


# ── What is looked at ───────────────────────────────────────────────────────────────────────────────────────────────────


def _clients_to_look_at(session: Session, looked_at: datetime | None, deal_id: int, last: int) -> list[int]:
    """Clients of IBs whose days may not have been over when all were looked at last, those who wait, those with news of
    their days, and those whose deposit is gone.
    """
    if not _has_rules(session, "client"):
        return []
    given = given_clients(session)
    query = select(Client.id).where(or_(Client.id.in_(select(Attribution.client_id)), Client.id == any_of(given)))
    days = timedelta(days=MAX_DAYS)
    if looked_at is not None:
        since = looked_at - days - _LATE
        news = session.scalars(_NEWS, {"after": deal_id, "last": last, "since": since, "days": days}).all()
        waiting = select(OccasionWait.client_id).where(OccasionWait.kind == "client")
        query = query.where(
            or_(Client.created_at > since, Client.id.in_(waiting), Client.id.in_(_LOST), Client.id == any_of(news))
        )
    return list(session.scalars(query.order_by(Client.id)))


def _months_since(moment: datetime) -> datetime:
    """The beginning of the month so many months before."""
    first = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(MONTHS_BACK):
        first = (first - timedelta(days=1)).replace(day=1)
    return first


def _has_rules(session: Session, kind: Kind) -> bool:
    """Whether a version of any plan has a rule for such occasions."""
    names = [name for name, one in COMPONENTS.items() if one.on == kind]
    wanted = or_(*(PlanVersion.rules.contains([{"component": name}]) for name in names))
    return session.scalar(select(PlanVersion.id).where(wanted).limit(1)) is not None


def _look_at_clients(unit: UnitOfWork, ids: Sequence[int]) -> int:
    session = unit.session
    clients = session.scalars(select(Client).where(Client.id == any_of(ids)).order_by(Client.id)).all()
    stood = _standing(session, Occasion.client_id == any_of(ids))
    book, rates = PlanBook(session, ids), DayRates(session)
    told = {story.client_id: story for story in stories(session, clients)}
    conditions = conditions_paid(session, stood)
    gone = [
        _Gone(one, facts)
        for one in stood
        if one.id in conditions
        and (facts := unmade_client(one, conditions[one.id], told[one.client_id or 0], rates)) is not None
    ]
    lines = _take_back(unit, gone)
    paid = _paid(one for one in stood if one.id not in {each.occasion.id for each in gone})
    due = [one for story in told.values() for one in won(story, book, rates, paid.get(story.client_id, {}))]
    session.execute(delete(OccasionWait).where(OccasionWait.client_id == any_of(ids)))
    return _pay(unit, due, lines) + len(gone)


def _look_at_month(unit: UnitOfWork, end: datetime, ibs: Sequence[int]) -> int:
    session, month = unit.session, name_of(end)
    stood = _standing(session, Occasion.month == month, Occasion.ib_id == any_of(ibs))
    conditions = conditions_paid(session, stood)
    active = active_clients(session, [one.ib_id for one in stood], end)
    gone = [
        _Gone(one, facts)
        for one in stood
        if one.id in conditions and (facts := unmade_month(conditions[one.id], active.get(one.ib_id, 0))) is not None
    ]
    lines = _take_back(unit, gone)
    kept = [one for one in stood if one.id not in {each.occasion.id for each in gone}]
    had: dict[int, set[tuple[int, str]]] = defaultdict(set)
    for one in kept:
        had[one.ib_id].add((one.plan_id, one.rule))
    # Whoever was paid for a month is not paid again by another plan, or version, that should have held.
    due = [
        one
        for one in months(session, end, ibs)
        if had[one.ib_id] <= {(one.plan.plan_id, rule.key) for rule in one.plan.rules}
        and (one.plan.plan_id, one.rule.key) not in had[one.ib_id]
    ]
    session.execute(delete(OccasionWait).where(OccasionWait.month == month, OccasionWait.ib_id == any_of(ibs)))
    return _pay(unit, due, lines) + len(gone)


def _standing(session: Session, *of: Any) -> list[Occasion]:
    """What was paid and not taken back, the oldest first."""
    is_back = select(OccasionTakenBack.occasion_id).where(OccasionTakenBack.occasion_id == Occasion.id).exists()
    return list(session.scalars(select(Occasion).where(*of, ~is_back).order_by(Occasion.happened_at, Occasion.id)))


def _paid(stood: Iterable[Occasion]) -> dict[int, Paid]:
    """What each client was paid for, in the shape that `won` wants."""
    found: dict[int, dict[int, tuple[frozenset[str], datetime]]] = defaultdict(dict)
    for one in stood:
        of_client = found[one.client_id or 0]
        keys, first = of_client.get(one.plan_id, (frozenset(), one.happened_at))
        of_client[one.plan_id] = (keys | {one.rule}, first)
    return dict(found)


# ── Paying ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _pay(unit: UnitOfWork, due: Iterable[Due], lines: list[Line]) -> int:
    """Write what is due beside the reversals in `lines`; what cannot be worked out waits. Returns how many were paid."""
    session, paid = unit.session, 0
    for one in due:
        subject: dict[str, Any] = {"kind": one.kind, "plan_id": one.plan.plan_id, "rule": one.rule.key, "ib_id": one.ib_id}
        subject |= {"client_id": one.client_id, "month": one.month}
        if isinstance(one.lines, Reason):
            session.add(OccasionWait(**subject, reason=one.lines, happened_at=one.at))
            continue
        times = select(func.count()).where(*(getattr(Occasion, name) == value for name, value in _key(subject).items()))
        occasion = Occasion(**subject, happened_at=one.at, facts=one.facts, times=(session.scalar(times) or 0) + 1)
        session.add(occasion)
        session.flush()
        paid += 1
        lines += [Line(None, ACCRUE, made, occasion.id) for made in one.lines]
        unit.emit("commission.occasion", subject_id=occasion.id, ib_id=one.ib_id, rule=one.rule.key)
    session.flush()
    tell(unit, write_unit(session, None, None, lines))
    return paid


def _key(subject: dict[str, Any]) -> dict[str, Any]:
    """By what an occasion is the same one: the client, or the IB's month, with plan and rule."""
    of = ("client_id",) if subject["kind"] == "client" else ("ib_id", "month")
    return {name: subject[name] for name in ("kind", "plan_id", "rule", *of)}


# ── Taking back ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Gone:
    """An occasion that does not hold any more, and by which facts."""

    occasion: Occasion
    facts: dict[str, Any]


def _take_back(unit: UnitOfWork, gone: Collection[_Gone]) -> list[Line]:
    """Write down that these are taken back; returns the reverse of all their lines, which the caller writes."""
    session, lines = unit.session, []
    for one in gone:
        session.add(OccasionTakenBack(occasion_id=one.occasion.id, facts=one.facts))
        of_occasion = select(Accrual).where(Accrual.occasion_id == one.occasion.id).order_by(Accrual.level)
        lines += [Line(None, REVERSE, opposite(row), one.occasion.id) for row in session.scalars(of_occasion)]
        unit.emit(
            "commission.occasion_taken_back", subject_id=one.occasion.id, ib_id=one.occasion.ib_id, rule=one.occasion.rule
        )
    return lines
