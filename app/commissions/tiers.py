"""Volume tiers and caps of a period: what they say, where a position stands in them, when periods begin. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from app.commissions.deals import EXACT
from app.commissions.fields import Fields
from app.core.errors import N_

MEASURES = ("lots", "net_deposits", "active_clients")
BASES = ("current", "previous")
TIER_MODES = ("whole", "marginal")
MAX_BANDS = 20

#: Periods, the shortest first. All but the week lie within the next longer one.
PERIODS = ("day", "week", "month", "quarter")

_MONTHS = {"month": 1, "quarter": 3}


@dataclass(frozen=True, slots=True)
class Band:
    """From which position on a rate counts, until the next band begins."""

    start: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class Tiers:
    """A rate that depends on what the branch of the plan's owner reached in a period.

    whole: all of the period is paid at the rate it reached; marginal: each lot at the rate of the band it lies in.
    """

    measure: str
    period: str
    mode: str
    basis: str
    bands: tuple[Band, ...]

    @property
    def is_running(self) -> bool:
        """Whether each deal moves the position; otherwise it is known when the deal's day begins."""
        return self.measure == "lots" and self.basis == "current"


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that a rule pays one IB in a period; None: no cap."""

    day: Decimal | None = None
    month: Decimal | None = None

    @property
    def periods(self) -> dict[str, Decimal]:
        """The caps that there are, by period."""
        return {period: cap for period, cap in (("day", self.day), ("month", self.month)) if cap is not None}


@dataclass(frozen=True, slots=True)
class Piece:
    """Lots of a deal that lie in one band."""

    lots: Decimal
    band: Band


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rule stands when a deal is judged.

    `tier` is what decides the band: of marginal tiers the volume before the deal, of whole ones the volume of the period with
    it, of others what was known when the day began, None when it cannot be known yet. `paid` is what the rule paid an IB
    before in a period, by period and IB.
    """

    tier: Decimal | None = Decimal(0)
    paid: Mapping[tuple[str, int], Decimal] = field(default_factory=dict)


#: By key of the rule; a rule that is missing stands at the beginning.
Positions = Mapping[str, Position]

BEGINNING = Position()


def band_at(tiers: Tiers, position: Decimal) -> int:
    """The index of the band that a position lies in; below the first one it is the first."""
    return max(bisect_right(tiers.bands, position, key=lambda band: band.start) - 1, 0)


def pieces(tiers: Tiers, position: Decimal, lots: Decimal) -> tuple[Piece, ...]:
    """How the lots of a deal lie in the bands; of a reversal they are negative."""
    first = band_at(tiers, position)
    if tiers.mode == "whole" or not lots:
        return (Piece(lots, tiers.bands[first]),)
    sign, left, found = Decimal(1).copy_sign(lots), abs(lots), []
    for index in range(first, len(tiers.bands)):
        is_last = index + 1 == len(tiers.bands)
        room = left if is_last else min(left, EXACT.subtract(tiers.bands[index + 1].start, position))
        if room > 0:
            found.append(Piece(EXACT.multiply(room, sign), tiers.bands[index]))
        left, position = EXACT.subtract(left, room), EXACT.add(position, room)
        if not left:
            break
    return tuple(found)


def average_rate(parts: Sequence[Piece]) -> Decimal:
    """The one rate that gives the same as the pieces do, to ten decimals."""
    if len(parts) == 1:
        return parts[0].band.rate
    lots = sum((part.lots for part in parts), Decimal(0))
    weighted = sum((EXACT.multiply(part.lots, part.band.rate) for part in parts), Decimal(0))
    return EXACT.divide(weighted, lots).quantize(Decimal("1e-10"), context=EXACT)


def capped(caps: Caps, position: Position, ib_id: int, amount: Decimal) -> tuple[Decimal, Decimal | None]:
    """What of an amount an IB may still get, and what it had got before in the period whose cap took something."""
    took: Decimal | None = None
    for period, cap in caps.periods.items():
        before = position.paid.get((period, ib_id), Decimal(0))
        room = max(EXACT.subtract(cap, before), Decimal(0))
        if amount > room:
            amount, took = room, before
    return amount, took


def start_of(period: str, at: datetime | date) -> date:
    """The day (UTC) on which the period of a moment begins; weeks begin on Monday."""
    day = at.astimezone(UTC).date() if isinstance(at, datetime) else at
    if period == "day":
        return day
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1, month=day.month - (day.month - 1) % _MONTHS[period])


def end_of(period: str, starts_on: date) -> date:
    """The day on which the next period begins."""
    if period in _MONTHS:
        return start_of(period, starts_on + timedelta(days=31 * _MONTHS[period]))
    return starts_on + timedelta(days=1 if period == "day" else 7)


def previous(period: str, starts_on: date) -> date:
    """The day on which the period before began."""
    return start_of(period, starts_on - timedelta(days=1))


def moment(day: date) -> datetime:
    """The beginning of a UTC day."""
    return datetime.combine(day, time(), UTC)


def parse_tiers(fields: Fields, highest: Decimal, too_high: str) -> Tiers | None:
    """The tiers of a rule, None when it has none; `highest` is the greatest rate and `too_high` says so."""
    if fields.get("tiers") is None:
        return None
    if fields.get("rate") is not None:
        fields.problem("rate", N_("Each tier has a rate of its own; leave this one out."))
    inner = fields.inner("tiers")
    inner.only("measure", "period", "mode", "basis", "bands")
    measure = inner.choice("measure", "lots", MEASURES)
    period = inner.choice("period", "month", PERIODS)
    mode = inner.choice("mode", "whole", TIER_MODES)
    basis = inner.choice("basis", "current", BASES)
    if mode == "marginal" and (measure != "lots" or basis != "current"):
        inner.problem("mode", N_("Only the lots of the current period can be paid band by band."))
    if measure != "lots" and basis == "current" and period == "day":
        inner.problem("period", N_("This is known when the day begins: choose a longer period, or the previous day."))
    bands = []
    for index, raw in enumerate(inner.items("bands", [], MAX_BANDS)):
        one = Fields(raw, f"{inner.path}.bands[{index}]", inner.problems)
        one.only("from", "rate")
        rate = one.number("rate", one.get("rate"))
        if not 0 < rate <= highest:
            one.problem("rate", too_high)
        bands.append(Band(one.number("from", one.get("from"), harmless="0"), rate))
    if not bands:
        inner.problem("bands", N_("Tiers need at least one band."))
        bands.append(Band(Decimal(0), Decimal(1)))
    if bands[0].start != 0:
        inner.problem("bands[0].from", N_("The first band begins at 0."))
    for index, (before, band) in enumerate(pairwise(bands), start=1):
        if band.start <= before.start:
            inner.problem(f"bands[{index}].from", N_("Each band begins above the one before it."))
    return Tiers(measure, period, mode, basis, tuple(bands))


def parse_caps(fields: Fields) -> Caps | None:
    """The caps of a rule for an IB, None when it has none."""
    if fields.get("caps") is None:
        return None
    inner = fields.inner("caps")
    inner.only("day", "month")
    found: dict[str, Decimal] = {}
    for name in ("day", "month"):
        if inner.get(name) is not None:
            found[name] = inner.number(name, inner.get(name))
            if not found[name] > 0:
                inner.problem(name, N_("A cap must be above 0."))
    return Caps(**found) if found else None


def tiers_document(tiers: Tiers | None) -> dict[str, Any] | None:
    """As `parse_tiers` reads it."""
    if tiers is None:
        return None
    return {
        "measure": tiers.measure,
        "period": tiers.period,
        "mode": tiers.mode,
        "basis": tiers.basis,
        "bands": [{"from": f"{band.start:f}", "rate": f"{band.rate:f}"} for band in tiers.bands],
    }


def caps_document(caps: Caps | None) -> dict[str, Any] | None:
    """As `parse_caps` reads it."""
    return None if caps is None else {period: f"{cap:f}" for period, cap in caps.periods.items()}
