"""The second process: requests through Redis, answers into the event streams or into a stream of the asker's own."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.core.clock import now
from app.metatrader.bridge import backfill, records
from app.metatrader.bridge.asking import BridgeBackfill
from app.metatrader.bridge.backfill import Answerer
from app.metatrader.bridge.manager import Connection
from app.metatrader.bridge.outbox import Outbox
from app.metatrader.bridge.publisher import Publisher, redis_client
from app.metatrader.bridge.requests import Request, answer_stream, requests_stream, write_request
from app.metatrader.bridge.telling import Teller
from app.metatrader.errors import BadAnswer, NotKnown, Unreachable
from app.metatrader.events import Origin, SequenceWatch
from app.metatrader.fields import write_deal
from tests.contracts.bridge import fake_manager, house
from tests.contracts.bridge.house import mt_deal, mt_order, mt_position, mt_user, until

HOUR = timedelta(hours=1)


def ask(redis, **values):
    known = {"id": "r1", "what": "deals", "into": "events", "asked_at": now(), "groups": "real\\*"}
    if values.get("logins"):
        known["groups"] = ""
    if values.get("what", "deals") == "deals":
        known["from_s"], known["to_s"] = house.wall_ms() // 1000 - 7200, house.wall_ms() // 1000 + 60
    request = Request(**{**known, **values})
    redis.xadd(requests_stream("live1"), write_request(request))
    return request


@pytest.fixture
def answerer(server, loaded, redis):
    """The second process's work, and a publisher of the outbox, which the first would run."""
    with house.answering(loaded) as outbox:
        publisher = Publisher(outbox, redis_client(loaded.redis))
        publisher.start()
        yield outbox
        publisher.stop()


@pytest.fixture
def bridge(answerer, redis):
    return BridgeBackfill(redis, "live1", house.ZONE, ["real\\*"], timeout_s=10)


def test_deals_of_a_range_come_as_events_and_an_end_that_names_the_request(answerer, server, redis, reader):
    for ticket, age_h in ((1, 0.5), (2, 1.5), (3, 9)):
        server.deal_add(mt_deal(ticket, TimeMsc=house.wall_ms(datetime.now(UTC) - age_h * HOUR)))
    ask(redis)
    end = reader.first("control.sync_done", request="r1")
    assert dict(end.notes) == {"request": "r1", "what": "deals", "rows": "2", "unreadable": "0"}
    assert {event.deal.ticket for event in reader.of("deal.add")} == {1, 2}
    assert {event.src for event in reader.read()} == {"bridge"}
    watch = SequenceWatch()
    assert not any(watch.gap("mt:live1:0", event) for event in reader.events)


def test_a_range_is_asked_for_hour_by_hour_and_no_deal_comes_twice(answerer, server, redis, reader):
    start_s = house.wall_ms() // 1000 - 3 * 3600
    for ticket, second in enumerate((0, 3599, 3600, 3601, 7200, 10_800), start=1):
        server.deal_add(mt_deal(ticket, TimeMsc=(start_s + second) * 1000))
    ask(redis, from_s=start_s, to_s=start_s + 3 * 3600)
    reader.first("control.sync_done")
    assert [event.deal.ticket for event in reader.of("deal.add")] == [1, 2, 3, 4, 5, 6]
    calls = [call for call in server.asked if call[0] == "DealRequestByGroup"]
    assert [(to_s - from_s) for _, _, from_s, to_s in calls] == [3600, 3600, 3600]
    assert all(isinstance(part, int) for call in calls for part in call[2:])


def test_logins_positions_orders_and_accounts(answerer, server, redis, reader):
    server.user_add(mt_user(100002, Balance=5.0))
    server.deal_add(mt_deal(1))
    server.deal_add(mt_deal(2, login=100002))
    server.position_add(mt_position(3))
    server.order_add(mt_order(4))
    for what in ("deals", "positions", "orders", "accounts"):
        ask(redis, id=what, what=what, logins=(100001,))
    reader.first("control.sync_done", request="accounts")
    assert [event.deal.ticket for event in reader.of("deal.add")] == [1]
    assert [event.position.ticket for event in reader.of("position.update")] == [3]
    assert [event.order.ticket for event in reader.of("order.update")] == [4]
    assert [event.account.equity for event in reader.of("account.state")] == [Decimal("1012.30")]


def test_an_answer_of_its_own_is_what_the_simulators_reader_would_get(bridge, server):
    server.user_add(mt_user(100002, Balance=5.0, ID=""))
    server.user_add(mt_user(100003, Group="demo\\forex\\usd"))
    for ticket, login in ((5, 100002), (2, 100001), (9, 100003)):
        server.deal_add(mt_deal(ticket, login=login))
    server.position_add(mt_position(31))
    since = datetime.now(UTC) - HOUR
    deals = list(bridge.deals(since, datetime.now(UTC) + HOUR))
    assert [deal.ticket for deal in deals] == [2, 5]
    assert write_deal(deals[0])["Price"] == "1.08435"
    assert [(state.login, state.balance, state.equity) for state in bridge.accounts()] == [
        (100001, Decimal(1000), Decimal("1012.3")),
        (100002, Decimal(5), Decimal(5)),
    ]
    assert [position.ticket for position in bridge.positions()] == [31]
    assert list(bridge.deals(since - 48 * HOUR, since - 47 * HOUR)) == []


def test_open_orders_and_single_things(bridge, server):
    server.deal_add(mt_deal(7))
    server.position_add(mt_position(31))
    server.order_add(mt_order(41))
    server.order_add(mt_order(42))
    server.order_delete(mt_order(42, State=4, VolumeCurrent=0, VolumeCurrentExt=0, TimeDoneMsc=house.wall_ms()))
    assert [order.ticket for order in bridge.orders()] == [41]
    witness, hour = bridge.witness, (datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR)
    assert witness.deal(7) == next(iter(bridge.deals(*hour)))
    assert [witness.order(ticket).state for ticket in (41, 42)] == [1, 4]
    assert witness.get_account(100001).equity == Decimal("1012.30")
    assert [deal.ticket for deal in witness.deals(100001, *hour)] == [7]
    assert [position.ticket for position in witness.positions(100001)] == [31]
    for call in (lambda: witness.deal(8), lambda: witness.order(43), lambda: witness.get_account(5)):
        with pytest.raises(NotKnown):
            call()
    assert (witness.deals(5, *hour), witness.positions(5)) == ([], [])


def test_a_long_range_is_asked_for_in_pieces(bridge, server):
    """So that a busy day is never one answer in memory; what lies on an edge comes once."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 5 * HOUR
    for ticket in range(1, 6):
        server.deal_add(mt_deal(ticket, TimeMsc=house.wall_ms(start + ticket * HOUR)))
    assert [deal.ticket for deal in bridge.deals(start, start + 5 * HOUR)] == [1, 2, 3, 4, 5]
    assert len([call for call in server.asked if call[0] == "DealRequestByGroup"]) >= 5


def test_the_asker_leaves_nothing_behind(bridge, server, redis):
    server.deal_add(mt_deal(1))
    assert len(list(bridge.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR))) == 1
    assert redis.keys("mt:live1:answer:*") == []
    until(lambda: redis.xlen(requests_stream("live1")) <= 1)


def test_more_deals_than_one_chunk(bridge, server, monkeypatch):
    monkeypatch.setattr(backfill, "CHUNK", 100)
    for ticket in range(1, 1052):
        server.deal_add(mt_deal(ticket))
    deals = list(bridge.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR))
    assert [deal.ticket for deal in deals] == list(range(1, 1052))


def test_more_groups_than_one_request_may_name(answerer, server, redis):
    server.deal_add(mt_deal(1))
    server.user_add(mt_user(100002, Group="real\\last"))
    server.deal_add(mt_deal(2, login=100002))
    groups = [house.GROUP, *(f"real\\empty{number:03}" for number in range(150)), "real\\last"]
    asker = BridgeBackfill(redis, "live1", house.ZONE, groups, timeout_s=10)
    assert [deal.ticket for deal in asker.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR)] == [1, 2]
    assert len([call for call in server.asked if call[0] == "DealRequestByGroup"]) > 2
    assert list(BridgeBackfill(redis, "live1", house.ZONE, [], timeout_s=10).accounts()) == []


def test_a_connection_that_breaks_in_the_middle_is_made_anew(bridge, server):
    server.deal_add(mt_deal(1))
    server.break_next_requests = 1
    assert [deal.ticket for deal in bridge.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR)] == [1]


def test_a_half_answer_is_forgotten_when_it_begins_anew(server, loaded, redis):
    """What a bridge sent before it was killed stays in the answer's stream; the next try says so before its own rows."""
    origin = Origin("live1", "bridge", "old")
    teller = Teller(origin, house.ZONE, 1)
    asker = BridgeBackfill(redis, "live1", house.ZONE, ["real\\*"], timeout_s=10)
    found = []

    def wait_for_answer():
        found.extend(asker.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR))

    waiting = threading.Thread(target=wait_for_answer)
    waiting.start()
    (_, fields), *_ = until(lambda: redis.xrange(requests_stream("live1")))
    stream = answer_stream("live1", fields[b"id"].decode())
    half = records.deal(records.copied(mt_deal(77), records.DEAL_FIELDS))
    redis.xadd(stream, teller.deal(now(), "add", half)[1](2))
    server.deal_add(mt_deal(1))
    with house.answering(loaded):
        waiting.join(15)
    assert [deal.ticket for deal in found] == [1]


def test_a_refusal_is_the_answer(server, loaded, redis, caplog):
    asker = BridgeBackfill(redis, "live1", house.ZONE, ["real\\*"], timeout_s=10)
    server.deal_add(mt_deal(1))

    class Forbidden(fake_manager.ManagerAPI):
        def DealRequestByGroup(self, group, from_date, to_date):  # noqa: N802
            return fake_manager._fails(fake_manager.R.MT_RET_ERR_PERMISSIONS, "no rights", answer=None)

    class Module:
        ManagerAPI = Forbidden
        LastError = staticmethod(fake_manager.LastError)

    outbox = Outbox(loaded.folder / "outbox.sqlite3")
    teller = Teller(Origin("live1", "bridge", "boot1"), house.ZONE, 1)
    answerer = Answerer(loaded, Connection(Module), outbox, redis_client(loaded.redis), teller)
    thread = threading.Thread(target=answerer.run)
    thread.start()
    with pytest.raises(BadAnswer) as refused:
        list(asker.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR))
    assert "lacks a right" in refused.value.detail
    assert "retcode 8" in refused.value.detail
    answerer.stop()
    thread.join(15)
    outbox.close()


def test_no_bridge_no_answer(server, redis):
    asker = BridgeBackfill(redis, "live1", house.ZONE, ["real\\*"], timeout_s=0.5)
    with pytest.raises(Unreachable):
        list(asker.positions())


def test_one_unreadable_row_spoils_the_count_not_the_bridge(bridge, server):
    server.deal_add(mt_deal(1, Profit=float("inf")))
    server.deal_add(mt_deal(2))
    with pytest.raises(BadAnswer):
        list(bridge.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR))
    assert len(list(bridge.accounts())) == 1


def test_malformed_and_stale_requests_do_not_block_the_next(answerer, server, redis, reader, caplog):
    redis.xadd(requests_stream("live1"), {"v": "1"})
    redis.xadd(requests_stream("live1"), {**write_request(ask(redis, id="good-0")), "id": "bad-1", "what": "passwords"})
    ask(redis, id="stale-1", asked_at=now() - timedelta(hours=1))
    ask(redis, id="good-1", what="accounts")
    reader.first("control.sync_done", request="good-1")
    assert reader.first("control.sync_done", request="bad-1").notes["error"] == "unknown what 'passwords'"
    assert reader.first("control.sync_done", request="stale-1").notes["error"] == "too old to be answered"


def test_a_request_that_was_read_but_not_answered_is_answered_after_a_restart(server, loaded, redis, reader):
    server.deal_add(mt_deal(1))
    server.is_up = False
    ask(redis)
    with house.answering(loaded) as outbox:
        until(lambda: redis.xinfo_groups(requests_stream("live1")))
        until(lambda: redis.xpending(requests_stream("live1"), "bridge")["pending"] == 1)
        assert "no connection" in outbox.note("requests")
    server.is_up = True
    with house.answering(loaded) as outbox:
        publisher = Publisher(outbox, redis_client(loaded.redis))
        publisher.start()
        reader.first("control.sync_done", request="r1")
        publisher.stop()
    assert [event.deal.ticket for event in reader.of("deal.add")] == [1]


def test_a_large_answer_waits_while_the_outbox_is_full(server, loaded, redis, monkeypatch):
    monkeypatch.setattr(backfill, "OUTBOX_LIMIT", 50)
    monkeypatch.setattr(backfill, "CHUNK", 10)
    for ticket in range(1, 201):
        server.deal_add(mt_deal(ticket))
    ask(redis)
    with house.answering(loaded) as outbox:  # nobody sends the outbox
        until(lambda: outbox.size() > 50)
        threading.Event().wait(0.5)
        assert outbox.size() == 60
        outbox.remove(outbox.oldest(200)[-1][0])
        until(lambda: outbox.size() > 50)


def test_the_servers_clock_is_compared_with_its_zone(server, loaded, redis, caplog):
    server.clock_ahead_s = house.ZONE.offset_min(now()) * 60 + 2
    with house.answering(loaded) as outbox:
        until(lambda: outbox.note("clock_offset_min") == str(house.ZONE.offset_min(now())))
        assert outbox.note("requests") == "ready"
    server.clock_ahead_s = 5 * 3600
    with house.answering(replace(loaded, folder=loaded.folder / "other")) as outbox:
        until(lambda: outbox.note("requests") == "the server's clock contradicts time_zone")
        assert outbox.note("clock_offset_min") == "300"
    assert any("300 minutes ahead of UTC" in message for message in caplog.messages)


def test_a_clock_that_nobody_sees_any_more_is_not_told(server, loaded, redis, monkeypatch):
    """After a clock change what the server said before would look like a wrong time zone."""
    monkeypatch.setattr(backfill, "LOOK_AT_CLOCK_EVERY_S", 0.1)
    with house.answering(loaded) as outbox:
        until(lambda: outbox.note("clock_offset_min"))
        server.is_up = False
        until(lambda: outbox.note("clock_offset_min") == "")


def test_a_redis_that_lost_its_data_is_used_again(answerer, server, redis, reader, caplog):
    ask(redis, id="before", what="accounts")
    reader.first("control.sync_done", request="before")
    redis.delete(requests_stream("live1"))
    server.deal_add(mt_deal(1))

    def answered():
        ask(redis, id="after", what="accounts")
        return [event for event in reader.of("control.sync_done") if event.notes.get("request") == "after"]

    until(answered)


def test_an_answer_is_no_part_of_the_event_stream(bridge, server, reader):
    server.deal_add(mt_deal(1))
    assert len(list(bridge.deals(datetime.now(UTC) - HOUR, datetime.now(UTC) + HOUR))) == 1
    assert reader.without_beats() == []


def test_a_count_that_does_not_fit_is_no_answer(server, redis):
    asker = BridgeBackfill(redis, "live1", house.ZONE, ["real\\*"], timeout_s=5)
    teller = Teller(Origin("live1", "bridge", "x"), house.ZONE, 1)

    def answer_short():
        (_, fields), *_ = until(lambda: redis.xrange(requests_stream("live1")))
        notes = {"request": "?", "rows": "3", "unreadable": "0"}
        redis.xadd(answer_stream("live1", fields[b"id"].decode()), teller.control(now(), "sync_done", notes)[0][1](1))

    thread = threading.Thread(target=answer_short)
    thread.start()
    with pytest.raises(BadAnswer):
        list(asker.accounts())
    thread.join()
