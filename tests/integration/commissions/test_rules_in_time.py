"""What rules ask for is taken as it stood when the deal was done: the symbols of a group, the client's category."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.commissions import symbol_groups
from app.commissions.accrual import accrue_deals
from app.commissions.errors import GroupCodeTaken, GroupOverlap, InvalidPlan
from app.compliance import categories
from app.compliance.errors import CategoryUnchanged
from app.core.clock import now
from app.core.errors import InvalidInput
from app.models.clients import ClientCategory
from app.models.metatrader import TradingAccount
from app.models.symbol_groups import SymbolGroupVersion
from tests.integration.commissions.brokerage import NOON, STAFF, START, Brokerage

METALS: list[dict[str, Any]] = [
    {"key": "metals", "component": "per_lot", "rate": "7.00", "filter": {"symbol_groups": ["metals"]}}
]
PROFESSIONALS: list[dict[str, Any]] = [
    {"key": "pro", "component": "per_lot", "rate": "7.00", "filter": {"categories": ["professional"]}}
]
SECOND = timedelta(seconds=1)


def group(house: Brokerage, *symbols: str, valid_from: datetime = START, code: str = "metals") -> int:
    return symbol_groups.make_group(
        house.session,
        code=code,
        name="Metals",
        symbols=list(symbols),
        valid_from=valid_from,
        reason="so that rules may name them",
        actor=STAFF,
    )


def reason(house: Brokerage, deal_id: int) -> str:
    accrue_deals(house.session, [deal_id])
    return house.outcome(deal_id)[1] or "paid"


def test_a_group_has_the_symbols_of_the_moment_of_the_deal(house: Brokerage) -> None:
    group_id = group(house, "XAU*")
    account = house.brought(house.ib(METALS))
    house.add(
        SymbolGroupVersion(group_id=group_id, symbols=["XAU*", "XAG*"], valid_from=NOON, set_by=str(STAFF), reason="silver too")
    )
    early = house.deal(account, symbol="XAGUSD", done_at=NOON - SECOND)
    late = house.deal(account, symbol="XAGUSD", done_at=NOON)

    assert reason(house, early) == "no_rule_matched"
    assert reason(house, late) == "paid"
    assert reason(house, house.deal(account, symbol="XAUUSD", done_at=NOON - SECOND)) == "paid"
    assert reason(house, house.deal(account, symbol="EURUSD")) == "no_rule_matched"


def test_rules_cannot_begin_before_a_group_that_they_name(house: Brokerage) -> None:
    with pytest.raises(InvalidPlan) as refused:
        house.ib(METALS)
    assert "rules[0].filter.symbol_groups" in refused.value.problems
    group(house, "XAU*", valid_from=NOON)
    with pytest.raises(InvalidPlan):
        house.ib(METALS)  # valid from START


def test_a_group_that_is_gone_lets_the_deals_of_its_plan_wait(house: Brokerage) -> None:
    group(house, "XAU*")
    account = house.brought(house.ib(METALS))
    deal = house.deal(account, symbol="XAUUSD")
    house.session.execute(text("UPDATE symbol_group SET code = 'gone'"))

    assert reason(house, deal) == "plan_invalid"


def test_a_group_is_changed_from_now_on_or_later_and_never_overwritten(house: Brokerage) -> None:
    group_id = group(house, "XAU*")
    change = {"symbols": ["XAG*"], "reason": "silver", "actor": STAFF}
    with pytest.raises(InvalidInput) as refused:
        symbol_groups.change_group(house.session, group_id, valid_from=now() - SECOND, **change)
    assert set(refused.value.problems) == {"valid_from"}
    with pytest.raises(InvalidInput) as refused:
        symbol_groups.change_group(house.session, group_id, symbols=["*A*B*"], valid_from=None, reason=" ", actor=STAFF)
    assert set(refused.value.problems) == {"symbols", "reason"}

    symbol_groups.change_group(house.session, group_id, valid_from=now() + 60 * SECOND, **change)

    with pytest.raises(GroupOverlap):
        symbol_groups.change_group(house.session, group_id, valid_from=None, **change)
    with pytest.raises(GroupCodeTaken):
        group(house, "XAU*")
    assert [row.symbols for row in house.session.scalars(symbol_groups.history_of(group_id))] == [["XAG*"], ["XAU*"]]
    with pytest.raises(DBAPIError):
        house.session.execute(text("UPDATE symbol_group_version SET symbols = '[]'"))


def test_a_rule_asks_what_category_the_client_was_of(house: Brokerage) -> None:
    account = house.brought(house.ib(PROFESSIONALS))
    client_id = house.session.get_one(TradingAccount, account).client_id
    for category, since in (("professional", NOON), ("retail", NOON + SECOND)):
        house.add(
            ClientCategory(client_id=client_id, category=category, valid_from=since, set_by=str(STAFF), reason="asked for it")
        )

    assert reason(house, house.deal(account, done_at=NOON - SECOND)) == "no_rule_matched"
    assert reason(house, house.deal(account, done_at=NOON)) == "paid"
    assert reason(house, house.deal(account, done_at=NOON + SECOND)) == "no_rule_matched"


def test_compliance_sets_a_category_with_a_reason(house: Brokerage) -> None:
    client_id = house.client()
    house.save()
    assert categories.category_of(house.session, client_id) == "retail"
    with pytest.raises(InvalidInput) as refused:
        categories.set_category(house.session, client_id, "royal", reason=" ", actor=STAFF)
    assert set(refused.value.problems) == {"category", "reason"}
    with pytest.raises(CategoryUnchanged):
        categories.set_category(house.session, client_id, "retail", reason="is so already", actor=STAFF)

    categories.set_category(house.session, client_id, "professional", reason="Portfolio shown", actor=STAFF)

    assert categories.category_of(house.session, client_id) == "professional"
    assert [event.payload for event in house.events("client.category_changed")] == [{"category": "professional"}]


def test_points_need_what_the_server_reports_with_the_deal(house: Brokerage) -> None:
    rules = [{"key": "fx", "component": "markup_points", "rate": "4", "filter": {"min_points": 50}}]
    account = house.brought(house.ib(rules))
    known = {"contract_size": Decimal(100_000), "rate_profit": Decimal(1), "price_position": Decimal("1.0995")}

    unknown = house.deal(account, **known)
    paid = house.deal(account, digits=5, **known)

    assert reason(house, unknown) == "no_symbol_data"
    assert reason(house, paid) == "paid"
    assert reason(house, house.deal(account, digits=5, **known | {"price_position": Decimal("1.0996")})) == "moved_too_little"


OWN_MONEY: list[dict[str, Any]] = [{"key": "own", "component": "per_lot", "rate": "7.00", "filter": {"max_credit_percent": 50}}]
BALANCE, CREDIT = 2, 3


def test_a_deal_on_credit_counts_by_what_the_account_held_then(house: Brokerage) -> None:
    account = house.brought(house.ib(OWN_MONEY))
    house.deal(account, "0", action=BALANCE, entry=0, profit=Decimal(100), done_at=NOON - 9 * SECOND)
    before = house.deal(account, done_at=NOON - 8 * SECOND)
    house.deal(account, "0", action=CREDIT, entry=0, profit=Decimal(100), done_at=NOON - 7 * SECOND)
    half = house.deal(account, done_at=NOON - 6 * SECOND, profit=Decimal(-20))
    more = house.deal(account, done_at=NOON - 5 * SECOND)
    house.deal(account, "0", action=CREDIT, entry=0, profit=Decimal(-100), done_at=NOON - 4 * SECOND)
    gone = house.deal(account, done_at=NOON - 3 * SECOND)
    void = house.deal(account, "0", action=CREDIT, entry=0, profit=Decimal(500), done_at=NOON - 2 * SECOND, is_void=True)
    after = house.deal(account, done_at=NOON - SECOND)

    accrue_deals(house.session, [before, half, more, gone, void, after])

    assert [house.outcome(deal) for deal in (before, half, gone, after)] == [(1, "")] * 4
    assert house.outcome(more) == (0, "on_credit"), "100 of 180 are credit"
