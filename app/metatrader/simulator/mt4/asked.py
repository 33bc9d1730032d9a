"""What the MT4 bridge answers to requests in `mt:{code}:requests`: the second half of the contract of every bridge."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.core.clock import now
from app.metatrader import mt4
from app.metatrader.bridge.requests import MalformedRequest, Request, answer_stream, read_request, requests_stream
from app.metatrader.events import AnyEvent, control_event, encode
from app.metatrader.mt4 import Login, Trade
from app.metatrader.platform import Deal
from app.metatrader.simulator.journal import Record, standing
from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.telling import contract_size
from app.metatrader.stream import Entry, StreamConsumer, publish, trim

log = logging.getLogger("lotwise.simulator")

GROUP = "bridge"
PAUSE_S = 1.0
BLOCK_MS = 200
CHUNK = 500
ANSWER_KEPT_S = 3_600
HOUR_MS = 3_600_000


class Answerer:
    """Reads requests one after the other, in a thread, and answers each at least once. An absent Redis is waited for."""

    def __init__(self, engine: MT4Engine, redis_url: str) -> None:
        self._engine = engine
        self._journal = engine.journal
        self._redis: Any = Redis.from_url(redis_url, socket_timeout=10, socket_connect_timeout=5)
        self._stream = requests_stream(self._journal.origin.server)
        self._consumer = StreamConsumer(self._redis, [self._stream], name=GROUP, group=GROUP, batch=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mt4-requests", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._redis.close()

    def _work(self) -> None:
        has_group = False
        while not self._stop.is_set():
            try:
                if not has_group:
                    self._consumer.ensure_group()
                    has_group = True
                for entry in self._consumer.read(block_ms=BLOCK_MS).entries:
                    self._take(entry)
                    self._consumer.ack([entry])
                    trim(self._redis, self._stream)
            except RedisError as error:
                has_group = False  # a Redis that lost its data has lost the group too
                log.info("requests wait: %s", type(error).__name__)
                self._consumer.reread()
                self._stop.wait(PAUSE_S)

    def _take(self, entry: Entry) -> None:
        try:
            request = read_request(entry.fields)
        except MalformedRequest as error:
            if error.id:
                self._journal.control("sync_done", request=error.id, error=error.reason)
            return
        notes = {"request": request.id, "what": request.what, "unreadable": "0"}
        if request.is_stale(now()):
            self._tell(request, (), {**notes, "rows": "0", "error": "too old to be answered"})
            return
        with self._engine.store.reading():
            rows = list(self._rows(request))
        self._tell(request, rows, {**notes, "rows": str(len(rows))})

    def _tell(self, request: Request, rows: Iterable[Record], notes: Mapping[str, str]) -> None:
        """Send the rows and the end of the answer to where they were wished."""
        if request.into == "events":
            with self._engine.store.transaction():
                for record in rows:
                    self._journal.again(record)
                self._journal.control("sync_done", **notes)
            return
        origin, stamp = self._journal.origin, self._journal.stamp
        stream = answer_stream(origin.server, request.id)
        told: list[AnyEvent] = [control_event(origin, stamp(1), "connected", {"request": request.id})]
        told += [standing(origin, stamp(seq), record) for seq, record in enumerate(rows, start=2)]
        told.append(control_event(origin, stamp(len(told) + 1), "sync_done", notes))
        for first in range(0, len(told), CHUNK):
            publish(self._redis, [(stream, encode(event)) for event in told[first : first + CHUNK]])
        self._redis.expire(stream, ANSWER_KEPT_S)

    def _rows(self, request: Request) -> Iterable[Record]:
        match request.what:
            case "accounts":
                return [mt4.account_of(login) for login in self._logins(request)]
            case "positions":
                return self._open(request, mt4.position_of)
            case "orders" if request.tickets:
                rows = (self._trade(ticket) for ticket in request.tickets)
                return [order for row in rows if row and (order := mt4.order_of(row, contract_size(row)))]
            case "orders":
                return self._open(request, mt4.pending_of)
        return self._deals(request)

    def _deals(self, request: Request) -> list[Deal]:
        """Hour by hour, within an hour by ticket. A deal that closed brings the one that opened."""
        if request.tickets:
            rows = [row for ticket in request.tickets if (row := self._trade(mt4.order_of_ticket(ticket)))]
            return [deal for deal in _made_by(rows) if deal.ticket in request.tickets]
        first_s, last_s, engine = request.from_s, request.to_s, self._engine
        rows = [row for login in self._logins(request) for row in engine.store.trades(login.login, first_s, last_s)]
        deals = [deal for row in rows for deal in _within(list(_made_by([row])), first_s, last_s)]
        return sorted(deals, key=lambda deal: (deal.server_time_ms // HOUR_MS, deal.ticket))

    def _open(self, request: Request, build: Callable[[Trade, Any], Record | None]) -> list[Record]:
        rows = (row for login in self._logins(request) for row in self._engine.open_trades(login.login))
        return [record for row in rows if (record := build(row, contract_size(row)))]

    def _logins(self, request: Request) -> list[Login]:
        return [
            login
            for login in self._engine.logins()
            if login.login in request.logins or (request.groups and mt4.is_selected(request.groups, login.group))
        ]

    def _trade(self, order: int) -> Trade | None:
        found = self._engine.store.trade(order)
        return self._engine.books.shown(found) if found else None


def _made_by(rows: Iterable[Trade]) -> Iterable[Deal]:
    return (deal for row in rows if not row.is_deleted for deal in mt4.deals_of(row, contract_size(row)))


def _within(made: list[Deal], first_s: int, last_s: int) -> list[Deal]:
    """Of a row's deals those that a range has to tell: all when the last is in it."""
    in_range = [first_s <= deal.server_time_ms // 1000 <= last_s for deal in made]
    return made if any(in_range[-1:]) else [deal for deal, is_in in zip(made, in_range, strict=True) if is_in]
