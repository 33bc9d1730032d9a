"""Whatever is converted, at whatever rate: nothing is made or lost but the spread, and there and back never gains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.core.errors import AppError
from app.core.money import MAX_AMOUNT_MINOR, Money, exponent
from app.ledger.errors import AmountTooSmall
from app.ledger.fx import Priced, price
from app.ledger.known_rates import KnownRates, RateUsed, SourceRule

#: Exponents 0, 2, 3, 6 and 8, and a cent currency.
CURRENCIES = ("JPY", "USD", "KWD", "USDT", "BTC", "USC")
PAIR = st.lists(st.sampled_from(CURRENCIES), min_size=2, max_size=2, unique=True)
AMOUNT = st.one_of(st.integers(1, 100_000), st.integers(1, MAX_AMOUNT_MINOR))
RATE = st.decimals(min_value="0.0001", max_value="9999999", places=10).filter(bool)
BASIS_POINTS = st.integers(0, 2000)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def market(*to_euro: Decimal) -> KnownRates:
    """What 1 euro is in the currencies with a value of their own."""
    codes = [code for code in CURRENCIES if code != "USC"]
    known = [
        RateUsed(number, "ecb", "EUR", code, rate, NOW - timedelta(hours=1))
        for number, (code, rate) in enumerate(zip(codes, to_euro, strict=True), 1)
    ]
    return KnownRates(known, {"ecb": SourceRule(1, 86_400)}, NOW)


MARKET = st.builds(market, *[RATE] * (len(CURRENCIES) - 1))


def priced(known: KnownRates, sell: Money, buy: str, spread_bp: int) -> tuple[Priced, Decimal]:
    """What is made of the amount, and by which rate. Amounts that cannot be converted are none of the properties' matter."""
    found = known.find(sell.currency, buy)
    assert found is not None
    try:
        return price(sell, buy, found.rate, spread_bp), found.rate
    except AppError:
        assume(False)
        raise


@given(known=MARKET, pair=PAIR, amount=AMOUNT, spread_bp=BASIS_POINTS)
def test_each_currency_is_conserved(known, pair, amount, spread_bp):
    """What is sold is spread and position; what is bought is less than a minor unit short of the position's worth."""
    sell = Money(amount, pair[0])
    made, rate = priced(known, sell, pair[1], spread_bp)
    rest = sell - made.spread
    assert made.spread.currency == rest.currency == pair[0]
    assert made.bought.currency == pair[1]
    with localcontext(prec=100):
        residual = rest.decimal * rate - made.bought.decimal
        assert 0 <= residual < Decimal(1).scaleb(-exponent(pair[1]))


@given(known=MARKET, pair=PAIR, amount=AMOUNT, spread_bp=BASIS_POINTS)
def test_the_spread_is_what_was_promised_and_not_a_unit_more(known, pair, amount, spread_bp):
    sell = Money(amount, pair[0])
    made, _ = priced(known, sell, pair[1], spread_bp)
    assert 0 <= made.spread.amount_minor * 10_000 - amount * spread_bp < 10_000


@given(known=MARKET, pair=PAIR, amount=AMOUNT, there=BASIS_POINTS, back=BASIS_POINTS)
def test_there_and_back_never_gains(known, pair, amount, there, back):
    sell = Money(amount, pair[0])
    made, _ = priced(known, sell, pair[1], there)
    again, _ = priced(known, made.bought, pair[0], back)
    assert again.bought <= sell


@given(known=MARKET, codes=st.permutations(CURRENCIES), amount=AMOUNT)
def test_a_round_through_three_currencies_never_gains(known, codes, amount):
    first, second, third = codes[:3]
    held = Money(amount, first)
    for buy in (second, third, first):
        made, _ = priced(known, held, buy, 0)
        held = made.bought
    assert held <= Money(amount, first)


@given(rate=st.decimals(min_value="0.01", max_value="1000", places=4), amount=st.integers(1, 10**9))
def test_what_comes_out_even_comes_out_whole(rate, amount):
    """Buying so many euros for exactly their price gives all of them."""
    known = KnownRates([RateUsed(1, "ecb", "EUR", "BTC", rate, NOW)], {"ecb": SourceRule(1, 60)}, NOW)
    paid = Money(int(amount * rate * 10**4) * 100, "BTC")  # amount is in cents: exact at four decimals
    assume(paid.amount_minor > 0)
    found = known.find("BTC", "EUR")
    assert price(paid, "EUR", found.rate, 0).bought == Money(amount, "EUR")


@given(
    amount=st.integers(-1000, 5),
    rate=st.decimals(min_value="0.0001", max_value="0.1", places=6).filter(bool),
    spread_bp=BASIS_POINTS,
)
def test_what_rounds_to_zero_is_refused(amount, rate, spread_bp):
    with pytest.raises(AmountTooSmall):
        price(Money(amount, "USD"), "JPY", rate, spread_bp)


@given(amount=st.integers(1, MAX_AMOUNT_MINOR // 100))
def test_cents_are_exact_both_ways(amount):
    known, dollars = KnownRates([], {}, NOW), Money(amount, "USD")
    cents = price(dollars, "USC", known.find("USD", "USC").rate, 0).bought
    assert cents == Money(amount * 100, "USC")
    assert price(cents, "USD", known.find("USC", "USD").rate, 0).bought == dollars
