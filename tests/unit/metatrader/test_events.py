"""The canonical event: encoding, strict decoding, gaps."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metatrader.events import (
    DealEvent,
    MalformedEvent,
    SequenceWatch,
    account_event,
    control_event,
    deal_event,
    decode,
    encode,
    order_event,
    position_event,
)
from tests.unit.metatrader.samples import ACCOUNT, DEAL, ORDER, ORIGIN, POSITION, STAMP, accounts, deals, orders, positions


def raw(event) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in encode(event).items()}


@given(deals, st.sampled_from(["add", "update", "delete"]))
def test_deal_events_round_trip(deal, change):
    event = deal_event(ORIGIN, STAMP, change, deal)
    assert decode(raw(event)) == event
    assert event.rev == deal.fingerprint().hex()


@given(positions, st.sampled_from(["add", "update", "delete"]))
def test_position_events_round_trip(position, change):
    event = position_event(ORIGIN, STAMP, change, position)
    assert decode(raw(event)) == event


@given(orders, st.sampled_from(["add", "update", "delete"]))
def test_order_events_round_trip(order, change):
    event = order_event(ORIGIN, STAMP, change, order)
    assert decode(raw(event)) == event


@given(accounts, st.sampled_from(["state", "archived", "restored", "deleted"]))
def test_account_events_round_trip(account, change):
    event = account_event(ORIGIN, STAMP, account, change)
    assert decode(raw(event)) == event
    assert event.change == change


@pytest.mark.parametrize("signal", ["connected", "disconnected", "sync_done", "heartbeat"])
def test_control_events_round_trip(signal):
    event = control_event(ORIGIN, STAMP, signal, {"note": "über alles"})
    assert decode(raw(event)) == event


def test_the_moment_is_utc():
    event = deal_event(ORIGIN, STAMP, "add", DEAL)
    assert event.happened_at == datetime(2025, 11, 26, 9, 30, 0, 123000, tzinfo=UTC)
    assert event.change == "add"


def test_numbers_travel_as_text():
    payload = json.loads(encode(deal_event(ORIGIN, STAMP, "add", DEAL))["payload"])
    assert all(isinstance(value, str) for value in payload.values())
    assert payload["Volume"] == "12500"
    assert payload["VolumeExt"] == "125000000"


def payload_with(**changes) -> dict[str, str]:
    fields = json.loads(encode(deal_event(ORIGIN, STAMP, "add", DEAL))["payload"])
    return {"payload": json.dumps({**fields, **changes})}


TOMORROW = STAMP.server_time_ms + 2 * 86_400_000

MALFORMED = {
    "unknown version": {"v": "2"},
    "no version": {"v": None},
    "unknown kind": {"kind": "deal.explode"},
    "no kind": {"kind": None},
    "server with a space": {"server": "a b"},
    "server with a colon": {"server": "mt:sim"},
    "no source": {"src": ""},
    "sequence is no number": {"seq": "x"},
    "negative sequence": {"seq": "-1"},
    "impossible offset": {"utc_offset_min": "900"},
    "time is zero": {"srv_time_msc": "0"},
    "time in the future": {"srv_time_msc": str(TOMORROW)},
    "receipt without zone": {"recv_utc": "2025-11-26T09:30:00.123456"},
    "receipt on 31 February": {"recv_utc": "2025-02-31T09:30:00.123456Z"},
    "other key": {"key": "5"},
    "long key": {"key": "9" * 65},
    "no payload": {"payload": None},
    "truncated payload": {"payload": '{"Deal":"1'},
    "payload is a list": {"payload": "[]"},
    "payload too deep": {"payload": "[" * 20_000},
    "payload too long": {"payload": '{"Comment":"' + "x" * 40_000 + '"}'},
    "negative volume": payload_with(Volume="-1", VolumeExt="-10000"),
    "text too long": payload_with(Comment="x" * 32),
    "number as a number": payload_with(Price=1.5),
    "lone surrogate": payload_with(Comment="\ud800"),
    "deal from the future": payload_with(Time=str(TOMORROW // 1000), TimeMsc=str(TOMORROW)),
}


@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_events_are_refused_with_a_reason(changes):
    fields = {**encode(deal_event(ORIGIN, STAMP, "add", DEAL)), **changes}
    with pytest.raises(MalformedEvent) as caught:
        decode({name.encode(): value.encode("utf-8", "surrogatepass") for name, value in fields.items() if value is not None})
    assert 0 < len(caught.value.reason) < 200


def order_with(**changes) -> dict[str, str]:
    event = encode(order_event(ORIGIN, STAMP, "add", ORDER))
    return {**event, "payload": json.dumps({**json.loads(event["payload"]), **changes})}


def position_with(**changes) -> dict[str, str]:
    event = encode(position_event(ORIGIN, STAMP, "add", POSITION))
    return {**event, "payload": json.dumps({**json.loads(event["payload"]), **changes})}


IMPOSSIBLE_RECORDS = {
    "order of a negative volume": (order_with(VolumeInitial="-1", VolumeInitialExt="-10000"), "VolumeInitial"),
    "order with more left than it had": (order_with(VolumeInitial="1", VolumeInitialExt="10000"), "larger"),
    "order without a symbol": (order_with(Symbol=None), "Symbol"),
    "order set up tomorrow": (order_with(TimeSetupMsc=str(TOMORROW)), "impossible time"),
    "order done tomorrow": (order_with(TimeDoneMsc=str(TOMORROW)), "impossible time"),
    "order done in 1970": (order_with(TimeDoneMsc="5"), "TimeDoneMsc"),
    "order that expires in 1970": (order_with(TimeExpiration="5"), "TimeExpiration"),
    "order under another key": ({**order_with(), "key": "5"}, "key"),
    "position of a negative volume": (position_with(Volume="-1", VolumeExt="-10000"), "Volume"),
    "position of no side": (position_with(Action="2"), "Action"),
    "position from the future": (position_with(TimeUpdateMsc=str(TOMORROW)), "impossible time"),
    "position with an infinite price": (position_with(PriceSL="1e5"), "PriceSL"),
}


@pytest.mark.parametrize(("fields", "reason"), IMPOSSIBLE_RECORDS.values(), ids=IMPOSSIBLE_RECORDS.keys())
def test_impossible_orders_and_positions_are_refused(fields, reason):
    with pytest.raises(MalformedEvent, match=reason):
        decode({name.encode(): value.encode() for name, value in fields.items()})


@pytest.mark.parametrize("name", [b"payload", b"kind", b"v"])
def test_wrong_encoding_is_refused(name):
    with pytest.raises(MalformedEvent, match="UTF-8"):
        decode({**raw(deal_event(ORIGIN, STAMP, "add", DEAL)), name: b"\xff\xfe{"})


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=50), max_size=5))
def test_noise_is_refused_and_nothing_worse(fields):
    with pytest.raises(MalformedEvent):
        decode(fields)


@given(st.data())
def test_a_damaged_event_is_refused_or_read_never_worse(data):
    fields = raw(deal_event(ORIGIN, STAMP, "add", DEAL))
    name = data.draw(st.sampled_from(sorted(fields)))
    value = bytearray(fields[name])
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        event = decode({**fields, name: bytes(value)})
    except MalformedEvent:
        return
    assert isinstance(event, DealEvent)


def numbered(seq, boot="b1"):
    return deal_event(replace(ORIGIN, boot=boot), replace(STAMP, seq=seq), "add", DEAL)


def test_gaps_are_noticed_once():
    watch = SequenceWatch()
    seen = [watch.gap("mt:sim:0", numbered(seq)) for seq in (5, 6, 6, 5, 7, 9, 10, 8)]
    assert seen == [False, False, False, False, False, True, False, False]


def test_a_restart_that_goes_on_counting_is_no_gap():
    watch = SequenceWatch()
    assert not watch.gap("s", numbered(5, "b1"))
    assert not watch.gap("s", numbered(6, "b2"))
    assert not watch.gap("s", numbered(5, "b1"))
    assert not watch.gap("s", numbered(7, "b2"))


def test_a_restart_that_counts_anew_is_a_gap():
    watch = SequenceWatch()
    assert not watch.gap("s", numbered(5, "b1"))
    assert watch.gap("s", numbered(1, "b2"))
    assert not watch.gap("s", numbered(2, "b2"))


def test_streams_and_sources_count_apart():
    watch = SequenceWatch()
    assert not watch.gap("s0", numbered(5))
    assert not watch.gap("s1", numbered(9))
    assert not watch.gap("s0", numbered(6))


def test_receipt_times_in_other_zones_are_written_in_utc():
    local = replace(STAMP, received_at=STAMP.received_at.astimezone(tz=datetime.now(UTC).astimezone().tzinfo))
    assert encode(deal_event(ORIGIN, local, "add", DEAL))["recv_utc"] == "2025-11-26T09:30:00.123456Z"
    assert decode(raw(position_event(ORIGIN, STAMP, "add", POSITION))).received_at - STAMP.received_at == timedelta(0)
    assert decode(raw(account_event(ORIGIN, STAMP, ACCOUNT))).received_at == STAMP.received_at
