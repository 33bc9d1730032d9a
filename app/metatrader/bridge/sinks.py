"""What the Manager API calls back, on a thread of its own that holds everything up meanwhile.

So a handler copies fields, enqueues, and returns. The API swallows an exception of a handler; here it is counted, and the
worker tells the readers that something is missing. OnUserAddExt and OnUserChangePassword, which would hand over clients'
passwords, are deliberately not implemented: the API calls only what it finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec

from app.core.clock import now
from app.metatrader.bridge.records import DEAL_FIELDS, ORDER_FIELDS, POSITION_FIELDS, USER_FIELDS, copied

P = ParamSpec("P")

#: More than this in memory means that the worker stands still; what comes then is counted as missing.
INBOX_LIMIT = 500_000
SIGNALS = ("session", "heartbeat")


class InboxFull(Exception):
    """The worker does not take what comes."""


@dataclass(frozen=True)
class Arrival:
    """Something that came in: `what` and `change` are the halves of an event's kind, or a signal to the worker."""

    what: str
    change: Any
    received_at: datetime
    values: dict[str, Any] = field(default_factory=dict)


class Inbox:
    """What came in and is not yet written down. `failures` counts handlers that could not take something."""

    def __init__(self, limit: int = INBOX_LIMIT) -> None:
        self._queue: SimpleQueue[Arrival] = SimpleQueue()
        self._limit = limit
        self.failures = 0
        self.last_failure = ""

    def put(self, what: str, change: str, values: dict[str, Any] | None = None) -> None:
        """Raises InboxFull, but never for a signal: without those nobody would learn that something is missing."""
        if what not in SIGNALS and self._queue.qsize() >= self._limit:
            raise InboxFull
        self._queue.put(Arrival(what, change, now(), values or {}))

    def fail(self, where: str, error: BaseException) -> None:
        """Something is missing now. Only the kind of error is kept: its text might hold personal data."""
        self.last_failure = f"{where}: {type(error).__name__}"
        self.failures += 1

    def take(self, limit: int, wait_s: float) -> list[Arrival]:
        """What is there, up to `limit`; waits for the first."""
        taken: list[Arrival] = []
        try:
            taken.append(self._queue.get(timeout=wait_s))
            while len(taken) < limit:
                taken.append(self._queue.get_nowait())
        except Empty:
            pass
        return taken

    def __len__(self) -> int:
        return self._queue.qsize()


class Sink:
    """Where handlers put things."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox


def handler(function: Callable[P, None]) -> Callable[P, None]:
    """A handler that lets no exception out, because nobody would see it, and counts it instead."""

    @wraps(function)
    def safe(*arguments: P.args, **named: P.kwargs) -> None:
        try:
            function(*arguments, **named)
        except Exception as error:  # noqa: BLE001  whatever it is, the API would swallow it
            sink: Any = arguments[0]
            sink.inbox.fail(function.__name__, error)

    return safe


class SessionSink(Sink):
    """The connection itself. `lost_at` is a monotonic moment, None while connected or before the first connection."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(inbox)
        self.lost_at: float | None = None

    @handler
    def OnConnect(self) -> None:
        self.lost_at = None
        self.inbox.put("session", "connected")

    @handler
    def OnDisconnect(self) -> None:
        self.lost_at = time.monotonic()
        self.inbox.put("session", "disconnected")


class DealSink(Sink):
    @handler
    def OnDealAdd(self, deal: Any) -> None:
        self.inbox.put("deal", "add", copied(deal, DEAL_FIELDS))

    @handler
    def OnDealUpdate(self, deal: Any) -> None:
        self.inbox.put("deal", "update", copied(deal, DEAL_FIELDS))

    @handler
    def OnDealDelete(self, deal: Any) -> None:
        self.inbox.put("deal", "delete", copied(deal, DEAL_FIELDS))

    @handler
    def OnDealClean(self, login: int) -> None:
        self.inbox.put("cleaned", "deals", {"Login": login})


class PositionSink(Sink):
    @handler
    def OnPositionAdd(self, position: Any) -> None:
        self.inbox.put("position", "add", copied(position, POSITION_FIELDS))

    @handler
    def OnPositionUpdate(self, position: Any) -> None:
        self.inbox.put("position", "update", copied(position, POSITION_FIELDS))

    @handler
    def OnPositionDelete(self, position: Any) -> None:
        self.inbox.put("position", "delete", copied(position, POSITION_FIELDS))

    @handler
    def OnPositionClean(self, login: int) -> None:
        self.inbox.put("cleaned", "positions", {"Login": login})

    @handler
    def OnPositionSync(self) -> None:
        self.inbox.put("session", "positions")


class OrderSink(Sink):
    @handler
    def OnOrderAdd(self, order: Any) -> None:
        self.inbox.put("order", "add", copied(order, ORDER_FIELDS))

    @handler
    def OnOrderUpdate(self, order: Any) -> None:
        self.inbox.put("order", "update", copied(order, ORDER_FIELDS))

    @handler
    def OnOrderDelete(self, order: Any) -> None:
        self.inbox.put("order", "delete", copied(order, ORDER_FIELDS))

    @handler
    def OnOrderClean(self, login: int) -> None:
        self.inbox.put("cleaned", "orders", {"Login": login})

    @handler
    def OnOrderSync(self) -> None:
        self.inbox.put("session", "orders")


class UserSink(Sink):
    @handler
    def OnUserAdd(self, user: Any) -> None:
        self.inbox.put("account", "state", copied(user, USER_FIELDS))

    @handler
    def OnUserUpdate(self, user: Any) -> None:
        self.inbox.put("account", "state", copied(user, USER_FIELDS))

    @handler
    def OnUserDelete(self, user: Any) -> None:
        self.inbox.put("account", "deleted", copied(user, USER_FIELDS))

    @handler
    def OnUserArchive(self, user: Any) -> None:
        self.inbox.put("account", "archived", copied(user, USER_FIELDS))

    @handler
    def OnUserRestore(self, user: Any) -> None:
        self.inbox.put("account", "restored", copied(user, USER_FIELDS))

    @handler
    def OnUserClean(self, login: int) -> None:
        self.inbox.put("cleaned", "users", {"Login": login})

    @handler
    def OnUserSync(self) -> None:
        self.inbox.put("session", "users")


class StateSink(Sink):
    """Margin calls and stop-outs: the login's state is worth telling anew."""

    @handler
    def OnAccountMarginCallEnter(self, account: Any, group: Any) -> None:
        self.inbox.put("touched", "margin_call", {"Login": account.Login})

    @handler
    def OnAccountMarginCallLeave(self, account: Any, group: Any) -> None:
        self.inbox.put("touched", "margin_call", {"Login": account.Login})

    @handler
    def OnAccountStopOutEnter(self, account: Any, group: Any) -> None:
        self.inbox.put("touched", "stop_out", {"Login": account.Login})

    @handler
    def OnAccountStopOutLeave(self, account: Any, group: Any) -> None:
        self.inbox.put("touched", "stop_out", {"Login": account.Login})
