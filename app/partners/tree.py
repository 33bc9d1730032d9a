"""The tree of introducing brokers: who stands above whom from when to when, and moves within it.

The database itself refuses circles and overlaps, at every moment in time; see sql/tree.sql.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.arrays import any_of
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.models.clients import Client
from app.models.partners import Attribution, IBParent, IntroducingBroker
from app.partners.errors import MoveTooEarly, NoClientsToMove, NothingToMove

#: The triggers behind all this; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "tree.sql"

#: Every parent span on a path upward, whenever it was valid: a caller asks for many moments at once.
_UPWARD = text(
    """
    WITH RECURSIVE up (ib_id, depth) AS (
        SELECT id, 1 FROM introducing_broker WHERE id = ANY(:ib_ids)
        UNION
        SELECT p.parent_id, up.depth + 1 FROM up JOIN ib_parent p ON p.ib_id = up.ib_id WHERE up.depth < :most
    )
    SELECT p.ib_id, p.parent_id, p.valid_from, p.valid_to FROM ib_parent p
    WHERE p.ib_id IN (SELECT ib_id FROM up) ORDER BY p.ib_id, p.valid_from
    """
)


@dataclass(frozen=True)
class ParentSpan:
    """That `parent_id` stands above `ib_id` from `valid_from` until before `valid_to`; None: until further notice."""

    ib_id: int
    parent_id: int
    valid_from: datetime
    valid_to: datetime | None

    def holds(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


def uplines(session: Session, ib_ids: Iterable[int], most: int = 50) -> dict[int, list[ParentSpan]]:
    """All spans by which these IBs and those above them ever stood under others, up to `most` levels, by `ib_id`."""
    wanted = sorted(set(ib_ids))
    found: dict[int, list[ParentSpan]] = defaultdict(list)
    for row in session.execute(_UPWARD, {"ib_ids": wanted, "most": most}) if wanted else ():
        found[row.ib_id].append(ParentSpan(row.ib_id, row.parent_id, row.valid_from, row.valid_to))
    return dict(found)


def upline_at(above: Mapping[int, Sequence[ParentSpan]], ib_id: int, at: datetime, most: int = 50) -> tuple[int, ...]:
    """The IB and those above it at a moment, nearest first, `most` of them at most; `above` has the spans by `ib_id`."""
    found = [ib_id]
    while len(found) < most:
        held = (span.parent_id for span in above.get(found[-1], ()) if span.holds(at))
        parent = next(held, None)
        if parent is None:
            break
        found.append(parent)
    return tuple(found)


def place_ib(session: Session, ib_id: int, parent_id: int | None, at: datetime, reason: str, actor: Actor) -> None:
    """Have an IB, and with it its whole branch, stand under another from `at` on; None: under nobody.

    `at` may lie in the past, within the present span. Raises NotFound, InvalidInput without a reason, NothingToMove,
    MoveTooEarly, CircleOfIBs or OwnDownline. Emits ib.placed.
    """
    reason = _reason(reason)
    with unit_of_work(session, actor) as unit:
        ib = session.get(IntroducingBroker, ib_id, with_for_update={"key_share": True})
        if ib is None or (parent_id is not None and session.get(IntroducingBroker, parent_id) is None):
            raise NotFound
        last = last_place(session, ib_id)
        before = last.parent_id if last and last.valid_to is None else None
        _end(session, last, before, parent_id, at)
        if parent_id is not None:
            session.add(IBParent(ib_id=ib_id, parent_id=parent_id, valid_from=at, set_by=str(actor), reason=reason))
            session.flush()
        unit.audit(
            "ib.placed",
            f"introducing_broker:{ib_id}",
            before={"parent_id": before},
            after={"parent_id": parent_id, "at": at.isoformat()},
            reason=reason,
        )
        unit.emit("ib.placed", subject_id=ib_id, client_id=ib.client_id, parent_id=parent_id, before_id=before)


def place_under_bringer(session: Session, ib_id: int, client_id: int, at: datetime, actor: Actor) -> None:
    """Have a new IB stand under the IB whose client it is at `at`; under nobody when it is nobody's."""
    bringer = session.scalar(
        select(Attribution.ib_id).where(
            Attribution.client_id == client_id,
            Attribution.valid_from <= at,
            or_(Attribution.valid_to.is_(None), Attribution.valid_to > at),
        )
    )
    if bringer is not None:
        place_ib(session, ib_id, bringer, at, "client of this IB", actor)


def move_client(
    session: Session, client_id: int, ib_id: int | None, at: datetime, reason: str, actor: Actor, *, move_id: int | None = None
) -> None:
    """Make a client another IB's from `at` on, or nobody's. Where the client stands as an IB itself is place_ib's.

    `at` may lie in the past, within the present span. Raises NotFound, InvalidInput without a reason, NothingToMove,
    MoveTooEarly or OwnDownline. Emits client.moved.
    """
    reason = _reason(reason)
    with unit_of_work(session, actor) as unit:
        client = session.get(Client, client_id, with_for_update={"key_share": True})
        if client is None or (ib_id is not None and session.get(IntroducingBroker, ib_id) is None):
            raise NotFound
        last = last_attribution(session, client_id)
        before = last.ib_id if last and last.valid_to is None else None
        _end(session, last, before, ib_id, at)
        if ib_id is not None:
            session.add(Attribution(client_id=client_id, ib_id=ib_id, source="manual", valid_from=at, move_id=move_id))
            session.flush()
        _tell_moved(unit, client_id, before, ib_id, at, reason, move_id)


def move_clients(
    session: Session, ib_id: int, target_id: int | None, at: datetime, reason: str, actor: Actor, *, move_id: int | None = None
) -> int:
    """Make all clients of an IB another IB's from `at` on, or nobody's; returns how many. Sub-IBs stay where they stand.

    Those stay who came to the IB later than `at`, or who leave it later anyway, and those whom nobody can move there: the
    other IB itself and whoever stands above it. Raises NotFound, InvalidInput without a reason, NothingToMove for the same
    IB, or NoClientsToMove. Emits one client.moved each.
    """
    reason = _reason(reason)
    with unit_of_work(session, actor) as unit:
        if any(one is not None and session.get(IntroducingBroker, one) is None for one in (ib_id, target_id)):
            raise NotFound
        if ib_id == target_id:
            raise NothingToMove
        # The clients before their spans, as whoever moves a single one does; the spans then are read as they stand by now.
        movable = moves_with(ib_id, target_id, at)
        people = lock_clients(session, select(Attribution.client_id).where(movable))
        ordered = select(Attribution).where(movable, Attribution.client_id == any_of(people)).order_by(Attribution.client_id)
        spans = session.scalars(ordered.with_for_update(key_share=True).execution_options(populate_existing=True)).all()
        if not spans:
            raise NoClientsToMove
        for span in spans:
            span.valid_to = at
        session.flush()
        for span in spans:
            if target_id is not None:
                session.add(
                    Attribution(client_id=span.client_id, ib_id=target_id, source="manual", valid_from=at, move_id=move_id)
                )
            _tell_moved(unit, span.client_id, ib_id, target_id, at, reason, move_id)
        session.flush()
        return len(spans)


def require_movable(session: Session, ib_id: int, target_id: int | None, at: datetime) -> None:
    """Raises NoClientsToMove when `move_clients` would move nobody."""
    if not session.scalar(select(select(Attribution.id).where(moves_with(ib_id, target_id, at)).exists())):
        raise NoClientsToMove


def moves_with(ib_id: int, target_id: int | None, at: datetime) -> ColumnElement[bool]:
    """Which attributions `move_clients` ends."""
    above_target = (
        select(IntroducingBroker.id)
        .where(
            IntroducingBroker.client_id == Attribution.client_id,
            func.ib_stands_below(target_id, IntroducingBroker.id, func.tstzrange(at, None)),
        )
        .exists()
    )
    open_before = and_(Attribution.ib_id == ib_id, Attribution.valid_to.is_(None), Attribution.valid_from < at)
    return open_before if target_id is None else and_(open_before, ~above_target)


def lock_clients(session: Session, wanted: Select[int]) -> list[int]:
    """Have nobody else move these clients until this is through; returns their numbers, in which order they are locked."""
    query = select(Client.id).where(Client.id.in_(wanted)).order_by(Client.id)
    return list(session.scalars(query.with_for_update(key_share=True)))


def last_attribution(session: Session, client_id: int) -> Attribution | None:
    """The last span of a client, which may have ended, or begin in the future."""
    spans = select(Attribution).where(Attribution.client_id == client_id)
    return session.scalar(spans.order_by(Attribution.valid_from.desc()).limit(1))


def last_place(session: Session, ib_id: int) -> IBParent | None:
    """The last span of an IB under another, which may have ended, or begin in the future."""
    return session.scalar(select(IBParent).where(IBParent.ib_id == ib_id).order_by(IBParent.valid_from.desc()).limit(1))


def _tell_moved(
    unit: UnitOfWork, client_id: int, before: int | None, ib_id: int | None, at: datetime, reason: str, move_id: int | None
) -> None:
    unit.audit(
        "client.moved",
        f"client:{client_id}",
        before={"ib_id": before},
        after={"ib_id": ib_id, "at": at.isoformat(), "move_id": move_id},
        reason=reason,
    )
    unit.emit("client.moved", subject_id=client_id, client_id=client_id, ib_id=ib_id, before_id=before)


def _end(session: Session, last: IBParent | Attribution | None, before: int | None, wanted: int | None, at: datetime) -> None:
    """End the last span where the next one begins; one that has ended stays as it is."""
    if before == wanted:
        raise NothingToMove
    if last is not None and last.valid_to is None:
        if at <= last.valid_from:
            raise MoveTooEarly
        last.valid_to = at
        session.flush()
    elif last is not None and last.valid_to is not None and at < last.valid_to:
        raise MoveTooEarly


def _reason(reason: str) -> str:
    said = " ".join(reason.split())
    if not said:
        raise InvalidInput({"reason": N_("Please give a reason.")})
    return said
