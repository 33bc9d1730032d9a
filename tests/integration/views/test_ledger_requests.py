"""Requests at the money desk, by real requests: forms that keep what was typed, evidence, four eyes, refusals."""

from __future__ import annotations

import csv
import io
import re
import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting
from app.models.controls import LedgerRequest
from app.models.ledger import Account, PeriodClose, Transaction
from app.models.payments import Deposit
from tests.integration.views.conftest import LIBRARY_WARNINGS, PASSWORD, Browser, Office
from tests.unit.compliance import proofs

pytestmark = LIBRARY_WARNINGS

LIST, ADJUSTMENT, REVERSAL, CLOSE = (f"/ledger/requests/{page}" for page in ("", "adjustment", "reversal", "period-close"))
FIRST, SECOND, READER, STRANGER = "Finance officer", "Second finance", "Compliance officer", "Payments officer"
BANK, FEES = "bank:test:client_money:USD", "income:fees:USD"


@pytest.fixture(scope="module", autouse=True)
def second_officer(office: Office) -> None:
    with office.app.app_context():
        manager = office.app.appbuilder.sm
        if manager.find_user("second-finance") is None:
            role = manager.find_role("Finance officer")
            assert manager.add_user("second-finance", "Second", "Finance", "second-finance@example.com", role, PASSWORD)
        manager.session.remove()
    with office.session() as session, unit_of_work(session, posting_actor()):
        chart.open_accounts(session, chart.fees("USD"), chart.bank_client_money("test", "USD"))


def posting_actor():
    from app.core.actor import Actor

    return Actor.system("test")


def hidden(page: str, name: str) -> str:
    found = re.search(rf'<input[^>]*name="{name}"[^>]*value="([^"]*)"', page)
    return found.group(1) if found else ""


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M}"


#: Files are pairs of content and name, made anew for each request.
PICTURE, NO_FILE = (proofs.picture("PNG"), "bank confirmation.png"), (b"", "")


def filled(*legs: tuple[str, str, str], **changes: Any) -> dict[str, Any]:
    """An adjustment form as a person fills it in."""
    rows = legs or ((BANK, "debit", "12.50"), (FEES, "credit", "12.50"))
    fields: dict[str, Any] = {
        "reason": "The bank credited interest.",
        "effective_at": moment(now() - timedelta(minutes=5)),
        "key": str(uuid.uuid4()),
        "evidence": PICTURE,
    }
    for number, (account, side, amount) in enumerate(rows):
        fields |= {f"legs-{number}-account": account, f"legs-{number}-side": side, f"legs-{number}-amount": amount}
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def send(browser: Browser, data: dict[str, Any], path: str = ADJUSTMENT):
    files = {
        name: FileStorage(io.BytesIO(value[0]), value[1], name) for name, value in data.items() if isinstance(value, tuple)
    }
    fields = {**data, **files, "csrf_token": browser.token("/")}
    boundary, body = encode_multipart(fields)  # the test client itself would leave a temporary file open
    return browser.http.post(path, data=body, content_type=f"multipart/form-data; boundary={boundary}")


def proposed(office: Office, by: str = FIRST, *legs: tuple[str, str, str], **changes: Any) -> int:
    answer = send(office.browser(by), filled(*legs, **changes))
    assert answer.status_code == 302, answer.text
    return int(answer.headers["Location"].rpartition("/")[2])


def rows(office: Office, model: type[Any]) -> int:
    with office.session() as session:
        return session.scalar(select(func.count()).select_from(model))


def balance(office: Office, code: str) -> int:
    with office.session() as session:
        return session.scalars(select(Account.balance).where(Account.code == code)).one()


# ── proposing an adjustment ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_adjustment_from_the_form_to_the_transaction(office):
    number, before = proposed(office), balance(office, FEES)
    second = office.browser(SECOND)
    queue = second.get(LIST).text
    assert f'href="/ledger/requests/{number}"' in queue
    assert "12.50 USD" in queue
    page = second.get(f"{LIST}{number}").text
    for words in ("The bank credited interest.", "Finance officer", BANK, FEES, "bank confirmation.png", "Post 12.50 USD"):
        assert words in page
    assert f'action="{LIST}{number}/approve"' in page
    done = second.post(f"{LIST}{number}/approve", page=f"{LIST}{number}").text
    assert "Approved and posted." in done
    assert balance(office, FEES) == before + 1250
    row = office.row(LedgerRequest, number)
    assert f'href="/ledgertransactionview/show/{row.txn_id}"' in done
    assert "/approve" not in done
    txn = second.get(f"/ledgertransactionview/show/{row.txn_id}")
    assert txn.status_code == 200
    assert f'href="/ledger/requests/{number}"' in txn.text
    assert f'href="/ledger/requests/{number}"' in second.get(f"{LIST}?tab=decided").text
    assert office.audited("ledger_request.approved")[-1].target == f"ledger_request:{number}"


def test_all_refusals_stand_beside_their_fields_and_nothing_typed_is_lost(office):
    browser, before = office.browser(FIRST), (rows(office, LedgerRequest), rows(office, Transaction))
    answer = send(
        browser,
        filled(
            ("client:4711:wallet:USD", "debit", "1.005"),
            (BANK, "debit", "0"),
            (FEES, "credit", "7 EUR"),
            (FEES, "sideways", "<b>"),
            reason="",
            effective_at="2026-13-01T00:00",
            evidence=None,
        ),
    )
    assert answer.status_code == 422
    page = answer.text
    for words in (
        "There is no account client:4711:wallet:USD",
        "USD has 2 decimals at most.",
        "greater than zero",
        "kept in USD, not in EUR",
        "stands in row 3 already",
        "debits or credits",
        "This is not a valid amount.",
        "Please say why",
        "such as 2026-11-30 14:05",
        "Please add a file",
    ):
        assert words in page, words
    for value in ("client:4711:wallet:USD", "1.005", "7 EUR", "&lt;b&gt;", "2026-13-01T00:00"):
        assert f'value="{value}"' in page, value
    assert "<b>" not in page
    assert 'href="#legs-0-amount"' in page
    assert (rows(office, LedgerRequest), rows(office, Transaction)) == before


@pytest.mark.parametrize(
    ("amounts", "words"),
    [
        (("10", "12.50"), "difference 2.50"),
        (("NaN", "NaN"), "not a valid amount"),
        (("1" + "0" * 30, "1" + "0" * 30), "too large"),
        (("-1", "-1"), "greater than zero"),
        (("9" * 3_000, "1"), "not a valid amount"),
    ],
)
def test_amounts_that_are_refused(office, amounts, words):
    answer = send(office.browser(FIRST), filled((BANK, "debit", amounts[0]), (FEES, "credit", amounts[1])))
    assert answer.status_code == 422
    assert words in answer.text


def test_201_legs_are_refused_with_all_of_them_kept(office):
    before = rows(office, LedgerRequest)
    legs = [(f"suspense:x{number}:USD", "credit", "1") for number in range(200)]
    answer = send(office.browser(FIRST), filled((BANK, "debit", "200"), *legs))
    assert answer.status_code == 422
    assert "200 accounts at most" in answer.text
    assert answer.text.count("data-leg-account") == 202  # 201 rows, and the template of a new one
    assert rows(office, LedgerRequest) == before


def test_more_fields_than_any_form_has_are_refused(office):
    legs = [(BANK, "debit", "1")] * 400
    answer = send(office.browser(FIRST), filled(*legs, evidence=None))
    assert answer.status_code == 413
    assert "Traceback" not in answer.text


def test_rows_are_added_and_removed_without_script(office):
    browser = office.browser(FIRST)
    data = filled((BANK, "debit", "3"), (FEES, "credit", "x"), ("fx:position:USD", "credit", ""), reason="kept <so far>")
    page = send(browser, {**data, "action": "add"}).text
    assert page.count("data-leg-account") == 5
    assert "kept &lt;so far&gt;" in page
    assert "bank confirmation.png" in page
    note = hidden(page, "note")
    page = send(browser, {**data, "evidence": NO_FILE, "note": note, "action": "remove-1"}).text
    assert page.count("data-leg-account") == 3
    assert 'value="x"' not in page
    assert 'value="fx:position:USD"' in page
    assert "bank confirmation.png" in page
    for action in ("remove-99", "remove-", "remove-²", "remove--1", "other"):
        assert send(browser, {**data, "action": action}).status_code in (200, 422)


def test_sums_by_currency_are_shown_without_script(office):
    page = send(office.browser(FIRST), {**filled((BANK, "debit", "3"), (FEES, "credit", "5.5")), "action": "add"}).text
    assert "2.50 USD" in page
    assert 'data-balanced="no"' in page


def test_a_form_can_be_filled_by_its_address(office):
    page = office.browser(FIRST).get(f"{ADJUSTMENT}?legs-0-account={BANK}&legs-0-side=credit&legs-0-amount=5").text
    assert f'value="{BANK}"' in page


def test_the_same_form_twice_is_one_request(office):
    browser, before = office.browser(FIRST), rows(office, LedgerRequest)
    data = filled()
    first = send(browser, data)
    again = send(browser, {**data, "evidence": PICTURE})
    assert first.headers["Location"] == again.headers["Location"]
    assert rows(office, LedgerRequest) == before + 1
    other = send(browser, {**filled((BANK, "debit", "9"), (FEES, "credit", "9")), "key": data["key"]})
    assert other.status_code == 422
    assert "made before with other content" in other.text
    assert hidden(other.text, "key") != data["key"]
    assert send(browser, {**data, "evidence": PICTURE, "key": "not a key"}).status_code == 302


def test_a_refused_form_keeps_its_file_and_stores_it_once(office):
    browser, folder = office.browser(FIRST), office.database.settings.documents_dir
    stored = len(list(folder.glob("*.sealed")))
    page = send(browser, filled(reason="")).text
    assert "is kept" in page
    assert len(list(folder.glob("*.sealed"))) == stored
    note = hidden(page, "note")
    data = filled(evidence=NO_FILE, note=note)
    assert send(office.browser(SECOND), data).status_code == 422  # another person's file
    answer = send(browser, data)
    assert answer.status_code == 302
    assert len(list(folder.glob("*.sealed"))) == stored + 1
    row = office.row(LedgerRequest, int(answer.headers["Location"].rpartition("/")[2]))
    assert (row.evidence_name, row.evidence_type) == ("bank confirmation.png", "image/png")
    assert send(browser, filled(evidence=NO_FILE, note=note)).status_code == 422  # it is used up
    assert send(browser, filled(evidence=NO_FILE, note=note[:-2])).status_code == 422


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html><script>alert(1)</script>", "not a JPEG, a PNG or a PDF"),
        (proofs.pdf_with_javascript(), "holds a program"),
        (proofs.picture("PNG")[:300], "cannot be read to its end"),
    ],
)
def test_evidence_that_is_no_evidence(office, content, words):
    answer = send(office.browser(FIRST), filled(evidence=(content, "proof.pdf")))
    assert answer.status_code == 422
    assert words in answer.text


def test_evidence_too_large_is_refused(office):
    answer = send(office.browser(FIRST), filled(evidence=(b"%PDF-" + b"0" * 10_000_000, "big.pdf")))
    assert answer.status_code == 422
    assert "10 MB at most" in answer.text
    answer = office.browser(FIRST).http.post(
        ADJUSTMENT,
        input_stream=io.BytesIO(b"x" * 12_000_000),
        content_type="multipart/form-data; boundary=x",
        content_length=12_000_000,
    )
    assert answer.status_code == 413


def test_evidence_is_shown_sandboxed_and_each_look_is_audited(office):
    number, looks = proposed(office), len(office.audited("ledger_request.evidence_viewed"))
    path = f"{LIST}{number}/file"
    assert office.browser(STRANGER).get(path).status_code in (302, 403)
    assert office.app.test_client().get(path).status_code == 302
    assert len(office.audited("ledger_request.evidence_viewed")) == looks
    answer = office.browser(READER).get(path)
    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert office.audited("ledger_request.evidence_viewed")[-1].target == f"ledger_request:{number}"
    pdf = proposed(office, evidence=(proofs.pdf(), "x.pdf"))
    assert office.browser(READER).get(f"{LIST}{pdf}/file").data.startswith(b"%PDF")
    assert "<iframe" in office.browser(READER).get(f"{LIST}{pdf}").text


def test_accounts_are_suggested_to_those_who_propose(office):
    browser = office.browser(FIRST)
    found = browser.get(f"{LIST}accounts?q=bank:TEST:client_m").json
    assert [account["code"] for account in found] == [BANK]
    assert (found[0]["currency"], found[0]["digits"]) == ("USD", 2)
    assert "available" in found[0]["text"]
    assert browser.get(f"{LIST}accounts?q=%25").json == []
    assert browser.get(f"{LIST}accounts?q=%00").json == []
    assert len(browser.get(f"{LIST}accounts").json) >= 2
    unopened = f"client:{office.client_id}:wallet:JPY"
    found = browser.get(f"{LIST}accounts?q={unopened}").json
    assert [(account["code"], account["digits"]) for account in found] == [(unopened, 0)]
    assert "will be opened" in found[0]["text"]
    assert browser.get(f"{LIST}accounts?q=client:99999999:wallet:JPY").json == []
    assert office.browser(READER).get(f"{LIST}accounts?q=bank").status_code in (302, 403)


# ── deciding ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_proposed_sees_no_decision_and_can_take_none(office):
    number, browser = proposed(office), office.browser(FIRST)
    page = browser.get(f"{LIST}{number}").text
    assert "You proposed this" in page
    assert "/approve" not in page
    assert "/reject" not in page
    for step in ("approve", "reject"):
        answer = browser.post(f"{LIST}{number}/{step}", {"reason": "me"}, page=f"{LIST}{number}")
        assert "You proposed this yourself" in answer.text
    assert office.row(LedgerRequest, number).status == "proposed"
    assert "Withdrawn." in browser.post(f"{LIST}{number}/withdraw", page=f"{LIST}{number}").text
    assert office.row(LedgerRequest, number).status == "withdrawn"


def test_others_do_not_withdraw_it(office):
    number, second = proposed(office), office.browser(SECOND)
    assert f"{number}/withdraw" not in second.get(f"{LIST}{number}").text
    answer = second.post(f"{LIST}{number}/withdraw", page=f"{LIST}{number}")
    assert "Only who proposed a request" in answer.text
    assert office.row(LedgerRequest, number).status == "proposed"


def test_rejecting_needs_a_reason_and_keeps_it(office):
    number, second = proposed(office), office.browser(SECOND)
    page = second.post(f"{LIST}{number}/reject", {"reason": "because " * 200}, page=f"{LIST}{number}").text
    assert "Please give the reason" in page
    assert "because because" in page
    assert "Please give the reason" in second.post(f"{LIST}{number}/reject", {"reason": " "}, page=f"{LIST}{number}").text
    assert "Rejected." in second.post(f"{LIST}{number}/reject", {"reason": "Wrong account"}, page=f"{LIST}{number}").text
    row = office.row(LedgerRequest, number)
    assert (row.status, row.decision_reason, row.txn_id) == ("rejected", "Wrong account", None)
    assert "Wrong account" in office.browser(FIRST).get(f"{LIST}{number}").text


def test_a_stale_page_is_told_what_happened_meanwhile(office):
    number = proposed(office)
    second, admin = office.browser(SECOND), office.browser("Admin")
    late = admin.token(f"{LIST}{number}")
    second.post(f"{LIST}{number}/reject", {"reason": "No"}, page=f"{LIST}{number}")
    answer = admin.http.post(f"{LIST}{number}/approve", data={"csrf_token": late}, follow_redirects=True)
    assert "Second Finance rejected this request before you" in answer.text
    assert office.row(LedgerRequest, number).status == "rejected"


def test_money_gone_before_the_approval_is_said_and_the_request_waits(office):
    wallet = f"client:{office.client_id}:wallet:USD"
    number = proposed(office, FIRST, (wallet, "debit", "99999999"), (FEES, "credit", "99999999"))
    second = office.browser(SECOND)
    page = second.get(f"{LIST}{number}").text
    assert "Not enough" in page
    assert "cannot be carried out at present" in page
    answer = second.post(f"{LIST}{number}/approve", page=f"{LIST}{number}").text
    assert "Nothing was posted, the request still waits" in answer
    assert f"{wallet} has" in answer
    assert office.row(LedgerRequest, number).status == "proposed"


def test_two_approve_at_the_same_moment(office):
    number = proposed(office)
    browsers = [office.browser(SECOND), office.browser("Admin")]
    tokens = [browser.token(f"{LIST}{number}") for browser in browsers]
    said, start = [], threading.Barrier(2)

    def press(browser: Browser, token: str) -> None:
        start.wait(timeout=20)
        page = browser.http.post(f"{LIST}{number}/approve", data={"csrf_token": token}, follow_redirects=True).text
        said.append("Approved and posted." in page or ("approved this request before you" in page and "late"))

    threads = [threading.Thread(target=press, args=pair) for pair in zip(browsers, tokens, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert Counter(said) == {True: 1, "late": 1}
    with office.session() as session:
        key = f"ledger-request:{number}"
        assert session.scalar(select(func.count()).select_from(Transaction).where(Transaction.idempotency_key == key)) == 1


def test_a_decision_without_token_is_none(office):
    number, second = proposed(office), office.browser(SECOND)
    for path, data in (
        (f"{LIST}{number}/approve", {}),
        (f"{LIST}{number}/reject", {"reason": "x"}),
        (f"{LIST}{number}/withdraw", {}),
        (ADJUSTMENT, filled()),
    ):
        before = rows(office, LedgerRequest)
        assert second.bare_post(path, data).status_code == 400
        assert rows(office, LedgerRequest) == before
        assert second.get(path).status_code == (200 if path == ADJUSTMENT else 405)
    assert office.row(LedgerRequest, number).status == "proposed"


def test_who_may_only_read_reads(office):
    number, reader = proposed(office), office.browser(READER)
    page = reader.get(f"{LIST}{number}").text
    for step in ("approve", "reject", "withdraw"):
        assert f"{number}/{step}" not in page
        answer = reader.http.post(f"{LIST}{number}/{step}", data={"csrf_token": reader.token("/"), "reason": "x"})
        assert answer.status_code in (302, 403)
    assert "New adjustment" not in reader.get(LIST).text
    for path in (ADJUSTMENT, REVERSAL, CLOSE):
        assert reader.get(path).status_code in (302, 403)
    assert office.row(LedgerRequest, number).status == "proposed"
    for path in (LIST, f"{LIST}{number}", ADJUSTMENT):
        assert office.browser(STRANGER).get(path).status_code in (302, 403)


@pytest.mark.parametrize("step", ["", "/file", "/approve", "/reject", "/withdraw"])
def test_a_request_that_does_not_exist(office, step):
    second = office.browser(SECOND)
    path = f"{LIST}999999{step}"
    answer = second.get(path) if step in ("", "/file") else second.post(path, {"reason": "x"})
    assert answer.status_code == 404
    assert "We could not find this" in answer.text


# ── reversals and closes ────────────────────────────────────────────────────────────────────────────────────────────────


def transaction(office: Office, kind: str = "test") -> uuid.UUID:
    with office.session() as session, unit_of_work(session, posting_actor()):
        return posting.post(
            session,
            key=f"t-{uuid.uuid4()}",
            kind=kind,
            effective_at=now() - timedelta(hours=1),
            actor=posting_actor(),
            legs=[posting.debit(BANK, Money(300, "USD")), posting.credit(FEES, Money(300, "USD"))],
        )


def reversal(txn_id: uuid.UUID | str, **changes: Any) -> dict[str, Any]:
    legless = {name: value for name, value in filled().items() if not name.startswith("legs")}
    return {**legless, "txn": str(txn_id), **changes}


def test_a_reversal_from_the_transaction_to_its_mirror_image(office):
    txn_id, first, second = transaction(office), office.browser(FIRST), office.browser(SECOND)
    page = first.get(f"{REVERSAL}?txn={txn_id}").text
    for words in ("3.00 USD", BANK, FEES, "Propose reversal"):
        assert words in page
    refused = send(first, reversal(txn_id, reason="", effective_at="2020-01-01T00:00"), REVERSAL)
    assert refused.status_code == 422
    assert "Please say why" in refused.text
    assert "not before it" in refused.text or "2020" in refused.text
    answer = send(first, reversal(txn_id), REVERSAL)
    number = int(answer.headers["Location"].rpartition("/")[2])
    again = second.get(f"{REVERSAL}?txn={txn_id}")
    assert again.status_code == 422
    assert "asked already to reverse" in again.text
    assert "Propose reversal" not in again.text
    before = balance(office, FEES)
    assert "Approved and posted." in second.post(f"{LIST}{number}/approve", page=f"{LIST}{number}").text
    assert balance(office, FEES) == before - 300
    assert "reversed before" in first.get(f"{REVERSAL}?txn={txn_id}").text
    assert send(first, reversal(txn_id), REVERSAL).status_code == 422


@pytest.mark.parametrize("given", ["nonsense", str(uuid.UUID(int=404)), "x" * 5_000, "%00"])
def test_transactions_that_are_none(office, given):
    browser = office.browser(FIRST)
    answer = browser.get(f"{REVERSAL}?txn={given}")
    assert answer.status_code == 422
    assert "Propose reversal" not in answer.text
    assert send(browser, reversal(given), REVERSAL).status_code == 422


def test_a_reversal_of_what_a_deposit_caused_says_that_the_deposit_stays(office):
    txn_id, second = transaction(office, "deposit"), office.browser(SECOND)
    with office.session() as session:
        deposit = Deposit(
            public_id=uuid.uuid4(),
            client_id=office.client_id,
            connector="stripe",
            amount_minor=300,
            currency="USD",
            idempotency_key=uuid.uuid4().hex,
            ledger_txn_id=txn_id,
        )
        session.add(deposit)
        session.commit()
        words = f"Deposit {deposit.id}"
    page = second.get(f"{REVERSAL}?txn={txn_id}").text
    assert "Only the ledger changes." in page
    assert words in page
    number = int(send(second, reversal(txn_id), REVERSAL).headers["Location"].rpartition("/")[2])
    assert "Only the ledger changes." in second.get(f"{LIST}{number}").text


def test_what_a_request_caused_is_reversed_without_that_warning(office):
    number, second = proposed(office), office.browser(SECOND)
    second.post(f"{LIST}{number}/approve", page=f"{LIST}{number}")
    page = second.get(f"{REVERSAL}?txn={office.row(LedgerRequest, number).txn_id}").text
    assert "Only the ledger changes." not in page
    assert f'href="/ledger/requests/{number}"' in page


def test_a_period_close_from_preview_to_books_that_are_closed(office):
    first, second = office.browser(FIRST), office.browser(SECOND)
    page = first.get(f"{CLOSE}?through=2020-12-31").text
    assert "Propose to close up to 2020-12-31" in page
    assert "FX positions" in page
    form = {"through": "2020-12-31", "reason": "", "key": str(uuid.uuid4())}
    assert "Please say why" in send(first, form, CLOSE).text
    answer = send(first, {**form, "reason": "2020 is audited."}, CLOSE)
    number = int(answer.headers["Location"].rpartition("/")[2])
    assert "Close up to 2020-12-31" in second.get(f"{LIST}{number}").text
    assert "The period is closed." in second.post(f"{LIST}{number}/approve", page=f"{LIST}{number}").text
    with office.session() as session:
        assert session.get(PeriodClose, datetime(2021, 1, 1, tzinfo=UTC)) is not None
    again = first.get(f"{CLOSE}?through=2020-12-31")
    assert again.status_code == 422
    assert "closed already up to 2021-01-01" in again.text
    late = send(first, filled(effective_at="2020-06-01T12:00"))
    assert "closed up to 2021-01-01 00:00 UTC" in late.text


@pytest.mark.parametrize("day", ["2999-12-31", "2026-02-30", "yesterday", "9999-12-31", "0001-01-01"])
def test_days_that_cannot_be_closed(office, day):
    browser = office.browser(FIRST)
    answer = browser.get(f"{CLOSE}?through={day}")
    assert answer.status_code == 422 or day == "0001-01-01"
    sent = send(browser, {"through": day, "reason": "x", "key": str(uuid.uuid4())}, CLOSE)
    assert sent.status_code == 422 or day == "0001-01-01"


def test_open_requests_of_the_period_stand_in_its_preview(office):
    number = proposed(office, effective_at="2023-03-01T12:00")
    page = office.browser(SECOND).get(f"{CLOSE}?through=2023-12-31").text
    assert "cannot be closed yet" in page
    assert f"wait for a decision: {number}" in page
    assert "Propose to close" not in page
    office.browser(FIRST).post(f"{LIST}{number}/withdraw", page=f"{LIST}{number}")


# ── the list ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_list_filters_pages_and_exports(office):
    word = uuid.uuid4().hex
    numbers = [proposed(office, reason=f"{word} {index}") for index in range(3)]
    second = office.browser(SECOND)
    page = second.get(f"{LIST}?reason={word}").text
    assert all(f'href="/ledger/requests/{number}"' in page for number in numbers)
    assert f'href="/ledger/requests/{numbers[0]}"' not in second.get(f"{LIST}?reason={word}&kind=reversal").text
    assert f'href="/ledger/requests/{numbers[0]}"' not in second.get(f"{LIST}?reason={word}&after={numbers[0]}").text
    table = [*csv.reader(io.StringIO(second.get(f"{LIST}?reason={word}&export=csv").text.lstrip("\ufeff")))]
    assert [row[0] for row in table[1:]] == [str(number) for number in numbers]
    assert table[1][3:5] == ["USD", "12.50"]
    for query in ("kind=x", "from=yesterday", "to=2026-02-30", "after=x", "tab=mine", "from=2026-02-01&to=2026-01-01"):
        assert second.get(f"{LIST}?{query}").status_code == 422


def test_more_than_a_page_goes_on_by_key(office):
    word = uuid.uuid4().hex
    first = proposed(office, reason=f"{word} 0")
    with office.session() as session:
        row = session.get_one(LedgerRequest, first)
        session.add_all(
            LedgerRequest(
                kind="adjustment",
                reason=f"{word} {index}",
                legs=row.legs,
                effective_at=row.effective_at,
                idempotency_key=uuid.uuid4().hex,
                proposed_by="staff:0",
            )
            for index in range(30)
        )
        session.commit()
    browser = office.browser(READER)
    page = browser.get(f"{LIST}?reason={word}").text
    following = re.search(r'href="([^"]*after=[^"]*)"', page)
    assert following
    rest = browser.get(following.group(1).replace("&amp;", "&")).text
    shown = re.findall(r'href="/ledger/requests/(\d+)"', page) + re.findall(r'href="/ledger/requests/(\d+)"', rest)
    assert len(shown) == len(set(shown)) == 31


def test_the_queue_is_counted_in_the_rail_and_on_the_first_page(office):
    proposed(office)
    page = office.browser(SECOND).get("/").text
    assert "Ledger requests to decide" in page
