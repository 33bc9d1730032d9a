"""The one form of benchmarks: what is a ratio, when a goal is met, what machines read."""

from __future__ import annotations

import json

import pytest

from benchmarks import form
from benchmarks.form import Limit, Result, Run


@pytest.mark.parametrize(
    ("result", "ratio", "met"),
    [
        (Result("a", 10, "1/s"), None, None),
        (Result("a", 10, "1/s", goal=9), None, True),
        (Result("a", 10, "1/s", goal=11), None, False),
        (Result("a", 10, "1/s", goal=11, better="lower"), None, True),
        (Result("a", 10, "1/s", limit=Limit("plain", 20)), 0.5, None),
        (Result("a", 12, "1/s", 0.6, Limit("plain", 20)), 0.6, True),
        (Result("a", 11, "1/s", 0.6, Limit("plain", 20)), 0.55, False),
        (Result("a", 11, "ms", 2, Limit("short", 5), better="lower"), 2.2, False),
        (Result("a", 11, "1/s", 0.6, Limit("nothing", 0)), None, None),
    ],
)
def test_a_goal_is_for_the_ratio_where_there_is_a_limit(result, ratio, met):
    assert (result.ratio, result.met) == (ratio, met)


def test_the_document_holds_what_later_readers_need(tmp_path):
    run = Run("ledger", True, tell=lambda words: None)
    run.add(Result("posts", 4200.5, "transfers/s", 0.6, Limit("plain ledger", 6000.0)))
    form.write(run, tmp_path / "out.json")
    read = json.loads((tmp_path / "out.json").read_text())
    assert {"benchmark", "commit", "machine", "seed", "small", "results"} <= read.keys()
    assert read["machine"]["cores"] >= 1
    assert read["results"] == [
        {
            "name": "posts",
            "value": 4200.5,
            "unit": "transfers/s",
            "goal": 0.6,
            "limit": {"name": "plain ledger", "value": 6000.0},
            "ratio": pytest.approx(0.70008, abs=1e-4),
            "met": True,
        }
    ]


def test_rounds_are_interleaved_and_their_median_counts():
    run, asked, values = Run("x", False, tell=lambda words: None), [], iter([5, 1, 9, 1, 7, 100])

    def side(name):
        def measure():
            asked.append(name)
            return next(values)

        return measure

    assert run.rounds({"a": side("a"), "b": side("b")}, rounds=3) == {"a": 7, "b": 1}
    assert asked == ["a", "b"] * 3


def test_the_table_says_what_is_met():
    lines = form.table([Result("posts", 4200.5, "1/s", 0.6, Limit("plain", 6000)), Result("size", 251, "bytes")]).splitlines()
    assert lines[1].split() == ["posts", "4,200", "1/s", "plain:", "6,000", "0.70", "≥", "0.6", "yes"]
    assert lines[2].split() == ["size", "251", "bytes"]
