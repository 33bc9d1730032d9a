"""Live updates: server-sent events that tell a page which of its parts to fetch again. They carry no content.

Each open stream holds one thread of the web server, so there are bounds: a few per client, half of the threads in all.
Whoever is over them is told to come back in half a minute and gets the news then: live updates become polling, and pages
are always served.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from flask import Flask, Response, current_app, g, request
from flask.typing import ResponseReturnValue
from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.live import channel
from app.core.tables import Event
from app.extensions import db
from app.portal.guards import client_required, portal
from app.security.portal import is_open

LIFETIME_S = 600.0
HEARTBEAT_S = 15.0
MOST_PER_CLIENT = 4
COME_BACK_MS = 2_000
COME_BACK_LATER_MS = 30_000

#: How far back a page that has just been made may have missed something.
FIRST_LOOK_BACK = timedelta(seconds=10)

#: First part of a fact's type → the parts of pages that show it.
TOPICS = {
    "account": ("account",),
    "account_change": ("account",),
    "deal": ("account",),
    "trading": ("account",),
    "operation": ("account", "money"),
    "transfer": ("account", "money"),
    "deposit": ("money",),
    "withdrawal": ("money",),
    "conversion": ("money",),
    "commission": ("commission", "money"),
    "payout": ("commission", "money"),
    "ib": ("commission",),
    "network": ("network", "commission"),
    "document": ("document",),
    "client": ("document",),
}
ALL_TOPICS = ("account", "money", "commission", "network", "document", "all")

#: Facts after which the session may be over.
_ENDINGS = ("session.revoked", "client.password_changed", "client.blocked")


def init_app(app: Flask) -> None:
    app.extensions["live_slots"] = threading.BoundedSemaphore(max(1, app.extensions["settings"].web_threads // 2))


@portal.get("/live")
@client_required
def live() -> ResponseReturnValue:
    """The stream of one page. Ends after ten minutes or with the session; the browser comes back by itself."""
    client_id, session_id = g.client.id, g.portal_session.id
    redis: Redis = current_app.extensions["redis_client"]
    slot = _Slot(redis, current_app.extensions["live_slots"], client_id)
    if not slot.take():
        return _answer([f"retry: {COME_BACK_LATER_MS}\n\n", *map(_event, ALL_TOPICS)])
    try:
        pubsub = redis.pubsub()
        pubsub.subscribe(channel(client_id))
        pubsub.get_message(timeout=5)  # the confirmation: from here on nothing is missed
        missed = _missed(db.session(), client_id, is_return="Last-Event-ID" in request.headers)
    except RedisError:
        slot.give_back()
        return Response(status=503)
    engine = db.engine
    db.session.remove()  # the stream lives long and must hold no database connection

    response = _answer(_stream(pubsub, engine, session_id, missed, slot))
    response.call_on_close(slot.give_back)
    response.call_on_close(pubsub.close)
    return response


def topics_of(fact: str) -> tuple[str, ...]:
    """The events to send for a fact such as deposit.settled."""
    return (*TOPICS.get(fact.partition(".")[0], ()), "all")


def _stream(pubsub: PubSub, engine: Engine, session_id: int, missed: set[str], slot: _Slot) -> Iterator[str]:
    yield f"retry: {COME_BACK_MS}\nid: 1\n\n"
    yield from map(_event, sorted(missed))
    ends_at = time.monotonic() + LIFETIME_S
    beat_at = time.monotonic() + HEARTBEAT_S
    with suppress(RedisError):  # the browser comes back when Redis does
        while time.monotonic() < ends_at:
            message = pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
            fact = _fact(message["data"]) if message else ""
            if not slot.is_held():
                yield f"retry: {COME_BACK_LATER_MS}\n\n"
                return
            if fact:
                yield from map(_event, topics_of(fact))
            if fact in _ENDINGS or time.monotonic() >= beat_at:
                if not _is_open(engine, session_id):
                    return
                beat_at = time.monotonic() + HEARTBEAT_S
                yield ": still here\n\n"


def _fact(data: bytes) -> str:
    """The type in a message; empty for anything that is not one of ours."""
    try:
        return str(json.loads(data)["type"])
    except (ValueError, KeyError, TypeError):
        return ""


def _missed(session: Session, client_id: int, *, is_return: bool) -> set[str]:
    """What to send first: everything after an interruption, else what happened while the page was on its way."""
    if is_return:
        return set(ALL_TOPICS)
    lately = select(Event.type).where(Event.client_id == client_id, Event.occurred_at > now() - FIRST_LOOK_BACK)
    return {topic for fact in session.scalars(lately.order_by(Event.id.desc()).limit(50)) for topic in topics_of(fact)}


def _is_open(engine: Engine, session_id: int) -> bool:
    with Session(engine) as session:
        return is_open(session, session_id)


def _event(topic: str) -> str:
    return f"event: {topic}\ndata: \n\n"


def _answer(parts: Iterator[str] | list[str]) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Response(parts, mimetype="text/event-stream", headers=headers)


class _Slot:
    """The right to one stream: one of this process's, and one of the client's, counted over all processes in Redis.

    Of a client's streams the newest count: a page that was left is not noticed until something is written to it, and the
    page that is looked at must not wait for that.
    """

    def __init__(self, redis: Redis, process_slots: threading.BoundedSemaphore, client_id: int) -> None:
        self._redis = redis
        self._process_slots = process_slots
        self._key = f"live:streams:{client_id}"
        self._name = secrets.token_hex(8)
        self._is_taken = False

    def take(self) -> bool:
        """Whether this process has room. The client's oldest streams beyond the bound lose their right."""
        if not self._process_slots.acquire(blocking=False):
            return False
        self._is_taken = True
        with suppress(RedisError):
            pipeline = self._redis.pipeline()
            pipeline.zremrangebyscore(self._key, 0, time.time() - 2 * LIFETIME_S)
            pipeline.zadd(self._key, {self._name: time.time()})
            pipeline.zremrangebyrank(self._key, 0, -MOST_PER_CLIENT - 1)
            pipeline.expire(self._key, int(2 * LIFETIME_S))
            pipeline.execute()
        return True

    def is_held(self) -> bool:
        """Whether newer streams have not pushed this one out."""
        return self._redis.zscore(self._key, self._name) is not None

    def give_back(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._process_slots.release()
            with suppress(RedisError):
                self._redis.zrem(self._key, self._name)
