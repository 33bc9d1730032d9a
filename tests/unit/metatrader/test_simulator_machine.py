"""Whatever people, dealers and time do in whatever order: every balance is the sum of its deals, and all of it is told."""

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

from app.metatrader.events import AccountEvent, DealEvent, OrderEvent, PositionEvent, decode
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.store import Store
from app.metatrader.simulator.virtual_clock import VirtualClock

pytestmark = pytest.mark.slow

LOT = 100_000_000
EVER = (0, 2**62)
GROUPS = (
    "real\\std\\usd",
    "real\\std\\jpy",
    "real\\ecn\\usd",
    "real\\raw\\eur",
    "real\\netting\\raw",
    "real\\cent\\usc",
    "real\\protected\\usd",
)
SYMBOLS = ("EURUSD", "USDJPY", "GBPNZD", "XAUUSD", "DE40")
SHIFTED = ("EURUSD", "USDJPY", "GBPUSD", "XAUUSD", "DE40")

whose = st.integers(0, len(GROUPS) - 1)
which = st.integers(0, 1_000)
volumes = st.sampled_from([LOT // 100, LOT // 10, LOT // 2, LOT, 5 * LOT])
amounts = st.integers(-500_000, 500_000).map(lambda minor: Decimal(minor).scaleb(-2))


class Brokerage(RuleBasedStateMachine):
    """One login in each of some groups, and everything that can happen to them. What a rule refuses changes nothing."""

    @initialize(seed=st.integers(0, 100), keeps_hours=st.booleans())
    def open_house(self, seed, keeps_hours):
        self.folder = Path(tempfile.mkdtemp())
        clock = VirtualClock(datetime(2026, 11, 25, 11, tzinfo=UTC))
        self.simulator = Simulator(
            state_dir=self.folder, password="x", tick_s=0, clock=clock, seed=seed, keeps_hours=keeps_hours
        )
        self.exchange, self.store = self.simulator.exchange, self.simulator.store
        self.logins = [
            self.simulator.control.users.add(
                {"Group": group, "Leverage": "30", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}
            ).login
            for group in GROUPS
        ]
        for login in self.logins:
            self.exchange.balance_operation(login, 2, Decimal(50_000), "in")
        self.exchange.tick()

    def attempt(self, call, *arguments, **named):
        """What breaks a rule leaves no trace: neither in the books nor among the events."""
        before = (self.store.outbox_size(), self.store.accounts(), self.store.positions(), self.store.number("deal"))
        try:
            call(*arguments, **named)
        except Refused:
            after = (self.store.outbox_size(), self.store.accounts(), self.store.positions(), self.store.number("deal"))
            assert after == before

    def one_of(self, found, index):
        return found[index % len(found)] if found else None

    @rule(who=whose, symbol=st.sampled_from(SYMBOLS), action=st.integers(0, 1), volume=volumes, far=st.integers(0, 400))
    def trade(self, who, symbol, action, volume, far):
        quote = self.exchange.market.quote(symbol)
        away = quote.symbol.price(far * quote.symbol.spread) * (1 if action == 0 else -1)
        stops = {"stop_loss": quote.bid_price - away, "take_profit": quote.bid_price + 2 * away} if far > 200 else {}
        self.attempt(self.exchange.open, self.logins[who], symbol, action, volume, **stops)

    @rule(index=which, volume=st.one_of(st.none(), volumes))
    def close(self, index, volume):
        position = self.one_of(self.store.positions(), index)
        if position:
            self.attempt(self.exchange.close, position.ticket, volume)

    @rule(index=which, other=which)
    def close_by(self, index, other):
        position = self.one_of(self.store.positions(), index)
        if position:
            against = self.one_of(self.store.positions(position.login), other)
            self.attempt(self.exchange.close_by, position.ticket, against.ticket)

    @rule(who=whose, symbol=st.sampled_from(SYMBOLS), kind=st.integers(2, 5), volume=volumes, away=st.integers(-300, 300))
    def place_order(self, who, symbol, kind, volume, away):
        quote = self.exchange.market.quote(symbol)
        price = quote.symbol.price(quote.ask + away * quote.symbol.spread)
        until_ms = self.exchange.now_ms() + 7_200_000 if away % 2 else 0
        self.attempt(self.exchange.place_order, self.logins[who], symbol, kind, volume, price, expiration_ms=until_ms)

    @rule(index=which, how=st.integers(0, 1))
    def end_order(self, index, how):
        order = self.one_of(self.store.orders(), index)
        if order:
            self.attempt(self.exchange.cancel_order if how else self.exchange.delete_order, order.ticket)

    @rule(who=whose, kind=st.integers(2, 6), amount=amounts, check=st.booleans())
    def move_money(self, who, kind, amount, check):
        self.attempt(self.exchange.balance_operation, self.logins[who], kind, amount, "by hand", check_margin=check)

    @rule(symbol=st.sampled_from(SHIFTED), points=st.integers(-3_000, 3_000))
    def shift(self, symbol, points):
        self.exchange.shift(symbol, points)

    @rule(hours=st.sampled_from([0, 1, 7, 24, 60]))
    def wait(self, hours):
        self.exchange.clock.move(timedelta(hours=hours, seconds=20))
        self.exchange.tick()

    @rule(index=which, profit=st.one_of(st.none(), amounts), swap=st.one_of(st.none(), amounts), points=st.integers(0, 50))
    def edit_deal(self, index, profit, swap, points):
        deal = self.one_of(self.store.deals(None, *EVER), index)
        if deal:
            price = deal.price + Decimal(points).scaleb(-deal.digits) if deal.symbol else None
            self.attempt(self.exchange.edit_deal, deal.ticket, profit=profit, swap=swap, price=price)

    @rule(index=which)
    def delete_deal(self, index):
        deal = self.one_of(self.store.deals(None, *EVER), index)
        if deal:
            self.attempt(self.exchange.delete_deal, deal.ticket)

    @rule(index=which)
    def cancel_deal(self, index):
        trades = [deal for deal in self.store.deals(None, *EVER) if deal.symbol]
        deal = self.one_of(trades, index)
        if deal:
            self.attempt(self.exchange.cancel_deal, deal.ticket)

    @rule(who=whose, profit=amounts, hours=st.integers(-1, 100), entry=st.integers(0, 1))
    def enter_deal(self, who, profit, hours, entry):
        what = {"symbol": "EURUSD", "action": 0, "entry": entry, "volume": LOT, "price": Decimal("1.1")}
        then_ms = self.exchange.now_ms() - hours * 3_600_000
        self.attempt(self.exchange.enter_deal, self.logins[who], **what, profit=profit, time_ms=then_ms)

    @rule(who=whose, group=st.sampled_from([*GROUPS, "real2\\std\\usd"]))
    def change_group(self, who, group):
        self.attempt(self.exchange.change_group, self.logins[who], group)

    @rule(who=whose, restore=st.booleans())
    def archive(self, who, restore):
        self.attempt(self.exchange.restore if restore else self.exchange.archive, self.logins[who])

    @rule(who=whose)
    def clean(self, who):
        self.attempt(self.exchange.clean, self.logins[who])

    @invariant()
    def every_balance_is_the_sum_of_its_deals(self):
        for account in [*self.store.accounts(), *self.store.archived_accounts()]:
            assert (account.balance, account.credit) == self.store.sums(account.login)

    @invariant()
    def figures_agree(self):
        for account in self.store.accounts():
            state = self.exchange.state(account.login)
            assert state.equity == state.balance + state.credit + state.floating
            assert state.margin_free == state.equity - state.margin
        for position in self.store.positions():
            assert position.volume > 0
            assert position.volume % (LOT // 100) == 0

    def teardown(self):
        """What was told adds up to what there is; what is in the file is what was in memory."""
        told = [
            decode({name.encode(): value.encode() for name, value in fields.items()})
            for _, _, fields in self.store.outbox(100_000)
        ]
        deals, positions, orders, accounts = {}, {}, {}, {}
        for event in told:
            match event:
                case DealEvent():
                    keep(deals, event, event.deal.ticket, event.deal)
                case PositionEvent():
                    keep(positions, event, event.position.ticket, event.position.volume)
                case OrderEvent():
                    keep(orders, event, event.order.ticket, event.order)
                case AccountEvent():
                    accounts[event.account.login] = (event.account.balance, event.account.credit)
        assert deals == {deal.ticket: deal for deal in self.store.deals(None, *EVER)}
        assert positions == {position.ticket: position.volume for position in self.store.positions()}
        assert {order.ticket for order in orders.values() if not order.done_ms} == {one.ticket for one in self.store.orders()}
        for account in self.store.accounts():
            state = self.exchange.state(account.login)
            assert accounts[account.login] == (state.balance, state.credit)
        kept = (self.store.accounts(), self.store.archived_accounts(), self.store.positions(), self.store.orders())
        self.store.close()
        again = Store(self.store.path)
        assert (again.accounts(), again.archived_accounts(), again.positions(), again.orders()) == kept
        again.close()
        shutil.rmtree(self.folder)


def keep(found, event, ticket, record):
    if event.change == "delete":
        found.pop(ticket, None)
    else:
        found[ticket] = record


TestBrokerage = Brokerage.TestCase
TestBrokerage.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
