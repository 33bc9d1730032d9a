"""Which line of a statement is which entry of ours. Pure: lines and entries in, pairs out.

A line is an entry when amount and direction are equal, the line's reference is one of the entry's, and their days are at
most WINDOW apart. Only that is matched by machine. Amount and day alone make a *proposal*, which a person confirms.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeVar

from app.core.money import Money

#: How many days a bank's date may lie from ours: a weekend, and its cut-off hour.
WINDOW = timedelta(days=3)
#: How many entries are proposed for one line.
MOST = 10
#: The parts of a key that can name one movement, as an id does: not words such as "deposit" or short numbers.
_NAME = re.compile(r"(?=.*\d).{6,}")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Line:
    """A line that is not matched yet."""

    id: int
    booked_on: date
    reference: str
    amount: Money


@dataclass(frozen=True)
class Candidate:
    """An entry that has no line yet. `amount` is positive where the account grew; `references` are casefolded."""

    account_id: int
    version: int
    amount: Money
    booked_on: date
    references: frozenset[str]

    @property
    def key(self) -> tuple[int, int]:
        return self.account_id, self.version


@dataclass(frozen=True)
class Proposal:
    """What a line may be. `is_only` when no other entry fits it, and this entry fits no other line."""

    entry: Candidate
    is_only: bool


def references(key: str, metadata: Mapping[str, Any], others: Iterable[str | None] = ()) -> frozenset[str]:
    """Everything that names a transaction outside: its key and the ids in it, metadata called references, and `others`."""
    found = {key, *(part for part in key.split(":") if _NAME.fullmatch(part))}
    for name, value in metadata.items():
        if isinstance(value, str) and (name == "reference" or name.endswith("_reference")):
            found.add(value)
    found.update(other for other in others if other)
    return frozenset(name.strip().casefold() for name in found if name.strip())


def match(lines: Iterable[Line], entries: Iterable[Candidate]) -> list[tuple[Line, Candidate]]:
    """The pairs that reference, amount and day make certain; each line and each entry stands in one at most.

    Where the same reference and amount occur several times, the earliest line takes the earliest entry within its window:
    that pairs as many as can be paired, and does so the same way every time.
    """
    waiting: dict[tuple[str, Money], deque[Candidate]] = defaultdict(deque)
    for entry in sorted(entries, key=lambda entry: (entry.booked_on, entry.account_id, entry.version)):
        for reference in entry.references:
            waiting[reference, entry.amount].append(entry)
    taken: set[tuple[int, int]] = set()
    pairs = []
    for line in sorted(lines, key=lambda line: (line.booked_on, line.id)):
        queue = waiting.get((line.reference.casefold(), line.amount), deque())
        while queue and (queue[0].key in taken or queue[0].booked_on < line.booked_on - WINDOW):
            queue.popleft()  # later lines are not earlier, so it is nobody's any more
        if queue and queue[0].booked_on <= line.booked_on + WINDOW:
            taken.add(queue[0].key)
            pairs.append((line, queue.popleft()))
    return pairs


def proposals(wanted: Sequence[Line], lines: Iterable[Line], entries: Iterable[Candidate]) -> dict[int, list[Proposal]]:
    """For each wanted line's id up to MOST entries that amount and day allow, the nearest day first. For a person to judge.

    `lines` are all open lines of the account (the wanted ones too): what is certain depends on them.
    """
    entries_of: dict[Money, list[Candidate]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.booked_on):
        entries_of[entry.amount].append(entry)
    days_of: dict[Money, list[date]] = defaultdict(list)
    for line in sorted(lines, key=lambda line: line.booked_on):
        days_of[line.amount].append(line.booked_on)
    found = {}
    for line in wanted:
        near = _near(entries_of.get(line.amount, []), line.booked_on, lambda entry: entry.booked_on)
        if near:
            is_only = len(near) == 1 and len(_near(days_of[line.amount], near[0].booked_on, lambda day: day)) == 1
            near.sort(key=lambda entry: (abs(entry.booked_on - line.booked_on), entry.version))
            found[line.id] = [Proposal(entry, is_only) for entry in near[:MOST]]
    return found


def _near(items: list[_Item], day: date, day_of: Callable[[_Item], date]) -> list[_Item]:
    """Those of the items, which are in the order of their days, that lie within the window around a day."""
    return items[bisect_left(items, day - WINDOW, key=day_of) : bisect_right(items, day + WINDOW, key=day_of)]
