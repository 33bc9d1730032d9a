"""The IB's payouts in the portal: asked for, cancelled, followed; the own ones only."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select, update

from app.commissions import payout_runs, payout_statements, payouts
from app.commissions.payout_runs import Decision
from app.core.clock import now
from app.models.clients import Client
from app.models.commissions import Plan
from app.models.metatrader import TradingAccount
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout
from tests.integration.commissions.brokerage import build
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere
from tests.integration.portal.conftest import Visitor

PAGE, NEW = "/portal/partner/payouts", "/portal/partner/payouts/new"


@pytest.fixture
def ib_id(database, make_client, visitor: Visitor) -> int:
    """An IB who has earned 21.00 USD, signed in."""
    make_client()
    with database.session() as session:
        hashed = session.scalars(select(Client.password_hash)).one()
        earnings = Earnings(build(session))
        found = earnings.ib("3")
        client_id = earnings.client_of(found)
        values = {"password_hash": hashed, "email": "ines@example.com"}
        session.execute(update(Client).where(Client.id == client_id).values(**values))
        earnings.house.account(client_id)
        session.commit()
    assert visitor.sign_in("ines@example.com").status_code == 302
    return found


def newest(database) -> Payout:
    with database.session() as session:
        found = session.scalars(select(Payout).order_by(Payout.id.desc()).limit(1)).one()
        session.expunge_all()
        return found


def key_of(page: str) -> str:
    found = re.search(r'name="key"[^>]*value="([^"]+)"', page)
    assert found
    return found.group(1)


def ask(visitor: Visitor, amount: str, destination: str = "wallet"):
    data = {"amount": amount, "destination": destination, "key": key_of(visitor.get(NEW).text)}
    return visitor.post(NEW, data)


def test_asked_for_and_cancelled(visitor, ib_id, database):
    page = visitor.get(PAGE).text
    assert "21.00 USD" in page
    assert "No payouts yet" in page
    assert ask(visitor, "10").location == PAGE
    page = visitor.get(PAGE).text
    assert "Asked for" in page
    assert "11.00 USD" in page
    assert "A payout of 10.00 USD waits already" in visitor.get(NEW).text
    payout_id = newest(database).id
    assert visitor.post(f"{PAGE}/{payout_id}/cancel", page=PAGE).location == PAGE
    assert newest(database).state == "cancelled"
    assert "Cancelled" in visitor.get(PAGE).text


@pytest.mark.parametrize(
    ("amount", "destination", "words"),
    [
        ("21.01", "wallet", "This is more than you can be paid now."),
        ("0", "wallet", "above zero"),
        ("ten", "wallet", "Please write the amount"),
        ("5", "moon", "Not a valid choice"),
        ("5", "account-987654", "Not a valid choice"),
        ("5", "withdrawal", "Not a valid choice"),
    ],
)
def test_what_is_refused_says_why_and_keeps_the_input(visitor, ib_id, database, amount, destination, words):
    answer = ask(visitor, amount, destination)
    assert answer.status_code == 422
    assert words in answer.text
    assert f'value="{amount}"' in answer.text
    with database.session() as session:
        assert session.scalars(select(Payout)).all() == []


def test_to_an_own_trading_account(visitor, ib_id, database):
    with database.session() as session:
        own = session.scalars(select(TradingAccount.id).order_by(TradingAccount.id.desc()).limit(1)).one()
    assert f"account-{own}" in visitor.get(NEW).text
    assert ask(visitor, "5", f"account-{own}").status_code == 302
    found = newest(database)
    assert (found.destination, found.trading_account_id) == ("account", own)


def test_pressed_twice_it_is_one_request(visitor, ib_id, database):
    data = {"amount": "5", "destination": "wallet", "key": key_of(visitor.get(NEW).text)}
    token = visitor.token(NEW)
    for _ in range(2):
        assert visitor.bare_post(NEW, {**data, "csrf_token": token}).status_code == 302
    with database.session() as session:
        assert len(session.scalars(select(Payout)).all()) == 1


def test_hold_days_and_the_minimum_are_told(visitor, ib_id, database):
    with database.session() as session:
        session.execute(update(Plan).values(hold_days=7, min_payout_minor=5_000))
        session.commit()
    page = visitor.get(PAGE).text
    assert "paid when they are over" in page
    assert "the least is 50.00 USD" in page
    assert "Nothing can be paid at this moment" in visitor.get(NEW).text


def test_paid_with_its_statement_and_rejected_with_the_reason(visitor, ib_id, database):
    ask(visitor, "10")
    with database.session() as session:
        run = payout_runs.propose_run(session, until=now(), reason="r", actor=FINANCE)
        payout_id = run.payouts[0].id
        payout_runs.approve_run(session, run.id, decisions={payout_id: Decision("pay", "r")}, actor=OTHER)
        payouts.pay(session, payout_id, nowhere)
        payout_statements.keep_pdf(session, payout_id, b"%PDF-1.7")
        session.commit()
    assert ">Paid<" in visitor.get(PAGE).text
    file = visitor.get(f"{PAGE}/{payout_id}/statement.pdf")
    assert (file.data, file.mimetype) == (b"%PDF-1.7", "application/pdf")
    answer = visitor.post(f"{PAGE}/{payout_id}/cancel", page=PAGE, follow_redirects=True)
    assert "cannot be cancelled any more" in answer.text

    ask(visitor, "5")
    with database.session() as session:
        run = payout_runs.propose_run(session, until=now(), reason="r", actor=FINANCE, requests_only=True)
        decisions = {run.payouts[0].id: Decision("reject", "Send us your new papers")}
        payout_runs.approve_run(session, run.id, decisions=decisions, actor=OTHER)
    page = visitor.get(f"{PAGE}/live").text
    assert "Not paid" in page
    assert "Send us your new papers" in page


def test_another_s_payout_is_not_there(visitor, ib_id, database, another):
    ask(visitor, "10")
    payout_id = newest(database).id
    another.sign_in()
    token = another.token("/portal/profile")
    for path in (PAGE, NEW, f"{PAGE}/live", f"{PAGE}/{payout_id}/statement.pdf"):
        assert another.get(path).status_code == 404, path
    assert another.bare_post(f"{PAGE}/{payout_id}/cancel", {"csrf_token": token}).status_code == 404
    with database.session() as session:
        earnings = Earnings(build(session), minute=5)
        other = earnings.client_of(earnings.ib("1"))
        hashed = session.scalars(select(Client.password_hash).where(Client.email == "ines@example.com")).one()
        values = {"password_hash": hashed, "email": "olga@example.com"}
        session.execute(update(Client).where(Client.id == other).values(**values))
        session.commit()
    third = Visitor(another.http.application.test_client(), address="192.0.2.98")
    third.sign_in("olga@example.com")
    assert f"/{payout_id}/cancel" not in third.get(PAGE).text
    assert third.get(f"{PAGE}/{payout_id}/statement.pdf").status_code == 404
    assert third.bare_post(f"{PAGE}/{payout_id}/cancel", {"csrf_token": third.token(PAGE)}).status_code == 404
    assert newest(database).state == "requested"


def test_money_in_a_currency_of_before_is_shown_and_comes_by_itself(visitor, ib_id, database):
    with database.session() as session:
        session.execute(update(IntroducingBroker).values(currency="EUR"))
        session.commit()
    assert "21.00 USD stand in a currency that you were paid in before" in visitor.get(PAGE).text
    with database.session() as session:
        run = payout_runs.propose_run(session, until=now(), reason="r", actor=FINANCE)
        payout_runs.approve_run(session, run.id, decisions={}, actor=OTHER)
        payouts.pay(session, run.payouts[0].id, nowhere)
    page = visitor.get(PAGE).text
    assert "stand in a currency" not in page
    assert "and 21.00 USD" in page


def test_the_page_of_a_cancelled_request_sent_again_is_asked_anew(visitor, ib_id, database):
    data = {"amount": "10", "destination": "wallet", "key": key_of(visitor.get(NEW).text)}
    visitor.post(NEW, data)
    visitor.post(f"{PAGE}/{newest(database).id}/cancel", page=PAGE)
    refused = visitor.post(NEW, data)
    assert refused.status_code == 422
    assert "please send it again" in refused.text
    assert visitor.post(NEW, {**data, "key": key_of(refused.text)}).location == PAGE
    assert newest(database).state == "requested"
