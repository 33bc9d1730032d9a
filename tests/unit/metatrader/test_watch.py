"""What the operations page says about a link: each red line, and none for a link that is well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.metatrader import watch
from app.metatrader.platforms.breaker import Health
from app.metatrader.watch import Link, Waiting
from app.models.metatrader import Server, ServerState

AT = datetime(2026, 7, 1, 12, tzinfo=UTC)


def ago(**span):
    return AT - timedelta(**span)


def link(server=None, state=None, **changes):
    """A link that is well, but for what is given."""
    well = {"heartbeat_at": ago(seconds=3), "swept_at": ago(minutes=4), "error": "", "clock_offset_min": 180}
    made = Link(
        server=Server(code="live", time_zone="EET", is_active=True, **(server or {})),
        state=ServerState(**{**well, **(state or {})}),
        health=Health(),
        queued=0,
        oldest_age=timedelta(0),
        unknown_operations=Waiting(),
        changes=Waiting(),
        dead_letters=Waiting(),
        breaks=Waiting(),
        foreign_operations=Waiting(),
        at=AT,
    )
    return replace(made, **changes)


def told(found):
    return {(one.level, one.code) for one in found}


def test_nothing_is_said_of_a_link_that_is_well():
    assert watch.findings(link()) == []


def test_a_clock_that_was_seen_before_the_change_to_winter_time_is_right():
    seen = {"clock_offset_min": 180, "clock_seen_at": datetime(2026, 10, 24, 20, tzinfo=UTC)}
    sunday = datetime(2026, 10, 25, 12, tzinfo=UTC)
    assert "clock" not in {one.code for one in watch.findings(link(state=seen, at=sunday))}
    assert "clock" in {one.code for one in watch.findings(link(state={**seen, "clock_seen_at": sunday}, at=sunday))}


RED_LINES = {
    "redis_away": (link(is_redis_away=True), "danger"),
    "commands_paused": (link(server={"commands_paused_at": ago(hours=1)}), "warning"),
    "events_paused": (link(server={"events_paused_at": ago(hours=1)}), "warning"),
    "no_answer": (link(health=Health(state="open", last_error="ConnectTimeout")), "danger"),
    "call_failed": (link(state={"error": "AccessDenied: 403"}), "warning"),
    "never_heard": (link(state={"heartbeat_at": None}), "warning"),
    "silent": (link(state={"heartbeat_at": ago(seconds=31)}), "danger"),
    "late": (link(queued=40, oldest_age=timedelta(seconds=11)), "warning"),
    "clock": (link(state={"clock_offset_min": 120}), "danger"),
    "never_swept": (link(state={"swept_at": None}), "warning"),
    "unswept": (link(state={"swept_at": ago(minutes=16)}), "warning"),
    "unknown_operations": (link(unknown_operations=Waiting(2, ago(minutes=6))), "danger"),
    "breaks": (link(breaks=Waiting(1, ago(days=1))), "warning"),
    "dead_letters": (link(dead_letters=Waiting(3, ago(minutes=1))), "warning"),
    "foreign_operations": (link(foreign_operations=Waiting(1, ago(minutes=1))), "warning"),
}


@pytest.mark.parametrize("code", RED_LINES)
def test_each_red_line_is_said_once_and_in_words(code):
    found = watch.findings(RED_LINES[code][0])
    assert told(found) == {(RED_LINES[code][1], code)}
    text, advice = (message % found[0].values for message in watch.WORDS[code])
    assert "%(" not in text + advice


def test_every_red_line_has_its_words_and_its_test():
    assert RED_LINES.keys() == watch.WORDS.keys()


def test_the_worst_comes_first_and_what_is_stuck_is_worse_than_late():
    found = watch.findings(link(breaks=Waiting(1, AT), queued=9, oldest_age=timedelta(seconds=61)))
    assert [(one.level, one.code) for one in found] == [("danger", "late"), ("warning", "breaks")]


def test_a_link_of_which_nothing_is_known_yet():
    assert told(watch.findings(link(state={"heartbeat_at": None, "swept_at": None, "clock_offset_min": None}))) == {
        ("warning", "never_heard"),
        ("warning", "never_swept"),
    }
    assert watch.findings(replace(link(), state=None)) != []


def test_an_operation_sent_a_moment_ago_is_no_red_line_and_a_server_that_is_off_has_none():
    assert watch.findings(link(unknown_operations=Waiting(1, ago(minutes=4)))) == []
    off = link(health=Health(state="open"))
    off.server.is_active = False
    assert watch.findings(off) == []
