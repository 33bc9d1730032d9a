"""What processes take while something is measured: memory of each, and the share of a core of each with its children."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

EVERY_S = 2.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Seen:
    """One process at one moment. `cpu_s` holds what its ended children took, too."""

    parent: int
    cpu_s: float
    memory_mb: float


@dataclass(frozen=True)
class Growth:
    """Resident memory of a process that lived all the time, in MB (10⁶ bytes)."""

    name: str
    early_mb: float
    last_mb: float


class Usage:
    """Looks at all processes every few seconds from `__enter__` to `__exit__`. `parts`: process ids by the names of parts."""

    def __init__(self, parts: Mapping[str, int]) -> None:
        self._parts = parts
        self._looks: list[tuple[float, dict[int, Seen]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def growth(self, part: str, after: float = 0.2) -> list[Growth]:
        """Of every process of a part, from a fifth of the time to the end. Those that came or went are left out."""
        began, ended = self._looks[0][0], self._looks[-1][0]
        early = next(seen for at, seen in self._looks if at >= began + after * (ended - began))
        last = self._looks[-1][1]
        stayed = [pid for pid in _family(early, self._parts[part]) if pid in last]
        return [
            Growth(f"{part} {number}" if number else part, early[pid].memory_mb, last[pid].memory_mb)
            for number, pid in enumerate(stayed)
        ]

    def cores(self) -> dict[str, float]:
        """By part: how much of one core it took, its children included."""
        (began, first), (ended, last) = self._looks[0], self._looks[-1]
        return {
            part: (_cpu_s(last, root) - _cpu_s(first, root)) / max(ended - began, 1e-9) for part, root in self._parts.items()
        }

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._look()

    def _look(self) -> None:
        self._looks.append((time.monotonic(), _all_processes()))


def parent_of(pid: int) -> int:
    return _all_processes()[pid].parent


def _all_processes() -> dict[int, Seen]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in brackets may hold anything; proc(5) numbers what follows from 3 on.
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                ticks = sum(map(int, fields[11:15]))
                found[int(entry.name)] = Seen(int(fields[1]), ticks / _TICKS_PER_S, int(fields[21]) * _PAGE / 1e6)
    return found


def _family(seen: Mapping[int, Seen], root: int) -> list[int]:
    """A process and all below it, the oldest number first."""
    family = {root} & seen.keys()
    while more := {pid for pid, one in seen.items() if one.parent in family} - family:
        family |= more
    return [root, *sorted(family - {root})] if family else []


def _cpu_s(seen: Mapping[int, Seen], root: int) -> float:
    return sum(seen[pid].cpu_s for pid in _family(seen, root))
