"""Amounts on Stripe's wire, and what the connector offers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.money import Money
from app.payments import connectors
from app.payments.connector import Connector, Failed, Pending, Refunds, Settled, UnsupportedAmount
from app.payments.connectors.stripe import CAPABILITIES, StripeConnector
from app.payments.connectors.stripe_objects import Unreadable, from_wire, session_outcome, to_wire


@pytest.mark.parametrize(
    ("money", "wire"),
    [
        (Money(100_000, "USD"), 100_000),
        (Money(5_000, "JPY"), 5_000),
        (Money(700, "MGA"), 7),  # ISO 4217 counts hundredths, Stripe whole ariary
        (Money(12_340, "KWD"), 12_340),
        (Money(5_000, "CLP"), 5_000),
        (Money(17_500, "HUF"), 17_500),
    ],
)
def test_both_ways(money: Money, wire: int):
    assert to_wire(money) == wire
    assert from_wire(wire, money.currency.lower()) == money


@pytest.mark.parametrize("money", [Money(750, "MGA"), Money(12_345, "KWD"), Money(100, "ISK"), Money(100, "UGX")], ids=str)
def test_what_stripe_cannot_express_is_refused_not_rounded(money: Money):
    with pytest.raises(UnsupportedAmount):
        to_wire(money)


@given(st.sampled_from(sorted(CAPABILITIES.currencies)), st.integers(1, 99_999_999))
def test_offered_currencies_lose_nothing(currency: str, amount_minor: int):
    money = Money(amount_minor, currency)
    assert from_wire(to_wire(money), currency.lower()) == money


@pytest.mark.parametrize(("amount", "currency"), [(1, "zzz"), (1, ""), (2**70, "usd"), (1, "isk")])
def test_unreadable_amounts(amount: int, currency: str):
    with pytest.raises(Unreadable):
        from_wire(amount, currency)


def test_limits():
    CAPABILITIES.check(Money(50, "USD"))
    CAPABILITIES.check(Money(99_999_999, "USD"))
    for money in (Money(49, "USD"), Money(100_000_000, "USD"), Money(-50, "USD"), Money(1000, "RUB")):
        with pytest.raises(UnsupportedAmount) as refused:
            CAPABILITIES.check(money)
        assert str(refused.value)


def session(**fields) -> dict:
    intent = {"id": "pi_1", "status": "succeeded", "amount_received": 100_000, "currency": "usd"}
    return {"status": "complete", "payment_status": "paid", "payment_intent": {**intent, **fields}}


def test_the_fee_is_in_the_currency_of_our_account_and_may_come_later():
    booking = {"fee": 2_730, "currency": "eur"}
    paid = session_outcome(session(latest_charge={"balance_transaction": booking}))
    assert paid == Settled(Money(100_000, "USD"), Money(2_730, "EUR"), "pi_1")
    assert session_outcome(session(latest_charge={"balance_transaction": None})) == Settled(Money(100_000, "USD"), None, "pi_1")
    assert session_outcome(session(latest_charge="ch_1")) == Settled(Money(100_000, "USD"), None, "pi_1")


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ({"type": "card", "card": {"fingerprint": "Xt5EWLLDS7FJjR1c"}}, "Xt5EWLLDS7FJjR1c"),
        ({"type": "card", "card": {"fingerprint": None}}, None),
        ({"type": "link"}, None),
        (None, None),
        ({"type": "card", "card": {"fingerprint": "\x00"}}, None),
    ],
)
def test_the_card_that_paid_is_told_by_its_fingerprint(details, told):
    paid = session_outcome(session(latest_charge={"payment_method_details": details}))
    assert isinstance(paid, Settled)
    assert paid.card_fingerprint == told


def test_a_complete_session_whose_delayed_payment_was_refused():
    refused = session(
        status="requires_payment_method",
        last_payment_error={"code": "card_declined", "decline_code": "insufficient_funds", "message": "No funds."},
    )
    refused["payment_status"] = "unpaid"
    assert session_outcome(refused) == Failed("insufficient_funds", "No funds.")
    refused["payment_intent"]["last_payment_error"] = None
    assert session_outcome(refused) == Failed("payment_failed")
    refused["payment_intent"]["status"] = "processing"
    assert session_outcome(refused) == Pending("unpaid")


class _Settings:
    stripe_secret_key = "sk_test_x"
    stripe_webhook_secret = "whsec_new, whsec_old"
    stripe_api_base = ""


def test_the_registry():
    loaded = connectors.load("stripe", _Settings())
    assert connectors.NAMES == ("stripe",)
    assert isinstance(loaded, StripeConnector)
    assert isinstance(loaded, Refunds)
    assert loaded.name == "stripe"
    assert loaded._webhook_secrets == ("whsec_new", "whsec_old")
    with pytest.raises(connectors.UnknownConnector):
        connectors.load("../stripe", _Settings())


def test_an_empty_api_base_is_stripe_itself():
    made: Connector = connectors.load("stripe", _Settings())
    client = made._client  # type: ignore[attr-defined]  # looked at, not called
    assert client._requestor._options.base_addresses["api"] == "https://api.stripe.com"
