"""The tables of tests/vectors/commissions_*.yaml, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.commissions.deals import DealFacts
from app.commissions.engine import Outcome, Upline, compute
from app.commissions.errors import InvalidPlan
from app.commissions.plans import PlanSnapshot, parse_rules

VECTORS = Path(__file__).parents[2] / "vectors"
DONE_AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
ACTIONS = {"buy": 0, "sell": 1, "balance": 2}
ENTRIES = {"in": 0, "out": 1, "inout": 2, "out_by": 3}


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((VECTORS / f"commissions_{name}.yaml").read_text())  # type: ignore[no-any-return]  # YAML has no types


def priced() -> list[Any]:
    return [
        pytest.param(table["plans"].get(case["plan"]), case, id=f"{name}: {case['what']}")
        for name in ("per_lot", "filters", "levels")
        for table in [read(name)]
        for case in table["cases"]
    ]


def facts(deal: dict[str, Any]) -> DealFacts:
    held = deal.get("held", 0)
    return DealFacts(
        deal_id=1,
        action=ACTIONS[deal.get("action", "sell")],
        entry=ENTRIES[deal.get("entry", "out")],
        reason=deal.get("reason", 0),
        symbol=deal.get("symbol", "EURUSD"),
        volume=int(Decimal(deal.get("volume", "1")).scaleb(8)),
        volume_closed=int(Decimal(deal.get("closed", "0")).scaleb(8)),
        done_at=DONE_AT,
        opened_at=None if held == "unknown" else DONE_AT - timedelta(seconds=held),
        has_account=deal.get("account", True),
        is_demo=deal.get("demo", False),
        is_void=deal.get("void", False),
        is_superseded=deal.get("superseded", False),
    )


def judge(rules: list[dict[str, Any]] | None, case: dict[str, Any]) -> Outcome:
    plan = PlanSnapshot(7, parse_rules(rules, "USD")) if rules else None
    upline = [Upline(level, 100 + level) for level in range(1, case.get("ibs", 1) + 1)]
    return compute(facts(case["deal"]), plan, upline)


@pytest.mark.parametrize(("rules", "case"), priced())
def test_a_deal_pays_what_the_table_says(rules: list[dict[str, Any]] | None, case: dict[str, Any]) -> None:
    outcome = judge(rules, case)

    paid = {f"{made.rule} {made.level}": made.amount for made in outcome.accruals}
    assert paid == {rule: Decimal(amount) for rule, amount in case.get("pays", {}).items()}
    assert outcome.reason == case.get("why")
    assert bool(outcome.accruals) != bool(outcome.reason)
    for made in outcome.accruals:
        assert (made.ib_id, made.plan_version_id, made.currency) == (100 + made.level, 7, "USD")
        assert made.amount.as_tuple().exponent == -10


@pytest.mark.parametrize("case", [pytest.param(case, id=case["what"]) for case in read("refused_plans")["cases"]])
def test_a_wrong_plan_is_refused_with_all_its_problems(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidPlan) as refused:
        parse_rules(case["rules"], "USD")

    assert sorted(refused.value.problems) == sorted(case["marks"])
    assert all(refused.value.problems.values())
