"""MT5's SQL export database: a source of events by the cursor `Timestamp`, and a fast source for sweeps and comparisons.

The export writes in real time and gives every row a new Timestamp when it changes, so an edit of an old deal comes like a
new one. Commits may not be in the order of Timestamps; therefore the source looks back some minutes now and then and tells
what it has not told yet. What is deleted at the server vanishes without a trace here: comparisons find it.

Options (`mt_server.options["sql"]`): those of exports.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from heapq import merge
from operator import attrgetter
from typing import Any

from app.core.clock import now
from app.metatrader.platform import AccountState, Deal, Order, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.sources import Batch, Place, SourceError, Told
from app.metatrader.sources import sql_tables as tables
from app.metatrader.sources.exports import DISCOVER_EVERY_S, PER_BATCH, PER_FETCH, ExportDatabase, ExportSource

#: A deal this young shows by how much the server's clock is ahead of its Timestamp, if nobody has edited it since.
FRESH = timedelta(minutes=10)
_QUARTER_MS = 15 * 60_000
_TICKS_PER_S = 10_000_000
_DEAL_NUMBERS, _ORDER_NUMBERS = tables.number_places(tables.DEAL), tables.number_places(tables.ORDER)
_POSITION_NUMBERS = tables.number_places(tables.POSITION)
_ACCOUNT_NUMBERS = tables.number_places(tables.ACCOUNT)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the export's times are a wall clock's, without a zone


class SQLExport(ExportDatabase):
    """The database as it stands: deals of a range, all accounts, all positions; and rows by their Timestamp."""

    def __init__(
        self, database_url: str, zone: ServerZone, options: Mapping[str, Any], *, keeps_connections: bool = False
    ) -> None:
        """Raises SourceError when the address is missing or of a server that we cannot read."""
        super().__init__("the SQL export", database_url, options, keeps_connections=keeps_connections)
        self._zone = zone
        self._found: tables.Export | None = None
        self._found_at = 0.0
        self._decimals = tables.Decimals()

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
        for row in self._rows(table.select(tables.POSITION, where, order="Position"), where.values):
            yield Position(*self._exact(row, _POSITION_NUMBERS))

    def orders(self) -> Iterator[Order]:
        """All open orders, by ticket."""
        table = self._look().orders
        if table is None:
            raise SourceError("the SQL export has no table mt5_orders")
        where = self._of_groups(table)
        for row in self._rows(table.select(tables.ORDER, where, order="Order"), where.values):
            yield Order(*self._exact(row, _ORDER_NUMBERS))

    def accounts(self) -> Iterator[AccountState]:
        """All logins, by number."""
        export = self._look()
        if export.users is None or export.accounts is None:
            raise SourceError("the SQL export has no table mt5_users or mt5_accounts")
        where = tables.masked(export.users.column("Group", "u"), self._groups)
        statement = tables.accounts_statement(export.users, export.accounts, where)
        for row in self._rows(statement, where.values):
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
        for row in self._rows(table.select(tables.DEAL, where, order="Deal"), where.values):
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


class SQLExportSource(ExportSource):
    """One server's export, followed by Timestamp; positions and accounts, whose tables have none that moves, as snapshots."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._look_back = int(self._look_back_s * _TICKS_PER_S)
        self._export = SQLExport(place.secrets.database_url, place.zone, place.options, keeps_connections=True)
        self._told: dict[tuple[str, int], int] = {}

    def close(self) -> None:
        self._export.close()

    def _positions(self) -> Iterator[Position]:
        return self._export.positions()

    def _accounts(self) -> Iterator[AccountState]:
        return self._export.accounts()

    def _follow(self, stop: threading.Event, *, looks_back: bool) -> Iterator[Batch]:
        for table in self._export.followed():
            yield from self._follow_table(table, stop, looks_back=looks_back)

    def _follow_table(self, table: tables.Table, stop: threading.Event, *, looks_back: bool) -> Iterator[Batch]:
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
