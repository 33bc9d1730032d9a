"""The page about clients' money, and who pays for a withdrawal at the payments desk."""

from __future__ import annotations

import csv
import html
import io
import re

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting, queries
from app.models.payments import Withdrawal
from app.payments import funding
from tests.integration.views.conftest import LIBRARY_WARNINGS

pytestmark = LIBRARY_WARNINGS

FINANCE, OFFICER = "Finance officer", "Payments officer"
SYSTEM = Actor.system("test")


def post(office, key: str, debited, credited, amount: Money) -> None:
    with office.session() as session, unit_of_work(session, SYSTEM):
        chart.open_accounts(session, debited, credited)
        posting.post(
            session, key=key, kind="test", effective_at=now(), actor=SYSTEM,
            legs=[posting.debit(debited, amount), posting.credit(credited, amount)],
        )  # fmt: skip


def test_a_shortage_is_told_and_leads_to_a_request_that_is_filled_in(office):
    krona = Money(12_300, "SEK")
    post(office, "sek", chart.mt_trading_counter("sim", "SEK"), chart.client_wallet(office.client_id, "SEK"), krona)
    page = office.browser(FINANCE).get("/client-money/")
    assert page.status_code == 200
    assert "Short" in page.text
    found = re.search(r'href="(/ledger/requests/adjustment[^"]*SEK[^"]*)"', page.text)
    assert found, "no request for own money"
    form = office.browser(FINANCE).get(html.unescape(found.group(1))).text
    for text in ("bank:house:client_money:SEK", "bank:house:own_money:SEK", "123.00"):
        assert text in form
    post(office, "sek-back", chart.client_wallet(office.client_id, "SEK"), chart.mt_trading_counter("sim", "SEK"), krona)


def test_who_may_only_look_is_offered_no_request(office):
    page = office.browser("Compliance officer").get("/client-money/")
    assert page.status_code == 200
    assert "adjustment" not in page.text


def test_the_page_as_a_file_and_as_of_a_day(office):
    browser = office.browser(FINANCE)
    answer = browser.get("/client-money/?export=csv")
    assert answer.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    usd = {(row["Part"], row["Of it"]): row["Amount"] for row in rows if row["Currency"] == "USD"}
    held, owed = float(usd["At hand", ""]), float(usd["Owed", ""])
    assert f"{held - owed:.2f}" == usd["Surplus", ""]
    assert browser.get("/client-money/?at=2020-01-01").status_code == 200
    for day in ("2099-01-01", "yesterday", "1"):
        refused = browser.get(f"/client-money/?at={day}")
        assert refused.status_code == 422
        assert "This day cannot be shown" in refused.text


def test_the_officer_reads_what_the_house_pays_before_and_after_approving(office):
    trading, wallet = chart.mt_trading_counter("sim", "USD"), chart.client_wallet(office.client_id, "USD")
    number, browser = office.withdrawal(5_000), office.browser(OFFICER)
    post(office, f"profit:{number}", trading, wallet, Money(50_000, "USD"))
    with office.session() as session:  # other tests have moved this client's money, too
        left = funding.of_withdrawal(session, session.get_one(Withdrawal, number)).brought
        free = queries.balance(session, wallet).available
    convert(office, min(left - Money(1_000, "USD"), free))
    queue = browser.get("/withdrawals/").text
    assert "Of it paid by the house" in queue
    page = browser.get(f"/withdrawals/{number}").text
    told = re.search(r"Of this, ([\d.,]+) USD is paid by the house", page)
    assert told, "nothing about the house"
    assert "own account shows" in page
    browser.post(f"/withdrawals/{number}/approve", page=f"/withdrawals/{number}")
    assert office.row(Withdrawal, number).state == "approved"
    after = browser.get(f"/withdrawals/{number}").text
    assert f"Of this, {told.group(1)} USD was paid by the house" in after
    paid = office.browser(FINANCE).get("/client-money/").text
    assert f"{told.group(1)} USD" in paid
    assert "Not seen yet" in paid


def convert(office, amount: Money) -> None:
    """The client buys euros, which takes what was paid in before any profit."""
    bought = Money(amount.amount_minor, "EUR")
    wallet, other = chart.client_wallet(office.client_id, "USD"), chart.client_wallet(office.client_id, "EUR")
    with office.session() as session, unit_of_work(session, SYSTEM):
        specs = (wallet, chart.fx_position("USD"), chart.fx_position("EUR"), other)
        chart.open_accounts(session, *specs)
        posting.post(
            session, key=f"conversion:{office.number()}", kind="conversion", effective_at=now(), actor=SYSTEM,
            legs=[
                posting.debit(wallet, amount), posting.credit(specs[1], amount),
                posting.debit(specs[2], bought), posting.credit(other, bought),
            ],
        )  # fmt: skip
