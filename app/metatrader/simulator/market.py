"""The simulator's market: five currency pairs that start from real ECB reference rates and then move by a seeded process.

Prices are whole points. Step n of a symbol depends on the seed, the symbol and n alone, so that a run can be repeated and
goes on after a restart. EURGBP is the quotient of EURUSD and GBPUSD, as arbitrage would have it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

CONTRACT_SIZE = Decimal(100_000)
RATE_DIGITS = Decimal("0.00000001")


@dataclass(frozen=True)
class Instrument:
    """A currency pair: `spread` and `volatility` (of one step) in points, swap in points per lot and night.

    Steps are livelier than a real second, so that positions held for a minute end in gain and in loss.
    """

    name: str
    digits: int
    spread: int
    volatility: float
    swap_long: Decimal
    swap_short: Decimal

    @property
    def base(self) -> str:
        return self.name[:3]

    @property
    def profit_currency(self) -> str:
        return self.name[3:]

    @property
    def point(self) -> Decimal:
        return Decimal(1).scaleb(-self.digits)

    def price(self, points: int) -> Decimal:
        """The price that so many points make."""
        return Decimal(points).scaleb(-self.digits)


INSTRUMENTS: dict[str, Instrument] = {
    instrument.name: instrument
    for instrument in (
        Instrument("EURUSD", 5, 8, 8.0, Decimal("-7.2"), Decimal("3.1")),
        Instrument("GBPUSD", 5, 11, 10.0, Decimal("-3.4"), Decimal("-1.2")),
        Instrument("USDJPY", 3, 10, 10.0, Decimal("9.5"), Decimal("-18.4")),
        Instrument("EURGBP", 5, 12, 0.0, Decimal("-5.1"), Decimal("0.6")),
        Instrument("USDCHF", 5, 12, 7.0, Decimal("6.3"), Decimal("-11.9")),
    )
}

#: Pairs that move by themselves; EURGBP follows from the first two.
MOVING = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF")
#: How strongly a step pulls back to the starting price, so that a run of months stays plausible.
PULL = 0.00002


@dataclass(frozen=True)
class Quote:
    """Bid and ask in points."""

    symbol: Instrument
    bid: int
    ask: int

    @property
    def bid_price(self) -> Decimal:
        return self.symbol.price(self.bid)

    @property
    def ask_price(self) -> Decimal:
        return self.symbol.price(self.ask)


@cache
def reference_points() -> Mapping[str, int]:
    """The latest ECB reference rates in the `currencyconverter` package, as points per moving pair."""
    from currency_converter import SINGLE_DAY_CURRENCY_FILE, CurrencyConverter

    rates = CurrencyConverter(SINGLE_DAY_CURRENCY_FILE, decimal=True)
    return {
        name: _whole(Decimal(rates.convert(Decimal(1), name[:3], name[3:])).scaleb(INSTRUMENTS[name].digits)) for name in MOVING
    }


class Market:
    """Current prices. Not thread-safe: the exchange guards it. `mids` and `step` are its whole state."""

    def __init__(self, seed: int, *, step: int = 0, mids: Mapping[str, int] | None = None) -> None:
        self.seed = seed
        self.step = step
        self.anchors = dict(reference_points())
        self.mids = dict(mids or self.anchors)

    def advance(self) -> None:
        """One step of every moving pair."""
        self.step += 1
        for name in MOVING:
            noise = random.Random(f"{self.seed}:{name}:{self.step}").gauss(0.0, INSTRUMENTS[name].volatility)  # noqa: S311  # a market, not a secret
            pull = (self.anchors[name] - self.mids[name]) * PULL
            self.mids[name] = max(1000, self.mids[name] + round(noise + pull))

    def shift(self, symbol: str, points: int) -> None:
        """Move one pair at once. Raises KeyError for a pair that only follows from others."""
        self.mids[symbol] = max(1000, self.mids[symbol] + points)

    def quote(self, symbol: str) -> Quote:
        """The pair's bid and ask. Raises KeyError for an unknown symbol."""
        instrument = INSTRUMENTS[symbol]
        if symbol == "EURGBP":
            mid = _whole(Decimal(self.mids["EURUSD"]) / Decimal(self.mids["GBPUSD"]) * 10**instrument.digits)
        else:
            mid = self.mids[symbol]
        bid = mid - instrument.spread // 2
        return Quote(instrument, bid, bid + instrument.spread)

    def rate(self, source: str, target: str, *, sell: bool) -> Decimal:
        """How much of `target` one unit of `source` makes when it is sold (at the bid), or costs when it is bought.

        Rounded to 8 digits; through USD where there is no direct pair.
        """
        return self._rate(source, target, sell=sell).quantize(RATE_DIGITS, rounding=ROUND_HALF_UP)

    def _rate(self, source: str, target: str, *, sell: bool) -> Decimal:
        if source == target:
            return Decimal(1)
        if source + target in INSTRUMENTS:
            quote = self.quote(source + target)
            return quote.bid_price if sell else quote.ask_price
        if target + source in INSTRUMENTS:
            quote = self.quote(target + source)
            return 1 / (quote.ask_price if sell else quote.bid_price)
        return self._rate(source, "USD", sell=sell) * self._rate("USD", target, sell=sell)


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_HALF_UP))
