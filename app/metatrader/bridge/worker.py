"""The thread that turns what came in into canonical events and writes them down, a batch in one transaction."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.core.clock import now
from app.metatrader.bridge import records
from app.metatrader.bridge.manager import Connection
from app.metatrader.bridge.outbox import Outbox, Row
from app.metatrader.bridge.records import STATE_FIELDS, USER_FIELDS, copied
from app.metatrader.bridge.requests import Request, requests_stream, write_request
from app.metatrader.bridge.sinks import Arrival, Inbox
from app.metatrader.bridge.telling import Teller
from app.metatrader.codes import OrderState
from app.metatrader.events import Change
from app.metatrader.platform import AccountState, Order

log = logging.getLogger("lotwise.bridge")

BATCH = 500
WAIT_S = 0.2
RETRY_S = 1.0
#: The local copy of a login follows its deals by a moment, so its state is read a little later.
SETTLE_S = 0.5
#: Missing events are told of at most this often, as each telling asks for a backfill.
TELL_MISSING_EVERY_S = 60.0
#: A backfill begins so much before the last sign of life, and ends so much after now: the server's clock is not ours.
OVERLAP = timedelta(minutes=10)
AHEAD = timedelta(minutes=1)
#: A backfill after a gap is worth answering for a day: Redis itself may be away.
GAP_VALID_S = 86_400

#: States of an order that is done.
FINAL_STATES = (OrderState.CANCELED, OrderState.FILLED, OrderState.REJECTED, OrderState.EXPIRED)
#: What a broken object raises while a record is made of it.
UNREADABLE = (ValueError, TypeError, ArithmeticError, KeyError)


@dataclass
class Tally:
    """What the worker has seen since its start; heartbeats tell it."""

    events: int = 0
    unreadable: int = 0
    cleaned: int = 0
    gaps: int = 0
    is_connected: bool = False
    is_synchronised: bool = False
    address: str = ""
    trouble: str = ""


@dataclass
class _Batch:
    rows: list[Row] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass
class _Touched:
    """A login whose state is to be told when `due_at` has come; `values` are the newest that a callback brought."""

    due_at: float
    touched_at: float
    values: dict[str, Any]


class Worker:
    """Whatever the pump tells goes through here, so here is decided what comes after what."""

    def __init__(
        self,
        inbox: Inbox,
        outbox: Outbox,
        connection: Connection,
        teller: Teller,
        *,
        gap_groups: str = "",
        settle_s: float = SETTLE_S,
    ) -> None:
        """`gap_groups` is the mask to backfill after a gap; empty: the bridge leaves that to the readers."""
        self._inbox = inbox
        self._outbox = outbox
        self._connection = connection
        self._teller = teller
        self._gap_groups = gap_groups
        self._settle_s = settle_s
        self._touched: dict[int, _Touched] = {}
        self._synchronised: set[str] = set()
        self._failures_told = 0
        self._told_at = -TELL_MISSING_EVERY_S
        self._asked = 0
        self._has_gap = False
        self._alive_ms = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bridge-worker", daemon=True)
        self.tally = Tally()

    def start(self) -> None:
        """Begin. An earlier process that ended without a goodbye is told of first."""
        self._alive_ms = self._outbox.number("alive_ms")
        self._has_gap = bool(self._outbox.number("has_gap"))
        if self._outbox.was_broken or self._outbox.number("is_connected"):
            self._has_gap = True
            reason = "the outbox was broken" if self._outbox.was_broken else "the bridge ended without a goodbye"
            self._outbox.write(self._teller.control(now(), "disconnected", {"reason": reason}), is_connected=0, has_gap=1)
        self._thread.start()

    def stop(self, patience_s: float = 10.0) -> None:
        """Write down what is still there, say goodbye, and end."""
        self._stop.set()
        self._thread.join(patience_s)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        while True:
            is_last_round = self._stop.is_set()
            arrivals = self._inbox.take(BATCH, WAIT_S)
            batch = _Batch()
            for arrival in arrivals:
                self._take(batch, arrival)
            self._tell_states(batch, everybody=is_last_round)
            self._tell_missing(batch)
            is_done = is_last_round and not arrivals
            if is_done and self.tally.is_connected:
                self._disconnected(batch, now(), "the bridge was stopped")
            self._write(batch)
            if is_done:
                return

    def _write(self, batch: _Batch) -> None:
        """Nothing is given up because a disk is full or a file is locked for a while; only a stop ends the waiting."""
        while batch.rows or batch.numbers:
            try:
                self._outbox.write(batch.rows, **batch.numbers)
                self.tally.events += len(batch.rows)
                return
            except sqlite3.Error as error:
                self.tally.trouble = f"outbox: {error}"
                log.error("the outbox did not take %d events: %s", len(batch.rows), error)
                if self._stop.wait(RETRY_S):
                    return

    def _take(self, batch: _Batch, arrival: Arrival) -> None:
        """One arrival as rows. What no record can be made of is counted as missing."""
        at, change, values = arrival.received_at, arrival.change, arrival.values
        try:
            match arrival.what:
                case "deal":
                    batch.rows.append(self._teller.deal(at, change, records.deal(values)))
                    self._touch(values["Login"], {})
                case "position":
                    batch.rows.append(self._teller.position(at, change, records.position(values)))
                case "order":
                    batch.rows.append(self._order(at, change, records.order(values)))
                case "account" if change == "state":
                    self._touch(values["Login"], values)
                case "account":
                    self._touched.pop(values["Login"], None)
                    batch.rows.append(self._teller.account(at, change, self._state(values)))
                case "touched":
                    self._touch(values["Login"], {})
                case "cleaned":
                    self.tally.cleaned += 1
                    log.warning("the server wiped all %s of login %s", change, values["Login"])
                    if change == "deals":
                        self._cleaned(batch, at, values["Login"])
                case "session":
                    self._session(batch, at, change)
                case "heartbeat":
                    self._beat(batch, at, values)
        except UNREADABLE as error:
            self.tally.unreadable += 1
            self._inbox.fail(f"{arrival.what}.{change}", error)
            log.error("%s.%s of login %s could not be read: %s", arrival.what, change, values.get("Login"), error)

    def _order(self, at: datetime, change: Change, order: Order) -> Row:
        """The API tells that an order leaves the open ones, whatever for: one that is done was not deleted."""
        return self._teller.order(at, "update" if change == "delete" and order.state in FINAL_STATES else change, order)

    def _cleaned(self, batch: _Batch, at: datetime, login: int) -> None:
        """All deals of a login are gone; nothing tells of each. A login that is gone itself is told of as deleted."""
        kept = self._connection.kept_user(login)
        if kept is not None:
            batch.rows.append(self._teller.account(at, "cleaned", self._state(copied(kept, USER_FIELDS))))
            self._touch(login, {})

    def _session(self, batch: _Batch, at: datetime, change: str) -> None:
        """The connection came, went, or has its local copy together: by Connect's return, or part by part."""
        match change:
            case "disconnected":
                self._disconnected(batch, at, "the connection to the server broke")
            case "connected":
                self._connected(batch, at)
            case "complete":
                self._connected(batch, at)
                self._synchronised |= {"users", "positions", "orders"}
            case part:
                self._synchronised.add(part)
        if self.tally.is_connected and not self.tally.is_synchronised and len(self._synchronised) == 3:
            self.tally.is_synchronised = True
            batch.rows += self._teller.control(at, "sync_done", {"address": self.tally.address})

    def _connected(self, batch: _Batch, at: datetime) -> None:
        if self.tally.is_connected:
            return
        self.tally.is_connected = True
        self.tally.address = self._connection.address()
        log.info("connected to %s", self.tally.address)
        batch.rows += self._teller.control(at, "connected", {"address": self.tally.address})
        if self._has_gap and self._alive_ms:
            self._ask_for_backfill(batch, since=datetime.fromtimestamp(self._alive_ms / 1000, UTC))
        self._has_gap, self._alive_ms = False, _milliseconds(at)
        batch.numbers |= {"is_connected": 1, "has_gap": 0, "alive_ms": self._alive_ms}

    def _disconnected(self, batch: _Batch, at: datetime, reason: str) -> None:
        if not self.tally.is_connected:
            return
        log.warning("disconnected: %s (was at %s)", reason, self.tally.address)
        self.tally.is_connected = self.tally.is_synchronised = False
        self._synchronised.clear()
        batch.rows += self._teller.control(at, "disconnected", {"reason": reason, "address": self.tally.address})
        self._has_gap = True
        batch.numbers |= {"is_connected": 0, "has_gap": 1}

    def _tell_missing(self, batch: _Batch) -> None:
        """Something could not be taken down: say what a broken connection would say, so that it is fetched again."""
        failures = self._inbox.failures
        if failures == self._failures_told or time.monotonic() - self._told_at < TELL_MISSING_EVERY_S:
            return
        count, self._failures_told, self._told_at = failures - self._failures_told, failures, time.monotonic()
        log.error("%d events could not be taken down, last %s", count, self._inbox.last_failure)
        if not self.tally.is_connected:
            return  # a backfill is due anyway
        self.tally.gaps += 1
        reason = f"{count} events could not be taken down, last {self._inbox.last_failure}"
        batch.rows += self._teller.control(now(), "disconnected", {"reason": reason, "address": self.tally.address})
        batch.rows += self._teller.control(now(), "connected", {"address": self.tally.address})
        self._ask_for_backfill(batch, since=now())

    def _ask_for_backfill(self, batch: _Batch, since: datetime) -> None:
        """Put requests to ourselves behind the signal that the readers see; the second process answers them."""
        if not self._gap_groups:
            return
        from_s, to_s = self._teller.zone.wall_range_s(since - OVERLAP, now() + AHEAD)
        self._asked += 1
        for what in ("deals", "positions", "orders", "accounts"):
            request = Request(
                id=f"{self._teller.origin.boot}-{self._asked}-{what}",
                what=what,
                into="events",
                asked_at=now(),
                groups=self._gap_groups,
                from_s=from_s,
                to_s=to_s,
                valid_s=GAP_VALID_S,
            )
            batch.rows.append(self._request_row(request))
        log.info("asked for the deals from %s on", since - OVERLAP)

    def _request_row(self, request: Request) -> Row:
        """Requests have ids instead of numbers."""
        fields = write_request(request)
        return requests_stream(self._teller.origin.server), lambda _number: fields

    def _beat(self, batch: _Batch, at: datetime, notes: dict[str, str]) -> None:
        tally = self.tally
        batch.rows += self._teller.control(
            at,
            "heartbeat",
            {
                "connected": "yes" if tally.is_connected else "no",
                "address": tally.address,
                "events": str(tally.events),
                "inbox": str(len(self._inbox)),
                "outbox": str(self._outbox.size()),
                "handler_failures": str(self._inbox.failures),
                "last_failure": self._inbox.last_failure,
                "cleaned": str(tally.cleaned),
                "trouble": tally.trouble[:500],
                **notes,
            },
        )
        tally.trouble = ""
        if tally.is_connected:
            self._alive_ms = batch.numbers["alive_ms"] = _milliseconds(at)

    def _touch(self, login: int, values: dict[str, Any]) -> None:
        moment = time.monotonic()
        known = self._touched.setdefault(login, _Touched(moment + self._settle_s, moment, values))
        known.touched_at = moment
        known.values = values or known.values

    def _tell_states(self, batch: _Batch, *, everybody: bool) -> None:
        """The states of logins whose moment has come; who was touched again meanwhile comes once more."""
        moment = time.monotonic()
        for login, known in list(self._touched.items()):
            if known.due_at > moment and not everybody:
                continue
            if known.touched_at > known.due_at - self._settle_s and not everybody:
                known.due_at = known.touched_at + self._settle_s
            else:
                del self._touched[login]
            kept = self._connection.kept_user(login)
            user = copied(kept, USER_FIELDS) if kept is not None else known.values
            if not user:
                continue
            try:
                batch.rows.append(self._teller.account(now(), "state", self._state(user)))
            except UNREADABLE as error:
                self.tally.unreadable += 1
                log.error("the state of login %d could not be read: %s", login, error)

    def _state(self, user: dict[str, Any]) -> AccountState:
        kept = self._connection.kept_state(int(user["Login"]))
        if kept is not None:
            return records.account(user, copied(kept, STATE_FIELDS))
        group = self._connection.kept_group(user["Group"])
        return records.account(user, None, int(group.CurrencyDigits) if group is not None else 2)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
