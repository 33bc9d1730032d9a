"""Which visit through an IB's link counts, when somebody came through several. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: Visits remembered of one visitor; further ones push out those in the middle: the first and the last that count decide.
MOST = 8

FIRST, LAST = "first", "last"
TOUCHES = (FIRST, LAST)


@dataclass(frozen=True, slots=True)
class Touch:
    """A visit through the link with this code."""

    code: str
    at: datetime


def remember(touches: Sequence[Touch], new: Touch, window_days: int) -> tuple[Touch, ...]:
    """The visits with one more, in their order. The same link again only counts as later.

    Where there are too many, those go first that are too old to count for a registration within `window_days`.
    """
    known = list(touches)
    if known and known[-1].code == new.code and len(known) > 1:
        known[-1] = new
    else:
        known.append(new)
    since = new.at - timedelta(days=window_days)
    while len(known) > MOST:
        del known[0 if known[0].at < since else 1]
    return tuple(known)


def candidates(touches: Sequence[Touch], which: str, window_days: int, at: datetime) -> list[Touch]:
    """The visits within the days before a registration at `at`, the one that counts before those that would count without it.

    A visit from the future counts as none: the visitor's browser keeps what we signed, so it was our clock that was set back.
    """
    since = at - timedelta(days=window_days)
    counting = sorted((touch for touch in touches if since <= touch.at <= at), key=lambda touch: touch.at)
    return counting if which == FIRST else counting[::-1]


def packed(touches: Sequence[Touch]) -> list[list[str | int]]:
    """As JSON holds them: code and seconds since 1970."""
    return [[touch.code, int(touch.at.timestamp())] for touch in touches]


def unpacked(raw: object) -> tuple[Touch, ...]:
    """What `packed` made; what is none is left out."""
    if not isinstance(raw, list):
        return ()
    found = []
    for one in raw[:MOST]:
        if not isinstance(one, list) or len(one) != 2:
            continue
        code, seconds = one
        if isinstance(code, str) and isinstance(seconds, int) and 0 <= seconds < 10**11:
            found.append(Touch(code[:24], datetime.fromtimestamp(seconds, UTC)))
    return tuple(found)
