"""The job that brings events to a handler: each event once.

A transactional handler's effect commits together with the mark on the delivery row. A command handler talks to the
outside between transactions of its own and is safe to repeat; its delivery is marked after it returned.
"""

from __future__ import annotations

import logging

from flask import current_app
from rq.timeouts import JobTimeoutException
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.extensions import db
from app.jobs.handlers import HANDLERS, Handler

log = logging.getLogger("lotwise.jobs")

_MARK = text(
    "UPDATE delivery SET delivered_at = now(), error = NULL"
    " WHERE event_id = :event_id AND handler = :handler AND delivered_at IS NULL"
)


def deliver(handler: str, event_ids: list[int]) -> None:
    """Run one handler over up to 100 events, each in a transaction of its own; a failing one does not stop the others.

    What failed keeps its delivery open: the relay brings it again after a growing delay. A job whose time is over ends;
    the queue starts it again, and it goes on with what is left.
    """
    registered = HANDLERS[handler]
    session: Session = db.session()
    for event_id in event_ids:
        try:
            _deliver_one(session, registered, handler, event_id)
        except Exception as error:
            session.rollback()
            log.exception("delivery failed handler=%s event=%s", handler, event_id)
            with unit_of_work(session, Actor.system(handler)):
                session.execute(
                    text("UPDATE delivery SET error = :error WHERE event_id = :event_id AND handler = :handler"),
                    {"error": type(error).__name__, "event_id": event_id, "handler": handler},
                )
            if isinstance(error, JobTimeoutException):
                raise


def _deliver_one(session: Session, registered: Handler, name: str, event_id: int) -> None:
    key = {"event_id": event_id, "handler": name}
    settings = current_app.extensions["settings"]
    if registered.is_command:
        waiting = session.execute(
            text("SELECT 1 FROM delivery WHERE event_id = :event_id AND handler = :handler AND delivered_at IS NULL"), key
        ).scalar()
        event = session.get(Event, event_id)
        if not waiting or event is None:
            session.rollback()
            return
        session.expunge(event)  # the command's own transactions come and go
        session.rollback()
        registered.function(session, event, settings)
        with unit_of_work(session, Actor.system(name)):
            session.execute(_MARK, key)
        return
    with unit_of_work(session, Actor.system(name)):
        if session.execute(_MARK, key).rowcount == 0:  # type: ignore[attr-defined]  # a DML result is a CursorResult
            return
        event = session.get(Event, event_id)
        if event is not None:
            registered.function(session, event, settings)
