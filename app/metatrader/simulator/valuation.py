"""What an account and its positions are worth at the current prices. Money is whole minor units inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from app.metatrader.codes import DealAction
from app.metatrader.platform import AccountState, Position
from app.metatrader.simulator import pricing
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import Account, OpenPosition
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.market import Market


@dataclass(frozen=True)
class Money:
    """An account's figures in minor units."""

    balance: int
    credit: int
    floating: int
    margin: int

    @property
    def equity(self) -> int:
        return self.balance + self.credit + self.floating

    @property
    def free(self) -> int:
        return self.equity - self.margin

    @property
    def level(self) -> Decimal:
        """Equity in percent of the margin; zero, as servers show it, when nothing is tied up."""
        if not self.margin:
            return Decimal(0)
        return (Decimal(self.equity) * 100 / self.margin).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)


class Valuation:
    """Reads the market; changes nothing."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def money(self, account: Account, positions: Sequence[OpenPosition]) -> Money:
        """An account's figures. Opposite positions in one symbol tie up the margin of the larger side only."""
        sides: dict[tuple[str, int], int] = {}
        for position in positions:
            key = (position.symbol, position.action)
            sides[key] = sides.get(key, 0) + self.margin(account, position)
        symbols = {symbol for symbol, _ in sides}
        return Money(
            balance=account.balance,
            credit=account.credit,
            floating=sum(self.floating(account, position) for position in positions),
            margin=sum(max(sides.get((symbol, 0), 0), sides.get((symbol, 1), 0)) for symbol in symbols),
        )

    def margin(self, account: Account, position: OpenPosition) -> int:
        """What the position ties up by itself."""
        worth = pricing.worth(INSTRUMENTS[position.symbol], position.opened)
        digits = GROUPS[account.group_name].digits
        return pricing.margin(position.volume, account.leverage, position.rate_margin, digits, worth)

    def floating(self, account: Account, position: OpenPosition) -> int:
        """What closing the position now would bring, before commission."""
        return self.profit(account, position, position.volume).minor + position.swap

    def profit(
        self, account: Account, position: OpenPosition, volume: int, closing: Decimal | int | None = None
    ) -> pricing.Profit:
        """The profit of closing so much of the position, now or at a price in points."""
        group = GROUPS[account.group_name]
        return pricing.profit(
            self._market,
            INSTRUMENTS[position.symbol],
            position.action,
            position.opened,
            self.closing_points(position) if closing is None else closing,
            volume,
            group.currency,
            group.digits,
        )

    def closing_points(self, position: OpenPosition) -> int:
        """The price at which the position can be closed."""
        quote = self._market.quote(position.symbol)
        return quote.bid if position.action == DealAction.BUY else quote.ask

    def state(self, account: Account, positions: Sequence[OpenPosition]) -> AccountState:
        """The account as the outside sees it."""
        money, digits = self.money(account, positions), GROUPS[account.group_name].digits
        return AccountState(
            login=account.login,
            group=account.group_name,
            leverage=account.leverage,
            rights=account.rights,
            balance=major(money.balance, digits),
            credit=major(money.credit, digits),
            equity=major(money.equity, digits),
            margin=major(money.margin, digits),
            margin_free=major(money.free, digits),
            margin_level=money.level,
            floating=major(money.floating, digits),
            digits_currency=digits,
            mark=account.profile.get("ID", ""),
        )

    def shown(self, account: Account, position: OpenPosition, moment_ms: int = 0) -> Position:
        """The position as the outside sees it, at the price of now; `moment_ms` is when that price was looked at."""
        digits, instrument = GROUPS[account.group_name].digits, INSTRUMENTS[position.symbol]
        profit = self.profit(account, position, position.volume)
        return Position(
            ticket=position.ticket,
            login=position.login,
            symbol=position.symbol,
            action=position.action,
            reason=position.reason,
            volume=position.volume,
            price_open=instrument.price(position.opened),
            price_current=instrument.price(self.closing_points(position)),
            profit=major(profit.minor, digits),
            swap=major(position.swap, digits),
            contract_size=instrument.contract_size,
            digits=instrument.digits,
            digits_currency=digits,
            rate_profit=profit.rate,
            rate_margin=position.rate_margin,
            created_ms=position.created_ms,
            update_ms=max(position.update_ms, moment_ms),
            comment=position.comment,
            price_stop_loss=instrument.price(position.stop_loss),
            price_take_profit=instrument.price(position.take_profit),
        )


def major(minor: int, digits: int) -> Decimal:
    """Minor units as an amount, such as 1250 → 12.50."""
    return Decimal(minor).scaleb(-digits)
