"""What Stripe tells, in our words; and what cannot be read, as typed errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.payments.connector import BadSignature, Failed, MalformedCallback, Outcome, Pending, Settled
from app.payments.connectors.stripe import MAX_CALLBACK_BYTES, StripeConnector
from app.payments.sandbox.webhooks import sign

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "stripe_events.json").read_text(encoding="utf-8"))
SECRET = "whsec_madeup0001"
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)

connector = StripeConnector("sk_test_x", (SECRET,), now=lambda: NOW)


def event(kind: str = "checkout.session.completed", thing: dict | None = None, **fields) -> dict:
    thing = thing if thing is not None else VECTORS[0]["object"]
    return {
        "id": "evt_1",
        "object": "event",
        "created": 1_764_000_000,
        "data": {"object": thing},
        "pending_webhooks": 1,
        "type": kind,
        **fields,
    }


def receive(body: bytes | dict, name: str = "Stripe-Signature"):
    raw = body if isinstance(body, bytes) else json.dumps(body, indent=2).encode()
    return connector.parse_callback(raw, {name: sign(raw, SECRET, int(NOW.timestamp()))})


def short(outcome: Outcome) -> str:
    match outcome:
        case Settled(amount):
            return f"Settled {amount.amount_minor} {amount.currency}"
        case Failed(code):
            return f"Failed {code}"
        case Pending(status):
            return f"Pending {status}"
    return type(outcome).__name__


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{index}-{vector['name']}" for index, vector in enumerate(VECTORS)])
def test_vectors(vector: dict):
    [read] = receive(event(vector["type"], vector["object"]))
    expect = vector["expect"]
    assert read.type == vector["type"]
    assert (read.kind, short(read.outcome)) == (expect["kind"], expect["outcome"])
    assert read.attempt_id == expect["attempt"]
    assert (read.provider_reference, read.payment_reference) == (expect["reference"], expect["payment"])
    assert read.occurred_at == datetime.fromtimestamp(1_764_000_000, UTC)
    assert "email" not in read.payload


def test_header_names_have_no_case():
    assert receive(event(), name="STRIPE-SIGNATURE")[0].event_id == "evt_1"


def test_a_stored_body_is_read_long_after():
    raw = json.dumps(event()).encode()
    assert connector.read_stored(raw) == connector.parse_callback(
        raw, {"stripe-signature": sign(raw, SECRET, int(NOW.timestamp()))}
    )


def test_the_fingerprint_is_of_the_content():
    first = receive(event())[0].fingerprint
    assert len(first) == 32
    assert receive(json.dumps(event(), indent=7, sort_keys=True).encode())[0].fingerprint == first
    # Stripe counts its deliveries down: a repeat may differ in this one field.
    assert receive(event(pending_webhooks=0))[0].fingerprint == first
    changed = {**VECTORS[0]["object"], "amount_total": 100_001}
    assert receive(event(thing=changed))[0].fingerprint != first


MALFORMED = {
    "empty": b"",
    "not json": b"hello",
    "cut off": json.dumps(event()).encode()[:-20],
    "latin-1": '{"id": "évt"}'.encode("latin-1"),
    "utf-16": json.dumps(event()).encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(event()).encode(),
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "NaN": b'{"id": NaN}',
    "very deep": b"[" * 100_000 + b"]" * 100_000,
    "a number without end": b'{"id": ' + b"9" * 5000 + b"}",
    "no object": {"id": "evt_1", "type": "x"},
    "thin event": event(object="v2.core.event"),
    "data is a list": event(data=[]),
    "data.object is text": event(data={"object": "x"}),
    "id missing": event(id=None),
    "id empty": event(id=""),
    "id a number": event(id=7),
    "id with a NUL": event(id="evt_\x00"),
    "id too long": event(id="e" * 256),
    "type missing": event(type=None),
    "type with a lone surrogate": event(type="\ud800"),
    "created missing": event(created=None),
    "created text": event(created="now"),
    "created a fraction": event(created=1.5),
    "created true": event(created=True),
    "created beyond all clocks": event(created=10**18),
    "amount missing": event(thing={**VECTORS[0]["object"], "amount_total": None}),
    "amount text": event(thing={**VECTORS[0]["object"], "amount_total": "100000"}),
    "amount a fraction": event(thing={**VECTORS[0]["object"], "amount_total": 1000.5}),
    "amount zero": event(thing={**VECTORS[0]["object"], "amount_total": 0}),
    "amount negative": event(thing={**VECTORS[0]["object"], "amount_total": -5}),
    "amount beyond a bigint": event(thing={**VECTORS[0]["object"], "amount_total": 2**63}),
    "currency missing": event(thing={**VECTORS[0]["object"], "currency": None}),
    "currency unknown": event(thing={**VECTORS[0]["object"], "currency": "zzz"}),
    "currency of doubtful unit": event(thing={**VECTORS[0]["object"], "currency": "isk"}),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed(body: bytes | dict):
    with pytest.raises(MalformedCallback):
        receive(body)


def test_huge_is_refused_before_the_signature_is_computed():
    with pytest.raises(MalformedCallback):
        connector.parse_callback(b" " * (MAX_CALLBACK_BYTES + 1), {})


@pytest.mark.parametrize("body", [b"", b"hello", json.dumps(event()).encode()], ids=["empty", "not json", "an event"])
def test_an_unsigned_body_is_not_even_read(body: bytes):
    with pytest.raises(BadSignature):
        connector.parse_callback(body, {"Content-Type": "application/json"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    kind=st.sampled_from([vector["type"] for vector in VECTORS]),
    thing=st.sampled_from([vector["object"] for vector in VECTORS]),
    field=st.sampled_from(
        ["id", "status", "payment_status", "amount", "amount_total", "currency", "payment_intent", "metadata"]
    ),
    value=json_values,
)
def test_whatever_one_field_holds_it_is_read_or_refused(kind: str, thing: dict, field: str, value):
    try:
        [read] = connector.read_stored(json.dumps(event(kind, {**thing, field: value})).encode())
    except MalformedCallback:
        return
    if isinstance(read.outcome, Settled):
        assert read.outcome.amount.amount_minor > 0


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_malformed(body: bytes):
    with pytest.raises(MalformedCallback):
        connector.read_stored(body)
