"""The second process: answers requests on a connection of its own, without a pump and without callbacks.

Rows for the event streams go into the shared outbox, so that one process numbers and sends everything in order; an answer
in a stream of the asker's own goes to Redis at once, because the asker can ask again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from app.core.clock import now
from app.metatrader.bridge import records
from app.metatrader.bridge.manager import Connection, Refused
from app.metatrader.bridge.outbox import Outbox, Row
from app.metatrader.bridge.records import DEAL_FIELDS, ORDER_FIELDS, POSITION_FIELDS, STATE_FIELDS, USER_FIELDS, copied
from app.metatrader.bridge.requests import MalformedRequest, Request, answer_stream, read_request, requests_stream
from app.metatrader.bridge.settings import BridgeSettings
from app.metatrader.bridge.telling import Teller
from app.metatrader.stream import Entry, StreamConsumer, publish, trim

log = logging.getLogger("lotwise.bridge")

T = TypeVar("T")

GROUP = "bridge"
CHUNK = 500
#: Deals are asked for an hour at a time, so that a busy day is never one answer in memory.
SLICE_S = 3_600
#: More than this in the outbox and answers wait, so that they do not hold up what happens now.
OUTBOX_LIMIT = 20_000
#: An answer of its own that nobody fetches goes after an hour.
ANSWER_KEPT_S = 3_600
TRIES = 3
PAUSE_S = 2.0
LOOK_AT_CLOCK_EVERY_S = 60.0
#: Refusals that pass: too frequent, server busy.
PASSING = (12, 1018)
#: Offsets of clocks on Earth are whole quarters of an hour.
QUARTER_S = 900


@dataclass
class Count:
    """What one answer held."""

    rows: int = 0
    unreadable: int = 0


class Stopped(Exception):
    """The process is to end; the request stays and is answered after the next start."""


class Answerer:
    """Reads requests one after the other and answers each, at least once."""

    def __init__(self, settings: BridgeSettings, connection: Connection, outbox: Outbox, redis: Redis, teller: Teller) -> None:
        self._settings = settings
        self._connection = connection
        self._outbox = outbox
        self._redis: Any = redis
        self._teller = teller
        self._is_connected = False
        self._next_look = 0.0
        self._clock_told = True
        self._stop = threading.Event()
        self._stream = requests_stream(settings.code)
        self._consumer = StreamConsumer(redis, [self._stream], name=GROUP, group=GROUP, batch=1)

    def stop(self) -> None:
        """End soon; also from another thread or a signal."""
        self._stop.set()

    def run(self) -> None:
        """Answer until told to stop. Redis and the server may be away for as long as they like."""
        has_group = False
        while not self._stop.is_set():
            try:
                self._look_at_clock()
                if not has_group:
                    self._consumer.ensure_group()
                    has_group = True
                for entry in self._consumer.read(block_ms=1_000).entries:
                    self._answer_entry(entry)
                    self._consumer.ack([entry])
                    trim(self._redis, self._stream)
            except Stopped:
                return
            except ResponseError as error:
                has_group = False  # a Redis that lost its data has lost the group too
                self._pause(f"redis: {error}")
            except RedisError as error:
                self._pause(f"redis: {error}")

    def _pause(self, trouble: str) -> None:
        self._tell_state(trouble)
        self._consumer.reread()
        self._stop.wait(PAUSE_S)

    def _answer_entry(self, entry: Entry) -> None:
        try:
            request = read_request(entry.fields)
        except MalformedRequest as error:
            log.error("request %s is malformed: %s", entry.id, error.reason)
            if error.id:
                self._close_in_events({"request": error.id, "error": error.reason})
            return
        if entry.deliveries > TRIES:
            self._close(request, Count(), f"not answered in {TRIES} tries")
            return
        log.info("request %s: %s", request.id, request.what)
        self._close(request, *self._answer(request))

    def _answer(self, request: Request) -> tuple[Count, str]:
        """Send the rows; tells how many, and what went wrong. A broken connection is made anew until nobody waits any more."""
        while True:
            if request.is_stale(now()):
                return Count(), "too old to be answered"
            try:
                self._connect()
                count = Count()
                self._send(request, self._rows(request, count))
                return count, ""
            except Refused as refused:
                if self._is_connected and not refused.is_broken_connection and refused.retcode not in PASSING:
                    return Count(), str(refused)
                self._lose_connection(refused)
                if self._stop.wait(PAUSE_S):
                    raise Stopped from None

    def _send(self, request: Request, rows: Iterator[Row]) -> None:
        if request.into == "events":
            for chunk in _chunks(rows, CHUNK):
                while self._outbox.size() > OUTBOX_LIMIT:
                    if self._stop.wait(0.2):
                        raise Stopped
                self._outbox.write(chunk)
            return
        # The first entry says that what an earlier try may have left in the stream is to be forgotten.
        beginning = self._teller.control(now(), "connected", {"request": request.id})[:1]
        self._into_answer(request, beginning, first=1)
        sent = 1
        for chunk in _chunks(rows, CHUNK):
            self._into_answer(request, chunk, first=sent + 1)
            sent += len(chunk)

    def _into_answer(self, request: Request, rows: Iterable[Row], first: int = 0) -> None:
        stream = answer_stream(self._settings.code, request.id)
        publish(self._redis, [(stream, make(first + offset)) for offset, (_, make) in enumerate(rows)])
        self._redis.expire(stream, ANSWER_KEPT_S)

    def _close(self, request: Request, count: Count, error: str) -> None:
        """Say that the answer is complete, or why there is none."""
        notes = {"request": request.id, "what": request.what, "rows": str(count.rows), "unreadable": str(count.unreadable)}
        if error:
            log.error("request %s: %s", request.id, error)
            notes["error"] = error[:500]
        if request.into == "events":
            self._close_in_events(notes)
        else:
            self._into_answer(request, self._teller.control(now(), "sync_done", notes)[:1], first=count.rows + 2)

    def _close_in_events(self, notes: Mapping[str, str]) -> None:
        self._outbox.write(self._teller.control(now(), "sync_done", notes))

    # What the server has, as rows.

    def _rows(self, request: Request, count: Count) -> Iterator[Row]:
        for make in self._makers(request):
            try:
                yield make()
                count.rows += 1
            except (ValueError, TypeError, ArithmeticError, KeyError) as error:
                count.unreadable += 1
                log.error("request %s: one of its %s could not be read: %s", request.id, request.what, error)

    def _makers(self, request: Request) -> Iterator[Callable[[], Row]]:
        """One call per row, each of which may fail for itself."""
        groups, logins = request.groups, request.logins
        match request.what:
            case "deals" if request.tickets:
                yield from (partial(self._deal, deal) for ticket in request.tickets for deal in self._connection.deal(ticket))
            case "orders" if request.tickets:
                found = (order for ticket in request.tickets for order in self._connection.order(ticket))
                yield from (partial(self._order, order) for order in found)
            case "deals":
                yield from (partial(self._deal, deal) for deal in self._deals(request))
            case "positions":
                yield from (partial(self._position, position) for position in self._connection.positions(groups, logins))
            case "orders":
                yield from (partial(self._order, order) for order in self._connection.orders(groups, logins))
            case "accounts":
                yield from (partial(self._account, *parts) for parts in self._users(request))

    def _deal(self, deal: Any) -> Row:
        return self._teller.deal(now(), "add", records.deal(copied(deal, DEAL_FIELDS)))

    def _position(self, position: Any) -> Row:
        return self._teller.position(now(), "update", records.position(copied(position, POSITION_FIELDS)))

    def _order(self, order: Any) -> Row:
        return self._teller.order(now(), "update", records.order(copied(order, ORDER_FIELDS)))

    def _account(self, user: dict[str, Any], state: dict[str, Any] | None, digits: int) -> Row:
        return self._teller.account(now(), "state", records.account(user, state, digits))

    def _deals(self, request: Request) -> Iterator[Any]:
        """Slice by slice, each by ticket. Slices share a second, as nobody promises to which a fraction of it belongs."""
        before: set[int] = set()
        for from_s in range(request.from_s, max(request.to_s, request.from_s + 1), SLICE_S):
            to_s = min(from_s + SLICE_S, request.to_s)
            deals = sorted(self._connection.deals(request.groups, request.logins, from_s, to_s), key=lambda deal: deal.Deal)
            yield from (deal for deal in deals if deal.Deal not in before)
            before = {deal.Deal for deal in deals}

    def _users(self, request: Request) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None, int]]:
        digits: dict[str, int] = {}
        for chunk in _chunks(self._connection.users(request.groups, request.logins), CHUNK):
            kept = self._connection.states(user.Login for user in chunk)
            states = {state.Login: copied(state, STATE_FIELDS) for state in kept}
            for user in chunk:
                state = states.get(user.Login)
                if state is None and user.Group not in digits:
                    group = self._connection.group(user.Group)
                    digits[user.Group] = int(group.CurrencyDigits) if group is not None else 2
                yield copied(user, USER_FIELDS), state, digits.get(user.Group, 2)

    # The connection, and the server's clock.

    def _connect(self) -> None:
        if self._is_connected:
            return
        settings = self._settings
        self._connection.connect(
            settings.address, settings.manager_login, settings.password, timeout_s=settings.connect_timeout_s, pump=False
        )
        self._is_connected = True
        self._tell_state("ready")

    def _lose_connection(self, refused: Refused) -> None:
        self._tell_state(str(refused))
        self._outbox.leave_note("clock_offset_min", "")  # what it said an hour ago may be wrong after a clock change
        log.warning("requests: %s", refused)
        self._connection.disconnect()
        self._is_connected = False

    def _look_at_clock(self) -> None:
        """Once a minute: is the connection well, and does the server's clock run as time_zone says?"""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_AT_CLOCK_EVERY_S
        try:
            self._connect()
            ahead_s = self._connection.server_time_s() - now().timestamp()
        except Refused as refused:
            self._lose_connection(refused)
            return
        offset_min, expected_min = round(ahead_s / QUARTER_S) * 15, self._teller.zone.offset_min(now())
        if (offset_min == expected_min) != self._clock_told:
            self._clock_told = offset_min == expected_min
            message = "the server's clock is %d minutes ahead of UTC; time_zone says %d"
            log.log(logging.INFO if self._clock_told else logging.ERROR, message, offset_min, expected_min)
        self._outbox.leave_note("clock_offset_min", str(offset_min))
        self._tell_state("ready" if offset_min == expected_min else "the server's clock contradicts time_zone")

    def _tell_state(self, text: str) -> None:
        """For the heartbeats, which the other process sends."""
        self._outbox.leave_note("requests", text[:500])


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
