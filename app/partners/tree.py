"""The tree of introducing brokers: who stands above whom from when to when, and moves within it.

The database itself refuses circles and overlaps, at every moment in time; see sql/tree.sql.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import bindparam, or_, select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.partners import Attribution, IBParent, IntroducingBroker
from app.partners.errors import MoveTooEarly, NothingToMove

#: The triggers behind all this; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "tree.sql"

#: Every parent span on a path upward, whenever it was valid: a caller asks for many moments at once.
_UPWARD = text(
    """
    WITH RECURSIVE up (ib_id, depth) AS (
        SELECT id, 1 FROM introducing_broker WHERE id IN :ib_ids
        UNION
        SELECT p.parent_id, up.depth + 1 FROM up JOIN ib_parent p ON p.ib_id = up.ib_id WHERE up.depth < :most
    )
    SELECT p.ib_id, p.parent_id, p.valid_from, p.valid_to FROM ib_parent p
    WHERE p.ib_id IN (SELECT ib_id FROM up) ORDER BY p.ib_id, p.valid_from
    """
).bindparams(bindparam("ib_ids", expanding=True))


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
        last = session.scalar(select(IBParent).where(IBParent.ib_id == ib_id).order_by(IBParent.valid_from.desc()).limit(1))
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


def move_client(session: Session, client_id: int, ib_id: int | None, at: datetime, reason: str, actor: Actor) -> None:
    """Make a client another IB's from `at` on, or nobody's. Where the client stands as an IB itself is place_ib's.

    `at` may lie in the past, within the present span. Raises NotFound, InvalidInput without a reason, NothingToMove,
    MoveTooEarly or OwnDownline. Emits client.moved.
    """
    reason = _reason(reason)
    with unit_of_work(session, actor) as unit:
        client = session.get(Client, client_id, with_for_update={"key_share": True})
        if client is None or (ib_id is not None and session.get(IntroducingBroker, ib_id) is None):
            raise NotFound
        last = session.scalar(
            select(Attribution).where(Attribution.client_id == client_id).order_by(Attribution.valid_from.desc()).limit(1)
        )
        before = last.ib_id if last and last.valid_to is None else None
        _end(session, last, before, ib_id, at)
        if ib_id is not None:
            session.add(Attribution(client_id=client_id, ib_id=ib_id, source="manual", valid_from=at))
            session.flush()
        unit.audit(
            "client.moved",
            f"client:{client_id}",
            before={"ib_id": before},
            after={"ib_id": ib_id, "at": at.isoformat()},
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
