"""What an explanation says of tiers and caps of a period."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.commissions.accrual import stored
from app.commissions.deals import DealFacts
from app.commissions.engine import Upline, compute
from app.commissions.explain import arithmetic
from app.commissions.plans import PlanSnapshot, parse_rules
from app.commissions.tiers import Position
from app.models.commissions import Accrual

BANDS = [{"from": "0", "rate": "5"}, {"from": "100", "rate": "6"}]


def steps(position: Position, lots: str, before: tuple[Decimal, Decimal] | None = None, **rule: Any) -> list[tuple[Any, ...]]:
    """The steps of the first level's line; with `before`, of one that trued it up."""
    rules = parse_rules([{"key": "a", "component": "per_lot", **rule}], "USD")
    deal = DealFacts(1, 1, 1, 0, "EURUSD", int(Decimal(lots) * 10**8), 0, datetime(2026, 7, 1, tzinfo=UTC))
    made = compute(deal, PlanSnapshot(1, rules), [Upline(1, 7)], None, {"a": position}).accruals[0]
    line = Accrual(**stored(1, made))
    if before:
        line.kind, line.amount, line.lots = "adjust:true-up:2026-07-01:1.1", line.amount - before[0], line.lots - before[1]
    return [(step.operator, step.label, step.value) for step in arithmetic(line, rules[0], before)]


def test_a_deal_across_two_bands_shows_both() -> None:
    tiers = {"mode": "marginal", "bands": BANDS}
    assert steps(Position(Decimal("98.5")), "2", tiers=tiers) == [
        ("", "Volume of the month before this deal", Decimal("98.5")),
        ("+", "Lots of this deal in the tier", Decimal("1.5")),
        ("≥", "The tier begins at", 0),
        ("×", "Rate of the tier", 5),
        ("+", "Lots of this deal in the tier", Decimal("0.5")),
        ("≥", "The tier begins at", 100),
        ("×", "Rate of the tier", 6),
        ("=", "Over all lots, on average", Decimal("5.25")),
        ("", "Lots closed", 2),
        ("×", "Rate per lot", Decimal("5.25")),
        ("=", "Commission", Decimal("10.5")),
    ]


def test_an_average_that_does_not_end_still_gives_the_exact_amount() -> None:
    tiers = {"mode": "marginal", "bands": BANDS}
    assert steps(Position(Decimal(99)), "3", tiers=tiers)[-1] == ("=", "Commission", 17)


def test_whole_tiers_show_what_the_month_reached() -> None:
    tiers = {"mode": "whole", "measure": "active_clients", "bands": BANDS}
    assert steps(Position(Decimal(104)), "2", tiers=tiers) == [
        ("", "Active clients of the period when the day began", 104),
        ("≥", "The tier begins at", 100),
        ("", "Lots closed", 2),
        ("×", "Rate per lot", 6),
        ("=", "Commission", 12),
    ]


def test_a_cap_shows_what_had_been_paid() -> None:
    caps = {"day": "50", "month": "200"}
    paid = Position(paid={("day", 7): Decimal(45), ("month", 7): Decimal(100)})
    assert steps(paid, "2", rate="10", caps=caps)[-4:] == [
        ("=", "Before the cap", 20),
        ("→", "The rule pays one IB at most, a day", 50),
        ("−", "Paid to the IB before on this day", 45),
        ("=", "What the cap left", 5),
    ]
    month = Position(paid={("day", 7): Decimal(0), ("month", 7): Decimal(190)})
    assert [step[1] for step in steps(month, "2", rate="10", caps=caps)[-3:-1]] == [
        "The rule pays one IB at most, a month",
        "Paid to the IB before in this month",
    ]


def test_a_true_up_shows_what_is_due_and_what_was_given() -> None:
    tiers = {"mode": "whole", "bands": BANDS}
    assert steps(Position(Decimal(104)), "2", (Decimal(10), Decimal(2)), tiers=tiers) == [
        ("", "Volume of the month", 104),
        ("≥", "The tier begins at", 100),
        ("", "Lots closed", 2),
        ("×", "Rate per lot", 6),
        ("=", "Commission", 12),
        ("−", "Given for this deal before", 10),
        ("=", "Difference found when the period was trued up", 2),
    ]
