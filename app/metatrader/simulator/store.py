"""What the simulator remembers over restarts: one SQLite file. Money is whole minor units, prices whole points.

Every change happens inside `transaction()`, which also guards against other threads; the events that tell of it are in
the same transaction, in the outbox, so that neither is ever without the other.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.metatrader.fields import read_deal, write_deal
from app.metatrader.platform import Deal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
    login INTEGER PRIMARY KEY, group_name TEXT NOT NULL, leverage INTEGER NOT NULL, rights INTEGER NOT NULL,
    balance INTEGER NOT NULL, credit INTEGER NOT NULL, registered_ms INTEGER NOT NULL, active_boot TEXT NOT NULL,
    profile TEXT NOT NULL, main_hash TEXT NOT NULL, investor_hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deal (
    ticket INTEGER PRIMARY KEY, login INTEGER NOT NULL, time_ms INTEGER NOT NULL, fields TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS deal_login_time ON deal (login, time_ms);
CREATE INDEX IF NOT EXISTS deal_time ON deal (time_ms);
CREATE TABLE IF NOT EXISTS position (
    ticket INTEGER PRIMARY KEY, login INTEGER NOT NULL, symbol TEXT NOT NULL, action INTEGER NOT NULL,
    volume INTEGER NOT NULL, opened INTEGER NOT NULL, swap INTEGER NOT NULL, rate_margin TEXT NOT NULL,
    reason INTEGER NOT NULL, created_ms INTEGER NOT NULL, update_ms INTEGER NOT NULL, comment TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS position_login ON position (login);
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, fields TEXT NOT NULL);
"""


@dataclass
class Account:
    """A login. `profile` holds the personal fields under MetaTrader's names."""

    login: int
    group_name: str
    leverage: int
    rights: int
    balance: int
    credit: int
    registered_ms: int
    active_boot: str
    profile: dict[str, str]
    main_hash: str
    investor_hash: str


@dataclass
class OpenPosition:
    """An open position; `opened` is its price in points, `swap` in minor units."""

    ticket: int
    login: int
    symbol: str
    action: int
    volume: int
    opened: int
    swap: int
    rate_margin: Decimal
    reason: int
    created_ms: int
    update_ms: int
    comment: str


class Store:
    """The SQLite file. `changed` is set after every commit, so that a publisher need not poll."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self._lock = threading.RLock()
        self._depth = 0
        self.changed = threading.Event()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else meanwhile. Inner ones join the outer."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._db.execute("BEGIN IMMEDIATE")
                yield
                if self._depth == 1:
                    self._db.execute("COMMIT")
                    self.changed.set()
            except BaseException:
                if self._depth == 1 and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def number(self, name: str, start: int = 0) -> int:
        """A named number, or `start` when it was never set."""
        row = self._one("SELECT value FROM number WHERE name = ?", name)
        return int(row[0]) if row else start

    def set_number(self, name: str, value: int) -> None:
        self._run("INSERT INTO number VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)

    def next_number(self, name: str, start: int) -> int:
        """The next of a never repeating sequence that begins at `start`."""
        value = self.number(name, start - 1) + 1
        self.set_number(name, value)
        return value

    def account(self, login: int) -> Account | None:
        row = self._one("SELECT * FROM account WHERE login = ?", login)
        return _account(row) if row else None

    def accounts(self) -> list[Account]:
        return [_account(row) for row in self._all("SELECT * FROM account ORDER BY login")]

    def save_account(self, account: Account) -> None:
        self._run(
            "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            account.login,
            account.group_name,
            account.leverage,
            account.rights,
            account.balance,
            account.credit,
            account.registered_ms,
            account.active_boot,
            json.dumps(account.profile),
            account.main_hash,
            account.investor_hash,
        )

    def add_deal(self, deal: Deal) -> None:
        self._run(
            "INSERT INTO deal VALUES (?, ?, ?, ?)", deal.ticket, deal.login, deal.server_time_ms, json.dumps(write_deal(deal))
        )

    def deal(self, ticket: int) -> Deal | None:
        row = self._one("SELECT fields FROM deal WHERE ticket = ?", ticket)
        return read_deal(json.loads(row[0])) if row else None

    def deals(self, login: int | None, from_ms: int, to_ms: int, *, limit: int = -1, offset: int = 0) -> list[Deal]:
        """Deals of a login, or of all, with both ends of the range included, by ticket."""
        rows = self._all(
            "SELECT fields FROM deal WHERE (?1 IS NULL OR login = ?1) AND time_ms BETWEEN ?2 AND ?3 "
            "ORDER BY ticket LIMIT ?4 OFFSET ?5",
            login,
            from_ms,
            to_ms,
            limit,
            offset,
        )
        return [read_deal(json.loads(row[0])) for row in rows]

    def count_deals(self, login: int | None, from_ms: int, to_ms: int) -> int:
        row = self._one(
            "SELECT count(*) FROM deal WHERE (?1 IS NULL OR login = ?1) AND time_ms BETWEEN ?2 AND ?3", login, from_ms, to_ms
        )
        return int(row[0]) if row else 0

    def position(self, ticket: int) -> OpenPosition | None:
        row = self._one("SELECT * FROM position WHERE ticket = ?", ticket)
        return _position(row) if row else None

    def positions(self, login: int | None = None) -> list[OpenPosition]:
        rows = self._all("SELECT * FROM position WHERE (?1 IS NULL OR login = ?1) ORDER BY ticket", login)
        return [_position(row) for row in rows]

    def save_position(self, position: OpenPosition) -> None:
        self._run(
            "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            position.ticket,
            position.login,
            position.symbol,
            position.action,
            position.volume,
            position.opened,
            position.swap,
            str(position.rate_margin),
            position.reason,
            position.created_ms,
            position.update_ms,
            position.comment,
        )

    def delete_position(self, ticket: int) -> None:
        self._run("DELETE FROM position WHERE ticket = ?", ticket)

    def put_in_outbox(self, stream: str, fields: dict[str, str]) -> None:
        self._run("INSERT INTO outbox (stream, fields) VALUES (?, ?)", stream, json.dumps(fields))

    def outbox(self, limit: int, *, after_id: int = 0) -> list[tuple[int, str, dict[str, str]]]:
        """The oldest unsent events beyond an id: id, stream, fields."""
        rows = self._all("SELECT id, stream, fields FROM outbox WHERE id > ? ORDER BY id LIMIT ?", after_id, limit)
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    def outbox_size(self) -> int:
        row = self._one("SELECT count(*) FROM outbox")
        return int(row[0]) if row else 0

    def remove_sent(self, up_to_id: int) -> None:
        with self.transaction():
            self._run("DELETE FROM outbox WHERE id <= ?", up_to_id)

    def _run(self, sql: str, *values: object) -> None:
        with self._lock:
            self._db.execute(sql, values)

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._all(sql, *values)
        return rows[0] if rows else None

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()


def _account(row: Sequence[Any]) -> Account:
    values: dict[str, Any] = dict(zip(Account.__dataclass_fields__, row, strict=True))
    return Account(**{**values, "profile": json.loads(values["profile"])})


def _position(row: Sequence[Any]) -> OpenPosition:
    values: dict[str, Any] = dict(zip(OpenPosition.__dataclass_fields__, row, strict=True))
    return OpenPosition(**{**values, "rate_margin": Decimal(values["rate_margin"])})
