"""The worked examples of docs/commissions.md: every row of every table there, computed with the rule above it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.commissions.components import COMPONENTS
from app.commissions.conditions import ClientFacts, month_counts, won_at
from app.commissions.deals import DealFacts
from app.commissions.engine import Rate, Upline, compute, grant
from app.commissions.plans import PlanSnapshot, Rule, parse_rules, with_groups
from app.commissions.tally import Case, recount
from app.commissions.terms import PersonalTerms
from app.commissions.tiers import Position

PAGE = Path(__file__).parents[3] / "docs" / "commissions.md"
SECTION = re.compile(
    r"^### (?P<title>.+?)\n\n(?:[^#`|].+\n\n)*```json\n(?P<rule>.+?)\n```\n\n(?P<table>(?:\|.+\n)+)", re.MULTILINE
)
DONE_AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
ACTIONS = {"buy": 0, "sell": 1}
POSITIONS = ("volume before", "month before", "net deposits", "active clients")
#: As the page says.
GROUPS = {"metals": ("XAU*", "XAG*")}
ENTRIES = {"in": 0, "out": 1, "inout": 2}


def rows(table: str) -> Iterator[dict[str, str]]:
    head, _, *lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.strip().split("\n")]
    for line in lines:
        yield dict(zip(head, line, strict=True))


def examples() -> list[Any]:
    page = PAGE.read_text()
    return [
        pytest.param(json.loads(section["rule"]), row, id=f"{section['title']}: {row['example']}")
        for section in SECTION.finditer(page[page.index("## Examples, each one a test") :])
        for row in rows(section["table"])
    ]


def volume(lots: str) -> int:
    return int(Decimal(lots).scaleb(8))


def facts(row: dict[str, str]) -> DealFacts:
    entry = row.get("entry", "out")
    return DealFacts(
        deal_id=1,
        action=ACTIONS[row.get("action", "sell")],
        entry=ENTRIES[entry],
        reason=0,
        symbol=row.get("symbol", "EURUSD"),
        volume=volume(row["lots"]),
        volume_closed=0,
        done_at=DONE_AT,
        opened_at=DONE_AT - timedelta(seconds=int(row.get("held", "0"))),
        product=row.get("product", "standard-usd"),
        country=row.get("country", "CY"),
        category=row.get("category", "retail"),
        currency="USD",
        profit=Decimal(row.get("profit", "0")),
        swap=Decimal(row.get("swap", "0")),
        commission=Decimal(row.get("commission", "0")),
        fee=Decimal(row.get("fee", "0")),
        price=Decimal(row.get("price", "0")),
        price_position=Decimal(row.get("opened at", "0")),
        credit_percent=Decimal(row.get("credit %", "0")),
        digits=int(row["digits"]) if row.get("digits") else None,
        bid=Decimal(row.get("bid", "0")),
        ask=Decimal(row.get("ask", "0")),
        contract_size=Decimal(row.get("contract", "0")),
        rate_profit=Decimal(row.get("profit rate", "0")),
    )


def number(row: dict[str, str], column: str) -> Decimal | None:
    return Decimal(row[column]) if row.get(column) else None


def upline(row: dict[str, str]) -> list[Upline]:
    """The IBs above the client; the personal terms of the first and the rate of the second stand in the row."""
    own, above = number(row, "own rate"), number(row, "rate above")
    first = PersonalTerms(number(row, "multiplier"), {(1, "example"): own} if own else {}, number(row, "hands on"))
    second = PersonalTerms(rates={(1, "example"): above}) if above else None
    terms = {1: first if first != PersonalTerms() else None, 2: second}
    return [Upline(level, 10 * level, terms.get(level)) for level in range(1, int(row.get("IBs", "1")) + 1)]


def examples_on(on: str) -> list[Any]:
    return [one for one in examples() if COMPONENTS[one.values[0]["component"]].on == on]


def day(number: str) -> datetime | None:
    return DONE_AT + timedelta(days=int(number)) if number else None


def granted(rule: Rule, row: dict[str, str]) -> str:
    lines = grant(rule, PlanSnapshot(1, (rule,)), upline(row), DONE_AT)
    assert isinstance(lines, list)
    return " + ".join(f"{line.amount:.2f}" for line in lines)


@pytest.mark.parametrize(("rule", "row"), examples_on("client"))
def test_a_client_is_won_when_the_page_says(rule: dict[str, Any], row: dict[str, str]) -> None:
    (parsed,) = parse_rules([{"key": "example", **rule}], "USD")
    assert parsed.conditions is not None
    closed = [part.split(" on ") for part in row["lots closed"].split(", ")]
    client = ClientFacts(
        country=row["country"],
        registered_at=DONE_AT,
        approved_at=day(row["approved on day"]),
        deposited_at=day(row["deposit on day"]),
        first_deposit=Decimal(row["first deposit"]),
        closed=[(moment, Decimal(lots)) for lots, number in closed if (moment := day(number))],
    )

    moment = won_at(parsed.conditions, parsed.filter.countries, client)

    assert (granted(parsed, row) if moment else "nothing") == row["pays"]
    assert moment == day(row["paid on day"])


@pytest.mark.parametrize(("rule", "row"), examples_on("month"))
def test_a_month_is_paid_as_the_page_says(rule: dict[str, Any], row: dict[str, str]) -> None:
    (parsed,) = parse_rules([{"key": "example", **rule}], "USD")
    assert parsed.conditions is not None
    counts = month_counts(parsed.conditions, int(row["active clients"]))
    assert (granted(parsed, row) if counts else "nothing") == row["pays"]


def stands(rule: Rule, row: dict[str, str]) -> dict[str, Position]:
    """Where the rule's tiers and caps stand before the deal, by the columns that say so."""
    said = next((row[name] for name in POSITIONS if name in row), "0")
    tier = None if said == "unknown" else Decimal(said)
    paid = {
        (period, above.ib_id): Decimal(row.get(column, "0"))
        for period, column in (("day", "paid today"), ("month", "paid this month"))
        for above in upline(row)
    }
    return {rule.key: Position(tier, paid)}


@pytest.mark.parametrize(("rule", "row"), [one for one in examples_on("deal") if "deals" in one.values[1]])
def test_the_deals_of_a_period_pay_what_the_page_says(rule: dict[str, Any], row: dict[str, str]) -> None:
    plan = PlanSnapshot(1, parse_rules([{"key": "example", **rule}], "USD"), plan_id=1)
    cases = [
        Case(replace(facts({**row, "lots": lots}), deal_id=number), plan, (Upline(1, 10),), {}, 10, (DONE_AT, 1, number))
        for number, lots in enumerate(row["deals"].split(", "))
    ]

    outcomes, _ = recount(cases, lambda owner_id, rule, since, until: Decimal(0))

    amounts = [[made.amount for made in outcomes[case.deal.deal_id].accruals] for case in cases]
    assert amounts == [[Decimal(part)] for part in row["pays"].split(", ")]


@pytest.mark.parametrize(("rule", "row"), [one for one in examples_on("deal") if "deals" not in one.values[1]])
def test_a_deal_pays_what_the_page_says(rule: dict[str, Any], row: dict[str, str]) -> None:
    rules = with_groups(parse_rules([{"key": "example", **rule}], "USD"), GROUPS)
    plan = PlanSnapshot(1, rules, plan_id=1, margin_guard=row.get("margin guard", "off"))
    rates = {"EUR": Rate(Decimal(row["EUR per USD"]), "ecb", DONE_AT)} if row.get("EUR per USD") else {}

    outcome = compute(facts(row), plan, upline(row), rates, stands(rules[0], row))

    if outcome.reason:
        assert row["pays"] == outcome.reason
        return
    ibs = [made for made in outcome.accruals if made.level]
    rebates = [made for made in outcome.accruals if not made.level]
    parts = [part for part in row["pays"].split(" + ") if not part.startswith("rebate ")]
    assert [made.amount for made in ibs] == [Decimal(part) for part in parts]
    assert [made.level for made in ibs] == list(range(1, len(ibs) + 1))
    handed = [part.removeprefix("rebate ") for part in row["pays"].split(" + ") if part.startswith("rebate ")]
    assert [made.amount for made in rebates] == [Decimal(part) for part in handed]


def test_the_page_has_examples_of_every_component() -> None:
    shown = examples()
    assert len(shown) >= 25
    assert {example.values[0]["component"] for example in shown} == set(COMPONENTS)
