"""Which visit through a link counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.partners.touches import MOST, Touch, candidates, packed, remember, unpacked

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def visit(code: str, days: int) -> Touch:
    return Touch(code, NOW - timedelta(days=days))


VISITS = (visit("OLD1", 40), visit("FIRST1", 20), visit("MIDDLE", 10), visit("LAST1", 1))


@pytest.mark.parametrize(
    ("which", "days", "codes"),
    [
        ("last", 30, ["LAST1", "MIDDLE", "FIRST1"]),
        ("first", 30, ["FIRST1", "MIDDLE", "LAST1"]),
        ("first", 60, ["OLD1", "FIRST1", "MIDDLE", "LAST1"]),
        ("last", 5, ["LAST1"]),
    ],
)
def test_first_or_last_within_the_days(which: str, days: int, codes: list[str]) -> None:
    assert [touch.code for touch in candidates(VISITS, which, days, NOW)] == codes


def test_the_same_link_again_only_counts_as_later() -> None:
    known = remember(remember((visit("FIRST1", 9),), visit("NEXT1", 5), 30), visit("NEXT1", 2), 30)
    assert [(touch.code, touch.at) for touch in known] == [("FIRST1", visit("", 9).at), ("NEXT1", visit("", 2).at)]


@given(st.lists(st.sampled_from("ABCDEFG"), min_size=1, max_size=40))
def test_the_first_and_the_last_visit_are_never_forgotten(codes: list[str]) -> None:
    known: tuple[Touch, ...] = ()
    for number, code in enumerate(codes):
        known = remember(known, Touch(code, NOW + timedelta(minutes=number)), 30)
    assert len(known) <= MOST
    assert known[0] == Touch(codes[0], NOW)
    assert known[-1].code == codes[-1]
    assert unpacked(packed(known)) == known


def test_a_visit_too_old_to_count_does_not_push_out_the_first_that_counts() -> None:
    known: tuple[Touch, ...] = (visit("TOOOLD", 60),)
    for days in range(20, 20 - MOST, -1):
        known = remember(known, visit(f"DAY{days}", days), 30)
    assert len(known) == MOST
    assert candidates(known, "first", 30, NOW)[0].code == "DAY20"


@pytest.mark.parametrize("raw", [None, "x", {}, [1], [["A"]], [["A", "1"]], [[1, 2]], [["A", -1]], [["A", 10**12]]])
def test_what_is_no_list_of_visits_is_none(raw: object) -> None:
    assert unpacked(raw) == ()
