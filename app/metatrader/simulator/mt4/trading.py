"""The MT4 double's market orders: opening, closing in whole or in part, closing two opposite trades against each other."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.metatrader.mt4 import COMMENT_LIMIT, MONEY_PLACES, UNITS_PER_HUNDREDTH, Cmd, State, Trade
from app.metatrader.simulator import pricing
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.instruments import Instrument
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.books import Books
from app.metatrader.simulator.mt4.valuation import ZERO, Closing, cents
from app.metatrader.simulator.valuation import major

#: Hundredths of a lot.
LOT_MIN, LOT_MAX, LOT_STEP = 1, 10_000, 1
NO_PRICE = Decimal(0)


class Desk:
    """Carries out orders at the market. Each method is one transaction."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._book = books.book

    def open(
        self, login: int, symbol: str, cmd: int, volume: int, *, comment: str, reason: int, sl: Decimal, tp: Decimal
    ) -> Trade:
        """Buy or sell at the market. Refused: 3, 65, 130, 131, 132, 133, 134."""
        books = self._books
        if cmd not in (Cmd.BUY, Cmd.SELL):
            raise Refused(codes.INVALID_DATA)
        instrument = books.instrument(symbol)
        check_volume(volume)
        with self._book.transaction():
            books.trading_login(login)
            books.check_open(symbol)
            quote = books.market.quote(symbol)
            check_stops(cmd, quote.bid_price if cmd == Cmd.BUY else quote.ask_price, sl, tp)
            row = self.blank(login, instrument, cmd, volume, comment=comment, reason=reason)
            return self.enter(replace(row, order=books.next_order(), sl=sl, tp=tp))

    def enter(self, row: Trade) -> Trade:
        """Make a row an open trade at the price of now, with its rates and its commission. Refused(134)."""
        books = self._books
        group, quote = books.group(row.login), books.market.quote(row.symbol)
        trade = replace(
            row,
            state=State.OPEN_NORMAL,
            open_time=books.now_s(),
            open_price=quote.ask_price if row.cmd == Cmd.BUY else quote.bid_price,
            expiration=0,
            conv_rate_open=books.market.rate(quote.symbol.profit_currency, group.currency, sell=True),
            margin_rate=books.market.rate(quote.symbol.margin_currency, group.currency, sell=False),
            commission=major(
                pricing.commission(group.commission_per_lot, row.volume * UNITS_PER_HUNDREDTH, MONEY_PLACES), MONEY_PLACES
            ),
        )
        if books.figures(row.login, trade).margin_free < 0:
            raise Refused(codes.NO_MONEY)
        return books.write(trade)

    def blank(self, login: int, instrument: Instrument, cmd: int, volume: int, *, comment: str, reason: int) -> Trade:
        """A row without a number and a price; nothing is written yet."""
        return Trade(
            order=0,
            login=login,
            cmd=cmd,
            symbol=instrument.name,
            digits=instrument.digits,
            volume=volume,
            open_time=self._books.now_s(),
            close_time=0,
            state=State.OPEN_NORMAL,
            open_price=NO_PRICE,
            close_price=NO_PRICE,
            sl=NO_PRICE,
            tp=NO_PRICE,
            expiration=0,
            reason=reason,
            conv_rate_open=NO_PRICE,
            conv_rate_close=NO_PRICE,
            margin_rate=NO_PRICE,
            commission=ZERO,
            storage=ZERO,
            profit=ZERO,
            taxes=ZERO,
            comment=comment[:COMMENT_LIMIT],
            timestamp=0,
        )

    def close(self, order: int, volume: int | None = None, *, comment: str | None = None) -> Trade:
        """Close a trade at the market, or a part of it: then the order keeps the closed part, and the rest goes on in a new
        row from the old opening on. Refused: 3, 131 for a volume that it has not got, 132.
        """
        books = self._books
        with self._book.transaction():
            trade = self.open_trade(order)
            books.check_open(trade.symbol)
            volume = trade.volume if volume is None else volume
            check_volume(volume)
            part, rest = self._split(trade, volume)
            words = f"to #{rest.order}" if rest else comment
            state = State.CLOSED_PART if rest else State.CLOSED_NORMAL
            closed = self._end(part, books.valuation.closing(part, books.group(trade.login).currency), state, words)
            if rest:
                books.write(replace(rest, comment=f"from #{order}"))
            return closed

    def close_by(self, order: int, other: int) -> tuple[Trade, Trade]:
        """Close two opposite trades against each other, as far as their volumes agree, without a spread.

        The first carries the profit, at the opening price of the other. Refused: 3 when they are not two opposite trades of
        one login in one symbol, 132.
        """
        books = self._books
        with self._book.transaction():
            first, second = self.open_trade(order), self.open_trade(other)
            if (first.login, first.symbol) != (second.login, second.symbol) or first.cmd == second.cmd:
                raise Refused(codes.INVALID_DATA)
            books.check_open(first.symbol)
            volume, currency = min(first.volume, second.volume), books.group(first.login).currency
            closed = []
            for trade, against in ((first, second), (second, first)):
                part, rest = self._split(trade, volume)
                closing = books.valuation.closing(part, currency, second.open_price)
                closed.append(self._end(part, closing, State.CLOSED_BY, f"close hedge by #{against.order}"))
                if rest:
                    books.write(replace(rest, comment=f"from #{trade.order}"))
            return closed[0], closed[1]

    def open_trade(self, order: int) -> Trade:
        """Refused(3) when there is no such open trade."""
        trade = self._book.trade(order)
        if trade is None or not trade.is_trade or trade.is_over:
            raise Refused(codes.INVALID_DATA)
        return trade

    def _end(self, trade: Trade, closing: Closing, state: State, comment: str | None) -> Trade:
        return self._books.write(
            replace(
                trade,
                state=state,
                close_time=max(self._books.now_s(), trade.open_time),
                close_price=closing.price,
                profit=closing.profit,
                conv_rate_close=closing.rate,
                comment=trade.comment if comment is None else comment[:COMMENT_LIMIT],
            )
        )

    def _split(self, trade: Trade, volume: int) -> tuple[Trade, Trade | None]:
        """The part of a trade that is to be closed, and the rest under a new order; each has its share of the costs."""
        if volume > trade.volume:
            raise Refused(codes.BAD_VOLUME)
        if volume == trade.volume:
            return trade, None
        commission, storage, taxes = (
            major(pricing.share(cents(amount), volume, trade.volume), MONEY_PLACES)
            for amount in (trade.commission, trade.storage, trade.taxes)
        )
        rest = replace(
            trade,
            order=self._books.next_order(),
            volume=trade.volume - volume,
            commission=trade.commission - commission,
            storage=trade.storage - storage,
            taxes=trade.taxes - taxes,
        )
        return replace(trade, volume=volume, commission=commission, storage=storage, taxes=taxes), rest


def hundredths(lots: Decimal) -> int:
    """Lots as MT4 counts them. Refused(131) for what is no whole number of hundredths."""
    volume = lots * 100 if lots.is_finite() else NO_PRICE
    if volume != volume.to_integral_value():
        raise Refused(codes.BAD_VOLUME)
    check_volume(int(volume))
    return int(volume)


def check_volume(volume: int) -> None:
    """Refused(131) for a volume that no order may have."""
    if not LOT_MIN <= volume <= LOT_MAX:
        raise Refused(codes.BAD_VOLUME)


def check_stops(cmd: int, price: Decimal, sl: Decimal, tp: Decimal) -> None:
    """Refused(130) when a stop loss is not on the losing side of the price, or a take profit not on the other."""
    low, high = (sl, tp) if cmd == Cmd.BUY else (tp, sl)
    if min(low, high) < 0 or low >= price or (high and high <= price):
        raise Refused(codes.BAD_STOPS)
