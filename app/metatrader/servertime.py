"""The server's wall clock and UTC.

MetaTrader writes every time as the server's wall clock, as if that were UTC. One hour in autumn therefore occurs twice:
`to_utc` needs a hint to tell the passes apart, and says so when it had to choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FIXED = re.compile(r"GMT([+-])(\d{1,2})(?::([0-5]\d))?(?:/(EU|US))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
#: So many minutes of a zone are remembered: events come in great numbers, and most of them just now.
KNOWN_MINUTES = 10_000


class UnknownZone(ValueError):
    """Neither a name of the time zone database nor GMT±hours with /EU or /US behind it."""


class OffsetRule(Protocol):
    def offset_min(self, utc: datetime) -> int:
        """Minutes that the wall clock is ahead of UTC at this moment."""


@dataclass(frozen=True)
class FixedRule:
    """A standard offset, and an hour more in summer by EU or US dates. Needs no time zone database.

    EU clocks change at 01:00 UTC on the last Sundays of March and October. US clocks change at 02:00 New York time on the
    second Sunday of March and the first of November; servers that keep New York's close at their midnight follow that moment.
    """

    standard_min: int
    daylight: str

    def offset_min(self, utc: datetime) -> int:
        return self.standard_min + (60 if self._is_summer(utc) else 0)

    def _is_summer(self, utc: datetime) -> bool:
        if not self.daylight:
            return False
        begins, ends = _summer(self.daylight, utc.year)
        return begins <= utc < ends


@dataclass(frozen=True)
class DatabaseRule:
    """A zone of the time zone database, such as Europe/Athens."""

    info: tzinfo

    def offset_min(self, utc: datetime) -> int:
        offset = utc.astimezone(self.info).utcoffset()
        return int((offset or timedelta()).total_seconds()) // 60


class ServerMoment(NamedTuple):
    """A server time in UTC with the offset used. `is_ambiguous`: the wall clock showed this time twice."""

    utc: datetime
    utc_offset_min: int
    is_ambiguous: bool = False


@dataclass(frozen=True)
class ServerZone:
    """One server's wall clock."""

    name: str
    rule: OffsetRule
    #: By minute of the wall clock: the offsets by which it is possible. Clocks change at whole minutes.
    _known: dict[int, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def offset_min(self, utc: datetime) -> int:
        """Minutes that the server's clock is ahead of UTC at this moment."""
        return self.rule.offset_min(utc)

    def wall_ms(self, utc: datetime) -> int:
        """The raw server time of a moment: wall-clock milliseconds as if they were UTC."""
        return _milliseconds(utc) + self.offset_min(utc) * 60_000

    def to_utc(self, wall_ms: int, *, near: datetime | None = None) -> ServerMoment:
        """The moment at which the server's clock showed this.

        In the repeated hour the pass closer to `near` (such as the time of receipt) is taken, without it the first.
        A time that the spring change skips is read by the offset before the change.
        """
        candidates = self._candidates(wall_ms // 60_000)
        if not candidates:
            return self._read_by(wall_ms, self.offset_min(_moment(wall_ms) - timedelta(days=1)))
        is_ambiguous = len(candidates) > 1
        offset = candidates[0]
        if is_ambiguous and near is not None:
            offset = min(candidates, key=lambda minutes: abs(self._read_by(wall_ms, minutes).utc - near))
        return self._read_by(wall_ms, offset, is_ambiguous=is_ambiguous)

    def in_order(self, walls_ms: Iterable[int], *, not_before: datetime | None = None) -> list[ServerMoment]:
        """Moments of server times that are known to be in the order in which they happened (deals by ticket).

        In the repeated hour a clock that went back tells the second pass from the first; `not_before`, such as the start of
        the range that was asked for, tells it for the first of them.
        """
        moments: list[ServerMoment] = []
        near = not_before
        for wall_ms in walls_ms:
            moment = self.to_utc(wall_ms)
            if moment.is_ambiguous and near is not None and moment.utc < near - 5 * _MINUTE:
                moment = self.to_utc(wall_ms, near=moment.utc + timedelta(hours=1))
            near = moment.utc
            moments.append(moment)
        return moments

    def wall_range_s(self, since: datetime, until: datetime) -> tuple[int, int]:
        """Wall-clock seconds that surely cover a range of UTC moments, also around a clock change."""
        offsets = (self.offset_min(since), self.offset_min(until))
        first = _milliseconds(since) // 1000 + min(offsets) * 60
        last = -(-_milliseconds(until) // 1000) + max(offsets) * 60
        return first, last

    def _candidates(self, minute: int) -> list[int]:
        """The offsets by which this minute of the wall clock is possible, the earlier moment first."""
        known = self._known.get(minute)
        if known is not None:
            return known
        wall_ms = minute * 60_000
        around = _moment(wall_ms)
        tried = {self.offset_min(around - timedelta(days=1)), self.offset_min(around + timedelta(days=1))}
        tried.add(self.offset_min(around))
        fitting = [minutes for minutes in tried if self.offset_min(self._read_by(wall_ms, minutes).utc) == minutes]
        if len(self._known) >= KNOWN_MINUTES:
            self._known.clear()
        return self._known.setdefault(minute, sorted(fitting, reverse=True))

    @staticmethod
    def _read_by(wall_ms: int, offset_min: int, *, is_ambiguous: bool = False) -> ServerMoment:
        return ServerMoment(_moment(wall_ms - offset_min * 60_000), offset_min, is_ambiguous)


@lru_cache(maxsize=64)
def server_zone(name: str) -> ServerZone:
    """The clock of a server: `EET`, `Europe/Athens`, `GMT+2`, `GMT+2/EU`, `GMT+2/US`. Raises UnknownZone."""
    fixed = _FIXED.fullmatch(name)
    if fixed:
        sign, hours, minutes, daylight = fixed.groups()
        standard_min = (int(hours) * 60 + int(minutes or 0)) * (-1 if sign == "-" else 1)
        if not -12 * 60 <= standard_min <= 14 * 60:
            raise UnknownZone(f"{name} is no offset that a clock on Earth has")
        return ServerZone(name, FixedRule(standard_min, daylight or ""))
    try:
        return ServerZone(name, DatabaseRule(ZoneInfo(name)))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZone(f"{name[:60]!r} is not a time zone") from None


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _at(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


@lru_cache(maxsize=256)
def _summer(daylight: str, year: int) -> tuple[datetime, datetime]:
    """When summer time begins and ends."""
    if daylight == "EU":
        return _at(_last_sunday(year, 3), 1), _at(_last_sunday(year, 10), 1)
    return _at(_sunday(year, 3, 2), 7), _at(_sunday(year, 11, 1), 6)


def _last_sunday(year: int, month: int) -> date:
    last = date(year, month, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)


def _sunday(year: int, month: int, number: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))
