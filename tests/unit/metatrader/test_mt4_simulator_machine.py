"""Whatever people, dealers and time do at the MT4 double: balances are what rows add up to, and its events tell all of it."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.metatrader import mt4
from app.metatrader.codes import OrderState
from app.metatrader.events import AccountEvent, DealEvent, OrderEvent, PositionEvent, decode
from app.metatrader.mt4 import Cmd
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.mt4 import MT4Simulator
from app.metatrader.simulator.mt4.telling import contract_size
from app.metatrader.simulator.virtual_clock import VirtualClock

pytestmark = pytest.mark.slow

GROUPS = ("std-usd", "std-eur", "ecn-usd", "cent-usc", "tech")
SYMBOLS = ("EURUSD", "USDJPY", "GBPNZD", "XAUUSD", "DE40")
SHIFTED = ("EURUSD", "USDJPY", "GBPUSD", "XAUUSD", "DE40")

whose = st.integers(0, len(GROUPS) - 1)
which = st.integers(0, 1_000)
lots = st.sampled_from(["0.01", "0.1", "0.5", "1", "5"]).map(Decimal)
amounts = st.integers(-500_000, 500_000).map(lambda cents: Decimal(cents).scaleb(-2))


class Brokerage(RuleBasedStateMachine):
    """One login in each of some groups, and everything that can happen to them. What a rule refuses changes nothing."""

    @initialize(seed=st.integers(0, 100))
    def open_house(self, seed):
        self.folder = Path(tempfile.mkdtemp())
        self.clock = VirtualClock(datetime(2026, 11, 25, 11, tzinfo=UTC))
        self.seed = seed
        self.begin()
        self.logins = [self.engine.users.add(group, 30, "Main1234", "Look1234").login for group in GROUPS]
        for login in self.logins:
            self.engine.balance_operation(login, Cmd.BALANCE, Decimal(50_000), "in")
        self.engine.tick()

    def begin(self):
        self.double = MT4Simulator(state_dir=self.folder, password="x", tick_s=0, clock=self.clock, seed=self.seed)
        self.engine, self.store = self.double.engine, self.double.store

    def attempt(self, call, *arguments, **named):
        """What breaks a rule leaves no trace: neither in the books nor among the events."""
        before = (self.store.outbox_size(), self.store.logins(), self.store.open_trades(), self.store.number("order"))
        try:
            call(*arguments, **named)
        except Refused:
            after = (self.store.outbox_size(), self.store.logins(), self.store.open_trades(), self.store.number("order"))
            assert after == before

    def one_of(self, found, index):
        return found[index % len(found)] if found else None

    @rule(who=whose, symbol=st.sampled_from(SYMBOLS), cmd=st.integers(0, 1), lots=lots, far=st.integers(0, 400))
    def trade(self, who, symbol, cmd, lots, far):
        quote = self.engine.market.quote(symbol)
        away = quote.symbol.price(far * quote.symbol.spread) * (1 if cmd == Cmd.BUY else -1)
        stops = {"sl": quote.bid_price - away, "tp": quote.bid_price + 2 * away} if far > 200 else {}
        self.attempt(self.engine.open, self.logins[who], symbol, cmd, lots, "idea", **stops)

    @rule(
        who=whose, symbol=st.sampled_from(SYMBOLS), cmd=st.integers(2, 5), lots=lots, far=st.integers(1, 60), late=st.booleans()
    )
    def wait(self, who, symbol, cmd, lots, far, late):
        quote = self.engine.market.quote(symbol)
        sign = -1 if cmd in (Cmd.BUY_LIMIT, Cmd.SELL_STOP) else 1
        price = quote.ask_price + sign * quote.symbol.price(far * quote.symbol.spread)
        until = self.engine.now_s() + 600 if late else 0
        self.attempt(self.engine.place, self.logins[who], symbol, cmd, lots, price, until)

    @rule(index=which, part=st.one_of(st.none(), lots))
    def close(self, index, part):
        trade = self.one_of([row for row in self.store.open_trades() if row.is_trade], index)
        if trade:
            self.attempt(self.engine.close, trade.order, part)

    @rule(index=which, other=which)
    def close_by(self, index, other):
        trade = self.one_of([row for row in self.store.open_trades() if row.is_trade], index)
        if trade:
            against = [
                row for row in self.store.open_trades(trade.login) if row.symbol == trade.symbol and row.cmd == 1 - trade.cmd
            ]
            if found := self.one_of(against, other):
                self.attempt(self.engine.close_by, trade.order, found.order)

    @rule(index=which)
    def cancel(self, index):
        if order := self.one_of([row for row in self.store.open_trades() if row.is_pending], index):
            self.attempt(self.engine.cancel, order.order)

    @rule(who=whose, cmd=st.sampled_from((6, 7)), amount=amounts, checked=st.booleans())
    def move_money(self, who, cmd, amount, checked):
        self.attempt(self.engine.balance_operation, self.logins[who], cmd, amount, "money", check_margin=checked)

    @rule(index=which, profit=amounts, comment=st.sampled_from(["", "so: 1%", "fix"]))
    def edit(self, index, profit, comment):
        row = self.one_of(self.store.trades(), index)
        if row and row.close_time and not row.is_pending:
            self.attempt(self.engine.edit, row.order, profit=profit, comment=comment)

    @rule(index=which)
    def delete(self, index):
        if row := self.one_of(self.store.trades(), index):
            self.attempt(self.engine.delete, row.order)

    @rule(symbol=st.sampled_from(SHIFTED), points=st.integers(-2_000, 2_000))
    def shift(self, symbol, points):
        self.engine.shift(symbol, points)

    @rule(hours=st.integers(1, 30))
    def let_time_pass(self, hours):
        self.clock.move(timedelta(hours=hours))
        self.engine.tick()

    @rule()
    def tell(self):
        self.engine.report_open()

    @rule()
    def restart(self):
        self.store.close()
        self.begin()

    @invariant()
    def money_adds_up(self):
        if not hasattr(self, "logins"):
            return
        for login in self.logins:
            state = self.engine.login(login)
            assert self.engine.users.sums(login) == (state.balance, state.credit)
            floating = sum(row.profit + row.storage + row.commission for row in self.engine.open_trades(login) if row.is_trade)
            assert state.equity == state.balance + state.credit + floating

    @invariant()
    def events_tell_all(self):
        """Who follows the stream has the deals, positions and pending orders that the rows give, and the newest balances."""
        if not hasattr(self, "logins"):
            return
        deals, positions, orders, balances = {}, {}, {}, {}
        for number, (_, _, fields) in enumerate(self.store.outbox(1_000_000), start=1):
            event = decode({name.encode(): value.encode() for name, value in fields.items()})
            assert event.seq == number
            match event:
                case DealEvent():
                    assert (event.kind == "deal.add") is (event.deal.ticket not in deals)
                    deals[event.deal.ticket] = event.deal
                    if event.kind == "deal.delete":
                        del deals[event.deal.ticket]
                case PositionEvent():
                    positions[event.position.ticket] = event.position
                    if event.kind == "position.delete":
                        del positions[event.position.ticket]
                case OrderEvent():
                    orders[event.order.ticket] = event.order
                    if event.kind == "order.delete" or event.order.state != OrderState.PLACED:
                        del orders[event.order.ticket]
                case AccountEvent():
                    balances[event.account.login] = (event.account.balance, event.account.credit)
        rows = self.store.trades()
        assert deals == {deal.ticket: deal for row in rows for deal in mt4.deals_of(row, contract_size(row))}
        held = [mt4.position_of(row, contract_size(row)) for row in rows]
        assert {ticket: (one.volume, one.swap, one.price_open) for ticket, one in positions.items()} == {
            one.ticket: (one.volume, one.swap, one.price_open) for one in held if one
        }
        assert set(orders) == {row.order for row in rows if row.is_pending and not row.close_time}
        assert balances == {login.login: (login.balance, login.credit) for login in self.store.logins()}

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)


Brokerage.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestBrokerage = Brokerage.TestCase
