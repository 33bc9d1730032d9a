"""A long time read in windows of server seconds that grow and shrink with what they hold: no answer is huge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

R = TypeVar("R")

#: Server seconds of the first window, and about how many rows one should bring: a long answer keeps others waiting, and memory.
FIRST_WINDOW_S = 3600
MANY_ROWS = 10_000


def in_windows(first_s: int, last_s: int, read: Callable[[int, int], Sequence[R]]) -> Iterator[tuple[int, int, Sequence[R]]]:
    """(first second, last second, its rows) of windows that follow each other from `first_s` to `last_s`, both included."""
    window_s = FIRST_WINDOW_S
    while first_s <= last_s:
        end_s = min(first_s + window_s - 1, last_s)
        rows = read(first_s, end_s)
        yield first_s, end_s, rows
        first_s = end_s + 1
        if len(rows) > MANY_ROWS:
            window_s = max(1, window_s // 2)
        elif len(rows) < MANY_ROWS // 4:
            window_s *= 2
