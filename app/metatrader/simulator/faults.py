"""Faults that can be switched on, to prove that clients survive them.

Each rule hits the next `times` commands whose path begins with `path`:
    execute_then_drop  carry the command out, then cut the connection without an answer
    garble             carry the command out, then send half of the answer
    drop               cut the connection without carrying it out
    http_503           refuse with status 503
    retcode            refuse with a return code (`code`), such as 12 or 1018
    slow               wait `seconds` before carrying it out
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.metatrader.simulator.exchange import Refused

KINDS = ("execute_then_drop", "garble", "drop", "http_503", "retcode", "slow")


@dataclass
class Fault:
    kind: str
    path: str = ""
    times: int = 1
    code: int = 12
    seconds: float = 1.0


class Faults:
    """The rules that are on. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []

    def set(self, rules: list[Fault]) -> None:
        """Replace all rules; an empty list switches everything off."""
        with self._lock:
            self._rules = rules

    def take(self, path: str) -> Fault | None:
        """The rule that hits this command, counted down, or None."""
        with self._lock:
            for rule in self._rules:
                if rule.times > 0 and path.startswith(rule.path):
                    rule.times -= 1
                    return rule
            return None

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [vars(rule).copy() for rule in self._rules if rule.times > 0]


def read_rules(raw: Any) -> list[Fault]:
    """Rules from JSON: a list of objects. Refused(3) for anything else."""
    if not isinstance(raw, list) or len(raw) > 100:
        raise Refused(3)
    return [_rule(item) for item in raw]


def _rule(item: Any) -> Fault:
    if not isinstance(item, Mapping) or item.get("kind") not in KINDS or set(item) - set(Fault.__dataclass_fields__):
        raise Refused(3)
    numbers = [item[name] for name in ("times", "code", "seconds") if name in item]
    if not isinstance(item.get("path", ""), str) or not all(_is_small(number) for number in numbers):
        raise Refused(3)
    return Fault(**item)


def _is_small(number: Any) -> bool:
    return isinstance(number, int | float) and 0 <= number <= 20_000
