"""The simulator's market orders: opening, closing in whole or in part, closing by an opposite position, netting.

Where positions are hedged each order has a position of its own. Where they are netted there is one per login and symbol:
an order in its direction adds to it, one against it takes from it, and one that is larger turns it round in one deal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from app.metatrader.codes import DealAction, DealEntry, DealReason, OrderState, OrderType
from app.metatrader.events import Change
from app.metatrader.platform import COMMENT_LIMIT, UNITS_PER_LOT, Deal, Order
from app.metatrader.simulator import pricing
from app.metatrader.simulator.books import ZERO, Booking, Books, Refused
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import Account, OpenPosition
from app.metatrader.simulator.instruments import Instrument

VOLUME_STEP = UNITS_PER_LOT // 100
VOLUME_MAX = 100 * UNITS_PER_LOT


@dataclass(frozen=True)
class Guards:
    """Prices at which a position is closed by itself, in points; 0 for none."""

    stop_loss: int = 0
    take_profit: int = 0


class Desk:
    """Carries out orders at the market. Each method is one transaction."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._store = books.store

    def open(
        self,
        login: int,
        symbol: str,
        action: int,
        volume: int,
        *,
        reason: int = DealReason.CLIENT,
        comment: str = "",
        guards: Guards | None = None,
        order: Order | None = None,
    ) -> Deal:
        """Buy or sell at the market; `order` is a waiting one whose price has come.

        Refused: 13 symbol, 10014 volume, 10017 trading disabled, 10018 market closed, 10016 guards, 10019 margin.
        """
        books = self._books
        instrument = books.instrument(symbol)
        check_volume(volume)
        with self._store.transaction():
            account = books.trading_account(login)
            self.check_open(symbol)
            quote, group, moment = books.market.quote(symbol), GROUPS[account.group_name], books.now_ms()
            guards = guards or Guards()
            if order is None:  # guards of one that waited were judged by its own price; passed ones act at the next look
                check_guards(action, guards, bid=quote.bid, ask=quote.ask)
            order = order or self.market_order(login, instrument, action, volume, reason=reason, comment=comment, guards=guards)
            trade = OpenPosition(
                ticket=order.ticket,
                login=login,
                symbol=symbol,
                action=action,
                volume=volume,
                opened=Decimal(quote.ask if action == DealAction.BUY else quote.bid),
                swap=0,
                rate_margin=books.market.rate(instrument.margin_currency, group.currency, sell=False),
                reason=reason,
                created_ms=moment,
                update_ms=moment,
                comment=comment[:COMMENT_LIMIT],
                stop_loss=guards.stop_loss,
                take_profit=guards.take_profit,
            )
            held = [] if group.is_hedged else [one for one in self._store.positions(login) if one.symbol == symbol]
            if held:
                return self._net(account, held[0], trade, order)
            commission = books.commission(group, opened=volume)
            self._check_margin(account, [*self._store.positions(login), trade], commission)
            self._store.save_position(trade)
            books.filled(order, position_ticket=trade.identifier)
            return books.book(account, _entry(trade, order, volume, commission), ("add", trade))

    def close(self, ticket: int, volume: int | None = None, *, reason: int = DealReason.CLIENT, comment: str = "") -> Deal:
        """Close a position or a part of it at the market. Refused: 13, 10018, 10038 for a volume that it has not got."""
        books = self._books
        with self._store.transaction():
            position = self._position(ticket)
            account = books.account(position.login)
            self.check_open(position.symbol)
            volume = position.volume if volume is None else volume
            if volume < VOLUME_STEP or volume > position.volume or volume % VOLUME_STEP:
                raise Refused(10038)
            instrument = books.instrument(position.symbol)
            order = self.market_order(
                position.login, instrument, opposite(position.action), volume, reason=reason, comment=comment
            )
            books.filled(order, position_ticket=position.identifier)
            closing = books.valuation.closing_points(position)
            return self._exit(account, position, volume, Decimal(closing), order, entry=DealEntry.OUT)

    def close_by(self, ticket: int, by_ticket: int, *, reason: int = DealReason.CLIENT) -> tuple[Deal, Deal]:
        """Close two opposite positions against each other, as far as their volumes agree, without a spread.

        The first deal carries the profit, at the price of the other position. Refused: 13, 10018, 10013 when they are not
        two opposite positions of one hedged login in one symbol.
        """
        books = self._books
        with self._store.transaction():
            first, second = self._position(ticket), self._position(by_ticket)
            account = books.account(first.login)
            is_pair = (first.login, first.symbol) == (second.login, second.symbol) and first.action != second.action
            if not is_pair or not GROUPS[account.group_name].is_hedged:
                raise Refused(10013)
            self.check_open(first.symbol)
            volume, price = min(first.volume, second.volume), second.opened
            order = self.market_order(first.login, books.instrument(first.symbol), OrderType.CLOSE_BY, volume, reason=reason)
            books.filled(replace(order, position_by_ticket=second.identifier), position_ticket=first.identifier)
            deals = []
            for position in (first, second):
                account = books.account(first.login)
                deals.append(self._exit(account, position, volume, price, order, entry=DealEntry.OUT_BY))
            return deals[0], deals[1]

    def guard(self, ticket: int, guards: Guards) -> OpenPosition:
        """Set a position's stop loss and take profit. Refused: 13, 10016 where the price is beyond them already."""
        with self._store.transaction():
            position = self._position(ticket)
            quote = self._books.market.quote(position.symbol)
            check_guards(position.action, guards, bid=quote.bid, ask=quote.ask)
            position.stop_loss, position.take_profit = guards.stop_loss, guards.take_profit
            position.update_ms = self._books.now_ms()
            self._store.save_position(position)
            self._books.journal.position("update", self._books.shown(position))
            return position

    def market_order(
        self,
        login: int,
        instrument: Instrument,
        kind: int,
        volume: int,
        *,
        reason: int = DealReason.CLIENT,
        comment: str = "",
        guards: Guards | None = None,
        price: Decimal = ZERO,
        state: int = OrderState.STARTED,
        expiration_ms: int = 0,
    ) -> Order:
        """A new order's record; nothing is written yet."""
        guards = guards or Guards()
        return Order(
            ticket=self._books.next_order(),
            login=login,
            symbol=instrument.name,
            type=kind,
            state=state,
            reason=reason,
            volume_initial=volume,
            volume_current=volume,
            price_order=price,
            price_trigger=ZERO,
            price_stop_loss=instrument.price(guards.stop_loss),
            price_take_profit=instrument.price(guards.take_profit),
            position_ticket=0,
            position_by_ticket=0,
            set_up_ms=self._books.now_ms(),
            done_ms=0,
            expiration_ms=expiration_ms,
            comment=comment[:COMMENT_LIMIT],
            digits=instrument.digits,
            external_id="",
            contract_size=instrument.contract_size,
        )

    def check_open(self, symbol: str) -> None:
        if not self._books.market.is_open(symbol, self._books.now_ms()):
            raise Refused(10018)

    def _position(self, ticket: int) -> OpenPosition:
        position = self._store.position(ticket)
        if position is None:
            raise Refused(13)
        return position

    def _net(self, account: Account, held: OpenPosition, trade: OpenPosition, order: Order) -> Deal:
        """Let a trade add to the position that is there, take from it, or turn it round."""
        books, volume = self._books, trade.volume
        if trade.action == held.action:
            return self._increase(account, held, trade, order)
        if volume <= held.volume:
            books.filled(order, position_ticket=held.identifier)
            return self._exit(account, held, volume, trade.opened, order, entry=DealEntry.OUT)
        group = GROUPS[account.group_name]
        profit = books.valuation.profit(account, held, held.volume)
        commission = books.commission(group, opened=volume - held.volume, closed=held.volume)
        turned = replace(trade, volume=volume - held.volume, identifier=held.identifier)
        others = [one for one in self._store.positions(account.login) if one.ticket != held.ticket]
        richer = replace(account, balance=account.balance + profit.minor + held.swap)
        self._check_margin(richer, [*others, turned], commission)
        self._store.delete_position(held.ticket)
        self._store.save_position(turned)
        books.filled(order, position_ticket=held.identifier)
        reversal = Booking(
            action=trade.action,
            reason=order.reason,
            entry=DealEntry.INOUT,
            position=held,
            order_ticket=order.ticket,
            volume=volume,
            volume_closed=held.volume,
            points=trade.opened,
            profit=profit.minor,
            swap=held.swap,
            commission=commission,
            rate_profit=profit.rate,
            comment=order.comment,
        )
        deal = books.book(account, reversal, ("delete", replace(held, update_ms=trade.update_ms)))
        books.journal.position("add", books.shown(turned))
        return deal

    def _increase(self, account: Account, held: OpenPosition, trade: OpenPosition, order: Order) -> Deal:
        books, group = self._books, GROUPS[account.group_name]
        whole = held.volume + trade.volume
        grown = replace(
            held,
            volume=whole,
            opened=pricing.average(held.opened, held.volume, trade.opened, trade.volume),
            rate_margin=trade.rate_margin,
            update_ms=trade.update_ms,
            stop_loss=trade.stop_loss or held.stop_loss,
            take_profit=trade.take_profit or held.take_profit,
        )
        commission = books.commission(group, opened=trade.volume)
        others = [one for one in self._store.positions(account.login) if one.ticket != held.ticket]
        self._check_margin(account, [*others, grown], commission)
        self._store.save_position(grown)
        books.filled(order, position_ticket=held.identifier)
        entry = _entry(replace(trade, identifier=held.identifier), order, trade.volume, commission)
        return books.book(account, entry, ("update", grown))

    def _exit(
        self, account: Account, position: OpenPosition, volume: int, price: Decimal, order: Order, *, entry: DealEntry
    ) -> Deal:
        """Book a deal that closes so much of a position at a price in points."""
        books, group = self._books, GROUPS[account.group_name]
        profit = books.valuation.profit(account, position, volume, price)
        swap = pricing.share(position.swap, volume, position.volume)
        rest = replace(position, volume=position.volume - volume, swap=position.swap - swap, update_ms=books.now_ms())
        change: tuple[Change, OpenPosition] = ("update", rest)
        if rest.volume:
            self._store.save_position(rest)
        else:
            self._store.delete_position(position.ticket)
            change = ("delete", replace(position, update_ms=rest.update_ms))
        exit_ = Booking(
            action=opposite(position.action),
            reason=order.reason,
            entry=entry,
            position=position,
            order_ticket=order.ticket,
            volume=volume,
            volume_closed=volume,
            points=price,
            profit=profit.minor,
            swap=swap,
            commission=books.commission(group, closed=volume),
            rate_profit=profit.rate,
            comment=order.comment,
        )
        return books.book(account, exit_, change)

    def _check_margin(self, account: Account, positions: list[OpenPosition], commission: int) -> None:
        if self._books.valuation.money(account, positions).free + commission < 0:
            raise Refused(10019)


def opposite(action: int) -> DealAction:
    """The action that closes what this one opened."""
    return DealAction.SELL if action == DealAction.BUY else DealAction.BUY


def check_volume(volume: int) -> None:
    """Raises Refused(10014) for a volume that no order may have."""
    if volume < VOLUME_STEP or volume > VOLUME_MAX or volume % VOLUME_STEP:
        raise Refused(10014)


def check_guards(action: int, guards: Guards, *, bid: int, ask: int) -> None:
    """A stop loss lies on the losing side of the price and a take profit on the other, or it would act at once."""
    low, high = (guards.stop_loss, guards.take_profit) if action == DealAction.BUY else (guards.take_profit, guards.stop_loss)
    closing = bid if action == DealAction.BUY else ask
    if min(low, high) < 0 or low >= closing or (high and high <= closing):
        raise Refused(10016)


def _entry(trade: OpenPosition, order: Order, volume: int, commission: int) -> Booking:
    """The booking of a deal that only opens."""
    return Booking(
        action=trade.action,
        reason=order.reason,
        position=trade,
        order_ticket=order.ticket,
        volume=volume,
        points=trade.opened,
        commission=commission,
        comment=order.comment,
    )
