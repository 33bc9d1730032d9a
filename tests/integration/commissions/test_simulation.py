"""Proposed rules over real deals: cost now and then, winners and losers, what is earned; nothing is paid."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.commissions import simulation
from app.commissions.accrual import accrue_deals
from app.commissions.errors import InvalidPlan
from app.commissions.occasions import accrue_occasions
from app.core.clock import now
from app.core.errors import InvalidInput
from app.models.clients import Client
from app.models.commissions import Accrual
from app.models.metatrader import Deal, TradingAccount
from app.models.partners import IBParent
from app.models.replays import PlanSimulation
from tests.integration.commissions.brokerage import RULES, STAFF, START, Brokerage, without_plan

TEN_SHARED = [{"key": "fx", "component": "per_lot", "rate": "10.00", "levels": ["0.6", "0.4"]}]


def simulate(house: Brokerage, plan_id: int, document: object, days: int = 10) -> PlanSimulation:
    made = simulation.start_simulation(house.session, plan_id, document, "off", days, STAFF)
    snapshot = Session(house.session.connection(), join_transaction_mode="rollback_only")
    simulation.compute_simulation(house.session, snapshot, made.id, page=2)
    return house.session.get_one(PlanSimulation, made.id, populate_existing=True)


def numbers(figures: dict[str, str], *names: str) -> tuple[Decimal, ...]:
    return tuple(Decimal(figures[name]) for name in names)


def test_cost_winners_losers_and_margin(house: Brokerage) -> None:
    upper, plan_id = house.ib(), house.ids["plan"]
    lower = house.ib()
    without_plan(house.session, lower)
    house.add(IBParent(ib_id=lower, parent_id=upper, valid_from=START, set_by="test", reason="test"))
    account, at = house.brought(lower), now() - timedelta(days=1)
    quotes = {"market_bid": "1.1", "market_ask": "1.1002", "contract_size": 100_000, "rate_profit": 1, "commission": -3}
    deals = [house.deal(account, "1", done_at=at, symbol=symbol, **quotes) for symbol in ("EURUSD", "GBPUSD", "EURUSD")]
    other = house.deal(house.brought(house.ib()), "1", done_at=at, **quotes)
    house.save()
    accrue_deals(house.session, [*deals, other])
    before = house.session.scalar(select(func.count()).select_from(Accrual))

    made = simulate(house, plan_id, TEN_SHARED)

    assert (made.state, made.result["currency"], made.result["no_spread"]) == ("computed", "USD", 0)
    assert made.result["all"]["deals"] == 3, "the other plan's deal is not looked at"
    assert numbers(made.result["all"], "lots", "earned", "cost", "proposed") == (3, 39, 21, 30)
    assert numbers(made.result["symbols"]["EURUSD"], "earned", "cost", "proposed") == (26, 14, 20)
    assert numbers(made.result["ibs"][str(lower)], "got", "would", "earned") == (21, 18, 39)
    assert numbers(made.result["ibs"][str(upper)], "got", "would", "earned") == (0, 12, 0)
    assert house.session.scalar(select(func.count()).select_from(Accrual)) == before


def test_the_present_rules_cost_what_was_paid(house: Brokerage) -> None:
    account, at = house.brought(house.ib()), now() - timedelta(days=1)
    deals = [house.deal(account, lots, done_at=at) for lots in ("1", "2")]
    house.save()
    accrue_deals(house.session, deals)
    gone = house.revise(deals[0], "1", is_void=True, done_at=at)
    house.save()
    accrue_deals(house.session, [gone])

    made = simulate(house, house.ids["plan"], RULES)

    assert numbers(made.result["all"], "cost", "proposed") == (14, 14)
    assert made.result["no_spread"] == 1


def test_what_cannot_be(house: Brokerage) -> None:
    house.ib()
    with pytest.raises(InvalidPlan):
        simulation.start_simulation(house.session, house.ids["plan"], [], "off", 10, STAFF)
    with pytest.raises(InvalidInput):
        simulation.start_simulation(house.session, house.ids["plan"], RULES, "off", 1000, STAFF)


def test_clients_won_and_months_are_part_of_what_rules_cost(house: Brokerage) -> None:
    won = {"key": "won", "component": "cpa", "rate": "100", "conditions": {"lots": "2", "approved": False}}
    month = {"key": "fixed", "component": "retainer", "rate": "50", "conditions": {"active_clients": 1}}
    upper, plan_id = house.ib([*RULES, won, month]), house.ids["plan"]
    until = now()
    end = until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    days = (until - end).days + 3
    last_day, long_ago = end - timedelta(days=1), end - timedelta(days=90)
    for registered, lots in ((last_day, "2"), (long_ago, "2"), (last_day, "1.99")):
        account = house.brought(upper)
        owner = house.session.get_one(TradingAccount, account).client_id
        house.session.execute(update(Client).where(Client.id == owner).values(created_at=registered))
        house.deal(account, lots, done_at=registered + timedelta(hours=1))
    house.save()
    accrue_deals(house.session, list(house.session.scalars(select(Deal.id))))
    accrue_occasions(house.session, until)

    same = simulate(house, plan_id, [*RULES, won, month], days)
    dearer = simulate(house, plan_id, [*RULES, won | {"rate": "300"}, month | {"rate": "60", "levels": ["0.5"]}], days)

    # Within the days one client was won, and the month before ended; the client of long ago is none of theirs.
    assert numbers(same.result["occasions"], "cost", "proposed") == (150, 150)
    assert numbers(same.result["all"], "cost", "proposed") == (Decimal("177.93"), Decimal("177.93"))
    assert numbers(dearer.result["occasions"], "cost", "proposed") == (150, 330)
    assert numbers(dearer.result["ibs"][str(upper)], "got", "would") == (Decimal("177.93"), Decimal("357.93"))
