"""Stream entries that cannot be booked: kept with the reason, where staff see them, book them again or dismiss them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.metatrader import batches
from app.metatrader.events import MalformedEvent
from app.metatrader.stream import Entry
from app.models.metatrader import DeadLetter, Server

log = logging.getLogger("lotwise.ingest")

#: The reason of the one letter per login that nobody owns.
UNKNOWN_LOGIN = "unknown login"
REASON_LIMIT = 300


class AlreadyDecided(Conflict):
    code = "dead_letters.already_decided"
    message = N_("This entry was booked or dismissed in the meantime. Nothing was changed.")


class StillUnbookable(InvalidInput):
    code = "dead_letters.still_unbookable"
    message = N_("This entry still cannot be booked: %(reason)s. It stays here.")


def park(unit: UnitOfWork, entry: Entry, reason: str, server_id: int | None = None) -> None:
    """Keep an entry that cannot be booked, with the reason. Parking twice keeps one row."""
    unit.session.execute(
        insert(DeadLetter)
        .values(
            stream=entry.stream, entry_id=entry.id, server_id=server_id, fields=legible(entry), reason=reason[:REASON_LIMIT]
        )
        .on_conflict_do_nothing()
    )
    log.warning("parked stream=%s entry=%s reason=%s", entry.stream, entry.id, reason[:120])


def note_unknown_logins(unit: UnitOfWork, server_id: int, entries: Mapping[int, Entry]) -> None:
    """Tell staff of logins that nobody owns, by the first entry about each: once per login, and not what they dismissed.

    What the entries say is booked all the same, without an owner; the letter is closed when the login gets one.
    """
    told = unit.session.scalars(
        select(DeadLetter.login).where(
            DeadLetter.server_id == server_id, DeadLetter.login.in_(entries), DeadLetter.replayed_at.is_(None)
        )
    )
    untold = entries.keys() - set(told)
    if not untold:
        return
    rows = [
        {
            "stream": entries[login].stream,
            "entry_id": entries[login].id,
            "server_id": server_id,
            "login": login,
            "fields": legible(entries[login]),
            "reason": UNKNOWN_LOGIN,
        }
        for login in sorted(untold)
    ]
    unit.session.execute(insert(DeadLetter).on_conflict_do_nothing(), rows)
    log.info("unknown logins server=%s logins=%s", server_id, len(rows))


def replay(session: Session, letter_id: int, actor: Actor) -> None:
    """Book an entry again, now that what kept it from being booked is mended.

    Raises StillUnbookable with the reason when it fails again; the letter then stays as it was. AlreadyDecided, NotFound.
    """
    try:
        with unit_of_work(session, actor) as unit:
            letter = _open_letter(session, letter_id)
            entry = Entry(letter.stream, letter.entry_id, {k.encode(): v.encode() for k, v in letter.fields.items()})
            servers = {server.code: server for server in session.scalars(select(Server))}
            event = batches.read(entry, servers, now())
            outcome = batches.book_events(unit, servers[event.server], [event])
            if letter.login in outcome.unowned:
                raise MalformedEvent(UNKNOWN_LOGIN)
            if outcome.unowned:
                note_unknown_logins(unit, servers[event.server].id, dict.fromkeys(outcome.unowned, entry))
            _decide(unit, letter, "dead_letter.replayed", "")
            letter.replayed_at = now()
    except MalformedEvent as error:
        raise StillUnbookable(reason=error.reason) from None
    except DBAPIError as error:
        raise StillUnbookable(reason=type(error.orig).__name__) from error


def dismiss(session: Session, letter_id: int, actor: Actor, note: str) -> None:
    """Decide that an entry need not be booked; `note` says why. Of a login: it is not told again."""
    if not note.strip():
        raise InvalidInput({"note": N_("Please say why this need not be booked.")})
    with unit_of_work(session, actor) as unit:
        letter = _open_letter(session, letter_id)
        _decide(unit, letter, "dead_letter.dismissed", note.strip())
        letter.dismissed_at = now()


def legible(entry: Entry) -> dict[str, str]:
    """The entry's fields as texts that the database can hold, whatever bytes they are."""
    return {_legible(name): _legible(value) for name, value in entry.fields.items()}


def _open_letter(session: Session, letter_id: int) -> DeadLetter:
    letter = session.get(DeadLetter, letter_id, with_for_update=True)
    if letter is None:
        raise NotFound()
    if letter.replayed_at is not None or letter.dismissed_at is not None:
        raise AlreadyDecided()
    return letter


def _decide(unit: UnitOfWork, letter: DeadLetter, action: str, note: str) -> None:
    letter.decided_by = str(unit.actor)
    unit.audit(action, f"mt_dead_letter:{letter.id}", before={"reason": letter.reason}, reason=note)
    unit.emit(action, subject_id=letter.id, server_id=letter.server_id)


def _legible(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
