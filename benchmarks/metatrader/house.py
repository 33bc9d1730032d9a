"""A whole house at work: the simulator with a crowd of traders, and every part as `run.py` runs it in production, each a
process of its own, on a private PostgreSQL and Valkey.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, configure_mappers

import app.models  # noqa: F401  relationships need all tables
from app import ROOT, processes, startup, up
from app.clients.passwords import hash_password
from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, ecb, posting
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.simulator.crowd import gather
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.machine import SERVER_CODE, TIME_ZONE, Simulator
from app.metatrader.simulator.session import MANAGER_LOGIN
from app.metatrader.simulator.store import Account, Store
from app.metatrader.stream import stream_names
from app.security import portal
from benchmarks.metatrader.flow import Drained
from benchmarks.metatrader.pages import Page
from benchmarks.servers import BenchDatabase, BenchFailed
from benchmarks.usage import parent_of
from config import Settings, load_settings

#: The parts beside the simulator, in the order of their start.
PARTS = ("ingest", "relay", "worker", "cron", "web")
SIMULATOR = "simulator"
ACCOUNTS_PER_CLIENT = 5
#: Half of the threads of each of the two web processes may hold an open page.
WEB_THREADS = 128
PASSWORD = "Bench-Client-1"  # noqa: S105  of clients who live as long as the benchmark
#: What the house has at the bank per account: more than anybody pays in.
CAPITAL_MINOR = 10_000_000

READY_S, STOP_S = 90.0, 30.0
LOOK_S = 0.2
SEED = 7
ACTOR = Actor.system("bench")

_SERVER = text(
    "INSERT INTO mt_server (code, name, platform, url, manager_login, time_zone)"
    " VALUES (:code, 'Bench', 'mt5_web', :url, :manager_login, :time_zone)"
)
_PRODUCTS = text("""
    INSERT INTO product (code, name, server_id, "group", currency, leverages)
    SELECT replace("group", '\\', '-'), "group", mt_server.id, "group", currency, '[30, 100, 200]'
      FROM mt_server, unnest(CAST(:groups AS text[]), CAST(:currencies AS text[])) AS made ("group", currency)
""")
_CLIENTS = text("""
    INSERT INTO client (email, password_hash, first_name, last_name, country, status, terms_version, terms_accepted_at)
    SELECT 'client-' || n || '@bench.example', :password_hash, 'Elena', 'Rossi', 'IT', 'approved', '1', now()
      FROM generate_series(1, :clients) AS n
""")
_ACCOUNTS = text("""
    INSERT INTO trading_account (client_id, product_id, server_id, login, currency, leverage, status, token, opened_at, "group")
    SELECT owner.id, product.id, product.server_id, made.login, product.currency, made.leverage, 'active',
           'A-' || lpad(made.login::text, 13, '0'), now(), product."group"
      FROM unnest(CAST(:logins AS bigint[]), CAST(:groups AS text[]), CAST(:leverages AS integer[]))
           WITH ORDINALITY AS made (login, "group", leverage, n)
      JOIN product ON product."group" = made."group"
      JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM client) AS owner ON owner.n = (made.n - 1) / :each
""")


@dataclass
class Part:
    """One running part, and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path

    def last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class House:
    """The house of one benchmark. As a context manager: what it started is stopped at the end, whatever happened."""

    def __init__(self, place: BenchDatabase, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Part] = {}
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "LOTWISE_ENV": "development",
            "LOTWISE_VAR": str(folder / "var"),
            "DATABASE_URL": place.application,
            "DATABASE_OWNER_URL": place.owner,
            "REDIS_URL": place.redis,
            "PORT": str(_free_ports()),
            "WEB_THREADS": str(WEB_THREADS),
        }
        self.settings: Settings = load_settings(self._environment)
        startup.make_known(self.settings)
        configure_mappers()
        self.engine = create_engine(self.settings.database_url)
        self.redis = Redis.from_url(self.settings.redis_url)
        self.drained = Drained(self.redis, stream_names(SERVER_CODE))
        self.server_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for part in self._running.values():
            part.process.send_signal(signal.SIGTERM)
        for part in self._running.values():
            _ended(part.process, STOP_S)
        self.redis.close()
        self.engine.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        with Session(self.engine) as session:
            yield session

    # ── before anything runs ───────────────────────────────────────────────────────────────────────────────────────────

    def furnish(self, accounts: int) -> None:
        """Logins at the server, with money; the clients whose accounts they are; the house's capital; rates."""
        crowd = self._gather(accounts)
        groups = sorted({account.group_name for account in crowd})
        currencies = {group: GROUPS[group].currency for group in groups}
        clients = -(-len(crowd) // ACCOUNTS_PER_CLIENT)
        with self.engine.begin() as connection:
            server = {"code": SERVER_CODE, "url": self.settings.simulator_url}
            connection.execute(_SERVER, {**server, "manager_login": MANAGER_LOGIN, "time_zone": TIME_ZONE})
            connection.execute(_PRODUCTS, {"groups": groups, "currencies": [currencies[group] for group in groups]})
            connection.execute(_CLIENTS, {"clients": clients, "password_hash": hash_password(PASSWORD)})
            rows = {
                "logins": [account.login for account in crowd],
                "groups": [account.group_name for account in crowd],
                "leverages": [account.leverage for account in crowd],
            }
            connection.execute(_ACCOUNTS, {**rows, "each": ACCOUNTS_PER_CLIENT})
            self.server_id = int(connection.scalar(text("SELECT id FROM mt_server")) or 0)
        with self.session() as session:
            ecb.refresh(session, "")
            for currency in sorted(set(currencies.values())):
                self._bring_capital(session, Money(CAPITAL_MINOR * accounts, currency))

    def _gather(self, accounts: int) -> list[Account]:
        """Open and fund the logins, in this process; that they were opened waits to be told in the simulator's outbox."""
        simulator = Simulator(state_dir=self.settings.var_dir / SIMULATOR, password=self.settings.mt5_password, tick_s=0)
        gather(simulator.control.users, simulator.exchange, accounts, seed=SEED)
        found = simulator.store.accounts()
        simulator.store.close()
        return found

    def _bring_capital(self, session: Session, amount: Money) -> None:
        """The house's own, kept with the clients' money at the bank, so that what clients win is covered."""
        with unit_of_work(session, ACTOR):
            bank = chart.bank_client_money(self.settings.client_bank, amount.currency)
            opening = chart.migration_opening(amount.currency)
            ids = chart.open_accounts(session, bank, opening)
            posting.post(
                session,
                key=f"migration-account:{ids[bank.code]}",
                kind="migration_opening",
                effective_at=now(),
                actor=ACTOR,
                legs=[posting.debit(bank, amount), posting.credit(opening, amount)],
            )

    # ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def open_doors(self) -> None:
        """Start all parts but the simulator, and wait until they are well."""
        for name in PARTS:
            self.start(name)
        self.wait_until(lambda: not up.health(self.settings), READY_S, "the parts are not up")

    def start(self, name: str, *arguments: str) -> None:
        """Start a part as `run.py NAME ARGUMENTS`."""
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            argv = [sys.executable, str(ROOT / "run.py"), name, *arguments]
            process = processes.launch(argv, cwd=ROOT, environment=self._environment, output=output)
        self._running[name] = Part(process, log)

    def stop(self, name: str) -> None:
        """Stop a part in order, as its supervisor would."""
        part = self._running.pop(name)
        part.process.send_signal(signal.SIGTERM)
        if not _ended(part.process, STOP_S):
            raise BenchFailed(f"{name} did not stop within {STOP_S:.0f} s")

    def trade(self, deals_per_second: float, faults: str = "") -> None:
        """Start the simulator, and wait until it answers."""
        self.start(SIMULATOR, "--deals-per-second", str(deals_per_second), "--seed", str(SEED), "--faults", faults)
        port = self.settings.port + 1
        self.wait_until(lambda: _listens(port), READY_S, "the simulator does not answer")

    def process_ids(self) -> dict[str, int]:
        """Of all parts, and of both servers of data."""
        with self.engine.connect() as connection:
            backend = int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)
        servers = {"valkey": int(self.redis.info("server")["process_id"]), "postgres": parent_of(backend)}
        return {name: part.process.pid for name, part in self._running.items()} | servers

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        """Wait for a condition. Raises BenchFailed with the complaint when it takes longer, or when a part has died."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise BenchFailed(f"{complaint} within {timeout_s:.0f} s")
            self.wait(LOOK_S)

    def wait(self, seconds: float) -> None:
        """Let time pass. Raises BenchFailed when a part dies meanwhile."""
        ends = time.monotonic() + seconds
        while (left_s := ends - time.monotonic()) > 0:
            for name, part in self._running.items():
                if part.process.poll() is not None:
                    raise BenchFailed(f"{name} ended; its last line was: {part.last_line()}")
            threading.Event().wait(min(left_s, 1.0))

    # ── looking at it ──────────────────────────────────────────────────────────────────────────────────────────────────

    def pages(self, number: int) -> list[Page]:
        """Pages of so many signed-in clients, spread over all of them."""
        with self.session() as session:
            emails = session.scalars(text("SELECT email FROM client ORDER BY id")).all()
            session.rollback()
            chosen = emails[:: max(1, len(emails) // number)][:number]
            signed_in = [
                portal.sign_in(session, email=email, password=PASSWORD, address="127.0.0.1", user_agent="bench")
                for email in chosen
            ]
        return [Page(self.settings.host, self.settings.port, one.client_id, one.secret) for one in signed_in]

    def platform(self) -> MT5WebPlatform:
        """The simulator's Web API, as the jobs use it. Close it, or use it as a context manager."""
        return MT5WebPlatform(
            ServerAccess(
                code=SERVER_CODE,
                platform="mt5_web",
                url=self.settings.simulator_url,
                manager_login=MANAGER_LOGIN,
                password=self.settings.mt5_password,
                ca_file=self.settings.mt5_ca_file,
                time_zone=TIME_ZONE,
            )
        )

    @contextmanager
    def store(self) -> Iterator[Store]:
        """What the simulator remembers; only while it does not run."""
        store = Store(self.settings.var_dir / SIMULATOR / "state.sqlite3")
        try:
            yield store
        finally:
            store.close()


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether a process ends by itself in time; it is over afterwards in any case, with all that it started."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        processes.kill_session(process.pid)
        process.wait()
        return False
    return True


def _free_ports() -> int:
    """A free port whose next one is free, too: the simulator's."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
