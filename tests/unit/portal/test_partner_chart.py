"""The bars of the IB's chart: where they stand, and that the lines beside them are round numbers."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.portal.partner_chart import HEIGHT, WIDTH, bars

FIRST = date(2026, 7, 1)


def test_a_day_without_value_has_no_bar_in_the_table():
    chart = bars({FIRST: Decimal(3), FIRST + timedelta(days=2): Decimal(6)}, FIRST, 30)
    assert [(one.day, one.value) for one in chart.days] == [(FIRST, 3), (FIRST + timedelta(days=2), 6)]
    assert chart.total == 9
    assert chart.days[1].height == 2 * chart.days[0].height == HEIGHT
    assert [value for _, value in chart.lines] == [0, 2, 4, 6]


def test_days_below_zero_hang_from_the_zero_line():
    chart = bars({FIRST: Decimal(-5), FIRST + timedelta(days=1): Decimal(5)}, FIRST, 2)
    zero = next(y for y, value in chart.lines if value == 0)
    below, above = chart.bars
    assert below.y == zero
    assert above.y + above.height == zero


def test_nothing_at_all_is_a_chart_with_its_zero_line():
    chart = bars({}, FIRST, 90)
    assert chart.days == []
    assert [value for _, value in chart.lines] == [0, 1]


@pytest.mark.parametrize("days", [30, 90, 365])
@given(values=st.lists(st.decimals(-(10**12), 10**12, places=10), min_size=1, max_size=30))
def test_everything_stays_in_the_drawing(days, values):
    chart = bars({FIRST + timedelta(days=number): value for number, value in enumerate(values)}, FIRST, days)
    assert chart.total == sum(values)
    assert len(chart.bars) == days
    assert len(chart.lines) <= 8
    for bar in chart.bars:
        assert 0 <= bar.x <= WIDTH
        assert bar.y >= 0
        assert bar.y + bar.height <= HEIGHT + Decimal("0.02")
