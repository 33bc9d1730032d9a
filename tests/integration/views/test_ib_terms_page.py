"""Personal terms in the back office: proposed by one person, decided by another one."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.commissions import agreements, publishing
from app.commissions.terms import PersonalTerms
from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.ib_terms import IBTerms, IBTermsProposal
from app.partners import links
from tests.integration.commissions.brokerage import START
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office
from tests.integration.views.test_plans import words

pytestmark = LIBRARY_WARNINGS

STAFF = Actor.staff(1)
RULES = [{"key": "fx", "component": "per_lot", "rate": "7.00"}, {"key": "part", "component": "commission_share", "rate": "20"}]


def make_ib(office: Office, rules: list[dict[str, object]] | None = None) -> tuple[int, int]:
    """An IB that is paid by a plan of its own; the plan's id."""
    with office.session() as session:
        with unit_of_work(session, STAFF):
            client = Client(
                email=f"ib{office.number()}@example.com",
                password_hash="x",
                first_name="Ines",
                last_name=f"Broker{office.number()}",
                country="CY",
                terms_version="1",
                terms_accepted_at=START,
            )
            session.add(client)
            session.flush()
        ib_id = links.make_ib(session, client.id, "USD", STAFF).id
        plan_id = publishing.create_plan(session, f"Terms {office.number()}", "USD", STAFF)
        publishing.publish_version(session, plan_id, rules or RULES, START, STAFF)
        publishing.assign_plan(session, ib_id, plan_id, START, STAFF)
        return ib_id, plan_id


@pytest.fixture
def manager(office: Office) -> Browser:
    return office.browser("Partner manager")


@pytest.fixture
def finance(office: Office) -> Browser:
    return office.browser("Finance officer")


def typed(plan_id: int, **more: str) -> dict[str, str]:
    return {"multiplier": "1.2", f"rate-{plan_id}-fx": "9.50", "hand_on_percent": "", "reason": "Agreed by mail", **more}


def last_proposal(office: Office, ib_id: int) -> int:
    with office.session() as session:
        query = select(IBTermsProposal.id).where(IBTermsProposal.ib_id == ib_id).order_by(IBTermsProposal.id.desc())
        return session.scalars(query.limit(1)).one()


def test_terms_hold_once_somebody_else_has_approved(office: Office, manager: Browser, finance: Browser) -> None:
    ib_id, plan_id = make_ib(office)
    page = words(manager.get(f"/ib-terms/{ib_id}").text)
    assert "Paid by the plan alone" in page
    assert "The plan's rate: 7." in page

    answer = manager.post(f"/ib-terms/{ib_id}", typed(plan_id))
    assert answer.status_code == 200
    proposal_id = last_proposal(office, ib_id)
    address = f"/ib-terms/proposals/{proposal_id}"
    assert "You proposed these terms" in words(answer.text)
    assert "You proposed this yourself" in manager.post(f"{address}/approve", {}).text
    assert "Ines" in words(finance.get("/ib-terms/").text)
    finance.post(f"{address}/approve", {})

    proposal = office.row(IBTermsProposal, proposal_id)
    terms = office.row(IBTerms, proposal.terms_id)
    assert (terms.multiplier, terms.rates, terms.hand_on_percent) == (Decimal("1.2"), {str(plan_id): {"fx": "9.50"}}, None)
    assert "multiplier × 1.2" in words(manager.get(f"/ib-terms/{ib_id}").text)
    assert f'name="rate-{plan_id}-fx" value="9.50"' in manager.get(f"/ib-terms/{ib_id}").text
    assert "1.2" in finance.get("/ib-terms/?export=csv").text
    assert office.audited("ib_terms.approve")[-1].target == f"ib_terms_proposal:{proposal_id}"


def test_terms_that_would_replace_others_than_those_shown_wait(office: Office, manager: Browser, finance: Browser) -> None:
    ib_id, plan_id = make_ib(office)
    manager.post(f"/ib-terms/{ib_id}", typed(plan_id))
    address = f"/ib-terms/proposals/{last_proposal(office, ib_id)}"
    seen = replaced_on(finance, address)
    with office.session() as session, unit_of_work(session, STAFF) as unit:
        agreements.begin_terms(unit, ib_id, PersonalTerms(Decimal("1.1")), now() - timedelta(minutes=1), "given meanwhile")

    refused = finance.post(f"{address}/approve", {"replaces": seen})
    assert "has changed since you opened the page" in words(refused.text)
    assert office.row(IBTermsProposal, last_proposal(office, ib_id)).status == "proposed"
    finance.post(f"{address}/approve", {"replaces": replaced_on(finance, address)})
    assert office.row(IBTermsProposal, last_proposal(office, ib_id)).status == "approved"


def replaced_on(browser: Browser, address: str) -> str:
    """What the page of a proposal shows as replaced by it, as its form says."""
    found = re.search(r'name="replaces" value="(\d+)"', browser.get(address).text)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("multiplier", "much", "Please give a number such as 1.2."),
        ("multiplier", "11", "A multiplier is between 0.01 and 10"),
        ("hand_on_percent", "101", "A percentage above 0 and at most 100"),
        ("rate", "1000000000", "Please give a number such as 7.50."),
        ("rate", "100001", "A rate is above 0 and at most 100,000"),
        ("rate", "-1", "Please give a number such as 7.50."),
        ("reason", " ", "Please give a reason."),
        ("valid_from", "yesterday", "Please give a day and a time"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_stays_typed(
    office: Office, manager: Browser, field: str, value: str, sentence: str
) -> None:
    ib_id, plan_id = make_ib(office)
    name = f"rate-{plan_id}-fx" if field == "rate" else field

    answer = manager.post(f"/ib-terms/{ib_id}", typed(plan_id, **{name: value}))

    assert answer.status_code == 422
    assert sentence in words(answer.text)
    assert "Agreed by mail" in answer.text or field == "reason"
    with office.session() as session:
        assert session.scalars(select(IBTermsProposal).where(IBTermsProposal.ib_id == ib_id)).all() == []


def test_a_proposal_is_rejected_with_a_reason_or_withdrawn(office: Office, manager: Browser, finance: Browser) -> None:
    ib_id, plan_id = make_ib(office)
    manager.post(f"/ib-terms/{ib_id}", typed(plan_id))
    first = last_proposal(office, ib_id)
    assert "wait for a decision" in words(manager.get(f"/ib-terms/{ib_id}").text)

    finance.post(f"/ib-terms/proposals/{first}/reject", {"reason": " "})
    assert office.row(IBTermsProposal, first).status == "proposed"
    finance.post(f"/ib-terms/proposals/{first}/reject", {"reason": "Too generous"})
    manager.post(f"/ib-terms/{ib_id}", typed(plan_id))
    second = last_proposal(office, ib_id)
    manager.post(f"/ib-terms/proposals/{second}/withdraw", {})

    assert "Too generous" in manager.get(f"/ib-terms/proposals/{first}").text
    assert [office.row(IBTermsProposal, number).status for number in (first, second)] == ["rejected", "withdrawn"]


def test_who_may_only_decide_has_no_form(office: Office, finance: Browser) -> None:
    ib_id, plan_id = make_ib(office)

    assert "Propose terms" not in finance.get(f"/ib-terms/{ib_id}").text
    assert finance.bare_post(f"/ib-terms/{ib_id}", typed(plan_id)).status_code in (400, 403)
    assert office.browser("KYC reviewer").get("/ib-terms/").status_code == 403
    assert finance.get("/ib-terms/999999").status_code == 404
    assert finance.get("/ib-terms/proposals/999999").status_code == 404
