"""Which servers lost events on their way to us, so that a sweep has to fetch what is missing.

Events may overtake each other by some seconds, so a number that was skipped is waited for before it counts as lost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from app.metatrader.events import Event, SequenceWatch

#: How long a skipped number may still come.
PATIENCE_S = 8.0
#: So many in one go have not overtaken each other.
MOST_WAITED_FOR = 1_000


class GapWatch:
    """Watches the numbers of all events that one process reads. `found` empties what it returns."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watch = SequenceWatch()
        self._missing: dict[tuple[str, str, str, int], tuple[str, float]] = {}
        self._lost: Counter[str] = Counter()

    def see(self, stream: str, event: Event) -> None:
        """Take note of an event as it is read."""
        skipped = self._watch.skipped(stream, event)
        if len(skipped) > MOST_WAITED_FOR:
            self._lost[event.server] += len(skipped)
        elif skipped:
            until = self._clock() + PATIENCE_S
            self._missing |= {(stream, event.src, event.boot, seq): (event.server, until) for seq in skipped}
        elif self._missing:
            self._missing.pop((stream, event.src, event.boot, event.seq), None)

    def lost(self, server: str, count: int) -> None:
        """Entries of a server were gone before anybody read them."""
        self._lost[server] += count

    def found(self) -> dict[str, int]:
        """By server: how many events are lost for good, as far as was not told before."""
        moment = self._clock()
        for number, (server, until) in list(self._missing.items()):
            if until <= moment:
                del self._missing[number]
                self._lost[server] += 1
        found, self._lost = dict(self._lost), Counter()
        return found

    def marks(self, stream: str) -> dict[str, str]:
        """Where the stream's sources stand, to keep over a restart."""
        return self._watch.marks(stream)

    def restore(self, stream: str, marks: Mapping[str, str]) -> None:
        self._watch.restore(stream, marks)
