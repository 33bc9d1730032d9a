"""Amounts as people type them: read as meant, or refused; never another amount."""

from __future__ import annotations

import pytest

from app.core.money import InvalidMoney
from app.portal.money import plain_number


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("1000", "1000"),
        (" 1000.50 ", "1000.50"),
        ("1,000", "1000"),
        ("1,234,567.89", "1234567.89"),
        ("1 000.50", "1000.50"),
        ("1\N{NARROW NO-BREAK SPACE}000", "1000"),
        ("٦٠٠", "600"),
        ("١٬٢٣٤٫٥٠", "1234.50"),
    ],
)
def test_read_as_meant(typed: str, meant: str) -> None:
    assert plain_number(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "1,5",
        "1,50",
        "1.000,50",
        "12,34",
        "1,0000",
        "1 000,000",
        "-5",
        "+5",
        "1e3",
        "NaN",
        "∞",
        "0x10",
        "1.2.3",
        "5 USD",
        "½",
    ],
)
def test_refused_when_it_could_be_misread(typed: str) -> None:
    with pytest.raises(InvalidMoney):
        plain_number(typed)
