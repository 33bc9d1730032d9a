"""The simulator as an event source: what the stream tells is what the server did, also when Redis was away."""

from __future__ import annotations

import time
from decimal import Decimal

from redis import Redis

from app import embedded
from app.metatrader.events import AccountEvent, ControlEvent, DealEvent, PositionEvent, SequenceWatch, decode
from app.metatrader.simulator import SERVER_CODE, Simulator
from app.metatrader.stream import StreamConsumer, stream_names
from tests.integration.metatrader_link.conftest import PASSWORD, USER
from tests.integration.trading.house import wait_until

EVER = (0, 2**62)


class Reader:
    """Collects events until they are what is waited for."""

    def __init__(self, redis):
        self.consumer = StreamConsumer(redis, stream_names(SERVER_CODE), name="test")
        self.consumer.ensure_group()
        self.events = []

    def until(self, condition, seconds=15):
        deadline = time.monotonic() + seconds
        while not condition(self.events):
            assert time.monotonic() < deadline, [event.kind for event in self.events]
            batch = self.consumer.read(block_ms=100)
            self.events += [decode(entry.fields) for entry in batch.entries]
            self.consumer.ack(batch.entries)
        return self.events

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def deals_of(events):
    return {event.deal.ticket: event.deal for event in events if isinstance(event, DealEvent)}


def test_a_life_is_told_as_it_happened(simulator, redis, login):
    simulator.exchange.balance_operation(login, 2, Decimal(1000), "D-1")
    opened, closed = simulator.control.trade(login, "EURUSD", "sell", Decimal("0.1"), move_points=-50)
    reader = Reader(redis)
    reader.until(lambda events: closed.ticket in deals_of(events))
    final = simulator.exchange.state(login)
    reader.until(lambda events: isinstance(events[-1], AccountEvent) or reader.of(AccountEvent)[-1].account == final)
    assert [event.kind for event in reader.events][:2] == ["control.connected", "control.sync_done"]
    assert deals_of(reader.events) == {deal.ticket: deal for deal in simulator.store.deals(login, *EVER)}
    changes = [event.change for event in reader.of(PositionEvent)]
    assert (changes[0], changes[-1]) == ("add", "delete")
    assert set(changes[1:-1]) <= {"update"}  # the regular report of what is open may fall in between
    assert reader.of(AccountEvent)[-1].account == final
    watch = SequenceWatch()
    assert [event.key for event in reader.events if watch.gap("s", event)] == []
    wait_until(lambda: simulator.store.outbox_size() == 0)  # emptied a moment after the stream has it
    assert opened.position_ticket == closed.position_ticket


def test_people_trade_by_themselves_and_the_market_moves(tmp_path, redis, base_settings):
    with Simulator(
        state_dir=tmp_path, password=PASSWORD, redis_url=base_settings.redis_url, deals_per_minute=6000, tick_s=0.1
    ) as simulator:
        login = simulator.control.users.add(USER).login
        simulator.exchange.balance_operation(login, 2, Decimal(5000), "")
        reader = Reader(redis)
        reader.until(lambda events: len(deals_of(events)) >= 4)
        reader.until(lambda events: any(event.kind == "position.update" for event in events))
        reader.until(lambda events: sum(event.kind == "control.heartbeat" for event in events) >= 2)
        assert simulator.exchange.market.step > 5


def test_nothing_is_lost_while_redis_is_away_or_the_simulator_restarts(tmp_path):
    servers = embedded.start(tmp_path / "redis", durable=True, postgres=False)
    state = tmp_path / "simulator"
    url = servers.redis_url
    with Simulator(state_dir=state, password=PASSWORD, redis_url=url, tick_s=0) as simulator:
        login = simulator.control.users.add(USER).login
        first = simulator.exchange.balance_operation(login, 2, Decimal(1000), "first")
        with Redis.from_url(url) as redis:
            Reader(redis).until(lambda events: first.ticket in deals_of(events))
        servers.stop()
        second = simulator.exchange.balance_operation(login, 2, Decimal(1000), "second")
    servers = embedded.start(tmp_path / "redis", durable=True, postgres=False)
    try:
        assert servers.redis_url == url
        with Simulator(state_dir=state, password=PASSWORD, redis_url=url, tick_s=0) as simulator, Redis.from_url(url) as redis:
            third = simulator.exchange.balance_operation(login, 2, Decimal(1000), "third")
            reader = Reader(redis)
            reader.until(lambda events: third.ticket in deals_of(events))
            everything = [decode(fields) for _, fields in redis.xrange(f"mt:{SERVER_CODE}:0")]
        assert list(deals_of(everything)) == [first.ticket, second.ticket, third.ticket]
        watch = SequenceWatch()
        assert [event.key for event in everything if watch.gap("s", event)] == []
        signals = [event.kind for event in everything if isinstance(event, ControlEvent)]
        assert signals.count("control.connected") == 2
        assert signals.count("control.disconnected") == 1
    finally:
        servers.stop()
