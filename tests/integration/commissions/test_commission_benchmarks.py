"""The benchmarks of commissions run to their end on a small brokerage, and show all their figures. No speed is asserted."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import run as program
from benchmarks import form

pytestmark = pytest.mark.slow

FIGURES = {
    "commissions": [
        ("engine, one of six rules matches (5 accruals)", "deals/s"),
        ("engine, all six rules match (30 accruals)", "deals/s"),
        ("accruals per deal", ""),
        ("accrual", "deals/s"),
        ("accrual", "accruals/s"),
        ("settlement of all IBs", "accruals/s"),
        ("settlement of all IBs", "settlements/s"),
        ("whole job", "deals/s"),
        ("COPY of the same accruals", "accruals/s"),
        ("whole job", "accruals/s"),
    ],
    "commissions.growth": [
        ("job after 1,000 deals", "µs/deal"),
        ("job after 4,000 deals", "µs/deal"),
        ("job under 1,000 IBs, 50 deep", "µs/deal"),
    ],
}


@pytest.mark.parametrize("name", FIGURES)
def test_all_figures_are_measured_beside_their_limits(name):
    run = form.measure(name, small=True, tell=lambda words: None, size=600)
    assert [(result.name, result.unit) for result in run.results] == FIGURES[name]
    assert all(result.value > 0 for result in run.results)
    assert run.results[-1].ratio is not None


def test_a_benchmark_of_one_size_refuses_another():
    result = CliRunner().invoke(program.cli, ["bench", "reconcile", "--size", "5"])
    assert result.exit_code == 2
    assert "reconcile has one size" in result.output
