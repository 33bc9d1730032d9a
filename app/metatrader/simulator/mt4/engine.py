"""The MT4 double's trading engine as one thing: logins, money in and out, orders, a dealer's edits, and the passing of time.

Whatever it does is one transaction with the events that tell of it. Its parts: books.py writes rows, trading.py carries out
market orders, pending.py keeps waiting ones, nightly.py does swap and stop-outs, logins.py opens and changes logins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.metatrader.mt4 import COMMENT_LIMIT, Cmd, Login, State, Trade
from app.metatrader.servertime import ServerZone
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.journal import Journal
from app.metatrader.simulator.market import KEPT, Market
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.book import Book
from app.metatrader.simulator.mt4.books import Books
from app.metatrader.simulator.mt4.logins import Logins
from app.metatrader.simulator.mt4.nightly import RollOver, StopOuts
from app.metatrader.simulator.mt4.pending import PendingOrders
from app.metatrader.simulator.mt4.trading import NO_PRICE, Desk, hundredths
from app.metatrader.simulator.mt4.valuation import CENT, ZERO

LARGEST_OPERATION = Decimal(1_000_000_000)

#: MT4's reasons for a row.
CLIENT, DEALER = 0, 2

_MONEY = frozenset({"commission", "storage", "profit", "taxes"})
#: What a dealer may change of a balance operation, of what is open (its profit follows the price), and of what is over.
_OF_MONEY = frozenset({"profit", "comment", "open_time"})
_OF_OPEN = frozenset(
    {"open_price", "sl", "tp", "open_time", "expiration", "commission", "storage", "taxes", "volume", "comment"}
)
_OF_CLOSED = _OF_OPEN | {"close_price", "close_time", "profit"}


class MT4Engine:
    """The engine. Thread-safe. Methods raise Refused with MT4's return code when a rule forbids; then nothing changed."""

    def __init__(self, book: Book, market: Market, journal: Journal, zone: ServerZone, clock: Callable[[], datetime]) -> None:
        self.store = book
        self.market = market
        self.journal = journal
        self.zone = zone
        self.clock = clock
        self.books = Books(book, market, journal, zone, clock)
        self.users = Logins(self.books)
        self._desk = Desk(self.books)
        self._pending = PendingOrders(self.books, self._desk)
        self._roll_over = RollOver(self.books)
        self._stop_outs = StopOuts(self.books, self._desk)
        self._reported_to = 0

    # ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────────

    def now_s(self) -> int:
        """The server's wall clock."""
        return self.books.now_s()

    def trade(self, order: int) -> Trade:
        """A row as it stands now. Refused(3)."""
        with self.store.reading():
            found = self.store.trade(order)
            if found is None:
                raise Refused(codes.INVALID_DATA)
            return self.books.shown(found)

    def trades(self, login: int | None = None, since: int = 0, until: int = 2**31) -> list[Trade]:
        """Rows that were opened or closed in a range of the server's seconds, both ends included, by order."""
        return self._shown(self.store.trades(login, since, until))

    def open_trades(self, login: int | None = None) -> list[Trade]:
        """Open trades and pending orders at the current prices, by order."""
        return self._shown(self.store.open_trades(login))

    def login(self, number: int) -> Login:
        """A user record with its figures. Refused(65)."""
        return self.books.figures(number)

    def logins(self) -> list[Login]:
        """All user records with their figures."""
        with self.store.reading():
            return [self.books.figures(login.login) for login in self.store.logins()]

    # ── money and trades ───────────────────────────────────────────────────────────────────────────────────────────────

    def balance_operation(self, login: int, cmd: int, amount: Decimal, comment: str, *, check_margin: bool = True) -> Trade:
        """Put money in or take it out. Refused: 3 for a kind or an amount that cannot be, 65, 134."""
        is_money = cmd in (Cmd.BALANCE, Cmd.CREDIT)
        if not is_money or not amount.is_finite() or not 0 < abs(amount) <= LARGEST_OPERATION or amount % CENT:
            raise Refused(codes.INVALID_DATA)
        with self.store.transaction():
            figures, now_s = self.login(login), self.now_s()
            held = figures.credit if cmd == Cmd.CREDIT else figures.balance
            if check_margin and amount < 0 and min(held, figures.margin_free) + amount < 0:
                raise Refused(codes.NO_MONEY)
            return self.books.write(
                Trade(
                    order=self.books.next_order(),
                    login=login,
                    cmd=cmd,
                    symbol="",
                    digits=2,
                    volume=0,
                    open_time=now_s,
                    close_time=now_s,
                    state=State.CLOSED_NORMAL,
                    open_price=NO_PRICE,
                    close_price=NO_PRICE,
                    sl=NO_PRICE,
                    tp=NO_PRICE,
                    expiration=0,
                    reason=DEALER,
                    conv_rate_open=NO_PRICE,
                    conv_rate_close=NO_PRICE,
                    margin_rate=NO_PRICE,
                    commission=ZERO,
                    storage=ZERO,
                    profit=amount.quantize(CENT),
                    taxes=ZERO,
                    comment=comment[:COMMENT_LIMIT],
                    timestamp=now_s,
                )
            )

    def open(
        self,
        login: int,
        symbol: str,
        cmd: int,
        lots: Decimal,
        comment: str = "",
        *,
        sl: Decimal = NO_PRICE,
        tp: Decimal = NO_PRICE,
        reason: int = CLIENT,
    ) -> Trade:
        """Buy (0) or sell (1) at the market. Refused: 3, 65, 130 stops, 131 volume, 132 closed, 133 disabled, 134 money."""
        return self._desk.open(login, symbol, cmd, hundredths(lots), comment=comment, reason=reason, sl=sl, tp=tp)

    def close(self, order: int, lots: Decimal | None = None) -> Trade:
        """Close a trade at the market, or a part of it: then the rest goes on in a new row. Refused: 3, 131, 132."""
        return self._desk.close(order, None if lots is None else hundredths(lots))

    def close_by(self, order: int, other: int) -> tuple[Trade, Trade]:
        """Close two opposite trades against each other; a rest goes on in a new row. Refused: 3, 132."""
        return self._desk.close_by(order, other)

    def place(
        self,
        login: int,
        symbol: str,
        cmd: int,
        lots: Decimal,
        price: Decimal,
        expiration: int = 0,
        *,
        sl: Decimal = NO_PRICE,
        tp: Decimal = NO_PRICE,
        comment: str = "",
    ) -> Trade:
        """Put in a pending order (cmd 2 to 5), until a second of the server's clock or for good.

        Refused: 3, 65, 129 price, 130, 131, 132, 133, 147 expiration.
        """
        volume = hundredths(lots)
        return self._pending.place(
            login, symbol, cmd, volume, price, expiration=expiration, sl=sl, tp=tp, comment=comment, reason=CLIENT
        )

    def cancel(self, order: int) -> Trade:
        """Take a pending order back. Refused(3)."""
        return self._pending.cancel(order)

    # ── what dealers do afterwards ─────────────────────────────────────────────────────────────────────────────────────

    def edit(self, order: int, /, **changes: Any) -> Trade:
        """Change a row, by its own names; money that it has moved moves along. Refused(3) for what cannot be changed of such a
        row, and for money finer than a cent.
        """
        with self.store.transaction():
            old = self.store.trade(order)
            if old is None or not changes or set(changes) - _editable(old):
                raise Refused(codes.INVALID_DATA)
            if any(Decimal(value) % CENT for name, value in changes.items() if name in _MONEY) or not changes.get(
                "close_time", 1
            ):
                raise Refused(codes.INVALID_DATA)
            exact = {name: Decimal(value).quantize(CENT) for name, value in changes.items() if name in _MONEY}
            new = replace(old, **{**changes, **exact})
            return self.books.write(
                replace(
                    new,
                    close_time=new.open_time if new.is_money else new.close_time,
                    comment=new.comment[:COMMENT_LIMIT],
                )
            )

    def enter(
        self,
        login: int,
        symbol: str,
        cmd: int,
        lots: Decimal,
        *,
        price: Decimal,
        profit: Decimal,
        closed_at: int,
        comment: str = "",
    ) -> Trade:
        """Write down a trade of the past under a new order, opened and closed at one price. Refused: 3, 65, 131."""
        instrument, volume = self.books.instrument(symbol), hundredths(lots)
        if cmd not in (Cmd.BUY, Cmd.SELL) or not profit.is_finite() or profit % CENT or not 0 < closed_at <= self.now_s():
            raise Refused(codes.INVALID_DATA)
        with self.store.transaction():
            self.books.login(login)
            row = self._desk.blank(login, instrument, cmd, volume, comment=comment, reason=DEALER)
            return self.books.write(
                replace(
                    row,
                    order=self.books.next_order(),
                    state=State.CLOSED_NORMAL,
                    open_time=closed_at,
                    close_time=closed_at,
                    open_price=price,
                    close_price=price,
                    profit=profit.quantize(CENT),
                )
            )

    def delete(self, order: int) -> None:
        """Take a row away, and what it did to the money. Refused(3)."""
        with self.store.transaction():
            self.books.remove(self.trade(order))

    # ── the passing of time ────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """One step of the market, and what follows from it: swap at the server's midnight, pending orders, stop-outs."""
        with self.store.transaction():
            self.market.advance(self.books.now_ms())
            self._roll_over.run()
            self._after_move()

    def shift(self, symbol: str, points: int) -> None:
        """Move a price at once, for tests and demonstrations. Refused(3) for a pair that only follows from others."""
        with self.store.transaction():
            if symbol not in self.market.mids:
                raise Refused(codes.INVALID_DATA)
            self.market.shift(symbol, points)
            self._after_move()

    def report_open(self, most: int = 0) -> None:
        """Tell the present state of open trades and of the logins that hold them: of all, or of `most` logins in turn."""
        with self.store.transaction():
            logins = sorted({trade.login for trade in self.store.open_trades() if trade.is_trade})
            if most and len(logins) > most:
                logins = ([one for one in logins if one > self._reported_to] + logins)[:most]
                self._reported_to = logins[-1]
            for login in logins:
                self.books.tell(login)

    def _after_move(self) -> None:
        self.store.set_number("market:step", self.market.step)
        self.store.set_number("market:wall_ms", self.market.wall_ms)
        for name in KEPT:
            self.store.set_number(f"market:{name}", self.market.mids[name])
        self._pending.look()
        self._stop_outs.run()

    def _shown(self, trades: Iterable[Trade]) -> list[Trade]:
        with self.store.reading():
            return [self.books.shown(trade) for trade in trades]


def _editable(trade: Trade) -> frozenset[str]:
    if trade.is_money:
        return _OF_MONEY
    return _OF_CLOSED if trade.close_time else _OF_OPEN
