"""The MT4 double's engine: rows and their lives, money that adds up, and the events that tell of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.metatrader import mt4
from app.metatrader.codes import DealReason, OrderState
from app.metatrader.events import AccountEvent, DealEvent, OrderEvent, PositionEvent, decode
from app.metatrader.mt4 import Cmd, State
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.event_faults import EventSettings
from app.metatrader.simulator.mt4 import MT4Simulator
from app.metatrader.simulator.mt4.book import Book
from app.metatrader.simulator.mt4.process import gather
from app.metatrader.simulator.mt4.telling import contract_size
from app.metatrader.simulator.virtual_clock import VirtualClock

LOT, TENTH = Decimal(1), Decimal("0.1")


@pytest.fixture
def double(tmp_path, clock):
    """Not started: no port, no threads, no Redis."""
    made = MT4Simulator(state_dir=tmp_path, password="secret", clock=clock, tick_s=0)
    yield made
    made.store.close()


@pytest.fixture
def engine(double):
    return double.engine


@pytest.fixture
def new_login(engine):
    """A function that opens a login, with money when wanted."""

    def make(group="std-usd", leverage=100, money=""):
        login = engine.users.add(group, leverage, "Main1234", "Look1234", name="Ann Case", country="Cyprus", id="LW-1").login
        if money:
            engine.balance_operation(login, Cmd.BALANCE, Decimal(money), "deposit")
        return login

    return make


def events(double, kind=None):
    rows = double.store.outbox(100_000)
    told = [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]
    return [event for event in told if kind is None or isinstance(event, kind)]


def news(double, kind=None):
    """The events since the last call."""
    before = getattr(double, "read_to", 0)
    rows = double.store.outbox(100_000, after_id=before)
    double.read_to = rows[-1][0] if rows else before
    told = [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]
    return [event for event in told if kind is None or isinstance(event, kind)]


def kinds(told):
    return [event.kind for event in told]


def refusal(call, *arguments, **named):
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value.retcode


def move_to(engine, symbol, points):
    """Bring the middle of a symbol's price where it is wanted."""
    engine.shift(symbol, points - engine.market.mids[symbol])


def test_a_round_trip_is_one_row_whose_result_moves_the_balance_when_it_closes(double, engine, new_login, clock):
    login = new_login(money="1000")
    news(double)
    opened = engine.open(login, "EURUSD", Cmd.BUY, TENTH, "idea")
    assert (opened.volume, opened.state, opened.close_time, opened.profit) == (10, State.OPEN_NORMAL, 0, Decimal("-0.80"))
    assert engine.login(login).balance == Decimal("1000.00")
    assert engine.login(login).equity == Decimal("999.20")
    assert kinds(news(double)) == ["deal.add", "position.add", "account.state"]

    clock.move(minutes=3)
    engine.shift("EURUSD", 108)
    closed = engine.close(opened.order)
    assert closed.order == opened.order
    assert (closed.profit, closed.state) == (Decimal("10.00"), State.CLOSED_NORMAL)
    assert closed.close_time == opened.open_time + 180 == closed.timestamp
    assert closed.close_price - closed.open_price == Decimal("0.00100")
    assert engine.login(login).balance == engine.login(login).equity == Decimal("1010.00")
    told = news(double)
    assert kinds(told) == ["deal.add", "position.delete", "account.state"]
    assert told[0].deal == list(mt4.deals_of(closed, Decimal(100_000)))[1]
    assert told[2].account.balance == Decimal("1010.00")


def test_a_part_that_is_closed_keeps_the_order_and_the_rest_goes_on_under_a_new_one(double, engine, new_login, clock):
    login = new_login("ecn-usd", money="20000")
    opened = engine.open(login, "EURUSD", Cmd.SELL, LOT)
    clock.move(minutes=1)
    news(double)
    closed = engine.close(opened.order, Decimal("0.3"))
    [rest] = engine.open_trades(login)
    assert (closed.order, closed.volume, closed.state, closed.comment) == (
        opened.order,
        30,
        State.CLOSED_PART,
        f"to #{rest.order}",
    )
    assert (rest.volume, rest.comment) == (70, f"from #{opened.order}")
    assert (rest.open_time, rest.open_price) == (opened.open_time, opened.open_price)
    assert (closed.commission, rest.commission) == (Decimal("-2.10"), Decimal("-4.90"))
    told = news(double)
    assert kinds(told) == ["deal.update", "deal.add", "position.delete", "deal.add", "position.add", "account.state"]
    assert [event.deal.volume for event in told if isinstance(event, DealEvent)] == [30_000_000, 30_000_000, 70_000_000]
    engine.close(rest.order)
    rows = [row for row in engine.trades(login) if row.is_trade]
    result = sum(row.profit + row.commission for row in rows)
    assert engine.login(login).balance == 20_000 + result


def test_two_opposite_trades_are_closed_against_each_other_without_a_spread(engine, new_login):
    login = new_login(money="20000")
    first = engine.open(login, "EURUSD", Cmd.BUY, LOT)
    engine.shift("EURUSD", 100)
    second = engine.open(login, "EURUSD", Cmd.SELL, Decimal("0.4"))
    one, other = engine.close_by(first.order, second.order)
    assert (one.state, one.volume, one.profit) == (State.CLOSED_BY, 40, Decimal("36.80"))
    assert (other.state, other.volume, other.profit) == (State.CLOSED_BY, 40, Decimal("0.00"))
    [rest] = engine.open_trades(login)
    assert (rest.volume, rest.cmd, rest.comment) == (60, Cmd.BUY, f"from #{first.order}")
    assert refusal(engine.close_by, rest.order, rest.order) == 3


def test_a_pending_order_comes_true_in_the_same_row(double, engine, new_login, clock):
    login = new_login(money="5000")
    price = engine.market.quote("EURUSD").ask_price - Decimal("0.00050")
    placed = engine.place(login, "EURUSD", Cmd.BUY_LIMIT, TENTH, price, comment="wait")
    assert kinds(news(double))[-2:] == ["order.add", "account.state"]
    assert engine.login(login).margin == 0
    clock.move(minutes=5)
    engine.shift("EURUSD", -60)
    row = engine.trade(placed.order)
    assert (row.cmd, row.open_time) == (Cmd.BUY, placed.open_time + 300)
    assert row.open_price == price - Decimal("0.00010")
    told = news(double)
    assert kinds(told) == ["order.update", "deal.add", "position.add", "account.state"]
    assert (told[0].order.state, told[0].order.position_ticket) == (OrderState.FILLED, placed.order)


def test_a_pending_order_that_nobody_can_pay_is_deleted(double, engine, new_login):
    login = new_login(money="100")
    ask = engine.market.quote("EURUSD").ask_price
    placed = engine.place(login, "EURUSD", Cmd.BUY_STOP, LOT, ask + Decimal("0.00010"))
    engine.shift("EURUSD", 30)
    row = engine.trade(placed.order)
    assert (row.cmd, row.state, row.comment) == (Cmd.BUY_STOP, State.DELETED, "deleted [no money]")
    assert row.close_time
    assert events(double, OrderEvent)[-1].order.state == OrderState.CANCELED
    assert not events(double, PositionEvent)


def test_pending_orders_are_taken_back_and_expire(double, engine, new_login, clock):
    login = new_login(money="1000")
    bid = engine.market.quote("EURUSD").bid_price
    first = engine.place(login, "EURUSD", Cmd.SELL_LIMIT, TENTH, bid + Decimal("0.01"))
    assert engine.cancel(first.order).comment == "cancelled"
    assert refusal(engine.cancel, first.order) == 3
    second = engine.place(login, "EURUSD", Cmd.SELL_STOP, TENTH, bid - Decimal("0.01"), engine.now_s() + 60)
    clock.move(seconds=61)
    engine.tick()
    assert engine.trade(second.order).comment == "expiration"
    assert engine.open_trades() == []
    assert [event.kind for event in events(double, OrderEvent)] == ["order.add", "order.update"] * 2


@pytest.mark.parametrize(
    ("moved", "mark", "reason"), [(-150, "[sl]", DealReason.STOP_LOSS), (150, "[tp]", DealReason.TAKE_PROFIT)]
)
def test_stops_close_a_trade_and_say_so(double, engine, new_login, moved, mark, reason):
    login = new_login(money="1000")
    bid = engine.market.quote("EURUSD").bid_price
    far = Decimal("0.00100")
    opened = engine.open(login, "EURUSD", Cmd.BUY, TENTH, "an idea of thirty-one characters", sl=bid - far, tp=bid + far)
    engine.shift("EURUSD", moved)
    closed = engine.trade(opened.order)
    assert closed.close_time
    assert closed.comment == "an idea of thirty-one chara" + mark
    assert events(double, DealEvent)[-1].deal.reason == reason


def test_the_worst_trades_are_closed_when_the_margin_level_falls_below_the_groups_limit(double, engine, new_login):
    login = new_login(money="1500")
    worst = engine.open(login, "EURUSD", Cmd.BUY, LOT)
    better = engine.open(login, "USDCHF", Cmd.SELL, Decimal("0.01"))
    margin = engine.login(login).margin
    engine.shift("EURUSD", -int(1500 - margin / 2) - 20)
    closed = engine.trade(worst.order)
    assert closed.comment.startswith("so: ")
    assert events(double, DealEvent)[-1].deal.reason == DealReason.STOP_OUT
    assert engine.trade(better.order).close_time == 0


def test_swap_stands_on_the_open_row_from_the_servers_midnight_on_and_three_times_on_wednesday(
    double, engine, new_login, clock
):
    login, without = new_login(money="5000"), new_login("swapfree-usd", money="5000")
    engine.tick()
    opened = engine.open(login, "EURUSD", Cmd.BUY, LOT)
    free = engine.open(without, "EURUSD", Cmd.BUY, LOT)
    news(double)
    clock.move(days=1)
    engine.tick()
    once = engine.trade(opened.order)
    assert once.storage == Decimal("-7.20")
    assert once.timestamp == engine.now_s() > opened.timestamp
    assert "position.update" in kinds(news(double))
    clock.move(days=1)
    engine.tick()
    assert engine.trade(opened.order).storage == Decimal("-28.80")
    assert engine.trade(free.order).storage == 0
    balance = engine.login(login).balance
    closed = engine.close(opened.order)
    assert engine.login(login).balance == balance + closed.profit + closed.storage


def test_margin_is_that_of_the_larger_side_and_free_margin_counts_what_is_open(engine, new_login):
    login = new_login("ecn-usd", money="10000")
    buy = engine.open(login, "USDJPY", Cmd.BUY, LOT)
    engine.open(login, "USDJPY", Cmd.SELL, Decimal("0.4"))
    state = engine.login(login)
    assert state.margin == Decimal("1000.00")
    assert buy.commission == Decimal("-7.00")
    floating = sum(row.profit + row.commission for row in engine.open_trades(login))
    assert state.equity == 10_000 + floating
    assert state.margin_free == state.equity - state.margin
    assert state.margin_level == (state.equity * 100 / state.margin).quantize(Decimal("0.01"))


def test_what_mt4_refuses_has_its_code_and_changes_nothing(double, engine, new_login):
    login, closed = new_login(money="100"), new_login(money="100")
    engine.users.change(closed, {"enable_read_only": 1})
    before, bid = len(events(double)), engine.market.quote("EURUSD").bid_price
    assert refusal(engine.open, login, "EURUSD", Cmd.BUY, Decimal("0.005")) == 131
    assert refusal(engine.open, login, "EURUSD", Cmd.BUY, Decimal("100.01")) == 131
    assert refusal(engine.open, login, "EURUSD", Cmd.BUY, LOT) == 134
    assert refusal(engine.open, 999, "EURUSD", Cmd.BUY, TENTH) == 65
    assert refusal(engine.open, closed, "EURUSD", Cmd.BUY, TENTH) == 133
    assert refusal(engine.open, login, "NOSUCH", Cmd.BUY, TENTH) == 3
    assert refusal(engine.open, login, "EURUSD", Cmd.BUY_LIMIT, TENTH) == 3
    assert refusal(engine.open, login, "EURUSD", Cmd.BUY, TENTH, sl=bid + 1) == 130
    assert refusal(engine.place, login, "EURUSD", Cmd.BUY_LIMIT, TENTH, bid + 1) == 129
    assert refusal(engine.place, login, "EURUSD", Cmd.BUY_LIMIT, TENTH, bid - 1, engine.now_s()) == 147
    assert refusal(engine.close, 77) == 3
    assert refusal(engine.balance_operation, login, Cmd.BUY, LOT, "") == 3
    assert refusal(engine.balance_operation, login, Cmd.BALANCE, Decimal("0.001"), "") == 3
    assert refusal(engine.balance_operation, login, Cmd.BALANCE, Decimal(0), "") == 3
    assert refusal(engine.balance_operation, login, Cmd.BALANCE, Decimal("-100.01"), "") == 134
    assert refusal(engine.balance_operation, login, Cmd.CREDIT, Decimal(-1), "") == 134
    assert refusal(engine.balance_operation, 999, Cmd.BALANCE, LOT, "") == 65
    assert len(events(double)) == before
    assert [row.cmd for row in engine.trades(login)] == [Cmd.BALANCE]
    assert engine.balance_operation(login, Cmd.BALANCE, Decimal("-100.01"), "", check_margin=False)
    assert engine.login(login).balance == Decimal("-0.01")


def test_balance_operations_are_rows_that_are_over(double, engine, new_login):
    login = new_login()
    news(double)
    row = engine.balance_operation(login, Cmd.BALANCE, Decimal("250.5"), "D-0123456789ABC and what others add to it")
    credit = engine.balance_operation(login, Cmd.CREDIT, Decimal(50), "bonus")
    assert (row.cmd, row.profit, row.comment, row.symbol) == (6, Decimal("250.50"), "D-0123456789ABC and what others", "")
    assert row.close_time == row.open_time == engine.now_s()
    state = engine.login(login)
    assert (state.balance, state.credit, state.equity) == (Decimal("250.50"), Decimal(50), Decimal("300.50"))
    assert engine.users.sums(login) == (Decimal("250.50"), Decimal(50))
    told = news(double, DealEvent)
    assert [(event.deal.ticket, event.deal.profit) for event in told] == [(2 * row.order, row.profit), (2 * credit.order, 50)]


def test_free_money_is_what_open_trades_leave(engine, new_login):
    login = new_login(money="1500")
    engine.open(login, "USDJPY", Cmd.BUY, LOT)
    free = engine.login(login).margin_free
    assert refusal(engine.balance_operation, login, Cmd.BALANCE, -free - Decimal("0.01"), "") == 134
    engine.balance_operation(login, Cmd.BALANCE, -free, "")
    assert engine.login(login).margin_free == 0


def test_a_cent_login_counts_in_cents(engine, new_login):
    login = new_login("cent-usc", money="100000")
    opened = engine.open(login, "EURUSD", Cmd.BUY, TENTH)
    engine.shift("EURUSD", 108)
    assert engine.close(opened.order).profit == Decimal("1000.00")


def test_what_a_dealer_edits_moves_the_money_along(double, engine, new_login, clock):
    login = new_login(money="1000")
    closed = engine.close(engine.open(login, "EURUSD", Cmd.BUY, TENTH).order)
    balance = engine.login(login).balance
    clock.move(seconds=5)
    news(double)
    edited = engine.edit(closed.order, profit=closed.profit + 5, storage=Decimal("-1.5"), comment="corrected")
    assert engine.login(login).balance == balance + Decimal("3.50")
    assert edited.timestamp == closed.timestamp + 5
    told = news(double)
    assert kinds(told) == ["deal.update", "account.state"]
    assert (told[0].deal.swap, told[0].deal.comment) == (Decimal("-1.50"), "corrected")
    assert refusal(engine.edit, closed.order, order=1) == 3
    assert refusal(engine.edit, closed.order, profit=Decimal("0.001")) == 3
    assert refusal(engine.edit, closed.order, close_time=0) == 3
    deposit = engine.trades(login)[0]
    assert engine.edit(deposit.order, profit=Decimal(900)).profit == 900
    assert engine.users.sums(login)[0] == engine.login(login).balance
    opened = engine.open(login, "EURUSD", Cmd.SELL, TENTH)
    assert refusal(engine.edit, opened.order, profit=Decimal(7)) == 3
    assert engine.edit(opened.order, open_price=opened.open_price + Decimal("0.00010")).profit == Decimal("0.20")


def test_a_row_that_is_deleted_takes_its_money_and_its_deals_along(double, engine, new_login):
    login = new_login(money="1000")
    closed = engine.close(engine.open(login, "EURUSD", Cmd.BUY, TENTH).order)
    opened = engine.open(login, "EURUSD", Cmd.BUY, TENTH)
    news(double)
    engine.delete(closed.order)
    engine.delete(opened.order)
    assert engine.login(login).balance == engine.login(login).equity == 1000
    told = news(double)
    assert kinds(told) == [
        *("deal.delete", "deal.delete", "account.state"),
        *("deal.delete", "position.delete", "account.state"),
    ]
    assert {event.deal.ticket for event in told if isinstance(event, DealEvent)} == {
        *(2 * closed.order, 2 * closed.order + 1, 2 * opened.order)
    }
    assert refusal(engine.trade, closed.order) == 3


def test_everything_is_there_after_a_restart(double, engine, new_login, tmp_path, clock):
    login = new_login(money="1000")
    opened = engine.open(login, "EURUSD", Cmd.BUY, TENTH, sl=Decimal("0.5"))
    engine.close(engine.open(login, "GBPUSD", Cmd.SELL, TENTH).order)
    engine.tick()
    rows, state, quote = engine.trades(), engine.login(login), engine.market.quote("EURUSD")
    numbers = [event.seq for event in events(double)]
    double.store.close()
    again = MT4Simulator(state_dir=tmp_path, password="secret", clock=clock, tick_s=0)
    assert (again.engine.trades(), again.engine.login(login)) == (rows, state)
    assert again.engine.market.quote("EURUSD") == quote
    assert again.engine.close(opened.order).order == opened.order
    assert again.engine.users.is_password(login, "main", "Main1234")
    assert [event.seq for event in events(again)] == [*numbers, *range(numbers[-1] + 1, numbers[-1] + 4)]
    again.store.close()


def test_what_fails_within_a_transaction_leaves_nothing_behind(double, engine, new_login):
    login = new_login(money="1000")
    before = (engine.trades(), engine.login(login), events(double), double.store.number("order"))

    def stumble():
        with double.store.transaction():
            engine.open(login, "EURUSD", Cmd.BUY, TENTH)
            engine.balance_operation(login, Cmd.BALANCE, Decimal(5), "")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stumble()
    assert (engine.trades(), engine.login(login), events(double), double.store.number("order")) == before
    with double.store.transaction():
        kept = engine.open(login, "EURUSD", Cmd.BUY, TENTH)
        assert refusal(engine.open, login, "EURUSD", Cmd.BUY, 50 * LOT) == 134
    assert [row.order for row in engine.open_trades(login)] == [kept.order]


def test_open_trades_are_told_anew_at_the_prices_of_now(double, engine, new_login):
    login = new_login(money="1000")
    opened = engine.open(login, "EURUSD", Cmd.BUY, TENTH)
    engine.shift("EURUSD", 208)
    news(double)
    engine.report_open()
    told = news(double)
    assert kinds(told) == ["position.update", "account.state"]
    assert (told[0].position.ticket, told[0].position.profit) == (opened.order, Decimal("20.00"))
    assert told[1].account.equity == Decimal("1020.00")


def test_what_was_changed_is_named_once(double, engine, new_login):
    login = new_login(money="1000")
    double.store.take_changes()
    row = engine.open(login, "EURUSD", Cmd.BUY, TENTH)
    changes = double.store.take_changes()
    assert (changes.orders, changes.logins) == ({row.order}, {login})
    assert not double.store.take_changes()
    engine.delete(row.order)
    assert double.store.take_changes().orders == {row.order}


def test_people_trade_with_what_they_have(double, engine, new_login, clock):
    logins = [new_login(group, money="10000") for group in ("std-usd", "std-eur", "ecn-usd", "cent-usc")]
    made = 0
    for _ in range(120):
        clock.move(seconds=10)
        engine.tick()
        made += double.trader.make(1)
    rows = [row for row in engine.trades() if row.is_trade]
    assert made > 60
    assert any(row.close_time for row in rows)
    for login in logins:
        state = engine.login(login)
        assert engine.users.sums(login) == (state.balance, state.credit)
        assert state.margin_free > 0


def test_a_book_that_is_asked_outside_of_transactions_writes_at_once(tmp_path):
    book = Book(tmp_path / "book.sqlite3")
    assert [book.next_number("n", 5) for _ in range(3)] == [5, 6, 7]
    book.close()
    again = Book(tmp_path / "book.sqlite3")
    assert again.number("n") == 7
    again.close()


def test_accounts_follow_their_deals_in_the_same_transaction(double, engine, new_login):
    login = new_login(money="1000")
    engine.close(engine.open(login, "EURUSD", Cmd.BUY, TENTH).order)
    told = [event for event in events(double) if isinstance(event, AccountEvent | DealEvent)]
    assert isinstance(told[-1], AccountEvent)
    assert told[-1].account == mt4.account_of(engine.login(login))
    assert contract_size(engine.trades(login)[0]) == 0


def test_times_are_the_servers_wall_clock(engine, new_login, clock):
    login = new_login(money="1000")
    assert engine.trades(login)[0].open_time == int((clock.moment + timedelta(hours=2)).timestamp())


def test_a_dealer_corrects_and_deletes_when_that_fault_is_on(double, engine, new_login, clock):
    login = new_login(money="1000")
    double.journal.faults.set(EventSettings(edits=1.0))
    edited = engine.close(engine.open(login, "EURUSD", Cmd.BUY, TENTH).order)
    double.dealer.act()
    assert engine.trade(edited.order) == edited
    clock.move(seconds=21)
    double.dealer.act()
    assert engine.trade(edited.order).profit == edited.profit + 1
    double.journal.faults.set(EventSettings(deletes=1.0))
    deleted = engine.close(engine.open(login, "EURUSD", Cmd.BUY, TENTH).order)
    clock.move(seconds=21)
    double.dealer.act()
    assert refusal(engine.trade, deleted.order) == 3
    assert engine.login(login).balance == 1000 + edited.profit + 1


def test_a_trade_of_the_past_is_over_at_once(double, engine, new_login):
    login = new_login(money="1000")
    hour_ago = engine.now_s() - 3600
    row = engine.enter(login, "EURUSD", Cmd.BUY, TENTH, price=Decimal("1.1"), profit=Decimal("-7.5"), closed_at=hour_ago)
    assert (row.open_time, row.close_time, row.profit) == (hour_ago, hour_ago, Decimal("-7.50"))
    assert engine.login(login).balance == Decimal("992.50")
    assert refusal(engine.enter, login, "EURUSD", 2, TENTH, price=row.open_price, profit=row.profit, closed_at=hour_ago) == 3
    late = engine.now_s() + 1
    assert refusal(engine.enter, login, "EURUSD", 0, TENTH, price=row.open_price, profit=row.profit, closed_at=late) == 3


def test_weeks_pass_at_once_and_alike_for_the_same_seed(tmp_path):
    ends = []
    for run in ("one", "two"):
        clock = VirtualClock(datetime(2026, 11, 20, 9, tzinfo=UTC))
        made = MT4Simulator(state_dir=tmp_path / run, password="secret", clock=clock, tick_s=0)
        gather(made.engine, 4)
        made.forward(timedelta(days=7), step=timedelta(hours=1), deals_a_step=2)
        ends.append((made.engine.trades(), [login.equity for login in made.engine.logins()]))
        made.store.close()
    rows, equities = ends[0]
    assert len([row for row in rows if row.close_time and row.is_trade]) > 20
    assert any(row.storage for row in rows)
    assert ends[0] == ends[1]
    assert len(set(equities)) == 4
