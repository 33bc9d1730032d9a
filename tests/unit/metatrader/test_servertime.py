"""The server's wall clock: zones, both daylight rules, the repeated hour and the skipped one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metatrader.servertime import UnknownZone, server_zone


def utc(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def wall(*parts) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


MOMENTS = st.datetimes(datetime(2001, 1, 1), datetime(2060, 1, 1)).map(lambda moment: moment.replace(microsecond=0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("name", "moment", "offset"),
    [
        ("GMT+2", utc(2026, 7, 1), 120),
        ("GMT+2/EU", utc(2026, 3, 29, 0, 59, 59), 120),
        ("GMT+2/EU", utc(2026, 3, 29, 1), 180),
        ("GMT+2/EU", utc(2026, 10, 25, 0, 59, 59), 180),
        ("GMT+2/EU", utc(2026, 10, 25, 1), 120),
        ("GMT+2/US", utc(2026, 3, 8, 6, 59, 59), 120),
        ("GMT+2/US", utc(2026, 3, 8, 7), 180),
        ("GMT+2/US", utc(2026, 11, 1, 5, 59, 59), 180),
        ("GMT+2/US", utc(2026, 11, 1, 6), 120),
        ("GMT-3:30", utc(2026, 7, 1), -210),
        ("EET", utc(2026, 7, 1), 180),
        ("Europe/Athens", utc(2026, 1, 1), 120),
        ("UTC", utc(2026, 1, 1), 0),
    ],
)
def test_offsets(name, moment, offset):
    assert server_zone(name).offset_min(moment) == offset


@given(MOMENTS)
def test_our_rules_agree_with_the_time_zone_database(moment):
    assert server_zone("GMT+2/EU").offset_min(moment) == server_zone("Europe/Athens").offset_min(moment)
    if moment.year >= 2007:  # the US dates of today
        assert server_zone("GMT-5/US").offset_min(moment) == server_zone("America/New_York").offset_min(moment)


@pytest.mark.parametrize("name", ["", "Nowhere/City", "GMT+15", "GMT+2/UK", "../etc/passwd", "x" * 500])
def test_unknown_zones_are_refused(name):
    with pytest.raises(UnknownZone):
        server_zone(name)


@pytest.mark.parametrize("name", ["GMT+2/EU", "GMT+2/US", "Europe/Athens", "GMT+1", "Asia/Kolkata"])
@given(moment=MOMENTS)
def test_there_and_back(name, moment):
    zone = server_zone(name)
    back = zone.to_utc(zone.wall_ms(moment), near=moment + timedelta(seconds=20))
    assert back.utc == moment
    assert back.utc_offset_min == zone.offset_min(moment)


def test_the_repeated_hour():
    zone = server_zone("GMT+2/EU")
    shown = wall(2026, 10, 25, 3, 30)
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)
    assert zone.wall_ms(first) == zone.wall_ms(second) == shown
    assert zone.to_utc(shown).utc == first
    assert zone.to_utc(shown).is_ambiguous
    assert zone.to_utc(shown, near=first + timedelta(seconds=3)).utc == first
    assert zone.to_utc(shown, near=second + timedelta(seconds=3)) == zone.to_utc(shown, near=second)
    assert zone.to_utc(shown, near=second).utc_offset_min == 120
    assert not zone.to_utc(wall(2026, 10, 25, 2, 59)).is_ambiguous
    assert not zone.to_utc(wall(2026, 10, 25, 4, 0)).is_ambiguous


def test_order_tells_the_passes_apart():
    zone = server_zone("GMT+2/EU")
    truth = [utc(2026, 10, 24, 23, 50) + timedelta(minutes=10 * step) for step in range(16)]
    assert [moment.utc for moment in zone.in_order([zone.wall_ms(moment) for moment in truth])] == truth


def test_the_start_of_the_range_tells_the_passes_apart():
    zone = server_zone("GMT+2/EU")
    truth = [utc(2026, 10, 25, 1, 20), utc(2026, 10, 25, 1, 40)]
    walls = [zone.wall_ms(moment) for moment in truth]
    assert [moment.utc for moment in zone.in_order(walls, not_before=utc(2026, 10, 25, 1, 15))] == truth
    assert [moment.utc for moment in zone.in_order(walls)] != truth


def test_the_skipped_hour_is_read_by_the_old_offset():
    zone = server_zone("GMT+2/EU")
    moment = zone.to_utc(wall(2026, 3, 29, 3, 30))
    assert moment.utc == utc(2026, 3, 29, 1, 30)
    assert not moment.is_ambiguous


@given(MOMENTS, st.integers(0, 100_000))
def test_ranges_cover_both_ends(since, seconds):
    zone = server_zone("GMT+2/EU")
    until = since + timedelta(seconds=seconds)
    first, last = zone.wall_range_s(since, until)
    for moment in (since, until, since + (until - since) / 2):
        assert first * 1000 <= zone.wall_ms(moment) <= last * 1000 + 999


def test_naive_moments_are_refused():
    with pytest.raises(ValueError, match="time zone"):
        server_zone("UTC").wall_ms(datetime(2026, 1, 1))
