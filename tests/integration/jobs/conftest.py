"""Parts of the house as real processes on the test's own database and Valkey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.core.actor import Actor
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs.handlers import HANDLERS
from config import Settings
from tests.integration.jobs.process import TEST_HANDLERS
from tests.integration.trading.house import clock, house, wait_until

__all__ = ["clock", "house"]

SYSTEM = Actor.system("test")

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(autouse=True)
def _test_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, handler in TEST_HANDLERS.items():
        monkeypatch.setitem(HANDLERS, name, handler)


@pytest.fixture
def emit(database):
    """Tell facts, each in a transaction of its own; returns their ids."""

    def tell(*types: str, **fields: object) -> list[int]:
        ids = []
        with database.session() as session:
            for type_ in types:
                with unit_of_work(session, SYSTEM):
                    event = Event(type=type_, actor="system:test", payload={}, **fields)
                    session.add(event)
                    session.flush()
                    ids.append(event.id)
        return ids

    return tell


@pytest.fixture
def start(database, redis) -> Iterator[Start]:
    """Start a part: `start("worker")`. All are stopped at the end of the test, by force when they do not leave."""
    running: list[subprocess.Popen[bytes]] = []

    def launch(part: str, settings: Settings | None = None, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.integration.jobs.process", part],
            cwd=Path(__file__).parents[3],
            env=_environment(settings or database.settings) | environment,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield launch
    for process in running:
        stop(process, signal.SIGTERM)


def stop(process: subprocess.Popen[bytes], number: signal.Signals, within_s: float = 10) -> int:
    """Send a signal and wait; what does not end in time is killed with all its children."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        kill_all(process)
        return -9


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all its children at once, as a power cut does."""
    for pid in _session_of(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait(timeout=10)
    wait_until(lambda: not _session_of(process.pid))


def _session_of(session_id: int) -> list[int]:
    """The living processes of a session. Horses have process groups of their own, but stay in it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session_id and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(settings.var_dir),
        "DATABASE_URL": settings.database_url,
        "DATABASE_OWNER_URL": settings.database_owner_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "DOCUMENT_KEY": settings.document_key,
        "STRIPE_SECRET_KEY": settings.stripe_secret_key,
        "STRIPE_WEBHOOK_SECRET": settings.stripe_webhook_secret,
        "MT5_PASSWORD": settings.mt5_password,
        "MT5_CA_FILE": settings.mt5_ca_file,
        "WORKERS": "1",
    }
