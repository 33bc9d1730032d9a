"""What the MT4 double's server does by itself: swap at its midnight, and stop-outs when prices have moved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from app.metatrader.mt4 import MONEY_PLACES, UNITS_PER_HUNDREDTH, Trade
from app.metatrader.simulator import pricing
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.mt4.books import Books
from app.metatrader.simulator.mt4.trading import Desk
from app.metatrader.simulator.valuation import major


class RollOver:
    """Writes the swap of every trading day that has ended since the last time on the open rows."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def run(self) -> None:
        """Call it inside a transaction. A clock that goes back over midnight ends no day twice."""
        book = self._books.book
        today = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self._books.now_ms())).date()
        last = date.fromordinal(book.number("trading_day", today.toordinal()))
        while last < today:
            for trade in book.open_trades():
                if trade.is_trade:
                    self._charge(trade, last)
            last += timedelta(days=1)
        if last.toordinal() != book.number("trading_day"):
            book.set_number("trading_day", last.toordinal())

    def _charge(self, trade: Trade, ended: date) -> None:
        books, instrument = self._books, INSTRUMENTS[trade.symbol]
        group, nights = books.group(trade.login), pricing.nights(ended, instrument.triple_day)
        if not nights or not group.has_swaps:
            return
        units = trade.volume * UNITS_PER_HUNDREDTH
        swap = pricing.swap(books.market, instrument, trade.cmd, units, nights, group.currency, MONEY_PLACES)
        books.write(replace(trade, storage=trade.storage + major(swap, MONEY_PLACES)))


class StopOuts:
    """Closes the worst trades of logins whose margin level has fallen below their group's limit."""

    def __init__(self, books: Books, desk: Desk) -> None:
        self._books = books
        self._desk = desk

    def run(self) -> None:
        """Call it inside a transaction."""
        for login in sorted({trade.login for trade in self._books.book.open_trades() if trade.is_trade}):
            while self._close_worst(login):
                pass

    def _close_worst(self, login: int) -> bool:
        """Whether a trade was closed, so that one must look again."""
        books = self._books
        figures, group = books.figures(login), books.group(login)
        if not figures.margin or figures.margin_level >= group.stop_out:
            return False
        trades = [
            books.shown(trade)
            for trade in books.book.open_trades(login)
            if trade.is_trade and books.market.is_open(trade.symbol, books.now_ms())
        ]
        if not trades:
            return False
        worst = min(trades, key=lambda trade: trade.profit + trade.storage + trade.commission)
        words = f"so: {figures.margin_level}%/{figures.equity}/{figures.margin}"
        self._desk.close(worst.order, comment=words)
        return True
