"""What the databases that trading servers export to have in common: MT5's SQL export and MT4's report database.

`ExportDatabase` opens one to read only. `ExportSource` follows its rows by a column that moves with every change of a row,
and compares positions and accounts, which change all the time, between two looks.

Secret: `database_url` in MT_SECRETS, a login that may read. Options of both sources: `schema`, `groups` (masks; all logins
unless given), `every_s` (2), `look_back_s` (300), `look_back_every_s` (30), `positions_every_s` (10), `accounts_every_s`
(30), `first_s` (how far the very first look goes back, a day).
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool, QueuePool

from app.core.clock import now
from app.metatrader.platform import AccountState, Position
from app.metatrader.sources import Batch, Place, SourceError, Told, idle
from app.metatrader.sources.snapshot import AccountSnapshot, PositionSnapshot

PER_FETCH = 5_000
PER_BATCH = 1_000
DISCOVER_EVERY_S = 300.0


class ExportDatabase:
    """A database on PostgreSQL, MySQL or MariaDB. A connection is made when it is needed and let go after, unless
    `keeps_connections`; it may only read. What goes wrong is a SourceError, a PlatformError.
    """

    def __init__(self, called: str, database_url: str, options: Mapping[str, Any], *, keeps_connections: bool = False) -> None:
        """`called` names it in errors. Raises SourceError when the address is missing or of a server that we cannot read."""
        self._called = called
        self._schema = str(options.get("schema", ""))
        self._groups = [part.strip() for mask in options.get("groups", []) for part in str(mask).split(",") if part.strip()]
        self._engine = _engine(called, database_url, QueuePool if keeps_connections else NullPool)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise SourceError(f"{self._called}'s database: {_reason(error)}") from error

    def _rows(self, sql: str, values: Mapping[str, Any]) -> Iterator[Any]:
        """Rows through a cursor at the database, so that millions of them need no room here."""
        options = {"stream_results": True, "yield_per": PER_FETCH}
        with self._reading() as connection:
            yield from connection.execution_options(**options).exec_driver_sql(sql, dict(values))


class ExportSource(ABC):
    """One server's export, round after round."""

    def __init__(self, place: Place) -> None:
        """Raises SourceError when an option is not what it may be."""
        self._place = place
        self._every_s = place.number("every_s", 2, 0.1, 60)
        self._look_back_s = place.number("look_back_s", 300, 10, 86_400)
        self._look_back_every_s = place.number("look_back_every_s", 30, 0.1, 3_600)
        self._positions_every_s = place.number("positions_every_s", 10, 0.1, 3_600)
        self._accounts_every_s = place.number("accounts_every_s", 30, 0.1, 3_600)
        self._first = timedelta(seconds=place.number("first_s", 86_400, 60, 366 * 86_400))
        place.texts("groups")

    def read(self, stop: threading.Event) -> Iterator[Batch]:
        """Round after round. Raises SourceError when the database cannot be read."""
        # The export may be seen while it fills its tables anew: a position is closed when two looks did not show it.
        positions = PositionSnapshot(self._place.held.positions(), self._place.zone, looks=2)
        accounts = AccountSnapshot()
        due = {"look_back": 0.0, "positions": 0.0, "accounts": 0.0}
        while not stop.is_set():
            moment = time.monotonic()
            yield from self._follow(stop, looks_back=_is_due(due, "look_back", moment, self._look_back_every_s))
            if _is_due(due, "positions", moment, self._positions_every_s):
                yield from batches(positions.compare(self._positions(), now()))
            if _is_due(due, "accounts", moment, self._accounts_every_s):
                yield from batches(accounts.compare(self._accounts(), now()))
            yield from idle(stop, self._every_s)

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _follow(self, stop: threading.Event, *, looks_back: bool) -> Iterator[Batch]:
        """What changed since the cursors; with `looks_back` also what was committed behind them."""

    @abstractmethod
    def _positions(self) -> Iterable[Position]: ...

    @abstractmethod
    def _accounts(self) -> Iterable[AccountState]: ...


def batches(news: Sequence[Told]) -> Iterator[Batch]:
    """News in batches of a bearable size."""
    for start in range(0, len(news), PER_BATCH):
        yield Batch(news[start : start + PER_BATCH])


def _engine(called: str, database_url: str, pool: type[Pool]) -> Engine:
    arguments: dict[str, dict[str, Any]] = {
        "postgresql": {"connect_timeout": 10, "options": "-c default_transaction_read_only=on -c statement_timeout=600000"},
        "mysql": {"connect_timeout": 10, "read_timeout": 600, "init_command": "SET SESSION TRANSACTION READ ONLY"},
    }
    scheme, _, rest = database_url.partition("://")
    kind = scheme.partition("+")[0].replace("mariadb", "mysql")
    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}.get(kind, "")
    if not driver or not rest:
        raise SourceError(f"database_url in MT_SECRETS must be {called}'s address: postgresql://… or mysql://…")
    try:
        return create_engine(
            f"{driver}://{rest}",
            poolclass=pool,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=arguments[kind],
        )
    except (ArgumentError, ValueError):
        raise SourceError("database_url in MT_SECRETS is not a well-formed address") from None


def _is_due(due: dict[str, float], name: str, moment: float, every_s: float) -> bool:
    if moment < due[name]:
        return False
    due[name] = moment + every_s
    return True


def _reason(error: SQLAlchemyError) -> str:
    """The server's own word for it, without statements, values or addresses."""
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None)
    return f"{type(cause or error).__name__}{f' {state}' if state else ''}"
