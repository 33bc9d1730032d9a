"""The arithmetic of deals, worked by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metatrader.simulator import pricing
from app.metatrader.simulator.market import INSTRUMENTS, Market

LOT = 100_000_000

#: EURUSD 1.10000, GBPUSD 1.30000, USDJPY 150.000, USDCHF 0.90000, each the middle of its spread.
FIXED = {"EURUSD": 110_000, "GBPUSD": 130_000, "USDJPY": 150_000, "USDCHF": 90_000}


@pytest.fixture
def market():
    return Market(1, step=1, mids=FIXED)


@pytest.mark.parametrize(
    ("symbol", "action", "opened", "closed", "volume", "currency", "raw", "minor"),
    [
        ("EURUSD", 0, 110_000, 110_150, LOT, "USD", "150", 15_000),  # 150 points of 1 lot: 150 USD
        ("EURUSD", 1, 110_000, 110_150, LOT, "USD", "-150", -15_000),
        ("EURUSD", 0, 110_000, 110_001, LOT // 100, "USD", "0.01", 1),
        ("USDJPY", 0, 150_000, 150_300, LOT, "USD", "30000", 19_999),  # 30,000 JPY sold at USDJPY's ask 150.005
        ("USDJPY", 0, 150_300, 150_000, LOT, "USD", "-30000", -20_001),  # bought at the bid 149.995
        ("EURGBP", 0, 84_000, 84_100, LOT, "USD", "100", 13_000),  # 100 GBP sold at GBPUSD's bid 1.29995, half up
        ("EURUSD", 0, 110_000, 110_150, LOT, "EUR", "150", 13_636),  # 150 USD sold at EURUSD's ask 1.10004
        ("USDCHF", 1, 90_000, 89_900, LOT // 2, "EUR", "50", 5_050),  # CHF through USD into EUR
    ],
)
def test_profit(market, symbol, action, opened, closed, volume, currency, raw, minor):
    result = pricing.profit(market, INSTRUMENTS[symbol], action, opened, closed, volume, currency, 2)
    assert result.raw == Decimal(raw)
    assert result.minor == minor
    assert pricing.minor(result.raw * result.rate, 2) == result.minor


def test_swap_in_points(market):
    eurusd = INSTRUMENTS["EURUSD"]
    assert pricing.swap(market, eurusd, 0, LOT, 1, "USD", 2) == -720  # 7.2 points of 1 USD
    assert pricing.swap(market, eurusd, 0, LOT, 3, "USD", 2) == -2160
    assert pricing.swap(market, eurusd, 1, LOT // 2, 1, "USD", 2) == 155


@pytest.mark.parametrize(
    ("day", "nights"),
    [
        (date(2026, 11, 23), 1),
        (date(2026, 11, 24), 1),
        (date(2026, 11, 25), 3),
        (date(2026, 11, 26), 1),
        (date(2026, 11, 27), 1),
        (date(2026, 11, 28), 0),
        (date(2026, 11, 29), 0),
    ],
)
def test_a_week_has_seven_nights(day, nights):
    assert pricing.nights(day) == nights


def test_commission_and_margin():
    assert pricing.commission(Decimal("3.50"), LOT // 2, 2) == -175
    assert pricing.commission(Decimal(0), LOT, 2) == 0
    assert pricing.margin(LOT, 100, Decimal("1.10004"), 2) == 110_004
    assert pricing.margin(LOT // 10, 500, Decimal(1), 2) == 2_000


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
def test_shares_lose_nothing(amount, parts):
    left, whole, given_out = amount, sum(parts), 0
    for part in parts:
        share = pricing.share(left, part, whole)
        given_out += share
        left -= share
        whole -= part
    assert given_out == amount


@pytest.mark.parametrize(("amount", "minor"), [("0.005", 1), ("-0.005", -1), ("0.0049", 0), ("1.234", 123)])
def test_rounding_is_half_up(amount, minor):
    assert pricing.minor(Decimal(amount), 2) == minor
