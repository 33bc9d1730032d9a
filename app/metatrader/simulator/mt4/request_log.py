"""The bridge's log of commands that change something: what was sent to MT4, and what came of it. One SQLite file, synced.

An id is written down before MT4 is called and its answer before it is given, so that no command is ever carried out twice,
whatever happens to the bridge or to its answers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

#: Contract: 30 days at least.
KEPT_FOR = timedelta(days=40)

Outcome = Literal["done", "refused", "never", "running", "unknown"]


@dataclass(frozen=True)
class Entry:
    """What is known of an id. `digest` is empty when it was asked about before it came."""

    digest: str
    outcome: Outcome
    answer: Mapping[str, Any]


#: Of an id whose command is being carried out just now; never written down.
RUNNING = Entry("", "running", {})


class RequestLog:
    """Thread-safe. `key` seals the bodies, which hold passwords: only digests are kept."""

    def __init__(self, path: Path, key: str, clock: Callable[[], datetime]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._key = key.encode("utf-8")
        self._clock = clock
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS request (id TEXT PRIMARY KEY, command TEXT NOT NULL, digest TEXT NOT NULL,"
            " outcome TEXT NOT NULL, answer TEXT NOT NULL, asked_at TEXT NOT NULL)"
        )
        self._db.execute("DELETE FROM request WHERE asked_at < ?", ((clock() - KEPT_FOR).isoformat(),))

    def digest(self, command: str, body: Mapping[str, Any]) -> str:
        """What tells one command from another, without telling what is in it."""
        text = f"{command}\n{json.dumps(body, sort_keys=True)}"
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def begin(self, id_: str, command: str, digest: str) -> Entry | None:
        """Write an id down as sent. The entry that was there before, when there was one: then nothing may be sent."""
        return self._put(id_, command, digest, "unknown")

    def finish(self, id_: str, outcome: Outcome, answer: Mapping[str, Any]) -> None:
        """Write down what MT4 answered."""
        with self._lock:
            self._db.execute("UPDATE request SET outcome = ?, answer = ? WHERE id = ?", (outcome, json.dumps(answer), id_))

    def forget(self, id_: str) -> None:
        """Nothing was done, and it may come again."""
        with self._lock:
            self._db.execute("DELETE FROM request WHERE id = ?", (id_,))

    def outcome(self, id_: str) -> Entry:
        """What became of an id. One that was never seen is written down, so that it does nothing when it comes late."""
        return self._put(id_, "", "", "never") or Entry("", "never", {})

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _put(self, id_: str, command: str, digest: str, outcome: Outcome) -> Entry | None:
        with self._lock:
            written = self._db.execute(
                "INSERT INTO request VALUES (?, ?, ?, ?, '{}', ?) ON CONFLICT DO NOTHING",
                (id_, command, digest, outcome, self._clock().isoformat()),
            ).rowcount
            if written:
                return None
            found = self._db.execute("SELECT digest, outcome, answer FROM request WHERE id = ?", (id_,)).fetchone()
            return Entry(found[0], found[1], json.loads(found[2]))
