"""The people who trade at the simulator: now and then somebody opens a position, and later closes it, in gain or in loss."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

from app.metatrader.codes import DealAction, UserRight
from app.metatrader.platform import UNITS_PER_LOT
from app.metatrader.simulator.exchange import VOLUME_STEP, Exchange, Refused
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.market import CONTRACT_SIZE, INSTRUMENTS
from app.metatrader.simulator.store import Account, OpenPosition

log = logging.getLogger("lotwise.simulator")

OPEN_AT_MOST = 3
HOLD_AT_LEAST_MS = 15_000
#: Ten steps of 0.1 lot: what people like to trade where their money allows.
LOTS_MAX_TENTHS = 10
#: The part of the free margin that one position may tie up.
CAUTION = 5


class Trader:
    """Makes one deal at a time for a random funded login. Repeats itself for the same seed and the same market."""

    def __init__(self, exchange: Exchange, seed: int) -> None:
        self._exchange = exchange
        self._random = random.Random(f"{seed}:trader")  # noqa: S311  # people, not secrets

    def act(self) -> bool:
        """Make one deal; False when nobody can trade."""
        accounts = [account for account in self._exchange.store.accounts() if _may_trade(account)]
        if not accounts:
            return False
        account = self._random.choice(accounts)
        positions = self._exchange.store.positions(account.login)
        ripe = [position for position in positions if self._exchange.now_ms() - position.created_ms >= HOLD_AT_LEAST_MS]
        try:
            if ripe and (len(positions) >= OPEN_AT_MOST or self._random.random() < 0.5):
                self._close(ripe)
            elif len(positions) < OPEN_AT_MOST:
                self._open(account)
        except Refused as error:
            log.debug("trader: login=%d refused=%d", account.login, error.retcode)
        return True

    def _open(self, account: Account) -> None:
        symbol = self._random.choice(list(INSTRUMENTS))
        action = self._random.choice((DealAction.BUY, DealAction.SELL))
        volume = self._affordable(account, symbol, self._random.randint(1, LOTS_MAX_TENTHS) * UNITS_PER_LOT // 10)
        if volume:
            self._exchange.open(account.login, symbol, action, volume)

    def _affordable(self, account: Account, symbol: str, wished: int) -> int:
        """The wished volume, or as much of it as a careful part of the free margin carries."""
        state = self._exchange.state(account.login)
        rate = self._exchange.market.rate(symbol[:3], GROUPS[account.group_name].currency, sell=False)
        carried = state.margin_free / CAUTION * account.leverage / rate / CONTRACT_SIZE * UNITS_PER_LOT
        return max(0, min(wished, int(carried) // VOLUME_STEP * VOLUME_STEP))

    def _close(self, ripe: Sequence[OpenPosition]) -> None:
        position = self._random.choice(ripe)
        halves = position.volume // 2 // VOLUME_STEP * VOLUME_STEP
        is_partial = halves > 0 and self._random.random() < 0.2
        self._exchange.close(position.ticket, halves if is_partial else None)


def _may_trade(account: Account) -> bool:
    is_open = bool(account.rights & UserRight.ENABLED) and not account.rights & UserRight.TRADE_DISABLED
    return is_open and account.balance + account.credit > 0
