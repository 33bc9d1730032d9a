"""The simulator's trading engine as one thing: money in and out, orders, a dealer's edits, logins, and the passing of time.

Whatever it does is one transaction with the events that tell of it. Its parts: books.py writes deals, trading.py carries
out market orders, orders.py keeps waiting ones, nightly.py does swap and stop-outs, edits.py what dealers do to deals
afterwards, logins.py what becomes of logins.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from app.metatrader.codes import DealAction, DealReason
from app.metatrader.platform import COMMENT_LIMIT, AccountState, BalanceCheck, Deal, Order, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.simulator import pricing
from app.metatrader.simulator.books import Booking, Books, Refused
from app.metatrader.simulator.cluster import Cluster
from app.metatrader.simulator.edits import Edits
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.logins import Logins
from app.metatrader.simulator.market import KEPT, Market
from app.metatrader.simulator.nightly import RollOver, StopOuts
from app.metatrader.simulator.orders import WaitingOrders
from app.metatrader.simulator.store import Store
from app.metatrader.simulator.trading import VOLUME_MAX, VOLUME_STEP, Desk, Guards
from app.metatrader.simulator.valuation import major

__all__ = ["OPERATIONS", "VOLUME_MAX", "VOLUME_STEP", "Exchange", "Refused"]

LARGEST_OPERATION = Decimal(1_000_000_000)

#: The kinds of money movement that the Web API takes: balance, credit, charge, correction, bonus.
OPERATIONS = frozenset({2, 3, 4, 5, 6})


class Exchange:
    """The engine. Thread-safe. Methods raise Refused with MetaTrader's number when a rule forbids; then nothing changed."""

    def __init__(
        self,
        store: Store,
        market: Market,
        journal: Journal,
        zone: ServerZone,
        clock: Callable[[], datetime],
        boot: str,
        cluster: Cluster | None = None,
    ) -> None:
        self.store = store
        self.market = market
        self.journal = journal
        self.zone = zone
        self.clock = clock
        self.boot = boot
        self.cluster = cluster or Cluster()
        self.books = Books(store, market, journal, zone, clock, boot, self.cluster)
        self.valuation = self.books.valuation
        self.logins = Logins(self.books)
        self._desk = Desk(self.books)
        self._orders = WaitingOrders(self.books, self._desk)
        self._edits = Edits(self.books)
        self._roll_over = RollOver(self.books)
        self._stop_outs = StopOuts(self.books, self._desk)
        self._reported_to = 0

    # ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────────

    def now_ms(self) -> int:
        """The server's wall clock."""
        return self.books.now_ms()

    def account(self, login: int) -> Account:
        """A login's record. Raises Refused(13)."""
        return self.books.account(login)

    def state(self, login: int) -> AccountState:
        """A login's figures at the current prices. Raises Refused(13)."""
        return self.books.state(login)

    def positions(self, login: int | None = None) -> list[Position]:
        """Open positions at the current prices, by ticket."""
        with self.store.reading():
            return [self.books.shown(position) for position in self.store.positions(login)]

    def orders(self, login: int | None = None) -> list[Order]:
        """Orders that wait, by ticket."""
        return self.store.orders(login)

    def check_balance(self, login: int) -> BalanceCheck:
        """What a login has beside what its deals add up to. Refused(13)."""
        return self.logins.check_balance(login)

    # ── money and trades ───────────────────────────────────────────────────────────────────────────────────────────────

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
            return self.books.book(account, operation)

    def open(
        self,
        login: int,
        symbol: str,
        action: int,
        volume: int,
        *,
        reason: int = DealReason.CLIENT,
        comment: str = "",
        stop_loss: Decimal = Decimal(0),
        take_profit: Decimal = Decimal(0),
    ) -> Deal:
        """Buy or sell at the market. Refused: 13 symbol, 10014 volume, 10016 stops, 10017 trading disabled, 10018 market
        closed, 10019 not enough margin.
        """
        guards = self._guards(symbol, stop_loss, take_profit)
        return self._desk.open(login, symbol, action, volume, reason=reason, comment=comment, guards=guards)

    def close(self, ticket: int, volume: int | None = None, *, reason: int = DealReason.CLIENT, comment: str = "") -> Deal:
        """Close a position or a part of it at the market. Refused: 13, 10018, 10038 for a volume that it has not got."""
        return self._desk.close(ticket, volume, reason=reason, comment=comment)

    def close_by(self, ticket: int, by_ticket: int) -> tuple[Deal, Deal]:
        """Close two opposite positions of a hedged login against each other. Refused: 13, 10013, 10018."""
        return self._desk.close_by(ticket, by_ticket)

    def protect(self, ticket: int, stop_loss: Decimal = Decimal(0), take_profit: Decimal = Decimal(0)) -> Position:
        """Set a position's stop loss and take profit, 0 for none. Refused: 13, 10016."""
        with self.store.transaction():
            position = self.store.position(ticket)
            if position is None:
                raise Refused(13)
            guards = self._guards(position.symbol, stop_loss, take_profit)
            return self.books.shown(self._desk.guard(ticket, guards))

    def place_order(
        self,
        login: int,
        symbol: str,
        kind: int,
        volume: int,
        price: Decimal,
        *,
        stop_loss: Decimal = Decimal(0),
        take_profit: Decimal = Decimal(0),
        expiration_ms: int = 0,
        comment: str = "",
    ) -> Order:
        """Put in a limit or stop order (OrderType 2 to 5), until a moment of the server's clock or for good.

        Refused: 13, 10013 kind, 10014 volume, 10015 price, 10016 stops, 10017, 10018, 10022 expiration.
        """
        guards, points = self._guards(symbol, stop_loss, take_profit), self._points(symbol, price, 10015)
        return self._orders.place(
            login, symbol, kind, volume, points, guards=guards, expiration_ms=expiration_ms, comment=comment
        )

    def change_order(
        self,
        ticket: int,
        *,
        price: Decimal | None = None,
        stop_loss: Decimal | None = None,
        take_profit: Decimal | None = None,
        expiration_ms: int | None = None,
    ) -> Order:
        """Change what is given of an order that waits. Refused: 13, 10015, 10016, 10018, 10022."""
        with self.store.transaction():
            old = self.store.order(ticket)
            if old is None:
                raise Refused(13)
            points = None if price is None else self._points(old.symbol, price, 10015)
            guards = self._guards(
                old.symbol,
                old.price_stop_loss if stop_loss is None else stop_loss,
                old.price_take_profit if take_profit is None else take_profit,
            )
            return self._orders.change(ticket, points=points, guards=guards, expiration_ms=expiration_ms)

    def cancel_order(self, ticket: int) -> Order:
        """Take an order back. Refused(13) when it does not wait."""
        return self._orders.cancel(ticket)

    # ── what dealers do afterwards ─────────────────────────────────────────────────────────────────────────────────────

    def delete_order(self, ticket: int) -> None:
        """Delete an order's record, waiting or done. Refused(13)."""
        self._orders.remove(ticket)

    def edit_deal(
        self,
        ticket: int,
        *,
        price: Decimal | None = None,
        profit: Decimal | None = None,
        swap: Decimal | None = None,
        commission: Decimal | None = None,
        comment: str | None = None,
    ) -> Deal:
        """Change what is given of a deal; its modification flags say so. Refused: 13, 3 for money finer than the currency."""
        return self._edits.edit(ticket, price=price, profit=profit, swap=swap, commission=commission, comment=comment)

    def delete_deal(self, ticket: int) -> None:
        """Take a deal away, and what it did to the money. Refused(13)."""
        self._edits.delete(ticket)

    def cancel_deal(self, ticket: int) -> Deal:
        """Declare a trade void: BUY_CANCELED or SELL_CANCELED, without money. Refused: 13, 3 for what is no trade."""
        return self._edits.cancel(ticket)

    def enter_deal(
        self,
        login: int,
        *,
        symbol: str,
        action: int,
        entry: int,
        volume: int,
        price: Decimal,
        profit: Decimal,
        time_ms: int,
        position_ticket: int = 0,
        swap: Decimal = Decimal(0),
        commission: Decimal = Decimal(0),
        comment: str = "",
    ) -> Deal:
        """Write down a trade of the past under a new ticket. Refused: 13, 3, 10014."""
        return self._edits.enter(
            login,
            symbol=symbol,
            action=action,
            entry=entry,
            volume=volume,
            price=price,
            profit=profit,
            time_ms=time_ms,
            position_ticket=position_ticket,
            swap=swap,
            commission=commission,
            comment=comment,
        )

    def change_group(self, login: int, name: str) -> Account:
        """Move a login to another group. Refused: 13, 3008, 3009 other server, 3010 other currency."""
        return self.logins.change_group(login, name)

    def archive(self, login: int) -> Account:
        """Put a login away with its history. Refused: 13, 3008 while something is open."""
        return self.logins.archive(login)

    def restore(self, login: int) -> Account:
        """Bring an archived login back. Refused: 13, 3004 when it is not archived."""
        return self.logins.restore(login)

    def delete_account(self, login: int) -> None:
        """Take a login away for good; its deals stay. Refused: 13, 3008 while something is open."""
        self.logins.delete(login)

    def clean(self, login: int) -> int:
        """Wipe all deals of a login, as servers do with demo accounts; returns how many went. Refused(13)."""
        return self.logins.clean(login)

    # ── the passing of time ────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """One step of the market, and what follows from it: swap at the server's midnight, waiting orders, stop-outs."""
        with self.store.transaction():
            self.market.advance(self.now_ms())
            self._roll_over.run()
            self._after_move()

    def shift(self, symbol: str, points: int) -> None:
        """Move a price at once, for tests and demonstrations. Refused(13) for a pair that only follows from others."""
        with self.store.transaction():
            if symbol not in self.market.mids:
                raise Refused(13)
            self.market.shift(symbol, points)
            self._after_move()

    def report_open(self, most: int = 0) -> None:
        """Tell the present state of positions and of the accounts that hold them: of all, or of `most` logins in turn."""
        with self.store.transaction():
            logins = sorted(self.store.holders())
            if most and len(logins) > most:
                logins = ([one for one in logins if one > self._reported_to] + logins)[:most]
                self._reported_to = logins[-1]
            moment_ms = self.now_ms()
            for login in logins:
                for position in self.store.positions(login):
                    self.journal.position("update", self.books.shown(position, moment_ms))
                self.journal.account(self.state(login))

    def _after_move(self) -> None:
        self.store.set_number("market:step", self.market.step)
        self.store.set_number("market:wall_ms", self.market.wall_ms)
        for name in KEPT:
            self.store.set_number(f"market:{name}", self.market.mids[name])
        self._orders.look()
        self._stop_outs.run()

    def _guards(self, symbol: str, stop_loss: Decimal, take_profit: Decimal) -> Guards:
        return Guards(self._points(symbol, stop_loss, 10016), self._points(symbol, take_profit, 10016))

    def _points(self, symbol: str, price: Decimal, retcode: int) -> int:
        """A price in points. Raises Refused: 13, `retcode` for one that the symbol's digits cannot hold."""
        points = price.scaleb(self.books.instrument(symbol).digits) if price.is_finite() else Decimal("0.5")
        if points != points.to_integral_value() or not 0 <= points < 2**53:
            raise Refused(retcode)
        return int(points)
