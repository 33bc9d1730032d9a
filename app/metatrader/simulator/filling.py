"""A history for a server, made quickly: deals over some weeks that look as if people had traded, without the engine's work.

For measuring backfill and reconciliation. Each login trades one position after the other, from Monday to Friday; nothing
stays open. Only deals are written, no orders; no event tells of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from app.metatrader.codes import DealAction, DealEntry, DealReason
from app.metatrader.platform import UNITS_PER_LOT
from app.metatrader.simulator.exchange import VOLUME_STEP, Exchange
from app.metatrader.simulator.groups import GROUPS, GroupSettings
from app.metatrader.simulator.instruments import INSTRUMENTS, Instrument

DAY_MS = 24 * 3_600_000
BATCH = 50_000
DEPOSIT = 100_000
STEPS_MAX = 30
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF", "AUDUSD", "EURJPY", "XAUUSD")
_STEPS_PER_LOT = UNITS_PER_LOT // VOLUME_STEP
#: Rates and point values as whole numbers, so that profit needs no Decimal.
_RATE_SCALE, _WORTH_SCALE = 10**8, 10**6


def fill(
    exchange: Exchange,
    logins: list[int],
    deals: int,
    days: int,
    *,
    seed: int = 7,
    has_market_prices: bool = True,
    tell: Callable[[int], None] = lambda done: None,
) -> int:
    """Give these logins so many trades (an even number) over the last so many days, and a deposit each at the beginning.

    Returns how many deals were written. `has_market_prices` off makes them as servers before build 2890 did. `tell` hears
    after each batch how many there are. Raises ValueError when there are no logins or days.
    """
    if not logins or days < 1:
        raise ValueError("a history needs logins and days")
    history = _History(exchange, logins, deals // 2 * 2, days, seed, has_market_prices=has_market_prices)
    done = 0
    rows = history.rows()
    with exchange.store.filling():
        while batch := list(islice(rows, BATCH)):
            with exchange.store.transaction():
                exchange.store.add_deal_rows(batch)
                history.settle()
            done += len(batch)
            tell(done)
    return done


@dataclass(frozen=True)
class _Terms:
    """What a symbol's deals in a group are counted by. Commission by volume steps, of a deal that opens and that closes."""

    instrument: Instrument
    contract_size: str
    commission_in: list[int]
    commission_out: list[int]
    worth: int
    gain_rate: int
    loss_rate: int
    gain_text: str
    loss_text: str
    margin_text: str


@dataclass
class _Trade:
    """A position of the history: its symbol, direction, volume steps, price and ticket."""

    symbol: str
    action: int
    steps: int
    points: int
    ticket: int


class _History:
    """Makes the rows; `settle` adds what they did to the logins' balances."""

    def __init__(
        self, exchange: Exchange, logins: list[int], deals: int, days: int, seed: int, *, has_market_prices: bool
    ) -> None:
        self._exchange = exchange
        self._logins = logins
        self._deals = deals
        self._has_market_prices = has_market_prices
        self._random = random.Random(f"{seed}:history")  # noqa: S311  # people, not secrets
        self._groups = {login: GROUPS[exchange.account(login).group_name] for login in logins}
        self._terms: dict[tuple[str, str], _Terms] = {}
        self._points = {name: exchange.market.quote(name).bid for name in SYMBOLS}
        self._moved: dict[int, int] = {}
        today_ms = exchange.now_ms() // DAY_MS * DAY_MS
        starts = [today_ms - back * DAY_MS for back in range(days, 0, -1)]
        self._days = [start for start in starts if (start // DAY_MS + 3) % 7 < 5] or starts
        self._deal, self._order = 0, 0

    def settle(self) -> None:
        """Add up the batch on the logins, and remember which numbers were used. Inside the rows' transaction."""
        store = self._exchange.store
        for login, change in self._moved.items():
            account = self._exchange.account(login)
            account.balance += change
            store.save_account(account)
        self._moved.clear()
        store.set_number("deal", self._deal)
        store.set_number("order", self._order)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        store, cluster = self._exchange.store, self._exchange.cluster
        self._deal = store.number("deal", cluster.first_deal - 1)
        self._order = store.number("order", cluster.first_order - 1)
        for login in self._logins:
            digits = self._groups[login].digits
            yield self._row(login, self._days[0], DealAction.BALANCE, profit=DEPOSIT * 10**digits, comment="deposit")
        span = len(self._days) * DAY_MS
        held: dict[int, _Trade] = {}
        for number in range(self._deals):
            day, moment = divmod(number * span // self._deals, DAY_MS)
            time_ms = self._days[day] + moment
            if self._deals - number <= len(held):
                login = next(iter(held))
            else:
                login = self._logins[int(self._random.random() * len(self._logins))]
            trade = held.pop(login, None)
            if trade is None and self._deals - number < len(held) + 2:
                login, trade = held.popitem()
            if trade is None:
                held[login], row = self._open(login, time_ms)
                yield row
            else:
                yield self._close(login, trade, time_ms)

    def _open(self, login: int, time_ms: int) -> tuple[_Trade, tuple[Any, ...]]:
        draw = self._random.random
        symbol = SYMBOLS[int(draw() * len(SYMBOLS))]
        self._order += 1
        trade = _Trade(symbol, int(draw() * 2), 1 + int(draw() * STEPS_MAX), self._step(symbol), self._order)
        terms = self._counted_by(symbol, self._groups[login])
        bid = trade.points
        trade.points += terms.instrument.spread * (trade.action == DealAction.BUY)
        commission = terms.commission_in[trade.steps]
        return trade, self._row(login, time_ms, trade.action, trade=trade, bid=bid, commission=commission, order=trade.ticket)

    def _close(self, login: int, trade: _Trade, time_ms: int) -> tuple[Any, ...]:
        bid, group = self._step(trade.symbol), self._groups[login]
        terms = self._counted_by(trade.symbol, group)
        is_long = trade.action == DealAction.BUY
        move = bid - trade.points if is_long else trade.points - bid - terms.instrument.spread
        rate = terms.gain_rate if move >= 0 else terms.loss_rate
        whole = abs(move) * trade.steps * terms.worth * rate * 10**group.digits
        unit = _RATE_SCALE * _WORTH_SCALE * _STEPS_PER_LOT
        profit = (2 * whole + unit) // (2 * unit) * (1 if move >= 0 else -1)
        swap = -trade.steps // 4 if group.has_swaps and self._random.random() < 0.1 else 0
        self._order += 1
        return self._row(
            login,
            time_ms,
            1 - trade.action,
            trade=trade,
            bid=bid,
            is_exit=True,
            is_loss=move < 0,
            profit=profit,
            swap=swap,
            commission=terms.commission_out[trade.steps],
            order=self._order,
        )

    def _row(
        self,
        login: int,
        time_ms: int,
        action: int,
        *,
        trade: _Trade | None = None,
        bid: int = 0,
        is_exit: bool = False,
        is_loss: bool = False,
        profit: int = 0,
        swap: int = 0,
        commission: int = 0,
        order: int = 0,
        comment: str = "",
    ) -> tuple[Any, ...]:
        """A row of the table of deals, as rows.deal_row would make it."""
        self._deal += 1
        self._moved[login] = self._moved.get(login, 0) + profit + swap + commission
        group = self._groups[login]
        if trade is None:
            texts = ("0", "0", "0", "0", "0")
            return (
                self._deal, login, action, 0, int(DealReason.DEALER), 0, 0, "", 0, 0, *texts, 0, group.digits,
                profit, swap, commission, 0, "0", "0", time_ms, comment, 0, 0, "",
            )  # fmt: skip
        terms, volume = self._counted_by(trade.symbol, group), trade.steps * VOLUME_STEP
        instrument = terms.instrument
        prices = _text(bid, instrument.digits), _text(bid + instrument.spread, instrument.digits)
        market = prices if self._has_market_prices else ("0", "0")
        price = prices[0] if action else prices[1]
        rate = terms.loss_text if is_loss else terms.gain_text
        entry, closed = (int(DealEntry.OUT), volume) if is_exit else (int(DealEntry.IN), 0)
        opened = _text(trade.points, instrument.digits) if is_exit else "0"
        return (
            self._deal, login, action, entry, int(DealReason.CLIENT), order, trade.ticket, trade.symbol, volume, closed,
            price, opened, *market, terms.contract_size, instrument.digits, group.digits,
            profit, swap, commission, 0, rate, terms.margin_text, time_ms, comment, 0, 0, "",
        )  # fmt: skip

    def _step(self, symbol: str) -> int:
        """The symbol's price, moved on by a little."""
        self._points[symbol] += int((self._random.random() - 0.5) * 6 * INSTRUMENTS[symbol].volatility)
        return self._points[symbol]

    def _counted_by(self, symbol: str, group: GroupSettings) -> _Terms:
        terms = self._terms.get((symbol, group.name))
        if terms is None:
            market, instrument, commission = self._exchange.market, INSTRUMENTS[symbol], self._exchange.books.commission
            gain, loss = (market.rate(instrument.profit_currency, group.currency, sell=sell) for sell in (True, False))
            margin = market.rate(instrument.margin_currency, group.currency, sell=False)
            terms = self._terms[symbol, group.name] = _Terms(
                instrument,
                format(instrument.contract_size, "f"),
                [commission(group, opened=steps * VOLUME_STEP) for steps in range(STEPS_MAX + 1)],
                [commission(group, closed=steps * VOLUME_STEP) for steps in range(STEPS_MAX + 1)],
                int(instrument.tick_value * _WORTH_SCALE),
                int(gain * _RATE_SCALE),
                int(loss * _RATE_SCALE),
                format(gain, "f"),
                format(loss, "f"),
                format(margin, "f"),
            )
        return terms


def _text(points: int, digits: int) -> str:
    """Points as a price: 110000 of five digits → 1.10000."""
    text = str(points).zfill(digits + 1)
    return f"{text[:-digits]}.{text[-digits:]}"
