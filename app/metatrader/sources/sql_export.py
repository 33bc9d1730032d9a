"""MT5's SQL export database: a source of events by the cursor `Timestamp`, and a fast source for sweeps and comparisons.

The export writes in real time and gives every row a new Timestamp when it changes, so an edit of an old deal comes like a
new one. Commits may not be in the order of Timestamps; therefore the source looks back some minutes now and then and tells
what it has not told yet. What is deleted at the server vanishes without a trace here: comparisons find it.

Secret: `database_url` in MT_SECRETS, a login that may read. Options (`mt_server.options["sql"]`): `schema`, `groups` (masks;
all logins unless given), `every_s` (2), `look_back_s` (300), `look_back_every_s` (30), `positions_every_s` (10),
`accounts_every_s` (30), `first_s` (how far the very first look goes back, a day).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from heapq import merge
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool, QueuePool

from app.core.clock import now
from app.metatrader.platform import AccountState, Deal, Order, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.sources import Batch, Place, SourceError, Told, idle
from app.metatrader.sources import sql_tables as tables
from app.metatrader.sources.snapshot import AccountSnapshot, PositionSnapshot

PER_FETCH = 5_000
PER_BATCH = 1_000
DISCOVER_EVERY_S = 300.0
#: A deal this young shows by how much the server's clock is ahead of its Timestamp, if nobody has edited it since.
FRESH = timedelta(minutes=10)
_QUARTER_MS = 15 * 60_000
_TICKS_PER_S = 10_000_000
_DEAL_NUMBERS, _ORDER_NUMBERS = tables.number_places(tables.DEAL), tables.number_places(tables.ORDER)
_POSITION_NUMBERS = tables.number_places(tables.POSITION)
_ACCOUNT_NUMBERS = tables.number_places(tables.ACCOUNT)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the export's times are a wall clock's, without a zone


class SQLExport:
    """The database as it stands: deals of a range, all accounts, all positions; and rows by their Timestamp.

    A connection is made when it is needed and let go after, unless `keeps_connections`; it may only read. What goes wrong is
    a SourceError, a PlatformError.
    """

    def __init__(
        self, database_url: str, zone: ServerZone, options: Mapping[str, Any], *, keeps_connections: bool = False
    ) -> None:
        """Raises SourceError when the address is missing or of a server that we cannot read."""
        self._zone = zone
        self._schema = str(options.get("schema", ""))
        self._groups = [part.strip() for mask in options.get("groups", []) for part in str(mask).split(",") if part.strip()]
        self._engine = _engine(database_url, QueuePool if keeps_connections else NullPool)
        self._found: tables.Export | None = None
        self._found_at = 0.0
        self._decimals = tables.Decimals()

    def close(self) -> None:
        self._engine.dispose()

    def deals(self, since: datetime, until: datetime) -> Iterator[Deal]:
        """Deals by ticket. The range is UTC, both ends included; around a clock change it may give more."""
        first_s, last_s = self._zone.wall_range_s(since, until)
        first, last = _EPOCH + timedelta(seconds=first_s), _EPOCH + timedelta(seconds=last_s + 1)
        chosen = [table for table in self._look().deals if not table.year or first.year <= table.year <= last.year]
        return merge(*(self._deals(table, first, last) for table in chosen), key=attrgetter("ticket"))

    def positions(self) -> Iterator[Position]:
        """All open positions, by ticket."""
        table = self._look().positions
        if table is None:
            raise SourceError("the SQL export has no table mt5_positions")
        where = self._of_groups(table)
        with self._reading() as connection:
            for row in _stream(connection, table.select(tables.POSITION, where, order="Position"), where.values):
                yield Position(*self._exact(row, _POSITION_NUMBERS))

    def orders(self) -> Iterator[Order]:
        """All open orders, by ticket."""
        table = self._look().orders
        if table is None:
            raise SourceError("the SQL export has no table mt5_orders")
        where = self._of_groups(table)
        with self._reading() as connection:
            for row in _stream(connection, table.select(tables.ORDER, where, order="Order"), where.values):
                yield Order(*self._exact(row, _ORDER_NUMBERS))

    def accounts(self) -> Iterator[AccountState]:
        """All logins, by number."""
        export = self._look()
        if export.users is None or export.accounts is None:
            raise SourceError("the SQL export has no table mt5_users or mt5_accounts")
        where = tables.masked(export.users.column("Group", "u"), self._groups)
        statement = tables.accounts_statement(export.users, export.accounts, where)
        with self._reading() as connection:
            for row in _stream(connection, statement, where.values):
                yield _account(self._exact(row, _ACCOUNT_NUMBERS))

    def followed(self) -> list[tables.Table]:
        """The tables to follow by Timestamp as they are now: deals first, then orders."""
        export = self._look()
        return [*export.deals, *export.closed_orders, *([export.orders] if export.orders else [])]

    def changed(self, table: tables.Table, after: int, limit: int = PER_FETCH) -> list[tuple[int, Deal | Order]]:
        """Rows of a followed table whose Timestamp is higher, lowest first, each with its Timestamp."""
        is_deal = table.name.lower().startswith("mt5_deals")
        make: Callable[..., Deal | Order] = Deal if is_deal else Order
        numbers = _DEAL_NUMBERS if is_deal else _ORDER_NUMBERS
        newer = tables.Condition(f"{table.column('Timestamp')} > %(after)s", {"after": after}) & self._of_groups(table)
        wanted = tables.DEAL if is_deal else tables.ORDER
        statement = table.select(wanted, newer, first="Timestamp", order="Timestamp", limit=limit)
        with self._reading() as connection:
            rows = connection.exec_driver_sql(statement, newer.values).all()
        return [(int(row[0]), make(*self._exact(row[1:], numbers))) for row in rows]

    def _deals(self, table: tables.Table, first: datetime, last: datetime) -> Iterator[Deal]:
        moment = table.time("Time")
        in_range = tables.Condition(f"{moment} >= %(first)s AND {moment} < %(last)s", {"first": first, "last": last})
        where = in_range & self._of_groups(table)
        with self._reading() as connection:
            for row in _stream(connection, table.select(tables.DEAL, where, order="Deal"), where.values):
                yield Deal(*self._exact(row, _DEAL_NUMBERS))

    def _exact(self, row: Iterable[Any], numbers: tuple[int, ...]) -> list[Any]:
        """The row with exact decimals for its numbers."""
        values, decimals = list(row), self._decimals
        for place in numbers:
            values[place] = decimals[values[place]]
        return values

    def _look(self) -> tables.Export:
        """The export's tables; looked up again now and then, because a new year brings new ones."""
        if self._found is None or time.monotonic() - self._found_at > DISCOVER_EVERY_S:
            with self._reading() as connection:
                self._found, self._found_at = tables.discover(connection, self._schema), time.monotonic()
        return self._found

    def _of_groups(self, table: tables.Table) -> tables.Condition:
        """The condition that a row's login is of our groups; true for all when no groups are set."""
        users = self._look().users
        if not self._groups or users is None:
            return tables.masked("", [])
        return tables.logins_of(users, tables.masked(users.column("Group"), self._groups), table.column("Login"))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise SourceError(f"the SQL export's database: {_reason(error)}") from error


class SQLExportSource:
    """One server's export, followed by Timestamp; positions and accounts, whose tables have none that moves, as snapshots."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._every_s = place.number("every_s", 2, 0.1, 60)
        self._look_back = int(place.number("look_back_s", 300, 10, 86_400) * _TICKS_PER_S)
        self._look_back_every_s = place.number("look_back_every_s", 30, 0.1, 3_600)
        self._positions_every_s = place.number("positions_every_s", 10, 0.1, 3_600)
        self._accounts_every_s = place.number("accounts_every_s", 30, 0.1, 3_600)
        self._first = timedelta(seconds=place.number("first_s", 86_400, 60, 366 * 86_400))
        place.texts("groups")
        self._export = SQLExport(place.secrets.database_url, place.zone, place.options, keeps_connections=True)
        self._told: dict[tuple[str, int], int] = {}

    def read(self, stop: threading.Event) -> Iterator[Batch]:
        """Round after round. Raises SourceError when the database cannot be read."""
        # The export may be seen while it fills its tables anew: a position is closed when two looks did not show it.
        positions = PositionSnapshot(self._place.held.positions(), self._place.zone, looks=2)
        accounts = AccountSnapshot()
        due = {"look_back": 0.0, "positions": 0.0, "accounts": 0.0}
        while not stop.is_set():
            moment = time.monotonic()
            looks_back = _is_due(due, "look_back", moment, self._look_back_every_s)
            for table in self._export.followed():
                yield from self._follow(table, stop, looks_back=looks_back)
            if _is_due(due, "positions", moment, self._positions_every_s):
                yield from _batches(positions.compare(self._export.positions(), now()))
            if _is_due(due, "accounts", moment, self._accounts_every_s):
                yield from _batches(accounts.compare(self._export.accounts(), now()))
            yield from idle(stop, self._every_s)

    def close(self) -> None:
        self._export.close()

    def _follow(self, table: tables.Table, stop: threading.Event, *, looks_back: bool) -> Iterator[Batch]:
        """What changed in a table since its cursor, and what was committed behind it."""
        kept = self._place.cursors.get(table.name)
        cursor = int(kept) if kept else tables.filetime(now() - self._first)
        after = cursor - self._look_back if looks_back and kept else cursor
        while not stop.is_set():
            rows = self._export.changed(table, after)
            for start in range(0, len(rows), PER_BATCH):
                part = rows[start : start + PER_BATCH]
                news = [told for ticks, record in part if (told := self._news(table, ticks, record))]
                cursor = max(cursor, part[-1][0])
                yield Batch(news, {table.name: str(cursor)}, clock_offset_min=_clock_offset(part))
                self._told |= {(table.name, record.ticket): ticks for ticks, record in part}
            if len(rows) < PER_FETCH:
                break
            after = rows[-1][0]
        if looks_back:
            self._told = {
                key: ticks for key, ticks in self._told.items() if key[0] != table.name or ticks > cursor - self._look_back
            }

    def _news(self, table: tables.Table, ticks: int, record: Deal | Order) -> Told | None:
        before = self._told.get((table.name, record.ticket))
        if before == ticks:
            return None
        is_edit = before is not None or (isinstance(record, Deal) and record.modification_flags)
        return Told("update" if is_edit else "add", record, tables.moment_of(ticks), rev=str(ticks))


def _engine(database_url: str, pool: type[Pool]) -> Engine:
    arguments: dict[str, dict[str, Any]] = {
        "postgresql": {"connect_timeout": 10, "options": "-c default_transaction_read_only=on -c statement_timeout=600000"},
        "mysql": {"connect_timeout": 10, "read_timeout": 600, "init_command": "SET SESSION TRANSACTION READ ONLY"},
    }
    scheme, _, rest = database_url.partition("://")
    kind = scheme.partition("+")[0].replace("mariadb", "mysql")
    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}.get(kind, "")
    if not driver or not rest:
        raise SourceError("database_url in MT_SECRETS must be the SQL export's address: postgresql://… or mysql://…")
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


def _stream(connection: Connection, sql: str, values: Mapping[str, Any]) -> Iterator[Any]:
    """Rows through a cursor at the database, so that millions of them need no room here."""
    options = {"stream_results": True, "yield_per": PER_FETCH}
    return iter(connection.execution_options(**options).exec_driver_sql(sql, dict(values)))


def _account(row: Any) -> AccountState:
    """A login without a row in mt5_accounts has nothing open."""
    login, group, leverage, rights, mark, of_user, user_credit, has_money, *money = row
    if not has_money:
        equity, none = of_user + user_credit, Decimal(0)
        money = [of_user, user_credit, equity, none, equity, none, none, 2]
    return replace(AccountState(login, group, leverage, rights, *money), mark=mark)


def _clock_offset(rows: list[tuple[int, Deal | Order]]) -> int | None:
    """Minutes that the server's clock is ahead of UTC, as the youngest deal that nobody has edited shows them."""
    for ticks, record in reversed(rows):
        moment = tables.moment_of(ticks)
        if isinstance(record, Deal) and not record.modification_flags and now() - moment < FRESH:
            ahead_ms = record.server_time_ms - int(moment.replace(tzinfo=UTC).timestamp() * 1000)
            quarters = round(ahead_ms / _QUARTER_MS)
            if abs(ahead_ms - quarters * _QUARTER_MS) < 2_000:  # a deal reaches the export at once
                return quarters * 15
    return None


def _is_due(due: dict[str, float], name: str, moment: float, every_s: float) -> bool:
    if moment < due[name]:
        return False
    due[name] = moment + every_s
    return True


def _batches(news: list[Told]) -> Iterator[Batch]:
    for start in range(0, len(news), PER_BATCH):
        yield Batch(news[start : start + PER_BATCH])


def _reason(error: SQLAlchemyError) -> str:
    """The server's own word for it, without statements, values or addresses."""
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None)
    return f"{type(cause or error).__name__}{f' {state}' if state else ''}"
