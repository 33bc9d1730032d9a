"""MT4's report database: what a server has, for sweeps and comparisons, and rows by their TIMESTAMP for the event source.

A report server replicates one row per order (mt4_trades) and one per login (mt4_users). It has no deals, no state and no
contract sizes: mt4.py makes deals, positions and orders of a row, a close time says that it is over, and contract sizes
come from the options or from the bridge beside it.

Options (`mt_server.options["mt4_report"]`) beside those of exports.py: `contract_sizes`, an object of symbols and numbers, or
"bridge" to ask the server's bridge for them, and `contract_size` for all other symbols (100000; 0 with a bridge).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from app.metatrader import mt4
from app.metatrader.errors import PlatformError
from app.metatrader.platform import AccountState, Deal, Order, Position, Symbol
from app.metatrader.servertime import ServerZone
from app.metatrader.sources import SourceError
from app.metatrader.sources.exports import DISCOVER_EVERY_S, PER_FETCH, ExportDatabase
from app.metatrader.sources.sql_tables import Catalog, Condition, Decimals, Table, Wanted, logins_of, masked, number_places

log = logging.getLogger("lotwise.sources")

CONTRACT_SIZE, UNKNOWN = Decimal(100_000), Decimal(0)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the report's times are a wall clock's, without a zone

#: The columns of a row, in the order of mt4.Trade's fields. There is no column for its state.
TRADE: Wanted = (
    ("whole", "TICKET"),
    ("whole", "LOGIN"),
    ("whole", "CMD"),
    ("text", "SYMBOL"),
    ("whole", "DIGITS"),
    ("whole", "VOLUME"),
    ("seconds", "OPEN_TIME"),
    ("seconds", "CLOSE_TIME"),
    ("number", "OPEN_PRICE"),
    ("number", "CLOSE_PRICE"),
    ("number", "SL"),
    ("number", "TP"),
    ("seconds", "EXPIRATION"),
    ("whole", "REASON"),
    ("number", "CONV_RATE1"),
    ("number", "CONV_RATE2"),
    ("number", "MARGIN_RATE"),
    ("number", "COMMISSION"),
    ("number", "SWAPS"),
    ("number", "PROFIT"),
    ("number", "TAXES"),
    ("text", "COMMENT"),
    ("seconds", "TIMESTAMP"),
)
_CLOSE_TIME, _SYMBOL, _COMMENT = 7, 3, 21
#: The columns of a user record, in the order of mt4.Login's fields.
LOGIN: Wanted = (
    ("whole", "LOGIN"),
    ("text", "GROUP"),
    ("whole", "ENABLE"),
    ("whole", "ENABLE_CHANGE_PASS"),
    ("whole", "ENABLE_READONLY"),
    ("text", "NAME"),
    ("text", "EMAIL"),
    ("text", "COUNTRY"),
    ("text", "COMMENT"),
    ("text", "ID"),
    ("whole", "LEVERAGE"),
    ("number", "BALANCE"),
    ("number", "CREDIT"),
    ("number", "EQUITY"),
    ("number", "MARGIN"),
    ("number", "MARGIN_FREE"),
    ("number", "MARGIN_LEVEL"),
    ("seconds", "REGDATE"),
    ("seconds", "TIMESTAMP"),
)
_TEXTS = tuple(place for place, (kind, *_) in enumerate(LOGIN) if kind == "text")
_TRADE_NUMBERS, _LOGIN_NUMBERS = number_places(TRADE), number_places(LOGIN)

_POSITIONS = (mt4.Cmd.BUY, mt4.Cmd.SELL)
_PENDING = (mt4.Cmd.BUY_LIMIT, mt4.Cmd.SELL_LIMIT, mt4.Cmd.BUY_STOP, mt4.Cmd.SELL_STOP)
_WITH_DEALS = (*_POSITIONS, mt4.Cmd.BALANCE, mt4.Cmd.CREDIT)


@dataclass(frozen=True)
class _Tables:
    trades: Table
    users: Table


class MT4Report(ExportDatabase):
    """The database as it stands: deals of a range, all accounts, all positions and pending orders; rows by TIMESTAMP."""

    def __init__(
        self,
        database_url: str,
        zone: ServerZone,
        options: Mapping[str, Any],
        symbols: Callable[[], Sequence[Symbol]],
        *,
        keeps_connections: bool = False,
    ) -> None:
        """`symbols` asks the server's bridge. Raises SourceError when an option or the address cannot be meant."""
        super().__init__("the MT4 report", database_url, options, keeps_connections=keeps_connections)
        self._zone = zone
        self._sizes = ContractSizes(options, symbols)
        self._found: _Tables | None = None
        self._found_at = 0.0
        self._decimals = Decimals()

    def deals(self, since: datetime, until: datetime) -> Iterator[Deal]:
        """Deals by ticket. The range is UTC, both ends included; around a clock change it may give more.

        A deal that closed brings the one that opened along, however old: closing a part has changed it.
        """
        trades = self._look().trades
        first_s, last_s = self._zone.wall_range_s(since, until)
        opened, closed = trades.column("OPEN_TIME"), trades.column("CLOSE_TIME")
        values = {
            "opened_from": _native(trades, "OPEN_TIME", first_s),
            "opened_to": _native(trades, "OPEN_TIME", last_s),
            "closed_from": _native(trades, "CLOSE_TIME", first_s),
            "closed_to": _native(trades, "CLOSE_TIME", last_s),
        }
        in_range = Condition(
            f"({opened} BETWEEN %(opened_from)s AND %(opened_to)s OR {closed} BETWEEN %(closed_from)s AND %(closed_to)s)",
            values,
        )
        for trade in self._trades(in_range & _of_kind(trades, _WITH_DEALS)):
            made = list(mt4.deals_of(trade, self.contract_size(trade.symbol)))
            if made:
                yield from made if first_s <= made[-1].server_time_ms // 1000 <= last_s else made[:1]

    def positions(self) -> Iterator[Position]:
        """All open positions, by ticket."""
        for trade in self._trades(self._open() & _of_kind(self._look().trades, _POSITIONS)):
            position = mt4.position_of(trade, self.contract_size(trade.symbol))
            if position:
                yield position

    def orders(self) -> Iterator[Order]:
        """All pending orders, by ticket."""
        for trade in self._trades(self._open() & _of_kind(self._look().trades, _PENDING)):
            order = mt4.pending_of(trade, self.contract_size(trade.symbol))
            if order:
                yield order

    def accounts(self) -> Iterator[AccountState]:
        """All logins, by number."""
        users = self._look().users
        where = self._of_groups(users)
        for row in self._rows(users.select(LOGIN, where, order="LOGIN"), where.values):
            values = self._exact(row, _LOGIN_NUMBERS, _TEXTS)
            yield mt4.account_of(mt4.Login(*values))

    def changed(self, timestamp: int, ticket: int, limit: int = PER_FETCH) -> list[mt4.Trade]:
        """The rows behind this one in the order of TIMESTAMP and ticket. All kinds of rows, also those of no known kind."""
        trades = self._look().trades
        moved, number = trades.column("TIMESTAMP"), trades.column("TICKET")
        behind = Condition(
            f"{moved} >= %(timestamp)s AND ({moved} > %(timestamp)s OR {number} > %(ticket)s)",
            {"timestamp": _native(trades, "TIMESTAMP", timestamp), "ticket": ticket},
        )
        return list(self._trades(behind, order="TIMESTAMP", limit=limit))

    def first_timestamp(self, since: datetime) -> int:
        """The TIMESTAMP from which on all rows are found that were opened or closed since a moment.

        What its numbers count is not known, so they are taken from those rows; from all, the highest, when there are none.
        """
        trades = self._look().trades
        first_s, _ = self._zone.wall_range_s(since, since)
        moved = trades.fields((("seconds", "TIMESTAMP"),))
        opened, closed = trades.column("OPEN_TIME"), trades.column("CLOSE_TIME")
        values = {"opened": _native(trades, "OPEN_TIME", first_s), "closed": _native(trades, "CLOSE_TIME", first_s)}
        statement = (
            f"SELECT COALESCE((SELECT min({moved}) FROM {trades.sql} WHERE {opened} >= %(opened)s OR {closed} >= %(closed)s),"  # noqa: S608  # names as the database told them, values as parameters
            f" (SELECT max({moved}) FROM {trades.sql}), 0)"
        )
        with self._reading() as connection:
            return int(connection.exec_driver_sql(statement, values).scalar_one())

    def contract_size(self, symbol: str) -> Decimal:
        """Units in one lot of a symbol; 0 when nobody knows."""
        return self._sizes.of(symbol)

    def _trades(self, where: Condition, order: str = "TICKET", limit: int = 0) -> Iterator[mt4.Trade]:
        """Rows of our groups' logins."""
        tables = self._look()
        trades = tables.trades
        if self._groups:
            where &= logins_of(tables.users, self._of_groups(tables.users), trades.column("LOGIN"))
        statement = trades.select(TRADE, where, order=order, then="TICKET" if order != "TICKET" else "", limit=limit)
        for row in self._rows(statement, where.values):
            values = self._exact(row, _TRADE_NUMBERS, (_SYMBOL, _COMMENT))
            is_closed = bool(values[_CLOSE_TIME])
            values.insert(_CLOSE_TIME + 1, mt4.State.CLOSED_NORMAL if is_closed else mt4.State.OPEN_NORMAL)
            yield mt4.Trade(*values)

    def _exact(self, row: Iterable[Any], numbers: tuple[int, ...], texts: tuple[int, ...]) -> list[Any]:
        """The row with exact decimals, and without the blanks that a column of fixed length has behind its text."""
        values, decimals = list(row), self._decimals
        for place in numbers:
            values[place] = decimals[values[place]]
        for place in texts:
            values[place] = values[place].rstrip(" ")
        return values

    def _of_groups(self, users: Table) -> Condition:
        """The condition that a user is of our groups. In a column of fixed length blanks stand behind a group's name."""
        return masked(f"RTRIM({users.column('GROUP')})", self._groups)

    def _open(self) -> Condition:
        """The condition that a row is not closed."""
        trades = self._look().trades
        return Condition(f"{trades.column('CLOSE_TIME')} <= %(never)s", {"never": _native(trades, "CLOSE_TIME", 0)})

    def _look(self) -> _Tables:
        """The tables; looked up again now and then, because an upgrade may change their columns."""
        if self._found is None or time.monotonic() - self._found_at > DISCOVER_EVERY_S:
            with self._reading() as connection:
                catalog = Catalog(connection, self._schema)
                trades, users = catalog.table("mt4_trades"), catalog.table("mt4_users")
            if trades is None or users is None:
                raise SourceError("the MT4 report's database has no table mt4_trades or mt4_users")
            self._found, self._found_at = _Tables(trades, users), time.monotonic()
        return self._found


class ContractSizes:
    """Units in one lot of each symbol, as the options give them, or the bridge, which is asked anew every ten minutes.

    They are shown to people and nothing is reckoned with them: a bridge that does not answer holds up no deal.
    """

    ASK_EVERY_S = 600.0

    def __init__(self, options: Mapping[str, Any], symbols: Callable[[], Sequence[Symbol]]) -> None:
        """Raises SourceError when the options cannot be meant."""
        given = options.get("contract_sizes", {})
        asks = given == "bridge"
        if not asks and not isinstance(given, dict):
            raise SourceError('option contract_sizes must be an object of symbols and numbers, or "bridge"')
        self._symbols = symbols if asks else None
        self._ask_at = 0.0
        self._known = {} if asks else {symbol: _size(f"contract_sizes.{symbol}", size) for symbol, size in given.items()}
        self._rest = UNKNOWN if asks else CONTRACT_SIZE
        if "contract_size" in options:
            self._rest = _size("contract_size", options["contract_size"])

    def of(self, symbol: str) -> Decimal:
        """Units in one lot; 0 when the bridge does not know."""
        if self._symbols and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + self.ASK_EVERY_S
            try:
                self._known = {one.name: one.contract_size for one in self._symbols()}
            except PlatformError as error:
                log.warning("the bridge does not tell its symbols, contract sizes stay as they are error=%s", error.code)
        return self._known.get(symbol, self._rest)


def _size(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not 0 < value <= 10**9:
        raise SourceError(f"option {name} must be a number above 0, 1000000000 at most")
    return Decimal(str(value))


def _of_kind(trades: Table, kinds: Sequence[mt4.Cmd]) -> Condition:
    return Condition(f"{trades.column('CMD')} IN ({', '.join(str(int(kind)) for kind in kinds)})")


def _native(table: Table, column: str, seconds: int) -> int | datetime:
    """Seconds of the wall clock as the column has them: a number, or a date and time."""
    return seconds if column.lower() in table.whole else _EPOCH + timedelta(seconds=seconds)
