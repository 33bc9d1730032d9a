"""The pages for accounts, money and partners: what a client sees is the client's own, and bad input loses nothing."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.clients.passwords import hash_password
from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting
from app.models.clients import Client
from app.models.metatrader import TradingAccount
from app.models.payments import Deposit, Transfer, Withdrawal
from tests.integration.payments.conftest import add_account, add_cent_account, add_client

PASSWORD = "harbour-violet-lantern"


@pytest.fixture
def house(database) -> dict[str, int]:
    """Two clients; the first has an account and 500 USD in the wallet."""
    with database.session() as session:
        ids = {"elena": add_client(session, "elena@example.com"), "marek": add_client(session, "marek@example.com")}
        ids["account"] = add_account(session, ids["elena"])
        with unit_of_work(session, Actor.system("test")):
            for mail in ("elena", "marek"):
                session.get_one(Client, ids[mail]).password_hash = hash_password(PASSWORD)
            bank, wallet = chart.bank_client_money("test", "USD"), chart.client_wallet(ids["elena"], "USD")
            chart.open_accounts(session, bank, wallet)
            posting.post(
                session,
                key="opening",
                kind="migration_opening",
                effective_at=now(),
                actor=Actor.system("test"),
                legs=[posting.debit(bank, Money(50_000, "USD")), posting.credit(wallet, Money(50_000, "USD"))],
            )
    return ids


def signed_in(app: Flask, who: str) -> FlaskClient:
    browser = app.test_client()
    token = form_token(browser, "/portal/sign-in")
    answer = browser.post(
        "/portal/sign-in", data={"email": f"{who}@example.com", "password": PASSWORD, "csrf_token": token, "next": ""}
    )
    assert answer.status_code == 302
    return browser


def form_token(browser: FlaskClient, path: str) -> str:
    return re.search(r'name="csrf_token"[^>]*value="([^"]+)"', browser.get(path).text).group(1)


def form_key(browser: FlaskClient, path: str) -> str:
    return re.search(r'name="key"[^>]*value="([^"]+)"', browser.get(path).text).group(1)


def test_own_money_and_account(app, house):
    browser = signed_in(app, "elena")
    assert "500.00 USD" in browser.get("/portal/money/").text
    page = browser.get(f"/portal/accounts/{house['account']}")
    assert page.status_code == 200
    assert "5001" in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/portal/accounts/{account}",
        "/portal/accounts/{account}/live",
        "/portal/partner/live/figures",
        "/portal/partner/lines/1",
    ],
)
def test_another_clients_things_do_not_exist(app, house, path):
    assert signed_in(app, "marek").get(path.format(**house)).status_code == 404


def test_another_clients_password_and_withdrawal_do_not_exist(app, house):
    browser = signed_in(app, "marek")
    token = form_token(browser, "/portal/money/withdraw")
    for path in (f"/portal/accounts/{house['account']}/password", "/portal/money/withdrawals/1/cancel"):
        assert browser.post(path, data={"csrf_token": token}).status_code == 404


@pytest.mark.parametrize("path", ["accounts/", "money/", "money/deposit", "money/transfer", "partner/"])
def test_visitors_are_sent_to_sign_in(app, house, path):
    answer = app.test_client().get(f"/portal/{path}")
    assert answer.status_code == 302
    assert "/portal/sign-in" in answer.headers["Location"]


@pytest.mark.parametrize("amount", ["", "abc", "-5", "0", "1,5", "1e9", "NaN", "9" * 29, "1.001"])
def test_bad_amounts_keep_the_input_and_change_nothing(app, house, database, amount):
    browser = signed_in(app, "elena")
    for path, more in (
        ("/portal/money/transfer", {"direction": "to_account", "account": str(house["account"])}),
        ("/portal/money/withdraw", {"currency": "USD"}),
    ):
        token, key = form_token(browser, path), form_key(browser, path)
        answer = browser.post(path, data={"csrf_token": token, "key": key, "amount": amount, **more})
        assert answer.status_code == 422, path
        assert f'value="{amount}"' in answer.text
        assert "Traceback" not in answer.text
    with database.session() as session:
        assert session.query(Transfer).count() == session.query(Withdrawal).count() == session.query(Deposit).count() == 0


def test_forms_refuse_requests_without_their_token(app, house, database):
    browser = signed_in(app, "elena")
    answer = browser.post(
        "/portal/money/transfer",
        data={
            "key": "7f4f3c9e-6a75-4a1a-9a46-8f7d3d8c2b11",
            "amount": "10",
            "direction": "to_account",
            "account": str(house["account"]),
        },
    )
    assert answer.status_code == 400
    with database.session() as session:
        assert session.query(Transfer).count() == 0


def test_pressing_twice_moves_once(app, house, database):
    browser = signed_in(app, "elena")
    path = "/portal/money/transfer"
    data = {
        "csrf_token": form_token(browser, path),
        "key": form_key(browser, path),
        "amount": "100",
        "direction": "to_account",
        "account": str(house["account"]),
    }
    for _ in range(2):
        assert browser.post(path, data=data).status_code == 302
    with database.session() as session:
        assert session.query(Transfer).count() == 1
    assert "400.00 USD" in browser.get("/portal/money/").text


def test_more_than_there_is(app, house):
    browser = signed_in(app, "elena")
    path = "/portal/money/transfer"
    answer = browser.post(
        path,
        data={
            "csrf_token": form_token(browser, path),
            "key": form_key(browser, path),
            "amount": "500.01",
            "direction": "to_account",
            "account": str(house["account"]),
        },
    )
    assert answer.status_code == 422
    assert 'value="500.01"' in answer.text


def test_a_cent_account_shows_both_amounts_before_anything_moves(app, house, database):
    with database.session() as session:
        account_id = add_cent_account(session, house["elena"])
        session.get_one(TradingAccount, account_id).balance = Decimal("1234.56")
        session.commit()
    browser, path = signed_in(app, "elena"), "/portal/money/transfer"
    form = browser.get(f"{path}?account={account_id}&direction=to_wallet&amount=3.50").text
    assert "5002 · Cent · 1,234.56 USC = 12.34 USD" in form
    assert 'value="3.50"' in form
    data = {"csrf_token": form_token(browser, path), "key": form_key(browser, path), "account": str(account_id)}
    for amount, direction in (("500.01", "to_account"), ("12.35", "to_wallet"), ("1.005", "to_account")):
        refused = browser.post(path, data={**data, "amount": amount, "direction": direction})
        assert refused.status_code == 422, "what cannot move is not offered for confirmation"
        assert f'value="{amount}"' in refused.text

    asked = browser.post(path, data={**data, "amount": "10", "direction": "to_account"})
    assert asked.status_code == 200
    assert "10.00 USD" in asked.text
    assert "1,000.00 USC" in asked.text
    with database.session() as session:
        assert session.query(Transfer).count() == 0
    hidden = dict(re.findall(r'<input[^>]*?name="(\w+)"[^>]*?value="([^"]*)"', asked.text))
    assert hidden.keys() >= {"csrf_token", "key", "amount", "direction", "account", "confirmed"}
    for _ in range(2):
        assert browser.post(path, data=hidden).status_code == 302
    with database.session() as session:
        transfer = session.query(Transfer).one()
        assert (transfer.amount, transfer.operation.amount) == (Money(1_000, "USD"), Money(100_000, "USC"))
    page = browser.get("/portal/money/").text
    assert "490.00 USD" in page
    assert "1,000.00 USC" in page
    assert "worth 12.34 USD" in browser.get(f"/portal/accounts/{account_id}").text
    assert "worth 12.34 USD" in browser.get("/portal/accounts/").text


def test_the_reason_that_staff_typed_is_shown_as_they_typed_it(app, house, database):
    with database.session() as session:
        deposit = Deposit(
            public_id=uuid.uuid4(),
            client_id=house["elena"],
            connector="stripe",
            amount_minor=100,
            currency="USD",
            idempotency_key="k",
        )
        session.add(deposit)
        session.flush()
        session.add(
            Withdrawal(
                public_id=uuid.uuid4(), client_id=house["elena"], connector="stripe", deposit_id=deposit.id, amount_minor=100,
                currency="USD", state="rejected", idempotency_key="k", hold_id=uuid.uuid4(), requested_by="client:1",
                reason="Only 50% of it, <b>please</b>",
            )
        )  # fmt: skip
        session.commit()
    page = signed_in(app, "elena").get("/portal/money/")
    assert page.status_code == 200
    assert "Only 50% of it, &lt;b&gt;please&lt;/b&gt;" in page.text
