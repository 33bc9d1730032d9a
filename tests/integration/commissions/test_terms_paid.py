"""Personal terms count as they stood when the deal was done; rebates go to the trader's wallet."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from app.commissions.accrual import accrue_deals
from app.commissions.explain import explain_deal
from app.commissions.settlement import settle_all
from app.core.clock import now
from app.ledger import chart
from app.models.commissions import Accrual
from app.models.ib_terms import IBTerms
from app.models.ledger import Account
from app.partners.tree import place_ib
from tests.integration.commissions.brokerage import NOON, STAFF, START, Brokerage


def agree(house: Brokerage, ib_id: int, **values: Any) -> int:
    """Terms written as if they had been agreed."""
    return house.add(IBTerms(**{"ib_id": ib_id, "valid_from": START, "set_by": str(STAFF), "reason": "agreed", **values}))


def rows(house: Brokerage, deal_id: int) -> list[tuple[str, int, Decimal]]:
    query = select(Accrual).where(Accrual.deal_id == deal_id).order_by(Accrual.id)
    return [(row.kind, row.level, row.amount) for row in house.session.scalars(query)]


def test_terms_count_from_their_moment_on(house: Brokerage) -> None:
    ib_id = house.ib()
    plan = str(house.ids["plan"])
    agree(house, ib_id, multiplier=Decimal("1.5"), valid_to=NOON)
    agree(house, ib_id, rates={plan: {"fx": "9"}}, valid_from=NOON)
    account = house.brought(ib_id)
    early = house.deal(account, done_at=NOON - timedelta(seconds=1))
    late = house.deal(account, done_at=NOON)

    accrue_deals(house.session, [early, late])

    assert rows(house, early) == [("accrue", 1, Decimal("10.5"))]
    assert rows(house, late) == [("accrue", 1, Decimal(9))]


def test_the_difference_to_an_ib_above_follows_its_personal_rate(house: Brokerage) -> None:
    low = house.ib([{"key": "fx", "component": "per_lot", "levels": {"mode": "override", "values": ["6", "8"]}}])
    plan = str(house.ids["plan"])
    top = house.ib()
    place_ib(house.session, low, top, START, "joined", STAFF)
    agree(house, low, rates={plan: {"fx": "7"}})
    agree(house, top, rates={plan: {"fx": "9.5"}})
    deal = house.deal(house.brought(low))

    accrue_deals(house.session, [deal])

    assert rows(house, deal) == [("accrue", 1, Decimal(7)), ("accrue", 2, Decimal("2.5"))]


def test_a_rebate_is_on_the_wallet_after_settlement_and_is_taken_back_with_its_deal(house: Brokerage) -> None:
    ib_id, trader = house.ib(), house.client()
    agree(house, ib_id, hand_on_percent=Decimal(30))
    account = house.brought(ib_id, client_id=trader)
    deal = house.deal(account)

    accrue_deals(house.session, [deal])
    made = settle_all(house.session, now() + timedelta(minutes=1))

    assert rows(house, deal) == [("accrue", 1, Decimal("4.9")), ("accrue", 0, Decimal("2.1"))]
    assert {(one.ib_id, one.client_id, str(one.amount)) for one in made} == {
        (ib_id, None, "4.90 USD"),
        (None, trader, "2.10 USD"),
    }
    code = chart.client_wallet(trader, "USD").code
    assert house.session.scalar(select(Account.balance).where(Account.code == code)) == 210

    accrue_deals(house.session, [house.revise(deal, "2")])
    assert rows(house, deal)[2:] == [("reverse", 1, Decimal("-4.9")), ("reverse", 0, Decimal("-2.1"))]


def test_a_rule_for_the_trader_is_explained_to_staff(house: Brokerage) -> None:
    trader = house.client()
    ib_id = house.ib([{"key": "back", "component": "per_lot", "rate": "1.50", "beneficiary": "trader"}])
    deal = house.deal(house.brought(ib_id, client_id=trader), "2")

    accrue_deals(house.session, [deal])

    (line,) = explain_deal(house.session, deal).lines
    assert (line.level, line.ib_id, line.client_id, line.amount) == (0, None, trader, 3)


def test_the_guard_of_the_version_cuts_and_a_deal_without_quotes_waits(house: Brokerage) -> None:
    account = house.brought(house.ib(margin_guard="cap"))
    quoted = {"market_bid": Decimal(1), "market_ask": Decimal("1.00002"), "contract_size": 100_000, "rate_profit": 1}
    cut, waits = house.deal(account, **quoted), house.deal(account)

    accrue_deals(house.session, [cut, waits])

    row = house.session.scalars(select(Accrual).where(Accrual.deal_id == cut)).one()
    assert (row.amount, row.uncapped, row.earned) == (2, 7, 2)
    assert house.outcome(waits) == (0, "no_spread")


def test_history_is_not_rewritten(house: Brokerage) -> None:
    terms_id = agree(house, house.ib(), multiplier=Decimal(2))
    house.save()

    with pytest.raises(DBAPIError, match="permission denied"):
        house.session.execute(update(IBTerms).where(IBTerms.id == terms_id).values(multiplier=3))
    house.session.rollback()
    with pytest.raises(DBAPIError, match="permission denied"):
        house.session.execute(text("DELETE FROM ib_terms"))
    house.session.rollback()
