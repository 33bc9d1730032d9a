"""The key of a form: sent twice, at once or with other values, it makes one request, and nobody is told otherwise."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from app.core.money import Money
from app.models.payments import Deposit, Transfer, Withdrawal
from app.payments import transfers, withdrawals
from app.payments.errors import KeyReused
from tests.integration.payments.conftest import desk  # noqa: F401  the fixture

AT_ONCE = 6


def withdraw(desk, session, amount_minor=1_000, currency="USD", key="w"):  # noqa: F811
    money = Money(amount_minor, currency)
    return withdrawals.request_withdrawal(session, client_id=desk.client_id, amount=money, key=key, actor=desk.client)


def transfer(desk, session, amount_minor=1_000, direction="to_account", key="t"):  # noqa: F811
    return transfers.request_transfer(
        session,
        client_id=desk.client_id,
        trading_account_id=desk.account_id,
        direction=direction,
        amount=Money(amount_minor, "USD"),
        key=key,
        actor=desk.client,
    )


@pytest.mark.parametrize(("ask", "table"), [(withdraw, Withdrawal), (transfer, Transfer)])
def test_sent_at_once_is_one_request(desk, ask, table):  # noqa: F811
    desk.settled()

    def send(_: int) -> int:
        with desk.database.session() as session:
            return ask(desk, session).id

    with ThreadPoolExecutor(AT_ONCE) as people:
        assert len(set(people.map(send, range(AT_ONCE)))) == 1
    assert desk.session.scalar(select(func.count()).select_from(table)) == 1
    assert desk.wallet().available == Money(99_000, "USD")


def test_deposits_sent_at_once_are_one_attempt(desk):  # noqa: F811
    from dataclasses import replace

    def send(_: int) -> int:
        with desk.database.session() as session:
            return replace(desk, session=session).start(key="d").id

    with ThreadPoolExecutor(AT_ONCE) as people:
        assert len(set(people.map(send, range(AT_ONCE)))) == 1
    assert desk.session.scalar(select(func.count()).select_from(Deposit)) == 1


def test_other_values_under_the_same_key_are_refused(desk):  # noqa: F811
    desk.settled()
    desk.start(2_000, key="d")
    with pytest.raises(KeyReused):
        desk.start(3_000, key="d")
    withdraw(desk, desk.session)
    for other in ({"amount_minor": 2_000}, {"currency": "EUR"}):
        with pytest.raises(KeyReused):
            withdraw(desk, desk.session, **other)
    transfer(desk, desk.session)
    for other in ({"amount_minor": 2_000}, {"direction": "to_wallet"}):
        with pytest.raises(KeyReused):
            transfer(desk, desk.session, **other)
    assert desk.wallet().available == Money(98_000, "USD")
