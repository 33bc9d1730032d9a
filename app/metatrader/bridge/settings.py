"""The bridge's settings: a TOML file without secrets, and two passwords from the environment or from files."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from app.metatrader.servertime import ServerZone, UnknownZone, server_zone
from config import ConfigError

T = TypeVar("T")

#: Hosts that may be spoken to without TLS: nobody listens between us and ourselves.
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

_TABLES = {
    "server": ("code", "address", "manager_login", "password_file", "groups", "time_zone", "shards", "connect_timeout_s"),
    "redis": ("url", "ca_file", "password_file"),
    "files": ("folder",),
    "requests": ("enabled", "after_gap"),
}


@dataclass(frozen=True)
class RedisAccess:
    """Where Redis is. `ca_file` is the one authority that its certificate must come from."""

    url: str
    ca_file: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class BridgeSettings:
    """One bridge: one trading server, one folder."""

    code: str
    address: str
    manager_login: int
    password: str = field(repr=False)
    groups: str
    zone: ServerZone
    shards: int
    connect_timeout_s: int
    redis: RedisAccess
    folder: Path
    answers_requests: bool
    asks_after_gap: bool


def load(path: Path, environ: Mapping[str, str] | None = None) -> BridgeSettings:
    """Read and check bridge.toml. Raises ConfigError with one line that names what is wrong.

    Paths in it are relative to its own folder. MT5_MANAGER_PASSWORD and BRIDGE_REDIS_PASSWORD go before password files.
    """
    env = os.environ if environ is None else environ
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}.") from None
    _check_names(tables)
    reader = _Reader(tables, path.absolute().parent, env)
    code = reader.value("server", "code", str)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,20}", code):
        raise ConfigError(f"server.code is {code!r}; it must be the server's code in Lotwise: letters, digits, _ . -")
    try:
        zone = server_zone(reader.value("server", "time_zone", str))
    except UnknownZone as error:
        raise ConfigError(f"server.time_zone: {error}.") from None
    return BridgeSettings(
        code=code,
        address=reader.value("server", "address", str),
        manager_login=reader.value("server", "manager_login", int, low=1),
        password=reader.password("server", "MT5_MANAGER_PASSWORD"),
        groups=reader.value("server", "groups", str, default="*"),
        zone=zone,
        shards=reader.value("server", "shards", int, default=1, low=1, high=64),
        connect_timeout_s=reader.value("server", "connect_timeout_s", int, default=60, low=5, high=600),
        redis=_redis(reader),
        folder=reader.path("files", "folder"),
        answers_requests=reader.value("requests", "enabled", bool, default=True),
        asks_after_gap=reader.value("requests", "after_gap", bool, default=True),
    )


def _redis(reader: _Reader) -> RedisAccess:
    url = reader.value("redis", "url", str)
    parts = urlsplit(url)
    if parts.password:
        raise ConfigError("redis.url holds a password; put it into BRIDGE_REDIS_PASSWORD or redis.password_file.")
    is_local = parts.scheme == "unix" or (parts.scheme == "redis" and parts.hostname in LOCAL_HOSTS)
    if parts.scheme != "rediss" and not is_local:
        raise ConfigError("redis.url must begin with rediss://: what the bridge sends is money and names.")
    ca_file = reader.value("redis", "ca_file", str, default="")
    if parts.scheme == "rediss":
        if not ca_file:
            raise ConfigError("redis.ca_file is missing: the authority that signed the certificate of your Redis.")
        ca_file = str(reader.folder / ca_file)
        if not Path(ca_file).is_file():
            raise ConfigError(f"redis.ca_file: there is no file {ca_file}.")
    return RedisAccess(url, ca_file, reader.password("redis", "BRIDGE_REDIS_PASSWORD", optional=is_local))


def _check_names(tables: Mapping[str, Any]) -> None:
    """A misspelt setting would be silently without effect, so it is refused."""
    for table, values in tables.items():
        if table not in _TABLES or not isinstance(values, dict):
            raise ConfigError(f"[{table}] is no part of bridge.toml; there are {', '.join(_TABLES)}.")
        for name in values:
            if name == "password":
                raise ConfigError(f"{table}.password: no password in this file; use the environment or {table}.password_file.")
            if name not in _TABLES[table]:
                raise ConfigError(f"{table}.{name} is no setting; there are {', '.join(_TABLES[table])}.")


@dataclass(frozen=True)
class _Reader:
    tables: Mapping[str, Any]
    folder: Path
    env: Mapping[str, str]

    def value(self, table: str, name: str, kind: type[T], *, default: T | None = None, low: int = 0, high: int = 2**63) -> T:
        value = self.tables.get(table, {}).get(name, default)
        if value is None:
            raise ConfigError(f"{table}.{name} is missing.")
        if type(value) is not kind:
            raise ConfigError(f"{table}.{name} is {value!r}; it must be of type {kind.__name__}.")
        if isinstance(value, int) and not low <= value <= high:
            raise ConfigError(f"{table}.{name} is {value}; it must lie between {low} and {high}.")
        if value == "" and default is None:
            raise ConfigError(f"{table}.{name} is empty.")
        return value

    def path(self, table: str, name: str) -> Path:
        return self.folder / Path(self.value(table, name, str)).expanduser()

    def password(self, table: str, variable: str, *, optional: bool = False) -> str:
        """From the environment, else from the file that the table names, else an error unless it is `optional`."""
        if self.env.get(variable):
            return self.env[variable]
        if self.tables.get(table, {}).get("password_file"):
            path = self.path(table, "password_file")
            try:
                return path.read_text(encoding="utf-8-sig").strip("\r\n")
            except (OSError, UnicodeDecodeError):
                raise ConfigError(f"{table}.password_file: {path} cannot be read.") from None
        if optional:
            return ""
        raise ConfigError(f"{variable} is not set, and {table}.password_file names no file.")
