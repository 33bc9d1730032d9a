"""Many accounts, their pace, what they cost, and histories made quickly; several servers side by side."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.metatrader.simulator import Simulator
from app.metatrader.simulator.crowd import MAIN_PASSWORD, gather
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.filling import fill
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.load import Meter, Pace
from app.metatrader.simulator.pricing import minor, profit

LOT = 100_000_000
EVER = (0, 2**62)
USER = {"Group": "real\\std\\usd", "Leverage": "100", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}


def crowd(simulator, count, **named):
    return gather(simulator.control.users, simulator.exchange, count, seed=7, **named)


def refusal(call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.retcode


def test_pace_is_even_and_makes_good_for_a_second_at_most():
    pace = Pace(200, 0.0)
    assert [pace.due(now) for now in (0.125, 0.25, 0.375)] == [25, 25, 25]
    assert pace.due(100.0) == 200
    slow = Pace(0.1, 0.0)
    assert [slow.due(now) for now in (5, 9.9, 10.1, 15, 20.1)] == [0, 0, 1, 0, 1]


def test_a_crowd_is_opened_once_and_funded(simulator, new_login):
    own = new_login(money="50")
    logins = crowd(simulator, 40)
    assert len(logins) == 40
    assert own in logins
    assert crowd(simulator, 40) == logins
    assert len(crowd(simulator, 45)) == 45
    for login in logins:
        assert simulator.exchange.check_balance(login).agrees
        assert login == own or 5_000 <= simulator.exchange.state(login).balance <= 50_000
    simulator.control.users.check_password(logins[-1], "main", MAIN_PASSWORD)
    assert len({simulator.exchange.account(login).group_name for login in logins}) > 3


def test_the_crowd_makes_as_many_deals_as_wished(simulator, clock):
    crowd(simulator, 200)
    before, meter = simulator.store.number("deal"), Meter(simulator.store)
    made = 0
    for _ in range(10):
        clock.move(seconds=10)
        with simulator.store.transaction():
            simulator.exchange.tick()
            made += simulator.trader.make(20)
    assert made == simulator.store.number("deal") - before - stop_outs(simulator)
    assert 195 <= made <= 220
    assert meter.total().deals_per_second > 0
    assert meter.read().memory_mb > 10
    assert str(meter.read()).endswith("events wait")
    for login in simulator.store.logins():
        assert simulator.exchange.check_balance(login).agrees


def stop_outs(simulator):
    """Deals that nobody made: closed by the server at a tick."""
    return sum(deal.reason in (3, 4, 5) for deal in simulator.store.deals(None, *EVER) if deal.entry == 1)


def test_nobody_makes_deals_without_money(simulator):
    crowd(simulator, 3, is_funded=False)
    assert simulator.trader.make(5) == 0


@pytest.fixture
def history(simulator):
    logins = crowd(simulator, 50, is_funded=False)
    told = []
    assert fill(simulator.exchange, logins, 4_001, 14, seed=7, tell=told.append) == 4_050
    assert told == [4_050]
    return simulator.store.deals(None, *EVER)


def test_a_history_adds_up(simulator, history):
    assert len(history) == 4_050
    assert Counter(deal.action for deal in history)[2] == 50
    volumes = Counter()
    for deal in history:
        if deal.is_trade:
            volumes[deal.position_ticket] += deal.volume * (1 if deal.entry == 0 else -1)
    assert set(volumes.values()) == {0}
    for login in simulator.store.logins():
        check = simulator.exchange.check_balance(login)
        assert check.agrees
        assert check.balance > 0
    assert len({deal.login for deal in history if deal.is_trade}) == 50


def test_a_history_runs_from_monday_to_friday_in_the_order_of_tickets(simulator, history):
    moments = [deal.server_time_ms for deal in history]
    assert moments == sorted(moments)
    days = {datetime.fromtimestamp(moment / 1000, UTC).date() for moment in moments}
    assert len(days) == 10
    assert all(day.weekday() < 5 for day in days)
    assert max(moments) < simulator.exchange.now_ms()
    first = simulator.exchange.open(history[0].login, "EURUSD", 0, LOT // 100)
    assert first.ticket == history[-1].ticket + 1
    assert first.position_ticket > max(deal.order_ticket for deal in history)


def test_a_historys_profit_is_the_engines(simulator, history):
    """Each exit's profit follows from its prices by the engine's own arithmetic."""
    exchange = simulator.exchange
    exits = [deal for deal in history if deal.entry == 1]
    assert any(deal.profit < 0 for deal in exits)
    assert any(deal.swap < 0 for deal in exits)
    for deal in exits:
        group = GROUPS[exchange.account(deal.login).group_name]
        opened, closed = (price.scaleb(deal.digits) for price in (deal.price_position, deal.price))
        instrument = exchange.market.quote(deal.symbol).symbol
        result = profit(exchange.market, instrument, 1 - deal.action, opened, closed, deal.volume, group.currency, group.digits)
        assert (minor(deal.profit, group.digits), deal.rate_profit) == (result.minor, result.rate)
        assert deal.price == (deal.market_bid if deal.action else deal.market_ask)


def test_a_history_of_an_old_server_has_no_market_prices(simulator):
    fill(simulator.exchange, crowd(simulator, 3, is_funded=False), 20, 3, has_market_prices=False)
    assert {(deal.market_bid, deal.market_ask) for deal in simulator.store.deals(None, *EVER)} == {(0, 0)}


def test_the_same_seed_makes_the_same_history(tmp_path, clock):
    def make(name, seed):
        simulator = Simulator(state_dir=tmp_path / name, password="x", clock=clock, tick_s=0)
        fill(simulator.exchange, crowd(simulator, 5, is_funded=False), 100, 5, seed=seed)
        deals = simulator.store.deals(None, *EVER)
        simulator.store.close()
        return deals

    assert make("a", 1) == make("b", 1) != make("c", 2)


def test_nothing_to_fill(simulator):
    with pytest.raises(ValueError, match="logins"):
        fill(simulator.exchange, [], 100, 5)


def test_two_servers_give_out_different_numbers(tmp_path, clock):
    one = Simulator(state_dir=tmp_path / "one", password="x", clock=clock, tick_s=0)
    two = Simulator(state_dir=tmp_path / "two", password="x", clock=clock, tick_s=0, code="sim2", number=2)
    try:
        first, second = one.control.users.add(USER), two.control.users.add({**USER, "Group": "real2\\std\\usd"})
        assert (first.login, second.login) == (100_001, 1_100_001)
        deals = [
            simulator.exchange.balance_operation(login, 2, Decimal(10_000), "in")
            for simulator, login in ((one, first.login), (two, second.login))
        ]
        assert [deal.ticket for deal in deals] == [500_001, 1_000_500_001]
        assert two.exchange.open(second.login, "EURUSD", 0, LOT // 10).position_ticket == 1_000_700_001
        assert refusal(two.exchange.change_group, second.login, "real\\std\\usd") == 3009
        assert refusal(two.exchange.logins.next_login, 100_005) == 3003
        assert refusal(one.exchange.logins.next_login, 1_100_001) == 3003
        two.store.set_number("login", 2_100_000)
        assert refusal(two.exchange.logins.next_login) == 3002
        streams = {stream for (stream,) in two.store._all("SELECT stream FROM outbox")}
        assert streams == {"mt:sim2:0"}
    finally:
        one.store.close()
        two.store.close()


def test_open_positions_are_reported_in_turn(simulator, exchange):
    logins = crowd(simulator, 5)
    for login in logins:
        exchange.open(login, "EURUSD", 0, LOT // 100)
    told = []
    for _ in range(3):
        size = simulator.store.outbox_size()
        exchange.report_open(2)
        rows = simulator.store.outbox(100, after_id=size)
        told += [fields["key"] for _, _, fields in rows if fields["kind"] == "account.state"]
    assert told == [str(login) for login in [*logins, logins[0]]]
