"""The simulator's background life: market steps, people's deals, the dealer, heartbeats, each at its own pace."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from app.metatrader.simulator.journal import Journal, Outbox
from app.metatrader.simulator.load import Pace

log = logging.getLogger("lotwise.simulator")

HEARTBEAT_S = 5.0
PASS_S = 0.1
#: Of how many logins at most the open positions are told with each heartbeat; the next ones with the next.
REPORT_MOST = 200
#: With so many events waiting nobody is interested in heartbeats and prices.
OUTBOX_FULL = 1_000


class Engine(Protocol):
    """What lives: a trading engine of either make."""

    @property
    def store(self) -> Outbox: ...

    @property
    def journal(self) -> Journal: ...

    def tick(self) -> None: ...

    def report_open(self, most: int = 0) -> None: ...


class People(Protocol):
    def make(self, deals: int) -> int: ...


class Dealing(Protocol):
    def act(self) -> None: ...


class Life:
    """Made to run in a thread until `stopping` is set. With `tick_s` 0 the market stands still. `notes` go with heartbeats."""

    def __init__(
        self,
        exchange: Engine,
        trader: People,
        dealer: Dealing,
        stopping: threading.Event,
        *,
        tick_s: float,
        deals_per_second: float,
        notes: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._exchange = exchange
        self._trader = trader
        self._dealer = dealer
        self._stopping = stopping
        self._tick_s = tick_s
        self._deals_per_second = deals_per_second
        self._notes = notes

    def run(self) -> None:
        """One pass after another. What goes wrong in one is logged, and undone."""
        now = time.monotonic()
        self._pace = Pace(self._deals_per_second, now)
        self._next_tick = self._next_heartbeat = now
        while not self._stopping.wait(min(PASS_S, self._tick_s or PASS_S)):
            try:
                self._pass(time.monotonic())
            except Exception:
                log.exception("the simulator's market stumbled; it goes on")

    def _pass(self, now: float) -> None:
        """Everything that is due, in one transaction, so that hundreds of deals cost one write to the disk."""
        deals = self._pace.due(now)
        is_tick = self._tick_s > 0 and now >= self._next_tick
        if is_tick or deals:
            with self._exchange.store.transaction():
                if is_tick:
                    self._next_tick = max(self._next_tick + self._tick_s, now - 5 * self._tick_s)
                    self._exchange.tick()
                if deals:
                    self._trader.make(deals)
        self._dealer.act()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_S
            self._beat()

    def _beat(self) -> None:
        if self._exchange.store.outbox_size() <= OUTBOX_FULL:
            self._exchange.journal.control("heartbeat", **self._notes())
            self._exchange.report_open(REPORT_MOST)
