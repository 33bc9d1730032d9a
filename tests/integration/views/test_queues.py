"""Document review and the withdrawal queue, as the people at the desks use them."""

from __future__ import annotations

import re

import pytest

from app.models.compliance import Document
from app.models.payments import Withdrawal
from app.views.home import QUEUES
from tests.integration.views.conftest import LIBRARY_WARNINGS

pytestmark = LIBRARY_WARNINGS

REVIEWER, SECOND_REVIEWER, OFFICER, SECOND = "KYC reviewer", "Second reviewer", "Payments officer", "Second officer"


def test_a_document_is_approved_once_and_the_second_reviewer_is_told_by_whom(office):
    number = office.document()
    first, second = office.browser(REVIEWER), office.browser(SECOND_REVIEWER)
    assert f'href="/documents/{number}"' in first.get("/documents/").text
    page = first.get(f"/documents/{number}").text
    assert "Amira Haddad" in page
    assert "Approve document" in page
    late = second.token(f"/documents/{number}")
    assert "Approved." in first.post(f"/documents/{number}/approve", page=f"/documents/{number}").text
    assert office.row(Document, number).status == "approved"
    answer = second.http.post(
        f"/documents/{number}/reject", data={"csrf_token": late, "reason": "blurred"}, follow_redirects=True
    )
    assert "KYC reviewer approved this document before you" in answer.text
    assert office.row(Document, number).status == "approved"
    decided = second.get(f"/documents/{number}").text
    assert "Approve document" not in decided
    assert "KYC reviewer" in decided


def test_rejecting_needs_a_reason_and_keeps_what_was_typed(office):
    number, browser = office.document("address"), office.browser(REVIEWER)
    path = f"/documents/{number}"
    for reason in ("", "   ", "long " * 400):
        page = browser.post(f"{path}/reject", {"reason": reason}, page=path)
        assert "Please give the reason in a sentence" in page.text
        assert office.row(Document, number).status == "pending"
    assert "long long" in page.text
    browser.post(f"{path}/reject", {"reason": "The address cannot be read."}, page=path)
    kept = office.row(Document, number)
    assert (kept.status, kept.reason) == ("rejected", "The address cannot be read.")
    assert office.audited("document.rejected")[-1].reason == "The address cannot be read."
    assert "The address cannot be read." in browser.get("/documents/").text


def test_the_file_itself_needs_the_right_is_audited_and_sandboxed(office):
    number = office.document()
    looks = len(office.audited("document.viewed"))
    assert office.browser(OFFICER).get(f"/documents/{number}/content").status_code in (302, 403)
    assert office.app.test_client().get(f"/documents/{number}/content").status_code == 302
    assert len(office.audited("document.viewed")) == looks
    answer = office.browser(REVIEWER).get(f"/documents/{number}/content")
    assert answer.status_code == 200
    assert answer.mimetype == "image/jpeg"
    assert answer.data.startswith(b"\xff\xd8")
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert office.audited("document.viewed")[-1].target == f"document:{number}"


def test_a_withdrawal_is_approved_once_and_the_second_officer_is_told(office):
    number, first, second = office.withdrawal(), office.browser(OFFICER), office.browser(SECOND)
    path = f"/withdrawals/{number}"
    assert "50.00 USD" in first.get(path).text
    late = second.token(path)
    assert "Approved:" in first.post(f"{path}/approve", page=path).text
    row = office.row(Withdrawal, number)
    assert row.state == "approved"
    answer = second.http.post(f"{path}/reject", data={"csrf_token": late, "reason": "late"}, follow_redirects=True)
    assert "already decided" in answer.text
    assert office.row(Withdrawal, number).state == "approved"
    assert "Payments officer" in answer.text
    assert row.approved_by not in answer.text
    assert f'action="{path}/approve"' not in answer.text


def test_refusing_a_withdrawal_needs_a_reason_and_frees_the_money(office):
    number, browser = office.withdrawal(), office.browser(OFFICER)
    path = f"/withdrawals/{number}"
    page = browser.post(f"{path}/reject", {"reason": " "}, page=path)
    assert "Please write a reason" in page.text
    assert office.row(Withdrawal, number).state == "requested"
    browser.post(f"{path}/reject", {"reason": "Card of somebody else"}, page=path)
    row = office.row(Withdrawal, number)
    assert (row.state, row.reason) == ("rejected", "Card of somebody else")
    assert "Card of somebody else" in browser.get(path).text


def test_who_may_only_look_sees_no_buttons_and_decides_nothing(office):
    number, compliance = office.withdrawal(), office.browser("Compliance officer")
    page = compliance.get(f"/withdrawals/{number}").text
    assert "/approve" not in page
    assert "/reject" not in page
    assert ">Decide<" not in compliance.get("/withdrawals/").text
    assert ">Decide<" in office.browser(OFFICER).get("/withdrawals/").text
    compliance.post(f"/withdrawals/{number}/approve", page=f"/documents/{office.document()}")
    assert office.row(Withdrawal, number).state == "requested"


def test_a_statement_needs_its_right_and_a_month(office):
    path = f"/statements/{office.client_id}.pdf"
    assert office.browser(OFFICER).get(path).status_code in (302, 403)
    compliance = office.browser("Compliance officer")
    for month in ("2026-13", "november", "2026-11-01", "99999-01"):
        answer = compliance.get(f"{path}?month={month}")
        assert answer.status_code == 422
        assert "Please give a month such as 2026-11." in answer.text
    answer = compliance.get(f"{path}?month=2026-01")
    assert answer.data.startswith(b"%PDF")
    assert office.audited("statement.view")[-1].after == {"from": "2026-01-01", "to": "2026-01-31"}


@pytest.mark.parametrize(
    "path",
    [
        "/documents/999999",
        "/documents/999999/content",
        "/withdrawals/999999",
        "/withdrawals/99999999999999999999",
        "/clientview/show/999999",
        "/clientview/show/99999999999999999999",
        "/clientview/show/²",
        "/clientview/show/nobody",
        "/statements/999999.pdf",
        "/depositview/show/999999",
        "/auditview/show/x",
        "/productview/edit/999999",
        "/nothing/here",
    ],
)
def test_what_does_not_exist_is_said_in_our_look(office, path):
    answer = office.browser("Admin").get(path)
    assert answer.status_code == 404
    assert "We could not find this" in answer.text
    assert 'class="rail"' in answer.text
    assert "Traceback" not in answer.text


def test_a_fault_of_ours_is_a_page_with_a_reference(office, monkeypatch):
    def fail(*_args):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("app.views.payments.queries.balance", fail)
    answer = office.browser(OFFICER).get(f"/withdrawals/{office.withdrawal()}")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "Reference for support" in answer.text


def test_the_client_page_is_audited_and_says_what_happened_in_words(office):
    office.withdrawal()
    page = office.browser("Compliance officer").get(f"/clientview/show/{office.client_id}").text
    assert "Withdrawal of" in page
    assert "withdrawal.requested" not in page
    assert office.audited("client.view")[-1].target == f"client:{office.client_id}"


def test_people_are_named_in_the_audit_trail(office):
    page = office.browser("Compliance officer").get("/auditview/list/").text
    assert "Compliance officer" in page
    assert "staff:" not in page


def test_every_queue_has_a_name_and_a_page_on_the_first_page(office):
    page = office.browser("Admin").get("/").text
    cards = re.findall(r'<a class="key-figure card" href="([^"]+)">\s*<span class="key-figure-label">([^<]+)</span>', page)
    assert len(cards) == len(QUEUES)
