"""What the MT4 double's open trades and logins are worth at the current prices. Reads the market; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

from app.metatrader.mt4 import MONEY_PLACES, UNITS_PER_HUNDREDTH, Cmd, Login, Trade
from app.metatrader.simulator import pricing
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.market import Market
from app.metatrader.simulator.mt4.groups import GROUPS
from app.metatrader.simulator.valuation import major

CENT = Decimal("0.01")
ZERO = Decimal("0.00")


@dataclass(frozen=True)
class Closing:
    """What closing a trade would give: the price, the profit, and the rate that led to it."""

    price: Decimal
    profit: Decimal
    rate: Decimal


class Valuation:
    """Prices in, money out. Not thread-safe: the engine guards it."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def closing_points(self, trade: Trade) -> int:
        """The price at which the trade can be closed now, or would be if the order came true."""
        quote = self._market.quote(trade.symbol)
        return quote.bid if trade.cmd in (Cmd.BUY, Cmd.BUY_LIMIT, Cmd.BUY_STOP) else quote.ask

    def closing(self, trade: Trade, currency: str, price: Decimal | None = None) -> Closing:
        """Closing the whole trade, now or at a price."""
        instrument = INSTRUMENTS[trade.symbol]
        at = self.closing_points(trade) if price is None else points(trade, price)
        gain = pricing.profit(
            self._market,
            instrument,
            trade.cmd,
            points(trade, trade.open_price),
            at,
            trade.volume * UNITS_PER_HUNDREDTH,
            currency,
            MONEY_PLACES,
        )
        return Closing(instrument.price(at), major(gain.minor, MONEY_PLACES), gain.rate)

    def shown(self, trade: Trade, currency: str) -> Trade:
        """The row as the server shows it now: what is open has the price and the profit of this moment."""
        if trade.is_pending and not trade.close_time:
            return replace(trade, close_price=INSTRUMENTS[trade.symbol].price(self.closing_points(trade)))
        if not trade.is_trade or trade.close_time:
            return trade
        closing = self.closing(trade, currency)
        return replace(trade, close_price=closing.price, profit=closing.profit, conv_rate_close=closing.rate)

    def login(self, kept: Login, open_trades: Sequence[Trade]) -> Login:
        """A user record with its figures. Opposite trades in one symbol tie up the margin of the larger side only."""
        currency = GROUPS[kept.group].currency
        floating, sides = ZERO, dict[tuple[str, int], Decimal]()
        for trade in open_trades:
            if trade.is_trade:
                side = (trade.symbol, trade.cmd)
                sides[side] = sides.get(side, ZERO) + self.margin(trade, kept.leverage)
                floating += self.closing(trade, currency).profit + trade.storage + trade.commission + trade.taxes
        margin = sum((max(sides.get((name, 0), ZERO), sides.get((name, 1), ZERO)) for name in {one for one, _ in sides}), ZERO)
        equity = kept.balance + kept.credit + floating
        level = (equity * 100 / margin).quantize(CENT, rounding=ROUND_HALF_UP) if margin else ZERO
        return replace(kept, equity=equity, margin=margin, margin_free=equity - margin, margin_level=level)

    def margin(self, trade: Trade, leverage: int) -> Decimal:
        """What the trade ties up by itself."""
        worth = pricing.worth(INSTRUMENTS[trade.symbol], points(trade, trade.open_price))
        units = trade.volume * UNITS_PER_HUNDREDTH
        return major(pricing.margin(units, leverage, trade.margin_rate, MONEY_PLACES, worth), MONEY_PLACES)


def points(trade: Trade, price: Decimal) -> int:
    """A price of the trade's symbol in points."""
    return int(price.scaleb(trade.digits))


def cents(amount: Decimal) -> int:
    """An amount in hundredths, as the shared arithmetic counts money."""
    return pricing.minor(amount, MONEY_PLACES)
