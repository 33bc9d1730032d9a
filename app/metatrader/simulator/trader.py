"""The people who trade at the simulator: now and then somebody opens a position, and later closes it, in gain or in loss."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from decimal import Decimal

from app.metatrader.codes import DealAction, OrderType, UserRight
from app.metatrader.platform import UNITS_PER_LOT
from app.metatrader.simulator import pricing
from app.metatrader.simulator.exchange import VOLUME_STEP, Exchange, Refused
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.store import Account, OpenPosition

log = logging.getLogger("lotwise.simulator")

OPEN_AT_MOST = 3
HOLD_AT_LEAST_MS = 15_000
#: Ten steps of 0.1 lot: what people like to trade where their money allows.
LOTS_MAX_TENTHS = 10
#: The part of the free margin that one position may tie up.
CAUTION = 5
#: How often somebody is looked for by chance before all are asked.
TRIES = 8
#: How far away, in spreads, people put stop losses, take profits and waiting orders; how long they let an order wait.
FAR = 25
WAIT_MS = 600_000


class Trader:
    """Lets one random funded login do one thing at a time. Repeats itself for the same seed and the same market."""

    def __init__(self, exchange: Exchange, seed: int) -> None:
        self._exchange = exchange
        self._store = exchange.store
        self._random = random.Random(f"{seed}:trader")  # noqa: S311  # people, not secrets
        self._symbols = list(INSTRUMENTS)

    def act(self) -> bool:
        """Mostly a deal; now and then an order that waits, or nothing. False when nobody can trade."""
        account = self._somebody()
        if account is None:
            return False
        positions = self._store.positions(account.login)
        now_ms = self._exchange.now_ms()
        ripe = [position for position in positions if now_ms - position.created_ms >= HOLD_AT_LEAST_MS]
        try:
            if ripe and (len(positions) >= OPEN_AT_MOST or self._random.random() < 0.5):
                self._close(account, ripe)
            elif len(positions) < OPEN_AT_MOST:
                self._open(account)
        except Refused as error:
            log.debug("trader: login=%d refused=%d", account.login, error.retcode)
        return True

    def make(self, deals: int) -> int:
        """Let people act until so many deals are made, or twice as many have acted in vain; returns how many were made."""
        before = made = self._store.number("deal")
        for _ in range(3 * deals):
            if made - before >= deals or not self.act():
                break
            made = self._store.number("deal")
        return made - before

    def _somebody(self) -> Account | None:
        logins = self._store.logins()
        for _ in range(TRIES if logins else 0):
            account = self._store.account(self._random.choice(logins))
            if account and _may_trade(account):
                return account
        able = [account for account in self._store.accounts() if _may_trade(account)]
        return self._random.choice(able) if able else None

    def _open(self, account: Account) -> None:
        symbol = self._random.choice(self._symbols)
        action = self._random.choice((DealAction.BUY, DealAction.SELL))
        volume = self._affordable(account, symbol, self._random.randint(1, LOTS_MAX_TENTHS) * UNITS_PER_LOT // 10)
        manner = self._random.random()
        if not volume:
            return
        quote = self._exchange.market.quote(symbol)
        far = quote.symbol.price(FAR * quote.symbol.spread) * (1 if action == DealAction.BUY else -1)
        price = quote.ask_price if action == DealAction.BUY else quote.bid_price
        if manner < 0.04:
            kind = OrderType.BUY_LIMIT if action == DealAction.BUY else OrderType.SELL_LIMIT
            until_ms = self._exchange.now_ms() + WAIT_MS
            self._exchange.place_order(account.login, symbol, kind, volume, price - far, expiration_ms=until_ms)
        elif manner < 0.2:
            self._exchange.open(account.login, symbol, action, volume, stop_loss=price - far, take_profit=price + 2 * far)
        else:
            self._exchange.open(account.login, symbol, action, volume)

    def _affordable(self, account: Account, symbol: str, wished: int) -> int:
        """The wished volume, or as much of it as a careful part of the free margin carries."""
        state = self._exchange.state(account.login)
        quote, currency = self._exchange.market.quote(symbol), GROUPS[account.group_name].currency
        rate = self._exchange.market.rate(quote.symbol.margin_currency, currency, sell=False)
        lot = pricing.worth(quote.symbol, quote.ask) * rate / account.leverage
        carried: Decimal = state.margin_free / CAUTION / lot * UNITS_PER_LOT
        return max(0, min(wished, int(carried) // VOLUME_STEP * VOLUME_STEP))

    def _close(self, account: Account, ripe: Sequence[OpenPosition]) -> None:
        position = self._random.choice(ripe)
        against = [one for one in ripe if one.symbol == position.symbol and one.action != position.action]
        if against and GROUPS[account.group_name].is_hedged:
            self._exchange.close_by(position.ticket, self._random.choice(against).ticket)
            return
        halves = position.volume // 2 // VOLUME_STEP * VOLUME_STEP
        is_partial = halves > 0 and self._random.random() < 0.2
        self._exchange.close(position.ticket, halves if is_partial else None)


def _may_trade(account: Account) -> bool:
    is_open = bool(account.rights & UserRight.ENABLED) and not account.rights & UserRight.TRADE_DISABLED
    return is_open and account.balance + account.credit > 0
