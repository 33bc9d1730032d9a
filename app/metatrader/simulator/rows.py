"""The simulator's SQLite tables, and how records stand in them: money as whole minor units, prices as exact text."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from app.metatrader.fields import read_deal
from app.metatrader.platform import Deal, Order
from app.metatrader.simulator.holdings import Account, OpenPosition

VERSION = 2

#: Left out while a history is written: in the order of time each deal would go to another place of it.
INDEX_BY_LOGIN = "CREATE INDEX IF NOT EXISTS deal_login_server_time ON deal (login, server_time_ms)"
DROP_INDEX_BY_LOGIN = "DROP INDEX IF EXISTS deal_login_server_time"

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS account (
    login INTEGER PRIMARY KEY, group_name TEXT NOT NULL, leverage INTEGER NOT NULL, rights INTEGER NOT NULL,
    balance INTEGER NOT NULL, credit INTEGER NOT NULL, registered_ms INTEGER NOT NULL, active_boot TEXT NOT NULL,
    profile TEXT NOT NULL, main_hash TEXT NOT NULL, investor_hash TEXT NOT NULL, archived_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS deal (
    ticket INTEGER PRIMARY KEY, login INTEGER NOT NULL, action INTEGER NOT NULL, entry INTEGER NOT NULL,
    reason INTEGER NOT NULL, order_ticket INTEGER NOT NULL, position_ticket INTEGER NOT NULL, symbol TEXT NOT NULL,
    volume INTEGER NOT NULL, volume_closed INTEGER NOT NULL, price TEXT NOT NULL, price_position TEXT NOT NULL,
    market_bid TEXT NOT NULL, market_ask TEXT NOT NULL, contract_size TEXT NOT NULL, digits INTEGER NOT NULL,
    digits_currency INTEGER NOT NULL, profit INTEGER NOT NULL, swap INTEGER NOT NULL, commission INTEGER NOT NULL,
    fee INTEGER NOT NULL, rate_profit TEXT NOT NULL, rate_margin TEXT NOT NULL, server_time_ms INTEGER NOT NULL,
    comment TEXT NOT NULL, modification_flags INTEGER NOT NULL, dealer INTEGER NOT NULL, external_id TEXT NOT NULL);
{INDEX_BY_LOGIN};
CREATE INDEX IF NOT EXISTS deal_server_time ON deal (server_time_ms);
CREATE TABLE IF NOT EXISTS position (
    ticket INTEGER PRIMARY KEY, login INTEGER NOT NULL, symbol TEXT NOT NULL, action INTEGER NOT NULL,
    volume INTEGER NOT NULL, opened TEXT NOT NULL, swap INTEGER NOT NULL, rate_margin TEXT NOT NULL,
    reason INTEGER NOT NULL, created_ms INTEGER NOT NULL, update_ms INTEGER NOT NULL, comment TEXT NOT NULL,
    identifier INTEGER NOT NULL, stop_loss INTEGER NOT NULL, take_profit INTEGER NOT NULL,
    modification_flags INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    ticket INTEGER PRIMARY KEY, login INTEGER NOT NULL, symbol TEXT NOT NULL, type INTEGER NOT NULL,
    state INTEGER NOT NULL, reason INTEGER NOT NULL, volume_initial INTEGER NOT NULL, volume_current INTEGER NOT NULL,
    price_order TEXT NOT NULL, price_trigger TEXT NOT NULL, price_stop_loss TEXT NOT NULL,
    price_take_profit TEXT NOT NULL, position_ticket INTEGER NOT NULL, position_by_ticket INTEGER NOT NULL,
    set_up_ms INTEGER NOT NULL, done_ms INTEGER NOT NULL, expiration_ms INTEGER NOT NULL, comment TEXT NOT NULL,
    digits INTEGER NOT NULL, external_id TEXT NOT NULL, contract_size TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS orders_login_done ON orders (login, done_ms);
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, fields TEXT NOT NULL);
"""

_DEAL_FIELDS = tuple(Deal.__dataclass_fields__)
_ORDER_FIELDS = tuple(Order.__dataclass_fields__)
_MONEY = ("profit", "swap", "commission", "fee")
_DEAL_DECIMALS = ("price", "price_position", "market_bid", "market_ask", "contract_size", "rate_profit", "rate_margin")
_ORDER_DECIMALS = ("price_order", "price_trigger", "price_stop_loss", "price_take_profit", "contract_size")


def insert(table: str, columns: int) -> str:
    """The statement that writes a row, over an older one of the same key."""
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608  # names of ours


PUT_ACCOUNT = insert("account", len(Account.__dataclass_fields__))
PUT_POSITION = insert("position", len(OpenPosition.__dataclass_fields__))
PUT_DEAL = insert("deal", len(_DEAL_FIELDS))
PUT_ORDER = insert("orders", len(_ORDER_FIELDS))


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older file to today's form."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    has_tables = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'deal'").fetchone()
    if has_tables and version < VERSION:
        _upgrade(db)
    db.executescript(_SCHEMA)
    db.execute(f"PRAGMA user_version = {VERSION}")


def _upgrade(db: sqlite3.Connection) -> None:
    """From the first form, which kept deals as JSON."""
    db.execute("BEGIN IMMEDIATE")
    for table in ("account", "deal", "position"):
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for index in ("deal_login_time", "deal_time", "position_login"):
        db.execute(f"DROP INDEX IF EXISTS {index}")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO account SELECT *, 0 FROM old_account")
    db.execute("INSERT INTO position SELECT *, ticket, 0, 0, 0 FROM old_position")
    for (fields,) in db.execute("SELECT fields FROM old_deal ORDER BY ticket").fetchall():
        db.execute(PUT_DEAL, deal_row(read_deal(json.loads(fields))))
    for table in ("account", "deal", "position"):
        db.execute(f"DROP TABLE old_{table}")
    db.execute("COMMIT")


def account_row(account: Account) -> tuple[Any, ...]:
    return tuple({**vars(account), "profile": json.dumps(account.profile)}.values())


def account(row: Sequence[Any]) -> Account:
    values: dict[str, Any] = dict(zip(Account.__dataclass_fields__, row, strict=True))
    return Account(**{**values, "profile": json.loads(values["profile"])})


def position_row(position: OpenPosition) -> tuple[Any, ...]:
    return tuple({**vars(position), "opened": str(position.opened), "rate_margin": format(position.rate_margin, "f")}.values())


def position(row: Sequence[Any]) -> OpenPosition:
    values: dict[str, Any] = dict(zip(OpenPosition.__dataclass_fields__, row, strict=True))
    decimals = {name: Decimal(values[name]) for name in ("opened", "rate_margin")}
    return OpenPosition(**{**values, **decimals})


def deal_row(deal: Deal) -> tuple[Any, ...]:
    values: dict[str, Any] = dict(vars(deal))
    for name in _MONEY:
        values[name] = int(values[name].scaleb(deal.digits_currency))
    for name in _DEAL_DECIMALS:
        values[name] = format(values[name], "f")
    return tuple(map(values.__getitem__, _DEAL_FIELDS))


def deal(row: Sequence[Any]) -> Deal:
    values: dict[str, Any] = dict(zip(_DEAL_FIELDS, row, strict=True))
    for name in _MONEY:
        values[name] = Decimal(values[name]).scaleb(-values["digits_currency"])
    for name in _DEAL_DECIMALS:
        values[name] = Decimal(values[name])
    return Deal(**values)


def order_row(order: Order) -> tuple[Any, ...]:
    values: dict[str, Any] = dict(vars(order))
    for name in _ORDER_DECIMALS:
        values[name] = format(values[name], "f")
    return tuple(map(values.__getitem__, _ORDER_FIELDS))


def order(row: Sequence[Any]) -> Order:
    values: dict[str, Any] = dict(zip(_ORDER_FIELDS, row, strict=True))
    for name in _ORDER_DECIMALS:
        values[name] = Decimal(values[name])
    return Order(**values)
