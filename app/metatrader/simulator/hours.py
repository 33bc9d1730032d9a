"""When the simulator's symbols trade, and when their spreads widen. All times are minutes of the server's own clock."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

DAY_MIN = 24 * 60
SATURDAY = 5
#: 1 January 1970 was a Thursday.
_EPOCH_WEEKDAY = 3

#: Minutes after news begins → how many times the usual spread, and how many times the usual step.
NEWS_FACTORS = (5, 4, 2)
NEWS_A_DAY = 3
NEWS_FROM_MIN, NEWS_TO_MIN = 9 * 60, 21 * 60


@dataclass(frozen=True)
class Hours:
    """From Monday to Friday, from one minute of the day to another. A whole day makes one session of the whole week."""

    opens_min: int = 0
    closes_min: int = DAY_MIN

    def is_open(self, wall_ms: int) -> bool:
        return self.session(wall_ms) is not None

    def session(self, wall_ms: int) -> int | None:
        """A number that is the same for all moments of one session; None outside of sessions."""
        day, minute = divmod(wall_ms // 60_000, DAY_MIN)
        weekday = (day + _EPOCH_WEEKDAY) % 7
        if weekday >= SATURDAY or not self.opens_min <= minute < self.closes_min:
            return None
        return day - weekday if self.closes_min - self.opens_min == DAY_MIN else day

    def widening(self, wall_ms: int) -> int:
        """How many times the usual spread: wide for some minutes after the opening, before the close, around midnight."""
        day, minute = divmod(wall_ms // 60_000, DAY_MIN)
        is_monday = (day + _EPOCH_WEEKDAY) % 7 == 0
        if self.closes_min - self.opens_min == DAY_MIN:
            if is_monday and minute < 30:
                return 5
            return 3 if minute >= DAY_MIN - 5 or minute < 10 else 1
        if minute < self.opens_min + 10:
            return 3
        return 2 if minute >= self.closes_min - 5 else 1


ALL_WEEK = Hours()


def news_factor(seed: int, wall_ms: int) -> int:
    """How many times livelier and wider than usual it is; 1 when there is no news. The seed and the day tell when."""
    day, minute = divmod(wall_ms // 60_000, DAY_MIN)
    for began in _news(seed, day):
        if 0 <= minute - began < len(NEWS_FACTORS):
            return NEWS_FACTORS[minute - began]
    return 1


@lru_cache(maxsize=64)
def _news(seed: int, day: int) -> tuple[int, ...]:
    chance = random.Random(f"{seed}:news:{day}")  # noqa: S311  # a market, not a secret
    return tuple(chance.randrange(NEWS_FROM_MIN, NEWS_TO_MIN) for _ in range(NEWS_A_DAY))
