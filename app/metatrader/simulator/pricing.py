"""The arithmetic of a forex deal: profit, swap, commission, margin. Pure, exact, money in whole minor units.

Each amount is rounded once, half up, to the account currency's digits, as trading servers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from app.metatrader.codes import DealAction
from app.metatrader.platform import UNITS_PER_LOT
from app.metatrader.simulator.hours import SATURDAY
from app.metatrader.simulator.instruments import CALC_FOREX, CONTRACT_SIZE, WEDNESDAY, Instrument
from app.metatrader.simulator.market import Market

AVERAGE_DIGITS = Decimal("0.001")


@dataclass(frozen=True)
class Profit:
    """The result of a price move: in the profit currency, the rate used, and in minor units of the account's currency."""

    raw: Decimal
    rate: Decimal
    minor: int


def profit(
    market: Market,
    instrument: Instrument,
    action: int,
    opened: Decimal | int,
    closed: Decimal | int,
    volume: int,
    currency: str,
    digits: int,
) -> Profit:
    """What a position of `volume` (1/100000000 lot) makes between two prices in points.

    A gain is sold into the account's currency at the bid, a loss is bought at the ask.
    """
    move = closed - opened if action == DealAction.BUY else opened - closed
    raw = instrument.price(move) * instrument.contract_size * volume / UNITS_PER_LOT
    rate = market.rate(instrument.profit_currency, currency, sell=raw >= 0)
    return Profit(raw, rate, minor(raw * rate, digits))


def swap(market: Market, instrument: Instrument, action: int, volume: int, nights: int, currency: str, digits: int) -> int:
    """Minor units that a position earns (positive) or pays (negative) over so many nights."""
    points = instrument.swap_long if action == DealAction.BUY else instrument.swap_short
    raw = points * instrument.tick_value * volume / UNITS_PER_LOT * nights
    return minor(raw * market.rate(instrument.profit_currency, currency, sell=raw >= 0), digits)


def nights(ended: date, triple_day: int = WEDNESDAY) -> int:
    """How many nights of swap the server books at the end of a trading day: three on one weekday, none at weekends."""
    if ended.weekday() >= SATURDAY:
        return 0
    return 3 if ended.weekday() == triple_day else 1


def commission(per_lot: Decimal, volume: int, digits: int) -> int:
    """Minor units, never positive: what one side of a deal costs."""
    return -minor(per_lot * volume / UNITS_PER_LOT, digits)


def margin(volume: int, leverage: int, rate: Decimal, digits: int, worth: Decimal = CONTRACT_SIZE) -> int:
    """Minor units that a volume ties up. `worth` is a lot in the margin currency, `rate` turns that into the account's."""
    return minor(worth * volume / UNITS_PER_LOT / leverage * rate, digits)


def worth(instrument: Instrument, opened: Decimal | int) -> Decimal:
    """A lot in the margin currency: its units of the base currency, or what they cost where there is no such currency."""
    if instrument.calc_mode == CALC_FOREX:
        return instrument.contract_size
    return instrument.contract_size * instrument.price(opened)


def average(held: Decimal | int, held_volume: int, bought: Decimal | int, bought_volume: int) -> Decimal:
    """The price in points of two volumes together, rounded to a thousandth of a point."""
    whole = Decimal(held) * held_volume + Decimal(bought) * bought_volume
    return (whole / (held_volume + bought_volume)).quantize(AVERAGE_DIGITS, rounding=ROUND_HALF_UP)


def share(amount: int, part: int, whole: int) -> int:
    """The part of an amount that goes with a part of a volume; the last part takes all that is left."""
    return amount if part == whole else minor(Decimal(amount) * part / whole, 0)


def minor(amount: Decimal, digits: int) -> int:
    """Whole minor units, rounded half away from zero."""
    return int(amount.scaleb(digits).to_integral_value(rounding=ROUND_HALF_UP))


def point_worth(instrument: Instrument, volume: int, digits: int) -> Decimal:
    """Minor units of the profit currency, scaled like one of `digits` digits, that one point makes for this volume."""
    return (instrument.tick_value * volume / UNITS_PER_LOT).scaleb(digits)
