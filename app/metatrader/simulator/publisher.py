"""The thread that empties the outbox: into the event stream on Redis, and into whatever outputs are configured besides.

Outputs are told what the stream is told, with the same faults. Exports are told everything once, in order, when it is read.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from redis import Redis
from redis.exceptions import RedisError

from app.metatrader.simulator.event_faults import spoil
from app.metatrader.simulator.journal import LOST, USERS, Journal
from app.metatrader.stream import publish

log = logging.getLogger("lotwise.simulator")

BATCH = 500
RETRY_S = 1.0
#: How often it looks whether what is held back may go.
LOOK_S = 0.05
#: What is held back in memory at most; the rest waits in the outbox.
HELD_MAX = 20_000
#: When what is not held back is due: before everything that is, whatever the clock does.
AT_ONCE = datetime.min.replace(tzinfo=UTC)


class Output(Protocol):
    """Something that wants every event too. `offer` must not wait and must not raise."""

    def start(self) -> None: ...

    def offer(self, entry: Mapping[str, str]) -> None: ...

    def stop(self) -> None: ...


@dataclass(order=True)
class _Held:
    """One sending that is due at a moment; `is_first` sendings hold their row in the outbox until they are done."""

    due: datetime
    number: int
    again: int
    stream: str = field(compare=False)
    entry: Mapping[str, Any] = field(compare=False)

    @property
    def is_first(self) -> bool:
        return not self.again


class Publisher:
    """Sends in order, as long as no fault is on, for as long as it takes. Without `redis_url` only to outputs and exports."""

    def __init__(
        self, journal: Journal, redis_url: str, outputs: Sequence[Output] = (), exports: Sequence[Output] = ()
    ) -> None:
        self._journal = journal
        self._store = journal.store
        self._redis = Redis.from_url(redis_url, socket_timeout=10, socket_connect_timeout=5) if redis_url else None
        self._outputs = outputs
        self._exports = exports
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="simulator-publisher", daemon=True)
        self._is_away = False
        self._held: list[_Held] = []
        self._unsent: dict[int, None] = {}
        self._read_to = 0
        self._removed_to = 0

    def start(self) -> None:
        for output in (*self._outputs, *self._exports):
            output.start()
        self._thread.start()

    def stop(self) -> None:
        """Send what is there, what is held back too, if it is taken, and end."""
        self._stop.set()
        self._store.changed.set()
        self._thread.join(timeout=10)
        for output in (*self._outputs, *self._exports):
            output.stop()
        if self._redis:
            self._redis.close()

    def _work(self) -> None:
        while True:
            self._store.changed.clear()
            is_last_round = self._stop.is_set()  # asked after the clearing, or the wake-up of `stop` could be cleared away
            try:
                is_done = self._send_all(at_once=is_last_round)
            except Exception:
                log.exception("publishing stumbled; it is tried again")
                is_done = False
            if is_last_round:
                return
            if not is_done:
                self._stop.wait(RETRY_S)
            elif self._held or self._journal.faults.is_held(self._journal.clock()):
                self._stop.wait(LOOK_S)
            else:
                self._store.changed.wait(timeout=5.0)

    def _send_all(self, *, at_once: bool) -> bool:
        """Send everything that is due; False when Redis is away."""
        while True:
            has_more = self._take()
            if not at_once and self._journal.faults.is_held(self._journal.clock()):
                return True
            if not self._send_due(at_once=at_once):
                return False
            if not has_more:
                return True

    def _take(self) -> bool:
        """Bring new rows in from the outbox, each with the faults that it meets; whether there may be more."""
        if len(self._held) >= HELD_MAX:
            return False
        rows = self._store.outbox(BATCH, after_id=self._read_to)
        for number, stream, entry in rows:
            self._read_to = number
            for export in self._exports:
                export.offer(entry)
            if stream == LOST:
                continue
            self._unsent[number] = None
            if stream == USERS or entry["kind"].startswith("control."):
                heapq.heappush(self._held, _Held(AT_ONCE, number, 0, stream, entry))
                continue
            self._hold(number, stream, entry)
        if any(stream == LOST for _, stream, _ in rows):
            self._forget(())
        return len(rows) == BATCH

    def _hold(self, number: int, stream: str, entry: Mapping[str, str]) -> None:
        """Plan the sendings of one event: when it happened decides when each is due, not when it was looked at."""
        faults, name = self._journal.faults, f"{entry['kind']}:{entry['key']}:{entry['rev']}"
        delay_s, again_after_s, garbage = faults.delay_s(name), faults.again_after_s(name), faults.garbage(name)
        due = _later(entry, delay_s)
        heapq.heappush(self._held, _Held(due, number, 0, stream, entry))
        if again_after_s is not None:
            heapq.heappush(self._held, _Held(_later(entry, delay_s + again_after_s), number, 1, stream, entry))
        if garbage:
            heapq.heappush(self._held, _Held(due, number, 2, stream, spoil(entry, garbage)))

    def _send_due(self, *, at_once: bool) -> bool:
        while self._held:
            now = self._journal.clock()
            due: list[_Held] = []
            while self._held and len(due) < BATCH and (at_once or self._held[0].due <= now):
                due.append(heapq.heappop(self._held))
            if not due:
                return True
            if not self._publish(due):
                for one in due:
                    heapq.heappush(self._held, one)
                return False
            self._forget(due)
        return True

    def _publish(self, due: Sequence[_Held]) -> bool:
        if self._redis:
            try:
                publish(self._redis, [(one.stream, one.entry) for one in due if one.stream != USERS])
            except RedisError as error:
                if not self._is_away:
                    log.warning("events wait in the outbox, Redis is away: %s", type(error).__name__)
                self._is_away = True
                return False
        self._is_away = False
        for output in self._outputs:
            for one in due:
                if one.again < 2:  # garbage is for the stream; outputs have their own shape
                    output.offer(one.entry)
        return True

    def _forget(self, sent: Sequence[_Held]) -> None:
        """Remove from the outbox what lies before the oldest row that is still to be sent."""
        for one in sent:
            if one.is_first:
                del self._unsent[one.number]
        sent_to = next(iter(self._unsent)) - 1 if self._unsent else self._read_to
        if sent_to > self._removed_to:
            self._store.remove_sent(sent_to)
            self._removed_to = sent_to


def _later(entry: Mapping[str, str], delay_s: float) -> datetime:
    return datetime.fromisoformat(entry["recv_utc"]) + timedelta(seconds=delay_s) if delay_s else AT_ONCE
