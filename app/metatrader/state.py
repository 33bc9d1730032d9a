"""What we last heard of each server: the few writers of mt_server_state, which the operations page reads.

All are small upserts that join the caller's unit of work. None takes a moment back: what is older than the row is ignored.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.clock import now
from app.metatrader.events import ControlEvent
from app.metatrader.fields import OFFSET_MAX, OFFSET_MIN
from app.models.metatrader import ServerState

#: The column in which each signal of a source leaves its moment.
_SIGNALS = {"connected": "connected_at", "disconnected": "disconnected_at"}
_OFFSET = re.compile(r"-?[0-9]{1,3}")
ERROR_LIMIT = 500
#: How long an ordered sweep may take to begin before it is ordered again.
ORDERED_FOR = timedelta(seconds=5)


def note_control(session: Session, server_id: int, event: ControlEvent) -> None:
    """A signal of the server's event source, each of which is also a sign of life. A bridge's heartbeat tells of the server's
    clock, too.
    """
    moments: dict[str, Any] = {"heartbeat_at": event.received_at}
    column = _SIGNALS.get(event.change)
    if column is not None:
        moments[column] = event.received_at
    _note(session, server_id, newest=moments)
    offset_min = event.notes.get("clock_offset_min", "") if event.change == "heartbeat" else ""
    if _OFFSET.fullmatch(offset_min) and OFFSET_MIN <= int(offset_min) <= OFFSET_MAX:
        note_clock(session, server_id, int(offset_min))


def note_gap(session: Session, server_id: int, count: int = 1) -> bool:
    """Events of the server were lost on their way, or may have been: none, when its source came back. A sweep that begins
    from now on is due. Returns whether it has to be ordered: not when one was a moment ago, and has not begun yet.
    """
    before = session.execute(
        select(ServerState.gap_at, ServerState.swept_at).where(ServerState.server_id == server_id)
    ).one_or_none()
    moment = now()
    _note(session, server_id, newest={"gap_at": moment}, added={"gaps": count})
    if before is None or before.gap_at is None:
        return True
    return before.gap_at < moment - ORDERED_FOR or (before.swept_at is not None and before.swept_at > before.gap_at)


def note_booked(session: Session, server_id: int, event_at: datetime) -> None:
    """Events that happened up to this moment were booked just now."""
    _note(session, server_id, newest={"event_at": event_at, "booked_at": now()})


def note_swept(session: Session, server_id: int, began_at: datetime, through: datetime, new: int) -> None:
    """A sweep that began then has booked all deals done up to `through`, `new` of them unknown before. Clears the error."""
    _note(
        session,
        server_id,
        newest={"swept_at": began_at, "swept_through": through},
        plain={"swept_new": new, "error": "", "error_at": None},
    )


def note_error(session: Session, server_id: int, text: str) -> None:
    """The last call to the server failed, for a reason that staff may read; an empty text says that it did not."""
    _note(session, server_id, plain={"error": text[:ERROR_LIMIT], "error_at": now() if text else None})


def note_clock(session: Session, server_id: int, offset_min: int) -> None:
    """How many minutes the server's clock is ahead of UTC now."""
    _note(session, server_id, newest={"clock_seen_at": now()}, plain={"clock_offset_min": offset_min})


def _note(
    session: Session,
    server_id: int,
    *,
    newest: dict[str, Any] | None = None,
    added: dict[str, int] | None = None,
    plain: dict[str, Any] | None = None,
) -> None:
    """Upsert the server's row: `newest` only move forward, `added` add up, `plain` are set."""
    newest, added, plain = newest or {}, added or {}, plain or {}
    statement = insert(ServerState).values(server_id=server_id, **newest, **added, **plain)
    mine, told = ServerState.__table__.c, statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["server_id"],
            set_={
                **{name: func.greatest(mine[name], told[name]) for name in newest},
                **{name: mine[name] + told[name] for name in added},
                **{name: told[name] for name in plain},
            },
        )
    )
