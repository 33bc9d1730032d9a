"""A thread that carries out one thing after another, as outputs and exports of the simulator need it."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger("lotwise.simulator")

QUEUE_MAX = 200_000
IDLE_S = 1.0


class Queued(ABC):
    """Takes entries from any thread and carries them out in order; when too much waits the oldest is dropped, and counted."""

    def __init__(self, name: str, *, batch: int = 1) -> None:
        self._batch = batch
        self._waiting: deque[Mapping[str, str]] = deque()
        self._changed = threading.Condition()
        self._is_busy = False
        self._is_ending = False
        self._thread = threading.Thread(target=self._work, name=f"simulator-{name}", daemon=True)
        self.dropped = 0

    @abstractmethod
    def carry_out(self, entries: Sequence[Mapping[str, str]]) -> None:
        """Do what the entries ask for; none when nothing has come for a while. An exception drops them."""

    def open(self) -> None:  # noqa: B027  # most have nothing to open
        """Called by the thread before the first entry. An exception is logged, and it goes on."""

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Called by the thread when it ends."""

    def start(self) -> None:
        self._thread.start()

    def offer(self, entry: Mapping[str, str]) -> None:
        """Never waits and never raises."""
        with self._changed:
            if len(self._waiting) >= QUEUE_MAX:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(entry)
            self._changed.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether everything offered so far was carried out in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._is_busy, timeout=timeout_s)

    def stop(self) -> None:
        """Carry out what waits, for ten seconds at most, and end."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        self._guarded(self.open)
        while (entries := self._next()) is not None:
            self._guarded(lambda: self.carry_out(entries), len(entries))
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
        self._guarded(self.close)

    def _next(self) -> list[Mapping[str, str]] | None:
        with self._changed:
            if not self._waiting and not self._is_ending:
                self._changed.wait(timeout=IDLE_S)
            if not self._waiting and self._is_ending:
                return None
            self._is_busy = True
            return [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]

    def _guarded(self, work: Callable[[], None], entries: int = 0) -> None:
        try:
            work()
        except Exception:
            self.dropped += entries
            log.exception("an output of the simulator stumbled; it goes on")
