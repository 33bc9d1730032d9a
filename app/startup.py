"""What stands between a command and its work: settings, usable folders, free ports, databases that answer.

Every check raises StartError with one line that says what is wrong and how to mend it; `run.py doctor` shows them all,
the other commands stop at the first.
"""

from __future__ import annotations

import ctypes.util
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded import Servers, start
from config import Settings, StartError, load_settings

OLDEST_PYTHON = (3, 11)
#: Stands for the address of a private server that does not run yet.
_PRIVATE = {"DATABASE_URL": "postgresql:///private", "REDIS_URL": "unix:///private"}
#: Settings.port + offset: what listens there in development.
HELPER_PORTS = {1: "MT5 simulator", 2: "Stripe sandbox", 3: "mailbox page", 4: "mailbox's SMTP", 5: "MT4 simulator"}


@dataclass(frozen=True)
class Opened:
    """Settings whose databases answer. `servers` are the private ones, where the environment names no other."""

    settings: Settings
    servers: Servers | None


@contextmanager
def opened(environ: Mapping[str, str] | None = None, *, exclusive: bool = False) -> Iterator[Opened]:
    """Read the settings and reach both databases; in development a private server takes the place of one not named.

    Private servers are started unless another command of this checkout runs them already, and stopped at the end by the
    command that started them. With exclusive=True this command must be that one.
    """
    env = dict(os.environ if environ is None else environ)
    private = missing_servers(env)
    settings = load_settings({**env, **private})
    make_known(settings)
    check_folders(settings)
    if "DATABASE_URL" not in private:
        check_database(settings)
    if "REDIS_URL" not in private:
        check_redis(settings)
    if not private:
        yield Opened(settings, None)
        return
    servers = start(
        settings.var_dir / "servers", postgres="DATABASE_URL" in private, redis="REDIS_URL" in private, exclusive=exclusive
    )
    with servers:
        addresses = {
            "DATABASE_URL": servers.database_url,
            "DATABASE_OWNER_URL": servers.database_owner_url,
            "REDIS_URL": servers.redis_url,
        }
        yield Opened(load_settings({**env, **{name: url for name, url in addresses.items() if url}}), servers)


def draft_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings with a placeholder for the address of each private server; nothing is started or reached."""
    env = os.environ if environ is None else environ
    settings = load_settings({**env, **missing_servers(env)})
    make_known(settings)
    return settings


def make_known(settings: Settings) -> None:
    """Tell the process of the currencies that the house uses."""
    from app.core import money

    money.configure(settings.extra_currencies, settings.reporting_currency)


def missing_servers(env: Mapping[str, str]) -> dict[str, str]:
    """Placeholders for the servers that development replaces by private ones; empty elsewhere."""
    if env.get("LOTWISE_ENV", "development") != "development":
        return {}
    return {name: address for name, address in _PRIVATE.items() if not env.get(name)}


def check_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise StartError(f"Python {sys.version.split()[0]} is too old; 3.11 or newer is needed: `make run PYTHON=python3.11`.")


def check_pango() -> None:
    """WeasyPrint lays out statements with the system's Pango, which no package of PyPI carries."""
    for library in ("libpango-1.0.so.0", "libpangoft2-1.0.so.0"):
        try:
            ctypes.CDLL(library)
        except OSError:
            raise StartError(
                f"{library} is missing, so statements cannot be made: `apt-get install libpango-1.0-0 libpangoft2-1.0-0`."
            ) from None


def check_folders(settings: Settings) -> None:
    check_folder(settings.var_dir, "LOTWISE_VAR")
    check_folder(settings.documents_dir, "DOCUMENTS_DIR")


def check_folder(path: Path, variable: str) -> None:
    """The folder can be made and written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StartError(f"The folder {path} cannot be written ({error.strerror}); {variable} names another.") from error


def check_ports(settings: Settings) -> None:
    """The web part's port is free and, outside production, those of the development helpers behind it."""
    check_port(settings.host, settings.port, "web")
    if not settings.is_production:
        for offset, name in HELPER_PORTS.items():
            check_port("127.0.0.1", settings.port + offset, name)


def check_port(host: str, port: int, name: str) -> None:
    """Nobody else listens there."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        hint = (
            "HOST must be an address of this machine"
            if isinstance(error, socket.gaierror)
            else "PORT names another, with 5 free ones behind it"
        )
        raise StartError(f"Port {port} on {host} ({name}) cannot be used: {error.strerror}; {hint}.") from error


def check_database(settings: Settings) -> None:
    """PostgreSQL answers as the application's role and as the owner's."""
    import psycopg

    for variable, url in (("DATABASE_URL", settings.database_url), ("DATABASE_OWNER_URL", settings.database_owner_url)):
        try:
            psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=5).close()
        except psycopg.Error as error:
            raise StartError(f"{variable} cannot be reached: {' '.join(str(error).split())}") from error


def check_redis(settings: Settings) -> None:
    """The Redis-protocol server answers."""
    from redis import Redis, RedisError

    try:
        with Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except (RedisError, ValueError, OSError) as error:
        raise StartError(f"REDIS_URL cannot be reached: {' '.join(str(error).split())}") from error
