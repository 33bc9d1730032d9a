"""The network of IBs in the back office."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

from app.commissions import publishing
from app.core.actor import Actor
from app.core.clock import now
from app.models.clients import Client
from app.partners.links import make_ib
from app.partners.tree import move_client, place_ib
from tests.integration.views.conftest import LIBRARY_WARNINGS, Office

pytestmark = LIBRARY_WARNINGS

STAFF = Actor.system("test")


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def client(office: Office, session, name: str) -> int:
    row = Client(
        email=f"network{office.number()}@example.com",
        password_hash="x",
        first_name=name,
        last_name="Network",
        country="CY",
        terms_version="1",
        terms_accepted_at=now(),
    )
    session.add(row)
    session.commit()
    return row.id


def test_a_branch_is_shown_in_order_with_its_clients_and_its_upline(office: Office) -> None:
    with office.session() as session:
        top, low, side, lowest = (
            make_ib(session, client(office, session, name), "USD", STAFF).id for name in ("Topaz", "Lowen", "Sidra", "Zoltan")
        )
        at = now() - timedelta(minutes=1)
        for ib_id, parent_id in ((low, top), (side, top), (lowest, low)):
            place_ib(session, ib_id, parent_id, at, "joined", STAFF)
        move_client(session, client(office, session, "Amira"), low, at, "asked for it", STAFF)
    browser = office.browser("Partner manager")

    tops = words(browser.get("/ib-network/").text)
    page = words(browser.get(f"/ib-network/{top}").text)
    below = words(browser.get(f"/ib-network/{lowest}").text)

    assert "Topaz Network 2 0" in tops
    assert "Lowen" not in tops
    assert re.search(r"└ Lowen N\. 1 1 .*│ └ Zoltan N\. 2 0 .*└ Sidra N\. 1 0", page)
    assert "Stands under nobody." in page
    assert "Stands under Topaz Network › Lowen Network" in below
    assert "Nobody stands below" in below


def test_a_client_s_page_says_whose_it_was_and_why(office: Office) -> None:
    with office.session() as session:
        first, second = (make_ib(session, client(office, session, name), "USD", STAFF).id for name in ("Farid", "Selma"))
        number = client(office, session, "Amira")
        move_client(session, number, first, now() - timedelta(days=1), "came by phone", STAFF)
        move_client(session, number, second, now() - timedelta(hours=1), "asked for another one", STAFF)

    page = words(office.browser("Partner manager").get(f"/clientview/show/{number}").text)

    assert "Introduced by Selma Network" in page
    assert re.search(
        r"Selma Network .* — by hand — System: test asked for another one"
        r" .*Farid Network .* by hand — System: test came by phone",
        page,
    )


def test_the_network_is_for_those_who_may(office: Office) -> None:
    assert office.browser("Partner manager").get("/ib-network/987654").status_code == 404
    assert office.browser("KYC reviewer").get("/ib-network/").status_code == 403


def test_an_ib_s_page_shows_where_it_stands_in_its_tiers(office: Office) -> None:
    bands = [{"from": "0", "rate": "5"}, {"from": "100", "rate": "6.50"}]
    rule = {"key": "fx", "component": "per_lot", "tiers": {"mode": "marginal", "bands": bands}, "caps": {"day": "750"}}
    with office.session() as session:
        top, low = (make_ib(session, client(office, session, name), "USD", STAFF).id for name in ("Tiara", "Lower"))
        since = now() - timedelta(days=1)
        place_ib(session, low, top, since, "joined", STAFF)
        plan_id = publishing.create_plan(session, f"Tiers {office.number()}", "USD", STAFF)
        publishing.publish_version(session, plan_id, [rule], since, STAFF)
        publishing.assign_plan(session, top, plan_id, since, STAFF)
    browser = office.browser("Partner manager")

    page = words(browser.get(f"/ib-network/{low}").text)
    above = words(browser.get(f"/ib-network/{top}").text)

    assert "fx Lots of the branch" in page
    assert "5 USD 6.5 USD, from 100 100 this day 0 / 750 USD" in page
    assert "paid by the plan of an IB above it" in page
    assert "paid by the plan of an IB above it" not in above
