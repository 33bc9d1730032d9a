"""A private PostgreSQL and Valkey for a machine that has neither, run from the programs inside two wheels.

The wheels' own starters are not used: both fail in a path with spaces, and as root one opens the folders above its data to
everybody (app.server_home says where things are kept instead). Nothing listens on TCP: both servers have a socket in a
folder of mode 0700, and PostgreSQL asks for a password (scram) on top.

Whoever starts the servers holds a lock for as long as it lives; any other process attaches. The kernel stops the servers
when their starter dies.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar
from urllib.parse import quote

import psycopg
from redis import Redis, RedisError

from app import processes
from app.server_home import EmbeddedError, Home, find_home, sweep, write_private

__all__ = ["EmbeddedError", "Server", "Servers", "start"]

DATABASE = "lotwise"
START_TIMEOUT_S = 60.0
EXCLUSIVE_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0

T = TypeVar("T")


@dataclass
class Server:
    """One server process of ours. `launch` may be called again after it died."""

    name: str
    argv: list[str]
    cwd: Path
    pid_file: Path
    log_path: Path
    stop_signal: signal.Signals
    account: tuple[int, int] | None
    process: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        self._clear_leftover()
        with self.log_path.open("ab") as log:
            self.process = processes.launch(
                self.argv,
                cwd=self.cwd,
                environment=_environment(),
                output=log,
                death_signal=self.stop_signal,
                account=self.account,
            )
        return self.process

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop in order, by force after the time-out; data is safe either way (write-ahead log, append-only file)."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            processes.kill_session(self.process.pid)
            self.process.wait()

    def wait_for(self, ready: Callable[[], T | None]) -> T:
        """The first true answer of `ready`. Raises EmbeddedError when the process ends or the time is over."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if answer := ready():
                return answer
            if self.process is not None and (code := self.process.poll()) is not None:
                raise EmbeddedError(f"{self.name} did not start ({processes.how_it_ended(code)}): {_last_line(self.log_path)}")
            time.sleep(0.02)
        raise EmbeddedError(f"{self.name} was not ready within {START_TIMEOUT_S:.0f} s; its log is {self.log_path}.")

    def _clear_leftover(self) -> None:
        """Stop what an earlier starter may have left on this data; drop a pid file whose number is a stranger's by now."""
        try:
            pid = int(self.pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return
        if processes.works_in(pid, self.cwd):
            with suppress(ProcessLookupError):
                os.kill(pid, self.stop_signal)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while processes.works_in(pid, self.cwd):
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"{self.name} of an earlier start (process {pid}) does not stop.")
                time.sleep(0.02)
        elif Path(f"/proc/{pid}").exists():
            self.pid_file.unlink(missing_ok=True)


@dataclass
class Servers:
    """Addresses of the running servers; one that was not asked for is empty. `owned`: this process started them."""

    database_url: str
    database_owner_url: str
    redis_url: str
    owned: bool
    servers: list[Server] = field(default_factory=list)
    home: Home | None = None
    lock: IO[str] | None = None
    throw_away: bool = False

    def stop(self) -> None:
        """Stop what this process started, the last one first; servers it attached to stay. Throw-away data is removed."""
        for server in reversed(self.servers):
            server.stop()
        if self.throw_away and self.home is not None:
            self.home.remove()
        if self.lock is not None:
            self.lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def start(
    base_dir: Path, *, durable: bool = True, redis: bool = True, postgres: bool = True, exclusive: bool = False
) -> Servers:
    """Start the servers of one base folder, or attach to them when another living process runs them.

    With durable=False they are fast and forgetful: nothing is synced to disk, and `stop` removes the data (for tests).
    With exclusive=True servers of another process are an error, after a moment's patience. Raises EmbeddedError.
    """
    try:
        sweep()
        home = find_home(base_dir)
        deadline = time.monotonic() + (EXCLUSIVE_TIMEOUT_S if exclusive else START_TIMEOUT_S)
        while (lock := home.try_lock()) is None:
            if not exclusive and (attached := _attach(home, redis=redis, postgres=postgres)) is not None:
                return attached
            if time.monotonic() > deadline:
                owner = home.state().get("pid", "unknown")
                raise EmbeddedError(f"Another command (process {owner}) already runs here; stop it first.")
            time.sleep(0.05)
        return _own(home, lock, durable=durable, redis=redis, postgres=postgres)
    except OSError as error:
        raise EmbeddedError(f"The private servers cannot start: {error.strerror}: {error.filename}") from error


def _own(home: Home, lock: IO[str], *, durable: bool, redis: bool, postgres: bool) -> Servers:
    """Start as the holder of the lock; on any failure nothing stays running."""
    running = Servers("", "", "", owned=True, home=home, lock=lock, throw_away=not durable)
    try:
        home.write_state(redis=redis, postgres=postgres)
        home.private_dir(home.run_dir)
        if not durable:
            home.mark_throw_away()
        if redis:
            running.redis_url = _redis_url(home)
            running.servers.append(_valkey(home, durable=durable))
            running.servers[-1].launch()
            running.servers[-1].wait_for(lambda: _redis_answers(running.redis_url))
        if postgres:
            running.servers.append(_postgres(home, durable=durable))
            running.servers[-1].launch()
            _prepare_roles(home, running.servers[-1])
            running.database_url = _database_url(home, "lotwise_app")
            running.database_owner_url = _database_url(home, "lotwise_owner")
    except BaseException:
        running.stop()
        raise
    return running


def _attach(home: Home, *, redis: bool, postgres: bool) -> Servers | None:
    """The servers that another living process runs, or None while they are not ready."""
    state = home.state()
    if (postgres and state.get("postgres") is False) or (redis and state.get("redis") is False):
        raise EmbeddedError(
            f"The command that runs here (process {state['pid']}) uses a database or Redis server of its own choice;"
            " give this command the same DATABASE_URL and REDIS_URL."
        )
    found = Servers("", "", "", owned=False)
    if redis:
        found.redis_url = _redis_url(home)
        if not _redis_answers(found.redis_url):
            return None
    if postgres:
        if not (home.path / "passwords.json").exists():
            return None
        found.database_url, found.database_owner_url = _database_url(home, "lotwise_app"), _database_url(home, "lotwise_owner")
        connection = _connection(found.database_url)
        if connection is None:
            return None
        connection.close()
    return found


def _valkey(home: Home, *, durable: bool) -> Server:
    data = home.private_dir(home.path / "valkey")
    argv = [str(home.valkey), "--port", "0", "--unixsocket", str(home.valkey_socket), "--unixsocketperm", "700"]
    argv += ["--dir", ".", "--pidfile", "./valkey.pid", "--save", "", "--appendonly", "yes" if durable else "no"]
    argv += ["--maxmemory-policy", "noeviction", "--daemonize", "no", "--logfile", ""]
    return Server("valkey", argv, data, data / "valkey.pid", home.log("valkey"), signal.SIGTERM, home.account)


def _postgres(home: Home, *, durable: bool) -> Server:
    data = _initialised_data(home, durable=durable)
    sync = "on" if durable else "off"
    options = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": str(home.run_dir),
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_error_statement": "panic",  # statements and details carry personal data
        "log_error_verbosity": "terse",
        "fsync": sync,
        "synchronous_commit": sync,
        "full_page_writes": sync,
    }
    argv = [str(home.postgres_bin / "postgres"), "-D", str(data)]
    for name, value in options.items():
        argv += ["-c", f"{name}={value}"]
    # SIGINT is PostgreSQL's fast stop: it does not wait for clients to leave.
    return Server("postgres", argv, data, data / "postmaster.pid", home.log("postgres"), signal.SIGINT, home.account)


def _initialised_data(home: Home, *, durable: bool) -> Path:
    """PostgreSQL's data folder, made on first use; a half-made one never carries the final name.

    The wheel is built without ICU, and a bare machine has no locale of a language: the built-in C.UTF-8 sorts by code
    point and knows upper and lower case of every script.
    """
    data = home.path / "postgres"
    if data.exists():
        return data
    unfinished = home.path / "postgres.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    home.private_dir(unfinished)
    password_path = home.path / "initdb-password"
    write_private(password_path, home.passwords()["postgres"])
    home.give(password_path)
    argv = [str(home.postgres_bin / "initdb"), "-D", str(unfinished), "--username=postgres", f"--pwfile={password_path}"]
    argv += ["--auth-local=scram-sha-256", "--auth-host=reject", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", *([] if durable else ["--no-sync"])]
    with home.log("initdb").open("wb") as log:
        process = processes.launch(argv, cwd=unfinished, environment=_environment(), output=log, account=home.account)
        code = process.wait()
    password_path.unlink()
    if code != 0:
        raise EmbeddedError(f"PostgreSQL's data folder cannot be made: {_last_line(home.log('initdb'))}")
    unfinished.rename(data)
    return data


def _prepare_roles(home: Home, server: Server) -> None:
    """Wait for PostgreSQL, then make what is missing.

    `lotwise_owner` owns the database and migrates it (it may make databases, for tests); `lotwise_app` has no right but
    what migrations grant it.
    """
    passwords = home.passwords()
    address = _address(home, "postgres", "postgres", passwords["postgres"])
    with server.wait_for(lambda: _connection(address)) as connection:
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role, right in (("lotwise_owner", "CREATEDB"), ("lotwise_app", "NOCREATEDB")):
            if role not in roles:
                statement = f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE {right} PASSWORD '{passwords[role]}'"
                connection.execute(statement.encode())
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER lotwise_owner".encode())


def _connection(address: str) -> psycopg.Connection | None:
    with suppress(psycopg.OperationalError):
        return psycopg.connect(address, autocommit=True, connect_timeout=5)
    return None


def _redis_answers(url: str) -> bool:
    with suppress(RedisError), Redis.from_url(url, socket_timeout=2) as client:
        return bool(client.ping())
    return False


def _database_url(home: Home, role: str) -> str:
    return _address(home, DATABASE, role, home.passwords()[role])


def _address(home: Home, database: str, role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@/{database}?host={quote(str(home.run_dir))}"


def _redis_url(home: Home) -> str:
    return f"unix://{quote(str(home.valkey_socket))}"


def _environment() -> dict[str, str]:
    """A clean environment: PGDATA, PGOPTIONS and their like must not reach our servers."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"}


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"nothing in {log_path}"
