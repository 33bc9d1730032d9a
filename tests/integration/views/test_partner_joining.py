"""The queue of applications, the agreement and the policy in the back office."""

from __future__ import annotations

import re
from html import unescape

from app.core.actor import Actor
from app.core.clock import now
from app.models.clients import Client
from app.partners import agreements, joining
from app.partners.links import ib_by_client
from app.partners.policy import policy_at
from tests.integration.views.conftest import LIBRARY_WARNINGS, Office

pytestmark = LIBRARY_WARNINGS


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def applied(office: Office, session) -> tuple[int, int]:
    client = Client(
        email=f"applicant{office.number()}@example.com", password_hash="x", first_name="Omar", last_name="Applicant",
        country="AE", terms_version="1", terms_accepted_at=now(), status="approved",
    )  # fmt: skip
    session.add(client)
    session.flush()
    agreement = agreements.current_agreement(session)
    asked = joining.join(
        session,
        client.id,
        currency="USD",
        words="My <courses>",
        agreed_id=agreement.id if agreement else None,
        actor=Actor.client(client.id),
    )
    return client.id, asked.application_id


def test_an_application_is_read_and_approved(office: Office) -> None:
    with office.session() as session:
        client_id, application_id = applied(office, session)
        browser = office.browser("Partner manager")
        assert "Omar Applicant" in words(browser.get("/ib-applications/").text)
        assert "My &lt;courses&gt;" in browser.get(f"/ib-applications/{application_id}").text
        answer = browser.post(f"/ib-applications/{application_id}/approve", {})
        assert "introducing broker now" in words(answer.text)
        session.expire_all()
        assert ib_by_client(session, client_id) is not None
        again = browser.post(f"/ib-applications/{application_id}/approve", {})
        assert "has been decided meanwhile" in words(again.text)


def test_a_rejection_needs_a_reason(office: Office) -> None:
    with office.session() as session:
        client_id, application_id = applied(office, session)
        browser = office.browser("Partner manager")
        assert browser.post(f"/ib-applications/{application_id}/reject", {"reason": ""}).status_code == 422
        assert "Rejected" in words(browser.post(f"/ib-applications/{application_id}/reject", {"reason": "no website"}).text)
        assert ib_by_client(session, client_id) is None


def test_the_agreement_is_published_once_per_version(office: Office) -> None:
    browser, version = office.browser("Partner manager"), f"v{office.number()}"
    form = {"version": version, "en": "Be honest.", "ar": "كن صادقا."}
    assert "Published" in words(browser.post("/partner-agreements/", form).text)
    assert "was published before" in words(browser.post("/partner-agreements/", form).text)


def test_a_version_asks_present_ibs_and_the_page_tells_who_has_accepted(office: Office) -> None:
    browser, version = office.browser("Partner manager"), f"v{office.number()}"
    with office.session() as session:
        client_id, application_id = applied(office, session)
        ib_id = joining.approve_application(session, application_id, actor=Actor.staff(1))
        session.commit()
        form = {"version": version, "en": "Be very honest.", "accept_by": "2020-01-01"}
        assert "Choose a day from today" in words(browser.post("/partner-agreements/", form).text)
        form |= {"accept_by": str(now().date()), "holds_payouts": "y"}
        page = words(browser.post("/partner-agreements/", form).text)
        assert "Payouts are held until it is accepted." in page
        assert "Remind …" not in page, "they were asked just now"
        row = agreements.current_agreement(session)
        address = f"/partner-agreements/{row.id}"
        assert f"#{ib_id} Not yet" in page
        agreements.accept_agreement(session, client_id, agreed_id=row.id, actor=Actor.client(client_id, "10.7.7.7"))
        session.commit()
    assert f"#{ib_id} Accepted {version}" in words(browser.get(f"{address}?state=accepted").text)
    assert f"#{ib_id} " not in words(browser.get(f"{address}?state=missing").text)
    assert "10.7.7.7" in browser.get(f"{address}?export=csv").text
    assert "within the last 24 hours" in words(browser.post(f"{address}/remind", {}).text)
    assert browser.get("/partner-agreements/987654").status_code == 404


def test_the_policy_is_changed_with_a_reason(office: Office) -> None:
    browser = office.browser("Partner manager")
    form = {"touch": "first", "window_days": "60", "join_mode": "invited", "reason": ""}
    assert browser.post("/partner-policy/edit", form).status_code == 422
    answer = browser.post("/partner-policy/edit", form | {"reason": "campaign"})
    assert "The first visit through a link" in words(answer.text)
    with office.session() as session:
        found = policy_at(session)
        assert (found.touch, found.window_days, found.join_mode) == ("first", 60, "invited")
    browser.post("/partner-policy/edit", form | {"touch": "last", "join_mode": "application", "reason": "back"})
