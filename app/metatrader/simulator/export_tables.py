"""The tables of MetaTrader 5's SQL export, as the simulator fills them: columns, types, and how a record becomes a row.

Column names are MetaTrader's own and stand in double quotes in PostgreSQL. Times are the server's wall clock without a
zone; `Timestamp` is a Windows FILETIME in UTC, unique within its table, and changes when the row changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_DEAL = """
Deal bigint, Timestamp bigint, ExternalID varchar(32), Login bigint, Dealer bigint, Order bigint, Action integer,
Entry integer, Reason integer, Digits integer, DigitsCurrency integer, ContractSize float8, Time timestamp(0),
TimeMsc timestamp(6), Symbol varchar(32), Price float8, PriceSL float8, PriceTP float8, Volume bigint, VolumeExt bigint,
VolumeClosed bigint, VolumeClosedExt bigint, Profit float8, Value float8, Storage float8, Commission float8, Fee float8,
RateProfit float8, RateMargin float8, ExpertID bigint, PositionID bigint, Comment varchar(32), ProfitRaw float8,
PricePosition float8, TickValue float8, TickSize float8, Flags bigint, Gateway varchar(16), PriceGateway float8,
MarketBid float8, MarketAsk float8, MarketLast float8, ModifyFlags integer, ApiData text
"""

_USER = """
Login bigint, Timestamp bigint, TimestampTrade bigint, Group varchar(64), CertSerialNumber bigint, Rights bigint,
Registration timestamp(0), LastAccess timestamp(0), LastPassChange timestamp(0), LastIP varchar(64), Name varchar(128),
FirstName varchar(128), LastName varchar(128), MiddleName varchar(128), Company varchar(64), Account varchar(128),
Country varchar(32), Language integer, ClientID bigint, City varchar(32), State varchar(32), ZIPCode varchar(16),
Address varchar(128), Phone varchar(32), EMail varchar(64), ID varchar(32), Status varchar(16), Comment varchar(64),
Color bigint, PhonePassword varchar(32), Leverage integer, Agent bigint, Balance float8, Credit float8, InterestRate float8,
CommissionDaily float8, CommissionMonthly float8, BalancePrevDay float8, BalancePrevMonth float8, EquityPrevDay float8,
EquityPrevMonth float8, TradeAccounts varchar(128), MQID varchar(16), LeadCampaign varchar(32), LeadSource varchar(32),
ApiData text, LimitOrders integer, LimitPositions float8
"""

_ACCOUNT = """
Login bigint, CurrencyDigits integer, Balance float8, Credit float8, Margin float8, MarginFree float8, MarginLevel float8,
MarginLeverage integer, MarginInitial float8, MarginMaintenance float8, Profit float8, Storage float8, Floating float8,
Equity float8, BlockedCommission float8, BlockedProfit float8, Assets float8, Liabilities float8
"""

_POSITION = """
Position bigint, ExternalID varchar(32), Login bigint, Dealer bigint, Timestamp bigint, Symbol varchar(32), Action integer,
Digits integer, DigitsCurrency integer, Reason integer, ContractSize float8, TimeCreate timestamp(0),
TimeUpdate timestamp(0), TimeCreateMsc timestamp(6), TimeUpdateMsc timestamp(6), PriceOpen float8, PriceCurrent float8,
PriceSL float8, PriceTP float8, Volume bigint, VolumeExt bigint, Profit float8, Storage float8, RateProfit float8,
RateMargin float8, ExpertID bigint, ExpertPositionID bigint, Comment varchar(32), ActivationMode integer,
ActivationTime bigint, ActivationPrice float8, ActivationFlags integer, ApiData text
"""

_ORDER = """
Order bigint, Timestamp bigint, ExternalID varchar(32), Login bigint, Dealer bigint, Symbol varchar(32), Digits integer,
DigitsCurrency integer, ContractSize float8, State integer, Reason integer, TimeSetup timestamp(0),
TimeExpiration timestamp(0), TimeDone timestamp(0), TimeSetupMsc timestamp(6), TimeDoneMsc timestamp(6), ModifyFlags integer,
Type integer, TypeFill integer, TypeTime integer, PriceOrder float8, PriceTrigger float8, PriceCurrent float8,
PriceSL float8, PriceTP float8, VolumeInitial bigint, VolumeInitialExt bigint, VolumeCurrent bigint, VolumeCurrentExt bigint,
ExpertID bigint, PositionID bigint, PositionByID bigint, RateMargin float8, Comment varchar(32), ActivationMode integer,
ActivationTime bigint, ActivationPrice float8, ActivationFlags integer, ApiData text
"""

#: Where a column's value stands in a record, when not under its own name.
_OTHER_NAMES = {"ModifyFlags": "ModificationFlags"}

FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_WALL_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FILETIME_1970 = 116_444_736_000_000_000


@dataclass(frozen=True)
class Column:
    name: str
    type: str

    @property
    def quoted(self) -> str:
        return f'"{self.name}"'


@dataclass(frozen=True)
class Table:
    """A kind of rows. `key` is the column that tells them apart; `extra` comes before the columns in the declaration."""

    name: str
    key: str
    columns: tuple[Column, ...]
    extra: str = ""

    @property
    def names(self) -> str:
        return ", ".join(column.quoted for column in self.columns)

    def declaration(self) -> str:
        columns = ", ".join(f"{column.quoted} {column.type} NOT NULL" for column in self.columns)
        own_key = "UNIQUE" if self.extra else "PRIMARY KEY"
        return f'{self.extra}{columns}, {own_key} ("{self.key}")'

    def row(self, record: Mapping[str, str], stamp: int) -> str:
        """The record as one line of COPY's text format."""
        return "\t".join([_value(column, record, stamp) for column in self.columns]) + "\n"


def _table(name: str, key: str, columns: str, extra: str = "") -> Table:
    pairs = (one.split() for one in columns.replace("\n", " ").split(","))
    return Table(name, key, tuple(Column(column, kind) for column, kind in pairs), extra)


DEALS = _table("mt5_deals", "Deal", _DEAL)
USERS = _table("mt5_users", "Login", _USER)
ACCOUNTS = _table("mt5_accounts", "Login", _ACCOUNT)
POSITIONS = _table("mt5_positions", "Position", _POSITION, '"Position_ID" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ')
ORDERS = _table("mt5_orders", "Order", _ORDER)
ORDERS_HISTORY = _table("mt5_orders_history", "Order", _ORDER)


def filetime(moment: datetime) -> int:
    """100-nanosecond steps since 1601, in UTC."""
    return (moment - FILETIME_EPOCH) // timedelta(microseconds=1) * 10


def wall_ms(wall: datetime) -> int:
    """Milliseconds of a wall-clock time that stands there as UTC."""
    return (wall - _WALL_EPOCH) // timedelta(milliseconds=1)


def _value(column: Column, record: Mapping[str, str], stamp: int) -> str:
    name, kind = column.name, column.type
    if name in ("Timestamp", "TimestampTrade"):
        return str(stamp)
    if kind.startswith("timestamp"):
        return _wall(record, name)
    value = record.get(_OTHER_NAMES.get(name, name))
    if value is None:
        return "" if kind.startswith(("varchar", "text")) else "0"
    return value if value.isalnum() else escaped(value)


def _wall(record: Mapping[str, str], name: str) -> str:
    """A time of the server's clock as PostgreSQL reads it. Seconds under Name, milliseconds under NameMsc."""
    if name.endswith("Msc"):
        seconds, milliseconds = divmod(int(record[name]), 1000)
    else:
        seconds, milliseconds = int(record[name]), 0
    text = (_WALL_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{milliseconds:03d}" if name.endswith("Msc") else text


def escaped(text: str) -> str:
    """Text as COPY reads it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def deals_table(year: int) -> Table:
    """The deals of one year, where the export keeps years apart."""
    return Table(f"mt5_deals_{year}", DEALS.key, DEALS.columns)


def is_done(order: Mapping[str, str]) -> bool:
    """Whether the order has left the book: cancelled, filled, rejected or expired."""
    return int(order["State"]) in (2, 4, 5, 6)


ALL: Sequence[Table] = (DEALS, USERS, ACCOUNTS, POSITIONS, ORDERS, ORDERS_HISTORY)
