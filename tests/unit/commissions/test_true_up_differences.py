"""What a true-up writes, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from app.commissions.accrual import stored
from app.commissions.deals import DealFacts
from app.commissions.engine import Accrued, Outcome, Upline
from app.commissions.plans import PlanSnapshot, parse_rules
from app.commissions.recompute import Key
from app.commissions.tally import Case, Tally
from app.commissions.true_up import differences

AT = datetime(2026, 7, 1, tzinfo=UTC)
RULES = parse_rules(
    [
        {
            "key": "tiered",
            "component": "per_lot",
            "tiers": {"bands": [{"from": "0", "rate": "5"}, {"from": "10", "rate": "6"}]},
        },
        {"key": "plain", "component": "per_lot", "rate": "1"},
    ],
    "USD",
)


def judged(guard: str = "off") -> tuple[Case, Outcome]:
    plan = PlanSnapshot(1, RULES, plan_id=9, margin_guard=guard)
    case = Case(DealFacts(1, 1, 1, 0, "EURUSD", 2 * 10**8, 0, AT), plan, (Upline(1, 7),), {}, 7, (AT, 1, 1))
    return case, Tally(lambda *_: Decimal(0), {}).judge(replace(case, plan=replace(plan, margin_guard="off")))


def of(made: Accrued, amount: str) -> dict[Key, tuple[Decimal, Decimal]]:
    columns = stored(1, made)
    return {Key(**{name: columns[name] for name in Key._fields}): (Decimal(amount), made.lots)}


def written(guard: str, *amounts: str) -> list[tuple[str, Decimal, Decimal]]:
    case, outcome = judged(guard)
    there = {}
    for made, amount in zip(outcome.accruals, amounts, strict=False):
        there |= of(made, amount)
    return [(line.made.rule, line.made.amount, line.made.lots) for line in differences("adjust", [case], {1: outcome}, there)]


def test_what_differs_is_written_once_and_without_lots() -> None:
    assert written("off", "12", "2") == [("tiered", -2, 0)]
    assert written("off", "10", "2") == []


def test_rules_that_do_not_count_are_left_alone_unless_a_guard_cuts_all() -> None:
    assert written("off", "10", "1.5") == []
    assert written("cap", "10", "1.5") == [("plain", Decimal("0.5"), 0)]


def test_who_was_not_paid_is_left_to_a_replay() -> None:
    assert written("off") == []
