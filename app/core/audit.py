"""The audit trail's hash chain: a trailing job seals what is committed, one command proves that nothing was altered."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.tables import AuditSeal
from app.core.uow import unit_of_work

LIMIT = 5_000

#: Always to be ordered by the table's xact, which is a number, not by the text of that name.
_ENTRIES = (
    "SELECT id, xact::text AS xact, at, actor, address, action, target, reason, before, after FROM audit_entry"
    " WHERE (xact, id) > (CAST(:xact AS xid8), :id)"
)
_SETTLED = " AND xact < pg_snapshot_xmin(pg_current_snapshot())"
_IN_ORDER = " ORDER BY audit_entry.xact, audit_entry.id"


def _digest(previous: bytes, rows: list) -> bytes:  # type: ignore[type-arg]  # rows are SQLAlchemy Rows
    chain = hashlib.sha256(previous)
    for row in rows:
        fields = [
            row.id,
            row.xact,
            row.at.astimezone(UTC).isoformat(),  # whatever time zone the server shows it in
            row.actor,
            row.address,
            row.action,
            row.target,
            row.reason,
            row.before,
            row.after,
        ]
        chain.update(json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())
    return chain.digest()


def seal(session: Session) -> int:
    """Hash the committed entries behind the last seal into a new one. Returns how many entries it covers."""
    with unit_of_work(session, Actor.system("seal_audit")):
        session.execute(text("SELECT pg_advisory_xact_lock(720102)"))
        last = session.execute(
            text("SELECT through_xact::text AS xact, through_id, hash FROM audit_seal ORDER BY id DESC LIMIT 1")
        ).first()
        rows = session.execute(
            text(_ENTRIES + _SETTLED + _IN_ORDER + " LIMIT :limit"),
            {"xact": last.xact if last else "0", "id": last.through_id if last else 0, "limit": LIMIT},
        ).all()
        if not rows:
            return 0
        session.add(
            AuditSeal(
                through_xact=rows[-1].xact,
                through_id=rows[-1].id,
                entries=len(rows),
                hash=_digest(last.hash if last else b"", list(rows)),
            )
        )
    return len(rows)


def broken_seals(session: Session) -> list[int]:
    """The ids of seals whose entries no longer hash to what was sealed; empty when the trail is whole."""
    broken = []
    xact, entry_id, previous = "0", 0, b""
    for sealed in session.execute(
        text("SELECT id, through_xact::text AS xact, through_id, hash, entries FROM audit_seal ORDER BY id")
    ).all():
        rows = session.execute(
            text(_ENTRIES + " AND (xact, id) <= (CAST(:to_xact AS xid8), :to_id)" + _IN_ORDER),
            {"xact": xact, "id": entry_id, "to_xact": sealed.xact, "to_id": sealed.through_id},
        ).all()
        if _digest(previous, list(rows)) != sealed.hash or len(rows) != sealed.entries:
            broken.append(sealed.id)
        xact, entry_id, previous = sealed.xact, sealed.through_id, sealed.hash
    return broken
