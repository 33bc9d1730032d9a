"""Hours, weekends, news and gaps; server clocks with their summer time; time that is driven."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.metatrader.events import DealEvent, decode
from app.metatrader.fields import write_deal
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.hours import Hours, news_factor
from app.metatrader.simulator.market import INSTRUMENTS, KEPT, Market
from app.metatrader.simulator.virtual_clock import VirtualClock

LOT = 100_000_000
EVER = (0, 2**62)
USER = {"Group": "real\\std\\usd", "Leverage": "100", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}
TUESDAY = datetime(2026, 11, 24, 12, tzinfo=UTC)


def wall_ms(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


def refusal(call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.retcode


@pytest.fixture
def make(tmp_path):
    """A function that makes a simulator with a clock of its own, not started."""
    made = []

    def build(start=TUESDAY, *, name="one", **settings):
        simulator = Simulator(
            state_dir=tmp_path / name, password="x", tick_s=0, clock=VirtualClock(start), **{"keeps_hours": True, **settings}
        )
        made.append(simulator)
        return simulator

    yield build
    for simulator in made:
        simulator.store.close()


def funded(simulator, money=100_000, **fields):
    login = simulator.control.users.add({**USER, **fields}).login
    simulator.exchange.balance_operation(login, 2, Decimal(money), "in")
    return login


@pytest.mark.parametrize(
    ("symbol", "moment", "is_open"),
    [
        ("EURUSD", (2026, 11, 23, 0, 0), True),
        ("EURUSD", (2026, 11, 27, 23, 59), True),
        ("EURUSD", (2026, 11, 28, 0, 0), False),
        ("EURUSD", (2026, 11, 29, 23, 59), False),
        ("XAUUSD", (2026, 11, 24, 0, 59), False),
        ("XAUUSD", (2026, 11, 24, 1, 0), True),
        ("DE40", (2026, 11, 24, 9, 59), False),
        ("DE40", (2026, 11, 24, 10, 0), True),
        ("DE40", (2026, 11, 24, 18, 30), False),
        ("US500", (2026, 11, 24, 16, 29), False),
        ("US500", (2026, 11, 24, 22, 59), True),
        ("US500", (2026, 11, 28, 18, 0), False),
    ],
)
def test_sessions(symbol, moment, is_open):
    assert Market(7, keeps_hours=True).is_open(symbol, wall_ms(*moment)) is is_open
    assert Market(7).is_open(symbol, wall_ms(*moment))


def test_a_closed_market_refuses(make):
    simulator = make(datetime(2026, 11, 24, 7, 0, tzinfo=UTC))  # 9:00 at the server
    exchange, login = simulator.exchange, funded(simulator)
    assert refusal(exchange.open, login, "DE40", 0, LOT) == 10018
    assert refusal(exchange.place_order, login, "DE40", 2, LOT, Decimal(1000)) == 10018
    exchange.clock.move(timedelta(hours=1))
    opened = exchange.open(login, "DE40", 0, LOT)
    exchange.clock.move(timedelta(hours=9))
    assert refusal(exchange.close, opened.position_ticket) == 10018
    exchange.clock.move(timedelta(hours=15))
    exchange.close(opened.position_ticket)
    exchange.clock.move(timedelta(days=4))  # Sunday
    assert refusal(exchange.open, login, "EURUSD", 0, LOT) == 10018


def test_prices_stand_still_at_the_weekend_and_open_with_a_gap():
    usual, gaps = [], []
    for seed in range(30):
        market = Market(seed, keeps_hours=True)
        market.advance(wall_ms(2026, 11, 27, 20, 0))
        before = market.mids["EURUSD"]
        market.advance(wall_ms(2026, 11, 27, 20, 1))
        usual.append(abs(market.mids["EURUSD"] - before))
        before = dict(market.mids)
        for hour in range(24):
            market.advance(wall_ms(2026, 11, 28, hour, 0))
        assert market.mids == before
        market.advance(wall_ms(2026, 11, 30, 0, 0))
        gaps.append(abs(market.mids["EURUSD"] - before["EURUSD"]))
    assert sorted(gaps)[15] > 10 * sorted(usual)[15]


def test_a_gap_may_leave_less_than_nothing(make):
    """A position that the weekend's gap ruins is closed at the first price after it, below zero; one group makes it good."""
    simulator = make(datetime(2026, 11, 27, 20, 0, tzinfo=UTC))
    exchange = simulator.exchange
    plain = funded(simulator, 300, Leverage="500")
    protected = funded(simulator, 4000, Group="real\\protected\\usd", Leverage="30")
    exchange.tick()
    for login in (plain, protected):
        exchange.open(login, "EURUSD", 0, LOT)
    exchange.clock.move(timedelta(days=1))
    exchange.shift("EURUSD", -6_000)  # nothing trades on Saturday: what has to be closed waits
    assert len(exchange.positions()) == 2
    exchange.clock.move(timedelta(days=2))
    exchange.tick()
    assert exchange.positions() == []
    assert exchange.state(plain).balance < 0
    assert exchange.state(protected).balance == 0
    last = simulator.store.deals(protected, *EVER)[-1]
    assert (last.action, last.reason) == (19, 5)
    assert last.profit > 0
    for login in (plain, protected):
        assert exchange.check_balance(login).agrees


def test_spreads_widen_around_midnight_and_the_edges_of_sessions():
    def spread(symbol, *moment):
        market = Market(7, keeps_hours=True)
        market.advance(wall_ms(*moment))
        quote = market.quote(symbol)
        return (quote.ask - quote.bid) / INSTRUMENTS[symbol].spread / news_factor(7, wall_ms(*moment))

    assert spread("EURUSD", 2026, 11, 24, 7, 0) == 1
    assert spread("EURUSD", 2026, 11, 23, 0, 10) == 5
    assert spread("EURUSD", 2026, 11, 24, 23, 57) == spread("GBPJPY", 2026, 11, 24, 0, 5) == 3
    assert spread("US500", 2026, 11, 24, 16, 35) == 3
    assert spread("US500", 2026, 11, 24, 22, 57) == 2


def test_news_widens_everything_for_some_minutes():
    day = wall_ms(2026, 11, 24)
    minutes = [minute for minute in range(24 * 60) if news_factor(7, day + minute * 60_000) > 1]
    assert 3 <= len(minutes) <= 9
    assert all(9 * 60 <= minute < 21 * 60 + 3 for minute in minutes)
    assert minutes != [minute for minute in range(24 * 60) if news_factor(8, day + minute * 60_000) > 1]
    market = Market(7)
    market.advance(day + minutes[0] * 60_000)
    quote = market.quote("EURGBP")
    assert quote.ask - quote.bid == INSTRUMENTS["EURGBP"].spread * news_factor(7, day + minutes[0] * 60_000)
    market.advance(day)
    assert market.quote("EURGBP").ask - market.quote("EURGBP").bid == INSTRUMENTS["EURGBP"].spread


def test_a_day_is_a_session_and_a_week_is_one_where_nothing_closes():
    whole, part = Hours(), Hours(60, 120)
    assert whole.session(wall_ms(2026, 11, 23)) == whole.session(wall_ms(2026, 11, 27, 23))
    assert whole.session(wall_ms(2026, 11, 23)) != whole.session(wall_ms(2026, 11, 30))
    assert part.session(wall_ms(2026, 11, 23, 1)) != part.session(wall_ms(2026, 11, 24, 1))
    assert part.session(wall_ms(2026, 11, 23, 2)) is None


def test_weeks_pass_in_a_moment(make):
    """Fourteen nights of swap in two weeks, a third of them at once on Wednesdays, none where the group has no swaps."""
    simulator = make()
    exchange = simulator.exchange
    logins = [funded(simulator), funded(simulator, Group="real\\swapfree\\usd")]
    exchange.tick()
    for login in logins:
        exchange.open(login, "EURUSD", 0, LOT // 10)
        exchange.open(login, "EURUSD", 1, LOT // 10)
    simulator.forward(timedelta(days=14), step=timedelta(hours=1))
    assert exchange.clock() == TUESDAY + timedelta(days=14)
    assert [position.swap for position in exchange.positions(logins[0])] == [Decimal("-10.08"), Decimal("4.34")]
    assert {position.swap for position in exchange.positions(logins[1])} == {Decimal(0)}


def test_the_index_counts_friday_three_times(make):
    simulator = make(datetime(2026, 11, 26, 15, tzinfo=UTC))
    exchange, login = simulator.exchange, funded(simulator)
    exchange.tick()
    exchange.open(login, "US500", 0, LOT)
    nights = []
    for _ in range(3):
        simulator.forward(timedelta(days=1), step=timedelta(hours=6))
        nights.append(exchange.positions(login)[0].swap)
    assert nights == [Decimal(-11), Decimal(-44), Decimal(-44)]  # Thursday's once, Friday's three times, Saturday's not


def test_the_same_seed_and_the_same_calls_make_the_same_weeks(make):
    def play(name, seed):
        simulator = make(name=name, seed=seed)
        for group in ("real\\std\\usd", "real\\netting\\raw", "real\\std\\jpy", "real\\cent\\usc"):
            funded(simulator, 1_000_000, Group=group)
        simulator.forward(timedelta(days=9), step=timedelta(minutes=30), deals_a_step=2)
        return [write_deal(deal) for deal in simulator.store.deals(None, *EVER)]

    first = play("first", 5)
    assert first == play("second", 5)
    assert first != play("third", 6)
    assert len(first) > 400
    assert {deal["Entry"] for deal in first} == {"0", "1", "2", "3"}


def test_real_time_cannot_be_hurried(simulator):
    with pytest.raises(TypeError):
        simulator.forward(timedelta(days=1))


@pytest.mark.parametrize(
    ("zone", "change", "wall_before"),
    [
        ("GMT+2/EU", datetime(2026, 10, 25, 1, tzinfo=UTC), (2026, 10, 25, 3, 30)),
        ("GMT+2/US", datetime(2026, 11, 1, 6, tzinfo=UTC), (2026, 11, 1, 8, 30)),
        ("GMT-5/US", datetime(2026, 11, 1, 6, tzinfo=UTC), (2026, 11, 1, 1, 30)),
    ],
)
def test_the_hour_that_comes_twice(make, zone, change, wall_before):
    """Deals of both passes carry the same wall clock; their tickets and the events' offsets tell them apart."""
    simulator = make(change - timedelta(minutes=30), time_zone=zone, keeps_hours=False)
    exchange, login = simulator.exchange, funded(simulator)
    first = exchange.open(login, "EURUSD", 0, LOT // 10)
    exchange.clock.move(timedelta(hours=1))
    second = exchange.close(first.position_ticket)
    assert first.server_time_ms == second.server_time_ms == wall_ms(*wall_before)
    assert second.ticket > first.ticket
    rows = simulator.store.outbox(100)
    events = [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]
    told = {event.deal.ticket: event for event in events if isinstance(event, DealEvent)}
    assert told[first.ticket].utc_offset_min - told[second.ticket].utc_offset_min == 60
    assert told[second.ticket].happened_at - told[first.ticket].happened_at == timedelta(hours=1)
    read = exchange.zone.in_order([first.server_time_ms, second.server_time_ms])
    assert [moment.is_ambiguous for moment in read] == [True, True]


def test_zones_of_two_servers_change_on_different_days(make):
    european, american = make(name="eu", time_zone="GMT+2/EU"), make(name="us", number=2, time_zone="GMT+2/US")
    between = datetime(2026, 10, 28, 12, tzinfo=UTC)  # Europe has changed, America has not
    assert european.exchange.zone.offset_min(between) == 120
    assert american.exchange.zone.offset_min(between) == 180


def test_a_market_goes_on_where_it_stopped(tmp_path):
    def market(simulator):
        return simulator.exchange.market.mids, simulator.exchange.market.wall_ms, simulator.exchange.market.step

    clock = VirtualClock(TUESDAY)
    first = Simulator(state_dir=tmp_path, password="x", tick_s=0, clock=clock, keeps_hours=True)
    first.forward(timedelta(minutes=5))
    stood = market(first)
    first.store.close()
    again = Simulator(state_dir=tmp_path, password="x", tick_s=0, clock=clock, keeps_hours=True)
    assert market(again) == stood
    assert set(stood[0]) == set(KEPT)
    again.store.close()


def test_a_clock_that_is_driven():
    seconds = [100.0]
    clock = VirtualClock(TUESDAY, speed=60, timer=lambda: seconds[0])
    assert clock() == TUESDAY
    seconds[0] += 10
    assert clock() == TUESDAY + timedelta(minutes=10)
    clock.move(timedelta(hours=1))
    clock.set_speed(0)
    seconds[0] += 10
    assert clock() == TUESDAY + timedelta(hours=1, minutes=10)
    with pytest.raises(ValueError, match="back"):
        clock.move(-timedelta(seconds=1))
    with pytest.raises(ValueError, match="zone"):
        VirtualClock(datetime(2026, 1, 1))
