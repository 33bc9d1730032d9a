"""The tables of MT5's SQL export, and how their columns become the fields of our records.

The export exists for several database servers, and its columns differ between builds. So tables and columns are looked up,
without regard to upper and lower case; a column that an older build lacks reads as zero or empty. Deals may be split by
year (mt5_deals_2026). Times are the server's wall clock; `Timestamp` is a Windows FILETIME in UTC and changes with the row.
MT4's report database (mt4_report.py) is read by the same means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Integer, inspect

from app.metatrader.sources import SourceError

#: 100-nanosecond ticks from 1601 to 1970.
_EPOCH_TICKS = 116_444_736_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Fields of a record: kind of value, and the columns to read it from.
Wanted = tuple[tuple[str, ...], ...]

#: How each field of a record is read: kind of value, and the columns to read it from, the newest build's first.
#: The order is that of the record's own fields, so that a row can be made into a record as it is.
DEAL = (
    ("whole", "Deal"),
    ("whole", "Login"),
    ("whole", "Action"),
    ("whole", "Entry"),
    ("whole", "Reason"),
    ("whole", "Order"),
    ("whole", "PositionID"),
    ("text", "Symbol"),
    ("volume", "Volume"),
    ("volume", "VolumeClosed"),
    ("number", "Price"),
    ("number", "PricePosition"),
    ("number", "MarketBid"),
    ("number", "MarketAsk"),
    ("number", "ContractSize"),
    ("whole", "Digits"),
    ("whole", "DigitsCurrency"),
    ("number", "Profit"),
    ("number", "Storage"),
    ("number", "Commission"),
    ("number", "Fee"),
    ("number", "RateProfit"),
    ("number", "RateMargin"),
    ("moment", "Time"),
    ("text", "Comment"),
    ("whole", "ModificationFlags", "ModifyFlags"),
    ("whole", "Dealer"),
    ("text", "ExternalID"),
)
POSITION = (
    ("whole", "Position"),
    ("whole", "Login"),
    ("text", "Symbol"),
    ("whole", "Action"),
    ("whole", "Reason"),
    ("volume", "Volume"),
    ("number", "PriceOpen"),
    ("number", "PriceCurrent"),
    ("number", "Profit"),
    ("number", "Storage"),
    ("number", "ContractSize"),
    ("whole", "Digits"),
    ("whole", "DigitsCurrency"),
    ("number", "RateProfit"),
    ("number", "RateMargin"),
    ("moment", "TimeCreate"),
    ("moment", "TimeUpdate"),
    ("text", "Comment"),
    ("text", "ExternalID"),
    ("number", "PriceSL"),
    ("number", "PriceTP"),
)
ORDER = (
    ("whole", "Order"),
    ("whole", "Login"),
    ("text", "Symbol"),
    ("whole", "Type"),
    ("whole", "State"),
    ("whole", "Reason"),
    ("volume", "VolumeInitial"),
    ("volume", "VolumeCurrent"),
    ("number", "PriceOrder"),
    ("number", "PriceTrigger"),
    ("number", "PriceSL"),
    ("number", "PriceTP"),
    ("whole", "PositionID"),
    ("whole", "PositionByID"),
    ("moment", "TimeSetup"),
    ("moment", "TimeDone"),
    ("moment", "TimeExpiration"),
    ("text", "Comment"),
    ("whole", "Digits"),
    ("text", "ExternalID"),
    ("number", "ContractSize"),
)
#: An account's state stands in two tables.
USER = (
    ("whole", "Login"),
    ("text", "Group"),
    ("whole", "Leverage"),
    ("whole", "Rights"),
    ("text", "ID"),
    ("number", "Balance"),
    ("number", "Credit"),
)
MONEY = (
    ("number", "Balance"),
    ("number", "Credit"),
    ("number", "Equity"),
    ("number", "Margin"),
    ("number", "MarginFree"),
    ("number", "MarginLevel"),
    ("number", "Floating"),
    ("whole", "CurrencyDigits"),
)
#: The row that accounts_statement gives: the user's fields, whether there is an account, the account's fields.
ACCOUNT: Wanted = (*USER, ("whole", "has_money"), *MONEY)


def filetime(moment: datetime) -> int:
    """A moment as `Timestamp` has it."""
    return _EPOCH_TICKS + (moment - _EPOCH) // timedelta(microseconds=1) * 10


def moment_of(ticks: int) -> datetime:
    """The moment of a `Timestamp`."""
    return _EPOCH + timedelta(microseconds=(ticks - _EPOCH_TICKS) // 10)


class Decimals(dict[float | Decimal, Decimal]):
    """Exact decimals of the export's doubles, without the noise behind their meaning. Keeps what it has made: prices and
    rates come again and again.
    """

    LIMIT = 100_000

    def __missing__(self, value: float | Decimal) -> Decimal:
        if len(self) > self.LIMIT:
            self.clear()
        made = self[value] = Decimal(repr(round(value, 10))) if isinstance(value, float) else Decimal(round(value, 10))
        return made


def number_places(wanted: Wanted) -> tuple[int, ...]:
    """Which of the fields are numbers, counted from zero."""
    return tuple(place for place, (kind, *_) in enumerate(wanted) if kind == "number")


@dataclass(frozen=True)
class Dialect:
    """The few words in which the database servers differ."""

    name: str
    quote_mark: str

    def quote(self, name: str) -> str:
        """A name for a statement whose values are named %(so)s."""
        mark = self.quote_mark
        return mark + name.replace(mark, mark * 2).replace("%", "%%") + mark

    def milliseconds(self, column: str) -> str:
        """A wall-clock time as milliseconds, as if it were UTC; none reads as zero."""
        if self.name == "postgresql":
            return f"COALESCE(floor(extract(epoch FROM {column}) * 1000)::bigint, 0)"
        return f"COALESCE(TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', {column}) DIV 1000, 0)"

    def seconds(self, column: str) -> str:
        """As milliseconds, in whole seconds."""
        if self.name == "postgresql":
            return f"COALESCE(floor(extract(epoch FROM {column}))::bigint, 0)"
        return f"COALESCE(TIMESTAMPDIFF(SECOND, TIMESTAMP'1970-01-01 00:00:00', {column}), 0)"


#: How each server that we can read quotes a name.
DIALECTS = {one.name: one for one in (Dialect("postgresql", '"'), Dialect("mysql", "`"))}


@dataclass(frozen=True)
class Condition:
    """A condition for WHERE, and the values that it names."""

    sql: str
    values: dict[str, Any] = field(default_factory=dict)

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"{self.sql} AND {other.sql}", self.values | other.values)


def masked(column: str, masks: Sequence[str]) -> Condition:
    r"""The condition that a group is selected by masks such as `real\*` and by none that begins with `!`; true without any."""
    wanted, unwanted, values = list[str](), list[str](), dict[str, str]()
    for number, mask in enumerate(masks):
        name = f"mask{number}"
        pattern = mask.removeprefix("!")
        for sign in "|%_":
            pattern = pattern.replace(sign, f"|{sign}")
        values[name] = pattern.replace("*", "%")
        (unwanted if mask.startswith("!") else wanted).append(f"{column} LIKE %({name})s ESCAPE '|'")
    parts = [f"({' OR '.join(wanted)})"] if wanted else []
    parts += [f"NOT ({' OR '.join(unwanted)})"] if unwanted else []
    return Condition(" AND ".join(parts) or "1 = 1", values)


@dataclass(frozen=True)
class Table:
    """One table of an export as it is in this database: its name, and its columns by their names in lower case; of these,
    in `whole`, those of whole numbers.
    """

    name: str
    columns: dict[str, str]
    dialect: Dialect
    schema: str = ""
    year: int = 0
    whole: frozenset[str] = frozenset()

    @property
    def sql(self) -> str:
        """The table's name for a statement."""
        quote = self.dialect.quote
        return f"{quote(self.schema)}.{quote(self.name)}" if self.schema else quote(self.name)

    def column(self, name: str, alias: str = "") -> str:
        """A column's name for a statement. Raises SourceError when the table has none of that name."""
        found = self.columns.get(name.lower())
        if found is None:
            raise SourceError(f"table {self.name} has no column {name}")
        return f"{alias}.{self.dialect.quote(found)}" if alias else self.dialect.quote(found)

    def fields(self, wanted: Wanted, alias: str = "") -> str:
        """The select list that reads a record's fields."""
        return ", ".join(self._field(kind, names, alias) for kind, *names in wanted)

    def select(self, wanted: Wanted, where: Condition, *, order: str, then: str = "", first: str = "", limit: int = 0) -> str:
        """The statement that reads records by the column `order`, or by two; `first` is a column before their fields."""
        before = f"{self.column(first)}, " if first else ""
        by = ", ".join(self.column(name) for name in (order, then) if name)
        return (
            f"SELECT {before}{self.fields(wanted)} FROM {self.sql} WHERE {where.sql} ORDER BY {by}"  # noqa: S608  # names as the database told them, values as parameters
            + (f" LIMIT {limit:d}" if limit else "")
        )

    def time(self, name: str) -> str:
        """The column of a time, the one with fractions of a second where there is one."""
        return self.column(f"{name}Msc" if f"{name}Msc".lower() in self.columns else name)

    def _field(self, kind: str, names: list[str], alias: str) -> str:
        if kind == "volume":
            return self._volume(names[0], alias)
        if kind == "moment":
            names = [f"{names[0]}Msc", names[0]]
        found = next((name for name in names if name.lower() in self.columns), None)
        if found is None:
            return "''" if kind == "text" else "0"
        column = self.column(found, alias)
        if kind == "text":
            return f"COALESCE({column}, '')"
        if kind == "moment":
            return self.dialect.milliseconds(column)
        if kind == "seconds" and found.lower() not in self.whole:
            return self.dialect.seconds(column)
        return f"COALESCE({column}, 0)"

    def _volume(self, name: str, alias: str) -> str:
        """1/100000000 lot: the finer column where it is filled, the older one otherwise."""
        old = f"COALESCE({self.column(name, alias)}, 0) * 10000" if name.lower() in self.columns else "0"
        fine = f"{name}Ext"
        if fine.lower() not in self.columns:
            return old
        return f"COALESCE(NULLIF({self.column(fine, alias)}, 0), {old})"


@dataclass(frozen=True)
class Export:
    """The tables that there are now. `deals` and `closed_orders` may be several, by year."""

    deals: list[Table]
    closed_orders: list[Table]
    orders: Table | None
    positions: Table | None
    users: Table | None
    accounts: Table | None


class Catalog:
    """The tables of a database, found without regard to upper and lower case."""

    def __init__(self, connection: Connection, schema: str = "") -> None:
        """Raises SourceError for a database of another kind."""
        dialect = DIALECTS.get({"mariadb": "mysql"}.get(connection.dialect.name, connection.dialect.name))
        if dialect is None:
            raise SourceError(f"an export cannot be read from {connection.dialect.name}: PostgreSQL, MySQL or MariaDB")
        self._dialect, self._schema = dialect, schema
        self._looker = inspect(connection)
        self._names = {name.lower(): name for name in self._looker.get_table_names(schema=schema or None)}

    def tables(self, pattern: str) -> list[Table]:
        """The tables whose whole name in lower case is like this, by name. A group in the pattern is the year."""
        found = []
        for lower, name in sorted(self._names.items()):
            match = re.fullmatch(pattern, lower)
            if match:
                columns = self._looker.get_columns(name, self._schema or None)
                names = {str(column["name"]).lower(): str(column["name"]) for column in columns}
                whole = frozenset(str(column["name"]).lower() for column in columns if isinstance(column["type"], Integer))
                year = int((match.groups() or ("",))[0] or 0)
                found.append(Table(name, names, self._dialect, self._schema, year, whole))
        return found

    def table(self, name: str) -> Table | None:
        return next(iter(self.tables(name)), None)


def discover(connection: Connection, schema: str = "") -> Export:
    """Look up the export's tables. Raises SourceError when there are no deals, or the database is of another kind."""
    catalog = Catalog(connection, schema)
    deals = catalog.tables(r"mt5_deals(?:_(\d{4}))?")
    if not deals:
        raise SourceError("the database of the SQL export has no table mt5_deals")
    return Export(
        deals=deals,
        closed_orders=catalog.tables(r"mt5_orders(?:_history)?_(\d{4})|mt5_orders_history"),
        orders=catalog.table("mt5_orders"),
        positions=catalog.table("mt5_positions"),
        users=catalog.table("mt5_users"),
        accounts=catalog.table("mt5_accounts"),
    )


def accounts_statement(users: Table, money: Table, where: Condition) -> str:
    """Every login with its money beside it; the second login is null where mt5_accounts has no row. `u` are the users."""
    of_users, of_money = users.fields(USER, "u"), money.fields(MONEY, "a")
    login = money.column("Login", "a")
    return (
        f"SELECT {of_users}, {login} IS NOT NULL, {of_money} FROM {users.sql} u"  # noqa: S608  # names as the database told them, values as parameters
        f" LEFT JOIN {money.sql} a ON {login} = {users.column('Login', 'u')} WHERE {where.sql} ORDER BY 1"
    )


def logins_of(users: Table, where: Condition, column: str) -> Condition:
    """The condition that a column's login is one of the users that another condition selects."""
    inner = f"SELECT {users.column('Login')} FROM {users.sql} WHERE {where.sql}"  # noqa: S608  # as above
    return Condition(f"{column} IN ({inner})", where.values)
