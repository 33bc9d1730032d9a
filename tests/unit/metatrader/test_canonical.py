"""The quick way of reading events gives the answers of the strict one, or none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.metatrader import canonical
from app.metatrader.events import (
    MalformedEvent,
    account_event,
    control_event,
    deal_event,
    decode,
    decode_strictly,
    encode,
    order_event,
    position_event,
)
from tests.unit.metatrader.samples import (
    ACCOUNT,
    DEAL,
    ORDER,
    ORIGIN,
    POSITION,
    STAMP,
    accounts,
    deals,
    orders,
    positions,
)

changes = st.sampled_from(["add", "update", "delete"])
events = st.one_of(
    st.builds(lambda change, record: deal_event(ORIGIN, STAMP, change, record), changes, deals),
    st.builds(lambda change, record: position_event(ORIGIN, STAMP, change, record), changes, positions),
    st.builds(lambda change, record: order_event(ORIGIN, STAMP, change, record), changes, orders),
    st.builds(
        lambda change, record: account_event(ORIGIN, STAMP, record, change),
        st.sampled_from(["state", "archived", "restored", "deleted"]),
        accounts,
    ),
)

#: Texts at the limits of what fields may hold, and beyond.
texts = st.sampled_from(
    [
        *("", "0", "-0", "00", "007", "1", "-1", "9", "10", "63", "64", "99", "255", "256", "5000", "5001", "+1", " 1", "1 "),
        *("999999999999999999", "1000000000000000000", "9223372036854775807", "9223372036854775808", "٣", "1_000"),
        *("1.5", "-1.5", "-0.00", ".5", "1.", "1e5", "NaN", "Infinity", "0.0000000000000001", "0.00000000000000001"),
        *("999999999999", "9999999999999", "946684799999", "946684800000", "4102444799999", "4102444800000", "1764156600123"),
        *(
            "x" * 31,
            "x" * 32,
            "x" * 127,
            "x" * 128,
            'a"b',
            "a\\b",
            "a\nb",
            "a\tb",
            "a\x1fb",
            "a\x7fb",
            "a\x00b",
            "ü" * 31,
            "🦆" * 31,
        ),
        *("-720", "-721", "840", "841", "2025-11-26T09:30:00.123456Z", "2025-02-31T09:30:00.123456Z"),
        *("2025-11-26T24:00:00.000000Z", "2025-11-26T09:30:60.000000Z", "2025-11-26T09:30:00.123456+00:00"),
    ]
) | st.text(max_size=40)


def answer(reader, fields):
    try:
        return reader(fields)
    except MalformedEvent as error:
        return error.reason


def agree(fields: dict[bytes, bytes]) -> None:
    quickly = canonical.read(fields)
    strictly = answer(decode_strictly, fields)
    assert answer(decode, fields) == strictly
    if quickly is not None:
        assert not isinstance(strictly, str), strictly


def raw(event) -> dict[bytes, bytes]:
    return {name.encode(): value.encode("utf-8", "surrogatepass") for name, value in encode(event).items()}


@given(events)
def test_both_read_what_is_written(event):
    assert decode(raw(event)) == decode_strictly(raw(event)) == event


@pytest.mark.parametrize(
    "event",
    [
        deal_event(ORIGIN, STAMP, "add", DEAL),
        position_event(ORIGIN, STAMP, "update", POSITION),
        order_event(ORIGIN, STAMP, "delete", ORDER),
        account_event(ORIGIN, STAMP, ACCOUNT),
    ],
    ids=lambda event: event.kind,
)
def test_the_usual_event_is_read_quickly(event):
    assert canonical.read(raw(event)) is not None


def test_signals_are_left_to_the_strict_way():
    assert canonical.read(raw(control_event(ORIGIN, STAMP, "heartbeat"))) is None


@settings(max_examples=200)
@given(events, st.data())
def test_they_agree_on_events_with_another_field(event, data):
    fields = encode(event)
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(texts)
    agree({key.encode(): value.encode("utf-8", "surrogatepass") for key, value in fields.items()})


@settings(max_examples=300)
@given(events, st.data())
def test_they_agree_on_payloads_with_other_values(event, data):
    fields = encode(event)
    payload = json.loads(fields["payload"])
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(payload)))
        match data.draw(st.sampled_from(["text", "text", "text", "number", "gone", "twin", "key"])):
            case "text":
                payload[name] = data.draw(texts)
            case "number":
                payload[name] = data.draw(st.integers() | st.floats() | st.none() | st.booleans())
            case "gone":
                payload.pop(name)
            case "twin":
                payload[name + "Ext"] = data.draw(texts)
            case "key":
                fields["key"] = str(payload[name])
        if not payload:
            break
    fields["payload"] = json.dumps(payload, ensure_ascii=data.draw(st.booleans()), separators=(",", ":"))
    agree({key.encode(): value.encode("utf-8", "surrogatepass") for key, value in fields.items()})


@settings(max_examples=300)
@given(events, st.data())
def test_they_agree_on_damaged_bytes(event, data):
    fields = raw(event)
    name = data.draw(st.sampled_from([b"payload", b"payload", b"payload", *fields]))
    value = bytearray(fields[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(value) - 1, 0)))
        match data.draw(st.sampled_from(["byte", "digit", "cut", "insert", "swap"])):
            case "byte":
                value[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "digit":
                value[at : at + 1] = data.draw(st.sampled_from([b"0", b"1", b"9", b"-", b".", b'"', b",", b"\x1f"]))
            case "cut":
                del value[at:]
            case "insert":
                value[at:at] = data.draw(st.binary(min_size=1, max_size=3))
            case "swap":
                del value[at : at + data.draw(st.integers(1, 12))]
    fields[name] = bytes(value)
    agree(fields)


@given(events, st.data())
def test_they_agree_on_fields_in_another_order_or_number(event, data):
    fields = raw(event)
    names = data.draw(st.permutations(list(fields)))[: data.draw(st.integers(0, len(fields)))]
    agree({name: fields[name] for name in names})
    agree({**fields, b"note": data.draw(st.binary(max_size=5))})
