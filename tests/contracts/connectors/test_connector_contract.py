"""What every connector must do, over real HTTP. A new connector joins by adding its house to HOUSES."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from app.core.money import Money
from app.payments import connectors
from app.payments.connector import (
    EXPIRED,
    BadSignature,
    Connector,
    Failed,
    NotSent,
    Pending,
    RefundRequest,
    Refunds,
    Settled,
    Unknown,
    UnsupportedAmount,
)
from tests.contracts.connectors.stripe_house import StripeHouse, eventually

HOUSES = {"stripe": StripeHouse}
AMOUNT = Money(100_000, "USD")


def test_every_connector_is_under_contract():
    assert set(HOUSES) == set(connectors.NAMES)


@pytest.fixture(scope="module", params=HOUSES)
def house(request, tmp_path_factory) -> Iterator[StripeHouse]:
    made = HOUSES[request.param](tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


@pytest.fixture
def attempt() -> str:
    return str(uuid.uuid4())


def settled(house, attempt: str) -> Settled:
    started = house.connector.start_deposit(house.request(attempt, AMOUNT))
    house.pay(started)
    outcome = house.connector.fetch_deposit(started.provider_reference)
    assert isinstance(outcome, Settled)
    return outcome


def test_it_says_what_it_offers(house):
    connector: Connector = house.connector
    assert connector.name in connectors.NAMES
    assert connector.capabilities.methods
    for currency, limits in connector.capabilities.limits.items():
        assert limits.minimum.currency == limits.maximum.currency == currency
        assert Money(0, currency) < limits.minimum <= limits.maximum


def test_a_deposit_from_start_to_settlement(house, attempt):
    request = house.request(attempt, AMOUNT)
    started = house.connector.start_deposit(request)
    assert isinstance(started.outcome, Pending)
    assert started.redirect_url
    assert started.provider_reference
    assert isinstance(house.connector.fetch_deposit(started.provider_reference), Pending)
    house.pay(started)
    outcome = house.connector.fetch_deposit(started.provider_reference)
    assert isinstance(outcome, Settled)
    assert outcome.amount == AMOUNT
    assert outcome.fee
    assert outcome.payment_reference
    events = eventually(
        lambda: [event for event in house.events(attempt) if isinstance(event.outcome, Settled)], "the settlement event"
    )
    assert {event.kind for event in events} == {"deposit"}
    assert {event.outcome.amount for event in events} == {AMOUNT}
    assert {event.payment_reference for event in events} == {outcome.payment_reference}
    assert {event.provider_reference for event in events} <= {None, started.provider_reference}


def test_an_equal_request_finds_the_first_deposit(house, attempt):
    request = house.request(attempt, AMOUNT)
    first = house.connector.start_deposit(request)
    assert house.connector.start_deposit(request) == first
    assert house.made(attempt) == {"deposits": 1, "refunds": 0}


def test_the_same_attempt_with_other_content_makes_nothing(house, attempt):
    house.connector.start_deposit(house.request(attempt, AMOUNT))
    other = house.connector.start_deposit(house.request(attempt, Money(1_000, "USD")))
    assert isinstance(other.outcome, Unknown)
    assert other.redirect_url is None
    assert house.made(attempt)["deposits"] == 1


def test_an_amount_outside_the_limits_is_not_sent(house, attempt):
    with pytest.raises(UnsupportedAmount):
        house.connector.start_deposit(house.request(attempt, Money(1, "USD")))
    assert house.made(attempt)["deposits"] == 0


def test_an_answer_that_never_comes_is_unknown_and_found_again(house, attempt):
    request = house.request(attempt, AMOUNT)
    house.fault("drop_answer")
    lost = house.connector.start_deposit(request)
    assert isinstance(lost.outcome, Unknown)
    assert house.made(attempt)["deposits"] == 1
    found = house.connector.start_deposit(request)
    assert isinstance(found.outcome, Pending)
    assert found.redirect_url
    assert house.made(attempt)["deposits"] == 1


def test_an_answer_that_comes_too_late_is_unknown_and_found_again(house, attempt):
    request = house.request(attempt, AMOUNT)
    house.fault("slow", seconds=1)
    assert house.impatient().start_deposit(request).outcome == Unknown("timeout")
    assert isinstance(house.connector.start_deposit(request).outcome, Pending)
    assert house.made(attempt)["deposits"] == 1


def test_a_server_error_is_unknown_not_failed(house, attempt):
    house.fault("error_500")
    assert isinstance(house.connector.start_deposit(house.request(attempt, AMOUNT)).outcome, Unknown)


def test_what_never_left_is_not_sent(house, attempt):
    request = house.request(attempt, AMOUNT)
    refund = RefundRequest(attempt, "nothing", AMOUNT)
    assert isinstance(house.unreachable().start_deposit(request).outcome, NotSent)
    assert isinstance(house.unreachable().start_refund(refund).outcome, NotSent)
    assert isinstance(house.wrong_key().start_deposit(request).outcome, NotSent)
    assert house.made(attempt) == {"deposits": 0, "refunds": 0}


def test_trouble_in_asking_decides_nothing(house):
    assert isinstance(house.unreachable().fetch_deposit("x"), Unknown)
    assert isinstance(house.wrong_key().fetch_deposit("x"), Unknown)
    assert house.connector.fetch_deposit("cs_test_nobody_knows") == Unknown("absent")
    house.fault("error_500")
    assert isinstance(house.connector.fetch_deposit("x"), Unknown)


def test_a_declined_payer_may_try_again(house, attempt):
    started = house.connector.start_deposit(house.request(attempt, AMOUNT))
    house.decline(started)
    assert isinstance(house.connector.fetch_deposit(started.provider_reference), Pending)
    house.pay(started)
    assert isinstance(house.connector.fetch_deposit(started.provider_reference), Settled)
    eventually(lambda: any(isinstance(event.outcome, Settled) for event in house.events(attempt)), "the settlement event")
    assert not any(isinstance(event.outcome, Failed) for event in house.events(attempt))


def test_money_that_takes_its_time(house, attempt):
    started = house.connector.start_deposit(house.request(attempt, AMOUNT))
    house.pay_later(started)
    outcomes = eventually(
        lambda: (found := {type(event.outcome) for event in house.events(attempt)}) >= {Pending, Settled} and found,
        "a pending and a settled event",
    )
    assert outcomes == {Pending, Settled}
    assert isinstance(house.connector.fetch_deposit(started.provider_reference), Settled)


def test_a_deposit_that_nobody_pays_expires(house, attempt):
    started = house.connector.start_deposit(house.request(attempt, AMOUNT))
    house.expire(started)
    expired = house.connector.fetch_deposit(started.provider_reference)
    assert isinstance(expired, Failed)
    assert expired.code == EXPIRED
    event = eventually(lambda: house.events(attempt), "the expiry event")[0]
    assert event.outcome == expired


def test_a_callback_with_one_byte_changed_is_refused(house, attempt):
    settled(house, attempt)
    eventually(lambda: house.events(attempt), "an event")
    body, headers = house.receiver.callbacks[-1]
    with pytest.raises(BadSignature):
        house.connector.parse_callback(body.replace(b"{", b"{ ", 1), headers)
    with pytest.raises(BadSignature):
        house.connector.parse_callback(body, {})


def test_a_refund_from_start_to_payment(house, attempt):
    if not isinstance(house.connector, Refunds):
        pytest.skip("this connector cannot refund")
    payment = settled(house, attempt)
    request = RefundRequest(str(uuid.uuid4()), payment.payment_reference, Money(30_000, "USD"))
    started = house.connector.start_refund(request)
    assert isinstance(started.outcome, Pending)
    assert started.provider_reference
    paid = eventually(
        lambda: [event for event in house.events(request.attempt_id) if isinstance(event.outcome, Settled)], "the refund"
    )[0]
    assert (paid.kind, paid.provider_reference) == ("refund", started.provider_reference)
    assert paid.outcome.amount == request.amount
    for reference in (started.provider_reference, None):
        fetched = house.connector.fetch_refund(request, reference)
        assert fetched.provider_reference == started.provider_reference
        assert isinstance(fetched.outcome, Settled)
    assert house.connector.start_refund(request).provider_reference == started.provider_reference
    assert house.made(request.attempt_id)["refunds"] == 1


def test_a_refund_whose_answer_was_lost_is_found_and_not_repeated(house, attempt):
    payment = settled(house, attempt)
    request = RefundRequest(str(uuid.uuid4()), payment.payment_reference, Money(30_000, "USD"))
    assert house.connector.fetch_refund(request).outcome == Unknown("absent")
    house.fault("drop_answer", path="/v1/refunds")
    lost = house.connector.start_refund(request)
    assert isinstance(lost.outcome, Unknown)
    assert lost.provider_reference is None
    found = house.connector.fetch_refund(request)
    assert isinstance(found.outcome, Pending | Settled)
    assert house.connector.start_refund(request).provider_reference == found.provider_reference
    assert house.made(request.attempt_id)["refunds"] == 1


def test_a_refund_that_fails(house, attempt):
    payment = settled(house, attempt)
    house.fault("fail_refund")
    request = RefundRequest(str(uuid.uuid4()), payment.payment_reference, AMOUNT)
    house.connector.start_refund(request)
    failed = eventually(
        lambda: [event for event in house.events(request.attempt_id) if isinstance(event.outcome, Failed)], "the failure"
    )[0]
    assert failed.kind == "refund"
    assert isinstance(house.connector.fetch_refund(request).outcome, Failed)
    # What failed is there to be refunded again.
    again = RefundRequest(str(uuid.uuid4()), payment.payment_reference, AMOUNT)
    assert isinstance(house.connector.start_refund(again).outcome, Pending)


def test_a_refund_of_more_than_is_left_fails_with_the_providers_words(house, attempt):
    payment = settled(house, attempt)
    house.connector.start_refund(RefundRequest(str(uuid.uuid4()), payment.payment_reference, Money(70_000, "USD")))
    request = RefundRequest(str(uuid.uuid4()), payment.payment_reference, Money(30_001, "USD"))
    refused = house.connector.start_refund(request).outcome
    assert isinstance(refused, Failed)
    assert "30" in refused.words
    assert house.made(request.attempt_id)["refunds"] == 0


def test_a_refund_of_what_does_not_exist_fails(house, attempt):
    refused = house.connector.start_refund(RefundRequest(attempt, "pi_nobody_knows", AMOUNT)).outcome
    assert isinstance(refused, Failed)


def test_repeated_events_have_one_id_and_one_fingerprint(house, attempt):
    house.fault("duplicate_webhooks", times=100)
    settled(house, attempt)
    house.fault("duplicate_webhooks", times=0)
    events = eventually(lambda: len(found := house.events(attempt)) >= 4 and found, "the repeated events")
    first = events[0]
    # The repeat tells of fewer deliveries to come; its content is the same.
    house.control(f"resend/{first.event_id}")
    seen = {event.fingerprint for event in events if event.event_id == first.event_id}
    assert len(seen) == 1
    before = sum(event.event_id == first.event_id for event in events)
    eventually(
        lambda: sum(event.event_id == first.event_id for event in house.events(attempt)) > before, "the event sent again"
    )
    assert {event.fingerprint for event in house.events(attempt) if event.event_id == first.event_id} == seen
