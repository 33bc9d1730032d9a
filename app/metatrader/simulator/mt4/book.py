"""What the MT4 double remembers over restarts: rows of trades, user records, numbers and unsent events, in one SQLite file.

Every change happens inside `transaction()`, which also guards against other threads; the events that tell of it are in the
same transaction, in the outbox. What is open, and user records, are kept in memory besides, because each price asks for them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.metatrader.mt4 import Login, Trade, read_login, read_trade, write_login, write_trade

_TABLES = """
CREATE TABLE IF NOT EXISTS trade (
    number INTEGER PRIMARY KEY, login INTEGER NOT NULL, open_time INTEGER NOT NULL, close_time INTEGER NOT NULL,
    row TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS trade_by_login ON trade (login);
CREATE INDEX IF NOT EXISTS trade_open ON trade (number) WHERE close_time = 0;
CREATE TABLE IF NOT EXISTS login (login INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS password (login INTEGER, kind TEXT, kept TEXT NOT NULL, PRIMARY KEY (login, kind));
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, fields TEXT NOT NULL);
"""


@dataclass
class Changes:
    """What has changed since somebody last asked: orders and logins, those that are gone among them."""

    orders: set[int] = field(default_factory=set)
    logins: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.orders or self.logins)


class Book:
    """The SQLite file. `changed` is set after every commit. `before_commit` is called with the logins that a transaction
    touched, while it still can write.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)
        self._lock = threading.RLock()
        self._depth = 0
        self._open = {row[0]: _trade(row[1]) for row in self._db.execute("SELECT number, row FROM trade WHERE close_time = 0")}
        self._logins = {row[0]: _login(row[1]) for row in self._db.execute("SELECT login, record FROM login ORDER BY login")}
        self._numbers: dict[str, int] = dict(self._db.execute("SELECT name, value FROM number").fetchall())
        #: What the running transaction has changed, so that it can be taken back.
        self._touched = Changes()
        self._touched_numbers: set[str] = set()
        self._untold = Changes()
        self.before_commit: Callable[[Iterable[int]], None] = lambda _: None
        self.changed = threading.Event()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else meanwhile. An inner one that fails undoes its own part alone."""
        with self._lock:
            self._depth += 1
            depth = self._depth
            try:
                self._db.execute("BEGIN IMMEDIATE" if depth == 1 else f"SAVEPOINT part_{depth}")
                yield
                if depth == 1:
                    self.before_commit(sorted(self._touched.logins))
                self._db.execute("COMMIT" if depth == 1 else f"RELEASE part_{depth}")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK" if depth == 1 else f"ROLLBACK TO part_{depth}")
                    if depth > 1:
                        self._db.execute(f"RELEASE part_{depth}")
                self._read_again()
                raise
            finally:
                self._depth -= 1
                if depth == 1:
                    self._untold.orders |= self._touched.orders
                    self._untold.logins |= self._touched.logins
                    self._touched, self._touched_numbers = Changes(), set()
            if depth == 1:
                self.changed.set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nobody changes anything meanwhile."""
        with self._lock:
            yield

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def take_changes(self) -> Changes:
        """What was changed since the last call; asking forgets it."""
        with self._lock:
            taken, self._untold = self._untold, Changes()
            return taken

    # ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def trade(self, order: int) -> Trade | None:
        with self._lock:
            if order in self._open:
                return self._open[order]
            found = self._all("SELECT row FROM trade WHERE number = ?", order)
            return _trade(found[0][0]) if found else None

    def open_trades(self, login: int | None = None) -> list[Trade]:
        """Open trades and pending orders, of a login or all, by order."""
        with self._lock:
            return [trade for _, trade in sorted(self._open.items()) if login in (None, trade.login)]

    def trades(self, login: int | None = None, since: int = 0, until: int = 2**31) -> list[Trade]:
        """Rows that were opened or closed in a range of the server's seconds, both ends included, by order."""
        found = self._all(
            "SELECT row FROM trade WHERE (?1 IS NULL OR login = ?1)"
            " AND (open_time BETWEEN ?2 AND ?3 OR close_time BETWEEN ?2 AND ?3) ORDER BY number"
            if login is None
            else "SELECT row FROM trade WHERE login = ?1"
            " AND (open_time BETWEEN ?2 AND ?3 OR close_time BETWEEN ?2 AND ?3) ORDER BY number",
            login,
            since,
            until,
        )
        return [_trade(row[0]) for row in found]

    def newest(self, most: int) -> list[Trade]:
        """The rows with the highest orders, the newest first."""
        return [_trade(row[0]) for row in self._all("SELECT row FROM trade ORDER BY number DESC LIMIT ?", most)]

    def count(self) -> int:
        return int(self._all("SELECT count(*) FROM trade")[0][0])

    def count_deals(self) -> int:
        """How many deals the rows have made: a closed trade two, a pending order none."""
        found = self._all(
            "SELECT coalesce(sum(CASE WHEN cmd > 5 THEN 1 WHEN cmd < 2 THEN 1 + (close_time > 0) ELSE 0 END), 0)"
            " FROM (SELECT close_time, CAST(json_extract(row, '$.cmd') AS INTEGER) AS cmd FROM trade)"
        )
        return int(found[0][0])

    def put_trade(self, trade: Trade) -> None:
        """Write a row, over an older form of it."""
        with self._lock:
            self._touched.orders.add(trade.order)
            self._run(
                "INSERT INTO trade VALUES (?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET login = excluded.login,"
                " open_time = excluded.open_time, close_time = excluded.close_time, row = excluded.row",
                trade.order,
                trade.login,
                trade.open_time,
                trade.close_time,
                json.dumps(write_trade(trade)),
            )
            self._keep(trade.order, None if trade.close_time else trade)

    def remove_trade(self, order: int) -> None:
        with self._lock:
            self._touched.orders.add(order)
            self._run("DELETE FROM trade WHERE number = ?", order)
            self._keep(order, None)

    # ── user records ───────────────────────────────────────────────────────────────────────────────────────────────────

    def login(self, number: int) -> Login | None:
        """A record as it is kept: without what is reckoned from open trades."""
        with self._lock:
            return self._logins.get(number)

    def logins(self) -> list[Login]:
        with self._lock:
            return [self._logins[number] for number in sorted(self._logins)]

    def put_login(self, login: Login) -> None:
        with self._lock:
            self.touch(login.login)
            self._run(
                "INSERT INTO login VALUES (?, ?) ON CONFLICT (login) DO UPDATE SET record = excluded.record",
                login.login,
                json.dumps(write_login(login)),
            )
            self._logins[login.login] = login

    def touch(self, login: int) -> None:
        """Say that a login's figures have changed."""
        with self._lock:
            self._touched.logins.add(login)

    def password(self, login: int, kind: str) -> str:
        """What is kept of a login's password; empty when there is none."""
        found = self._all("SELECT kept FROM password WHERE login = ? AND kind = ?", login, kind)
        return str(found[0][0]) if found else ""

    def put_password(self, login: int, kind: str, kept: str) -> None:
        self._run("INSERT OR REPLACE INTO password VALUES (?, ?, ?)", login, kind, kept)

    # ── numbers and events ─────────────────────────────────────────────────────────────────────────────────────────────

    def number(self, name: str, start: int = 0) -> int:
        """A named number, or `start` when it was never set."""
        with self._lock:
            return self._numbers.get(name, start)

    def set_number(self, name: str, value: int) -> None:
        with self._lock:
            self._touched_numbers.add(name)
            self._run("INSERT OR REPLACE INTO number VALUES (?, ?)", name, value)
            self._numbers[name] = value

    def next_number(self, name: str, start: int) -> int:
        """The next of a never repeating sequence that begins at `start`."""
        with self._lock:
            value = self._numbers.get(name, start - 1) + 1
            self.set_number(name, value)
            return value

    def put_in_outbox(self, stream: str, fields: Mapping[str, str]) -> None:
        self._run("INSERT INTO outbox (stream, fields) VALUES (?, ?)", stream, json.dumps(fields))

    def outbox(self, limit: int, *, after_id: int = 0) -> list[tuple[int, str, dict[str, str]]]:
        """The oldest unsent events beyond an id: id, stream, fields."""
        found = self._all("SELECT id, stream, fields FROM outbox WHERE id > ? ORDER BY id LIMIT ?", after_id, limit)
        return [(row[0], row[1], json.loads(row[2])) for row in found]

    def outbox_size(self) -> int:
        return int(self._all("SELECT count(*) FROM outbox")[0][0])

    def remove_sent(self, up_to_id: int) -> None:
        with self.transaction():
            self._run("DELETE FROM outbox WHERE id <= ?", up_to_id)

    def _keep(self, order: int, trade: Trade | None) -> None:
        if trade:
            self._open[order] = trade
        else:
            self._open.pop(order, None)

    def _read_again(self) -> None:
        """Bring what is kept in memory back to what the file has, after a transaction or a part of one was undone."""
        for order in self._touched.orders:
            found = self._all("SELECT row FROM trade WHERE number = ? AND close_time = 0", order)
            self._keep(order, _trade(found[0][0]) if found else None)
        for number in self._touched.logins:
            found = self._all("SELECT record FROM login WHERE login = ?", number)
            if found:
                self._logins[number] = _login(found[0][0])
            else:
                self._logins.pop(number, None)
        for name in self._touched_numbers:
            found = self._all("SELECT value FROM number WHERE name = ?", name)
            if found:
                self._numbers[name] = found[0][0]
            else:
                self._numbers.pop(name, None)

    def _run(self, sql: str, *values: object) -> None:
        """Write inside the running transaction, or in one of its own."""
        with self._lock:
            if self._depth:
                self._db.execute(sql, values)
            else:
                with self.transaction():
                    self._db.execute(sql, values)

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()


def _trade(text: str) -> Trade:
    return read_trade(json.loads(text))


def _login(text: str) -> Login:
    return read_login(json.loads(text))
