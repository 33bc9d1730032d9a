"""Which rate counts: the cases of tests/vectors/fx/choice.yaml, and what holds for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.ledger.known_rates import DECIMALS, DIGITS, FoundRate, KnownRates, RateUsed, SourceRule, rate_text

CASES = yaml.safe_load((Path(__file__).parents[2] / "vectors" / "fx" / "choice.yaml").read_text(encoding="utf-8"))
RULES = {"manual": SourceRule(1, 86_400), "mt": SourceRule(2, 3_600), "ecb": SourceRule(3, 6 * 86_400)}
NOW = datetime(2026, 4, 7, 12, tzinfo=UTC)


def used(number: int, source: str, pair: str, rate: str, hours: float) -> RateUsed:
    base, quote = pair.split("/")
    return RateUsed(number, source, base, quote, Decimal(rate), NOW - timedelta(hours=hours))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_choice(case):
    known = KnownRates([used(number, *row) for number, row in enumerate(case["known"], 1)], RULES, NOW)
    base, quote = case["ask"].split()
    found = known.find(base, quote, stale_too=True)
    if case["rate"] is None:
        assert found is None
        return
    assert found is not None
    assert rate_text(found.rate) == case["rate"]
    assert [f"{one.source} {one.base}/{one.quote}" for one in found.sources] == case["used"]
    assert found.is_stale == case.get("stale", False)
    young = known.find(base, quote)
    assert (young is None) if found.is_stale else (young == found)


RATE = st.decimals(min_value="0.00001", max_value="9999999", places=10).filter(lambda rate: rate > 0)


@given(first=RATE, second=RATE, hours=st.sampled_from([0.5, 20.0, 100.0]))
def test_there_and_back_is_one_but_for_the_last_digit(first, second, hours):
    known = KnownRates([used(1, "ecb", "EUR/JPY", str(first), hours), used(2, "ecb", "EUR/KWD", str(second), 9)], RULES, NOW)
    for one, other in (("EUR", "JPY"), ("JPY", "KWD"), ("EUC", "KWD"), ("JPY", "EUC")):
        there, back = known.find(one, other), known.find(other, one)
        assert there is not None
        assert back is not None
        with localcontext(prec=100):
            assert 0 <= there.rate * back.rate - 1 < Decimal("1e-20")
        assert {used.id for used in there.sources} == {used.id for used in back.sources}
        for rate in (there.rate, back.rate):
            assert len(rate.as_tuple().digits) <= DIGITS
            assert -int(rate.as_tuple().exponent) <= DECIMALS


def test_newest():
    known = KnownRates(
        [used(1, "mt", "EUR/USD", "1.1", 2), used(2, "mt", "USD/JPY", "150", 1), used(3, "ecb", "EUR/USD", "1", 0)], RULES, NOW
    )
    assert known.newest("mt", "USD", "EUR").id == 1
    assert known.newest("mt", "EUR", "JPY") is None
    assert known.newest("manual", "EUR", "USD") is None


def test_what_a_transaction_keeps_of_a_rate():
    assert used(7, "ecb", "EUR/USD", "1.1200000000", 2).document() == {
        "id": "7",
        "source": "ecb",
        "pair": "EUR/USD",
        "rate": "1.12",
        "observed_at": "2026-04-07T10:00:00+00:00",
    }
    assert RateUsed(None, "fixed", "USD", "USC", Decimal(100), None).document() == {
        "id": "",
        "source": "fixed",
        "pair": "USD/USC",
        "rate": "100",
        "observed_at": "",
    }


def test_the_source_and_moment_of_a_crossed_rate():
    found = FoundRate(Decimal(1), (used(1, "mt", "EUR/USD", "1", 1), used(2, "ecb", "EUR/JPY", "1", 9)))
    assert (found.source, found.observed_at) == ("mt+ecb", NOW - timedelta(hours=9))
    assert FoundRate(Decimal(1)).source == ""
    assert FoundRate(Decimal(1)).observed_at is None


@pytest.mark.parametrize(
    ("rate", "text"), [("100", "100"), ("1E+2", "100"), ("1.500", "1.5"), ("0E-10", "0"), ("1E-9", "0.000000001")]
)
def test_rates_as_text(rate, text):
    assert rate_text(Decimal(rate)) == text
