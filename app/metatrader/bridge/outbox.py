"""The SQLite file that keeps events from the moment they are written down until Redis has taken them.

Both processes of a bridge write into it; one sends. Numbers are given inside the transaction that writes the rows, so
they have neither gaps nor repeats, and rows lie in the order of their numbers. SQLite syncs every transaction to disk.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.core.clock import now

log = logging.getLogger("lotwise.bridge")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, fields TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

#: A row to write: its stream, and its fields when its number in that stream is known.
Row = tuple[str, Callable[[int], Mapping[str, str]]]


class Outbox:
    """One process's handle on the file. Thread-safe. `changed` is set after every write of this process.

    A file that is no database any more is put aside, never deleted, and a new one begun: `was_broken` tells that what was
    in it did not go out.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.Lock()
        self.changed = threading.Event()
        self.was_broken = False
        try:
            self._db = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # locked, or the disk does not answer: the file may be whole
            aside = path.with_name(f"{path.name}.broken-{now():%Y%m%dT%H%M%S}")
            path.rename(aside)
            log.error("the outbox is broken and was put aside as %s: %s", aside.name, error)
            self.was_broken = True
            self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=30)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(_SCHEMA)
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check failed")
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def write(self, rows: Iterable[Row], **numbers: int) -> None:
        """Write rows in their order, all or none, and remember `numbers` with them. Raises sqlite3.Error."""
        with self._transaction():
            last: dict[str, int] = {}
            for stream, make in rows:
                seq = last[stream] = (last[stream] if stream in last else self._number(f"seq:{stream}")) + 1
                self._db.execute(
                    "INSERT INTO outbox (stream, fields) VALUES (?, ?)", (stream, json.dumps(make(seq), ensure_ascii=False))
                )
            for name, value in {**{f"seq:{stream}": seq for stream, seq in last.items()}, **numbers}.items():
                self._db.execute("INSERT OR REPLACE INTO number VALUES (?, ?)", (name, value))
        self.changed.set()

    def oldest(self, limit: int) -> list[tuple[int, str, dict[str, str]]]:
        """The oldest rows: id, stream, fields."""
        rows = self._all("SELECT id, stream, fields FROM outbox ORDER BY id LIMIT ?", limit)
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    def remove(self, up_to_id: int) -> None:
        """Forget rows that have arrived."""
        with self._transaction():
            self._db.execute("DELETE FROM outbox WHERE id <= ?", (up_to_id,))

    def size(self) -> int:
        """How many rows wait; they go from the front and come at the back, so the ids tell. -1: the file does not answer."""
        try:
            first, last = self._all("SELECT min(id), max(id) FROM outbox")[0]
        except sqlite3.Error:
            return -1
        return int(last - first + 1) if first is not None else 0

    def number(self, name: str) -> int:
        """A number remembered by `write`; 0 when there is none."""
        with self._lock:
            return self._number(name)

    def note(self, name: str) -> str:
        """A text that either process left for the other; empty when there is none."""
        rows = self._all("SELECT value FROM note WHERE name = ?", name)
        return str(rows[0][0]) if rows else ""

    def leave_note(self, name: str, value: str) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """IMMEDIATE, so that the other process waits at the start instead of failing at the end."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _number(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM number WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()
