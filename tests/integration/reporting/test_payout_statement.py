"""The statement of a payout as a file: its text has the figures that were frozen, and it stays as it was made."""

from __future__ import annotations

import shutil

import pytest
from sqlalchemy import update

from app.commissions import payout_runs, payout_statements, payouts
from app.core.clock import now
from app.core.tables import Event
from app.jobs import handlers
from app.models.clients import Client
from app.models.payouts import PayoutStatement
from app.reporting.sample import text_of
from tests.conftest import Database
from tests.integration.commissions.brokerage import build
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere

pytestmark = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is not installed")


@pytest.fixture
def earnings(database: Database) -> Earnings:
    with database.session() as session:
        yield Earnings(build(session))


def paid(earnings: Earnings) -> int:
    """All that there is to pay, paid; the id of the one payout."""
    run = payout_runs.propose_run(earnings.session, until=now(), reason="r", actor=FINANCE)
    (payout,) = run.payouts
    payout_id = payout.id
    payout_runs.approve_run(earnings.session, run.id, decisions={}, actor=OTHER)
    payouts.pay(earnings.session, payout_id, nowhere)
    return payout_id


def made(earnings: Earnings, database: Database, payout_id: int) -> bytes:
    """The file, made by its job as often as it is woken."""
    event = Event(type="payout.moved", subject_id=payout_id, actor="system:test", payload={})
    for _ in range(2):
        handlers.HANDLERS["make_payout_statement"].function(earnings.session, event, database.settings)
    pdf = payout_statements.document(earnings.session, payout_id).pdf
    assert pdf is not None
    return pdf


def test_the_file_has_the_figures_and_the_hash_of_what_was_frozen(earnings, database):
    ib_id = earnings.ib("3")
    earnings.earn(ib_id, "0.25")
    payout_id = paid(earnings)
    text = text_of(made(earnings, database, payout_id))
    kept = payout_statements.document(earnings.session, payout_id)
    for words in (
        f"Payout {payout_id}",
        f"IB number {ib_id}",
        "Paid to Wallet",
        "Amount 22.75 USD",
        "Opening balance 0.00",
        "Commission settled 2 22.75",
        "Payout 1 -22.75",
        "Closing balance 0.00",
        "Accrued by the lines below USD 22.75 22.75",
        "Settled 22.75",
        "fx Amira H. 2 3.25 USD 22.75",
        kept.content_sha256,
    ):
        assert words in text, words


def test_nothing_that_happens_later_changes_it(earnings, database):
    ib_id = earnings.ib("3")
    payout_id = paid(earnings)
    pdf = made(earnings, database, payout_id)
    earnings.session.execute(update(Client).values(last_name="Renamed"))
    earnings.earn(ib_id, "1")
    paid(earnings)
    assert made(earnings, database, payout_id) == pdf
    assert "Renamed" not in text_of(pdf)


def test_in_arabic(earnings, database):
    ib_id = earnings.ib("3")
    client_id = earnings.client_of(ib_id)
    values = {"language": "ar", "first_name": "ليلى", "last_name": "حداد"}
    earnings.session.execute(update(Client).where(Client.id == client_id).values(**values))
    earnings.house.save()
    payout_id = paid(earnings)
    assert earnings.session.get_one(PayoutStatement, payout_id).language == "ar"
    text = text_of(made(earnings, database, payout_id))
    assert "حداد" in text
    assert "21.00" in text
