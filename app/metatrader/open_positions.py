"""The set of open positions at a server and ours beside it: ghosts go, missing ones come.

Positions open and close while we look, so nothing is believed at first sight: whatever differs is asked for once more, and
what was reported in the meantime wins.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.arrays import in_parts
from app.core.uow import unit_of_work
from app.metatrader import booking
from app.metatrader.backfill import BackfillSource, Witness
from app.metatrader.errors import NotKnown
from app.metatrader.platform import Position as Reported
from app.metatrader.servertime import ServerZone
from app.models.metatrader import Position

log = logging.getLogger("lotwise.metatrader")

POSITIONS_PER_UNIT = 500
#: More ghosts than this come from something else than lost events; people decide.
MOST_GHOSTS = 100
#: So many logins are asked for one by one. Where more is missing, such as at first, the next sweep puts right what closed
#: just now.
MOST_ASKED = 100


@dataclass
class Replaced:
    """What was done: ghosts removed, missing ones added. What is left to people: by ticket the login."""

    removed: int = 0
    added: int = 0
    ghosts_left: dict[int, int] = field(default_factory=dict)
    missing_left: dict[int, int] = field(default_factory=dict)


def replace_positions(
    session: Session, witness: Witness, source: BackfillSource, server_id: int, zone: ServerZone, *, actor: Actor
) -> Replaced:
    """Make our open positions those that the server has. Left are ghosts in numbers that no deals of ours have closed, and
    positions there that our deals say are closed.
    """
    there = {position.ticket: position for position in source.positions()}
    here = _ours(session, server_id)
    replaced = Replaced()
    confirmed = _confirmed(witness, [position for ticket, position in there.items() if ticket not in here])
    changed = [one for ticket, one in there.items() if ticket in here and one.update_ms > here[ticket][1]]
    for part in in_parts([*changed, *confirmed], POSITIONS_PER_UNIT):
        with unit_of_work(session, actor):
            booking.lock_server(session, server_id)
            # What was closed since we looked stays closed: of those we had, only those we still have are brought up to date.
            still = _ours(session, server_id, [one.ticket for one in part])
            wanted = [one for one in part if one.ticket in still or one.ticket not in here]
            booking.book_positions(session, server_id, [(one, False, zone.to_utc(one.created_ms).utc) for one in wanted])
            added = _ours(session, server_id, [one.ticket for one in wanted if one.ticket not in still])
            replaced.added += len(added)
            replaced.missing_left |= {one.ticket: one.login for one in wanted if one.ticket not in still | added}
    ghosts = {ticket: login for ticket, (login, _, _) in here.items() if ticket not in there}
    with unit_of_work(session, actor):
        booking.lock_server(session, server_id)
        # After minutes without events there are thousands, and the deals that closed them are booked by now.
        closed = booking.remove_closed(session, server_id, {ticket: here[ticket][2] for ticket in ghosts})
    replaced.removed = len(closed)
    ghosts = {ticket: login for ticket, login in ghosts.items() if ticket not in closed}
    if len(ghosts) > MOST_GHOSTS:
        log.error("positions vanished in numbers; left to people server=%s positions=%s", server_id, len(ghosts))
        replaced.ghosts_left = ghosts
    elif ghosts:
        replaced.removed += remove_ghosts(session, witness, server_id, ghosts, actor=actor)
    return replaced


def remove_ghosts(session: Session, witness: Witness, server_id: int, ghosts: dict[int, int], *, actor: Actor) -> int:
    """Remove those of these positions (by ticket the login) that the server, asked for each login, does not have."""
    open_there: set[int] = set()
    for login in set(ghosts.values()):
        open_there.update(one.ticket for one in positions_of(witness, login))
    gone = [ticket for ticket in ghosts if ticket not in open_there]
    if not gone:
        return 0
    with unit_of_work(session, actor):
        booking.lock_server(session, server_id)
        statement = delete(Position).where(Position.server_id == server_id, Position.ticket.in_(gone)).returning(Position.id)
        return len(session.scalars(statement).all())


def has_position(session: Session, server_id: int, ticket: int) -> bool:
    found = bool(_ours(session, server_id, [ticket]))
    session.rollback()
    return found


def positions_of(witness: Witness, login: int) -> list[Reported]:
    """A login's open positions; none of one that the server does not have."""
    try:
        return witness.positions(login)
    except NotKnown:
        return []


def _confirmed(witness: Witness, missing: list[Reported]) -> list[Reported]:
    """Those of these positions that are still open, as they stand now."""
    logins = {one.login for one in missing}
    if len(logins) > MOST_ASKED:
        return missing
    wanted = {one.ticket for one in missing}
    return [one for login in sorted(logins) for one in positions_of(witness, login) if one.ticket in wanted]


def _ours(session: Session, server_id: int, tickets: Collection[int] | None = None) -> dict[int, tuple[int, int, datetime]]:
    """By ticket: login, moment of the last report, and when it was opened, of all or of these."""
    columns = (Position.ticket, Position.login, Position.update_ms, Position.opened_at)
    query = select(*columns).where(Position.server_id == server_id)
    if tickets is not None:
        query = query.where(Position.ticket.in_(tickets))
    found = {row.ticket: (row.login, row.update_ms, row.opened_at) for row in session.execute(query)}
    if tickets is None:
        session.rollback()
    return found
