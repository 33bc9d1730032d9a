"""The sandbox's API, as the official `stripe` package and plain HTTP see it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import stripe

from tests.contracts.connectors.stripe_house import SECRET_KEY, StripeHouse, eventually

SESSION = {
    "mode": "payment",
    "line_items": [
        {"quantity": 1, "price_data": {"currency": "usd", "unit_amount": 100_000, "product_data": {"name": "Deposit"}}}
    ],
    "success_url": "http://shop.example/back?session={CHECKOUT_SESSION_ID}",
    "cancel_url": "http://shop.example/cancel",
    "metadata": {"order": "7"},
    "payment_intent_data": {"metadata": {"order": "7"}},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[StripeHouse]:
    made = StripeHouse(tmp_path_factory.mktemp("sandbox"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(house) -> stripe.StripeClient:
    stripe.enable_telemetry = False
    return stripe.StripeClient(SECRET_KEY, base_addresses={"api": house.sandbox.url}, max_network_retries=0)


def pay(house, session: stripe.checkout.Session, card: str = "4242424242424242") -> httpx.Response:
    return house.http.post(session.url, data={"number": card, "expiry": "12/34", "cvc": "123"})


def paid(house, client) -> stripe.checkout.Session:
    session = client.v1.checkout.sessions.create(SESSION)
    assert pay(house, session).headers["Location"] == f"http://shop.example/back?session={session.id}"
    return client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent.latest_charge.balance_transaction"]})


def test_a_paid_session_with_everything_expanded(house, client):
    session = paid(house, client)
    assert (session.object, session.status, session.payment_status, session.url) == (
        "checkout.session",
        "complete",
        "paid",
        None,
    )
    intent = session.payment_intent
    assert (intent.object, intent.status, intent.amount_received, intent.metadata["order"]) == (
        "payment_intent",
        "succeeded",
        100_000,
        "7",
    )
    booking = intent.latest_charge.balance_transaction
    assert (booking.type, booking.amount, booking.fee, booking.net) == ("charge", 100_000, 2_930, 97_070)
    assert client.v1.payment_intents.retrieve(intent.id).latest_charge == intent.latest_charge.id
    assert client.v1.charges.retrieve(intent.latest_charge.id).payment_method_details.card.last4 == "4242"
    assert client.v1.balance_transactions.retrieve(booking.id).source == intent.latest_charge.id


def test_refunds_are_booked_and_listed(house, client):
    intent = paid(house, client).payment_intent
    first = client.v1.refunds.create({"payment_intent": intent.id, "amount": 30_000})
    rest = client.v1.refunds.create({"charge": intent.latest_charge.id})
    assert (first.status, first.amount, rest.amount) == ("pending", 30_000, 70_000)
    assert client.v1.balance_transactions.retrieve(first.balance_transaction).net == -30_000
    listed = client.v1.refunds.list({"payment_intent": intent.id, "limit": 1})
    assert [refund.id for refund in listed.data] == [rest.id]
    assert listed.has_more
    charge = client.v1.charges.retrieve(intent.latest_charge.id)
    assert (charge.amount_refunded, charge.refunded) == (100_000, True)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 1})
    assert refused.value.code == "charge_already_refunded"


def test_a_failed_refund_is_money_again(house, client):
    intent = paid(house, client).payment_intent
    house.fault("fail_refund")
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    eventually(lambda: client.v1.refunds.retrieve(refund.id).status == "failed", "the refund's failure")
    refund = client.v1.refunds.retrieve(refund.id)
    assert refund.failure_reason == "expired_or_canceled_card"
    assert client.v1.balance_transactions.retrieve(refund.failure_balance_transaction).amount == 100_000
    assert client.v1.charges.retrieve(intent.latest_charge.id).amount_refunded == 0


@pytest.mark.parametrize(
    ("params", "field", "code"),
    [
        ({"amount": 100_001}, "amount", None),
        ({"amount": 0}, "amount", "parameter_invalid_integer"),
        ({"amount": "1.5"}, "amount", "parameter_invalid_integer"),
        ({"reason": "just_so"}, "reason", None),
        ({"no_such": "x"}, "no_such", "parameter_unknown"),
        ({"charge": "ch_1"}, None, "parameter_missing"),
    ],
)
def test_refunds_that_stripe_refuses(house, client, params, field, code):
    intent = paid(house, client).payment_intent
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id, **params})
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, field, code)


def test_an_unpaid_session_has_nothing_to_refund(house, client):
    session = client.v1.checkout.sessions.create(SESSION)
    pay(house, session, "4000000000009995")
    intent = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]}).payment_intent
    assert intent.last_payment_error.decline_code == "insufficient_funds"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({"payment_intent": intent.id})


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "subscription"},
        {"mode": None},
        {"line_items": None},
        {"success_url": "javascript:alert(1)"},
        {"cancel_url": "/relative"},
        {"payment_method_types": ["card"]},  # gone from the API version of stripe 16
        {"expires_at": 1},
        {"metadata": {"k" * 41: "x"}},
    ],
    ids=str,
)
def test_sessions_that_stripe_refuses(client, change):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.checkout.sessions.create({**SESSION, **change})
    assert refused.value.http_status == 400


def test_keys(house, client):
    other = stripe.StripeClient("sk_test_other", base_addresses={"api": house.sandbox.url}, max_network_retries=0)
    with pytest.raises(stripe.AuthenticationError) as refused:
        other.v1.refunds.retrieve("re_1")
    assert "sk_test_other" not in str(refused.value)
    answer = house.http.get(f"{house.sandbox.url}/v1/refunds/re_1")
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_request_error")


def test_what_does_not_exist(client):
    for call in (
        lambda: client.v1.refunds.retrieve("re_nobody"),
        lambda: client.v1.payment_intents.retrieve("cs_test_1"),
        lambda: client.v1.customers.retrieve("cus_1"),
        lambda: client.v1.customers.create({"email": "a@example.com"}),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            call()
        assert refused.value.http_status == 404
    session = client.v1.checkout.sessions.create(SESSION)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.checkout.sessions.retrieve(session.id, {"expand": ["no_such.thing"]})


def create(house, key: str, **changes) -> httpx.Response:
    form = {
        "mode": "payment",
        "success_url": "http://shop.example/",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][unit_amount]": "5000",
        "line_items[0][price_data][product_data][name]": "Deposit",
        **changes,
    }
    headers = {"Authorization": f"Bearer {SECRET_KEY}", "Idempotency-Key": key}
    return house.http.post(f"{house.sandbox.url}/v1/checkout/sessions", data=form, headers=headers)


def test_idempotency(house):
    key = str(uuid.uuid4())
    first, again = create(house, key), create(house, key)
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    other = create(house, key, locale="de")
    assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")
    # What failed validation was never done, so the mended request may use its key.
    key = str(uuid.uuid4())
    assert create(house, key, no_such="1").status_code == 400
    assert create(house, key).status_code == 200


def test_one_key_pressed_many_times_at_once_makes_one(house):
    key = str(uuid.uuid4())
    with ThreadPoolExecutor(8) as pool:
        made = {answer.json()["id"] for answer in pool.map(lambda _: create(house, key), range(16))}
    assert len(made) == 1


def test_one_payment_pressed_many_times_at_once_charges_once(house, client):
    session = client.v1.checkout.sessions.create(SESSION)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: pay(house, session), range(8)))
    assert {answer.status_code for answer in answers} == {303}
    charged = [
        event
        for event in house.state()["events"]
        if event["type"] == "checkout.session.completed" and event["data"]["object"]["id"] == session.id
    ]
    assert len(charged) == 1


def test_a_body_without_end_is_refused(house):
    answer = house.http.post(
        f"{house.sandbox.url}/v1/refunds",
        content=b"amount=" + b"1" * 2_000_000,
        headers={"Authorization": f"Bearer {SECRET_KEY}", "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 413
