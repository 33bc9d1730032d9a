"""The MT4 double on a real Valkey: what its stream tells is what its rows say, and requests are answered."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.metatrader import mt4
from app.metatrader.bridge.asking import BridgeBackfill
from app.metatrader.errors import NotKnown
from app.metatrader.events import AccountEvent, ControlEvent, DealEvent, PositionEvent, SequenceWatch, decode
from app.metatrader.mt4 import Cmd
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.event_faults import EventSettings
from app.metatrader.simulator.mt4 import SERVER_CODE, MT4Simulator
from app.metatrader.simulator.mt4.telling import contract_size
from app.metatrader.stream import StreamConsumer, stream_names

LOT = Decimal("0.1")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "server"


def begin(folder, redis_url):
    return MT4Simulator(state_dir=folder, password="secret", redis_url=redis_url, tick_s=0)


@pytest.fixture
def double(folder, redis, base_settings):
    with begin(folder, base_settings.redis_url) as running:
        yield running


def new_login(double, money="1000"):
    login = double.engine.users.add("std-usd", 100, "Main1234", "Look1234").login
    double.engine.balance_operation(login, Cmd.BALANCE, Decimal(money), "D-1")
    return login


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


def told(events):
    """The deals that somebody has who followed the stream."""
    deals = {}
    for event in events:
        if isinstance(event, DealEvent):
            deals[event.deal.ticket] = event.deal
            if event.kind == "deal.delete":
                del deals[event.deal.ticket]
    return deals


def deals_of(double):
    rows = double.engine.trades()
    return {deal.ticket: deal for row in rows for deal in mt4.deals_of(row, contract_size(row))}


def test_a_life_is_told_as_it_happened(double, redis):
    login = new_login(double)
    opened = double.engine.open(login, "EURUSD", Cmd.SELL, LOT)
    double.engine.close(opened.order, Decimal("0.04"))
    rest = double.engine.open_trades(login)[0]
    double.engine.close(rest.order)
    reader, wanted = Reader(redis), deals_of(double)
    reader.until(lambda events: told(events) == wanted and isinstance(events[-1], AccountEvent))
    assert [event.kind for event in reader.events][:2] == ["control.connected", "control.sync_done"]
    changes = [event.kind for event in reader.events if isinstance(event, PositionEvent)]
    assert changes == ["position.add", "position.delete", "position.add", "position.delete"]
    assert reader.events[-1].account == mt4.account_of(double.engine.login(login))
    assert {event.src for event in reader.events} == {"bridge"}
    watch = SequenceWatch()
    assert [event.key for event in reader.events if watch.gap("s", event)] == []


def test_numbers_go_on_over_restarts_and_what_redis_did_not_take_comes_later(folder, redis, base_settings):
    absent = MT4Simulator(state_dir=folder, password="secret", redis_url="redis://127.0.0.1:1", tick_s=0)
    with absent:
        login = new_login(absent)
        absent.engine.open(login, "EURUSD", Cmd.BUY, LOT)
        assert absent.store.outbox_size() > 5
    with begin(folder, base_settings.redis_url) as again:
        again.engine.close(again.engine.open_trades(login)[0].order)
        reader, wanted = Reader(redis), deals_of(again)
        reader.until(lambda events: told(events) == wanted)
    assert [event.seq for event in reader.events] == list(range(1, len(reader.events) + 1))
    assert len({event.boot for event in reader.events}) == 2
    signals = [event.kind for event in reader.events if isinstance(event, ControlEvent)]
    assert signals[:4] == ["control.connected", "control.sync_done", "control.disconnected", "control.connected"]


def test_events_come_twice_and_out_of_order_when_that_is_wished(double, redis):
    double.journal.faults.set(EventSettings(duplicates=1.0, reorder_s=0.5))
    login = new_login(double)
    for _ in range(4):
        double.engine.close(double.engine.open(login, "EURUSD", Cmd.BUY, LOT).order)
    reader = Reader(redis)
    reader.until(lambda events: len([one for one in events if isinstance(one, DealEvent)]) >= 18)
    numbers = [event.seq for event in reader.events]
    assert numbers != sorted(numbers)
    assert len(numbers) > len(set(numbers))


def test_what_happens_while_the_bridge_is_away_is_never_told(double, redis):
    login = new_login(double)
    double.journal.faults.lose(double.engine.clock(), 3600)
    double.engine.balance_operation(login, Cmd.BALANCE, Decimal(5), "lost")
    double.journal.faults.lose(double.engine.clock(), 0)
    double.engine.balance_operation(login, Cmd.BALANCE, Decimal(6), "told")
    reader = Reader(redis)
    reader.until(lambda events: any(isinstance(one, DealEvent) and one.deal.comment == "told" for one in events))
    assert "lost" not in [event.deal.comment for event in reader.events if isinstance(event, DealEvent)]
    assert [event.kind for event in reader.events if isinstance(event, ControlEvent)][2:] == [
        *("control.disconnected", "control.connected", "control.sync_done")
    ]


def test_what_is_asked_for_is_answered_whole(double, redis):
    login, other = new_login(double), new_login(double)
    closed = double.engine.close(double.engine.open(login, "EURUSD", Cmd.BUY, LOT).order)
    opened = double.engine.open(other, "USDJPY", Cmd.SELL, LOT)
    bid = double.engine.market.quote("EURUSD").bid_price
    placed = double.engine.place(other, "EURUSD", Cmd.BUY_LIMIT, LOT, bid - Decimal("0.01"))
    asker = BridgeBackfill(redis, SERVER_CODE, server_zone("GMT+2/EU"), ["std-*"], timeout_s=20)
    now = datetime.now(UTC)
    found = list(asker.deals(now - timedelta(minutes=30), now + timedelta(minutes=1)))
    assert {deal.ticket: deal for deal in found} == deals_of(double)
    assert [position.ticket for position in asker.positions()] == [opened.order]
    assert [order.ticket for order in asker.orders()] == [placed.order]
    assert list(asker.accounts()) == [mt4.account_of(one) for one in double.engine.logins()]
    witness = asker.witness
    assert witness.deal(mt4.closing_ticket(closed.order)).profit == closed.profit
    assert witness.get_account(login).balance == double.engine.login(login).balance
    assert witness.order(closed.order).ticket == closed.order
    with pytest.raises(NotKnown):
        witness.deal(mt4.closing_ticket(opened.order))
    assert list(BridgeBackfill(redis, SERVER_CODE, server_zone("GMT+2/EU"), ["ecn-*"], timeout_s=20).accounts()) == []
