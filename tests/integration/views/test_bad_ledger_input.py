"""The form for adjustments and the addresses around it, given what the ledger refuses: said in words, nothing changed."""

from __future__ import annotations

import io
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.ledger import chart, close
from app.models.controls import LedgerRequest
from tests.integration.ledger.tables import dump
from tests.integration.views.conftest import LIBRARY_WARNINGS, Office
from tests.unit.compliance import proofs

pytestmark = LIBRARY_WARNINGS

PAGES = "/ledger/requests/"
FORM = f"{PAGES}adjustment"
OFFICER = "Finance officer"
BANK, FEES, CLOSED = "bank:bad:client_money:USD", "income:fees:USD", "suspense:bad:USD"
CLOSED_UNTIL = datetime(2019, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def accounts(office: Office) -> None:
    with office.session() as session, unit_of_work(session, Actor.system("test")):
        chart.open_accounts(
            session, chart.bank_client_money("bad", "USD"), chart.fees("USD"), chart.fees("JPY"), chart.suspense("bad", "USD")
        )
        close.close_account(session, CLOSED)
        close.close_period(session, CLOSED_UNTIL, actor=Actor.system("test"))


def send(office: Office, amount: str = "1", account: str = BANK, **changes: Any) -> TestResponse:
    browser = office.browser(OFFICER)
    fields = {
        "legs-0-account": account, "legs-0-side": "debit", "legs-0-amount": amount,
        "legs-1-account": FEES, "legs-1-side": "credit", "legs-1-amount": "1",
        "reason": "why", "effective_at": f"{now() - timedelta(minutes=5):%Y-%m-%dT%H:%M}", "key": str(uuid.uuid4()),
        "evidence": FileStorage(io.BytesIO(proofs.picture("PNG")), "bank.png", "evidence"),
        "csrf_token": browser.token("/"), **changes,
    }  # fmt: skip
    boundary, body = encode_multipart(fields)
    return browser.http.post(FORM, data=body, content_type=f"multipart/form-data; boundary={boundary}")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown currency": ({"amount": "1 XXQ"}, "kept in USD, not in XXQ"),
    "account of an unknown currency": ({"account": "income:fees:XXQ"}, "There is no account income:fees:XXQ"),
    "a tenth of a cent": ({"amount": "1.001"}, "USD has 2 decimals at most"),
    "half a yen": ({"amount": "0.5", "account": "income:fees:JPY"}, "JPY has 0 decimals at most"),
    "zero": ({"amount": "0"}, "greater than zero"),
    "negative": ({"amount": "-1"}, "greater than zero"),
    "NaN": ({"amount": "NaN"}, "not a valid amount"),
    "10^30": ({"amount": "1" + "0" * 30}, "too large"),
    "rounds to zero": ({"amount": "0.001"}, "USD has 2 decimals at most"),
    "another currency's account": ({"amount": "1 EUR"}, "kept in USD, not in EUR"),
    "NUL in the amount": ({"amount": "1\x00"}, "not a valid amount"),
    "NUL in the account": ({"account": "bank\x00"}, "There is no account"),
    "emoji for an account": ({"account": "👛"}, "There is no account"),
    "closed account": ({"account": CLOSED}, "This account is closed"),
    "closed period": ({"effective_at": "2018-12-31T23:59"}, "The books are closed up to 2019-01-01 00:00 UTC"),
    "year 1": ({"effective_at": "0001-01-01T00:00"}, "before the year 2000"),
    "year 9999": ({"effective_at": "9999-12-31T23:59"}, "still to come"),
    "year 10000": ({"effective_at": "10000-01-01T00:00"}, "such as 2026-11-30 14:05"),
    "no moment": ({"effective_at": ""}, "Please give"),
    "a reason of NULs": ({"reason": "\x00"}, "Please say why"),
    "no file": ({"evidence": ""}, "Please add a file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_form_says_what_is_wrong_and_changes_nothing(office, case):
    changes, words = REFUSED[case]
    with office.session() as session:
        before = dump(session)
    answer = send(office, **changes)
    assert answer.status_code == 422
    assert words in answer.text
    with office.session() as session:
        assert dump(session) == before
    assert send(office).status_code == 302


def test_a_key_that_was_used_for_something_else_is_refused(office):
    key = str(uuid.uuid4())
    assert send(office, key=key).status_code == 302
    with office.session() as session:
        before = dump(session)
    answer = send(office, key=key, reason="something else")
    assert answer.status_code == 422
    assert "made before with other content" in answer.text
    with office.session() as session:
        assert dump(session) == before


def test_arabic_and_emoji_are_taken_and_shown(office):
    reason = "قيد البنك الفائدة 🪙 <ok> & “½”"
    answer = send(office, reason=reason)
    number = int(answer.headers["Location"].rpartition("/")[2])
    assert office.row(LedgerRequest, number).reason == reason
    page = office.browser(OFFICER).get(f"{PAGES}{number}").text
    assert "قيد البنك الفائدة 🪙 &lt;ok&gt;" in page


#: Addresses that a program or a slip of the hand makes of ours.
NOWHERE = ("0", "99999999999", "9223372036854775808", "1" + "0" * 30, "1e5", "%00", "-1")


@pytest.mark.parametrize("number", NOWHERE)
@pytest.mark.parametrize("page", ["", "/file"])
def test_no_request_has_this_number(office, number, page):
    assert office.browser(OFFICER).get(f"{PAGES}{number}{page}").status_code == 404


@pytest.mark.parametrize("number", ["0", "99999999999", "9223372036854775808", "1" + "0" * 30])
@pytest.mark.parametrize("step", ["approve", "reject", "withdraw"])
def test_no_request_of_this_number_is_decided(office, number, step):
    with office.session() as session:
        before = dump(session)
    answer = office.browser(OFFICER).post(f"{PAGES}{number}/{step}", {"reason": "why"})
    assert answer.status_code in (403, 404) or "could not find" in answer.text
    assert answer.status_code < 500
    with office.session() as session:
        assert dump(session) == before


@pytest.mark.parametrize("txn", ["", "abc", "\x00", "00000000-0000-0000-0000-000000000000", "1" * 500, "👛"])
def test_a_reversal_of_nothing_says_so(office, txn):
    answer = office.browser(OFFICER).http.get(f"{PAGES}reversal", query_string={"txn": txn})
    assert answer.status_code == (422 if txn else 200)


@pytest.mark.parametrize("day", ["abc", "2026-02-30", "9999-12-31", "10000-01-01", "\x00"])
def test_a_period_that_cannot_be_closed_says_so(office, day):
    with office.session() as session:
        before = dump(session)
    assert office.browser(OFFICER).http.get(f"{PAGES}period-close", query_string={"through": day}).status_code == 422
    with office.session() as session:
        assert dump(session) == before
