"""The simulator's trading engine: balance operations, market orders, swap, stop-out.

Whatever it does is one transaction with the events that tell of it. The account's balance is at all times the sum of
profit, swap, commission and fee of its deals; credit operations count towards the credit instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from app.metatrader.codes import DealAction, DealEntry, DealReason, UserRight
from app.metatrader.events import Change
from app.metatrader.platform import COMMENT_LIMIT, UNITS_PER_LOT, AccountState, Deal, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.simulator import pricing
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.market import CONTRACT_SIZE, INSTRUMENTS, Market
from app.metatrader.simulator.store import Account, OpenPosition, Store
from app.metatrader.simulator.valuation import Valuation, major

VOLUME_STEP = UNITS_PER_LOT // 100
VOLUME_MAX = 100 * UNITS_PER_LOT
LARGEST_OPERATION = Decimal(1_000_000_000)
FIRST_DEAL, FIRST_ORDER = 500_001, 700_001

#: The kinds of money movement that the Web API takes: balance, credit, charge, correction, bonus.
OPERATIONS = frozenset({2, 3, 4, 5, 6})


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
    points: int = 0
    profit: int = 0
    swap: int = 0
    commission: int = 0
    rate_profit: Decimal | None = None
    comment: str = ""


class Exchange:
    """The engine. Thread-safe: the store's transaction is its lock."""

    def __init__(
        self, store: Store, market: Market, journal: Journal, zone: ServerZone, clock: Callable[[], datetime], boot: str
    ) -> None:
        self.store = store
        self.market = market
        self.journal = journal
        self.zone = zone
        self.clock = clock
        self.boot = boot
        self.valuation = Valuation(market)

    def now_ms(self) -> int:
        """The server's wall clock."""
        return self.zone.wall_ms(self.clock())

    def account(self, login: int) -> Account:
        """A login's record. Raises Refused(13)."""
        account = self.store.account(login)
        if account is None:
            raise Refused(13)
        return account

    def state(self, login: int) -> AccountState:
        """A login's figures at the current prices. Raises Refused(13)."""
        with self.store.transaction():
            return self.valuation.state(self.account(login), self.store.positions(login))

    def positions(self, login: int | None = None) -> list[Position]:
        """Open positions at the current prices, by ticket."""
        with self.store.transaction():
            return [self._shown(position) for position in self.store.positions(login)]

    def balance_operation(self, login: int, kind: int, amount: Decimal, comment: str, *, check_margin: bool = True) -> Deal:
        """Put money in or take it out. Refused: 3 bad kind or amount, 4005 too much, 10019 not enough free, 13."""
        if kind not in OPERATIONS or not amount.is_finite() or amount == 0:
            raise Refused(3)
        if abs(amount) > LARGEST_OPERATION:
            raise Refused(4005)
        with self.store.transaction():
            account = self.account(login)
            digits = GROUPS[account.group_name].digits
            change = pricing.minor(amount, digits)
            if major(change, digits) != amount:
                raise Refused(3)
            if check_margin and change < 0:
                money = self.valuation.money(account, self.store.positions(login))
                held = money.credit if kind == DealAction.CREDIT else money.balance
                if held + change < 0 or (kind != DealAction.CORRECTION and money.free + change < 0):
                    raise Refused(10019)
            operation = Booking(action=kind, reason=DealReason.DEALER, profit=change, comment=comment[:COMMENT_LIMIT])
            return self._book(account, operation)

    def open(
        self, login: int, symbol: str, action: int, volume: int, *, reason: int = DealReason.CLIENT, comment: str = ""
    ) -> Deal:
        """Buy or sell at the market. Refused: 13 symbol, 10014 volume, 10017 trading disabled, 10019 not enough margin."""
        if symbol not in INSTRUMENTS:
            raise Refused(13)
        if volume < VOLUME_STEP or volume > VOLUME_MAX or volume % VOLUME_STEP:
            raise Refused(10014)
        with self.store.transaction():
            account = self.account(login)
            if not account.rights & UserRight.ENABLED or account.rights & UserRight.TRADE_DISABLED:
                raise Refused(10017)
            group, quote, moment = GROUPS[account.group_name], self.market.quote(symbol), self.now_ms()
            position = OpenPosition(
                ticket=self.store.next_number("order", FIRST_ORDER),
                login=login,
                symbol=symbol,
                action=action,
                volume=volume,
                opened=quote.ask if action == DealAction.BUY else quote.bid,
                swap=0,
                rate_margin=self.market.rate(quote.symbol.base, group.currency, sell=False),
                reason=reason,
                created_ms=moment,
                update_ms=moment,
                comment=comment[:COMMENT_LIMIT],
            )
            commission = pricing.commission(group.commission_per_lot, volume, group.digits)
            if self.valuation.money(account, [*self.store.positions(login), position]).free + commission < 0:
                raise Refused(10019)
            self.store.save_position(position)
            entry = Booking(
                action=action,
                reason=reason,
                position=position,
                order_ticket=position.ticket,
                volume=volume,
                points=position.opened,
                commission=commission,
                comment=position.comment,
            )
            return self._book(account, entry, ("add", position))

    def close(self, ticket: int, volume: int | None = None, *, reason: int = DealReason.CLIENT, comment: str = "") -> Deal:
        """Close a position, or a part of it, at the market. Refused: 13 no such position, 10038 volume."""
        with self.store.transaction():
            position = self.store.position(ticket)
            if position is None:
                raise Refused(13)
            volume = position.volume if volume is None else volume
            if volume <= 0 or volume > position.volume or volume % VOLUME_STEP:
                raise Refused(10038)
            account = self.account(position.login)
            group = GROUPS[account.group_name]
            profit = self.valuation.profit(account, position, volume)
            swap = pricing.share(position.swap, volume, position.volume)
            rest = replace(position, volume=position.volume - volume, swap=position.swap - swap, update_ms=self.now_ms())
            change: tuple[Change, OpenPosition] = ("update", rest)
            if rest.volume:
                self.store.save_position(rest)
            else:
                self.store.delete_position(ticket)
                change = ("delete", replace(position, update_ms=rest.update_ms))
            exit_ = Booking(
                action=DealAction.SELL if position.action == DealAction.BUY else DealAction.BUY,
                reason=reason,
                entry=DealEntry.OUT,
                position=position,
                order_ticket=self.store.next_number("order", FIRST_ORDER),
                volume=volume,
                volume_closed=volume,
                points=self.valuation.closing_points(position),
                profit=profit.minor,
                swap=swap,
                commission=pricing.commission(group.commission_per_lot, volume, group.digits),
                rate_profit=profit.rate,
                comment=comment[:COMMENT_LIMIT],
            )
            return self._book(account, exit_, change)

    def tick(self) -> None:
        """One step of the market, and what follows from it: swap at the server's midnight, stop-outs."""
        with self.store.transaction():
            self.market.advance()
            self._roll_over()
            self._after_move()

    def shift(self, symbol: str, points: int) -> None:
        """Move a price at once, for tests and demonstrations. Refused(13) for a pair that only follows from others."""
        with self.store.transaction():
            if symbol not in self.market.mids:
                raise Refused(13)
            self.market.shift(symbol, points)
            self._after_move()

    def report_open(self) -> None:
        """Tell the present state of all positions and of the accounts that hold them."""
        with self.store.transaction():
            positions = self.store.positions()
            for position in positions:
                self.journal.position("update", self._shown(position, self.now_ms()))
            for login in sorted({position.login for position in positions}):
                self.journal.account(self.state(login))

    def _after_move(self) -> None:
        self.store.set_number("market:step", self.market.step)
        for name, mid in self.market.mids.items():
            self.store.set_number(f"market:{name}", mid)
        for login in sorted({position.login for position in self.store.positions()}):
            self._stop_out(login)

    def _roll_over(self) -> None:
        """Book the swap of every trading day that has ended since the last call."""
        today = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.now_ms())).date()
        last = date.fromordinal(self.store.number("trading_day", today.toordinal()))
        while last < today:
            nights = pricing.nights(last)
            for position in self.store.positions() if nights else []:
                group = GROUPS[self.account(position.login).group_name]
                position.swap += pricing.swap(
                    self.market,
                    INSTRUMENTS[position.symbol],
                    position.action,
                    position.volume,
                    nights,
                    group.currency,
                    group.digits,
                )
                position.update_ms = self.now_ms()
                self.store.save_position(position)
                self.journal.position("update", self._shown(position))
            last += timedelta(days=1)
        self.store.set_number("trading_day", today.toordinal())

    def _stop_out(self, login: int) -> None:
        """Close the worst position of an account until its margin level is back at the group's limit, or nothing is open."""
        while positions := self.store.positions(login):
            account = self.account(login)
            level = self.valuation.money(account, positions).level
            if level >= GROUPS[account.group_name].stop_out:
                return
            worst = min(positions, key=lambda position: self.valuation.floating(account, position))
            self.close(worst.ticket, reason=DealReason.STOP_OUT, comment=f"[so {level}%]")

    def _shown(self, position: OpenPosition, moment_ms: int = 0) -> Position:
        return self.valuation.shown(self.account(position.login), position, moment_ms)

    def _book(self, account: Account, booking: Booking, change: tuple[Change, OpenPosition] | None = None) -> Deal:
        """Write a deal, move the account's money by it, and tell of the deal, the position's change and the account."""
        deal = self._deal(account, booking)
        self.store.add_deal(deal)
        if booking.action == DealAction.CREDIT:
            account.credit += booking.profit
        else:
            account.balance += booking.profit + booking.swap + booking.commission
        account.active_boot = self.boot
        self.store.save_account(account)
        self.journal.deal("add", deal)
        if change:
            self.journal.position(change[0], self._shown(change[1]))
        self.journal.account(self.state(account.login))
        return deal

    def _deal(self, account: Account, booking: Booking) -> Deal:
        group, position = GROUPS[account.group_name], booking.position
        quote = self.market.quote(position.symbol) if position else None
        rate_profit = booking.rate_profit
        if quote and rate_profit is None:
            rate_profit = self.market.rate(quote.symbol.profit_currency, group.currency, sell=True)
        zero = Decimal(0)
        return Deal(
            ticket=self.store.next_number("deal", FIRST_DEAL),
            login=account.login,
            action=booking.action,
            entry=booking.entry,
            reason=booking.reason,
            order_ticket=booking.order_ticket,
            position_ticket=position.ticket if position else 0,
            symbol=position.symbol if position else "",
            volume=booking.volume,
            volume_closed=booking.volume_closed,
            price=quote.symbol.price(booking.points) if quote else zero,
            price_position=quote.symbol.price(position.opened) if quote and position and booking.volume_closed else zero,
            market_bid=quote.bid_price if quote else zero,
            market_ask=quote.ask_price if quote else zero,
            contract_size=CONTRACT_SIZE if quote else zero,
            digits=quote.symbol.digits if quote else 0,
            digits_currency=group.digits,
            profit=major(booking.profit, group.digits),
            swap=major(booking.swap, group.digits),
            commission=major(booking.commission, group.digits),
            fee=major(0, group.digits),
            rate_profit=rate_profit or zero,
            rate_margin=position.rate_margin if position else zero,
            server_time_ms=self.now_ms(),
            comment=booking.comment,
        )
