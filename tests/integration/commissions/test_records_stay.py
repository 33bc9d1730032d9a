"""What was proposed, published, settled and paid: the application's role can say what became of it, and change nothing else."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.commissions import payout_runs, payout_statements, payouts
from app.core.clock import now
from tests.integration.commissions.brokerage import Brokerage
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere

DECIDED = {"status", "decided_by", "decided_at", "decision_reason"}

#: Spans that have not begun may be taken back; which ones, a guard of the tables sees to.
MAY_GO = {"attribution", "ib_parent"}

#: Tables whose rows stay, with the columns that may change.
MAY_CHANGE: dict[str, set[str]] = {
    "accrual": set(),
    "accrual_unit": set(),
    "accrual_sum": {"settlement_id"},
    "occasion": set(),
    "plan_version": set(),
    "plan_draft": DECIDED | {"version_id"},
    "ib_plan": {"valid_to"},
    "ib_terms": {"valid_to"},
    "ib_terms_proposal": DECIDED | {"terms_id", "valid_from"},
    "symbol_group_version": set(),
    # Once, in the transaction that begins it: see below.
    "settlement": {"accrued", "converted", "carried_in", "amount_minor", "carried_out", "ledger_txn_id"},
    "payout": {
        *("run_id", "state", "warnings", "decided_by", "decided_at", "decision_reason"),
        *("ledger_txn_id", "transfer_id", "withdrawal_id", "failure", "moved_at", "finished_at"),
    },
    "payout_run": DECIDED,
    "payout_reversal": DECIDED,
    "payout_statement": {"pdf", "pdf_sha256"},
    "replay_run": DECIDED | {"deals", "deals_done", "sums", "error", "computed_at", "posted_at", "proposed_by", "proposed_at"},
    "commission_flag": {"details", "seen_at", "status", "reason", "decided_by", "decided_at"},
    "attribution": {"valid_to"},
    "ib_parent": {"valid_to"},
    "partner_move": DECIDED | {"effective_at", "moved", "cancelled_by", "cancelled_at", "cancel_reason"},
    "partner_policy": set(),
    "partner_privacy": set(),
    "partner_agreement": set(),
    "ib_application": DECIDED,
    "ib_invitation": {"revoked_at", "used_by"},
    "ticket": {"state", "assigned_to", "closed_at", "closed_by", "close_reason"},
    "ticket_message": set(),
    "marketing_material": {"is_active"},
}


def refusal(session: Session, statement: str) -> str:
    """The SQLSTATE by which a statement is refused; empty when it is not."""
    try:
        with session.begin_nested():
            session.execute(text(statement))
    except DBAPIError as error:
        return str(getattr(error.orig, "sqlstate", ""))
    return ""


@pytest.mark.parametrize("table", MAY_CHANGE)
def test_the_application_changes_what_may_change(session: Session, table: str) -> None:
    columns = session.execute(text(f"SELECT * FROM {table} LIMIT 0")).keys()
    changed = {name for name in columns if refusal(session, f"UPDATE {table} SET {name} = {name}") != "42501"}
    assert changed == MAY_CHANGE[table]
    assert table in MAY_GO or refusal(session, f"DELETE FROM {table}") == "42501"
    assert refusal(session, f"TRUNCATE {table} CASCADE") == "42501"


def test_settlements_and_statements_are_written_once(house: Brokerage) -> None:
    earnings, session = Earnings(house), house.session
    ib_id = earnings.ib("3")
    run = payout_runs.propose_run(session, until=now(), reason="r", actor=FINANCE)
    looked_at = {one.id: payout_runs.Decision("pay", "looked at") for one in run.payouts}
    payout_runs.approve_run(session, run.id, decisions=looked_at, actor=OTHER)
    payouts.pay(session, run.payouts[0].id, nowhere)
    payout_statements.keep_pdf(session, run.payouts[0].id, b"%PDF first")
    house.save()

    assert refusal(session, f"UPDATE settlement SET amount_minor = 1 WHERE ib_id = {ib_id}") == "LW001"
    assert refusal(session, "UPDATE payout_statement SET pdf = 'forged'") == "LW001"
    assert refusal(session, "UPDATE ib_plan SET valid_to = now() + interval '1 day'") == ""
    assert refusal(session, "UPDATE ib_plan SET valid_to = now() + interval '2 days'") == "LW001"
