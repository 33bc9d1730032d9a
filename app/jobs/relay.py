"""The relay: reads committed events in order and hands them to the handlers registered for their type.

It reads by transaction id below the oldest running one, never by serial id: a transaction that takes its id early and
commits late would be skipped otherwise. For every event and handler it writes a `delivery` row and enqueues jobs of up to
100 events; what was not delivered within its time-out is enqueued again.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.core import heartbeat, live
from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.jobs import queues
from app.jobs.handlers import HANDLERS

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.relay")

BATCH = 100
READ_LIMIT = 2_000
POLL_S = 0.1
REDELIVER_EVERY_S = 5.0
MAX_ATTEMPTS = 12
LOCK_KEY = 7_201_01

#: Events by their handler and, where the handler wants that, by trading server.
Waiting = dict[tuple[str, str | None], list[int]]


def run(settings: Settings) -> None:
    """Relay until SIGTERM or SIGINT. A lost database or Redis connection is waited for, not fatal."""
    from app.extensions import redis_client

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    engine = create_engine(settings.database_url, pool_pre_ping=True, hide_parameters=True)
    redis = redis_client(settings.redis_url)
    last_redelivery = 0.0

    while not stop.is_set():
        try:
            # One connection throughout: the lock belongs to it, and both end together.
            with engine.connect() as connection, Session(connection) as session, single_relay(session) as mine:
                if not mine:
                    stop.wait(2)
                    continue
                while not stop.is_set():
                    heartbeat.beat(redis, "relay")
                    busy = relay_new(session, redis)
                    if time.monotonic() - last_redelivery > REDELIVER_EVERY_S:
                        redeliver(session, redis)
                        last_redelivery = time.monotonic()
                    if not busy:
                        stop.wait(POLL_S)
        except (OperationalError, RedisError) as error:
            log.warning("relay waits for its servers error=%s", type(error).__name__)
            stop.wait(1)


@contextmanager
def single_relay(session: Session) -> Iterator[bool]:
    """Hold the advisory lock that lets one relay work at a time; a second one stands by."""
    mine = bool(session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}).scalar())
    session.commit()
    try:
        yield mine
    finally:
        if mine:
            session.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
            session.commit()


def relay_new(session: Session, redis: Redis) -> bool:
    """Write deliveries for the next events, then enqueue them. Returns whether there may be more at once."""
    with unit_of_work(session, Actor.system("relay")):
        session.execute(text("INSERT INTO relay_cursor (name) VALUES ('relay') ON CONFLICT DO NOTHING"))
        cursor = session.execute(text("SELECT xact::text, event_id FROM relay_cursor WHERE name = 'relay' FOR UPDATE")).one()
        events = session.execute(
            text(
                "SELECT id, xact::text AS xact, type, client_id, payload->>'server_id' AS server FROM event"
                " WHERE (xact, id) > (CAST(:xact AS xid8), :id) AND xact < pg_snapshot_xmin(pg_current_snapshot())"
                " ORDER BY event.xact, event.id LIMIT :limit"  # not by the text that is also called xact
            ),
            {"xact": cursor.xact, "id": cursor.event_id, "limit": READ_LIMIT},
        ).all()
        if not events:
            return False
        waiting: Waiting = defaultdict(list)
        for event in events:
            for name, handler in HANDLERS.items():
                if event.type in handler.types:
                    waiting[_job_of(name, event.server)].append(event.id)
        rows = [{"event_id": event_id, "handler": name} for (name, _), ids in waiting.items() for event_id in ids]
        if rows:
            session.execute(
                text(
                    "INSERT INTO delivery (event_id, handler, enqueued_at) VALUES (:event_id, :handler, now())"
                    " ON CONFLICT DO NOTHING"
                ),
                rows,
            )
        session.execute(
            text("UPDATE relay_cursor SET xact = CAST(:xact AS xid8), event_id = :id WHERE name = 'relay'"),
            {"xact": events[-1].xact, "id": events[-1].id},
        )
    enqueue_batches(redis, waiting)
    for event in events:
        if event.client_id is not None:
            redis.publish(live.channel(event.client_id), json.dumps({"type": event.type}))
    return len(events) == READ_LIMIT


def redeliver(session: Session, redis: Redis) -> None:
    """Enqueue again what was enqueued and not delivered in time; the wait doubles with each attempt, up to an hour.

    What failed often enough is left for staff. What never failed was only waiting for a worker, and is brought for ever.
    """
    with unit_of_work(session, Actor.system("relay")):
        rows = session.execute(
            text(
                "UPDATE delivery SET enqueued_at = now(), attempts = attempts + 1 WHERE (event_id, handler) IN ("
                " SELECT event_id, handler FROM delivery WHERE delivered_at IS NULL AND (attempts < :max OR error IS NULL)"
                " AND enqueued_at < now() - make_interval(secs => least(3600, 15 * 2 ^ least(attempts, 10)))"
                " ORDER BY enqueued_at LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING event_id, handler,"
                " (SELECT payload->>'server_id' FROM event WHERE event.id = delivery.event_id) AS server"
            ),
            {"max": MAX_ATTEMPTS, "limit": READ_LIMIT},
        ).all()
    waiting: Waiting = defaultdict(list)
    for row in rows:
        if row.handler in HANDLERS:
            waiting[_job_of(row.handler, row.server)].append(row.event_id)
    enqueue_batches(redis, waiting)


def _job_of(handler: str, server: str | None) -> tuple[str, str | None]:
    """What events have in common that may share a job."""
    return handler, server if HANDLERS[handler].by_server else None


def enqueue_batches(redis: Redis, waiting: Waiting) -> None:
    for (name, _), ids in waiting.items():
        handler = HANDLERS[name]
        for start in range(0, len(ids), BATCH):
            queues.enqueue(
                redis,
                handler.queue,
                "app.jobs.deliver.deliver",
                timeout_s=handler.timeout_s,
                handler=name,
                event_ids=ids[start : start + BATCH],
            )
