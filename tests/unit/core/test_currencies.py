"""Currencies beside ISO 4217's: configured, checked, with exponents 0 to 8; cent currencies follow their parents."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.core import money
from app.core.money import ExtraCurrency, InvalidMoney, Money, exponent, parent, parse_extra_currencies


@pytest.fixture(autouse=True)
def as_before():
    yield
    money.configure(parse_extra_currencies(money.DEFAULT_EXTRA_CURRENCIES))


def test_as_they_come():
    assert {code: exponent(code) for code in ("USC", "EUC", "BTC", "ETH", "USDT", "USDC")} == {
        "USC": 2,
        "EUC": 2,
        "BTC": 8,
        "ETH": 8,
        "USDT": 6,
        "USDC": 6,
    }
    assert (parent("USC"), parent("EUC"), parent("USD"), parent("BTC")) == (("USD", 100), ("EUR", 100), ("USD", 1), ("BTC", 1))
    assert money.reporting_currency() == "USD"


def test_parsing():
    assert parse_extra_currencies(" BTC:8, USC:2=USD/100 ,MBT:5=BTC/1000,") == (
        ExtraCurrency("BTC", 8),
        ExtraCurrency("USC", 2, "USD", 100),
        ExtraCurrency("MBT", 5, "BTC", 1000),
    )
    assert parse_extra_currencies("") == ()


@pytest.mark.parametrize("digits", range(9))
def test_every_exponent(digits):
    money.configure(parse_extra_currencies(f"TOK:{digits}"))
    assert exponent("TOK") == digits
    assert Money.parse("1", "TOK") == Money(10**digits, "TOK")
    assert Money.round_down(Decimal("1.999999999"), "TOK").amount_minor == int(Decimal("1.999999999").scaleb(digits))
    assert sum(part.amount_minor for part in Money(100, "TOK").allocate([1, 1, 1])) == 100


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("BTC", "like BTC:8"),
        ("BTC:", "like BTC:8"),
        ("BTC:x", "like BTC:8"),
        ("BTC:-1", "like BTC:8"),
        ("BTC:10", "like BTC:8"),
        ("BTC:9", "9 decimals; 8 is the most"),
        ("btc:8", "like BTC:8"),
        ("BT:8", "like BTC:8"),
        ("TOOLONGCODE:8", "like BTC:8"),
        ("BTC:8;ETH:8", "like BTC:8"),
        ("USC:2=USD", "like BTC:8"),
        ("USC:2=USD/0", "power of ten"),
        ("USC:2=USD/1", "power of ten"),
        ("USC:2=USD/3", "power of ten"),
        ("USC:2=USD/150", "power of ten"),
        ("EUR:2", "EUR is a currency of ISO 4217"),
        ("BTC:8,BTC:6", "BTC is named twice"),
        ("USC:2=XYZ/100", "XYZ, the parent of USC"),
        ("USC:2=USC/100", "USC, the parent of USC"),
        ("USC:2=USD/100,MIL:2=USC/10", "USC, the parent of MIL"),
    ],
)
def test_what_cannot_be_meant(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_extra_currencies(text)
    assert "\n" not in str(caught.value)


def test_a_configuration_replaces_the_one_before():
    money.configure(parse_extra_currencies("DOGE:8,GBX:2=GBP/100"), "EUR")
    assert (exponent("DOGE"), parent("GBX"), money.reporting_currency()) == (8, ("GBP", 100), "EUR")
    with pytest.raises(InvalidMoney, match="Unknown currency BTC"):
        Money(1, "BTC")
    assert parent("USC") == ("USC", 1)


def test_a_reporting_currency_must_be_known():
    with pytest.raises(InvalidMoney, match="Unknown currency XYZ"):
        money.configure((), "XYZ")


@pytest.mark.parametrize(
    ("code", "has"), [("EUR", True), ("BTC", True), ("USC", False), ("XYZ", False), ("XAU", False), ("", False)]
)
def test_a_value_of_its_own(code, has):
    assert money.has_own_value(code, parse_extra_currencies(money.DEFAULT_EXTRA_CURRENCIES)) is has
