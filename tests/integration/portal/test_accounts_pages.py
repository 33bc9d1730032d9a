"""Trading accounts in the portal: what is offered and why the rest is not, settings, practice money, states in words."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

import pytest
from flask import Flask
from sqlalchemy import select, update

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import changes, rules
from app.metatrader.accounts import VAULT_PURPOSE
from app.metatrader.rules import Draft
from app.models.clients import Client
from app.models.metatrader import AccountChange, BalanceOperation, Position, Product, Server, TradingAccount
from tests.integration.portal.conftest import Visitor

STAFF = Actor.staff(7)
CAP = Draft("Gulf rule", ("AE",), 100, protects_negative_balance=True, valid_from=date(2020, 1, 1))


@pytest.fixture
def products(database) -> dict[str, int]:
    """A live product, one beyond every cap, and a practice one."""
    with database.session() as session, unit_of_work(session, STAFF):
        server = Server(
            code="sim", name="Lotwise-Demo", platform="mt5_web", url="https://127.0.0.1:1", manager_login=1, time_zone="EET"
        )
        session.add(server)
        session.flush()
        made = {}
        for code, leverages, more in (
            ("std", [30, 100, 200], {"is_swap_free": True}),
            ("high", [400, 500], {"margin_mode": "netting"}),
            ("demo", [100, 500], {"is_demo": True, "demo_deposit_minor": 1_000_000}),
        ):
            product = Product(
                code=code, name=code.capitalize(), server_id=server.id, group=rf"g\{code}", currency="USD", leverages=leverages,
                **more,
            )  # fmt: skip
            session.add(product)
            session.flush()
            made[code] = product.id
        return made


@pytest.fixture
def approved(signed_in, database) -> Visitor:
    with database.session() as session:
        session.execute(update(Client).values(status="approved"))
        session.commit()
    return signed_in


@pytest.fixture
def account_id(database, client_id, products) -> int:
    return add_account(database, client_id, products["std"])


def add_account(database, client_id: int, product_id: int, **values) -> int:
    with database.session() as session, unit_of_work(session, STAFF):
        product = session.get_one(Product, product_id)
        given = {"leverage": 100, "status": "active", "login": 500_001, "opened_at": now(), "token": "A-0000000000001"}
        account = TradingAccount(
            client_id=client_id, product_id=product.id, server_id=product.server_id, currency="USD", **{**given, **values}
        )
        session.add(account)
        session.flush()
        return account.id


def save(database, model, row_id: int, **values) -> None:
    with database.session() as session, unit_of_work(session, STAFF):
        session.execute(update(model).where(model.id == row_id).values(**values))


def rows(database, model) -> list:
    with database.session() as session:
        found = session.scalars(select(model).order_by(model.id)).all()
        session.expunge_all()
        return list(found)


def finish(database, **values) -> None:
    """The trading server has done the last change."""
    with database.session() as session:
        session.execute(update(AccountChange).values(status="done", finished_at=now(), **values))
        session.commit()


def test_only_what_the_rules_allow_is_offered_and_the_page_says_why(approved, database, products):
    page = approved.get("/portal/accounts/open").text
    assert '<option value="500">1:500 (High, Demo)</option>' in page
    assert '<option value="100" selected>1:100 (Std, Demo)</option>' in page
    with database.session() as session:
        rules.save_rule(session, CAP, actor=STAFF, reason="law")
    page = approved.get("/portal/accounts/open").text
    assert "in your country the highest leverage is 1:100 (Gulf rule)" in page
    assert "Not offered to you" in page
    assert re.search(rf'value="{products["high"]}" required disabled', page)
    assert '<option value="200">' not in page
    assert "Swap-free" in page
    assert "one position per symbol" in page
    refused = approved.post("/portal/accounts/open", {"product": products["std"], "leverage": 200, "key": KEY})
    assert refused.status_code == 422
    assert "In your country the highest leverage is 1:100 (Gulf rule)." in refused.text
    assert rows(database, TradingAccount) == []


KEY = "5f0c7c1e-6a39-4a3c-9a55-1d9a2f6f5a01"


def test_sending_the_form_twice_opens_one_account(approved, database, products):
    wish = {"product": products["std"], "leverage": 30, "key": KEY}
    answers = [approved.post("/portal/accounts/open", wish) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0].location == answers[1].location
    assert len(rows(database, TradingAccount)) == 1
    other = approved.post("/portal/accounts/open", {**wish, "leverage": 100})
    assert other.status_code == 422
    assert "sent before, for another account" in other.text
    assert KEY not in other.text


def test_the_leverage_is_asked_for_and_shown_when_it_is_done(approved, database, account_id):
    path = f"/portal/accounts/{account_id}/settings/"
    saved = approved.post(path + "leverage", {"leverage-leverage": "200"}, page=path)
    assert (saved.status_code, saved.location) == (302, path)
    (change,) = rows(database, AccountChange)
    assert (change.kind, change.before, change.after, change.status) == ("leverage", "100", "200", "new")
    page = approved.get(path).text
    assert "Leverage: on its way to the trading server." in page
    assert "On its way" in page
    finish(database)
    part = approved.get(path + "live", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert "Done" in part


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("100", "The account has this leverage already."),
        ("300", "Please choose one of the offered leverages."),
        ("x", "offered"),
    ],
)
def test_a_leverage_that_cannot_be(approved, database, account_id, typed, words):
    path = f"/portal/accounts/{account_id}/settings/"
    refused = approved.post(path + "leverage", {"leverage-leverage": typed}, page=path)
    assert refused.status_code == 422
    assert words in refused.text
    assert rows(database, AccountChange) == []


def test_the_cap_stands_beside_the_choice(approved, database, account_id):
    with database.session() as session:
        rules.save_rule(session, CAP, actor=STAFF, reason="law")
    page = approved.get(f"/portal/accounts/{account_id}/settings/").text
    assert "In your country the highest leverage is 1:100 (Gulf rule)." in page
    assert 'value="200"' not in page


@pytest.mark.parametrize("which", ["main", "investor"])
def test_an_own_password(approved, database, account_id, which):
    path = f"/portal/accounts/{account_id}/settings/"
    weak = approved.post(f"{path}password/{which}", {f"{which}-password": "weakling"}, page=path)
    assert weak.status_code == 422
    assert "Please mix small and capital letters" in weak.text
    assert "weakling" not in weak.text
    assert approved.post(f"{path}password/{which}", {f"{which}-password": ""}, page=path).status_code == 422
    assert approved.post(f"{path}password/{which}", {f"{which}-password": "Own1!word"}, page=path).status_code == 302
    (change,) = rows(database, AccountChange)
    assert (change.kind, b"Own1!word" in change.password_sealed) == (f"{which}_password", False)
    busy = approved.post(f"{path}password/{which}", {f"{which}-password": "Own1!word"}, page=path)
    assert busy.status_code == 422
    assert "Another change of this account is under way." in busy.text
    assert approved.bare_post(f"{path}password/other").status_code in (400, 404)


def test_a_password_that_we_made_is_shown_once(approved, database, account_id, settings):
    from app.core.crypto import Vault

    with database.session() as session:
        vault = Vault(settings.document_key, VAULT_PURPOSE)
        changes.reset_password(session, vault, account_id=account_id, which="investor", actor=STAFF, reason="asked for")
    show = f"/portal/accounts/{account_id}"
    assert "Your new investor password is ready" not in approved.get(show).text
    finish(database)
    page = approved.get(show)
    assert "Your new investor password is ready" in page.text
    (change,) = rows(database, AccountChange)
    shown = approved.post(f"/portal/accounts/changes/{change.id}/password", page=show)
    assert shown.status_code == 200
    assert "Investor password" in shown.text
    assert "no-store" in shown.headers["Cache-Control"]
    assert len(re.search(r'data-copy="([^"]{12})"', shown.text).group(1)) == 12
    assert approved.post(f"/portal/accounts/changes/{change.id}/password", page="/portal/profile").status_code == 302
    assert "is ready" not in approved.get(show).text


def test_an_empty_account_is_closed_another_is_not(approved, database, account_id):
    path = f"/portal/accounts/{account_id}/settings/"
    save(database, TradingAccount, account_id, balance=Decimal(5))
    page = approved.get(path).text
    assert "when it is empty" in page
    assert "Close account …" not in page
    refused = approved.post(path + "close", page=path)
    assert refused.status_code == 422
    assert "There is still money or an open position" in refused.text
    save(database, TradingAccount, account_id, balance=Decimal(0))
    assert "Close account …" in approved.get(path).text
    assert approved.post(path + "close", page=path).status_code == 302
    assert [change.kind for change in rows(database, AccountChange)] == ["archive"]


@pytest.mark.parametrize(("status", "words"), [("disabled", "nobody can sign in"), ("archived", "This account is closed.")])
def test_states_are_said_in_words(approved, database, account_id, status, words):
    save(database, TradingAccount, account_id, status=status)
    page = approved.get(f"/portal/accounts/{account_id}").text
    assert words in page
    assert "500001" in page
    settings = approved.get(f"/portal/accounts/{account_id}/settings/")
    assert settings.status_code == (200 if status == "disabled" else 302)
    assert "leverage-leverage" not in settings.text
    refused = approved.post(
        f"/portal/accounts/{account_id}/settings/leverage", {"leverage-leverage": "200"}, page="/portal/profile"
    )
    assert refused.status_code == 422
    assert rows(database, AccountChange) == []


def test_positions_are_warned_about(approved, database, account_id):
    with database.session() as session, unit_of_work(session, STAFF):
        server_id = session.scalars(select(Server.id)).one()
        session.add(
            Position(
                server_id=server_id,
                ticket=1,
                login=500_001,
                trading_account_id=account_id,
                symbol="EURUSD",
                action=0,
                volume=100,
                price_open=1,
                price_current=1,
                profit=0,
                swap=0,
                opened_at=now(),
                update_ms=0,
            )
        )
    assert "A lower leverage needs more margin" in approved.get(f"/portal/accounts/{account_id}/settings/").text


def test_practice_money_is_filled_up(approved, database, client_id, products):
    account_id = add_account(database, client_id, products["demo"], balance=Decimal("2500.50"))
    show = f"/portal/accounts/{account_id}"
    page = approved.get(show).text
    assert "Add 7,499.50 USD" in page
    assert approved.post(f"{show}/top-up", page=show).status_code == 302
    (operation,) = rows(database, BalanceOperation)
    assert (operation.amount_minor, operation.purpose, operation.login) == (749_950, "demo_deposit", 500_001)
    again = approved.post(f"{show}/top-up", page=show, follow_redirects=True)
    assert "as much practice money as it began with" in again.text
    assert len(rows(database, BalanceOperation)) == 1
    save(database, TradingAccount, account_id, balance=Decimal(20_000))
    assert "Practice money</strong>" not in approved.get(show).text


def test_nobody_reaches_another_clients_account(another, make_client, database, account_id, app: Flask):
    make_client("stranger@example.com")
    another.sign_in("stranger@example.com")
    for path in (f"/portal/accounts/{account_id}/settings/", f"/portal/accounts/{account_id}/settings/live"):
        assert another.get(path).status_code == 404
    for path in ("settings/leverage", "settings/password/main", "settings/close", "top-up"):
        data = {"leverage-leverage": "200", "main-password": "Own1!word"}
        assert another.post(f"/portal/accounts/{account_id}/{path}", data, page="/portal/profile").status_code == 404
    assert another.post("/portal/accounts/changes/1/password", page="/portal/profile").status_code == 404
    assert rows(database, AccountChange) == []
