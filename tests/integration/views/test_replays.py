"""Replays and simulations in the back office: asked for, computed by the job, looked at, proposed, decided, posted."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions import replay, replay_posting, simulation
from app.commissions.accrual import accrue_deals
from app.core.clock import now
from app.models.commissions import Accrual, PlanVersion
from app.models.replays import PlanSimulation, ReplayRun
from tests.conftest import tamper
from tests.integration.commissions.brokerage import Brokerage, build
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office
from tests.integration.views.test_plans import words

pytestmark = LIBRARY_WARNINGS
WHEN = "%Y-%m-%dT%H:%M"


@pytest.fixture(scope="module")
def manager(office: Office) -> Browser:
    return office.browser("Partner manager")


@pytest.fixture(scope="module")
def finance(office: Office) -> Browser:
    return office.browser("Finance officer")


@pytest.fixture
def traded(office: Office) -> Brokerage:
    """An IB whose client did two deals yesterday, accrued by 7.00 a lot; a version of 9.00 begins in a month."""
    with office.session() as session:
        house = build(session)
        house.ids["ib"] = house.ib()
        account = house.brought(house.ids["ib"])
        quotes = {"market_bid": "1.1", "market_ask": "1.1002", "contract_size": 100_000, "rate_profit": 1}
        deals = [house.deal(account, lots, done_at=now() - timedelta(days=1), **quotes) for lots in ("1", "2")]
        rules = [{"key": "fx", "component": "per_lot", "rate": "9"}]
        later = now() + timedelta(days=30)
        version = PlanVersion(plan_id=house.ids["plan"], version=2, valid_from=later, rules=rules)
        house.ids["version"] = house.add(version)
        house.save()
        accrue_deals(session, deals)
    return house


def asked(house: Brokerage, **more: object) -> dict[str, object]:
    at = now()
    return {
        "since": (at - timedelta(days=2)).strftime(WHEN),
        "until": at.strftime(WHEN),
        "plan": house.ids["plan"],
        "version": house.ids["version"],
        "version_since": (at - timedelta(days=40)).strftime(WHEN),
        "reason": "The new rate was agreed in time",
        **more,
    }


def computed(office: Office) -> int:
    """What the job does, with its two sessions."""
    with office.session() as session:
        run_id = session.scalar(select(func.max(ReplayRun.id))) or 0
        session.rollback()
        engine = session.get_bind().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with Session(engine) as snapshot:
            replay.compute_replay(session, snapshot, run_id, page=1)
    return run_id


def test_from_the_form_to_the_posting(office: Office, manager: Browser, finance: Browser, traded: Brokerage) -> None:
    page = words(manager.post("/replays/new", asked(traded)).text)
    assert "The period is being recomputed" in page
    run_id = computed(office)
    assert manager.get(f"/replays/{run_id}/state").headers["HX-Refresh"] == "true"

    page = words(manager.get(f"/replays/{run_id}").text)
    assert "Version 2 of" in page
    assert "To be added, USD 6.00 21.00 stored, 27.00 recomputed" in page
    for side in ("client", "rule"):
        assert "Difference" in words(manager.get(f"/replays/{run_id}?by={side}").text)
    lines = manager.get(f"/replays/{run_id}/lines?ib={traded.ids['ib']}").text
    assert "18" in words(lines)
    file = manager.get(f"/replays/{run_id}/lines?export=csv").text
    assert len(file.strip().splitlines()) == 1 + 4
    with office.session() as session:
        found = session.scalars(select(replay.ReplayLine.id).where(replay.ReplayLine.recomputed == 18)).all()
    why = words(manager.get(f"/replays/{run_id}/lines/{found[-1]}").text)
    assert "Lots closed 2 × Rate per lot 9 USD = Commission 18 USD" in why

    manager.post(f"/replays/{run_id}/propose")
    assert "You proposed this" in words(manager.get(f"/replays/{run_id}").text)
    assert "Approve …" in words(finance.get(f"/replays/{run_id}").text)
    assert "being posted" in words(finance.post(f"/replays/{run_id}/approve").text)
    with office.session() as session:
        assert replay_posting.post_replay(session, run_id) == 4
        kept = select(func.sum(Accrual.amount)).where(Accrual.ib_id == traded.ids["ib"])
        assert session.scalar(kept) == 27
    assert "Posted" in words(finance.get(f"/replays/{run_id}").text)


def test_half_a_line_and_what_cannot_be_are_refused_beside_the_field(manager: Browser, traded: Brokerage) -> None:
    page = words(manager.post("/replays/new", asked(traded, version_since="", client="999999999", reason="")).text)
    assert "Fill in this whole line, or leave all of it empty." in page
    page = words(manager.post("/replays/new", asked(traded, until="2020-01-01T00:00", since="2021-01-01T00:00")).text)
    assert "The end must lie after the beginning." in page


def test_a_stale_run_is_computed_again(office: Office, manager: Browser, finance: Browser, traded: Brokerage) -> None:
    manager.post("/replays/new", asked(traded))
    run_id = computed(office)
    manager.post(f"/replays/{run_id}/propose")
    finance.post(f"/replays/{run_id}/approve")
    with office.session() as session:
        line = session.scalars(select(replay.ReplayLine).where(replay.ReplayLine.run_id == run_id)).first()
        tamper(session, f"UPDATE replay_line SET accruals = 7 WHERE id = {line.id}")
        session.commit()
        replay_posting.post_replay(session, run_id)
    assert "Nothing was posted. Recompute it" in words(manager.get(f"/replays/{run_id}").text)
    assert "is being recomputed" in words(manager.post(f"/replays/{run_id}/again").text)


def test_a_simulation(office: Office, manager: Browser, traded: Brokerage) -> None:
    address = f"/plan-simulations/plan/{traded.ids['plan']}"
    assert "per_lot" in manager.get(f"{address}?version={traded.ids['version']}").text
    won = {"key": "won", "component": "cpa", "rate": "5", "conditions": {"approved": False}}
    rules = json.dumps([{"key": "fx", "component": "per_lot", "rate": "9"}, won])
    assert "The rules run over" in words(manager.post(address, {"rules": rules, "margin_guard": "off", "days": "30"}).text)
    with office.session() as session:
        found = session.scalar(select(func.max(PlanSimulation.id))) or 0
        session.rollback()
        engine = session.get_bind().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with Session(engine) as snapshot:
            simulation.compute_simulation(session, snapshot, found)
    page = words(manager.get(f"/plan-simulations/{found}").text)
    assert "Cost now 21.00 USD" in page
    assert "Proposed 32.00 USD" in page
    by_symbol = words(manager.get(f"/plan-simulations/{found}?by=symbol").text)
    assert "EURUSD" in by_symbol
    assert "Clients won and months 0 0 0.00 5.00 +5.00" in by_symbol
    assert "21.00 32.00" in words(manager.get(address).text)
    file = manager.get(f"/plan-simulations/{found}?export=csv&by=ib").text
    assert len(file.strip().splitlines()) == 2
    assert Decimal(file.strip().splitlines()[1].split(",")[-1])
    assert "Rules" in words(manager.post(address, {"rules": "[{", "margin_guard": "off", "days": "30"}).text)
