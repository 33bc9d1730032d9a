"""Faults of events on a real Valkey: what readers of the stream get to see, and that nothing else is lost."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.metatrader.events import ControlEvent, DealEvent, MalformedEvent, SequenceWatch, decode
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.event_faults import EventSettings
from app.metatrader.simulator.faults import parse_event_faults
from tests.integration.metatrader_link.conftest import PASSWORD, USER

STREAM = "mt:sim:0"


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def start(tmp_path, redis, base_settings, clock):
    """A function that starts a simulator with a line of faults."""
    running = []

    def make(line=""):
        one = Simulator(
            state_dir=tmp_path / "server",
            password=PASSWORD,
            redis_url=base_settings.redis_url,
            tick_s=0,
            clock=clock,
            faults=parse_event_faults(line),
        )
        running.append(one.start())
        return one

    yield make
    for one in running:
        one.stop()


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def read(redis):
    """Events of the stream in their order, and the reasons of what is none."""
    events, reasons = [], []
    for _, fields in redis.xrange(STREAM):
        try:
            events.append(decode(fields))
        except MalformedEvent as error:
            reasons.append(error.reason)
    return events, reasons


def deals(redis):
    return [(event.kind, event.deal.ticket) for event in read(redis)[0] if isinstance(event, DealEvent)]


def deposit(simulator, login, count):
    return [simulator.exchange.balance_operation(login, 2, Decimal(n + 1), "x").ticket for n in range(count)]


def test_duplicates_come_twice_and_nothing_is_missing(start, redis):
    simulator = start("duplicates=30%")
    tickets = deposit(simulator, simulator.control.users.add(USER).login, 60)
    until(lambda: simulator.store.outbox_size() == 0)
    seen = Counter(ticket for _, ticket in deals(redis))
    assert set(seen) == set(tickets)
    assert set(seen.values()) == {1, 2}


def test_a_reorder_window_changes_the_order_and_sends_all(start, redis, clock):
    simulator = start("reorder=5s")
    login = simulator.control.users.add(USER).login
    until(lambda: simulator.store.outbox_size() > 0)
    tickets = []
    for _ in range(20):
        tickets += deposit(simulator, login, 1)
        clock.move(1)
    clock.move(5)
    until(lambda: simulator.store.outbox_size() == 0)
    seen = [ticket for _, ticket in deals(redis)]
    assert sorted(seen) == tickets
    assert seen != tickets
    watch = SequenceWatch()
    assert any(watch.gap(STREAM, event) for event in read(redis)[0])


def test_held_back_events_are_sent_at_the_stop(start, redis):
    simulator = start("reorder=50s")
    tickets = deposit(simulator, simulator.control.users.add(USER).login, 5)
    simulator.stop()
    assert sorted(ticket for _, ticket in deals(redis)) == tickets


def test_the_order_of_the_same_seed_is_the_same(tmp_path, redis, base_settings, clock):
    orders = []
    for run in ("one", "two"):
        redis.flushdb()
        with Simulator(
            state_dir=tmp_path / run,
            password=PASSWORD,
            redis_url=base_settings.redis_url,
            tick_s=0,
            clock=Clock(),
            faults=parse_event_faults("reorder=50s,duplicates=20%,garbage=10%"),
        ) as simulator:
            deposit(simulator, simulator.control.users.add(USER).login, 30)
        events, reasons = read(redis)
        orders.append(([(event.kind, event.key) for event in events if not isinstance(event, ControlEvent)], reasons))
    assert orders[0] == orders[1]
    assert len(orders[0][0]) > 60


def test_a_gap_loses_events_and_says_so(start, redis, clock):
    simulator = start()
    login = simulator.control.users.add(USER).login
    before = deposit(simulator, login, 3)
    simulator.journal.faults.lose(clock(), 30)
    lost = deposit(simulator, login, 3)
    clock.move(31)
    after = deposit(simulator, login, 3)
    until(lambda: simulator.store.outbox_size() == 0)
    assert [ticket for _, ticket in deals(redis)] == before + after
    assert [simulator.store.deal(ticket) is not None for ticket in lost] == [True] * 3, "the server has them all the same"
    signals = [event.change for event in read(redis)[0] if isinstance(event, ControlEvent) and event.change != "heartbeat"]
    assert signals[-3:] == ["disconnected", "connected", "sync_done"]
    watch = SequenceWatch()
    assert not any(watch.gap(STREAM, event) for event in read(redis)[0]), "only the signals tell of it"


def test_gaps_in_every_period(start, redis, clock):
    simulator = start("gap=30s/2m")
    login = simulator.control.users.add(USER).login
    for _ in range(60):
        deposit(simulator, login, 1)
        clock.move(6)
    until(lambda: simulator.store.outbox_size() == 0)
    arrived = len(deals(redis))
    assert 60 * 0.65 <= arrived <= 60 * 0.85
    signals = Counter(event.change for event in read(redis)[0] if isinstance(event, ControlEvent))
    assert signals["disconnected"] >= 2


def test_garbage_comes_beside_the_events(start, redis):
    simulator = start("garbage=60%")
    tickets = deposit(simulator, simulator.control.users.add(USER).login, 80)
    until(lambda: simulator.store.outbox_size() == 0)
    assert [ticket for _, ticket in deals(redis)] == tickets
    _, reasons = read(redis)
    assert len(reasons) > 40
    for part in ("JSON", "unknown version", "unknown kind", "Volume", "impossible time", "UTF-8"):
        assert any(part in reason for reason in reasons), (part, reasons)


def test_holding_back_delays_and_loses_nothing(start, redis, clock):
    simulator = start()
    login = simulator.control.users.add(USER).login
    until(lambda: simulator.store.outbox_size() == 0)
    simulator.journal.faults.hold(clock(), 10)
    tickets = deposit(simulator, login, 4)
    time.sleep(0.3)  # time enough to send, if it did
    assert deals(redis) == []
    clock.move(10)
    until(lambda: simulator.store.outbox_size() == 0)
    assert [ticket for _, ticket in deals(redis)] == tickets


def test_the_dealer_edits_and_deletes_later(start, redis, clock):
    simulator = start("edits=50%,deletes=50%")
    login = simulator.control.users.add(USER).login
    simulator.exchange.balance_operation(login, 2, Decimal(26_000), "deposit")
    closed = [simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"))[1].ticket for _ in range(12)]
    clock.move(21)
    until(lambda: sum(kind != "deal.add" for kind, _ in deals(redis)) == 12)
    later = {ticket: kind for kind, ticket in deals(redis) if kind != "deal.add"}
    assert set(later) == set(closed)
    assert set(later.values()) == {"deal.update", "deal.delete"}
    for ticket, kind in later.items():
        deal = simulator.store.deal(ticket)
        assert (deal is None) == (kind == "deal.delete")
        assert deal is None or deal.modification_flags
    check = simulator.exchange.check_balance(login)
    assert check.agrees


def test_switched_off_again_everything_comes_in_order(start, redis, clock):
    simulator = start("reorder=5s")
    simulator.journal.faults.set(EventSettings())
    tickets = deposit(simulator, simulator.control.users.add(USER).login, 20)
    until(lambda: simulator.store.outbox_size() == 0)
    assert [ticket for _, ticket in deals(redis)] == tickets
