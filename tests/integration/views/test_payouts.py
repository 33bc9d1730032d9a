"""Commission payouts in the back office: a run built by one person, decided line by line by another; held, paid, taken back."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from html import unescape

import pytest
from sqlalchemy import select, update

from app.commissions import payouts
from app.core.clock import now
from app.core.money import Money
from app.ledger import chart, queries
from app.models.clients import Client
from app.models.commissions import Plan
from app.models.payouts import Payout, PayoutRun
from config import Settings
from tests.integration.commissions.brokerage import build
from tests.integration.commissions.earnings import Earnings, nowhere, settled
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office, an_office

pytestmark = LIBRARY_WARNINGS


@dataclass(frozen=True)
class House:
    """Two IBs with settled commission; the second without documents, so that its line has a warning."""

    plain: int
    warned: int


@pytest.fixture(scope="module")
def office(template: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An office of its own: the documents of these IBs are rows without files."""
    with an_office(template, tmp_path_factory.mktemp("payouts"), first_number=180) as made:
        yield made


@pytest.fixture
def house(office: Office) -> House:
    with office.session() as session:
        earnings = Earnings(build(session), minute=office.number() % 180 * 3)
        found = House(earnings.ib("1"), earnings.ib("2", documents=False))
        session.commit()
        return found


@pytest.fixture(scope="module")
def finance(office: Office) -> Browser:
    return office.browser("Finance officer")


@pytest.fixture(scope="module")
def other(office: Office) -> Browser:
    """Somebody else who may decide."""
    return office.browser("Admin")


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def proposed(browser: Browser) -> int:
    """A run of all that is settled, proposed on the page; its number."""
    until = f"{now():%Y-%m-%dT%H:%M}"
    answer = browser.post(
        "/payout-runs/new", {"until": until, "reason": "November", "action": "propose"}, page="/payout-runs/new"
    )
    assert answer.status_code == 200, words(answer.text)[:2000]
    found = re.search(r"/payout-runs/(\d+)$", answer.request.path)
    assert found, answer.request.path
    return int(found.group(1))


def lines(office: Office, run_id: int) -> dict[int, Payout]:
    """The lines of a run by IB."""
    with office.session() as session:
        run = session.get_one(PayoutRun, run_id)
        found = {one.ib_id: one for one in run.payouts}
        session.expunge_all()
        return found


def age(office: Office) -> None:
    """What was settled in this minute lies before it now."""
    with office.session() as session:
        settled(session, now() - timedelta(days=1))
        session.commit()


def test_the_preview_says_who_gets_what_and_who_gets_nothing(office, house, finance):
    page = finance.get("/payout-runs/new").text
    assert "Build a run" in page
    assert "In its hold days, or settled later" in page
    age(office)
    shown = words(finance.get("/payout-runs/new").text)
    assert "7.00 USD" in shown
    assert "14.00 USD" in shown
    assert "No approved document: identity, address." in shown


def test_a_run_without_reason_or_day_is_refused_beside_the_field(office, house, finance):
    answer = finance.post("/payout-runs/new", {"until": "x", "action": "propose"}, page="/payout-runs/new")
    assert answer.status_code == 422
    assert "Please give a day and a time" in answer.text
    age(office)
    until = f"{now():%Y-%m-%dT%H:%M}"
    answer = finance.post("/payout-runs/new", {"until": until, "action": "propose"}, page="/payout-runs/new")
    assert (answer.status_code, "Please give a reason." in answer.text) == (422, True)
    until = f"{now() + timedelta(days=1):%Y-%m-%dT%H:%M}"
    answer = finance.post("/payout-runs/new", {"until": until, "reason": "r", "action": "propose"}, page="/payout-runs/new")
    assert (answer.status_code, "This moment has not come yet." in answer.text) == (422, True)


def test_a_run_from_the_form_to_the_wallet(office, house, finance, other):
    age(office)
    run_id = proposed(finance)
    found = lines(office, run_id)
    page = f"/payout-runs/{run_id}"
    assert "You proposed this run, so somebody else must decide." in finance.get(page).text
    assert finance.post(f"{page}/approve", {}, page=page).status_code == 422 or "You proposed" in finance.get(page).text
    assert lines(office, run_id)[house.plain].state == "proposed"

    warned = found[house.warned]
    named = {f"verdict-{one.id}": "pay" for one in found.values()}
    refused = other.post(f"{page}/approve", {**named, f"reason-{found[house.plain].id}": "typed before"}, page=page)
    assert refused.status_code == 422
    assert "Please give a reason." in refused.text
    assert "typed before" in refused.text
    assert f'id="problem-{warned.id}"' in refused.text

    reasons = {f"reason-{one.id}": "papers seen" for one in found.values() if one.warnings}
    unseen = other.post(f"{page}/approve", {**named, **reasons}, page=page)
    assert "New warnings have come up" in unseen.text
    shown = dict(re.findall(r'name="(seen-\d+)" value="([^"]*)"', unseen.text))
    assert shown[f"seen-{warned.id}"] == "documents"
    answer = other.post(f"{page}/approve", {**named, **reasons, **shown}, page=page)
    assert "Approved." in words(answer.text)
    after = lines(office, run_id)
    assert {one.state for one in after.values()} == {"approved"}
    with office.session() as session:
        for one in after.values():
            assert payouts.pay(session, one.id, nowhere) == "paid"
        plain = after[house.plain]
        txn_id = session.get_one(Payout, plain.id).ledger_txn_id
        wallet = queries.balance(session, chart.client_wallet(plain.client_id, "USD"))
        assert wallet.posted == Money(700, "USD")
    caused = finance.get(f"/payouts/{plain.id}").text
    assert str(txn_id) in caused
    address = re.search(rf'href="([^"]*{txn_id}[^"]*)"', caused)
    assert address
    assert f'href="/payouts/{plain.id}"' in finance.get(address.group(1)).text


def test_hold_then_decide_then_take_back(office, house, finance, other):
    age(office)
    run_id = proposed(finance)
    found = lines(office, run_id)
    verdicts = {f"verdict-{one.id}": "hold" for one in found.values()}
    reasons = {f"reason-{one.id}": "look again" for one in found.values()}
    page = f"/payout-runs/{run_id}"
    assert "Approved." in other.post(f"{page}/approve", {**verdicts, **reasons}, page=page).text
    plain, warned = found[house.plain].id, found[house.warned].id
    assert "look again" in finance.get(f"/payouts/{plain}").text

    data = {"verdict": "pay", "reason": "all is well"}
    assert "proposed" in words(finance.post(f"/payouts/{plain}/decide", data, page=page).text)
    assert office.row(Payout, plain).state == "held"
    assert "Please give a reason." in other.post(f"/payouts/{plain}/decide", {"verdict": "pay"}, page=page).text
    assert "Approved." in other.post(f"/payouts/{plain}/decide", data, page=page).text
    assert "Rejected." in other.post(f"/payouts/{warned}/decide", {**data, "verdict": "reject"}, page=page).text
    with office.session() as session:
        payouts.pay(session, plain, nowhere)

    asked = finance.post(f"/payouts/{plain}/reverse", {"reason": "wrong client"}, page=page)
    assert "Proposed." in asked.text
    found_reversal = other.get(f"/payouts/{plain}").text
    number = re.search(rf"/payouts/{plain}/reversals/(\d+)/approve", found_reversal)
    assert number
    own = finance.post(f"/payouts/{plain}/reversals/{number.group(1)}/approve", {}, page=page)
    assert office.row(Payout, plain).state == "paid", words(own.text)
    assert "Taken back." in other.post(f"/payouts/{plain}/reversals/{number.group(1)}/approve", {}, page=page).text
    assert office.row(Payout, plain).state == "reversed"


def test_a_rejected_run_frees_the_money_and_a_withdrawn_one_too(office, house, finance, other):
    age(office)
    for who, verb, state in ((other, "reject", "rejected"), (finance, "withdraw", "cancelled")):
        run_id = proposed(finance)
        page = f"/payout-runs/{run_id}"
        who.post(f"{page}/{verb}", {"reason": "wrong month"}, page=page)
        assert {one.state for one in lines(office, run_id).values()} == {state}


def test_lists_filters_and_files(office, house, finance, other):
    age(office)
    run_id = proposed(finance)
    found = lines(office, run_id)
    assert f"/payouts/{found[house.warned].id}" in finance.get(f"/payout-runs/{run_id}?lines=warned").text
    assert f'/payouts/{found[house.warned].id}"' not in finance.get(f"/payout-runs/{run_id}?lines=plain").text
    assert f"/payouts/{found[house.plain].id}" in finance.get(f"/payouts/?ib={house.plain}&state=proposed").text
    assert finance.get("/payouts/?state=nonsense").status_code == 422

    for path in (f"/payout-runs/{run_id}?export=", f"/payouts/?ib={house.plain}&export="):
        told = finance.get(f"{path}csv").text
        assert f"{found[house.plain].id},{run_id},{house.plain}," in told
        assert "7.00,USD,Wallet,In a run" in told
        book = zipfile.ZipFile(io.BytesIO(finance.get(f"{path}xlsx").data))
        assert "xl/worksheets/sheet1.xml" in book.namelist()
    assert finance.get("/payout-runs/").status_code == 200
    assert "Elena" not in finance.get(f"/payouts/{found[house.plain].id}").text
    other.post(f"/payout-runs/{run_id}/reject", {"reason": "done looking"}, page=f"/payout-runs/{run_id}")


def test_what_does_not_exist_is_not_found(finance):
    for path in ("/payouts/999999", "/payout-runs/999999", "/payouts/999999/statement.pdf"):
        assert finance.get(path).status_code == 404


def test_a_name_with_markup_stays_text(office, house, finance):
    with office.session() as session:
        session.execute(update(Client).values(last_name="<b>Broker</b>").where(Client.first_name == "Ines"))
        session.commit()
    age(office)
    assert "<b>Broker" not in finance.get("/payout-runs/new").text


def test_payment_terms_are_changed_on_their_page(office, house, finance):
    with office.session() as session:
        plan_id = session.scalars(select(Plan.id).order_by(Plan.id)).first()
    page = f"/payment-terms/{plan_id}"
    data = {"settle_every": "day", "hold_days": "x", "minimum": "1.234", "reason": ""}
    assert finance.post(page, data, page=page).status_code == 422
    refused = finance.post(page, {**data, "hold_days": "7"}, page=page)
    assert (refused.status_code, "USD has 2 decimals at most." in refused.text) == (422, True)
    refused = finance.post(page, {**data, "hold_days": "400", "minimum": "50"}, page=page)
    assert "from 0 to 366" in refused.text
    assert "Please give a reason." in refused.text
    answer = finance.post(page, {**data, "hold_days": "7", "minimum": "50", "reason": "agreed"}, page=page)
    assert "Changed." in answer.text
    assert "50.00 USD" in answer.text
    assert finance.get("/payment-terms/999999").status_code == 404


def test_an_ibs_currency_is_changed_on_a_page(office, house, finance):
    page = "/payment-terms/currency"
    assert "Change an IB's currency" in words(finance.get("/payment-terms/").text)
    assert f'value="{house.plain}"' in finance.get(f"{page}?ib={house.plain}").text
    data = {"ib_id": str(house.plain), "currency": " usd ", "reason": "agreed"}
    refused = finance.post(page, {**data, "currency": "nonsense", "reason": ""}, page=page)
    assert (refused.status_code, "such as EUR" in refused.text, "Please give a reason." in refused.text) == (422, True, True)
    assert "There is no IB of this number." in finance.post(page, {**data, "ib_id": "999999"}, page=page).text
    assert "The next settlement of this IB is in USD." in finance.post(page, data, page=page).text
