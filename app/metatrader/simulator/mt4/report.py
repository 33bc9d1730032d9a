"""MetaTrader 4's report database: the rows of trades and user records, as a report server replicates them.

On PostgreSQL, MySQL or MariaDB, with the columns of a published dump. Times are the server's wall clock, an open row was
closed in 1970, MODIFY_TIME is the database's own. No column says in which state a row is, and a row that is deleted at the
server is deleted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CHAR,
    Column,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    delete,
    func,
    make_url,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from app.metatrader.mt4 import Login, Trade

ROWS_PER_STATEMENT = 500
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # a wall clock's, without a zone

_TRADES = (
    "TICKET int, LOGIN int, SYMBOL 16, DIGITS int, CMD int, VOLUME int, OPEN_TIME time, OPEN_PRICE number, SL number,"
    " TP number, CLOSE_TIME time, EXPIRATION time, REASON int, CONV_RATE1 number, CONV_RATE2 number, COMMISSION number,"
    " COMMISSION_AGENT number, SWAPS number, CLOSE_PRICE number, PROFIT number, TAXES number, COMMENT 32, INTERNAL_ID int,"
    " MARGIN_RATE number, TIMESTAMP int, MAGIC int, GW_VOLUME int, GW_OPEN_PRICE int, GW_CLOSE_PRICE int, MODIFY_TIME time"
)
_USERS = (
    "LOGIN int, GROUP 16, ENABLE int, ENABLE_CHANGE_PASS int, ENABLE_READONLY int, ENABLE_OTP int, PASSWORD_PHONE 32, NAME 128,"
    " COUNTRY 32, CITY 32, STATE 32, ZIPCODE 16, ADDRESS 128, LEAD_SOURCE 32, PHONE 32, EMAIL 48, COMMENT 64, ID 32, STATUS 16,"
    " REGDATE time, LASTDATE time, LEVERAGE int, AGENT_ACCOUNT int, TIMESTAMP int, BALANCE number, PREVMONTHBALANCE number,"
    " PREVBALANCE number, CREDIT number, INTERESTRATE number, TAXES number, SEND_REPORTS int, MQID int, USER_COLOR int,"
    " EQUITY number, MARGIN number, MARGIN_LEVEL number, MARGIN_FREE number, CURRENCY 16, API_DATA 16, MODIFY_TIME time"
)
_INDEXED = ("LOGIN", "CMD", "OPEN_TIME", "CLOSE_TIME")


class Report:
    """The report's tables of one server. Raises sqlalchemy.exc.SQLAlchemyError when the database cannot be used."""

    def __init__(self, url: str, schema: str = "mt4") -> None:
        """`url` begins with postgresql, mysql or mariadb."""
        address = make_url(url)
        driver = _DRIVERS[address.get_backend_name()]
        self._engine: Engine = create_engine(address.set(drivername=driver), poolclass=NullPool, hide_parameters=True)
        self._schema = schema
        self._metadata = MetaData(schema=schema)
        self.trades = _table(self._metadata, "mt4_trades", _TRADES, "TICKET", (*_INDEXED, "TIMESTAMP"))
        self.users = _table(self._metadata, "mt4_users", _USERS, "LOGIN", ("TIMESTAMP",))

    def create_tables(self) -> None:
        """Make the schema and its tables where they are missing."""
        with self._engine.begin() as connection:
            connection.execute(CreateSchema(self._schema, if_not_exists=True))
            self._metadata.create_all(connection)

    def write(self, trades: Sequence[Trade], logins: Sequence[Login], gone: Sequence[int]) -> None:
        """Make rows and records what they are now, and delete the rows of orders that are gone. All of it or nothing."""
        with self._engine.begin() as connection:
            for table, rows in ((self.trades, map(_trade, trades)), (self.users, map(_login, logins))):
                complete = [_filled(table, row) for row in rows]
                statement = self._upsert(table)
                for start in range(0, len(complete), ROWS_PER_STATEMENT):
                    connection.execute(statement, complete[start : start + ROWS_PER_STATEMENT])
            for start in range(0, len(gone), ROWS_PER_STATEMENT):
                part = list(gone[start : start + ROWS_PER_STATEMENT])
                connection.execute(delete(self.trades).where(self.trades.c.TICKET.in_(part)))

    def close(self) -> None:
        self._engine.dispose()

    def _upsert(self, table: Table) -> Any:
        """Insert rows, or change those that stand there already."""
        told = [column.name for column in table.columns if not column.primary_key and column.name != "MODIFY_TIME"]
        if self._engine.dialect.name == "postgresql":
            put = postgresql.insert(table)
            changes = {name: put.excluded[name] for name in told}
            return put.on_conflict_do_update(index_elements=table.primary_key, set_={**changes, "MODIFY_TIME": func.now()})
        into = mysql.insert(table)
        return into.on_duplicate_key_update({**{name: into.inserted[name] for name in told}, "MODIFY_TIME": func.now()})


def _table(metadata: MetaData, name: str, columns: str, key: str, indexed: Sequence[str]) -> Table:
    made = [_column(*column.split(), key=key, indexed=indexed) for column in columns.split(",")]
    return Table(name, metadata, *made)


def _column(name: str, kind: str, *, key: str, indexed: Sequence[str]) -> Column[Any]:
    kinds: Mapping[str, Any] = {"int": Integer(), "number": Double(), "time": DateTime()}
    return Column(
        name,
        kinds[kind] if kind in kinds else CHAR(int(kind)),
        primary_key=name == key,
        autoincrement=False,
        nullable=False,
        index=name in indexed and name != key,
        server_default=func.now() if name == "MODIFY_TIME" else None,
    )


def _filled(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with zero or nothing in the columns that the double has no value for."""
    empty: Mapping[type, Any] = {CHAR: "", DateTime: _EPOCH}
    return {
        column.name: row.get(column.name, empty.get(type(column.type), 0))
        for column in table.columns
        if column.name != "MODIFY_TIME"
    }


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "TICKET": trade.order,
        "LOGIN": trade.login,
        "SYMBOL": trade.symbol,
        "DIGITS": trade.digits,
        "CMD": trade.cmd,
        "VOLUME": trade.volume,
        "OPEN_TIME": _wall(trade.open_time),
        "OPEN_PRICE": trade.open_price,
        "SL": trade.sl,
        "TP": trade.tp,
        "CLOSE_TIME": _wall(trade.close_time),
        "EXPIRATION": _wall(trade.expiration),
        "REASON": trade.reason,
        "CONV_RATE1": trade.conv_rate_open,
        "CONV_RATE2": trade.conv_rate_close,
        "COMMISSION": trade.commission,
        "SWAPS": trade.storage,
        "CLOSE_PRICE": trade.close_price,
        "PROFIT": trade.profit,
        "TAXES": trade.taxes,
        "COMMENT": trade.comment,
        "MARGIN_RATE": trade.margin_rate,
        "TIMESTAMP": trade.timestamp,
    }


def _login(login: Login) -> dict[str, Any]:
    return {
        "LOGIN": login.login,
        "GROUP": login.group,
        "ENABLE": login.enable,
        "ENABLE_CHANGE_PASS": login.enable_change_password,
        "ENABLE_READONLY": login.enable_read_only,
        "NAME": login.name,
        "COUNTRY": login.country,
        "EMAIL": login.email,
        "COMMENT": login.comment,
        "ID": login.id,
        "REGDATE": _wall(login.regdate),
        "LEVERAGE": login.leverage,
        "TIMESTAMP": login.timestamp,
        "BALANCE": login.balance,
        "CREDIT": login.credit,
        "EQUITY": login.equity,
        "MARGIN": login.margin,
        "MARGIN_LEVEL": login.margin_level,
        "MARGIN_FREE": login.margin_free,
    }


def _wall(seconds: int) -> datetime:
    """Seconds of the server's clock as a date and time."""
    return _EPOCH + timedelta(seconds=seconds)
