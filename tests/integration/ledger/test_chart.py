"""Opening accounts: once, whoever asks and how often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text

from app.core.money import InvalidMoney
from app.core.uow import unit_of_work
from app.ledger import chart, errors
from app.models.ledger import Account, Currency


def test_opening_an_account_brings_its_currency(session):
    account_id = chart.open_account(session, chart.client_wallet(7, "KWD"))
    assert chart.open_account(session, chart.client_wallet(7, "KWD")) == account_id
    row = session.get_one(Account, account_id)
    assert (row.code, row.kind, row.currency, row.client_id, row.balance, row.held) == (
        "client:7:wallet:KWD",
        "liability",
        "KWD",
        7,
        0,
        0,
    )
    assert session.get_one(Currency, "KWD").exponent == 3


def test_opening_several(session):
    wallet, fees = chart.client_wallet(7, "USD"), chart.fees("USD")
    ids = chart.open_accounts(session, wallet, fees)
    assert ids == {wallet.code: chart.open_account(session, wallet), fees.code: chart.open_account(session, fees)}
    assert chart.open_accounts(session) == {}


@pytest.mark.parametrize(
    "other",
    [
        chart.AccountSpec("client:7:wallet:USD", "asset", "USD", client_id=7),
        chart.AccountSpec("client:7:wallet:USD", "liability", "USD", may_go_negative=True, client_id=7),
        chart.AccountSpec("client:7:wallet:USD", "liability", "EUR", client_id=7),
    ],
)
def test_an_account_keeps_its_nature(session, other):
    chart.open_account(session, chart.client_wallet(7, "USD"))
    with pytest.raises(errors.AccountMismatch):
        chart.open_account(session, other)


def test_a_currency_keeps_its_exponent(session):
    session.execute(text("INSERT INTO ledger.currency (code, exponent) VALUES ('USD', 3)"))
    with pytest.raises(errors.AccountMismatch):
        chart.open_account(session, chart.client_wallet(7, "USD"))


def test_an_unknown_currency(session):
    with pytest.raises(InvalidMoney):
        chart.open_account(session, chart.AccountSpec("x", "asset", "XYZ"))
    assert session.scalar(select(func.count()).select_from(Currency)) == 0


def test_many_open_the_same_accounts_at_once(database, book_of):
    specs = [chart.client_wallet(n, currency) for n in range(1, 6) for currency in ("USD", "EUR")]

    def open_all(turn):
        with database.session() as session, unit_of_work(session, book_of(session).actor):
            return chart.open_accounts(session, *(specs if turn % 2 else specs[::-1]))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(open_all, range(8)))
    assert all(result == results[0] for result in results)
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Account)) == len(specs)
