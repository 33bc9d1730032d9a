"""Questions in the back office: found, taken over, answered, closed; each beside the line as it stands now."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest

from app.commissions import explain, frozen_explanations, publishing
from app.commissions.accrual import accrue_deals
from app.core.actor import Actor
from app.core.clock import now
from app.engagement import tickets
from app.models.clients import Client
from app.models.engagement import Ticket
from app.partners.links import make_ib
from app.partners.tree import move_client
from tests.integration.commissions.brokerage import build
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office

pytestmark = LIBRARY_WARNINGS

STAFF = Actor.system("test")


@pytest.fixture(scope="module")
def manager(office: Office) -> Browser:
    return office.browser("Partner manager")


@pytest.fixture(scope="module")
def finance(office: Office) -> Browser:
    return office.browser("Finance officer")


def client(session, office: Office) -> int:
    number = office.number()
    row = Client(
        email=f"ask{number}@example.com",
        password_hash="x",
        first_name="<i>Asker</i>",
        last_name=f"Number{number}",
        country="CY",
        terms_version="1",
        terms_accepted_at=now(),
    )
    session.add(row)
    session.commit()
    return row.id


@pytest.fixture
def general(office: Office) -> int:
    with office.session() as session:
        who = client(session, office)
        asked = tickets.open_ticket(
            session, client_id=who, subject="<b>Payout</b> day", text="When <u>is</u> it?", actor=Actor.client(who)
        )
        return asked.id


@pytest.fixture
def about_a_line(office: Office) -> int:
    """A question of an IB about 7 dollars."""
    with office.session() as session:
        who, start = client(session, office), now() - timedelta(days=30)
        ib_id = make_ib(session, who, "USD", STAFF).id
        plan_id = publishing.create_plan(session, f"Asked {ib_id}", "USD", STAFF)
        rules = [{"key": "fx", "component": "per_lot", "rate": "7"}]
        publishing.publish_version(session, plan_id, rules, start, STAFF)
        publishing.assign_plan(session, ib_id, plan_id, start, STAFF)
        house, trader = build(session), client(session, office)
        move_client(session, trader, ib_id, start, "asked for it", STAFF)
        deal = house.deal(house.account(trader), "1", done_at=now() - timedelta(days=1))
        house.save()
        accrue_deals(session, [deal])
        session.commit()
        (line,) = explain.explain_deal(session, deal).lines
        frozen = frozen_explanations.freeze(explain.explain_accrual(session, line.id, ib_id))
        asked = tickets.open_ticket(
            session,
            client_id=who,
            subject="Deal",
            text="Why 7?",
            accrual_id=line.id,
            about=frozen,
            actor=Actor.client(who),
        )
        return asked.id


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_answered_and_closed(office: Office, manager: Browser, general: int) -> None:
    address = f"/tickets/{general}"
    page = manager.get(address).text
    assert "When &lt;u&gt;is&lt;/u&gt; it?" in page
    assert "&lt;b&gt;Payout&lt;/b&gt; day" in page
    assert "<i>Asker" not in page
    assert "It is yours now." in manager.post(f"{address}/assign", {}).text
    assert "Assign to me" not in manager.get(address).text
    refused = manager.post(f"{address}/answer", {"text": " "})
    assert refused.status_code == 422
    assert "Please write your message." in refused.text
    assert "Answered. The client gets a mail." in manager.post(f"{address}/answer", {"text": "On Friday"}).text
    assert office.row(Ticket, general).state == "waiting_for_client"
    refused = manager.post(f"{address}/close", {"reason": ""})
    assert "Please give a reason." in refused.text
    assert "Closed. The client can open it again" in manager.post(f"{address}/close", {"reason": "Told"}).text
    assert office.row(Ticket, general).close_reason == "Told"
    late = manager.post(f"{address}/answer", {"text": "One more"})
    assert late.status_code == 409
    assert "closed already" in late.text
    assert office.audited("ticket.close")[-1].reason == "Told"


def test_a_line_stands_as_it_was_asked_about_and_as_it_is_now(office: Office, manager: Browser, about_a_line: int) -> None:
    page = manager.get(f"/tickets/{about_a_line}").text
    said = words(page)
    assert "The line as it stood when asked" in said
    assert "Rate per lot 7 USD" in said
    assert "The line asked about" in said
    assert "/commission-desk/deal/" in page


def test_found_by_state_kind_and_client(office: Office, manager: Browser, general: int, about_a_line: int) -> None:
    who = office.row(Ticket, general).client_id
    mine = f'href="/tickets/{general}"'
    for query, there in (
        ("", True),
        (f"q={who}", True),
        ("q=nobody", False),
        ("kind=general", True),
        ("kind=commission_line", False),
        ("state=closed", False),
        (f"state=open&kind=general&q={who}", True),
    ):
        assert (mine in manager.get(f"/tickets/?{query}").text) == there, query
    assert manager.get("/tickets/?state=lost&kind=x").status_code == 422
    file = manager.get(f"/tickets/?export=csv&q={who}")
    assert file.mimetype == "text/csv"
    assert "<b>Payout</b> day" in file.text
    assert len(file.text.strip().splitlines()) == 2
    start = manager.get("/").text
    assert "Questions to answer" in start


def test_finance_reads_and_does_not_answer(office: Office, finance: Browser, general: int) -> None:
    page = finance.get(f"/tickets/{general}").text
    assert "Send the answer" not in page
    finance.post(f"/tickets/{general}/answer", {"text": "Mine"})
    assert office.row(Ticket, general).state == "open"


def test_what_does_not_exist_is_not_found(manager: Browser) -> None:
    assert manager.get("/tickets/987654").status_code == 404
    for act in ("answer", "assign", "close"):
        assert manager.post(f"/tickets/987654/{act}", {"text": "x", "reason": "x"}).status_code == 404
