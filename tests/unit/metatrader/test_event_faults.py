"""Faults: the line of text that names them, what the seed decides, and garbage that is garbage."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from app.metatrader.events import MalformedEvent, Origin, Stamp, deal_event, decode, encode
from app.metatrader.simulator.event_faults import (
    GARBAGE,
    EventFaults,
    EventSettings,
    read_event_settings,
    spoil,
)
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.faults import CHANGES, Fault, Faults, parse_event_faults, read_rules

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NUMBERS = range(1, 4_001)
NAMES = [f"deal.add:{n}:rev" for n in NUMBERS]


def test_the_line_of_the_issue():
    plan = parse_event_faults("duplicates=5%,reorder=5s,gap=30s")
    assert plan.events == EventSettings(duplicates=0.05, reorder_s=5.0, gap_s=30.0, gap_every_s=120.0)
    assert plan.commands == ()


def test_every_word():
    line = (
        " duplicates=100% , reorder=0.5s,late=1%/1m,gap=90s/10m,garbage=2.5%,edits=1%,deletes=0.5%,drop_after_execute=2%,"
        "drop=1%,garble=1%,unavailable=1%,too_frequent=1%,busy=1%,network=1%,slow=5%/3s,"
    )
    plan = parse_event_faults(line)
    assert plan.events == EventSettings(1.0, 0.5, 0.01, 60.0, 90.0, 600.0, 0.025, 0.01, 0.005)
    by_kind = {(rule.kind, rule.code if rule.kind == "retcode" else 0): rule for rule in plan.commands}
    assert set(by_kind) == {
        ("execute_then_drop", 0),
        ("drop", 0),
        ("garble", 0),
        ("http_503", 0),
        ("retcode", 12),
        ("retcode", 1018),
        ("retcode", 7),
        ("slow", 0),
    }
    assert [rule.path for rule in plan.commands if rule.kind == "execute_then_drop"] == list(CHANGES)
    assert (by_kind["slow", 0].chance, by_kind["slow", 0].seconds) == (0.05, 3.0)


def test_an_empty_line_is_no_fault():
    assert parse_event_faults("") == parse_event_faults(" , ")
    assert parse_event_faults("").events == EventSettings()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("duplicate=5%", "there is no fault 'duplicate'; there are duplicates"),
        ("duplicates", "duplicates has no value; write duplicates=5%"),
        ("duplicates=", "duplicates has no value"),
        ("duplicates=5", "a percentage from 0% to 100% is meant; write it like duplicates=5%"),
        ("duplicates=101%", "a percentage"),
        ("duplicates=-1%", "a percentage"),
        ("duplicates=٣%", "a percentage"),
        ("duplicates=5%/3s", "too many values"),
        ("reorder=5", "a time up to an hour is meant, in s or m; write it like reorder=5s"),
        ("reorder=0s", "a time up to an hour"),
        ("reorder=2h", "a time up to an hour"),
        ("reorder=61m", "a time up to an hour"),
        ("gap=30s/40s", "the period must be twice the gap at least"),
        ("late=1%/x", "a time"),
        ("duplicates=5%,duplicates=6%", "duplicates stands there twice"),
        ("edits=60%,deletes=60%", "edits and deletes together are more than 100%"),
        ("drop=1%/5s", "too many values"),
    ],
)
def test_what_a_line_must_not_say(line, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_event_faults(line)


def test_the_seed_decides_and_parts_are_kept():
    settings = EventSettings(duplicates=0.05, reorder_s=5.0, late=0.02, garbage=0.01, edits=0.01, deletes=0.01)
    faults, same, other = EventFaults(7), EventFaults(7), EventFaults(8)
    for one in (faults, same, other):
        one.set(settings)

    def met(one):
        return [
            (one.delay_s(name), one.again_after_s(name), one.garbage(name), one.dealer(n))
            for name, n in zip(NAMES, NUMBERS, strict=True)
        ]

    assert met(faults) == met(same) != met(other)
    doubled = sum(faults.again_after_s(name) is not None for name in NAMES) / len(NUMBERS)
    assert 0.035 < doubled < 0.065
    assert sum(faults.delay_s(name) >= 60 for name in NAMES) / len(NUMBERS) == pytest.approx(0.02, abs=0.01)
    assert all(0 <= faults.delay_s(name) <= 65 for name in NAMES)
    assert {faults.garbage(name) for name in NAMES} <= {None, *GARBAGE}
    dealt = [plan for n in NUMBERS if (plan := faults.dealer(n))]
    assert {what for what, _ in dealt} == {"edit", "delete"}
    assert all(1 <= after_s <= 20 for _, after_s in dealt)


def test_without_settings_nothing_is_met():
    faults = EventFaults(7)
    assert all(
        (faults.delay_s(name), faults.again_after_s(name), faults.garbage(name), faults.dealer(n)) == (0.0, None, None, None)
        for name, n in zip(NAMES, NUMBERS, strict=True)
    )
    assert not any(faults.is_away(NOON + timedelta(seconds=n)) for n in range(500))


def test_a_gap_comes_once_in_every_period_and_lasts_as_long_as_told():
    faults = EventFaults(7)
    faults.set(EventSettings(gap_s=30, gap_every_s=120))
    start = datetime.fromtimestamp(120 * (NOON.timestamp() // 120), UTC)
    periods = [[faults.is_away(start + timedelta(seconds=120 * p + s)) for s in range(120)] for p in range(20)]
    assert all(29 <= sum(period) <= 31 for period in periods)
    assert len({period.index(True) for period in periods}) > 5, "not always at the same place"


def test_gaps_by_order():
    faults = EventFaults(7)
    faults.lose(NOON, 30)
    faults.hold(NOON, 10)
    later = NOON + timedelta(seconds=20)
    assert (faults.is_away(later), faults.is_held(later)) == (True, False)
    assert not faults.is_away(NOON + timedelta(seconds=30))


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_no_event(kind, exchange, new_login):
    login = new_login(money="1000")
    deal = exchange.open(login, "EURUSD", 0, 10_000_000)
    stamp = Stamp(1, deal.server_time_ms, 120, NOON)
    entry = encode(deal_event(Origin("sim", "bridge", "boot"), stamp, "add", deal))
    raw = {name.encode(): value.encode() for name, value in entry.items()}
    assert decode(raw).deal == deal
    spoilt = {
        name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in spoil(entry, kind).items()
    }
    assert spoilt != raw
    with pytest.raises(MalformedEvent):
        decode(spoilt)


def test_settings_from_json():
    assert read_event_settings({}) == EventSettings()
    assert read_event_settings({"duplicates": 0.5, "gap_s": 5, "gap_every_s": 20}).gap_every_s == 20
    for wrong in (
        None,
        [],
        {"speed": 1},
        {"duplicates": "5%"},
        {"duplicates": True},
        {"duplicates": 1.5},
        {"reorder_s": -1},
        {"reorder_s": float("nan")},
        {"gap_s": 70},
        {"edits": 0.6, "deletes": 0.6},
    ):
        with pytest.raises(ValueError, match="no settings"):
            read_event_settings(wrong)


def test_a_rule_with_a_chance_hits_some_and_counts_only_those():
    faults = Faults(seed=7)
    faults.set([Fault("drop", "/api/trade", times=20, chance=0.1)])
    hits = [faults.take("/api/trade/balance") is not None for _ in range(100)]
    assert 3 <= sum(hits) <= 19
    assert faults.listed()[0]["times"] == 20 - sum(hits)
    assert faults.take("/api/deal/get") is None
    again = Faults(seed=7)
    again.set([Fault("drop", "/api/trade", times=20, chance=0.1)])
    assert [again.take("/api/trade/balance") is not None for _ in range(100)] == hits


def test_rules_from_json():
    assert read_rules([{"kind": "slow", "seconds": 2, "chance": 0.5}]) == [Fault("slow", seconds=2, chance=0.5)]
    for wrong in ([{"kind": "slow", "times": True}], [{"kind": "slow", "chance": "1"}], {"kind": "slow"}):
        with pytest.raises(Refused):
            read_rules(wrong)
