"""What the simulator remembers over restarts: one SQLite file. Money is whole minor units, prices whole points.

Every change happens inside `transaction()`, which also guards against other threads; the events that tell of it are in
the same transaction, in the outbox, so that neither is ever without the other. Logins and what is open on them are kept in
memory besides, because each price and each deal asks for them, and are written when the transaction ends; one that fails
restores both.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from app.metatrader.codes import DealAction
from app.metatrader.platform import Deal, Order
from app.metatrader.simulator import rows
from app.metatrader.simulator.holdings import Account, OpenPosition

__all__ = ["Account", "OpenPosition", "Store"]

_GONE: Any = object()
_Record = TypeVar("_Record", Account, OpenPosition)


class Store:
    """The SQLite file. `changed` is set after every commit, so that a publisher need not poll.

    Records that it hands out are copies; what is done to them counts when they are saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        rows.prepare(self._db)
        self._lock = threading.RLock()
        self._depth = 0
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        #: What is to be written when the transaction ends: keys of records and numbers, and events.
        self._changed_accounts: set[int] = set()
        self._changed_positions: set[int] = set()
        self._changed_numbers: set[str] = set()
        self._events: list[tuple[str, str]] = []
        self._load()
        self.changed = threading.Event()
        #: Logins whose money or positions have changed since somebody last cleared this.
        self.touched: set[int] = set(self._accounts)

    def _load(self) -> None:
        self._accounts = {row[0]: rows.account(row) for row in self._db.execute("SELECT * FROM account ORDER BY login")}
        self._positions = {row[0]: rows.position(row) for row in self._db.execute("SELECT * FROM position ORDER BY ticket")}
        self._orders = {row[0]: rows.order(row) for row in self._db.execute("SELECT * FROM orders WHERE done_ms = 0")}
        self._held: dict[int, dict[int, OpenPosition]] = {}
        for position in self._positions.values():
            self._held.setdefault(position.login, {})[position.ticket] = position
        self._guarded = {ticket: None for ticket, one in self._positions.items() if one.stop_loss or one.take_profit}
        self._numbers: dict[str, int] = dict(self._db.execute("SELECT name, value FROM number").fetchall())
        self._roster: list[int] | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else meanwhile. An inner one that fails undoes its own part alone."""
        with self._lock:
            self._depth += 1
            depth, mark, events = self._depth, len(self._undo), len(self._events)
            try:
                self._db.execute("BEGIN IMMEDIATE" if depth == 1 else f"SAVEPOINT part_{depth}")
                yield
                if depth == 1:
                    self._write()
                self._db.execute("COMMIT" if depth == 1 else f"RELEASE part_{depth}")
            except BaseException:
                self._take_back(mark)
                del self._events[events:]
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK" if depth == 1 else f"ROLLBACK TO part_{depth}")
                    if depth > 1:
                        self._db.execute(f"RELEASE part_{depth}")
                raise
            finally:
                self._depth -= 1
                if depth == 1:
                    self._undo.clear()
                    self._forget_changes()
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

    def number(self, name: str, start: int = 0) -> int:
        """A named number, or `start` when it was never set."""
        with self._lock:
            return self._numbers.get(name, start)

    def set_number(self, name: str, value: int) -> None:
        with self._lock:
            self._put(self._numbers, name, value)
            self._changed_numbers.add(name)
            self._write_alone()

    def next_number(self, name: str, start: int) -> int:
        """The next of a never repeating sequence that begins at `start`."""
        with self._lock:
            value = self._numbers.get(name, start - 1) + 1
            self.set_number(name, value)
            return value

    def account(self, login: int) -> Account | None:
        """A login's record; None for an archived one."""
        with self._lock:
            found = self._accounts.get(login)
            return _twin(found) if found and not found.archived_ms else None

    def archived(self, login: int) -> Account | None:
        """An archived login's record."""
        with self._lock:
            found = self._accounts.get(login)
            return _twin(found) if found and found.archived_ms else None

    def accounts(self) -> list[Account]:
        with self._lock:
            return [_twin(account) for _, account in sorted(self._accounts.items()) if not account.archived_ms]

    def archived_accounts(self) -> list[Account]:
        with self._lock:
            return [_twin(account) for _, account in sorted(self._accounts.items()) if account.archived_ms]

    def logins(self) -> list[int]:
        """All that are not archived, in order. Not to be changed: it is the store's own list."""
        with self._lock:
            if self._roster is None:
                self._roster = sorted(login for login, account in self._accounts.items() if not account.archived_ms)
            return self._roster

    def save_account(self, account: Account) -> None:
        with self._lock:
            old = self._accounts.get(account.login)
            if old is None or old.archived_ms != account.archived_ms:
                self._roster = None
            self._put(self._accounts, account.login, _twin(account))
            self.touched.add(account.login)
            self._changed_accounts.add(account.login)
            self._write_alone()

    def delete_account(self, login: int) -> None:
        with self._lock:
            self._roster = None
            self._put(self._accounts, login, _GONE)
            self.touched.add(login)
            self._changed_accounts.add(login)
            self._write_alone()

    def add_deal(self, deal: Deal) -> None:
        """Write a deal, over an older form of it."""
        self._run(rows.PUT_DEAL, *rows.deal_row(deal))

    @contextmanager
    def filling(self) -> Iterator[None]:
        """For writing millions of deals, quickly; looking for the deals of one login takes long meanwhile."""
        with self._lock:
            self._db.execute(rows.DROP_INDEX_BY_LOGIN)
        try:
            yield
        finally:
            with self._lock:
                self._db.execute(rows.INDEX_BY_LOGIN)

    def add_deal_rows(self, deals: Iterable[tuple[Any, ...]]) -> None:
        """Write many deals at once, as rows."""
        with self._lock:
            self._db.executemany(rows.PUT_DEAL, deals)

    def deal(self, ticket: int) -> Deal | None:
        row = self._one("SELECT * FROM deal WHERE ticket = ?", ticket)
        return rows.deal(row) if row else None

    def deals(self, login: int | None, from_ms: int, to_ms: int, *, limit: int = -1, offset: int = 0) -> list[Deal]:
        """Deals of a login, or of all, with both ends of the range included, by ticket."""
        found = self._all(
            "SELECT * FROM deal WHERE (?1 IS NULL OR login = ?1) AND server_time_ms BETWEEN ?2 AND ?3 "
            "ORDER BY ticket LIMIT ?4 OFFSET ?5"
            if login is None
            else "SELECT * FROM deal WHERE login = ?1 AND server_time_ms BETWEEN ?2 AND ?3 ORDER BY ticket LIMIT ?4 OFFSET ?5",
            login,
            from_ms,
            to_ms,
            limit,
            offset,
        )
        return [rows.deal(row) for row in found]

    def count_deals(self, login: int | None, from_ms: int, to_ms: int) -> int:
        where = "?1 IS NULL" if login is None else "login = ?1"
        row = self._one(f"SELECT count(*) FROM deal WHERE {where} AND server_time_ms BETWEEN ?2 AND ?3", login, from_ms, to_ms)  # noqa: S608  # no text of others
        return int(row[0]) if row else 0

    def sums(self, login: int) -> tuple[int, int]:
        """Balance and credit that a login's deals add up to, in minor units."""
        row = self._one(
            "SELECT coalesce(sum((profit + swap + commission + fee) * (action <> ?2)), 0),"
            " coalesce(sum((profit + swap + commission + fee) * (action = ?2)), 0) FROM deal WHERE login = ?1",
            login,
            int(DealAction.CREDIT),
        )
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def delete_deal(self, ticket: int) -> None:
        self._run("DELETE FROM deal WHERE ticket = ?", ticket)

    def position(self, ticket: int) -> OpenPosition | None:
        with self._lock:
            found = self._positions.get(ticket)
            return _twin(found) if found else None

    def positions(self, login: int | None = None) -> list[OpenPosition]:
        """What is open, on a login or in all, by ticket."""
        with self._lock:
            found = self._positions if login is None else self._held.get(login, {})
            return [_twin(found[ticket]) for ticket in sorted(found)]

    def save_position(self, position: OpenPosition) -> None:
        with self._lock:
            kept = _twin(position)
            self._put(self._positions, kept.ticket, kept)
            self._put(self._held.setdefault(kept.login, {}), kept.ticket, kept)
            self._put(self._guarded, kept.ticket, None if kept.stop_loss or kept.take_profit else _GONE)
            self.touched.add(kept.login)
            self._changed_positions.add(kept.ticket)
            self._write_alone()

    def delete_position(self, ticket: int) -> None:
        with self._lock:
            found = self._positions.get(ticket)
            if found is None:
                return
            self._put(self._positions, ticket, _GONE)
            self._put(self._held[found.login], ticket, _GONE)
            self._put(self._guarded, ticket, _GONE)
            self.touched.add(found.login)
            self._changed_positions.add(ticket)
            self._write_alone()

    def holders(self) -> list[int]:
        """Logins with something open."""
        with self._lock:
            return [login for login, positions in self._held.items() if positions]

    def guarded(self) -> list[OpenPosition]:
        """Positions with a stop loss or a take profit, by ticket."""
        with self._lock:
            return [_twin(self._positions[ticket]) for ticket in sorted(self._guarded)]

    def save_order(self, order: Order) -> None:
        with self._lock:
            self._put(self._orders, order.ticket, _GONE if order.done_ms else order)
            self._run(rows.PUT_ORDER, *rows.order_row(order))

    def order(self, ticket: int) -> Order | None:
        """An order, open or done."""
        row = self._one("SELECT * FROM orders WHERE ticket = ?", ticket)
        return rows.order(row) if row else None

    def orders(self, login: int | None = None) -> list[Order]:
        """Open orders of a login, or of all, by ticket."""
        with self._lock:
            return [self._orders[ticket] for ticket in sorted(self._orders) if login in (None, self._orders[ticket].login)]

    def order_history(self, login: int | None, from_ms: int, to_ms: int, *, limit: int = -1, offset: int = 0) -> list[Order]:
        """Orders that were done in a range, both ends included, by ticket."""
        where = "?1 IS NULL AND done_ms > 0" if login is None else "login = ?1 AND done_ms > 0"
        found = self._all(
            f"SELECT * FROM orders WHERE {where} AND done_ms BETWEEN ?2 AND ?3 ORDER BY ticket LIMIT ?4 OFFSET ?5",  # noqa: S608  # no text of others
            login,
            from_ms,
            to_ms,
            limit,
            offset,
        )
        return [rows.order(row) for row in found]

    def count_order_history(self, login: int | None, from_ms: int, to_ms: int) -> int:
        where = "?1 IS NULL AND done_ms > 0" if login is None else "login = ?1 AND done_ms > 0"
        row = self._one(f"SELECT count(*) FROM orders WHERE {where} AND done_ms BETWEEN ?2 AND ?3", login, from_ms, to_ms)  # noqa: S608  # no text of others
        return int(row[0]) if row else 0

    def delete_order(self, ticket: int) -> None:
        with self._lock:
            self._put(self._orders, ticket, _GONE)
            self._run("DELETE FROM orders WHERE ticket = ?", ticket)

    def put_in_outbox(self, stream: str, fields: Mapping[str, str]) -> None:
        with self._lock:
            self._events.append((stream, json.dumps(fields)))
            self._write_alone()

    def outbox(self, limit: int, *, after_id: int = 0) -> list[tuple[int, str, dict[str, str]]]:
        """The oldest unsent events beyond an id: id, stream, fields. Those of a transaction come with its end."""
        found = self._all("SELECT id, stream, fields FROM outbox WHERE id > ? ORDER BY id LIMIT ?", after_id, limit)
        return [(row[0], row[1], json.loads(row[2])) for row in found]

    def outbox_size(self) -> int:
        row = self._one("SELECT count(*) FROM outbox")
        return int(row[0]) if row else 0

    def remove_sent(self, up_to_id: int) -> None:
        with self.transaction():
            self._run("DELETE FROM outbox WHERE id <= ?", up_to_id)

    def _put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Change what is kept in memory, so that a transaction can take it back."""
        if self._depth:
            self._undo.append((table, key, table.get(key, _GONE)))
        if value is _GONE:
            table.pop(key, None)
        else:
            table[key] = value

    def _take_back(self, mark: int) -> None:
        self._roster = None
        while len(self._undo) > mark:
            table, key, value = self._undo.pop()
            if table is self._accounts:
                self.touched.add(key)
            elif table is self._positions:
                self.touched.add((table[key] if value is _GONE else value).login)
            if value is _GONE:
                table.pop(key, None)
            else:
                table[key] = value

    def _write_alone(self) -> None:
        """Write at once what was changed outside of any transaction."""
        if not self._depth:
            with self.transaction():
                pass

    def _write(self) -> None:
        """Bring what has changed in memory into the file."""
        for changed, table, put, make, key in (
            (self._changed_accounts, self._accounts, rows.PUT_ACCOUNT, rows.account_row, "account WHERE login"),
            (self._changed_positions, self._positions, rows.PUT_POSITION, rows.position_row, "position WHERE ticket"),
        ):
            kept: Any = table
            self._db.executemany(put, [make(kept[one]) for one in changed if one in kept])
            self._db.executemany(f"DELETE FROM {key} = ?", [(one,) for one in changed if one not in kept])  # noqa: S608  # names of ours
        self._db.executemany(
            "INSERT INTO number VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [(name, self._numbers[name]) for name in self._changed_numbers if name in self._numbers],
        )
        self._db.executemany("INSERT INTO outbox (stream, fields) VALUES (?, ?)", self._events)

    def _forget_changes(self) -> None:
        self._changed_accounts.clear()
        self._changed_positions.clear()
        self._changed_numbers.clear()
        self._events.clear()

    def _run(self, sql: str, *values: object) -> None:
        with self._lock:
            self._db.execute(sql, values)

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        found = self._all(sql, *values)
        return found[0] if found else None

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()


def _twin(record: _Record) -> _Record:
    """A copy, made faster than by the ordinary way."""
    twin = object.__new__(type(record))
    twin.__dict__.update(record.__dict__)
    return twin
