"""The MT4 double's pending orders, and the stop losses and take profits of what is open."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.metatrader.mt4 import COMMENT_LIMIT, Cmd, State, Trade
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.market import Quote
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.books import Books
from app.metatrader.simulator.mt4.trading import Desk, check_stops, check_volume

_BUYS = (Cmd.BUY_LIMIT, Cmd.BUY_STOP)
_WAIT_FOR_FALL = (Cmd.BUY_LIMIT, Cmd.SELL_STOP)
_PENDING = (Cmd.BUY_LIMIT, Cmd.SELL_LIMIT, Cmd.BUY_STOP, Cmd.SELL_STOP)


class PendingOrders:
    """Each method is one transaction; `look` is to be called inside of one."""

    def __init__(self, books: Books, desk: Desk) -> None:
        self._books = books
        self._book = books.book
        self._desk = desk

    def place(
        self, login: int, symbol: str, cmd: int, volume: int, price: Decimal, *,
        expiration: int, sl: Decimal, tp: Decimal, comment: str, reason: int,
    ) -> Trade:  # fmt: skip
        """Put in a limit or stop order. Refused: 3, 65, 129, 130, 131, 132, 133, 147."""
        books = self._books
        if cmd not in _PENDING:
            raise Refused(codes.INVALID_DATA)
        instrument = books.instrument(symbol)
        check_volume(volume)
        with self._book.transaction():
            books.trading_login(login)
            books.check_open(symbol)
            quote = books.market.quote(symbol)
            market = quote.ask_price if cmd in _BUYS else quote.bid_price
            if price <= 0 or (price >= market if cmd in _WAIT_FOR_FALL else price <= market):
                raise Refused(codes.BAD_PRICES)
            check_stops(Cmd.BUY if cmd in _BUYS else Cmd.SELL, price, sl, tp)
            if expiration and expiration <= books.now_s():
                raise Refused(codes.EXPIRATION_DENIED)
            row = self._desk.blank(login, instrument, cmd, volume, comment=comment, reason=reason)
            return books.write(replace(row, order=books.next_order(), open_price=price, expiration=expiration, sl=sl, tp=tp))

    def cancel(self, order: int, comment: str = "cancelled") -> Trade:
        """Take an order back. Refused(3) when it does not wait."""
        with self._book.transaction():
            trade = self._book.trade(order)
            if trade is None or not trade.is_pending or trade.close_time:
                raise Refused(codes.INVALID_DATA)
            now_s = max(self._books.now_s(), trade.open_time)
            shown = self._books.shown(trade)
            return self._books.write(replace(shown, close_time=now_s, state=State.DELETED, comment=comment))

    def look(self) -> None:
        """Carry out, at the prices of now, what waited for them; end what has expired."""
        books, now_s = self._books, self._books.now_s()
        for trade in self._book.open_trades():
            if trade.is_pending and trade.expiration and trade.expiration <= now_s:
                self.cancel(trade.order, "expiration")
            elif books.market.is_open(trade.symbol, books.now_ms()):
                if trade.is_trade:
                    self._guard(trade)
                elif _has_come(trade, books.market.quote(trade.symbol)):
                    self._activate(trade)

    def _activate(self, trade: Trade) -> None:
        """Open at the market in the same row; a login that cannot any more loses its order."""
        cmd = Cmd.BUY if trade.cmd in _BUYS else Cmd.SELL
        try:
            with self._book.transaction():
                self._books.trading_login(trade.login)
                self._desk.enter(replace(trade, cmd=cmd))
        except Refused as error:
            self.cancel(trade.order, "deleted [no money]" if error.retcode == codes.NO_MONEY else "deleted")

    def _guard(self, trade: Trade) -> None:
        closing = self._books.valuation.shown(trade, self._books.group(trade.login).currency).close_price
        for mark, price, falls in (("[sl]", trade.sl, trade.cmd == Cmd.BUY), ("[tp]", trade.tp, trade.cmd == Cmd.SELL)):
            if price and (closing <= price if falls else closing >= price):
                self._desk.close(trade.order, comment=trade.comment[: COMMENT_LIMIT - len(mark)] + mark)
                return


def _has_come(trade: Trade, quote: Quote) -> bool:
    price = quote.ask_price if trade.cmd in _BUYS else quote.bid_price
    return price <= trade.open_price if trade.cmd in _WAIT_FOR_FALL else price >= trade.open_price
