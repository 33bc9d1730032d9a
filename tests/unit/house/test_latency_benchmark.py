"""What the benchmark of the whole house counts as lost, doubled, told and grown."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal

import pytest

from app.metatrader.compare import COMPARED
from app.metatrader.platform import Deal
from app.metatrader.simulator.faults import parse_event_faults
from benchmarks import usage
from benchmarks.metatrader import faulty, latency
from benchmarks.metatrader.pages import Page
from benchmarks.usage import Growth, Seen, Usage

DEAL = Deal(
    ticket=500_001, login=100_001, action=0, entry=1, reason=0, order_ticket=700_001, position_ticket=700_001, symbol="EURUSD",
    volume=10_000_000, volume_closed=10_000_000, price=Decimal("1.08450"), price_position=Decimal("1.08400"),
    market_bid=Decimal("1.08450"), market_ask=Decimal("1.08455"), contract_size=Decimal(100_000), digits=5, digits_currency=2,
    profit=Decimal("5.00"), swap=Decimal("0.00"), commission=Decimal("-0.35"), fee=Decimal("0.00"), rate_profit=Decimal(1),
    rate_margin=Decimal("1.08455"), server_time_ms=1_700_000_000_000, comment="",
)  # fmt: skip
OTHER = replace(DEAL, ticket=500_002)


def row(deal, *, is_void=False, **changes):
    """The deal as PostgreSQL gives it: decimals with all places of the column."""
    kept = {name: getattr(deal, name) for name in COMPARED}
    wide = {name: value.quantize(Decimal("1.00000000")) for name, value in kept.items() if isinstance(value, Decimal)}
    return {"ticket": deal.ticket, "is_void": is_void, **kept, **wide, **changes}


@pytest.mark.parametrize(
    ("here", "counts"),
    [
        ([row(DEAL), row(OTHER)], (0, 0, 0)),
        ([row(DEAL)], (1, 0, 0)),
        ([row(DEAL), row(OTHER, is_void=True)], (1, 0, 0)),
        ([row(DEAL), row(OTHER, profit=Decimal("5.01"))], (0, 1, 0)),
        ([row(DEAL), row(OTHER), row(OTHER)], (0, 0, 1)),
        ([row(DEAL), row(OTHER), row(replace(DEAL, ticket=3))], (0, 0, 1)),
        ([row(DEAL), row(OTHER), row(replace(DEAL, ticket=3), is_void=True)], (0, 0, 0)),
    ],
)
def test_what_counts_as_lost_different_and_doubled(here, counts):
    found = faulty.compare([DEAL, OTHER], here)
    assert (found.lost, found.different, found.doubled) == counts
    assert len(found.examples) == sum(counts)


def test_a_cancelled_trade_is_void_and_yet_at_the_server():
    cancelled = replace(DEAL, action=13)
    found = faulty.compare([cancelled], [row(cancelled, is_void=True)])
    assert (found.lost, found.different, found.doubled) == (0, 0, 0)


def test_all_faults_are_all_faults():
    with pytest.raises(ValueError, match="there are ") as told:
        parse_event_faults("none=1%")
    words = str(told.value).partition("there are ")[2].split(", ")
    assert {part.partition("=")[0] for part in faulty.FAULTS.split(",")} == set(words)
    assert parse_event_faults(faulty.FAULTS).commands
    assert parse_event_faults(faulty.SMALL_FAULTS).commands


def test_a_page_was_told_by_the_first_event_after_the_commit():
    page = Page("127.0.0.1", 1, 7, "secret")
    page.told_at = [10.0, 20.0, 30.0]
    assert [page.told_after(moment) for moment in (5, 10, 10.1, 30, 30.1)] == [10, 10, 20, 30, None]


@pytest.mark.parametrize(
    ("early_mb", "last_mb", "met"), [(100, 109, True), (100, 111, False), (1_000, 1_049, True), (1_000, 1_051, False)]
)
def test_memory_is_flat_within_a_twentieth_or_some_megabytes(early_mb, last_mb, met):
    assert latency._memory(Growth("web", early_mb, last_mb)).met is met


def test_growth_is_of_processes_that_stayed(monkeypatch):
    looks = iter(
        [
            {1: Seen(0, 1.0, 10), 2: Seen(1, 5.0, 50), 3: Seen(2, 1.0, 9), 9: Seen(0, 7.0, 99)},
            {1: Seen(0, 3.0, 12), 2: Seen(1, 6.0, 70), 4: Seen(2, 0.5, 9), 9: Seen(0, 7.0, 99)},
        ]
    )
    monkeypatch.setattr(usage, "_all_processes", lambda: next(looks))
    with Usage({"web": 1}) as watched:
        pass
    assert watched.growth("web", after=0.0) == [Growth("web", 10, 12), Growth("web 1", 50, 70)]
    assert watched.cores()["web"] > 0


def test_a_process_is_seen_with_its_children():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert usage.parent_of(child.pid) in usage._all_processes()
        assert child.pid in usage._family(usage._all_processes(), usage.parent_of(child.pid))
    finally:
        child.kill()
        child.wait()
