"""A PostgreSQL, and a Valkey, of the benchmark's own: durable like production, thrown away afterwards."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import quote

import psycopg

from app import embedded, migrate
from app.server_home import Home
from config import Settings


class BenchFailed(Exception):
    """A part of a benchmark stopped with an error; its figures would mean nothing."""


@dataclass(frozen=True)
class BenchDatabase:
    """Addresses of one migrated database, as the application, its owner and the superuser; PostgreSQL's programs; and the
    address of the Valkey beside it, where it was asked for.
    """

    application: str
    owner: str
    superuser: str
    programs: Path
    redis: str = ""

    def psql(self, url: str, script: str) -> None:
        """Run a script as psql does, outside a transaction. Raises BenchFailed with what the server said."""
        done = subprocess.run(
            [self.programs / "psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", url],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchFailed(done.stderr.strip()[-1000:])


@contextmanager
def database(*, redis: bool = False, commit_times: bool = False) -> Iterator[BenchDatabase]:
    """Start a server, migrate its database, and remove both at the end; with `redis` a Valkey, too.

    With `commit_times` PostgreSQL remembers when each transaction was committed (pg_xact_commit_timestamp).
    """
    with tempfile.TemporaryDirectory(prefix="lotwise-bench-") as folder:
        servers = embedded.start(Path(folder), redis=redis)
        try:
            home = cast("Home", servers.home)
            home.mark_throw_away()
            servers.throw_away = True
            addresses = SimpleNamespace(
                database_url=_psycopg(servers.database_url), database_owner_url=_psycopg(servers.database_owner_url)
            )
            migrate.upgrade(cast("Settings", addresses))
            password = home.passwords()["postgres"]
            superuser = f"postgresql://postgres:{password}@/{embedded.DATABASE}?host={quote(str(home.run_dir))}"
            place = BenchDatabase(
                servers.database_url, servers.database_owner_url, superuser, home.postgres_bin, servers.redis_url
            )
            if commit_times:
                place.psql(superuser, "ALTER SYSTEM SET track_commit_timestamp = on")
                _restart(servers.servers[-1], superuser)
            yield place
        finally:
            servers.stop()


def _restart(server: embedded.Server, superuser: str) -> None:
    server.stop(timeout_s=60)  # one that is killed leaves memory behind, with which the next does not start
    server.launch()
    server.wait_for(lambda: _answers(superuser))


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(url).close()
        return True
    return False


def _psycopg(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
