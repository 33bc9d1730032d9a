"""What the sandbox remembers, in one SQLite file: objects as JSON, idempotency keys, planned tasks, deliveries, faults."""

from __future__ import annotations

import json
import secrets
import sqlite3
import string
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, kind TEXT NOT NULL, parent TEXT, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS object_kind ON object (kind, parent);
CREATE TABLE IF NOT EXISTS idempotency (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS task (id INTEGER PRIMARY KEY, due REAL NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, attempt INTEGER NOT NULL, due REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting', answer TEXT NOT NULL DEFAULT '', sent REAL);
CREATE INDEX IF NOT EXISTS delivery_state ON delivery (state, due);
CREATE TABLE IF NOT EXISTS fault (
    name TEXT PRIMARY KEY, times INTEGER NOT NULL, seconds REAL NOT NULL, path TEXT NOT NULL);
"""

Row = dict[str, Any]


def new_id(prefix: str) -> str:
    """An id in Stripe's form, such as "pi_" and 24 letters and digits."""
    return prefix + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(24))


class Store:
    """One connection behind one lock: a request or a task is one transaction, and they come one after the other."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. May be nested: the outermost one commits."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("COMMIT")

    def rows(self, sql: str, *values: object) -> list[Row]:
        with self._lock:
            return [dict(row) for row in self._connection.execute(sql, values).fetchall()]

    def execute(self, sql: str, *values: object) -> int:
        """Run a change; returns how many rows it touched."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    # --- objects -------------------------------------------------------------------------------------------------------

    def save(self, thing: Row, parent: str | None = None) -> None:
        """Insert or replace an object; `parent` (kept once set) is the id it is listed under."""
        self.execute(
            "INSERT INTO object (id, kind, parent, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            *(thing["id"], thing["object"], parent, json.dumps(thing)),
        )

    def find(self, object_id: str) -> Row | None:
        found = self.rows("SELECT body FROM object WHERE id = ?", object_id)
        return json.loads(found[0]["body"]) if found else None

    def get(self, object_id: str) -> Row:
        """An object that exists. Raises KeyError."""
        found = self.find(object_id)
        if found is None:
            raise KeyError(object_id)
        return found

    def newest(self, kind: str, parent: str | None = None, limit: int = 100) -> list[Row]:
        """Objects of a kind, newest first, of one parent where it is given."""
        found = self.rows(
            "SELECT body FROM object WHERE kind = ? AND (? IS NULL OR parent = ?) ORDER BY seq DESC LIMIT ?",
            *(kind, parent, parent, limit),
        )
        return [json.loads(row["body"]) for row in found]

    # --- plans ---------------------------------------------------------------------------------------------------------

    def plan(self, action: str, subject: str, due: float) -> None:
        """Have a task done at `due` (Unix seconds)."""
        self.execute("INSERT INTO task (due, action, subject) VALUES (?, ?, ?)", due, action, subject)

    def queue(self, event_id: str, due: float, attempt: int = 1) -> None:
        """Have an event delivered at `due`."""
        self.execute("INSERT INTO delivery (event, attempt, due) VALUES (?, ?, ?)", event_id, attempt, due)

    def next_due(self) -> float | None:
        """When the next task or delivery is due."""
        sql = "SELECT min(due) AS due FROM (SELECT due FROM task UNION ALL SELECT due FROM delivery WHERE state = 'waiting')"
        due = self.rows(sql)[0]["due"]
        return None if due is None else float(due)

    # --- faults --------------------------------------------------------------------------------------------------------

    def set_fault(self, name: str, times: int, seconds: float = 0.0, path: str = "") -> None:
        """Let `name` happen the next `times` times (on API paths that begin with `path`); 0 clears it."""
        self.execute("DELETE FROM fault WHERE name = ?", name)
        if times > 0:
            self.execute("INSERT INTO fault VALUES (?, ?, ?, ?)", name, times, seconds, path)

    def take_fault(self, name: str, path: str = "") -> Row | None:
        """The fault, if it is set for this path; it is used up by one."""
        with self.transaction():
            found = self.rows("SELECT * FROM fault WHERE name = ? AND times > 0", name)
            if not found or not path.startswith(found[0]["path"]):
                return None
            self.set_fault(name, found[0]["times"] - 1, found[0]["seconds"], found[0]["path"])
            return found[0]

    # --- idempotency ---------------------------------------------------------------------------------------------------

    def remembered(self, key: str, lifetime_s: float = 24 * 3600) -> Row | None:
        """What was answered under this key in the last day, as Stripe keeps it."""
        self.execute("DELETE FROM idempotency WHERE created < ?", time.time() - lifetime_s)
        found = self.rows("SELECT * FROM idempotency WHERE key = ?", key)
        return found[0] if found else None

    def remember(self, key: str, request: str, status: int, body: Row) -> None:
        self.execute(
            "INSERT INTO idempotency (key, request, status, body, created) VALUES (?, ?, ?, ?, ?)",
            *(key, request, status, json.dumps(body), time.time()),
        )
