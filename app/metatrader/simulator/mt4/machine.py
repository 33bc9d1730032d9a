"""The MT4 double as one thing that starts and stops, in a test or as a process of its own."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from app.core import clock as real_clock
from app.metatrader.events import VERSION, Origin
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.certificates import server_context
from app.metatrader.simulator.event_faults import EventFaults
from app.metatrader.simulator.faults import FaultPlan, Faults
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.life import Life
from app.metatrader.simulator.market import KEPT, Market
from app.metatrader.simulator.mt4.asked import Answerer
from app.metatrader.simulator.mt4.book import Book
from app.metatrader.simulator.mt4.bridge import Bridge
from app.metatrader.simulator.mt4.control import Control
from app.metatrader.simulator.mt4.dealer import Dealer
from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.request_log import RequestLog
from app.metatrader.simulator.mt4.server import MANAGER_LOGIN, BridgeServer
from app.metatrader.simulator.mt4.trader import Trader
from app.metatrader.simulator.publisher import Publisher
from app.metatrader.simulator.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from app.metatrader.simulator.mt4.reporting import Reporting

log = logging.getLogger("lotwise.simulator")

#: How the double names itself in streams; the demo's MT4 server has this code.
SERVER_CODE = "sim4"
TIME_ZONE = "GMT+2/EU"


class MT4Simulator:
    """An MT4 server with its bridge on this machine: commands over TLS, market, traders, events, a report database.

    `password` is the bridge's secret. State stays in `state_dir` over restarts, the log of commands too. Without `redis_url`
    events wait in the outbox and nobody can ask for any; without `deals_per_minute` nobody trades by himself; with `tick_s` = 0
    the market stands still until `engine.tick()`. `report_url`: a database that gets the report server's tables.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        password: str,
        host: str = "127.0.0.1",
        port: int = 0,
        redis_url: str = "",
        code: str = SERVER_CODE,
        seed: int = 7,
        tick_s: float = 1.0,
        deals_per_minute: int = 0,
        time_zone: str = TIME_ZONE,
        clock: Callable[[], datetime] = real_clock.now,
        faults: FaultPlan | None = None,
        report_url: str = "",
        report_schema: str = "mt4",
    ) -> None:
        self._host, self._port, self._state_dir, self._password = host, port, state_dir, password
        self._stopping = threading.Event()
        zone, plan = server_zone(time_zone), faults or FaultPlan()
        self.store = Book(state_dir / "state.sqlite3")
        event_faults = EventFaults(seed)
        event_faults.set(plan.events)
        self.journal = Journal(self.store, Origin(code, "bridge", secrets.token_hex(6)), zone, clock, faults=event_faults)
        self.engine = MT4Engine(self.store, self._market(seed), self.journal, zone, clock)
        self._log = RequestLog(state_dir / "requests.sqlite3", password, clock)
        self.bridge = Bridge(self.engine, self._log)
        self.faults = Faults(seed)
        self.faults.set(list(plan.commands))
        self.control = Control(self.engine, self.faults, self._stopping)
        self.trader = Trader(self.engine, seed)
        self.dealer = Dealer(self.engine)
        self._life = Life(
            self.engine,
            self.trader,
            self.dealer,
            self._stopping,
            tick_s=tick_s,
            deals_per_second=deals_per_minute / 60,
            notes=self._notes,
        )
        self._publisher = Publisher(self.journal, redis_url) if redis_url else None
        self._answerer = Answerer(self.engine, redis_url) if redis_url else None
        self._reporting = _reporting(self.engine, report_url, report_schema) if report_url else None
        self._server: BridgeServer | None = None
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The address that clients use. Raises RuntimeError before the start."""
        if self._server is None:
            raise RuntimeError("the MT4 simulator is not running")
        return f"https://{self._host}:{self._server.server_address[1]}"

    @property
    def ca_file(self) -> Path:
        """The authority that clients pin."""
        return self._state_dir / "ca.pem"

    @property
    def manager_login(self) -> int:
        return MANAGER_LOGIN

    def start(self) -> Self:
        """Listen, trade, publish, report. Raises OSError when the port is taken."""
        try:
            tls = server_context(self._state_dir, self._host)
            address = (self._host, self._port)
            self._server = BridgeServer(address, tls, self._password, self.bridge, self.control, self._stopping)
        except BaseException:
            self._close()
            raise
        self.journal.control("connected", note="MT4 simulator started")
        self.journal.control("sync_done")
        if self._publisher:
            self._publisher.start()
        if self._answerer:
            self._answerer.start()
        if self._reporting:
            self._reporting.start()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), name="mt4-https", daemon=True),
            threading.Thread(target=self._life.run, name="mt4-market", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        log.info("MT4 simulator listens at %s", self.url)
        return self

    def stop(self) -> None:
        """Stop, keeping everything. Harmless when it is not running."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.stop()
        for thread in self._threads:
            thread.join(timeout=5)
        if self._answerer:
            self._answerer.stop()
        self.journal.control("disconnected", note="MT4 simulator stopped")
        if self._reporting:
            self._reporting.stop()
        if self._publisher:
            self._publisher.stop()
        self._close()
        self._server = None

    def forward(self, span: timedelta, *, step: timedelta = timedelta(minutes=1), deals_a_step: int = 0) -> None:
        """Let so much time pass at once, with a move of the market and so many deals each step.

        Raises TypeError when the clock is not a VirtualClock: real time cannot be hurried.
        """
        clock = self.engine.clock
        if not isinstance(clock, VirtualClock):
            raise TypeError("this simulator runs by a clock that cannot be moved")
        end = clock() + span
        while (left := end - clock()) > timedelta():
            clock.move(min(step, left))
            with self.store.transaction():
                self.engine.tick()
                if deals_a_step:
                    self.trader.make(deals_a_step)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _notes(self) -> dict[str, str]:
        """What heartbeats tell of the bridge."""
        is_away = self.journal.faults.is_away(self.journal.clock())
        return {
            "contract": VERSION,
            "connected": "no" if is_away else "yes",
            "outbox": str(self.store.outbox_size()),
            "requests": "ready",
            "clock_offset_min": str(self.engine.zone.offset_min(self.journal.clock())),
        }

    def _close(self) -> None:
        self.store.close()
        self._log.close()

    def _market(self, seed: int) -> Market:
        """The market where it stood when the double last stopped."""
        kept = {name: value for name in KEPT if (value := self.store.number(f"market:{name}"))}
        return Market(seed, step=self.store.number("market:step"), mids=kept, wall_ms=self.store.number("market:wall_ms"))


def _reporting(engine: MT4Engine, url: str, schema: str) -> Reporting:
    """Imported when it is wanted: it brings a database library along."""
    from app.metatrader.simulator.mt4.reporting import Reporting

    return Reporting(engine, url, schema)
