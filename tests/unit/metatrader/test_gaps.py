"""Lost events are told apart from late ones, also over a restart."""

from __future__ import annotations

from dataclasses import replace

from app.metatrader.events import SequenceWatch, control_event
from app.metatrader.gaps import MOST_WAITED_FOR, PATIENCE_S, GapWatch
from tests.unit.metatrader.samples import ORIGIN, STAMP

STREAM = "mt:sim:0"


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def event(seq: int, boot: str = "b00t"):
    return control_event(replace(ORIGIN, boot=boot), replace(STAMP, seq=seq), "heartbeat")


def watch(*seqs: int) -> tuple[GapWatch, Clock]:
    clock = Clock()
    made = GapWatch(clock)
    for seq in seqs:
        made.see(STREAM, event(seq))
    return made, clock


def test_a_number_that_stays_missing_is_lost():
    gaps, clock = watch(1, 2, 5)
    assert gaps.found() == {}
    clock.at = PATIENCE_S
    assert gaps.found() == {"sim": 2}
    assert gaps.found() == {}


def test_events_that_overtook_each_other_are_not_lost():
    gaps, clock = watch(1, 4, 2, 3)
    clock.at = PATIENCE_S
    assert gaps.found() == {}


def test_of_several_missing_only_those_that_do_not_come_are_lost():
    gaps, clock = watch(1, 5, 3)
    clock.at = PATIENCE_S
    assert gaps.found() == {"sim": 2}


def test_a_large_gap_is_not_waited_for():
    gaps, _ = watch(1, MOST_WAITED_FOR + 3)
    assert gaps.found() == {"sim": MOST_WAITED_FOR + 1}


def test_entries_trimmed_unread_are_lost_at_once():
    gaps, _ = watch()
    gaps.lost("sim", 3)
    gaps.lost("sim", 1)
    assert gaps.found() == {"sim": 4}


def test_a_restart_goes_on_from_the_marks():
    before, _ = watch(1, 2, 3)
    after, clock = watch()
    after.restore(STREAM, before.marks(STREAM))
    after.see(STREAM, event(6))
    clock.at = PATIENCE_S
    assert after.found() == {"sim": 2}


def test_marks_of_another_stream_stay_apart():
    gaps, _ = watch(7)
    assert gaps.marks("mt:sim:1") == {}
    assert gaps.marks(STREAM) == {"bridge": "b00t 7"}


def test_another_boot_that_goes_on_counting_lost_nothing_and_another_number_something():
    watched = SequenceWatch()
    assert list(watched.skipped(STREAM, event(5))) == []
    assert list(watched.skipped(STREAM, event(6, "second"))) == []
    assert len(watched.skipped(STREAM, event(1, "third"))) == 1
    assert list(watched.skipped(STREAM, event(7, "second"))) == []  # a late one of a boot that is over
