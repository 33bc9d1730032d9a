"""Faults of commands that can be switched on, to prove that clients survive them, and the line of text that names faults.

Each rule hits the next `times` commands whose path begins with `path`, each of them with the probability `chance`:
    execute_then_drop  carry the command out, then cut the connection without an answer
    garble             carry the command out, then send half of the answer
    silent             carry the command out, then say nothing for `seconds` and cut the connection
    drop               cut the connection without carrying it out
    http_503           refuse with status 503
    retcode            refuse with a return code (`code`), such as 7, 12 or 1018
    slow               wait `seconds` before carrying it out

The faults of events stand in event_faults.py. Everything random comes from the seed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.metatrader.simulator.event_faults import EventSettings
from app.metatrader.simulator.exchange import Refused

KINDS = ("execute_then_drop", "garble", "silent", "drop", "http_503", "retcode", "slow")

#: Kinds that come after the command was carried out.
AFTERWARDS = frozenset({"execute_then_drop", "garble", "silent"})

#: Commands that a drawn `drop_after_execute` hits: those that change something, of MT5's Web API and of MT4's bridge. Reads are
#: merely read again.
CHANGES = (
    *("/api/trade/balance", "/api/user/add", "/api/user/update", "/api/user/change_password", "/api/user/archive/add"),
    *("/v1/balance", "/v1/open_account", "/v1/change_"),
)
FOREVER = 1_000_000_000


class Misread(Refused):
    """A line of faults that cannot be meant; `text` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(3)
        self.text = text


@dataclass
class Fault:
    kind: str
    path: str = ""
    times: int = 1
    code: int = 12
    seconds: float = 1.0
    chance: float = 1.0


class Faults:
    """The rules for commands that are on. Thread-safe."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []
        self._random = random.Random(f"{seed}:commands")  # noqa: S311  # faults, not secrets

    def set(self, rules: list[Fault]) -> None:
        """Replace all rules; an empty list switches everything off."""
        with self._lock:
            self._rules = rules

    def take(self, path: str) -> Fault | None:
        """The rule that hits this command, counted down, or None."""
        with self._lock:
            for rule in self._rules:
                if rule.times > 0 and path.startswith(rule.path) and (rule.chance >= 1 or self._random.random() < rule.chance):
                    rule.times -= 1
                    return rule
            return None

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [vars(rule).copy() for rule in self._rules if rule.times > 0]


@dataclass(frozen=True)
class FaultPlan:
    """What one line such as `duplicates=5%,reorder=5s` asks for."""

    events: EventSettings = field(default_factory=EventSettings)
    commands: tuple[Fault, ...] = ()


def parse_event_faults(text: str) -> FaultPlan:
    """The faults in a text such as `duplicates=5%,reorder=5s,gap=30s/2m,drop_after_execute=2%`.

    Raises ValueError with one sentence that names the part and what would be right. docs/metatrader.md lists the names.
    """
    plan = FaultPlan()
    seen: set[str] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, is_given, value = (piece.strip() for piece in part.partition("="))
        if name not in _WORDS:
            raise ValueError(f"there is no fault {name!r}; there are {', '.join(_WORDS)}")
        if name in seen:
            raise ValueError(f"{name} stands there twice")
        if not is_given or not value:
            raise ValueError(f"{name} has no value; write {name}={_WORDS[name][1]}")
        seen.add(name)
        try:
            plan = _WORDS[name][0](plan, value)
        except ValueError as error:
            raise ValueError(f"{name}={value}: {error}; write it like {name}={_WORDS[name][1]}") from None
    if plan.events.edits + plan.events.deletes > 1:
        raise ValueError("edits and deletes together are more than 100%")
    return plan


def _part(text: str) -> float:
    """5% → 0.05"""
    number = _number(text.removesuffix("%")) if text.endswith("%") else None
    if number is None or number > 100:
        raise ValueError("a percentage from 0% to 100% is meant")
    return number / 100


def _seconds(text: str) -> float:
    """30s, 2m → seconds"""
    unit = {"s": 1, "m": 60}.get(text[-1:])
    number = _number(text[:-1])
    if unit is None or number is None or not 0 < number * unit <= 3600:
        raise ValueError("a time up to an hour is meant, in s or m")
    return number * unit


def _number(text: str) -> float | None:
    digits = text.replace(".", "", 1)
    return float(text) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


def _event(**names: Callable[[str], float]) -> Callable[[FaultPlan, str], FaultPlan]:
    """A word whose values, parted by /, go to these settings in order; only the first must be given."""

    def apply(plan: FaultPlan, value: str) -> FaultPlan:
        given = value.split("/")
        if len(given) > len(names):
            raise ValueError("too many values")
        values: dict[str, Any] = {name: read(one) for (name, read), one in zip(names.items(), given, strict=False)}
        return replace(plan, events=replace(plan.events, **values))

    return apply


def _gap(plan: FaultPlan, value: str) -> FaultPlan:
    length, _, period = value.partition("/")
    gap_s = _seconds(length)
    every_s = _seconds(period) if period else max(120.0, 4 * gap_s)
    if every_s < 2 * gap_s:
        raise ValueError("the period must be twice the gap at least")
    return replace(plan, events=replace(plan.events, gap_s=gap_s, gap_every_s=every_s))


def _command(kind: str, paths: tuple[str, ...] = ("",), code: int = 12) -> Callable[[FaultPlan, str], FaultPlan]:
    def apply(plan: FaultPlan, value: str) -> FaultPlan:
        chance, _, length = value.partition("/")
        if length and kind != "slow":
            raise ValueError("too many values")
        seconds = _seconds(length) if length else 1.0
        rules = (Fault(kind, path, FOREVER, code, seconds, _part(chance)) for path in paths)
        return replace(plan, commands=(*plan.commands, *rules))

    return apply


#: Every word that a line of faults may hold: how it is read, and an example.
_WORDS: dict[str, tuple[Callable[[FaultPlan, str], FaultPlan], str]] = {
    "duplicates": (_event(duplicates=_part), "5%"),
    "reorder": (_event(reorder_s=_seconds), "5s"),
    "late": (_event(late=_part, late_s=_seconds), "1%/60s"),
    "gap": (_gap, "30s/2m"),
    "garbage": (_event(garbage=_part), "1%"),
    "edits": (_event(edits=_part), "1%"),
    "deletes": (_event(deletes=_part), "0.5%"),
    "drop_after_execute": (_command("execute_then_drop", CHANGES), "2%"),
    "drop": (_command("drop"), "1%"),
    "garble": (_command("garble"), "1%"),
    "unavailable": (_command("http_503"), "1%"),
    "too_frequent": (_command("retcode", code=12), "1%"),
    "busy": (_command("retcode", code=1018), "1%"),
    "network": (_command("retcode", code=7), "1%"),
    "slow": (_command("slow"), "5%/3s"),
}


def read_rules(raw: Any) -> list[Fault]:
    """Rules from JSON: a list of objects. Refused(3) for anything else."""
    if not isinstance(raw, list) or len(raw) > 100:
        raise Refused(3)
    return [_rule(item) for item in raw]


def _rule(item: Any) -> Fault:
    if not isinstance(item, Mapping) or item.get("kind") not in KINDS or set(item) - set(Fault.__dataclass_fields__):
        raise Refused(3)
    numbers = [item[name] for name in ("times", "code", "seconds", "chance") if name in item]
    if not isinstance(item.get("path", ""), str) or not all(_is_small(number) for number in numbers):
        raise Refused(3)
    return Fault(**item)


def _is_small(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= FOREVER
