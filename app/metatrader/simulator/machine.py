"""The simulator as one thing that starts and stops, in a test or as a process of its own."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from app.core import clock as real_clock
from app.metatrader.events import Origin
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.certificates import server_context
from app.metatrader.simulator.control import Control
from app.metatrader.simulator.dealer import Dealer
from app.metatrader.simulator.event_faults import EventFaults
from app.metatrader.simulator.exchange import Exchange
from app.metatrader.simulator.faults import FaultPlan, Faults
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.market import MOVING, Market
from app.metatrader.simulator.publisher import Output, Publisher
from app.metatrader.simulator.server import SimulatorServer
from app.metatrader.simulator.session import MANAGER_LOGIN
from app.metatrader.simulator.store import Store
from app.metatrader.simulator.trader import Trader
from app.metatrader.simulator.users import Users

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.simulator")

#: How the simulator names itself in streams; the demo's trading server has this code.
SERVER_CODE = "sim"
TIME_ZONE = "GMT+2/EU"
HEARTBEAT_S = 5.0


class Simulator:
    """A trading server on this machine: Web API over TLS, market, traders, and an event source.

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
        server: str = SERVER_CODE,
        seed: int = 7,
        deals_per_minute: int = 0,
        tick_s: float = 1.0,
        time_zone: str = TIME_ZONE,
        clock: Callable[[], datetime] = real_clock.now,
        faults: FaultPlan | None = None,
        outputs: Sequence[Output] = (),
    ) -> None:
        self._host, self._port, self._state_dir, self._password = host, port, state_dir, password
        self._deals_per_minute, self._tick_s = deals_per_minute, tick_s
        self._stopping = threading.Event()
        boot = secrets.token_hex(6)
        zone = server_zone(time_zone)
        self.store = Store(state_dir / "state.sqlite3")
        plan = faults or FaultPlan()
        event_faults = EventFaults(seed)
        event_faults.set(plan.events)
        self.journal = Journal(self.store, Origin(server, "bridge", boot), zone, clock, faults=event_faults)
        self.journal.tells_users = bool(outputs)
        self.exchange = Exchange(self.store, self._market(seed), self.journal, zone, clock, boot)
        command_faults = Faults(seed)
        command_faults.set(list(plan.commands))
        self.dealer = Dealer(self.exchange)
        self.control = Control(self.exchange, Users(self.exchange), command_faults, self._stopping)
        self.trader = Trader(self.exchange, seed)
        self._publisher = Publisher(self.journal, redis_url, outputs) if redis_url or outputs else None
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
            threading.Thread(target=self._live, name="simulator-market", daemon=True),
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

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _market(self, seed: int) -> Market:
        """The market where it stood when the simulator last stopped."""
        kept = {name: self.store.number(f"market:{name}") for name in MOVING}
        step = self.store.number("market:step")
        return Market(seed, step=step, mids=kept if step and all(kept.values()) else None)

    def _live(self) -> None:
        """The background life: market steps, deals, heartbeats, each at its own pace, until the stop."""
        pause_s = min(0.1, self._tick_s or 0.1)
        next_tick = next_heartbeat = next_deal = time.monotonic()
        deal_every_s = 60 / self._deals_per_minute if self._deals_per_minute else 0.0
        while not self._stopping.wait(pause_s):
            now = time.monotonic()
            try:
                if self._tick_s and now >= next_tick:
                    next_tick = max(next_tick + self._tick_s, now - 5 * self._tick_s)
                    self.exchange.tick()
                while deal_every_s and now >= next_deal and not self._stopping.is_set():
                    next_deal = max(next_deal + deal_every_s, now - 1.0)
                    if not self.trader.act():
                        next_deal = now + deal_every_s
                self.dealer.act()
                if now >= next_heartbeat:
                    next_heartbeat = now + HEARTBEAT_S
                    self._beat()
            except Exception:
                log.exception("the simulator's market stumbled; it goes on")

    def _beat(self) -> None:
        """Heartbeat, and the state of what is open; not while the outbox is full of things that matter more."""
        if self.store.outbox_size() > 1_000:
            return
        self.journal.control("heartbeat")
        self.exchange.report_open()


def run(settings: Settings) -> None:
    """The simulator process: serves on PORT + 1 until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    simulator = Simulator(
        state_dir=settings.var_dir / "simulator",
        password=settings.mt5_password,
        port=settings.port + 1,
        redis_url=settings.redis_url,
        seed=settings.simulator_seed,
        deals_per_minute=settings.simulator_deals_per_minute,
    )
    try:
        simulator.start()
    except OSError as error:
        raise SystemExit(f"The MT5 simulator cannot listen on port {settings.port + 1}: {error.strerror}.") from None
    stop.wait()
    simulator.stop()
