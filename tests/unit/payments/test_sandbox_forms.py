"""The sandbox's pure parts: form parameters, test cards, fee."""

from __future__ import annotations

from datetime import date

import pytest

from app.payments.sandbox.cards import TEST_CARDS, check
from app.payments.sandbox.objects import fee, words
from app.payments.sandbox.parameters import REFUND_SCHEMA, RETRIEVE_SCHEMA, SESSION_SCHEMA, Problem, decode, required, whole

TODAY = date(2026, 11, 26)


def test_nested_parameters():
    pairs = [
        ("mode", "payment"),
        ("line_items[0][price_data][product_data][name]", "Deposit"),
        ("line_items[1][quantity]", "2"),
        ("metadata[order]", "7"),
        ("expand[]", "a"),
        ("expand[]", "b"),
    ]
    assert decode(pairs, SESSION_SCHEMA) == {
        "mode": "payment",
        "line_items": [{"price_data": {"product_data": {"name": "Deposit"}}}, {"quantity": "2"}],
        "metadata": {"order": "7"},
        "expand": ["a", "b"],
    }


@pytest.mark.parametrize(
    "pair",
    [
        ("no_such", "1"),
        ("payment_method_types[0]", "card"),
        ("payment_intent_data[no_such]", "1"),
        ("line_items[0][price_data][no_such]", "1"),
        ("mode[0]", "payment"),
        ("line_items", "x"),
        ("metadata[a][b]", "x"),
        ("metadata[" + "k" * 41 + "]", "x"),
        ("metadata[k]", "x" * 501),
    ],
)
def test_parameters_that_stripe_refuses(pair: tuple[str, str]):
    with pytest.raises(Problem) as refused:
        decode([pair], SESSION_SCHEMA)
    assert refused.value.status == 400
    assert refused.value.body["error"]["type"] == "invalid_request_error"


def test_one_name_twice_as_text_and_as_table():
    with pytest.raises(Problem):
        decode([("metadata", "x"), ("metadata[a]", "y")], REFUND_SCHEMA)
    assert decode([], RETRIEVE_SCHEMA) == {}


def test_missing_and_wrong_numbers():
    with pytest.raises(Problem) as missing:
        required({"price_data": {}}, "price_data.currency")
    assert missing.value.body["error"]["param"] == "price_data[currency]"
    for text in ("", "1.5", "abc", "-1", "9" * 30, "١"):
        with pytest.raises(Problem):
            whole(text, "amount")


@pytest.mark.parametrize(
    ("number", "expiry", "cvc", "wrong"),
    [
        ("4242 4242 4242 4242", "12 / 34", "123", set()),
        ("4242424242424242", "11/26", "1234", set()),
        ("4242-4242-4242-4242", "1226", " 123 ", set()),
        ("4242424242424242", "10/26", "123", {"expiry"}),
        ("4242424242424242", "13/30", "123", {"expiry"}),
        ("4242424242424241", "12/34", "123", {"number"}),
        ("5555555555554444", "12/34", "123", {"number"}),  # a real test card that the sandbox does not play
        ("", "", "", {"number", "expiry", "cvc"}),
        ("٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "١٢/٣٤", "١٢٣", {"number", "expiry", "cvc"}),
    ],
)
def test_the_card_form(number: str, expiry: str, cvc: str, wrong: set[str]):
    assert set(check(number, expiry, cvc, TODAY)) == wrong


def test_all_test_cards_pass_the_form():
    assert all(not check(number, "12/34", "123", TODAY) for number in TEST_CARDS)


def test_fee_and_words():
    assert fee(100_000) == 2_930
    assert fee(50) == 31  # 1.45 rounds to 1
    assert fee(500) == 45  # 14.5 rounds up
    assert words(100_000, "usd") == "1,000.00 USD"
    assert words(5_000, "jpy") == "5,000 JPY"
    assert words(12_340, "kwd") == "12.340 KWD"
