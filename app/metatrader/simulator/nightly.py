"""What the simulator's server does by itself: swap at its midnight, and stop-outs when prices have moved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from app.metatrader.codes import DealAction, DealReason
from app.metatrader.simulator import pricing
from app.metatrader.simulator.books import Booking, Books
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import Account, OpenPosition
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.trading import Desk


class RollOver:
    """Books the swap of every trading day that has ended since the last time."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._store = books.store

    def run(self) -> None:
        """Call it inside a transaction. A clock that goes back over midnight ends no day twice."""
        today = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self._books.now_ms())).date()
        last = date.fromordinal(self._store.number("trading_day", today.toordinal()))
        while last < today:
            for position in self._store.positions():
                self._charge(position, last)
            last += timedelta(days=1)
        self._store.set_number("trading_day", last.toordinal())

    def _charge(self, position: OpenPosition, ended: date) -> None:
        books, instrument = self._books, INSTRUMENTS[position.symbol]
        group = GROUPS[books.account(position.login).group_name]
        nights = pricing.nights(ended, instrument.triple_day)
        if not nights or not group.has_swaps:
            return
        position.swap += pricing.swap(
            books.market, instrument, position.action, position.volume, nights, group.currency, group.digits
        )
        position.update_ms = books.now_ms()
        self._store.save_position(position)
        books.journal.position("update", books.shown(position))


class StopOuts:
    """Closes the worst positions of accounts whose margin level has fallen below their group's limit.

    All accounts with something open are looked at after each move of the market. A quick sum in floating point finds those
    that are near the limit; the exact figures judge them.
    """

    #: How far above the limit the quick sum still counts as near it.
    NEAR = 1.02

    def __init__(self, books: Books, desk: Desk) -> None:
        self._books = books
        self._store = books.store
        self._desk = desk
        self._sums: dict[int, _QuickSum] = {}

    def run(self) -> None:
        """Call it inside a transaction."""
        touched, self._store.touched = self._store.touched, set()
        for login in touched:
            account, positions = self._store.account(login), self._store.positions(login)
            if account and positions:
                self._sums[login] = _QuickSum(self._books, account, positions)
            else:
                self._sums.pop(login, None)
        prices = _Prices(self._books)
        for login in sorted(login for login, one in self._sums.items() if one.is_near(prices, self.NEAR)):
            self._check(login)

    def _check(self, login: int) -> None:
        books, now_ms, has_closed = self._books, self._books.now_ms(), False
        while positions := self._store.positions(login):
            account = books.account(login)
            level = books.valuation.money(account, positions).level
            if level >= GROUPS[account.group_name].stop_out:
                break
            closable = [one for one in positions if books.market.is_open(one.symbol, now_ms)]
            if not closable:
                break
            worst = min(closable, key=lambda position: books.valuation.floating(account, position))
            self._desk.close(worst.ticket, reason=DealReason.STOP_OUT, comment=f"[so {level}%]")
            has_closed = True
        if has_closed:
            self._compensate(books.account(login))

    def _compensate(self, account: Account) -> None:
        """Bring a balance that a gap took below zero back to it, in groups that do so."""
        if account.balance < 0 and GROUPS[account.group_name].compensates and not self._store.positions(account.login):
            self._books.book(
                account,
                Booking(
                    action=DealAction.SO_COMPENSATION,
                    reason=DealReason.STOP_OUT,
                    profit=-account.balance,
                    comment="so compensation",
                ),
            )


class _Prices:
    """Prices and rates of now in floating point, each made when it is first asked for."""

    def __init__(self, books: Books) -> None:
        self._market = books.market
        self._prices: dict[tuple[str, int], float] = {}
        self._rates: dict[tuple[str, str, bool], float] = {}

    def closing(self, symbol: str, action: int) -> float:
        price = self._prices.get((symbol, action))
        if price is None:
            quote = self._market.quote(symbol)
            price = self._prices[symbol, action] = float(quote.bid if action == DealAction.BUY else quote.ask)
        return price

    def rate(self, source: str, target: str, *, sell: bool) -> float:
        rate = self._rates.get((source, target, sell))
        if rate is None:
            rate = self._rates[source, target, sell] = float(self._market.rate(source, target, sell=sell))
        return rate


class _QuickSum:
    """An account's equity as a function of the prices, for finding those in danger; never for booking."""

    __slots__ = ("_fixed", "_limit", "_parts")

    def __init__(self, books: Books, account: Account, positions: Sequence[OpenPosition]) -> None:
        group = GROUPS[account.group_name]
        money = books.valuation.money(account, positions)
        self._fixed = float(account.balance + account.credit + sum(position.swap for position in positions))
        self._limit = float(money.margin * group.stop_out / 100)
        self._parts: list[tuple[str, int, float, float, tuple[str, str]]] = []
        for position in positions:
            instrument = INSTRUMENTS[position.symbol]
            sign = 1 if position.action == DealAction.BUY else -1
            worth = sign * float(pricing.point_worth(instrument, position.volume, group.digits))
            pair = (instrument.profit_currency, group.currency)
            self._parts.append((position.symbol, position.action, worth, float(position.opened), pair))

    def is_near(self, prices: _Prices, near: float) -> bool:
        equity = self._fixed
        for symbol, action, worth, opened, pair in self._parts:
            profit = (prices.closing(symbol, action) - opened) * worth
            equity += profit * prices.rate(*pair, sell=profit >= 0)
        return equity < self._limit * near
