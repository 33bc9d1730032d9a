"""The people who trade at the MT4 double: now and then somebody opens a trade, and later closes it, in gain or in loss."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from decimal import Decimal

from app.metatrader.mt4 import Cmd, Login, Trade
from app.metatrader.simulator import pricing
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.groups import GROUPS
from app.metatrader.simulator.mt4.trading import NO_PRICE
from app.metatrader.simulator.trader import CAUTION, FAR, HOLD_AT_LEAST_MS, LOTS_MAX_TENTHS, OPEN_AT_MOST

WAIT_S = 600
HUNDREDTH = Decimal("0.01")

log = logging.getLogger("lotwise.simulator")


class Trader:
    """Lets one random funded login do one thing at a time. Repeats itself for the same seed and the same market."""

    def __init__(self, engine: MT4Engine, seed: int) -> None:
        self._engine = engine
        self._random = random.Random(f"{seed}:trader")  # noqa: S311  # people, not secrets
        self._symbols = list(INSTRUMENTS)

    def make(self, deals: int) -> int:
        """Let people act until so many of them opened or closed something, or three times as many have acted; how many did."""
        made = 0
        for _ in range(3 * deals):
            if made >= deals:
                break
            made += self.act()
        return made

    def act(self) -> bool:
        """Whether somebody opened or closed a trade."""
        engine = self._engine
        login = self._somebody()
        if login is None:
            return False
        trades = [trade for trade in engine.store.open_trades(login.login) if trade.is_trade]
        ripe = [trade for trade in trades if engine.now_s() - trade.open_time >= HOLD_AT_LEAST_MS // 1000]
        try:
            if ripe and (len(trades) >= OPEN_AT_MOST or self._random.random() < 0.5):
                return self._close(ripe)
            return len(trades) < OPEN_AT_MOST and self._open(login)
        except Refused as error:
            log.debug("trader: login=%d refused=%d", login.login, error.retcode)
            return False

    def _somebody(self) -> Login | None:
        able = [login for login in self._engine.store.logins() if _may_trade(login)]
        return self._random.choice(able) if able else None

    def _open(self, login: Login) -> bool:
        symbol, cmd = self._random.choice(self._symbols), self._random.choice((Cmd.BUY, Cmd.SELL))
        lots = self._affordable(login, symbol, Decimal(self._random.randint(1, LOTS_MAX_TENTHS)) / 10)
        manner = self._random.random()
        if not lots:
            return False
        quote = self._engine.market.quote(symbol)
        far = quote.symbol.price(FAR * quote.symbol.spread) * (1 if cmd == Cmd.BUY else -1)
        price = quote.ask_price if cmd == Cmd.BUY else quote.bid_price
        if manner < 0.04:
            kind = Cmd.BUY_LIMIT if cmd == Cmd.BUY else Cmd.SELL_LIMIT
            self._engine.place(login.login, symbol, kind, lots, price - far, self._engine.now_s() + WAIT_S)
            return False
        sl, tp = (price - far, price + 2 * far) if manner < 0.2 else (NO_PRICE, NO_PRICE)
        self._engine.open(login.login, symbol, cmd, lots, sl=sl, tp=tp)
        return True

    def _affordable(self, login: Login, symbol: str, wished: Decimal) -> Decimal:
        """The wished lots, or as much of them as a careful part of the free margin carries."""
        market, quote = self._engine.market, self._engine.market.quote(symbol)
        rate = market.rate(quote.symbol.margin_currency, GROUPS[login.group].currency, sell=False)
        lot = pricing.worth(quote.symbol, quote.ask) * rate / login.leverage
        carried = (self._engine.login(login.login).margin_free / CAUTION / lot).quantize(HUNDREDTH, rounding="ROUND_DOWN")
        return max(Decimal(0), min(wished, carried))

    def _close(self, ripe: Sequence[Trade]) -> bool:
        trade = self._random.choice(ripe)
        against = [one for one in ripe if one.symbol == trade.symbol and one.cmd != trade.cmd]
        if against:
            self._engine.close_by(trade.order, self._random.choice(against).order)
            return True
        half = trade.volume // 2
        is_partial = half > 0 and self._random.random() < 0.2
        self._engine.close(trade.order, Decimal(half) / 100 if is_partial else None)
        return True


def _may_trade(login: Login) -> bool:
    return bool(login.enable) and not login.enable_read_only and login.balance + login.credit > 0
