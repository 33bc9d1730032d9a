"""Transfers follow their operation at the server, whatever order its facts arrive in."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from app.core.actor import Actor
from app.core.errors import InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, queries
from app.ledger.errors import InsufficientFunds
from app.metatrader import commands
from app.models.metatrader import BalanceOperation, TradingAccount
from app.models.payments import Transfer
from app.payments import transfers
from app.payments.errors import NotEnoughOnAccount, WrongCurrency
from tests.integration.payments.conftest import add_client


def move(desk, amount_minor=60_000, direction="to_account", key="t1", currency="USD") -> Transfer:
    return transfers.request_transfer(
        desk.session, client_id=desk.client_id, trading_account_id=desk.account_id, direction=direction,
        amount=Money(amount_minor, currency), key=key, actor=desk.client,
    )  # fmt: skip


def follow(desk, operation_id: int, status: str) -> str:
    """Bring the operation to a status as the trading link would, and let the transfer follow."""
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        if status == "done":
            commands.finish_operation(unit, operation_id, 777)
        else:
            desk.session.get_one(BalanceOperation, operation_id).status = status
        desk.session.flush()
        desk.session.expire_all()
        transfers.follow_operation(unit, operation_id)
    return desk.session.scalars(select(Transfer.state)).one()


def on_account(desk) -> Money:
    return queries.balance(desk.session, chart.mt_balance("sim", 5001, "USD")).posted


def test_to_the_account(desk):
    desk.settled(100_000)
    transfer = move(desk)
    assert desk.wallet() == queries.Balance(Money(100_000, "USD"), Money(60_000, "USD"))
    assert follow(desk, transfer.operation_id, "sending") == "sending"
    assert follow(desk, transfer.operation_id, "unknown") == "unknown"
    assert follow(desk, transfer.operation_id, "done") == "done"
    assert desk.wallet() == queries.Balance(Money(40_000, "USD"), Money(0, "USD"))
    assert on_account(desk) == Money(60_000, "USD")
    assert follow(desk, transfer.operation_id, "done") == "done"
    assert on_account(desk) == Money(60_000, "USD")


def test_done_without_ever_having_seen_sending(desk):
    desk.settled(100_000)
    transfer = move(desk)
    assert follow(desk, transfer.operation_id, "done") == "done"
    assert on_account(desk) == Money(60_000, "USD")


def test_refused_by_the_server_frees_the_money(desk):
    desk.settled(100_000)
    transfer = move(desk)
    assert follow(desk, transfer.operation_id, "failed") == "failed"
    assert desk.wallet() == queries.Balance(Money(100_000, "USD"), Money(0, "USD"))


def test_back_to_the_wallet(desk):
    desk.settled(100_000)
    transfer = move(desk)
    follow(desk, transfer.operation_id, "done")
    desk.session.get_one(TradingAccount, desk.account_id).balance = 600
    desk.session.commit()
    back = move(desk, 20_000, "to_wallet", key="t2")
    operation = desk.session.get_one(BalanceOperation, back.operation_id)
    assert operation.amount_minor == -20_000
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        commands.finish_operation(unit, operation.id, 778)
        desk.session.expire_all()
        transfers.follow_operation(unit, operation.id)
    assert desk.wallet().posted == Money(60_000, "USD")
    assert on_account(desk) == Money(40_000, "USD")


def test_refusals_change_nothing(desk):
    desk.settled(100_000)
    stranger = add_client(desk.session, "stranger@example.com")
    with pytest.raises(InsufficientFunds):
        move(desk, 100_001)
    with pytest.raises(InvalidInput):
        move(desk, 0)
    with pytest.raises(WrongCurrency):
        move(desk, 100, currency="EUR")
    with pytest.raises(NotEnoughOnAccount):
        move(desk, 100, "to_wallet")
    with pytest.raises(NotFound):
        transfers.request_transfer(
            desk.session, client_id=stranger, trading_account_id=desk.account_id, direction="to_account",
            amount=Money(100, "USD"), key="x", actor=Actor.client(stranger),
        )  # fmt: skip
    assert desk.session.scalar(select(func.count()).select_from(Transfer)) == 0
    assert desk.wallet() == queries.Balance(Money(100_000, "USD"), Money(0, "USD"))


def test_pressing_twice_is_one_transfer(desk):
    desk.settled(100_000)
    assert move(desk, key="same").id == move(desk, key="same").id
    assert desk.session.scalar(select(func.count()).select_from(BalanceOperation)) == 1
