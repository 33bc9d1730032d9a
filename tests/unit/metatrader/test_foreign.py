"""What a balance operation of others is taken for, before anybody has looked."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from app.metatrader import foreign
from tests.unit.metatrader.samples import DEAL


def operation(comment: str = "", amount: str = "100", action: int = 2, reason: int = 2):
    money = dict.fromkeys(("swap", "commission", "fee"), Decimal(0))
    return replace(DEAL, action=action, reason=reason, comment=comment, profit=Decimal(amount), symbol="", **money)


@pytest.mark.parametrize(
    ("comment", "amount", "action", "expected"),
    [
        ("Deposit Skrill #4711", "250", 2, "deposit"),
        ("Deposit Skrill #4711", "-250", 2, "correction"),
        ("WD 5512", "-70", 2, "withdrawal"),
        ("Internal transfer to 100002", "-70", 2, "transfer"),
        ("IB rebate 2025-11", "12.40", 2, "rebate"),
        ("Welcome BONUS", "50", 2, "bonus"),
        ("NBP", "13.37", 2, "compensation"),
        ("Inactivity fee", "-5", 2, "charge"),
        ("migration from MT4", "800", 2, "opening"),
        ("", "100", 2, "unknown"),
        ("Deposit", "50", 3, "credit"),
        ("", "-5", 4, "charge"),
        ("", "5", 5, "correction"),
        ("", "5", 6, "bonus"),
        ("", "5", 7, "rebate"),
        ("", "-5", 7, "charge"),
        ("", "5", 15, "dividend"),
        ("", "-5", 17, "charge"),
        ("", "5", 18, "rebate"),
        ("so: 12.3%/100", "5", 19, "compensation"),
        ("", "5", 20, "compensation"),
    ],
)
def test_first_guess(comment, amount, action, expected):
    assert foreign.classify(operation(comment, amount, action)) == expected


def test_play_money_is_play_money_whatever_it_says():
    assert foreign.classify(operation("Deposit"), is_demo=True) == "demo"


def test_what_a_migration_made_is_an_opening():
    assert foreign.classify(operation("x", reason=15)) == "opening"


def test_patterns_of_the_house_come_first():
    assert foreign.classify(operation("Deposit"), patterns=[("^dep", "rebate"), *foreign.COMMENT_CLASSES]) == "rebate"
