"""What the tables do not show: the parts of an accrual, broken plans, components, the words for reasons, the arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal, localcontext

import pytest

from app.commissions import explain
from app.commissions.components import COMPONENTS, Measured, When, component
from app.commissions.deals import DealFacts
from app.commissions.engine import WAITING, Reason, Upline, compute
from app.commissions.errors import InvalidPlan
from app.commissions.plans import (
    MAX_LEVELS,
    MAX_RULES,
    PlanSnapshot,
    Rule,
    parse_rules,
    rules_document,
)
from app.commissions.rule_filter import CATEGORIES, EXCLUDED_REASONS, MAX_SYMBOLS, RuleFilter
from app.models.clients import CLIENT_CATEGORIES
from app.models.commissions import Accrual

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


def test_a_component_is_registered_once() -> None:
    def per_letter(deal: DealFacts, when: When) -> Measured | Reason:
        return Measured(Decimal(len(deal.symbol)))

    component("per_letter", "Letters", when="each")(per_letter)
    try:
        (rule,) = parse_rules([{"key": "a", "component": "per_letter", "rate": "2"}], "USD")
        assert rule.when == "each"
        assert compute(DEAL, PlanSnapshot(9, (rule,)), [Upline(1, 11)]).accruals[0].amount == 12
        with pytest.raises(ValueError, match="twice"):
            component("per_letter", "Letters")(per_letter)
    finally:
        COMPONENTS.pop("per_letter")


def test_a_stored_document_names_every_default() -> None:
    rules = parse_rules([{"key": "a", "component": "per_lot", "rate": "8.00"}], "USD")

    assert rules_document(rules) == [
        {
            "key": "a",
            "component": "per_lot",
            "rate": "8.00",
            "currency": "USD",
            "when": "close",
            "levels": {"mode": "shares", "values": ["1"]},
            "cap": None,
            "tiers": None,
            "caps": None,
            "beneficiary": "ibs",
            "filter": {
                "symbols": ["*"],
                "direction": "any",
                "excluded_reasons": [2, 6, 8, 12, 13, 14, 15, 18, 19],
                "min_holding_s": 0,
                "products": [],
                "countries": [],
                "categories": [],
                "min_points": 0,
                "max_credit_percent": 100,
                "symbol_groups": [],
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


def test_rules_know_the_categories_that_clients_have() -> None:
    assert CATEGORIES == CLIENT_CATEGORIES


def test_every_reason_has_words() -> None:
    assert set(explain.REASONS) == set(Reason)


def line(lots: str, amount: str, **more: object) -> Accrual:
    return Accrual(kind="accrue", level=1, lots=Decimal(lots), amount=Decimal(amount), currency="USD", **more)


def steps(paid: Accrual, rule: Rule) -> list[tuple[str, Decimal, str]]:
    paid.rate = rule.rate
    return [(step.operator, step.value, step.unit) for step in explain.arithmetic(paid, rule)]


def test_the_arithmetic_shows_only_the_steps_there_are() -> None:
    whole = steps(line("0.50", "4"), Rule("a", "per_lot", Decimal(8), "USD"))
    shared = steps(line("0.50", "2.8"), Rule("a", "per_lot", Decimal(8), "USD", (Decimal("0.7"),)))
    cut = steps(line("-0.01", "-0.0333333333"), Rule("a", "per_lot", Decimal("3.3333333333"), "USD"))

    assert whole == [("", Decimal("0.50"), ""), ("×", Decimal(8), "USD"), ("=", Decimal(4), "USD")]
    assert shared == [
        ("", Decimal("0.50"), ""),
        ("×", Decimal(8), "USD"),
        ("=", Decimal(4), "USD"),
        ("×", Decimal("0.7"), ""),
        ("=", Decimal("2.8"), "USD"),
    ]
    assert [value for _, value, _ in cut][-2:] == [Decimal("-0.033333333333"), Decimal("-0.0333333333")]


def test_the_arithmetic_of_a_percentage_shows_its_base_and_the_exchange_rate() -> None:
    rule = Rule("a", "commission_share", Decimal(40), "USD")
    paid = line("1", "3.08", base=Decimal(7), base_currency="EUR", fx_rate=Decimal("1.1"))

    assert steps(paid, rule) == [
        ("", Decimal(7), "EUR"),
        ("×", Decimal(40), "%"),
        ("=", Decimal("2.8"), "EUR"),
        ("×", Decimal("1.1"), "USD/EUR"),
        ("=", Decimal("3.08"), "USD"),
    ]


def test_the_arithmetic_says_what_a_cap_took() -> None:
    rule = Rule("a", "per_lot", Decimal(8), "USD", cap=Decimal(20))

    assert steps(line("10", "20", uncapped=Decimal(80)), rule)[-3:] == [
        ("=", Decimal(80), "USD"),
        ("→", Decimal(20), "USD"),
        ("=", Decimal(20), "USD"),
    ]


def test_an_adjustment_is_one_step() -> None:
    paid = line("10", "20")
    paid.kind, paid.level = "adjust:3", 7

    assert steps(paid, RULE) == [("=", Decimal(20), "USD")]
