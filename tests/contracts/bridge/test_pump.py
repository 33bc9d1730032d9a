"""From the API's callbacks through the outbox to Redis and a reader there."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.metatrader.bridge import worker
from app.metatrader.bridge.manager import Connection
from app.metatrader.bridge.outbox import Outbox
from app.metatrader.bridge.requests import read_request, requests_stream
from app.metatrader.bridge.session import Session
from app.metatrader.bridge.sinks import DealSink, Inbox, SessionSink, UserSink
from app.metatrader.events import SequenceWatch
from app.metatrader.platform import AccountState
from app.metatrader.stream import stream_name
from tests.contracts.bridge import fake_manager, house
from tests.contracts.bridge.house import mt_deal, mt_order, mt_position, mt_state, mt_user, until


def test_a_session_begins_with_connected_then_sync_done(server, loaded, reader):
    with house.Running(loaded):
        connected = reader.first("control.connected")
        done = reader.first("control.sync_done")
    assert connected.notes["address"] == "10.0.0.1:443"
    assert (connected.seq, done.seq) == (1, 2)
    assert connected.src == "bridge"
    goodbye = reader.first("control.disconnected")
    assert goodbye.notes["reason"] == "the bridge was stopped"


def test_sync_done_comes_once_per_connection(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.deal_add(mt_deal(1))
        reader.first("deal.add")
    assert len(reader.of("control.sync_done")) == 1


def test_a_deal_arrives_with_exact_numbers_in_server_time(server, loaded, reader):
    done_at = datetime.now(UTC) - timedelta(seconds=3)
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.deal_add(
            mt_deal(41, Profit=-0.1 - 0.2, Storage=-1.15, TimeMsc=house.wall_ms(done_at), Comment="Ωmega", Reason=16)
        )
        event = reader.first("deal.add")
    deal = event.deal
    assert (deal.ticket, deal.login, deal.volume, deal.symbol, deal.reason) == (41, 100001, 50_000_000, "EURUSD", 16)
    assert (deal.profit, deal.swap, deal.commission, deal.price) == (
        Decimal("-0.30"), Decimal("-1.15"), Decimal("-3.50"), Decimal("1.08435"),
    )  # fmt: skip
    assert deal.comment == "Ωmega"
    assert deal.server_time_ms == house.wall_ms(done_at)
    assert event.utc_offset_min == house.ZONE.offset_min(done_at)
    assert abs(event.happened_at - datetime.now(UTC)) < timedelta(seconds=30)
    assert event.rev == deal.fingerprint().hex()


def test_a_dealers_edit_and_deletion_keep_the_order_in_which_they_were_told(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.deal_add(mt_deal(7))
        server.deal_update(mt_deal(7, Price=1.09, ModificationFlags=2))
        server.deal_delete(mt_deal(7, Price=1.09, ModificationFlags=2))
        reader.first("deal.delete")
    told = [event for event in reader.read() if event.kind.startswith("deal.")]
    assert [event.kind for event in told] == ["deal.add", "deal.update", "deal.delete"]
    assert [event.deal.price for event in told] == [Decimal("1.08435"), Decimal("1.09000"), Decimal("1.09000")]
    assert told[1].deal.modification_flags == 2


def test_positions_and_orders_arrive(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.order_add(mt_order(9, TimeExpiration=house.wall_ms() // 1000 + 60))
        server.order_update(mt_order(9, State=4, VolumeCurrent=0, VolumeCurrentExt=0, TimeDoneMsc=house.wall_ms()))
        server.position_add(mt_position(12))
        server.position_update(mt_position(12, Volume=2000, VolumeExt=20_000_000))
        server.position_delete(mt_position(12, Volume=2000, VolumeExt=20_000_000))
        reader.first("position.delete")
    kinds = [event.kind for event in reader.read() if event.kind.partition(".")[0] in ("order", "position")]
    assert kinds == ["order.add", "order.update", "position.add", "position.update", "position.delete"]
    placed, filled = reader.of("order.add", "order.update")
    assert (placed.order.expiration_ms % 1000, placed.order.done_ms, placed.order.volume_current) == (0, 0, 50_000_000)
    assert (filled.order.state, filled.order.volume_current) == (4, 0)
    assert reader.of("position.update")[0].position.price_stop_loss == Decimal("1.07000")


def test_an_order_that_leaves_the_open_ones_because_it_is_done_was_not_deleted(server, loaded, reader):
    """The API calls both a deletion, and tells of the history to nobody."""
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.order_add(mt_order(9))
        server.order_delete(mt_order(9, State=2, TimeDoneMsc=house.wall_ms()))
        server.order_add(mt_order(10))
        server.order_delete(mt_order(10))
        deleted = reader.first("order.delete")
    told = [(event.kind, event.order.ticket) for event in reader.read() if event.kind.startswith("order.")]
    assert told == [("order.add", 9), ("order.update", 9), ("order.add", 10), ("order.delete", 10)]
    assert (reader.of("order.update")[0].order.state, deleted.order.state) == (2, 1)


def test_a_login_whose_deals_are_wiped_is_told_of(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.clean("OnDealClean", 5)  # gone itself by now
        server.clean("OnPositionClean", 100001)
        server.clean("OnDealClean", 100001)
        cleaned = reader.first("account.cleaned")
        state = reader.first("account.state")
    assert (cleaned.account.login, cleaned.account.group) == (100001, house.GROUP)
    assert cleaned.seq < state.seq
    assert len(reader.of("account.cleaned")) == 1


def test_a_deal_brings_the_state_of_its_login_after_it(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.deal_add(mt_deal(1))
        server.state(mt_state(Balance=996.5, Equity=1001.25))
        state = reader.first("account.state")
    assert state.seq > reader.of("deal.add")[0].seq
    assert state.account == AccountState(
        login=100001, group=house.GROUP, leverage=100, rights=355, balance=Decimal("996.50"), credit=Decimal("0.00"),
        equity=Decimal("1001.25"), margin=Decimal("54.21"), margin_free=Decimal("958.09"), margin_level=Decimal("1867.37"),
        floating=Decimal("12.30"), digits_currency=2, mark="A-8QK2N0V5ZT3RM",
    )  # fmt: skip


def test_a_login_without_trades_has_its_balance_as_equity_and_its_groups_digits(server, loaded, reader):
    server.groups["real\\std\\jpy"] = house.mt_group("real\\std\\jpy", digits=0)
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.user_add(mt_user(100002, Group="real\\std\\jpy", Balance=5000.0, Credit=250.0))
        state = reader.first("account.state").account
    assert (state.balance, state.equity, state.margin, state.digits_currency) == (5000, 5250, 0, 0)


def test_many_changes_of_one_login_are_told_as_few_states_and_the_last_one_is_true(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        for number in range(1, 201):
            server.user_update(mt_user(Leverage=number))
        reader.first("account.state")
        until(lambda: reader.of("account.state")[-1].account.leverage == 200)
    assert len(reader.of("account.state")) < 10


def test_what_becomes_of_a_login(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.user_archive(mt_user(Balance=12.5))
        server.user_restore(mt_user(Balance=12.5))
        server.user_delete(mt_user(100009, Balance=0.0))
        deleted = reader.first("account.deleted")
    kinds = [event.kind for event in reader.read() if event.kind in ("account.archived", "account.restored", "account.deleted")]
    assert kinds == ["account.archived", "account.restored", "account.deleted"]
    assert deleted.account.login == 100009


def test_a_stop_out_tells_the_state(server, loaded, reader):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.state(mt_state(Equity=20.0, MarginLevel=36.9))
        server.stop_out(100001)
        assert reader.first("account.state").account.margin_level == Decimal("36.90")


def test_no_handler_for_passwords_exists():
    for name in ("OnUserAddExt", "OnUserChangePassword"):
        assert not hasattr(UserSink, name)


def test_events_of_two_shards_are_counted_apart_and_signals_go_to_both(server, loaded, redis):
    reader = house.Reader(redis, shards=2)
    server.user_add(mt_user(100002))
    with house.Running(replace(loaded, shards=2)):
        until(lambda: len(reader.of("control.sync_done")) == 2)
        for ticket in range(1, 7):
            server.deal_add(mt_deal(ticket, login=100001 + ticket % 2))
        until(lambda: len(reader.of("deal.add")) == 6)
    assert {event.deal.login % 2 for event in reader.of("deal.add")} == {0, 1}
    for shard in (0, 1):
        seqs = [int(fields[b"seq"]) for _, fields in redis.xrange(stream_name("live1", shard, 2))]
        assert seqs == list(range(1, len(seqs) + 1))


def test_numbers_go_on_over_a_restart_so_that_nobody_sees_a_gap(server, loaded, reader):
    for ticket in (1, 2):
        with house.Running(loaded):
            until(lambda ticket=ticket: len(reader.of("control.sync_done")) == ticket)
            server.deal_add(mt_deal(ticket))
            until(lambda ticket=ticket: len(reader.of("deal.add")) == ticket)
    events = reader.read()
    assert len({event.boot for event in events}) == 2
    watch = SequenceWatch()
    assert not any(watch.gap("mt:live1:0", event) for event in events)


# Failures


def test_a_failed_handler_is_counted_shown_and_told_as_a_gap(server, loaded, reader, caplog):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.clean("OnDealAdd", 41)  # a number where a deal belongs
        gap = reader.first("control.disconnected")
        server.deal_add(mt_deal(2))
        reader.first("deal.add", key="2")
        beat = reader.first("control.heartbeat", handler_failures="1")
    assert gap.notes["reason"] == "1 events could not be taken down, last OnDealAdd: AttributeError"
    assert beat.notes["last_failure"] == "OnDealAdd: AttributeError"
    assert beat.notes["connected"] == "yes"
    signals = [event.change for event in reader.of("control.connected", "control.disconnected")]
    assert signals == ["connected", "disconnected", "connected", "disconnected"]


def test_an_object_that_is_no_deal_is_missing_too_and_the_others_go_on(server, loaded, reader, caplog):
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.deal_add(mt_deal(1, Profit=float("nan")))
        server.deal_add(mt_deal(2))
        reader.first("deal.add", key="2")
        reader.first("control.disconnected", reason="1 events could not be taken down, last deal.add: Unreadable")
    assert [event.deal.ticket for event in reader.of("deal.add")] == [2]


def test_without_the_guard_the_api_would_swallow_the_exception(server, loaded, reader):
    """Holds the fake to the package's manners: an unguarded handler's failure stands in LastError alone."""

    class Careless:
        def OnDealAdd(self, deal):
            raise KeyError("lost")

    api = fake_manager.ManagerAPI()
    assert api.DealSubscribe(Careless())
    modes = api.EnPumpModes
    assert api.Connect("a:1", 1005, "Mt5#Manager1", modes.PUMP_MODE_ORDERS | modes.PUMP_MODE_POSITIONS, 5000)
    server.deal_add(mt_deal(1))
    server.settle()
    assert fake_manager.LastError()[0] == -9
    assert not api.DealSubscribe(object())
    assert fake_manager.LastError()[2] == "no valid method"


def test_deals_come_only_with_orders_and_positions(server, loaded):
    class Listener:
        heard = 0

        def OnDealAdd(self, deal):
            self.heard += 1

    api, listener = fake_manager.ManagerAPI(), Listener()
    api.DealSubscribe(listener)
    api.Connect("a:1", 1005, "Mt5#Manager1", api.EnPumpModes.PUMP_MODE_USERS, 5000)
    server.deal_add(mt_deal(1))
    server.settle()
    assert listener.heard == 0


def test_a_network_gap_is_told_and_a_backfill_of_it_asked_for(server, loaded, reader, redis):
    loaded = replace(loaded, answers_requests=True, asks_after_gap=True)
    with house.Running(loaded):
        reader.first("control.sync_done")
        server.deal_add(mt_deal(1))
        reader.first("deal.add")
        server.drop()
        reader.first("control.disconnected")
        server.deal_add(mt_deal(2))  # nobody is told
        server.restore("10.0.0.2:443")
        reader.first("control.connected", address="10.0.0.2:443")
        until(lambda: redis.xlen(requests_stream("live1")) == 4)
    assert [event.deal.ticket for event in reader.of("deal.add")] == [1]
    requests = [read_request(fields) for _, fields in redis.xrange(requests_stream("live1"))]
    assert [request.what for request in requests] == ["deals", "positions", "orders", "accounts"]
    deals = requests[0]
    assert (deals.groups, deals.into) == ("real\\*", "events")
    now_s = house.wall_ms() // 1000
    assert deals.from_s <= now_s - 600
    assert deals.to_s >= now_s


def test_a_first_start_has_nothing_to_backfill(server, loaded, reader, redis):
    with house.Running(replace(loaded, answers_requests=True, asks_after_gap=True)):
        reader.first("control.sync_done")
    assert redis.xlen(requests_stream("live1")) == 0


def test_a_bridge_that_was_killed_is_told_of_at_the_next_start(server, loaded, reader, redis):
    loaded = replace(loaded, answers_requests=True, asks_after_gap=True)
    outbox = Outbox(loaded.folder / "outbox.sqlite3")
    outbox.write([], is_connected=1, alive_ms=int((datetime.now(UTC) - timedelta(hours=3)).timestamp() * 1000))
    outbox.close()
    with house.Running(loaded):
        reader.first("control.sync_done")
        until(lambda: redis.xlen(requests_stream("live1")) == 4)
    assert [event.change for event in reader.without_beats()][:2] == ["disconnected", "connected"]
    assert reader.events[0].notes["reason"] == "the bridge ended without a goodbye"
    (_, first), *_ = redis.xrange(requests_stream("live1"))
    assert read_request(first).from_s == pytest.approx(house.wall_ms() // 1000 - 3 * 3600 - 600, abs=60)


def test_a_refused_connection_is_explained_and_tried_again(server, loaded, reader, caplog):
    server.refuse = [1026]
    with caplog.at_level("INFO", logger="lotwise"), house.Running(loaded):
        reader.first("control.heartbeat")
        reader.first("control.sync_done")
    assert any("password must be changed" in message and "1026" in message for message in caplog.messages)
    assert reader.of("control.heartbeat")[0].notes["connected"] == "no"


def test_redis_away_the_outbox_keeps_everything_in_order(server, tmp_path, gate, reader, caplog):
    gate.shut()
    with house.Running(house.settings(tmp_path, gate.url)) as running:
        until(lambda: running.outbox.size() >= 2)
        for ticket in range(1, 1201):  # more than one batch
            server.deal_add(mt_deal(ticket))
        until(lambda: running.outbox.size() >= 1202)
        assert reader.read() == []
        gate.open()
        until(lambda: len(reader.of("deal.add")) == 1200)
        until(lambda: running.outbox.size() == 0)
    assert [event.deal.ticket for event in reader.of("deal.add")] == list(range(1, 1201))
    seqs = [event.seq for event in reader.read()]
    assert seqs == list(range(1, len(seqs) + 1))


def test_redis_took_it_but_the_answer_was_lost_it_is_sent_again(server, tmp_path, gate, reader):
    with house.Running(house.settings(tmp_path, gate.url)) as running:
        reader.first("control.sync_done")
        gate.swallow_answers = True
        for ticket in range(1, 6):  # few enough to arrive whole before the connection breaks
            server.deal_add(mt_deal(ticket))
        until(lambda: gate.passed >= 1)
        gate.swallow_answers = False
        until(lambda: len({event.key for event in reader.of("deal.add")}) == 5)
        until(lambda: running.outbox.size() == 0)
    events = reader.read()
    assert len(events) > len({event.seq for event in events}), "at least one event came twice"
    watch = SequenceWatch()
    assert not any(watch.gap("mt:live1:0", event) for event in events), "repeats are no gap"


def test_what_waits_when_the_bridge_stops_goes_out_at_the_next_start(server, tmp_path, gate, reader):
    gate.shut()
    with house.Running(house.settings(tmp_path, gate.url)) as running:
        until(lambda: running.outbox.size() >= 2)
        server.deal_add(mt_deal(1))
        until(lambda: running.outbox.size() >= 3)
    gate.open()
    with house.Running(house.settings(tmp_path, gate.url)):
        until(lambda: len(reader.of("control.connected")) == 2)
    assert [event.deal.ticket for event in reader.of("deal.add")] == [1]


def test_a_broken_outbox_is_put_aside_and_told_of(server, loaded, reader, caplog):
    (loaded.folder / "outbox.sqlite3").write_bytes(b"no database" * 1000)
    with house.Running(loaded):
        reader.first("control.sync_done")
    assert reader.events[0].change == "disconnected"
    assert reader.events[0].notes["reason"] == "the outbox was broken"
    assert len(list(loaded.folder.glob("outbox.sqlite3.broken-*"))) == 1


def test_a_full_disk_is_waited_for_and_the_order_kept(server, loaded, reader, caplog, monkeypatch):
    monkeypatch.setattr(worker, "RETRY_S", 0.1)
    with house.Running(loaded) as running:
        reader.first("control.sync_done")
        write = running.outbox.write

        def full(*_, **__):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(running.outbox, "write", full)
        for ticket in range(1, 11):
            server.deal_add(mt_deal(ticket))
        until(lambda: any("disk is full" in message for message in caplog.messages))
        monkeypatch.setattr(running.outbox, "write", write)
        until(lambda: len(reader.of("deal.add")) == 10)
        reader.first("control.heartbeat", trouble="outbox: database or disk is full")
    assert [event.deal.ticket for event in reader.of("deal.add")] == list(range(1, 11))


def test_a_connection_that_the_api_does_not_mend_is_made_anew(server, loaded, caplog):
    inbox = Inbox()
    session = Session(loaded, Connection(fake_manager), inbox, give_up_s=0.2)
    session.start()
    try:
        until(lambda: len(server.sessions) == 1 and session.trouble == "")
        server.drop()
        until(lambda: "no connection" in session.trouble)
        server.is_up = True  # without the API noticing
        until(lambda: session.trouble == "")
    finally:
        session.stop()
    signals = [arrival.change for arrival in inbox.take(100, 0.1) if arrival.what == "session"]
    assert signals.count("complete") == 2
    assert signals.index("disconnected") < len(signals) - 1 - signals[::-1].index("complete")


def test_a_full_inbox_counts_what_it_does_not_take(server):
    inbox = Inbox(limit=2)
    sink = DealSink(inbox)
    for ticket in range(1, 5):
        sink.OnDealAdd(mt_deal(ticket))
    assert (len(inbox), inbox.failures, inbox.last_failure) == (2, 2, "OnDealAdd: InboxFull")
    SessionSink(inbox).OnDisconnect()
    assert len(inbox) == 3, "a signal always finds room"
