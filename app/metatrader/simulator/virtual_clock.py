"""A clock that can be driven: it stands still, runs as fast as wished, and is moved on by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta


class VirtualClock:
    """Call it for the moment. With `speed` 0 it stands still until moved; 1 is real time, 60 a minute every second."""

    def __init__(self, start: datetime, speed: float = 0.0, timer: Callable[[], float] = time.monotonic) -> None:
        if start.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        self._lock = threading.Lock()
        self._timer = timer
        self._speed = speed
        self._moment, self._since_s = start, timer()

    def __call__(self) -> datetime:
        with self._lock:
            return self._now()

    def move(self, step: timedelta) -> None:
        """On by so much; never back."""
        if step < timedelta():
            raise ValueError("this clock does not go back")
        with self._lock:
            self._moment, self._since_s = self._now() + step, self._timer()

    def set_speed(self, speed: float) -> None:
        with self._lock:
            self._moment, self._since_s = self._now(), self._timer()
            self._speed = speed

    def _now(self) -> datetime:
        return self._moment + timedelta(seconds=(self._timer() - self._since_s) * self._speed)
