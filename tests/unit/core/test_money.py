"""Money: exact amounts, no floats, nothing lost in a split."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.money import MAX_AMOUNT_MINOR, InvalidMoney, Money, exponent

AMOUNTS = st.integers(min_value=-MAX_AMOUNT_MINOR, max_value=MAX_AMOUNT_MINOR)
CURRENCIES = st.sampled_from(["USD", "JPY", "KWD", "BTC", "USC", "USDT"])


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("BTC", 8), ("USDT", 6), ("USC", 2)],
)
def test_exponents(currency, digits):
    assert exponent(currency) == digits


@pytest.mark.parametrize("currency", ["", "usd", "XYZ", "USDD", "XXX", "XAU", " USD", "🙂", None])
def test_unknown_currency(currency):
    with pytest.raises(InvalidMoney, match="Unknown currency"):
        Money(1, currency)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.30", "USD", 1230),
        (" 12.3 ", "USD", 1230),
        ("12.300", "USD", 1230),
        ("12", "USD", 1200),
        ("12.", "USD", 1200),
        (".5", "USD", 50),
        ("-0.01", "USD", -1),
        ("+7", "JPY", 7),
        ("7.000", "JPY", 7),
        ("1.234", "KWD", 1234),
        ("0.00000001", "BTC", 1),
        ("٣٫".replace("٫", ".") + "٥", "USD", 350),
        (Decimal("1E+3"), "USD", 100_000),
        (Decimal("0.10"), "USD", 10),
    ],
)
def test_parse(text, currency, minor):
    assert Money.parse(text, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "-", "abc", "NaN", "sNaN", "Infinity", "-inf", "1e5", "1_000", "1,000.00", "1.2.3", "0x10", "1 000", "--1"],
)
def test_parse_refuses_what_is_not_a_plain_number(text):
    with pytest.raises(InvalidMoney):
        Money.parse(text, "USD")


@pytest.mark.parametrize("value", [1.5, 1, True, None, b"1", Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), "1" * 61])
def test_parse_refuses_other_types_and_what_is_not_finite(value):
    with pytest.raises(InvalidMoney):
        Money.parse(value, "USD")


@pytest.mark.parametrize(
    ("text", "currency", "digits"),
    [
        ("0.001", "USD", 2),
        ("1.5", "JPY", 0),
        ("0.0001", "KWD", 3),
        ("0.000000001", "BTC", 8),
        (Decimal("1." + "0" * 70 + "1"), "USD", 2),
        (Decimal("0.001"), "USD", 2),
    ],
)
def test_parse_refuses_more_decimals_than_the_currency_has(text, currency, digits):
    with pytest.raises(InvalidMoney) as caught:
        Money.parse(text, currency)
    assert str(caught.value) == f"{currency} has {digits} decimals at most."


@pytest.mark.parametrize(
    "text", ["1" + "0" * 30, Decimal(10) ** 30, Decimal(10) ** 1000, str(MAX_AMOUNT_MINOR), "92233720368547758.08"]
)
def test_parse_refuses_what_no_column_holds(text):
    with pytest.raises(InvalidMoney, match="too large"):
        Money.parse(text, "USD")


def test_the_largest_amount():
    assert Money.parse("92233720368547758.07", "USD").amount_minor == MAX_AMOUNT_MINOR


@pytest.mark.parametrize("amount", [1.0, "1", None, True, Decimal(1)])
def test_minor_units_are_whole_numbers(amount):
    with pytest.raises(InvalidMoney):
        Money(amount, "USD")


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [("1.999", "USD", 199), ("-1.999", "USD", -199), ("0.009", "USD", 0), ("99.9", "JPY", 99), ("0.0129", "KWD", 12)],
)
def test_round_down_is_towards_zero(value, currency, minor):
    assert Money.round_down(Decimal(value), currency) == Money(minor, currency)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e30"])
def test_round_down_refuses_what_is_no_amount(value):
    with pytest.raises(InvalidMoney):
        Money.round_down(Decimal(value), "USD")


def test_carrying_a_negative_remainder_loses_nothing():
    carried = Decimal(0)
    posted = 0
    for accrued in [Decimal("-0.0051")] * 7 + [Decimal("0.0333")] * 3:
        due = accrued + carried
        amount = Money.round_down(due, "USD")
        posted += amount.amount_minor
        carried = due - amount.decimal
    assert Decimal(posted).scaleb(-2) + carried == Decimal("-0.0357") + Decimal("0.0999")
    assert abs(carried) < Decimal("0.01")


@pytest.mark.parametrize(
    ("minor", "weights", "parts"),
    [
        (10_000, [1, 1, 1], [3334, 3333, 3333]),
        (-10_000, [1, 1, 1], [-3334, -3333, -3333]),
        (1, [1, 1, 1], [1, 0, 0]),
        (5, [0, 3, 0, 2], [0, 3, 0, 2]),
        (7, [0, 1, 1], [0, 4, 3]),
        (0, [1, 2], [0, 0]),
    ],
)
def test_allocate(minor, weights, parts):
    assert [part.amount_minor for part in Money(minor, "USD").allocate(weights)] == parts


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [2, -1], [-1]])
def test_allocate_needs_positive_shares(weights):
    with pytest.raises(InvalidMoney, match="Shares"):
        Money(1, "USD").allocate(weights)


@given(amount=AMOUNTS, weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any))
def test_allocation_is_exact_and_fair(amount, weights):
    parts = Money(amount, "USD").allocate(weights)
    assert sum(part.amount_minor for part in parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part.amount_minor * sum(weights) - amount * weight) < sum(weights)


@given(amount=AMOUNTS, currency=CURRENCIES)
def test_text_and_back(amount, currency):
    money = Money(amount, currency)
    assert Money.parse(f"{money.decimal:f}", currency) == money
    assert Money.round_down(money.decimal, currency) == money
    assert str(money) == f"{money.decimal:f} {currency}"


def test_arithmetic_and_order():
    one, two = Money(100, "USD"), Money(200, "USD")
    assert one + one == two
    assert one - two == -one
    assert abs(-two) == two
    assert one < two
    assert two > one
    assert one <= Money(100, "USD")
    assert one >= Money(100, "USD")
    assert not one >= two
    assert one
    assert not Money.zero("USD")
    assert len({one, Money(100, "USD"), Money(100, "EUR")}) == 2


@pytest.mark.parametrize("other", [Money(1, "EUR"), 1, None, "1"])
def test_other_currencies_do_not_mix(other):
    one = Money(1, "USD")
    with pytest.raises(TypeError, match="cannot combine USD"):
        one + other
    with pytest.raises(TypeError, match="cannot combine USD"):
        one < other  # noqa: B015  # the comparison itself raises


def test_sums_past_the_largest_amount_are_refused():
    with pytest.raises(InvalidMoney, match="too large"):
        Money(MAX_AMOUNT_MINOR, "USD") + Money(1, "USD")
