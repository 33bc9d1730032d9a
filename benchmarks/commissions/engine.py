"""The pure engine: `compute` over prepared facts, on one core, with neither database nor clock."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import cycle, islice
from time import perf_counter

from app.commissions.deals import DealFacts
from app.commissions.engine import Upline, compute
from app.commissions.plans import PlanSnapshot, parse_rules
from benchmarks.commissions.brokerage import MONTH, SHARES, SYMBOLS, Tree, rules
from benchmarks.form import Result, Run
from benchmarks.servers import BenchFailed

GOAL_DEALS_PER_S = 25_000
ROUNDS = 3
#: Facts that are made before; more deals than these go through them again.
PREPARED = 50_000


def measure(run: Run, deals: int, tree: Tree) -> None:
    """One rule of six matching each deal, which is five accruals, and all six matching, which is thirty."""
    facts = [_facts(number) for number in range(1, min(deals, PREPARED) + 1)]
    uplines = [_upline(number, tree) for number in range(tree.width)]
    one = PlanSnapshot(1, parse_rules(rules(), "USD"))
    all_six = PlanSnapshot(2, parse_rules(rules(all_match=True), "USD"))
    found = run.rounds(
        {
            "one": lambda: _rate(facts, uplines, one, deals, matching=1),
            "six": lambda: _rate(facts, uplines, all_six, max(deals // 5, 1), matching=len(SYMBOLS)),
        },
        rounds=1 if run.small else ROUNDS,
    )
    run.add(Result("engine, one of six rules matches (5 accruals)", found["one"], "deals/s", GOAL_DEALS_PER_S))
    run.add(Result("engine, all six rules match (30 accruals)", found["six"], "deals/s"))


def _rate(facts: list[DealFacts], uplines: list[tuple[Upline, ...]], plan: PlanSnapshot, deals: int, *, matching: int) -> float:
    """Deals per second; raises BenchFailed when one of them did not get the accruals that it should."""
    expected = matching * len(SHARES)
    began = perf_counter()
    made = sum(
        len(compute(deal, plan, upline).accruals)
        for deal, upline in islice(zip(cycle(facts), cycle(uplines), strict=False), deals)
    )
    took = perf_counter() - began
    if made != deals * expected:
        raise BenchFailed(f"{deals} deals made {made} accruals, not {expected} each")
    return deals / took


def _upline(number: int, tree: Tree) -> tuple[Upline, ...]:
    """The IBs above one of the lowest tier, nearest first, as many as the plan pays."""
    above = [
        Upline(level, (tree.depth - level) * tree.width + (number >> (level - 1)) + 1) for level in range(1, tree.depth + 1)
    ]
    return tuple(above[: len(SHARES)])


def _facts(number: int) -> DealFacts:
    """What the engine knows of a closing deal, all different, as app/commissions/snapshots.py reads it."""
    bid = Decimal(105_000 + number % 10_000).scaleb(-5)
    volume = (number % 500 + 1) * 1_000_000
    return DealFacts(
        deal_id=number,
        action=number % 2,
        entry=1,
        reason=0,
        symbol=SYMBOLS[number % len(SYMBOLS)],
        volume=volume,
        volume_closed=volume,
        done_at=MONTH + timedelta(seconds=number),
        product="std",
        country="IT",
        currency="USD",
        profit=Decimal(number % 1001 - 500).scaleb(-2),
        commission=Decimal("-3.50000000"),
        bid=bid,
        ask=bid + Decimal("0.00012000"),
        contract_size=Decimal("100000.0000"),
        rate_profit=Decimal("1.0000000000"),
    )
