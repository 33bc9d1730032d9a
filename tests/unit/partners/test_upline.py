"""Who stood above whom at a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.partners.tree import ParentSpan, upline_at

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPANS = {
    1: [ParentSpan(1, 2, NOON, NOON + HOUR), ParentSpan(1, 3, NOON + HOUR, None)],
    3: [ParentSpan(3, 4, NOON, None)],
}


def test_the_upline_is_that_of_the_moment_and_a_span_ends_before_its_end() -> None:
    moments = (NOON - HOUR, NOON, NOON + HOUR - timedelta(microseconds=1), NOON + HOUR)
    assert [upline_at(SPANS, 1, at) for at in moments] == [(1,), (1, 2), (1, 2), (1, 3, 4)]


def test_no_more_levels_than_asked_for() -> None:
    assert [upline_at(SPANS, 1, NOON + HOUR, most) for most in (1, 2, 3, 9)] == [(1,), (1, 3), (1, 3, 4), (1, 3, 4)]
