"""The central bank's files: read exactly, or refused."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.ledger.ecb import UnreadableRates, decode_csv, decode_xml, published_at

VECTORS = Path(__file__).parents[2] / "vectors" / "fx"
REFUSED = yaml.safe_load((VECTORS / "refused.yaml").read_text(encoding="utf-8"))


def test_the_daily_file():
    (day,) = decode_xml((VECTORS / "eurofxref-daily.xml").read_bytes())
    assert day.day == date(2026, 3, 2)
    assert len(day.rates) == 29
    assert day.rates["USD"] == Decimal("1.1172")
    assert str(day.rates["GBP"]) == "0.83380"
    assert day.rates["IDR"] == Decimal("20275.17")
    assert all(isinstance(rate, Decimal) for rate in day.rates.values())


def test_a_file_of_several_days():
    content = (VECTORS / "eurofxref-daily.xml").read_text("utf-8").replace("</Cube>\n</gesmes", "<Cube time='2026-02-27'>"
        "<Cube currency='USD' rate='1.1'/></Cube></Cube>\n</gesmes")  # fmt: skip
    assert [(day.day.day, len(day.rates)) for day in decode_xml(content.encode())] == [(2, 29), (27, 1)]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_refused(case):
    with pytest.raises(UnreadableRates, match=case["why"]):
        decode_xml(case["content"].encode())


def test_an_entity_in_another_encoding_is_refused_too():
    content = "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE E [<!ENTITY a 'b'>]><E>&a;</E>"
    with pytest.raises(UnreadableRates, match="document type"):
        decode_xml(content.encode("utf-16"))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(content):
    with pytest.raises(UnreadableRates):
        decode_xml(content)


def test_the_history_in_the_package():
    from currency_converter import SINGLE_DAY_CURRENCY_FILE  # its neighbour is the history

    lines = ["Date,USD,JPY,CYP,", "2026-10-30,1.1172,175.68,N/A,", "1999-01-04,1.1789,133.73,0.58231,"]
    newest, oldest = decode_csv(lines)
    assert (newest.day, newest.rates) == (date(2026, 10, 30), {"USD": Decimal("1.1172"), "JPY": Decimal("175.68")})
    assert oldest.rates["CYP"] == Decimal("0.58231")
    assert Path(SINGLE_DAY_CURRENCY_FILE).with_name("eurofxref-hist.zip").exists()


@pytest.mark.parametrize(
    "lines",
    [[], ["Day,USD"], ["Date,USD", "30 October 2026,1.1"], ["Date,USD", "2026-10-30,1.1.1"], ["Date,USD", "2026-10-30,0"]],
)
def test_another_history_is_refused(lines):
    with pytest.raises(UnreadableRates):
        list(decode_csv(lines))


@pytest.mark.parametrize(("day", "hour"), [(date(2026, 3, 2), 15), (date(2026, 7, 1), 14)])
def test_rates_count_from_four_in_frankfurt(day, hour):
    assert published_at(day) == datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
