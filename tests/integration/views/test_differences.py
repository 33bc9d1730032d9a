"""The pages of differences and of foreign operations: what stands on them, what each role may do, what is refused."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import delete, select

from app.core.actor import Actor
from app.core.clock import now
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.ledger import requests
from app.metatrader import booking, breaks, mirror, sync
from app.metatrader.servertime import server_zone
from app.models.controls import Alert, LedgerRequest
from app.models.metatrader import Deal, DealHead, Server, TradingAccount
from app.models.trading_desk import ForeignOperation, ServerBreak, ServerCheck
from tests.integration.views.conftest import LIBRARY_WARNINGS, open_dialog
from tests.unit.compliance import proofs
from tests.unit.metatrader.test_foreign import operation

pytestmark = LIBRARY_WARNINGS
OPERATOR, FINANCE, LOOKS_ONLY, NOTHING = "Operator", "Finance officer", "Compliance officer", "Partner manager"
BREAKS, FOREIGN = "/breaks/", "/foreign-operations/"
DAY_MS = 86_400_000


@pytest.fixture
def account(office):
    """The office's trading account; what the tests put into the queues is gone afterwards."""
    with office.session() as session:
        found = session.scalars(select(TradingAccount)).first()
        session.expunge_all()
    yield found
    with office.session() as session:
        for model in (Alert, ForeignOperation, ServerBreak, ServerCheck):
            session.execute(delete(model))
        session.commit()


def add(office, **fields) -> int:
    with office.session() as session:
        row = ServerBreak(**fields)
        session.add(row)
        session.commit()
        return row.id


def a_balance_break(office, account, difference="12.34") -> int:
    return add(
        office, server_id=account.server_id, kind="balance", subject=str(account.login), login=account.login,
        trading_account_id=account.id, here="100 USD", there="112.34 USD", cause="server_drift",
        repair={"difference": difference}, found_at=now() - timedelta(days=3),
    )  # fmt: skip


def test_empty_pages(office, account):
    answer = office.browser(OPERATOR).get(BREAKS)
    assert answer.status_code == 200
    assert "No differences" in answer.text
    assert "Not checked yet: " in answer.text
    assert "Nothing to be reviewed" in office.browser(OPERATOR).get(FOREIGN).text
    for page in (BREAKS, FOREIGN):
        assert office.browser(NOTHING).get(page).status_code == 403


def test_what_stands_on_the_page_of_differences(office, account):
    a_balance_break(office, account)
    with office.session() as session:
        session.add(
            ServerCheck(
                server_id=account.server_id, day=now().date(), source="platform", status="failed", error="Unreachable: x"
            )
        )
        session.commit()
    answer = office.browser(OPERATOR).get(BREAKS)
    for words in ("Balance differs", "100 USD", "112.34 USD", "the balance is not the sum of the deals", "3 days ago"):
        assert words in answer.text
    assert "Could not be done" in answer.text
    assert 'class="count"' in answer.text  # the menu says how many wait
    looked = office.browser(LOOKS_ONLY).get(BREAKS).text
    assert "Balance differs" in looked
    assert "Explain …" not in looked
    assert "Repair" not in looked.replace("Repair reads", "")
    assert office.browser(LOOKS_ONLY).bare_post(f"{BREAKS}1/repair").status_code in (400, 403)


def test_filters_and_the_file(office, account):
    a_balance_break(office, account)
    add(office, server_id=account.server_id, kind="unknown_login", subject="5", login=5, cause="not_imported")
    page = office.browser(OPERATOR)
    assert "Login without a client" not in page.get(f"{BREAKS}?kind=balance").text.partition("</form>")[2]
    assert "Nothing found" in page.get(f"{BREAKS}?login=99").text
    wrong = page.get(f"{BREAKS}?login=nobody")
    assert wrong.status_code == 422
    assert 'value="nobody"' in wrong.text
    rows = page.get(f"{BREAKS}?export=csv").text.splitlines()
    assert len(rows) == 3
    assert "Balance differs" in rows[1]


def test_a_repair_is_ordered_once(office, account):
    break_id = a_balance_break(office, account)
    answer = office.browser(OPERATOR).post(f"{BREAKS}{break_id}/repair", page=BREAKS)
    assert "Repair under way" in answer.text
    assert "Ordered." in answer.text
    with office.session() as session:
        events = session.scalars(select(Event).where(Event.type == "break.repair_ordered", Event.subject_id == break_id)).all()
    assert [event.payload["server_id"] for event in events] == [account.server_id]
    again = office.browser(OPERATOR).post(f"{BREAKS}{break_id}/repair", page=BREAKS)
    assert "was ordered before" in again.text
    assert len(office.audited("mt_break.repair")) == 1


def test_a_repair_that_failed_says_why_and_may_be_ordered_again(office, account):
    break_id = a_balance_break(office, account)
    with office.session() as session:
        row = session.get(ServerBreak, break_id)
        row.repair = {**row.repair, "ordered_at": "x", "error": "still_there"}
        session.commit()
    page = office.browser(OPERATOR).get(BREAKS).text
    assert "the difference is still there" in page
    assert f"{BREAKS}{break_id}/repair" in page


def test_an_explanation(office, account):
    break_id = a_balance_break(office, account)
    empty = office.browser(FINANCE).post(f"{BREAKS}{break_id}/explain", {"note": " "}, page=BREAKS)
    assert "Please explain it" in empty.text
    done = office.browser(FINANCE).post(f"{BREAKS}{break_id}/explain", {"note": "The <b>dealer</b> knows"}, page=BREAKS)
    assert "No differences" in done.text
    closed = office.browser(FINANCE).get(f"{BREAKS}?tab=closed").text
    assert "The &lt;b&gt;dealer&lt;/b&gt; knows" in closed
    assert office.browser(FINANCE).post(f"{BREAKS}999999/explain", {"note": "x"}, page=BREAKS).status_code == 404


def test_an_adjustment_is_proposed_with_evidence(office, account):
    break_id = a_balance_break(office, account)
    page = f"{BREAKS}{break_id}/adjust"
    browser = office.browser(FINANCE)
    form = browser.get(page)
    assert form.status_code == 200
    assert f"suspense:mt-{server_code(office, account)}:USD" in form.text
    assert office.browser(OPERATOR).get(page).status_code == 403
    moment = (now() - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M")
    refused = browser.post(page, {"account": "nonsense", "reason": "", "effective_at": moment}, page=page)
    assert refused.status_code == 422
    assert 'value="nonsense"' in refused.text
    assert "Please add a file" in refused.text
    sent = {
        "account": f"suspense:mt-{server_code(office, account)}:USD",
        "reason": "The dealer's mail",
        "effective_at": moment,
        "evidence": (io.BytesIO(proofs.picture()), "mail.jpg"),
    }
    done = browser.post(page, sent, page=page)
    assert "Nothing is posted until somebody else has approved it" in done.text
    request_id = office.row(ServerBreak, break_id).repair["request_id"]
    legs = {
        (leg["account"].partition(":")[0], leg["side"]): leg["amount_minor"]
        for leg in office.row(LedgerRequest, request_id).legs
    }
    assert legs == {("mt", "credit"): 1_234, ("suspense", "debit"): 1_234}
    assert f"Adjustment {request_id}" in browser.get(BREAKS).text
    with office.session() as session:
        requests.withdraw(session, request_id, Actor.staff(staff_id(session, request_id)))


def test_a_check_on_demand(office, account):
    browser, today = office.browser(OPERATOR), now().date()
    done = browser.post(f"{BREAKS}check", {"server": str(account.server_id), "day": today.isoformat()}, page=BREAKS)
    assert "the check begins within seconds" in done.text
    for day in ("2999-01-01", "yesterday"):
        refused = browser.post(f"{BREAKS}check", {"server": str(account.server_id), "day": day}, page=BREAKS)
        assert "Please give a day" in refused.text
    assert browser.post(f"{BREAKS}check", {"server": "77", "day": "2026-01-01"}, page=BREAKS).status_code == 404


def an_operation(office, account, ticket: int, *words: str, **more) -> int:
    """A foreign operation, booked and mirrored."""
    with office.session() as session:
        zone = server_zone(session.get(Server, account.server_id).time_zone)
        moment = zone.wall_ms(now() - timedelta(hours=1))
        deal = replace(operation(*words, **more), ticket=ticket, login=account.login, server_time_ms=moment)
        with unit_of_work(session, Actor.system("test")) as unit:
            booking.lock_server(session, account.server_id)
            at = zone.to_utc(moment)
            booking.book_deals(unit, account.server_id, [booking.DealReport(deal, at.utc, at.utc_offset_min)])
        mirror.mirror_deals(session)
        return session.scalars(select(ForeignOperation.id).where(ForeignOperation.deal_ticket == ticket)).one()


def test_a_review_that_moves_nothing(office, account):
    number = an_operation(office, account, 900_001, "Internal transfer", "-25")
    listed = office.browser(OPERATOR).get(FOREIGN).text
    assert "Internal transfer" in listed
    assert "25.00 USD" in listed
    page = f"{FOREIGN}{number}"
    browser = office.browser(OPERATOR)
    assert f"suspense:mt-{server_code(office, account)}:USD" in browser.get(page).text
    refused = browser.post(page, {"class_": "", "reason": "because", "effective_at": ""}, page=page)
    assert refused.status_code == 422
    assert "Please say what this operation was." in refused.text
    assert "because" in refused.text
    done = browser.post(page, {"class_": "transfer", "reason": "Its other half is on 100002", "effective_at": ""}, page=page)
    assert "Reviewed. The ledger is not changed." in done.text
    row = office.row(ForeignOperation, number)
    assert (row.classed_as, row.note, row.reviewed_at is not None) == ("transfer", "Its other half is on 100002", True)
    again = browser.post(page, {"class_": "bonus", "reason": "x"}, page="/")
    assert "was reviewed by somebody else" in again.text
    assert "Its other half" in office.browser(LOOKS_ONLY).get(f"{FOREIGN}?tab=reviewed&class=transfer&export=csv").text


def test_a_review_that_moves_money_is_a_request_for_another_person(office, account):
    number = an_operation(office, account, 900_002, "IB rebate November", "40")
    page = f"{FOREIGN}{number}"
    browser = office.browser(FINANCE)
    moment = (now() - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M")
    sent = {"class_": "rebate", "account": "expense:commission:USD", "reason": "Agreement 12", "effective_at": moment}
    refused = browser.post(page, dict(sent), page=page)
    assert refused.status_code == 422
    assert "Please add a file" in refused.text
    assert office.row(ForeignOperation, number).reviewed_at is None
    # What an operator may not propose is not done in part either.
    assert office.browser(OPERATOR).post(page, dict(sent), page=page).status_code == 403
    done = browser.post(page, {**sent, "evidence": (io.BytesIO(proofs.picture()), "a.jpg")}, page=page)
    assert "approved this request" in done.text
    with office.session() as session:
        request = session.scalars(
            select(LedgerRequest).where(LedgerRequest.idempotency_key == f"foreign-operation:{number}")
        ).one()
        requests.approve(session, request.id, Actor.staff(999))
        txn = session.get(LedgerRequest, request.id)
        assert {(leg["account"], leg["side"], leg["amount_minor"]) for leg in txn.legs} == {
            (f"suspense:mt-{server_code(office, account)}:USD", "credit", 4_000),
            ("expense:commission:USD", "debit", 4_000),
        }
    assert f"Request {request.id}" in browser.get(page).text


def test_what_moves_nothing_is_reviewed_at_once(office, account):
    credit = an_operation(office, account, 900_003, "credit line", "100", action=3)
    other = an_operation(office, account, 900_004, "Bonus", "5")
    browser = office.browser(OPERATOR)
    empty = browser.post(f"{FOREIGN}harmless", {"operation": [credit, other], "note": ""}, page=FOREIGN)
    assert "Please say how you know" in empty.text
    assert empty.status_code == 422
    assert 'id="harmless-note-error"' in empty.text
    assert re.search(rf'value="{credit}"[^>]* checked', empty.text), "what was selected stays selected"
    done = browser.post(f"{FOREIGN}harmless", {"operation": [credit, other], "note": "As agreed"}, page=FOREIGN)
    assert "Operations reviewed: 1." in done.text
    assert office.row(ForeignOperation, credit).reviewed_at is not None
    assert office.row(ForeignOperation, other).reviewed_at is None
    assert "Nothing of it lies in suspense." in browser.get(f"{FOREIGN}{credit}").text


def server_code(office, account) -> str:
    return office.row(Server, account.server_id).code


def staff_id(session, request_id: int) -> int:
    return int(session.get(LedgerRequest, request_id).proposed_by.partition(":")[2])


def test_a_void_deal_holds_nothing(office, account):
    number = an_operation(office, account, 900_005, "Deposit", "10")
    with office.session() as session:
        row = session.scalars(select(Deal).join(DealHead, DealHead.ticket == Deal.ticket).where(Deal.ticket == 900_005)).one()
        sync.void(session, row.server_id, [900_005], actor=Actor.system("test"))
        mirror.mirror_deals(session)
    assert "Nothing of it lies in suspense." in office.browser(OPERATOR).get(f"{FOREIGN}{number}").text
    assert Decimal(office.row(ForeignOperation, number).amount) == 10


def test_an_alert_leads_to_its_servers_queue_and_goes_with_what_raised_it(office, account):
    break_id = a_balance_break(office, account)
    with office.session() as session:
        breaks.watch(session)
        alert_id = session.scalars(select(Alert.id)).one()
    queue = f"{BREAKS}?server={account.server_id}"
    operator = office.browser(OPERATOR)
    told = "Differences have been open for too long."
    assert told in operator.get("/").text
    assert f'href="{queue}"' in operator.get("/").text, "from every page to the queue of this server"
    assert told not in office.browser(NOTHING).get("/").text
    page = operator.get(queue).text
    assert "Balance differs" in page
    assert "Nobody has said to look after it yet." in page
    assert "I look after it" not in office.browser(LOOKS_ONLY).get(queue).text

    acknowledged = operator.post(f"{BREAKS}alerts/{alert_id}/acknowledge", page=queue)
    assert "looks after it since" in acknowledged.text
    assert told not in operator.get("/").text, "everybody else is left alone"
    assert told in operator.get(BREAKS).text, "it is open, whoever looks after it"
    operator.post(f"{BREAKS}{break_id}/explain", {"note": "the dealer knows"}, page=BREAKS)
    assert told not in operator.get(BREAKS).text
    assert office.row(Alert, alert_id).closed_at is not None
    over = operator.post(f"{BREAKS}alerts/{alert_id}/acknowledge", page="/")
    assert "this alert has closed" in over.text.lower()
    assert operator.post(f"{BREAKS}alerts/999999/acknowledge", page="/").status_code == 404


def test_a_refused_dialog_comes_back_open_with_what_was_typed_over_the_same_list(office, account):
    break_id = a_balance_break(office, account)
    long = "x" * 1001
    finance = office.browser(FINANCE)
    address = f"{BREAKS}{break_id}/explain?kind=balance&server={account.server_id}"
    answer = finance.http.post(address, data={"note": long, "csrf_token": finance.token(BREAKS)})
    assert answer.status_code == 422
    dialog = open_dialog(answer.text)
    assert f'id="explain-{break_id}"' in dialog
    assert "Please explain it" in dialog
    assert f">{long}</textarea>" in dialog
    assert f"/explain?kind=balance&amp;server={account.server_id}" in answer.text, "and leads to the same list again"
    assert f'<form class="filter-bar" method="get" action="{BREAKS}">' in answer.text
    done = finance.http.post(address, data={"note": "fine", "csrf_token": finance.token(BREAKS)})
    assert done.headers["Location"] == f"{BREAKS}?kind=balance&server={account.server_id}"

    operator = office.browser(OPERATOR)
    future = (now() + timedelta(days=3)).date().isoformat()
    wrong = operator.post(f"{BREAKS}check", {"server": account.server_id, "day": future}, page=BREAKS)
    assert wrong.status_code == 422
    assert f'value="{future}"' in wrong.text
    assert "a day of the server&#39;s clock that has begun" in wrong.text
