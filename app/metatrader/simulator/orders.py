"""The simulator's waiting orders: placed, changed, cancelled, expired, and carried out when their price has come.

The same look at the prices closes positions whose stop loss or take profit was reached.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.metatrader.codes import DealAction, DealReason, OrderState, OrderType
from app.metatrader.platform import Order
from app.metatrader.simulator.books import Books, Refused
from app.metatrader.simulator.holdings import OpenPosition
from app.metatrader.simulator.market import Quote
from app.metatrader.simulator.trading import Desk, Guards, check_guards, check_volume

_BUYS = frozenset({OrderType.BUY_LIMIT, OrderType.BUY_STOP})
#: Orders that wait for the price to fall to theirs, or below.
_WAIT_FOR_FALL = frozenset({OrderType.BUY_LIMIT, OrderType.SELL_STOP})
WAITING = frozenset({OrderType.BUY_LIMIT, OrderType.SELL_LIMIT, OrderType.BUY_STOP, OrderType.SELL_STOP})


class WaitingOrders:
    """Limit and stop orders. Each method is one transaction."""

    def __init__(self, books: Books, desk: Desk) -> None:
        self._books = books
        self._store = books.store
        self._desk = desk

    def place(
        self,
        login: int,
        symbol: str,
        kind: int,
        volume: int,
        points: int,
        *,
        guards: Guards | None = None,
        expiration_ms: int = 0,
        comment: str = "",
        reason: int = DealReason.CLIENT,
    ) -> Order:
        """Put an order in at a price in points, until a moment of the server's clock or for good.

        Refused: 13, 10013 kind, 10014 volume, 10015 price beyond the market, 10016 guards, 10017, 10018, 10022 expiration.
        """
        books = self._books
        instrument = books.instrument(symbol)
        check_volume(volume)
        if kind not in WAITING:
            raise Refused(10013)
        with self._store.transaction():
            books.trading_account(login)
            self._desk.check_open(symbol)
            self._check(kind, books.market.quote(symbol), points, guards or Guards(), expiration_ms)
            order = self._desk.market_order(
                login,
                instrument,
                kind,
                volume,
                reason=reason,
                comment=comment,
                guards=guards,
                price=instrument.price(points),
                state=OrderState.PLACED,
                expiration_ms=expiration_ms,
            )
            self._store.save_order(order)
            books.journal.order("add", order)
            return order

    def change(
        self, ticket: int, *, points: int | None = None, guards: Guards | None = None, expiration_ms: int | None = None
    ) -> Order:
        """Change what is given of an order that waits. Refused: 13, 10015, 10016, 10018, 10022."""
        with self._store.transaction():
            order = self._waiting(ticket)
            self._desk.check_open(order.symbol)
            instrument = self._books.instrument(order.symbol)
            points = _points(order, order.price_order) if points is None else points
            guards = guards or _guards(order)
            expires = order.expiration_ms if expiration_ms is None else expiration_ms
            self._check(order.type, self._books.market.quote(order.symbol), points, guards, expires)
            changed = replace(
                order,
                price_order=instrument.price(points),
                price_stop_loss=instrument.price(guards.stop_loss),
                price_take_profit=instrument.price(guards.take_profit),
                expiration_ms=expires,
            )
            self._store.save_order(changed)
            self._books.journal.order("update", changed)
            return changed

    def cancel(self, ticket: int) -> Order:
        """Take an order back. Refused(13)."""
        with self._store.transaction():
            return self._end(self._waiting(ticket), OrderState.CANCELED)

    def remove(self, ticket: int) -> None:
        """Delete an order's record, as a dealer does, waiting or done. Refused(13)."""
        with self._store.transaction():
            order = self._store.order(ticket)
            if order is None:
                raise Refused(13)
            self._store.delete_order(ticket)
            self._books.journal.order("delete", order)

    def look(self) -> None:
        """Carry out, at the prices of now, what waited for them; end what has expired."""
        books, now_ms = self._books, self._books.now_ms()
        for order in self._store.orders():
            if order.expiration_ms and order.expiration_ms <= now_ms:
                self._end(order, OrderState.EXPIRED)
            elif books.market.is_open(order.symbol, now_ms) and _has_come(order, books.market.quote(order.symbol)):
                self._carry_out(order)
        for position in self._store.guarded():
            if books.market.is_open(position.symbol, now_ms):
                self._guard(position, books.valuation.closing_points(position))

    def _carry_out(self, order: Order) -> None:
        """Open at the market; a login that can not any more has its order rejected."""
        action = DealAction.BUY if order.type in _BUYS else DealAction.SELL
        try:
            self._desk.open(
                order.login,
                order.symbol,
                action,
                order.volume_initial,
                reason=order.reason,
                comment=order.comment,
                guards=_guards(order),
                order=order,
            )
        except Refused:
            self._end(order, OrderState.REJECTED)

    def _guard(self, position: OpenPosition, closing: int) -> None:
        is_long = position.action == DealAction.BUY
        low, high = (position.stop_loss, position.take_profit) if is_long else (position.take_profit, position.stop_loss)
        if low and closing <= low:
            is_loss = is_long
        elif high and closing >= high:
            is_loss = not is_long
        else:
            return
        reason = DealReason.STOP_LOSS if is_loss else DealReason.TAKE_PROFIT
        price = self._books.instrument(position.symbol).price(position.stop_loss if is_loss else position.take_profit)
        self._desk.close(position.ticket, reason=reason, comment=f"[{'sl' if is_loss else 'tp'} {price}]")

    def _check(self, kind: int, quote: Quote, points: int, guards: Guards, expiration_ms: int) -> None:
        market = quote.ask if kind in _BUYS else quote.bid
        if points <= 0 or (points >= market if kind in _WAIT_FOR_FALL else points <= market):
            raise Refused(10015)
        action = DealAction.BUY if kind in _BUYS else DealAction.SELL
        check_guards(action, guards, bid=points, ask=points)
        if expiration_ms and expiration_ms <= self._books.now_ms():
            raise Refused(10022)

    def _end(self, order: Order, state: OrderState) -> Order:
        ended = replace(order, state=state, done_ms=self._books.now_ms())
        self._store.save_order(ended)
        self._books.journal.order("update", ended)
        return ended

    def _waiting(self, ticket: int) -> Order:
        order = self._store.order(ticket)
        if order is None or order.done_ms:
            raise Refused(13)
        return order


def _has_come(order: Order, quote: Quote) -> bool:
    price = quote.ask if order.type in _BUYS else quote.bid
    waited_for = _points(order, order.price_order)
    return price <= waited_for if order.type in _WAIT_FOR_FALL else price >= waited_for


def _points(order: Order, price: Decimal) -> int:
    return int(price.scaleb(order.digits))


def _guards(order: Order) -> Guards:
    return Guards(_points(order, order.price_stop_loss), _points(order, order.price_take_profit))
