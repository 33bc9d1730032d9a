"""The MT4 double's books: every row is written here, together with the money that it moves and the events that tell of it.

A login's balance is at all times what its closed trades and balance operations add up to; credit operations count towards
the credit instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from app.metatrader.mt4 import Cmd, Login, Trade
from app.metatrader.servertime import ServerZone
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.instruments import INSTRUMENTS, Instrument
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.market import Market
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.book import Book
from app.metatrader.simulator.mt4.groups import GROUPS, GroupSettings
from app.metatrader.simulator.mt4.telling import Teller
from app.metatrader.simulator.mt4.valuation import ZERO, Valuation

FIRST_ORDER = 1_000_001


class Books:
    """What all parts of the engine share. Thread-safe: the book's transaction is its lock."""

    def __init__(self, book: Book, market: Market, journal: Journal, zone: ServerZone, clock: Callable[[], datetime]) -> None:
        self.book = book
        self.market = market
        self.zone = zone
        self.clock = clock
        self.valuation = Valuation(market)
        self._teller = Teller(journal)
        book.before_commit = self._tell_logins

    def now_ms(self) -> int:
        """The server's wall clock."""
        return self.zone.wall_ms(self.clock())

    def now_s(self) -> int:
        return self.now_ms() // 1000

    def login(self, number: int) -> Login:
        """A record as it is kept. Refused(65)."""
        found = self.book.login(number)
        if found is None:
            raise Refused(codes.BAD_ACCOUNT_INFO)
        return found

    def trading_login(self, number: int) -> Login:
        """The record of a login that may trade. Refused: 65, 133."""
        found = self.login(number)
        if not found.enable or found.enable_read_only:
            raise Refused(codes.DISABLE)
        return found

    def group(self, number: int) -> GroupSettings:
        return GROUPS[self.login(number).group]

    def figures(self, number: int, *more: Trade) -> Login:
        """A record with its figures at the current prices, as if there were more trades. Refused(65)."""
        with self.book.reading():
            return self.valuation.login(self.login(number), [*self.book.open_trades(number), *more])

    def instrument(self, symbol: str) -> Instrument:
        """Refused(3)."""
        if symbol not in INSTRUMENTS:
            raise Refused(codes.INVALID_DATA)
        return INSTRUMENTS[symbol]

    def shown(self, trade: Trade) -> Trade:
        """The row as the server shows it now."""
        with self.book.reading():
            return self.valuation.shown(trade, self.group(trade.login).currency)

    def next_order(self) -> int:
        return self.book.next_number("order", FIRST_ORDER)

    def check_open(self, symbol: str) -> None:
        """Refused(132)."""
        if not self.market.is_open(symbol, self.now_ms()):
            raise Refused(codes.MARKET_CLOSED)

    def write(self, trade: Trade) -> Trade:
        """Write a row, new or changed, move the money by what is new about it, and tell of it."""
        with self.book.transaction():
            old = self.book.trade(trade.order)
            now_s = self.now_s()
            shown = replace(self.shown(trade), timestamp=max(now_s, old.timestamp if old else 0))
            self.book.put_trade(shown)
            self._move_money(shown.login, old, shown)
            self._teller.row(old, shown)
            return shown

    def remove(self, trade: Trade) -> None:
        """Take a row away, and what it did to the money."""
        with self.book.transaction():
            self.book.remove_trade(trade.order)
            self._move_money(trade.login, trade, None)
            self._teller.row(trade, None)

    def tell(self, login: int) -> None:
        """Tell the present state of what is open on a login, and of the login."""
        with self.book.transaction():
            for trade in self.book.open_trades(login):
                if trade.is_trade:
                    shown = self.shown(trade)
                    self.book.put_trade(shown)
                    self._teller.row(trade, shown)
            self.book.touch(login)

    def _move_money(self, number: int, old: Trade | None, new: Trade | None) -> None:
        login = self.login(number)
        balance, credit = (moved(new, what) - moved(old, what) for what in (Cmd.BALANCE, Cmd.CREDIT))
        if balance or credit:
            after = replace(login, balance=login.balance + balance, credit=login.credit + credit)
            self.book.put_login(replace(after, timestamp=max(self.now_s(), login.timestamp)))
        self.book.touch(number)

    def _tell_logins(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self.book.login(number):
                self._teller.login(self.figures(number))


def moved(trade: Trade | None, what: Cmd) -> Decimal:
    """What a row has done to the balance, or to the credit."""
    if trade is None:
        return ZERO
    if trade.is_money:
        return trade.profit if trade.cmd == what else ZERO
    if what == Cmd.CREDIT or not trade.is_trade or not trade.close_time:
        return ZERO
    return trade.profit + trade.commission + trade.storage + trade.taxes
