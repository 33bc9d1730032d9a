"""The page of connections: what stands on it, pausing, sweeping, and the three queues that wait for a person."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, text

from app.core.clock import now
from app.core.tables import JobFailure
from app.models.metatrader import BalanceOperation, DeadLetter, Server, ServerState
from app.models.trading_desk import ServerBreak
from app.views.home import QUEUES
from tests.integration.views.conftest import LIBRARY_WARNINGS, open_dialog

pytestmark = LIBRARY_WARNINGS
OPERATOR, NOTHING = "Operator", "Partner manager"
PAGE = "/connections/"


@pytest.fixture
def server_id(office):
    """The office's server; what was done to it and put into the queues is gone afterwards."""
    with office.session() as session:
        found = session.scalars(select(Server.id)).first()
        session.rollback()
    yield found
    with office.session() as session:
        for model in (ServerState, DeadLetter, JobFailure):
            session.execute(delete(model))
        session.execute(delete(BalanceOperation).where(BalanceOperation.login == 555))
        server = session.get(Server, found)
        server.commands_paused_at = server.events_paused_at = None
        session.commit()


def _add(office, row):
    with office.session() as session:
        session.add(row)
        session.commit()
        return row.id


def _letter(office, server_id, **fields):
    entry = {"stream": "mt:sim:0", "entry_id": uuid.uuid4().hex[:20], "fields": {"v": "9"}, "reason": "unknown version '9'"}
    return _add(office, DeadLetter(server_id=server_id, **{**entry, **fields}))


def _operation(office, server_id, looks):
    sent = now() - timedelta(minutes=10)
    return _add(
        office,
        BalanceOperation(
            server_id=server_id, login=555, token=uuid.uuid4().hex[:15], amount_minor=5_000_000, currency="USD",
            status="unknown", sends=1, looks=looks, sent_at=sent, looked_at=sent,
        ),
    )  # fmt: skip


def test_what_stands_on_the_page_and_in_the_part_that_follows_by_itself(office, server_id):
    _add_state = ServerState(server_id=server_id, heartbeat_at=now() - timedelta(minutes=3), swept_at=now(), gaps=2)
    with office.session() as session:
        session.add(_add_state)
        session.commit()
    operator = office.browser(OPERATOR)
    for path in (PAGE, "/connections/state"):
        text = operator.get(path).text
        assert "Its events have been silent" in text
        assert "Meanwhile sweeps bring its deals" in text
    assert "Every operation has an outcome" in operator.get(PAGE).text


def test_a_red_line_leads_to_the_rows_of_its_server(office, server_id):
    found = now() - timedelta(hours=2)
    _add(office, ServerBreak(server_id=server_id, kind="unknown_login", subject="5", login=5, cause="", found_at=found))
    try:
        text = office.browser(OPERATOR).get(PAGE).text
        assert "Open differences between the server and us: 1." in text
        assert f'href="/breaks/?server={server_id}"' in text
        assert "No differences" not in office.browser(OPERATOR).get(f"/breaks/?server={server_id}").text
        assert "Nothing found" in office.browser(OPERATOR).get(f"/breaks/?server={server_id}&login=6").text
    finally:
        with office.session() as session:
            session.execute(delete(ServerBreak))
            session.commit()


def test_who_may_not_gets_in_nowhere(office, server_id):
    stranger = office.browser(NOTHING)
    assert stranger.get(PAGE).status_code == 403
    stranger.post(f"/connections/{server_id}/commands/pause", {"reason": "x"})
    assert office.row(Server, server_id).commands_paused_at is None


def test_pausing_wants_a_reason_and_is_audited_and_resuming_ends_it(office, server_id):
    operator = office.browser(OPERATOR)
    address = f"/connections/{server_id}/commands"
    refused = operator.post(f"{address}/pause", {"reason": " "})
    assert refused.status_code == 422
    assert "Please say why." in open_dialog(refused.text)
    assert f"{address}/pause" in open_dialog(refused.text)
    assert office.row(Server, server_id).commands_paused_at is None
    assert "Staff let nothing out to this server." in operator.post(f"{address}/pause", {"reason": "maintenance"}).text
    assert office.audited("server.commands_paused")[-1].reason == "maintenance"
    assert "Nothing was changed" in operator.post(f"{address}/pause", {"reason": "again"}).text
    assert "Resumed." in operator.post(f"{address}/resume").text
    assert office.row(Server, server_id).commands_paused_at is None
    assert operator.post(f"/connections/{server_id}/sideways/pause", {"reason": "x"}).status_code == 404


def test_an_operation_is_sent_again_only_with_a_reason_and_after_two_looks(office, server_id):
    operator = office.browser(OPERATOR)
    early, ripe = _operation(office, server_id, 1), None
    text = operator.get(PAGE).text
    assert "Send again" not in text
    operator.post(f"/connections/operations/{early}/resend", {"reason": "looked"})
    assert office.row(BalanceOperation, early).status == "unknown"
    with office.session() as session:
        session.get(BalanceOperation, early).looks = 2
        session.commit()
    ripe = early
    assert "Send again" in operator.get(PAGE).text
    refused = operator.post(f"/connections/operations/{ripe}/resend", {"reason": ""}).text
    assert "Please say how you know" in open_dialog(refused)
    operator.post(f"/connections/operations/{ripe}/resend", {"reason": "looked at the server"})
    assert office.row(BalanceOperation, ripe).status == "new"
    assert office.audited("operation.resend")[-1].reason == "looked at the server"


def test_an_event_that_still_cannot_be_booked_stays_and_can_be_dismissed_with_a_note(office, server_id):
    operator, letter = office.browser(OPERATOR), _letter(office, server_id)
    assert "unknown version" in operator.get(PAGE).text
    assert "still cannot be booked" in operator.post(f"/connections/letters/{letter}/replay").text
    assert "Please say why" in open_dialog(operator.post(f"/connections/letters/{letter}/dismiss", {"note": ""}).text)
    assert office.row(DeadLetter, letter).dismissed_at is None
    operator.post(f"/connections/letters/{letter}/dismiss", {"note": "a test of the bridge"})
    assert office.row(DeadLetter, letter).dismissed_at is not None
    with office.session() as session:
        assert session.scalar(text(QUEUES["Dead letters"][1])) == 0, "what was dismissed waits for nobody"
    assert "Dismissed" in operator.get("/deadletterview/list/").text
    assert "Operator" in operator.get(f"/deadletterview/show/{letter}").text, "who decided"
    assert "Every event was booked" in operator.get(PAGE).text


def test_a_failed_job_goes_back_to_its_queue_once(office, server_id):
    failure = JobFailure(
        job_id=uuid.uuid4().hex, queue="bulk", function="app.jobs.schedule.run_planned", arguments={}, error="X"
    )
    pk = _add(office, failure)
    operator = office.browser(OPERATOR)
    assert "run_planned" in operator.get(PAGE).text
    assert "on its queue again" in operator.post(f"/connections/jobs/{pk}/retry").text
    assert "a moment ago" in operator.post(f"/connections/jobs/{pk}/retry").text
    from app.jobs import queues

    waiting = [job.func_name for job in queues.queue(office.app.extensions["redis_client"], "bulk").jobs]
    assert waiting.count("app.jobs.schedule.run_planned") == 1
