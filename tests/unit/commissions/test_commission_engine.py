"""What the tables do not show: the parts of an accrual, broken plans, components, the words for reasons, the arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal, localcontext

import pytest

from app.commissions import components, explain
from app.commissions.components import COMPONENTS, Pool, component
from app.commissions.deals import DealFacts
from app.commissions.engine import WAITING, Reason, Upline, compute
from app.commissions.errors import InvalidPlan
from app.commissions.plans import (
    EXCLUDED_REASONS,
    MAX_LEVELS,
    MAX_RULES,
    MAX_SYMBOLS,
    PlanSnapshot,
    Rule,
    RuleFilter,
    parse_rules,
    rules_document,
)

DEAL = DealFacts(
    deal_id=5,
    action=1,
    entry=1,
    reason=0,
    symbol="EURUSD",
    volume=12_345_678_901,
    volume_closed=0,
    done_at=datetime(2026, 7, 1, tzinfo=UTC),
)
RULE = Rule("a", "per_lot", Decimal("3.1234567891"), "EUR", (Decimal("0.6"), Decimal("0.4")))


def test_an_accrual_carries_what_explains_it() -> None:
    outcome = compute(DEAL, PlanSnapshot(9, (RULE,)), [Upline(1, 11), Upline(2, 12)])

    first, second = outcome.accruals
    assert (first.plan_version_id, first.rule, first.level, first.ib_id, first.currency) == (9, "a", 1, 11, "EUR")
    assert (first.lots, first.rate, first.share) == (Decimal("123.45678901"), RULE.rate, Decimal("0.6"))
    assert first.amount == Decimal("231.3671674762")
    assert (second.ib_id, second.share, second.amount) == (12, Decimal("0.4"), Decimal("154.2447783175"))


def test_the_caller_s_decimal_context_changes_nothing() -> None:
    plan, upline = PlanSnapshot(9, (RULE,)), [Upline(1, 11)]
    usual = compute(DEAL, plan, upline)

    with localcontext(prec=3, rounding=ROUND_UP):
        assert compute(DEAL, plan, upline) == usual


def test_a_plan_that_cannot_be_read_lets_its_deals_wait() -> None:
    broken = PlanSnapshot(9, (), is_broken=True)

    assert compute(DEAL, broken, [Upline(1, 11)]).reason is Reason.PLAN_INVALID
    assert Reason.PLAN_INVALID in WAITING


def test_a_component_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "COMPONENTS", COMPONENTS.copy())

    @component("per_deal")
    def per_deal(deal: DealFacts, rate: Decimal) -> Pool:
        return Pool(deal.lots_closed, rate, rate)

    assert components.COMPONENTS["per_deal"] is per_deal
    with pytest.raises(ValueError, match="twice"):
        component("per_deal")(per_deal)


def test_a_stored_document_names_every_default() -> None:
    rules = parse_rules([{"key": "a", "component": "per_lot", "rate": "8.00"}], "USD")

    assert rules_document(rules) == [
        {
            "key": "a",
            "component": "per_lot",
            "rate": "8.00",
            "currency": "USD",
            "levels": ["1"],
            "filter": {
                "symbols": ["*"],
                "direction": "any",
                "excluded_reasons": [6, 8, 12, 13, 14, 15, 18, 19],
                "min_holding_s": 0,
            },
        }
    ]
    assert rules[0].filter == RuleFilter(excluded_reasons=EXCLUDED_REASONS)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([{"key": f"r{index}", "component": "per_lot", "rate": "1"} for index in range(MAX_RULES + 1)], "rules"),
        ([{"key": "a", "component": "per_lot", "rate": "1", "levels": ["0.01"] * (MAX_LEVELS + 1)}], "rules[0].levels"),
        (
            [{"key": "a", "component": "per_lot", "rate": "1", "filter": {"symbols": ["X"] * (MAX_SYMBOLS + 1)}}],
            "rules[0].filter.symbols",
        ),
        ([{"key": "a", "component": "per_lot", "rate": "1", "filter": []}], "rules[0].filter"),
        (None, "rules"),
    ],
)
def test_documents_without_bounds_are_refused(document: object, field: str) -> None:
    with pytest.raises(InvalidPlan) as refused:
        parse_rules(document, "USD")
    assert field in refused.value.problems


def test_every_reason_has_words() -> None:
    assert set(explain.REASONS) == set(Reason)


def test_the_arithmetic_shows_only_the_steps_there_are() -> None:
    whole = explain.arithmetic(Decimal("0.50"), Decimal(8), Decimal(1), "USD")
    shared = explain.arithmetic(Decimal("0.50"), Decimal(8), Decimal("0.7"), "USD")
    cut = explain.arithmetic(Decimal("-0.01"), Decimal("3.3333333333"), Decimal(1), "USD")

    assert [(step.operator, step.value) for step in whole] == [("", Decimal("0.50")), ("×", Decimal(8)), ("=", Decimal(4))]
    assert [(step.operator, step.value) for step in shared] == [
        ("", Decimal("0.50")),
        ("×", Decimal(8)),
        ("=", Decimal(4)),
        ("×", Decimal("0.7")),
        ("=", Decimal("2.8")),
    ]
    assert [step.value for step in cut][-2:] == [Decimal("-0.033333333333"), Decimal("-0.0333333333")]
