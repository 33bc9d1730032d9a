"""A bar for each day as a drawing that the server makes: coordinates only, the template draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

WIDTH, HEIGHT = Decimal(720), Decimal(180)
_ZERO = Decimal(0)
_STEPS = (Decimal(1), Decimal(2), Decimal(5), Decimal(10))
_LINES = 4
_LABELS = 6


@dataclass(frozen=True)
class Bar:
    """One day: what it says, and where it stands in the drawing. A day below zero hangs from the zero line."""

    day: date
    value: Decimal
    x: Decimal
    y: Decimal
    height: Decimal


@dataclass(frozen=True)
class Bars:
    """A whole chart; `lines` are the horizontal ones (y, value), `labels` the days named below (x, day)."""

    bars: tuple[Bar, ...]
    bar_width: Decimal
    lines: tuple[tuple[Decimal, Decimal], ...]
    labels: tuple[tuple[Decimal, date], ...]
    total: Decimal

    @property
    def days(self) -> list[Bar]:
        """The days that have something, for the table."""
        return [bar for bar in self.bars if bar.value]


def bars(values: Mapping[date, Decimal], first: date, days: int) -> Bars:
    """The chart of `days` days from `first` on; a day without a value is zero."""
    all_days = [first + timedelta(days=number) for number in range(days)]
    shown = [values.get(day, _ZERO) for day in all_days]
    step = _step(max(*shown, _ZERO) - min(*shown, _ZERO))
    top = _up(max(*shown, _ZERO), step) or step
    bottom = -_up(-min(*shown, _ZERO), step)
    per_unit, slot = HEIGHT / (top - bottom), WIDTH / days
    zero = top * per_unit
    drawn = tuple(
        Bar(day, value, _at(slot * number + slot / 8), _at(zero - max(value, _ZERO) * per_unit), _at(abs(value) * per_unit))
        for number, (day, value) in enumerate(zip(all_days, shown, strict=True))
    )
    count = int((top - bottom) / step)
    lines = tuple((_at(zero - (bottom + step * number) * per_unit), bottom + step * number) for number in range(count + 1))
    every = max(1, -(-days // _LABELS))
    labels = tuple((_at(slot * number), all_days[number]) for number in range(0, days, every))
    return Bars(drawn, _at(slot * 3 / 4), lines, labels, sum(shown, _ZERO))


def _step(span: Decimal) -> Decimal:
    """A round distance between horizontal lines, so that there are about _LINES of them."""
    if not span:
        return Decimal(1)
    rough = span / _LINES
    power = Decimal(10) ** rough.adjusted()
    return next(power * step for step in _STEPS if power * step >= rough)


def _up(value: Decimal, step: Decimal) -> Decimal:
    """The next multiple of a step, not below a value above zero."""
    if value <= 0:
        return _ZERO
    down = value // step * step  # of decimals, // cuts
    return down if down == value else down + step


def _at(value: Decimal) -> Decimal:
    return round(value, 2)
