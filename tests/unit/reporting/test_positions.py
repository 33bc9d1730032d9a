"""What is left open, told from deals alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reporting.positions import align_prices, open_positions

START = datetime(2026, 10, 1, tzinfo=UTC)
BUY, SELL = 0, 1


@dataclass(frozen=True)
class Trade:
    action: int
    volume: int
    price: Decimal
    position_ticket: int = 1
    symbol: str = "EURUSD"
    done_at: datetime = START


def trades(*rows: tuple[int, int, str], ticket: int = 1) -> list[Trade]:
    return [
        Trade(action, volume, Decimal(price), ticket, done_at=START + timedelta(hours=hour))
        for hour, (action, volume, price) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(BUY, 100, "1.10")], ("Buy", 100, "1.10", 0)),
        ([(SELL, 100, "1.10")], ("Sell", 100, "1.10", 0)),
        ([(BUY, 100, "1.10"), (SELL, 40, "1.50")], ("Buy", 60, "1.10", 0)),
        ([(BUY, 100, "1.10"), (BUY, 300, "1.20")], ("Buy", 400, "1.175", 0)),
        ([(BUY, 100, "1.100"), (BUY, 300, "1.200"), (SELL, 200, "9.000")], ("Buy", 200, "1.175", 0)),
        ([(BUY, 100, "1.10"), (SELL, 250, "1.30")], ("Sell", 150, "1.30", 1)),
        ([(BUY, 100, "1.10"), (SELL, 100, "1.30"), (SELL, 50, "1.40")], ("Sell", 50, "1.40", 2)),
    ],
)
def test_one_position(rows, expected):
    (position,) = open_positions(trades(*rows))
    hours = (position.opened_at - START) / timedelta(hours=1)
    assert (position.what, position.volume, position.price, hours) == (*expected[:2], Decimal(expected[2]), expected[3])


def test_closed_positions_are_gone_and_others_stay_apart():
    closed = trades((BUY, 100, "1.10"), (SELL, 100, "1.20"), ticket=1)
    left = trades((SELL, 30, "1.10"), ticket=2)
    assert [position.ticket for position in open_positions(closed + left)] == [2]
    assert open_positions([]) == ()


@given(
    st.lists(
        st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 10**12), st.decimals("0.00001", 99999, places=5)), min_size=1
    )
)
def test_volume_is_what_was_bought_less_what_was_sold(rows):
    made = [Trade(action, volume, price) for action, volume, price in rows]
    net = sum(volume if action == BUY else -volume for action, volume, _ in rows)
    found = open_positions(made)
    assert [(position.what, position.volume) for position in found] == (
        [("Buy" if net > 0 else "Sell", abs(net))] if net else []
    )
    for position in found:
        assert min(price for _, _, price in rows) <= position.price <= max(price for _, _, price in rows)


def test_prices_of_a_symbol_have_the_same_digits():
    @dataclass(frozen=True)
    class Line:
        symbol: str
        price: Decimal | None

    lines = [
        Line("EURUSD", Decimal("1.08500000")),
        Line("EURUSD", Decimal("1.08512000")),
        Line("USDJPY", Decimal("150.00000000")),
        Line("", None),
    ]
    assert [None if line.price is None else str(line.price) for line in align_prices(lines)] == [
        "1.08500",
        "1.08512",
        "150",
        None,
    ]
