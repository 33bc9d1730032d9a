"""The simulator's market: prices that start from real ECB reference rates and then move by a seeded process.

Prices are whole points. Step n of a symbol depends on the seed, the symbol and n alone, so that a run can be repeated and
goes on after a restart. Crosses are quotients of the pairs with the dollar. A market that keeps hours stands still outside
of sessions and opens with a gap; spreads widen around a session's edges, at midnight and when there is news.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

from app.core import money
from app.metatrader.simulator.hours import news_factor
from app.metatrader.simulator.instruments import CONTRACT_SIZE, INSTRUMENTS, MOVING, STARTS, Instrument

__all__ = ["CONTRACT_SIZE", "INSTRUMENTS", "KEPT", "MOVING", "Instrument", "Market", "Quote", "reference_points"]

RATE_DIGITS = Decimal("0.00000001")
#: Every symbol with a price of its own: the state of a market.
KEPT = (*MOVING, *STARTS)
#: How strongly a step pulls back to the starting price, so that a run of months stays plausible.
PULL = 0.00002
#: How many times larger than usual the first step of a session is.
GAP = 30


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
    """Current prices. Not thread-safe: the exchange guards it. `mids`, `step` and `wall_ms` are its whole state.

    `wall_ms` is the server's clock at the last step, 0 before the first that was told it.
    """

    def __init__(
        self,
        seed: int,
        *,
        step: int = 0,
        mids: Mapping[str, int] | None = None,
        wall_ms: int = 0,
        keeps_hours: bool = False,
    ) -> None:
        self.seed = seed
        self.step = step
        self.wall_ms = wall_ms
        self.keeps_hours = keeps_hours
        self.anchors = {**reference_points(), **STARTS}
        self.mids = {**self.anchors, **(mids or {})}
        self._widening: dict[str, int] = {}
        self._quotes: dict[str, Quote] = {}
        self._rates: dict[tuple[str, str, bool], Decimal] = {}

    def advance(self, wall_ms: int = 0) -> None:
        """One step of everything that trades. With the server's clock there are news and, where kept, hours."""
        self.step += 1
        news = news_factor(self.seed, wall_ms) if wall_ms else 1
        for name in KEPT:
            liveliness = self._liveliness(INSTRUMENTS[name], wall_ms, news)
            if liveliness:
                noise = random.Random(f"{self.seed}:{name}:{self.step}").gauss(0.0, INSTRUMENTS[name].volatility)  # noqa: S311  # a market, not a secret
                pull = (self.anchors[name] - self.mids[name]) * PULL
                self.mids[name] = max(1000, self.mids[name] + round(noise * liveliness + pull))
        self._widening = self._widenings(wall_ms, news)
        self.wall_ms = wall_ms or self.wall_ms
        self._moved()

    def shift(self, symbol: str, points: int) -> None:
        """Move a price at once, for tests and demonstrations. Raises KeyError for a pair that only follows from others."""
        self.mids[symbol] = max(1000, self.mids[symbol] + points)
        self._moved()

    def is_open(self, symbol: str, wall_ms: int) -> bool:
        """Whether the symbol trades at this time of the server's clock."""
        return not self.keeps_hours or INSTRUMENTS[symbol].hours.is_open(wall_ms)

    def quote(self, symbol: str) -> Quote:
        """The symbol's bid and ask. Raises KeyError for an unknown symbol."""
        quote = self._quotes.get(symbol)
        if quote is None:
            instrument = INSTRUMENTS[symbol]
            spread = instrument.spread * self._widening.get(symbol, 1)
            bid = self._mid(instrument) - spread // 2
            quote = self._quotes[symbol] = Quote(instrument, bid, bid + spread)
        return quote

    def rate(self, source: str, target: str, *, sell: bool) -> Decimal:
        """How much of `target` one unit of `source` makes when it is sold (at the bid), or costs when it is bought.

        Rounded to 8 digits; through USD where there is no direct pair, by its fixed factor for a cent currency. Raises
        KeyError for a currency that nothing here is quoted in.
        """
        key = (source, target, sell)
        rate = self._rates.get(key)
        if rate is None:
            (sold, sold_factor), (bought, bought_factor) = money.parent(source), money.parent(target)
            exact = self._rate(sold, bought, sell=sell) * bought_factor / sold_factor
            rate = self._rates[key] = exact.quantize(RATE_DIGITS, rounding=ROUND_HALF_UP)
        return rate

    def _rate(self, source: str, target: str, *, sell: bool) -> Decimal:
        if source == target:
            return Decimal(1)
        if source + target in INSTRUMENTS:
            quote = self.quote(source + target)
            return quote.bid_price if sell else quote.ask_price
        if target + source in INSTRUMENTS:
            quote = self.quote(target + source)
            return 1 / (quote.ask_price if sell else quote.bid_price)
        if "USD" in (source, target):
            raise KeyError(source if target == "USD" else target)
        return self._rate(source, "USD", sell=sell) * self._rate("USD", target, sell=sell)

    def _mid(self, instrument: Instrument) -> int:
        if instrument.name in self.mids:
            return self.mids[instrument.name]
        return _whole((self._dollars(instrument.base) / self._dollars(instrument.profit_currency)).scaleb(instrument.digits))

    def _dollars(self, currency: str) -> Decimal:
        """The middle price of one unit in USD."""
        direct = f"{currency}USD"
        if direct in self.mids:
            return INSTRUMENTS[direct].price(self.mids[direct])
        return 1 / INSTRUMENTS[f"USD{currency}"].price(self.mids[f"USD{currency}"])

    def _liveliness(self, instrument: Instrument, wall_ms: int, news: int) -> int:
        """How many times the usual step this one is: none while the symbol is closed, a large one when it opens."""
        if not self.keeps_hours or not wall_ms:
            return news
        session = instrument.hours.session(wall_ms)
        if session is None:
            return 0
        is_first = self.wall_ms and instrument.hours.session(self.wall_ms) != session
        return GAP if is_first else news

    def _widenings(self, wall_ms: int, news: int) -> dict[str, int]:
        """How many times the usual spread each symbol has; symbols as usual are left out."""
        if not self.keeps_hours or not wall_ms:
            return dict.fromkeys(INSTRUMENTS, news) if news > 1 else {}
        return {name: max(news, instrument.hours.widening(wall_ms)) for name, instrument in INSTRUMENTS.items()}

    def _moved(self) -> None:
        self._quotes.clear()
        self._rates.clear()


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_HALF_UP))
