"""The simulator's books: every deal is written here, together with the money, the order and the position it changes.

The account's balance is at all times the sum of profit, swap, commission and fee of its deals; credit operations count
towards the credit instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from app.metatrader.codes import DealAction, DealEntry, OrderState, UserRight
from app.metatrader.events import Change
from app.metatrader.platform import COMMENT_LIMIT, AccountState, Deal, Order, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.simulator import pricing
from app.metatrader.simulator.cluster import Cluster
from app.metatrader.simulator.groups import COMMISSION_IN, COMMISSION_OUT, GROUPS, GroupSettings
from app.metatrader.simulator.holdings import Account, OpenPosition
from app.metatrader.simulator.instruments import INSTRUMENTS, Instrument
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.market import Market
from app.metatrader.simulator.store import Store
from app.metatrader.simulator.valuation import Valuation, major

ZERO = Decimal(0)
#: A deal of a position that somebody edited says so by this flag beside the position's own.
FLAG_ADMIN, FLAG_POSITION = 1, 4


class Refused(Exception):
    """The command breaks a rule; nothing was changed. `retcode` is MetaTrader's number for it."""

    def __init__(self, retcode: int) -> None:
        super().__init__(retcode)
        self.retcode = retcode


@dataclass(frozen=True)
class Booking:
    """What one deal does: money in minor units, price in points. Without a position it is a balance operation."""

    action: int
    reason: int
    entry: int = DealEntry.IN
    position: OpenPosition | None = None
    order_ticket: int = 0
    volume: int = 0
    volume_closed: int = 0
    points: Decimal | int = 0
    profit: int = 0
    swap: int = 0
    commission: int = 0
    rate_profit: Decimal | None = None
    comment: str = ""


class Books:
    """What all parts of the engine share. Thread-safe: the store's transaction is its lock."""

    def __init__(
        self,
        store: Store,
        market: Market,
        journal: Journal,
        zone: ServerZone,
        clock: Callable[[], datetime],
        boot: str,
        cluster: Cluster,
    ) -> None:
        self.store = store
        self.market = market
        self.journal = journal
        self.zone = zone
        self.clock = clock
        self.boot = boot
        self.cluster = cluster
        self.valuation = Valuation(market)
        #: Off: deals carry no market prices, as those of servers before build 2890.
        self.shows_market = True

    def now_ms(self) -> int:
        """The server's wall clock."""
        return self.zone.wall_ms(self.clock())

    def account(self, login: int) -> Account:
        """A login's record. Raises Refused(13)."""
        account = self.store.account(login)
        if account is None:
            raise Refused(13)
        return account

    def trading_account(self, login: int) -> Account:
        """The record of a login that may trade. Raises Refused: 13, 10017."""
        account = self.account(login)
        if not account.rights & UserRight.ENABLED or account.rights & UserRight.TRADE_DISABLED:
            raise Refused(10017)
        return account

    def instrument(self, symbol: str) -> Instrument:
        """A symbol's settings. Raises Refused(13)."""
        if symbol not in INSTRUMENTS:
            raise Refused(13)
        return INSTRUMENTS[symbol]

    def state(self, login: int) -> AccountState:
        """A login's figures at the current prices. Raises Refused(13)."""
        with self.store.reading():
            return self.valuation.state(self.account(login), self.store.positions(login))

    def shown(self, position: OpenPosition, moment_ms: int = 0) -> Position:
        return self.valuation.shown(self.account(position.login), position, moment_ms)

    def commission(self, group: GroupSettings, *, opened: int = 0, closed: int = 0) -> int:
        """What a deal costs that opens and closes so much volume, in minor units, never positive."""
        if group.commission_entry == COMMISSION_IN:
            closed = 0
        elif group.commission_entry == COMMISSION_OUT:
            opened = 0
        return pricing.commission(group.commission_per_lot, opened + closed, group.digits)

    def next_order(self) -> int:
        """A ticket for an order, or for the position that it opens."""
        return self.store.next_number("order", self.cluster.first_order)

    def next_deal(self) -> int:
        return self.store.next_number("deal", self.cluster.first_deal)

    def filled(self, order: Order, *, position_ticket: int) -> None:
        """Write down an order, waiting or new, as carried out in full, and tell of it."""
        done = replace(order, state=OrderState.FILLED, volume_current=0, position_ticket=position_ticket, done_ms=self.now_ms())
        self.store.save_order(done)
        self.journal.order("add" if order.state == OrderState.STARTED else "update", done)

    def book(self, account: Account, booking: Booking, change: tuple[Change, OpenPosition] | None = None) -> Deal:
        """Write a deal, move the account's money by it, and tell of the deal, the position's change and the account."""
        deal = self._deal(account, booking)
        self.enter(account, deal)
        if change:
            self.journal.position(change[0], self.shown(change[1]))
        self.tell_account(account.login)
        return deal

    def enter(self, account: Account, deal: Deal) -> None:
        """Write a new deal and move the account's money by it."""
        self.store.add_deal(deal)
        self.move_money(account, deal.action, deal.result)
        account.active_boot = self.boot
        self.store.save_account(account)
        self.journal.deal("add", deal)

    def move_money(self, account: Account, action: int, amount: Decimal) -> None:
        """Add what a deal did to the balance or the credit; the account still has to be saved."""
        change = pricing.minor(amount, GROUPS[account.group_name].digits)
        if action == DealAction.CREDIT:
            account.credit += change
        else:
            account.balance += change

    def tell_account(self, login: int) -> None:
        self.journal.account(self.state(login))

    def _deal(self, account: Account, booking: Booking) -> Deal:
        group, position = GROUPS[account.group_name], booking.position
        quote = self.market.quote(position.symbol) if position else None
        rate_profit = booking.rate_profit
        if quote and rate_profit is None:
            rate_profit = self.market.rate(quote.symbol.profit_currency, group.currency, sell=True)
        flags = position.modification_flags if position and booking.volume_closed else 0
        return Deal(
            ticket=self.next_deal(),
            login=account.login,
            action=booking.action,
            entry=booking.entry,
            reason=booking.reason,
            order_ticket=booking.order_ticket,
            position_ticket=position.identifier if position else 0,
            symbol=position.symbol if position else "",
            volume=booking.volume,
            volume_closed=booking.volume_closed,
            price=quote.symbol.price(booking.points) if quote else ZERO,
            price_position=quote.symbol.price(position.opened) if quote and position and booking.volume_closed else ZERO,
            market_bid=quote.bid_price if quote and self.shows_market else ZERO,
            market_ask=quote.ask_price if quote and self.shows_market else ZERO,
            contract_size=quote.symbol.contract_size if quote else ZERO,
            digits=quote.symbol.digits if quote else 0,
            digits_currency=group.digits,
            profit=major(booking.profit, group.digits),
            swap=major(booking.swap, group.digits),
            commission=major(booking.commission, group.digits),
            fee=major(0, group.digits),
            rate_profit=rate_profit or ZERO,
            rate_margin=position.rate_margin if position else ZERO,
            server_time_ms=self.now_ms(),
            comment=booking.comment[:COMMENT_LIMIT],
            modification_flags=flags | FLAG_POSITION if flags else 0,
        )
