"""Load: many accounts that trade at a given rate, and a line every ten seconds about what that costs."""

from __future__ import annotations

import logging
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from app.metatrader.simulator.store import Store

log = logging.getLogger("lotwise.simulator")

REPORT_S = 10.0


class Pace:
    """So many events a second, evenly. After a standstill it makes good for a second at most."""

    CATCH_UP_S = 1.0

    def __init__(self, per_second: float, now_s: float) -> None:
        self._per_second = per_second
        self._owed = 0.0
        self._last_s = now_s

    def due(self, now_s: float) -> int:
        """How many are due now; they count as made."""
        self._owed += (now_s - self._last_s) * self._per_second
        self._last_s = now_s
        self._owed = min(self._owed, max(1.0, self._per_second * self.CATCH_UP_S))
        whole = int(self._owed)
        self._owed -= whole
        return whole


@dataclass(frozen=True)
class Cost:
    """What the process did and used over a time: deals a second, the part of one core, memory, events that wait."""

    deals_per_second: float
    cpu: float
    memory_mb: float
    outbox: int

    def __str__(self) -> str:
        return (
            f"{self.deals_per_second:.1f} deals a second, {self.cpu:.0%} of a core, {self.memory_mb:.0f} MB,"
            f" {self.outbox} events wait"
        )


class Meter:
    """Measures the whole process since it was made, and since it was last read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began = self._mark = self._now()

    def read(self) -> Cost:
        """Since the last reading."""
        before, self._mark = self._mark, self._now()
        return self._cost(before)

    def total(self) -> Cost:
        return self._cost(self._began)

    def age_s(self) -> float:
        return time.monotonic() - self._began[0]

    def is_due(self) -> bool:
        """Whether the last reading was some time ago."""
        return time.monotonic() - self._mark[0] >= REPORT_S

    def _now(self) -> tuple[float, float, int]:
        return time.monotonic(), time.process_time(), self._store.number("deal")

    def _cost(self, since: tuple[float, float, int]) -> Cost:
        now = self._now()
        seconds, cpu_s, deals = (then - before for then, before in zip(now, since, strict=True))
        return Cost(deals / max(seconds, 1e-9), cpu_s / max(seconds, 1e-9), _memory_mb(), self._store.outbox_size())


def _memory_mb() -> float:
    """Of this process now, where the system tells; else the most it ever had."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
