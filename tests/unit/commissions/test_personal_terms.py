"""Personal terms, rebates and the margin guard, deal by deal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.commissions.accrual import stored
from app.commissions.deals import DealFacts
from app.commissions.engine import Outcome, Rate, Reason, Upline, compute
from app.commissions.errors import InvalidPlan
from app.commissions.explain import arithmetic
from app.commissions.plans import PlanSnapshot, parse_rules
from app.commissions.terms import PersonalTerms
from app.models.commissions import Accrual

PLAN = 3
DEAL = DealFacts(
    deal_id=1,
    action=1,
    entry=1,
    reason=0,
    symbol="EURUSD",
    volume=10**8,
    volume_closed=0,
    done_at=datetime(2026, 7, 1, 12, tzinfo=UTC),
    currency="USD",
    commission=Decimal("-3.50"),
    bid=Decimal("1.08000"),
    ask=Decimal("1.08012"),
    contract_size=Decimal(100_000),
    rate_profit=Decimal(1),
    client_id=77,
)


def paid(rule: dict[str, Any], *terms: PersonalTerms | None, guard: str = "off", deal: DealFacts = DEAL) -> Outcome:
    rules = parse_rules([{"key": "a", "component": "per_lot", **rule}], "USD")
    upline = [Upline(level, 10 * level, one) for level, one in enumerate(terms, start=1)]
    return compute(deal, PlanSnapshot(9, rules, plan_id=PLAN, margin_guard=guard), upline)


def amounts(outcome: Outcome) -> list[Decimal]:
    return [line.amount for line in outcome.accruals]


def own(rate: str, plan: int = PLAN, key: str = "a") -> PersonalTerms:
    return PersonalTerms(rates={(plan, key): Decimal(rate)})


@pytest.mark.parametrize(
    ("rule", "terms", "expected"),
    [
        ({"rate": "8", "levels": ["0.7", "0.3"]}, (own("10"), None), ["7", "2.4"]),
        ({"rate": "10", "levels": {"mode": "below", "values": ["1", "0.2"]}}, (own("12"), None), ["12", "2.4"]),
        ({"levels": {"mode": "rates", "values": ["6", "1.5"]}}, (None, own("2")), ["6", "2"]),
        ({"levels": {"mode": "override", "values": ["6", "8"]}}, (own("7"), None), ["7", "1"]),
        ({"levels": {"mode": "override", "values": ["6", "8"]}}, (None, own("9.5")), ["6", "3.5"]),
        ({"levels": {"mode": "override", "values": ["6", "8", "9"]}}, (own("8.5"), None, None), ["8.5", "0.5"]),
        ({"rate": "8"}, (own("10", plan=4), None), ["8"]),
        ({"rate": "8"}, (own("10", key="b"), None), ["8"]),
        ({"rate": "8", "levels": ["0.7", "0.3"]}, (PersonalTerms(Decimal("1.2")), None), ["6.72", "2.4"]),
        (
            {"rate": "8", "levels": ["0.7", "0.3"], "cap": "4"},
            (PersonalTerms(Decimal(2)), None),
            ["3.2941176470", "0.7058823529"],
        ),
    ],
)
def test_an_ib_gets_what_was_agreed(rule: dict[str, Any], terms: tuple[PersonalTerms | None, ...], expected: list[str]) -> None:
    assert amounts(paid(rule, *terms)) == [Decimal(amount) for amount in expected]


def test_a_line_keeps_all_factors_of_its_amount() -> None:
    (line,) = paid({"rate": "8"}, PersonalTerms(Decimal("1.2"), {(PLAN, "a"): Decimal(9)})).accruals

    assert (line.rate, line.share, line.multiplier, line.amount) == (9, 1, Decimal("1.2"), Decimal("10.8"))
    assert steps_of(line) == ["Lots closed 1", "× Rate per lot 9", "× The IB's own multiplier 1.2", "= Commission 10.8"]


def steps_of(line: Any, rule: dict[str, Any] | None = None) -> list[str]:
    (parsed,) = parse_rules([rule or {"key": "a", "component": "per_lot", "rate": "8"}], "USD")
    return [
        f"{step.operator} {step.label} {step.value.normalize():f}".strip()
        for step in arithmetic(Accrual(**stored(1, line)), parsed)
    ]


def test_a_difference_is_called_one() -> None:
    rule = {"key": "a", "component": "per_lot", "levels": {"mode": "override", "values": ["6", "8"]}}

    low, above = paid(rule, own("7"), own("9.5")).accruals

    assert steps_of(low, rule)[1] == "× Rate per lot 7"
    assert steps_of(above, rule)[1:] == ["× Difference to the rate of the level below 2.5", "= Commission 2.5"]


def test_what_an_ib_hands_on_goes_to_the_trader_and_nothing_is_lost() -> None:
    terms = PersonalTerms(hand_on_percent=Decimal("33.3"))
    deal = replace(DEAL, volume=1)

    kept, rebate, above = paid({"rate": "7", "levels": ["0.7", "0.3"]}, terms, None, deal=deal).accruals
    whole, _ = paid({"rate": "7", "levels": ["0.7", "0.3"]}, None, None, deal=deal).accruals

    assert (rebate.level, rebate.ib_id, rebate.client_id, rebate.rule) == (0, None, 77, "a")
    assert (kept.level, kept.ib_id, above.level) == (1, 10, 2)
    assert kept.amount + rebate.amount == whole.amount
    assert (rebate.amount, kept.part, rebate.part) == (Decimal("1.63E-8"), Decimal("0.667"), Decimal("0.333"))
    assert above.part is None


def test_handing_on_is_a_step_of_both_lines() -> None:
    kept, rebate = paid({"rate": "8"}, PersonalTerms(hand_on_percent=Decimal(25))).accruals

    assert steps_of(kept)[2:] == ["× Kept after handing on to the trader 75", "= Commission 6"]
    assert steps_of(rebate)[2:] == ["× Handed on by the IB 25", "= Rebate 2"]


def test_what_is_taken_back_from_an_ib_is_taken_back_from_the_trader_too() -> None:
    charged = {"component": "commission_share", "rate": "40"}
    deal = replace(DEAL, commission=Decimal("3.50"))

    assert amounts(paid(charged, PersonalTerms(hand_on_percent=Decimal(50)), deal=deal)) == [Decimal("-0.7"), Decimal("-0.7")]


def test_a_rule_for_the_trader_pays_level_nought_whoever_stands_above() -> None:
    rule = {"rate": "2", "beneficiary": "trader"}

    (line,) = paid(rule, PersonalTerms(Decimal(3), {(PLAN, "a"): Decimal(9)}, Decimal(50)), None).accruals

    assert (line.level, line.ib_id, line.client_id, line.amount) == (0, None, 77, 2)
    assert steps_of(line)[-1] == "= Rebate 2"


def test_a_rule_for_the_trader_has_one_value() -> None:
    with pytest.raises(InvalidPlan) as refused:
        parse_rules(
            [{"key": "a", "component": "per_lot", "rate": "2", "beneficiary": "trader", "levels": ["0.5", "0.5"]}], "USD"
        )
    assert refused.value.problems == {"rules[0].levels": "A rebate goes to the trader alone; give it one value."}


class TestMarginGuard:
    """The deal earned a spread of 12.00 and a commission of 3.50."""

    RICH = {"rate": "31", "levels": ["0.6", "0.4"]}

    def test_payouts_within_what_the_deal_earned_are_left_alone(self) -> None:
        outcome = paid({"rate": "15.5"}, None, guard="cap")

        assert amounts(outcome) == [Decimal("15.5")]
        assert outcome.accruals[0].earned is None

    def test_more_is_cut_in_proportion_and_every_line_says_so(self) -> None:
        outcome = paid(self.RICH, None, None, guard="cap")

        assert amounts(outcome) == [Decimal("9.3"), Decimal("6.2")]
        assert [(line.uncapped, line.earned) for line in outcome.accruals] == [
            (Decimal("18.6"), Decimal("15.5")),
            (Decimal("12.4"), Decimal("15.5")),
        ]
        assert steps_of(outcome.accruals[0], {"key": "a", "component": "per_lot", **self.RICH})[-3:] == [
            "= Before the cap 18.6",
            "→ The deal earned, and all its payouts were cut to that 15.5",
            "= This line's part of it 9.3",
        ]

    def test_what_is_handed_on_is_a_part_of_what_was_left(self) -> None:
        outcome = paid({"rate": "31"}, PersonalTerms(hand_on_percent=Decimal(20)), guard="cap")

        assert amounts(outcome) == [Decimal("12.4"), Decimal("3.1")]
        assert [line.uncapped for line in outcome.accruals] == [Decimal("24.8"), Decimal("6.2")]

    def test_a_plan_may_only_want_to_know(self) -> None:
        outcome = paid(self.RICH, None, None, guard="flag")

        assert amounts(outcome) == [Decimal("18.6"), Decimal("12.4")]
        assert outcome.excess is not None
        assert (outcome.excess.earned, outcome.excess.paid, outcome.excess.currency) == (Decimal("15.5"), 31, "USD")
        assert paid({"rate": "15.5"}, None, guard="flag").excess is None

    def test_a_deal_without_a_spread_waits_where_it_would_be_cut(self) -> None:
        deal = replace(DEAL, bid=Decimal(0), ask=Decimal(0))

        assert paid(self.RICH, None, guard="cap", deal=deal).reason is Reason.NO_SPREAD
        assert amounts(paid(self.RICH, None, guard="flag", deal=deal)) == [Decimal("18.6")]

    def test_a_plan_that_pays_on_each_side_counts_half_the_spread_on_each(self) -> None:
        assert amounts(paid({"rate": "31", "when": "each"}, None, guard="cap")) == [Decimal("9.5")]

    def test_another_currency_is_compared_by_the_rate_of_the_day(self) -> None:
        rules = parse_rules([{"key": "a", "component": "per_lot", "rate": "31", "currency": "EUR"}], "USD")
        plan = PlanSnapshot(9, rules, margin_guard="cap")
        half = {"EUR": Rate(Decimal("0.5"), "ecb", None)}

        (line,) = compute(DEAL, plan, [Upline(1, 10)], half).accruals

        assert (line.amount, line.earned, line.currency) == (Decimal("7.75"), Decimal("7.75"), "EUR")
        assert compute(DEAL, plan, [Upline(1, 10)]).reason is Reason.NO_RATE

    def test_a_deal_that_earned_nothing_pays_nothing_and_says_so(self) -> None:
        deal = replace(DEAL, ask=DEAL.bid, commission=Decimal(0))

        (line,) = paid({"rate": "8"}, None, guard="cap", deal=deal).accruals

        assert (line.amount, line.uncapped, line.earned) == (0, 8, 0)
