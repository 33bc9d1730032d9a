"""The commission desk: the backlog, deals that cannot be priced, and why a deal paid what it paid."""

from __future__ import annotations

import re
from html import unescape

import pytest

from app.commissions.accrual import accrue_server
from app.commissions.explain import REASONS
from app.commissions.reasons import WAITING
from app.models.occasions import OccasionWait
from tests.integration.commissions.brokerage import NOON, Brokerage, build
from tests.integration.views.conftest import LIBRARY_WARNINGS, Office

pytestmark = LIBRARY_WARNINGS

SPREAD = [{"key": "spread", "component": "spread_share", "rate": "30"}]
PRICED = {"market_bid": "1.1", "market_ask": "1.1002", "contract_size": 100_000, "rate_profit": 1}


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
def house(office: Office) -> Brokerage:
    with office.session() as session:
        yield build(session)


def test_a_deal_that_cannot_be_priced_waits_in_sight_and_is_explained(office: Office, house: Brokerage) -> None:
    account = house.brought(house.ib(SPREAD))
    without = house.deal(account)
    house.save()
    browser = office.browser("Partner manager")
    assert re.search(r"Test 1 ", words(browser.get("/commission-desk/").text)), "one deal was not judged yet"

    accrue_server(house.session, house.server_id)

    page = words(browser.get("/commission-desk/?reason=no_spread").text)
    assert REASONS["no_spread"] in page
    assert "EURUSD" in page
    assert "EURUSD" not in words(browser.get("/commission-desk/?reason=no_rate").text)
    assert REASONS["no_spread"] in words(browser.get(f"/commission-desk/deal/{without}").text)
    answer = browser.post("/commission-desk/try-again", {})
    assert "Nothing could be priced yet" in words(answer.text)


def test_every_payout_of_a_deal_is_shown_with_its_steps(office: Office, house: Brokerage) -> None:
    rules = [{"key": "spread", "component": "spread_share", "rate": "30", "levels": ["0.6", "0.4"]}]
    ticket = 770_001
    house.deal(house.brought(house.ib(rules)), "2", ticket=ticket, **PRICED)
    house.save()
    accrue_server(house.session, house.server_id)

    page = words(office.browser("Finance officer").http.get(f"/commission-desk/?ticket={ticket}", follow_redirects=True).text)

    assert f"Commission of deal {ticket}" in page
    assert "Level 1: Ines Broker" in page
    assert "40 USD" in page, "the spread of two lots"
    assert "= Commission 7.2 USD" in page
    assert "waits for the next settlement" in page


def test_an_unknown_number_is_said(office: Office) -> None:
    browser = office.browser("Partner manager")
    assert "No deal has the number 999999999." in words(browser.get("/commission-desk/?ticket=999999999").text)
    assert "whole number" in words(browser.get("/commission-desk/?ticket=x1").text)
    assert browser.get("/commission-desk/deal/999999999").status_code == 404


def test_all_reasons_that_wait_have_words() -> None:
    assert set(REASONS) >= WAITING


def test_a_client_won_who_cannot_be_paid_yet_is_in_sight(office: Office, house: Brokerage) -> None:
    ib_id = house.ib([{"key": "won", "component": "cpa", "rate": "1"}])
    waits = {"plan_id": house.ids["plan"], "ib_id": ib_id, "happened_at": NOON}
    house.add(OccasionWait(kind="client", client_id=house.client("Zoë", "Won"), rule="won", reason="no_rate", **waits))
    house.add(OccasionWait(kind="month", month="2026-06", rule="fixed", reason="beyond_limits", **waits))
    house.save()

    page = words(office.browser("Partner manager").get("/commission-desk/").text)

    assert "Zoë Won Ines Broker" in page
    assert "There is no exchange rate for the day of the first deposit." in page
    assert "the month 2026-06" in page
    assert "The amount is larger than any real commission." in page
