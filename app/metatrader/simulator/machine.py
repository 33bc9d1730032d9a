"""The simulator as one thing that starts and stops, in a test or as a process of its own."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from app.core import clock as real_clock
from app.metatrader.events import Origin
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.certificates import server_context
from app.metatrader.simulator.cluster import Cluster
from app.metatrader.simulator.control import Control
from app.metatrader.simulator.dealer import Dealer
from app.metatrader.simulator.event_faults import EventFaults
from app.metatrader.simulator.exchange import Exchange
from app.metatrader.simulator.export import ExportOutput
from app.metatrader.simulator.faults import FaultPlan, Faults
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.life import Life
from app.metatrader.simulator.market import KEPT, Market
from app.metatrader.simulator.publisher import Output, Publisher
from app.metatrader.simulator.server import SimulatorServer
from app.metatrader.simulator.session import MANAGER_LOGIN
from app.metatrader.simulator.store import Store
from app.metatrader.simulator.trader import Trader
from app.metatrader.simulator.users import Users
from app.metatrader.simulator.virtual_clock import VirtualClock

log = logging.getLogger("lotwise.simulator")

#: How the simulator names itself in streams; the demo's trading server has this code.
SERVER_CODE = "sim"
TIME_ZONE = "GMT+2/EU"


class Simulator:
    """A trading server on this machine: Web API over TLS, market, traders, and an event source.

    `code` names it in streams; `number` is its place in a cluster, which tells its groups and its ranges of logins and tickets.
    Its state stays in `state_dir` over restarts. Without `redis_url` events wait in the outbox; without
    `deals_per_minute` nobody trades by himself; with `tick_s` = 0 the market stands still until `exchange.tick()`.
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
        number: int = 1,
        seed: int = 7,
        deals_per_minute: int = 0,
        tick_s: float = 1.0,
        keeps_hours: bool = False,
        time_zone: str = TIME_ZONE,
        clock: Callable[[], datetime] = real_clock.now,
        faults: FaultPlan | None = None,
        outputs: Sequence[Output] = (),
        export_url: str = "",
        export_schema: str = "mt5",
        export_by_year: bool = False,
    ) -> None:
        self._host, self._port, self._state_dir, self._password = host, port, state_dir, password
        self._stopping = threading.Event()
        boot = secrets.token_hex(6)
        zone = server_zone(time_zone)
        self.store = Store(state_dir / "state.sqlite3")
        plan = faults or FaultPlan()
        event_faults = EventFaults(seed)
        event_faults.set(plan.events)
        self.journal = Journal(self.store, Origin(code, "bridge", boot), zone, clock, faults=event_faults)
        self.journal.tells_users = bool(outputs)
        market = self._market(seed, keeps_hours=keeps_hours)
        self.exchange = Exchange(self.store, market, self.journal, zone, clock, boot, Cluster(number))
        command_faults = Faults(seed)
        command_faults.set(list(plan.commands))
        self.dealer = Dealer(self.exchange)
        self.control = Control(self.exchange, Users(self.exchange), command_faults, self._stopping)
        self.trader = Trader(self.exchange, seed)
        self._life = Life(
            self.exchange,
            self.trader,
            self.dealer,
            self._stopping,
            tick_s=tick_s,
            deals_per_second=deals_per_minute / 60,
        )
        exports = [ExportOutput(self.exchange, export_url, schema=export_schema, by_year=export_by_year)] if export_url else []
        is_heard = redis_url or outputs or exports
        self._publisher = Publisher(self.journal, redis_url, outputs, exports) if is_heard else None
        self._server: SimulatorServer | None = None
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The address that clients use. Raises RuntimeError before the start."""
        if self._server is None:
            raise RuntimeError("the simulator is not running")
        return f"https://{self._host}:{self._server.server_address[1]}"

    @property
    def ca_file(self) -> Path:
        """The authority that clients pin."""
        return self._state_dir / "ca.pem"

    @property
    def manager_login(self) -> int:
        return MANAGER_LOGIN

    def start(self) -> Self:
        """Listen, trade, publish. Raises OSError when the port is taken."""
        try:
            tls = server_context(self._state_dir, self._host)
            self._server = SimulatorServer((self._host, self._port), tls, self._password, self.control)
        except BaseException:
            self.store.close()
            raise
        self.journal.control("connected", note="simulator started")
        self.journal.control("sync_done")
        if self._publisher:
            self._publisher.start()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), name="simulator-https", daemon=True),
            threading.Thread(target=self._life.run, name="simulator-market", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        log.info("simulator listens at %s", self.url)
        return self

    def stop(self) -> None:
        """Stop, keeping everything. Harmless when it is not running."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.stop()
        for thread in self._threads:
            thread.join(timeout=5)
        self.journal.control("disconnected", note="simulator stopped")
        if self._publisher:
            self._publisher.stop()
        self.store.close()
        self._server = None

    def forward(self, span: timedelta, *, step: timedelta = timedelta(minutes=1), deals_a_step: int = 0) -> None:
        """Let so much time pass at once, with a move of the market and so many deals each step.

        Raises TypeError when the clock is not a VirtualClock: real time cannot be hurried.
        """
        if not isinstance(self.exchange.clock, VirtualClock):
            raise TypeError("this simulator runs by a clock that cannot be moved")
        end = self.exchange.clock() + span
        while (left := end - self.exchange.clock()) > timedelta():
            self.exchange.clock.move(min(step, left))
            with self.store.transaction():
                self.exchange.tick()
                if deals_a_step:
                    self.trader.make(deals_a_step)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _market(self, seed: int, *, keeps_hours: bool) -> Market:
        """The market where it stood when the simulator last stopped."""
        kept = {name: value for name in KEPT if (value := self.store.number(f"market:{name}"))}
        step, wall_ms = self.store.number("market:step"), self.store.number("market:wall_ms")
        return Market(seed, step=step, mids=kept, wall_ms=wall_ms, keeps_hours=keeps_hours)
