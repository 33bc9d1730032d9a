"""The month of a statement, as an address names it."""

from __future__ import annotations

from datetime import date

import pytest

from app.core.errors import InvalidInput
from app.views.clients import month_of


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2026-11", (date(2026, 11, 1), date(2026, 11, 30))),
        ("2026-12", (date(2026, 12, 1), date(2026, 12, 31))),
        ("2028-02", (date(2028, 2, 1), date(2028, 2, 29))),
    ],
)
def test_first_and_last_day(text: str, days: tuple[date, date]) -> None:
    assert month_of(text) == days


@pytest.mark.parametrize("text", ["9999-12", "1999-12", "0001-01", "2026-13", "2026", "x", "2026-11-05"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        month_of(text)
