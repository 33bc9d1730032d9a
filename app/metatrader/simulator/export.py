"""MetaTrader 5's SQL export: the simulator's tables in a PostgreSQL database, kept up to date as a server's export does.

At its start everything is compared: rows that differ are replaced, rows that are gone at the server are deleted. From then
on changes are applied as they come; what a dealer deletes is deleted here too, so that a cursor alone does not see it.
Nothing that is switched on for events touches the export, as the two are separate ways out of a server.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, islice, pairwise

import psycopg
from psycopg import sql

from app.metatrader.platform import UNITS_PER_OLD_UNIT, Deal
from app.metatrader.servertime import ServerZone
from app.metatrader.simulator import export_tables as tables
from app.metatrader.simulator.exchange import Exchange
from app.metatrader.simulator.export_tables import Table, filetime
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.queued import Queued
from app.metatrader.simulator.records import account_record, complete, order_record, position_record, user_record

log = logging.getLogger("lotwise.simulator")

BATCH = 2_000
PAGE = 20_000
LINES_AT_ONCE = 500
QUARTER_HOUR_MS = 900_000
FIRST_YEAR = 2000
FAR_MS = 2**62


class SQLExport:
    """The tables of one server in one schema. One connection, one thread. With `by_year` deals are kept apart by year.

    Raises psycopg.Error when the database cannot be used.
    """

    def __init__(self, database_url: str, *, schema: str = "mt5", by_year: bool = False) -> None:
        self._connection = psycopg.connect(database_url.replace("+psycopg", "", 1), autocommit=True)
        self._schema = sql.Identifier(schema)
        self._by_year = by_year
        self._made: set[str] = set()
        self._stamps: dict[str, int] = {}

    def create(self) -> None:
        """Make the schema and its tables where they are missing, all at once: a reader looks them up and remembers what it saw.
        There are no indexes but the keys, as with most brokers.
        """
        with self._connection.transaction():
            self._connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(self._schema))
            for table in tables.ALL:
                if not (self._by_year and table is tables.DEALS):
                    self._make(table)

    def deals_table(self, wall_ms: int) -> Table:
        """Where a deal of this moment stands; a year's table is made when its first deal comes."""
        if not self._by_year:
            return tables.DEALS
        table = tables.deals_table(datetime.fromtimestamp(wall_ms // 1000, UTC).year)
        self._make(table)
        return table

    def copy_deals(self, deals: Iterable[Deal], zone: ServerZone) -> int:
        """Load deals that the tables do not hold yet, fast; how many. With `by_year` they must all be of one year."""
        lines = _stamped_lines(deals, zone)
        first = next(lines, None)
        if first is None:
            return 0
        table = self.deals_table(first[0])
        with self._connection.transaction(), self._connection.cursor() as cursor, cursor.copy(self._into(table)) as copy:
            return _write(copy, chain([first[1]], (line for _, line in lines)))

    def replace(self, table: Table, lines: Iterable[str], now: datetime) -> None:
        """Make a table hold exactly these rows. A row that differs gets a new Timestamp, the others keep theirs."""
        with self._connection.transaction(), self._incoming(table, lines):
            key = sql.Identifier(table.key)
            self._connection.execute(
                sql.SQL(
                    "DELETE FROM {table} WHERE NOT EXISTS (SELECT FROM incoming WHERE incoming.{key} = {table}.{key})"
                ).format(table=self._name(table), key=key)
            )
            self._upsert(table, sql.SQL("{} + excluded.{} % 10000000").format(filetime(now), key))

    def apply(self, changes: Mapping[tuple[str, str], tuple[Table, str | None]]) -> None:
        """Carry out changes by table and key: a row's new line, or None when it is gone. All of them or none."""
        by_table: dict[str, tuple[Table, list[str], list[int]]] = {}
        for (_, key), (table, line) in changes.items():
            _, lines, gone = by_table.setdefault(table.name, (table, [], []))
            if line is None:
                gone.append(int(key))
            else:
                lines.append(line)
        with self._connection.transaction():
            for table, lines, gone in by_table.values():
                if gone:
                    statement = sql.SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(
                        self._name(table), sql.Identifier(table.key)
                    )
                    self._connection.execute(statement, [gone])
                if lines:
                    with self._incoming(table, lines):
                        self._upsert(table, sql.SQL('excluded."Timestamp"'))

    def stamp(self, table: Table, moment: datetime) -> int:
        """A Timestamp for a row that changes now: unique in its table."""
        last = self._stamps.get(table.name, 0)
        self._stamps[table.name] = max(filetime(moment), last + 1)
        return self._stamps[table.name]

    def close(self) -> None:
        self._connection.close()

    def _make(self, table: Table) -> None:
        if table.name in self._made:
            return
        declaration = sql.SQL(table.declaration())  # from export_tables.py, nothing of outside
        self._connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(self._name(table), declaration))
        if any(column.name == "Timestamp" for column in table.columns):
            row = self._connection.execute(
                sql.SQL('SELECT coalesce(max("Timestamp"), 0) FROM {}').format(self._name(table))
            ).fetchone()
            self._stamps[table.name] = int(row[0]) if row else 0
        self._made.add(table.name)

    def _name(self, table: Table) -> sql.Composed:
        return sql.SQL("{}.{}").format(self._schema, sql.Identifier(table.name))

    def _names(self, table: Table) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)

    def _into(self, table: Table) -> sql.Composed:
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self._name(table), self._names(table))

    @contextmanager
    def _incoming(self, table: Table, lines: Iterable[str]) -> Iterator[None]:
        """The lines as a temporary table `incoming`."""
        made = sql.SQL("CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0")
        self._connection.execute(made.format(self._names(table), self._name(table)))
        with self._connection.cursor() as cursor, cursor.copy("COPY incoming FROM STDIN") as copy:
            _write(copy, lines)
        yield
        self._connection.execute("DROP TABLE incoming")

    def _upsert(self, table: Table, stamp: sql.Composable) -> None:
        """Bring `incoming` in. A row that says the same already stays untouched, with its Timestamp."""
        told = [column for column in table.columns if column.name not in ("Timestamp", "TimestampTrade", table.key)]
        stamps = [column for column in table.columns if column.name in ("Timestamp", "TimestampTrade")]
        settings = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column.name)) for column in told]
        settings += [sql.SQL("{} = {}").format(sql.Identifier(column.name), stamp) for column in stamps]
        old = sql.SQL(", ").join(sql.SQL("stored.{}").format(sql.Identifier(column.name)) for column in told)
        new = sql.SQL(", ").join(sql.SQL("excluded.{}").format(sql.Identifier(column.name)) for column in told)
        self._connection.execute(
            sql.SQL(
                "INSERT INTO {table} AS stored ({names}) SELECT {names} FROM incoming ON CONFLICT ({key}) DO UPDATE "
                "SET {settings} WHERE ({old}) IS DISTINCT FROM ({new})"
            ).format(
                table=self._name(table),
                names=self._names(table),
                key=sql.Identifier(table.key),
                settings=sql.SQL(", ").join(settings),
                old=old,
                new=new,
            )
        )


class ExportOutput(Queued):
    """Keeps the export of one running simulator up to date. When the database is away it begins again with a comparison."""

    def __init__(self, exchange: Exchange, database_url: str, *, schema: str = "mt5", by_year: bool = False) -> None:
        super().__init__("export", batch=BATCH)
        self._exchange = exchange
        self._database_url, self._schema, self._by_year = database_url, schema, by_year
        self._export: SQLExport | None = None

    def open(self) -> None:
        self._ready()

    def carry_out(self, entries: Sequence[Mapping[str, str]]) -> None:
        export = self._ready()
        changes: dict[tuple[str, str], tuple[Table, str | None]] = {}
        for entry in entries:
            for table, key, line in self._changes(export, entry):
                changes[table.name, key] = (table, line)
        if not changes:
            return
        try:
            export.apply(changes)
        except psycopg.Error:
            self.close()
            raise

    def close(self) -> None:
        if self._export:
            self._export.close()
            self._export = None

    def _ready(self) -> SQLExport:
        """The export, compared with the server when it was just opened."""
        if self._export is None:
            export = SQLExport(self._database_url, schema=self._schema, by_year=self._by_year)
            try:
                export.create()
                self._compare(export)
            except BaseException:
                export.close()
                raise
            self._export = export
        return self._export

    def _compare(self, export: SQLExport) -> None:
        exchange, now = self._exchange, self._exchange.clock()
        for from_ms, to_ms in self._deal_ranges(now):
            lines = (line for _, line in _stamped_lines(self._deals(from_ms, to_ms), exchange.zone))
            export.replace(export.deals_table(from_ms), lines, now)
        with exchange.store.transaction():
            accounts = exchange.store.accounts()
            users = [user_record(account, GROUPS[account.group_name].digits) for account in accounts]
            states = [account_record(exchange.state(account.login)) for account in accounts]
            positions = [position_record(position) for position in exchange.positions()]
            waiting = [order_record(order) for order in exchange.orders()]
            done = [order_record(order) for order in exchange.store.order_history(None, 0, FAR_MS)]
        everything = (
            (tables.USERS, users),
            (tables.ACCOUNTS, states),
            (tables.POSITIONS, positions),
            (tables.ORDERS, waiting),
            (tables.ORDERS_HISTORY, done),
        )
        for table, records in everything:
            export.replace(table, [table.row(record, export.stamp(table, now)) for record in records], now)

    def _deal_ranges(self, now: datetime) -> list[tuple[int, int]]:
        """From when to when the deals of each table are; all of them in one, or the years that have any."""
        if not self._by_year:
            return [(0, FAR_MS)]
        starts = [tables.wall_ms(datetime(year, 1, 1, tzinfo=UTC)) for year in range(FIRST_YEAR, now.year + 3)]
        years = [(start, end - 1) for start, end in pairwise(starts)]
        return [(start, end) for start, end in years if self._exchange.store.count_deals(None, start, end)]

    def _deals(self, from_ms: int, to_ms: int) -> Iterator[Deal]:
        offset = 0
        while page := self._exchange.store.deals(None, from_ms, to_ms, limit=PAGE, offset=offset):
            yield from page
            offset += len(page)

    def _changes(self, export: SQLExport, entry: Mapping[str, str]) -> Iterator[tuple[Table, str, str | None]]:
        """What one event does to the tables: table, key, the row's new line or None."""
        subject, _, change = entry["kind"].partition(".")
        if subject not in ("deal", "position", "order", "account"):
            return
        moment = datetime.fromisoformat(entry["recv_utc"])
        record = complete(subject, json.loads(entry["payload"]))
        if subject == "account":
            yield from self._account_changes(export, change, record, moment)
            return
        if subject == "deal":
            table = export.deals_table(int(record["TimeMsc"]))
        elif subject == "position":
            table = tables.POSITIONS
        else:
            table = tables.ORDERS_HISTORY if tables.is_done(record) else tables.ORDERS
            yield tables.ORDERS if table is tables.ORDERS_HISTORY else tables.ORDERS_HISTORY, record["Order"], None
        key = record[table.key]
        yield table, key, None if change == "delete" else table.row(record, export.stamp(table, moment))

    def _account_changes(
        self, export: SQLExport, change: str, record: Mapping[str, str], moment: datetime
    ) -> Iterator[tuple[Table, str, str | None]]:
        """An account's state stands in two tables; of one that left the server nothing stays."""
        login = record["Login"]
        account = None if change in ("archived", "deleted") else self._exchange.store.account(int(login))
        if account is None:
            yield tables.USERS, login, None
            yield tables.ACCOUNTS, login, None
            return
        user = user_record(account, int(record["CurrencyDigits"]))
        yield tables.USERS, login, tables.USERS.row(user, export.stamp(tables.USERS, moment))
        yield tables.ACCOUNTS, login, tables.ACCOUNTS.row(record, 0)


def _stamped_lines(deals: Iterable[Deal], zone: ServerZone) -> Iterator[tuple[int, str]]:
    """Each deal's wall-clock time and its row, stamped with the moment at which it was made."""
    offsets: dict[int, int] = {}
    for deal in deals:
        quarter = deal.server_time_ms // QUARTER_HOUR_MS
        if quarter not in offsets:
            offsets[quarter] = zone.to_utc(deal.server_time_ms).utc_offset_min
        utc_ms = deal.server_time_ms - offsets[quarter] * 60_000
        yield deal.server_time_ms, deal_line(deal, tables.FILETIME_1970 + utc_ms * 10_000 + deal.ticket % 10_000)


def _write(copy: psycopg.Copy, lines: Iterable[str]) -> int:
    """Send the lines, many at once; how many there were."""
    count, rest = 0, iter(lines)
    while some := list(islice(rest, LINES_AT_ONCE)):
        copy.write("".join(some))
        count += len(some)
    return count


@lru_cache(maxsize=4_096)
def _wall_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def deal_line(deal: Deal, stamp: int) -> str:
    """What export_tables.DEALS.row makes of the deal, some times faster: millions are loaded with it."""
    seconds, milliseconds = divmod(deal.server_time_ms, 1000)
    wall = _wall_text(seconds)
    comment = tables.escaped(deal.comment) if deal.comment else ""
    external = tables.escaped(deal.external_id) if deal.external_id else ""
    return (
        f"{deal.ticket}\t{stamp}\t{external}\t{deal.login}\t{deal.dealer}\t{deal.order_ticket}\t{deal.action}\t{deal.entry}\t"
        f"{deal.reason}\t{deal.digits}\t{deal.digits_currency}\t{deal.contract_size}\t{wall}\t{wall}.{milliseconds:03d}\t"
        f"{deal.symbol}\t{deal.price}\t0.00000\t0.00000\t{deal.volume // UNITS_PER_OLD_UNIT}\t{deal.volume}\t"
        f"{deal.volume_closed // UNITS_PER_OLD_UNIT}\t{deal.volume_closed}\t{deal.profit}\t0.00\t{deal.swap}\t"
        f"{deal.commission}\t{deal.fee}\t{deal.rate_profit}\t{deal.rate_margin}\t0\t{deal.position_ticket}\t{comment}\t0.00\t"
        f"{deal.price_position}\t0.00\t0.00\t0\t\t0.00000\t{deal.market_bid}\t{deal.market_ask}\t0.00000\t"
        f"{deal.modification_flags}\t\n"
    )
