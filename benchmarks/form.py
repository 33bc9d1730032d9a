"""The one form of all benchmarks: a table on the terminal, JSON for machines.

A result has a value with its unit; a limit, that is, what it was measured beside in the same run and what that made; the
ratio of the two; and a goal, which is for the ratio where there is a limit and for the value otherwise.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Literal

from app import ROOT

#: By name: the module below this package that measures it.
NAMES = {
    "ledger": "ledger",
    "ledger.posting": "ledger.posting",
    "ledger.books": "ledger.books",
    "ingest": "metatrader.ingest",
    "ingest.mirror": "metatrader.mirror",
    "reconcile": "metatrader.reconcile",
    "latency": "metatrader.latency",
    "commissions": "commissions.job",
    "commissions.growth": "commissions.growth",
    "commissions.replay": "commissions.replay",
}

#: Those that take a size, which is a number of deals.
SIZED = frozenset({"commissions", "commissions.growth", "commissions.replay"})


@dataclass(frozen=True)
class Limit:
    """What a result was measured beside."""

    name: str
    value: float


@dataclass(frozen=True)
class Result:
    """One figure. `better` says in which direction the goal lies; `met` is None where there is no goal."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    limit: Limit | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def ratio(self) -> float | None:
        return self.value / self.limit.value if self.limit and self.limit.value else None

    @property
    def met(self) -> bool | None:
        judged = self.ratio if self.limit else self.value
        if self.goal is None or judged is None:
            return None
        return judged >= self.goal if self.better == "higher" else judged <= self.goal


@dataclass
class Run:
    """One run of one benchmark: how large it is to be, its random numbers, where it reports to, its results so far.

    `size` is asked for in place of the benchmark's own, where it takes one.
    """

    name: str
    small: bool
    tell: Callable[[str], None]
    seed: int = 1
    size: int | None = None
    results: list[Result] = field(default_factory=list)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.tell(f"{result.name}: {_figure(result.value)} {result.unit}")

    def rounds(self, sides: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
        """Measure all sides in turn, round by round, so that what disturbs the machine meets them alike. The medians."""
        found: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(1, rounds + 1):
            self.tell(f"round {number} of {rounds}")
            for name, measure in sides.items():
                found[name].append(measure())
        return {name: median(values) for name, values in found.items()}


def measure(name: str, *, small: bool, tell: Callable[[str], None], size: int | None = None) -> Run:
    """Run one of NAMES; `tell` is told how far it is. `size` is for those in SIZED."""
    run = Run(name, small, tell=tell, size=size)
    import_module(f"benchmarks.{NAMES[name]}").measure(run)
    return run


def document(run: Run) -> dict[str, Any]:
    """The run as JSON values."""
    return {
        "benchmark": run.name,
        "commit": _commit(),
        "machine": machine(),
        "seed": run.seed,
        "small": run.small,
        "size": run.size,
        "started_at": run.started_at.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - run.started_at).total_seconds(), 1),
        "results": [_result(result) for result in run.results],
    }


def write(run: Run, path: Path) -> None:
    """Write the run's document."""
    path.write_text(json.dumps(document(run), indent=1) + "\n", encoding="utf-8")


def table(results: Sequence[Result]) -> str:
    """The results in columns, for a terminal."""
    rows = [("what", "value", "unit", "beside", "ratio", "goal", "met")]
    for result in results:
        beside = f"{result.limit.name}: {_figure(result.limit.value)}" if result.limit else ""
        goal = "" if result.goal is None else f"{'≥' if result.better == 'higher' else '≤'} {result.goal:g}"
        ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
        met = {None: "", True: "yes", False: "no"}[result.met]
        rows.append((result.name, _figure(result.value), result.unit, beside, ratio, goal, met))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = (False, True, False, False, True, True, False)
    lines = []
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        lines.append(
            "  ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in cells).rstrip()
        )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory_kb = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory_kb) / 1024 / 1024, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _result(result: Result) -> dict[str, Any]:
    shown = asdict(result)
    del shown["better"]
    return shown | {"ratio": result.ratio, "met": result.met}


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _commit() -> str:
    """The checkout's commit, with a plus sign when files differ from it; empty outside a repository."""
    try:
        commit, changed = (_git("rev-parse", "HEAD"), _git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
