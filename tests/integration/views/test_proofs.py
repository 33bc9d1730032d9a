"""The page of the ledger's proofs: runs, breaks that lead to their pages, alerts, and the banner on every page."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import delete, select, text

from app.core.clock import now
from app.core.tables import Event
from app.ledger import proofs
from app.models.controls import Alert, ProofResult, ProofRun
from app.models.ledger import Transaction
from app.models.payments import Deposit
from app.views import proofs as page
from tests.integration.views.conftest import LIBRARY_WARNINGS

pytestmark = LIBRARY_WARNINGS
FINANCE, LOOKS_ONLY, NOTHING = "Finance officer", "Compliance officer", "Partner manager"
BANNER = "Settlements are stopped."


@pytest.fixture
def records(office):
    """Runs and alerts are gone afterwards: other pages of the same office show them, too."""
    yield office
    with office.session() as session:
        for model in (ProofResult, ProofRun, Alert):
            session.execute(delete(model))
        session.commit()


def _run(office, *, breaks=None, finished=True):
    """A recorded run; `breaks` by proof. Returns its number."""
    with office.session() as session:
        run = ProofRun(started_by="system:prove_ledger", finished_at=now() if finished else None)
        run.holds = not breaks if finished else None
        session.add(run)
        session.flush()
        for code in list(proofs.NAMES)[: 9 if finished else 4]:
            found = (breaks or {}).get(code, [])
            session.add(
                ProofResult(run_id=run.id, name=code, compared=12_345, break_count=len(found), breaks=found[:200], seconds=0.25)
            )
        for code in breaks or {}:
            session.add(Alert(code="ledger.proof_failed", subject=code, data={"breaks": len(breaks[code])}))
        session.commit()
        return run.id


def test_before_the_first_run(records):
    answer = records.browser(FINANCE).get("/proofs/")
    assert answer.status_code == 200
    assert "No proofs yet" in answer.text
    assert "Run now" in answer.text


def test_a_run_that_holds(records):
    _run(records)
    answer = records.browser(FINANCE).get("/proofs/")
    assert answer.text.count("12,345") == 9
    assert "9 / 9" in answer.text
    assert BANNER not in answer.text
    assert 'hx-trigger="every 2s"' not in answer.text
    assert BANNER not in records.browser(FINANCE).get("/").text


def test_breaks_lead_to_what_they_name(records):
    with records.session() as session:
        txn_id, deposit_id = session.scalar(select(Transaction.id).limit(1)), session.scalar(select(Deposit.id).limit(1))
    account = f"client:{records.client_id}:wallet:USD"
    words = {
        "P2": [f"account {account}: counters 1/2 at version 3, entries 1/1, 2 of them up to version 3"],
        "P5": [f"hold {uuid.UUID(int=5)}: captured by transaction {txn_id}, which does not take up to 1"],
        "P7": [f"deposit {deposit_id}: its transaction {txn_id} is a <b>gift</b>"],
        "P8": ["line 3: 5 of 2026-01-01 on bank:nobody:client_money:USD has no entry"],
    }
    _run(records, breaks=words)
    text_ = records.browser(FINANCE).get("/proofs/").text
    assert f'href="/ledgeraccountview/show/{account}"' in text_
    assert f'href="/ledgertransactionview/show/{txn_id}"' in text_
    assert f'href="/depositview/show/{deposit_id}"' in text_
    assert ">line 3</a>" in text_
    assert "is a &lt;b&gt;gift" in text_
    assert f"hold {uuid.UUID(int=5)}" in text_, "a hold has no page"
    assert "bank:nobody:client_money:USD</a>" not in text_, "nor has an account that is not there"
    looks = records.browser(LOOKS_ONLY).get("/proofs/").text
    assert ">line 3</a>" not in looks, "no link to a page that the reader may not open"


def test_many_breaks_are_folded_and_counted(records):
    _run(records, breaks={"P3": [f"transaction {uuid.UUID(int=number)}: 0 legs" for number in range(300)]})
    text_ = records.browser(FINANCE).get("/proofs/").text
    assert "300 breaks, the first 200 of them" in text_
    assert '<details class="card fold" id="breaks-P3">' in text_


def test_a_run_under_way_shows_how_far_it_is(records):
    _run(records, finished=False)
    with records.session() as session:
        session.execute(text("SELECT pg_advisory_lock(720106)"))
        try:
            answer = records.browser(FINANCE).get("/proofs/")
            assert "4 of 9 proofs are done." in answer.text
            assert 'hx-trigger="every 2s"' in answer.text
            assert "Run now" not in answer.text
            state = records.browser(FINANCE).get("/proofs/state")
            assert "HX-Redirect" not in state.headers
            assert "<html" not in state.text
        finally:
            session.execute(text("SELECT pg_advisory_unlock(720106)"))
    assert records.browser(FINANCE).get("/proofs/state").headers["HX-Redirect"] == "/proofs/"
    assert "Cut short" in records.browser(FINANCE).get("/proofs/").text


def test_older_runs_page_by_page(records):
    numbers = [_run(records) for _ in range(22)]
    first = records.browser(FINANCE).get("/proofs/").text
    assert f'/proofs/?run={numbers[-1]}"' in first
    assert f'/proofs/?run={numbers[0]}"' not in first
    assert f'/proofs/?run={numbers[0]}"' in records.browser(FINANCE).get(f"/proofs/?before={numbers[2]}").text
    assert f"Run {numbers[3]}" in records.browser(FINANCE).get(f"/proofs/?run={numbers[3]}").text
    assert records.browser(FINANCE).get("/proofs/?run=999999").status_code == 404
    assert records.browser(FINANCE).get("/proofs/?run=abc&before=-1").status_code == 200


def test_asking_for_a_run(records):
    answer = records.browser(FINANCE).post("/proofs/run", page="/proofs/")
    assert "The proofs are asked for." in answer.text
    with records.session() as session:
        assert session.scalar(select(Event.actor).where(Event.type == "ledger.proof_requested")).startswith("staff:")
    assert len(records.audited("proofs.request")) == 1


def test_an_alert_is_seen_everywhere_until_somebody_looks_after_it(records):
    _run(records, breaks={"P6": ["client money in USD: short"]})
    finance = records.browser(FINANCE)
    home = finance.get("/").text
    assert "The proofs of the ledger found what must not be." in home
    assert "Alerts of the ledger's proofs" in home
    assert "The proofs of the ledger" not in records.browser(NOTHING).get("/").text
    with records.session() as session:
        alert = session.scalars(select(Alert.id)).one()
    assert '/acknowledge"' not in records.browser(LOOKS_ONLY).get("/proofs/").text
    done = finance.post(f"/proofs/alerts/{alert}/acknowledge", page="/proofs/")
    assert "Acknowledged. The alert stays here" in done.text
    assert records.row(Alert, alert).acknowledged_by.startswith("staff:")
    assert "The proofs of the ledger found" not in finance.get("/").text
    assert BANNER in finance.get("/proofs/").text, "they are, whoever looks after it"


def test_an_alert_that_is_over(records):
    _run(records, breaks={"P6": ["client money in USD: short"]})
    with records.session() as session:
        alert = session.scalars(select(Alert)).one()
        alert.closed_at = now()
        session.commit()
        number = alert.id
    finance = records.browser(FINANCE)
    assert "this alert has closed" in finance.post(f"/proofs/alerts/{number}/acknowledge", page="/proofs/").text.lower()
    assert "Closed alerts" in finance.get("/proofs/").text
    assert "We could not find this." in finance.post("/proofs/alerts/999999/acknowledge", page="/proofs/").text


def test_rights(records):
    assert records.browser(NOTHING).get("/proofs/").status_code == 403
    assert "Run now" not in records.browser(LOOKS_ONLY).get("/proofs/").text
    assert records.browser(LOOKS_ONLY).post("/proofs/run", page="/").status_code == 403


def test_every_proof_has_words():
    assert list(page.WORDS) == list(proofs.NAMES)
