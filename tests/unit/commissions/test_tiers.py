"""Tiers and caps: what a document may say, and how a volume lies in the bands."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.commissions.errors import InvalidPlan
from app.commissions.plans import PlanSnapshot, parse_rules, rules_document
from app.commissions.tiers import Band, Piece, Tiers, average_rate, end_of, pieces, previous, start_of

BANDS = [{"from": "0", "rate": "5"}, {"from": "100", "rate": "6"}, {"from": "500", "rate": "7"}]
LOTS = Tiers(
    "lots", "month", "marginal", "current", tuple(Band(Decimal(band["from"]), Decimal(band["rate"])) for band in BANDS)
)


def rule(**changes: Any) -> list[dict[str, Any]]:
    return [{"key": "a", "component": "per_lot", **changes}]


def problems(*documents: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidPlan) as refused:
        parse_rules([{"key": f"r{index}", **document} for index, document in enumerate(documents)], "USD")
    return refused.value.problems


def test_a_document_says_everything_once_it_is_stored() -> None:
    rules = parse_rules(rule(tiers={"bands": BANDS}, caps={"day": "500"}), "USD")

    (stored,) = rules_document(rules)

    assert "rate" not in stored
    assert stored["tiers"] == {"measure": "lots", "period": "month", "mode": "whole", "basis": "current", "bands": BANDS}
    assert stored["caps"] == {"day": "500"}
    assert parse_rules([stored], "USD") == rules
    assert PlanSnapshot(1, rules).span == "month"


@pytest.mark.parametrize(
    ("tiers", "path"),
    [
        ({}, "tiers.bands"),
        ({"bands": [{"from": "1", "rate": "5"}]}, "tiers.bands[0].from"),
        ({"bands": [BANDS[0], BANDS[0]]}, "tiers.bands[1].from"),
        ({"bands": [BANDS[0], BANDS[2], BANDS[1]]}, "tiers.bands[2].from"),
        ({"bands": [{"from": "0", "rate": "0"}]}, "tiers.bands[0].rate"),
        ({"bands": [{"from": "0", "rate": 5}]}, "tiers.bands[0].rate"),
        ({"bands": [{"from": "0"}]}, "tiers.bands[0].rate"),
        ({"bands": BANDS, "up_to": "3"}, "tiers.up_to"),
        ({"bands": BANDS, "period": "year"}, "tiers.period"),
        ({"bands": BANDS, "mode": "marginal", "basis": "previous"}, "tiers.mode"),
        ({"bands": BANDS, "mode": "marginal", "measure": "net_deposits"}, "tiers.mode"),
        ({"bands": BANDS, "measure": "active_clients", "period": "day"}, "tiers.period"),
    ],
)
def test_a_mistake_in_tiers_is_refused_with_its_place(tiers: dict[str, Any], path: str) -> None:
    assert list(problems({"component": "per_lot", "tiers": tiers})) == [f"rules[0].{path}"]


def test_tiers_take_the_place_of_the_one_rate() -> None:
    assert list(problems({"component": "per_lot", "rate": "5", "tiers": {"bands": BANDS}})) == ["rules[0].rate"]
    levels = {"mode": "rates", "values": ["5"]}
    assert list(problems({"component": "per_lot", "levels": levels, "tiers": {"bands": BANDS}})) == ["rules[0].tiers"]
    percent = {"component": "commission_share", "tiers": {"bands": [{"from": "0", "rate": "101"}]}}
    assert list(problems(percent)) == ["rules[0].tiers.bands[0].rate"]


def test_a_cap_is_above_nothing_and_of_a_day_or_month() -> None:
    assert list(problems({"component": "per_lot", "rate": "5", "caps": {"day": "0"}})) == ["rules[0].caps.day"]
    assert list(problems({"component": "per_lot", "rate": "5", "caps": {"year": "1"}})) == ["rules[0].caps.year"]


def test_a_plan_counts_in_weeks_or_in_months() -> None:
    weekly = {"component": "per_lot", "tiers": {"period": "week", "bands": BANDS}}
    monthly = {"component": "per_lot", "rate": "5", "caps": {"month": "100"}}

    assert list(problems(monthly, weekly)) == ["rules[1].tiers.period"]
    assert list(problems({**weekly, "caps": {"month": "100"}})) == ["rules[0].tiers.period"]
    assert len(parse_rules([{"key": "w", **weekly, "caps": {"day": "100"}}], "USD")) == 1


@pytest.mark.parametrize(
    ("position", "lots", "expected"),
    [
        ("0", "1", [("1", "5")]),
        ("98.5", "2", [("1.5", "5"), ("0.5", "6")]),
        ("100", "1", [("1", "6")]),
        ("50", "1000", [("50", "5"), ("400", "6"), ("550", "7")]),
        ("98.5", "-2", [("-1.5", "5"), ("-0.5", "6")]),
        ("-3", "1", [("1", "5")]),
        ("0", "0", [("0", "5")]),
    ],
)
def test_lots_lie_in_their_bands(position: str, lots: str, expected: list[tuple[str, str]]) -> None:
    parts = pieces(LOTS, Decimal(position), Decimal(lots))

    assert [(part.lots, part.band.rate) for part in parts] == [(Decimal(part), Decimal(rate)) for part, rate in expected]


def test_an_average_rate_gives_what_the_pieces_give() -> None:
    first, second, _ = LOTS.bands
    assert average_rate((Piece(Decimal("1.5"), first), Piece(Decimal("0.5"), second))) == Decimal("5.25")


@pytest.mark.parametrize(
    ("period", "starts_on", "ends_on", "before"),
    [
        ("day", date(2026, 2, 28), date(2026, 3, 1), date(2026, 2, 27)),
        ("week", date(2026, 2, 23), date(2026, 3, 2), date(2026, 2, 16)),
        ("month", date(2026, 2, 1), date(2026, 3, 1), date(2026, 1, 1)),
        ("quarter", date(2026, 1, 1), date(2026, 4, 1), date(2025, 10, 1)),
    ],
)
def test_periods_are_those_of_utc(period: str, starts_on: date, ends_on: date, before: date) -> None:
    assert start_of(period, datetime(2026, 2, 28, 23, 59, tzinfo=UTC)) == starts_on
    assert end_of(period, starts_on) == ends_on
    assert previous(period, starts_on) == before
