"""Transfers follow their operation at the server, whatever order its facts arrive in."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import pytest
from sqlalchemy import func, select

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, proofs, queries, revaluation
from app.ledger.errors import InsufficientFunds
from app.ledger.proofs import causes, segregation
from app.metatrader import commands
from app.models.ledger import Account, Entry
from app.models.metatrader import BalanceOperation, TradingAccount
from app.models.payments import Transfer
from app.payments import transfers
from app.payments.errors import NotEnoughOnAccount, WrongCurrency
from app.reporting import statement
from tests.integration.payments.conftest import add_cent_account, add_client


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


# ── cent accounts: the wallet is in dollars, the account in cents of them ─────────────────────────────────────────────────


def move_cents(desk, account_id, amount_minor, direction, key) -> Transfer:
    return transfers.request_transfer(
        desk.session, client_id=desk.client_id, trading_account_id=account_id, direction=direction,
        amount=Money(amount_minor, "USD"), key=key, actor=desk.client,
    )  # fmt: skip


def finished(desk, transfer: Transfer, ticket: int, status: str = "done") -> Transfer:
    operation_id, transfer_id = transfer.operation_id, transfer.id
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        if status == "done":
            commands.finish_operation(unit, operation_id, ticket)
        else:
            desk.session.get_one(BalanceOperation, operation_id).status = status
            desk.session.flush()
        desk.session.expire_all()
        transfers.follow_operation(unit, operation_id)
    return desk.session.get_one(Transfer, transfer_id)


def legs(desk, transfer: Transfer) -> dict[str, int]:
    rows = desk.session.execute(
        select(Account.code, Entry.credit - Entry.debit)
        .join(Entry, Entry.account_id == Account.id)
        .where(Entry.txn_id == transfer.ledger_txn_id)
    )
    return {row[0]: row[1] for row in rows}


@pytest.fixture
def cents(desk) -> int:
    desk.settled(100_000)
    return add_cent_account(desk.session, desk.client_id)


def test_a_dollar_is_a_hundred_cents_there_and_back(desk, cents):
    there = finished(desk, move_cents(desk, cents, 1_001, "to_account", "c1"), 801)
    assert desk.session.get_one(BalanceOperation, there.operation_id).amount == Money(100_100, "USC")
    assert there.amount == Money(1_001, "USD")
    assert legs(desk, there) == {
        f"client:{desk.client_id}:wallet:USD": -1_001, "fx:position:USD": 1_001,
        "fx:position:USC": -100_100, "mt:sim:5002:balance:USC": 100_100,
    }  # fmt: skip
    assert desk.wallet() == queries.Balance(Money(98_999, "USD"), Money(0, "USD"))

    desk.session.get_one(TradingAccount, cents).balance = Decimal("1001.00")
    desk.session.commit()
    back = finished(desk, move_cents(desk, cents, 400, "to_wallet", "c2"), 802)
    assert desk.session.get_one(BalanceOperation, back.operation_id).amount == Money(-40_000, "USC")
    assert desk.wallet().posted == Money(99_399, "USD")
    on_it = queries.balance(desk.session, chart.mt_balance("sim", 5002, "USC")).posted
    assert on_it == Money(60_100, "USC")

    found = [*proofs.prove(desk.session), causes.prove_one(desk.session)]
    assert [words for proof in found for words in proof.breaks] == [], "books and causes agree"
    assert segregation.client_money(desk.session).requirement == 1_000, "clients are owed what they paid in, no less"
    positions = {one.currency: (one.position, one.result) for one in revaluation.position_report(desk.session)}
    assert positions == {"USC": (Money(-60_100, "USC"), 0), "USD": (Money(601, "USD"), 0)}, "the house neither wins nor loses"
    assert desk.session.scalar(select(func.count()).select_from(Account).where(Account.code.like("income:fx_spread:%"))) == 0


def test_cents_move_once_or_not_at_all(desk, cents):
    refused = finished(desk, move_cents(desk, cents, 5_000, "to_account", "c1"), 0, status="failed")
    assert (refused.state, refused.ledger_txn_id) == ("failed", None)
    assert desk.wallet() == queries.Balance(Money(100_000, "USD"), Money(0, "USD"))
    twice = {move_cents(desk, cents, 700, "to_account", "same").operation_id for _ in range(2)}
    assert len(twice) == 1
    assert desk.wallet().held == Money(700, "USD")


def test_what_an_account_in_cents_can_give(desk, cents):
    desk.session.get_one(TradingAccount, cents).balance = Decimal("1234.56")
    desk.session.commit()
    assert transfers.at_wallet(Decimal("1234.56"), "USC") == Money(1_234, "USD"), "what is less than a cent of USD stays there"
    with pytest.raises(NotEnoughOnAccount):
        move_cents(desk, cents, 1_235, "to_wallet", "x")
    whose = {"client_id": desk.client_id, "trading_account_id": cents}
    dry = partial(transfers.preview_transfer, desk.session, **whose)
    assert dry(direction="to_wallet", amount=Money(1_234, "USD"))[1] == Money(123_400, "USC")
    assert dry(direction="to_account", amount=Money(100_000, "USD"))[1] == Money(10_000_000, "USC")
    with pytest.raises(InsufficientFunds):
        dry(direction="to_account", amount=Money(100_001, "USD"))
    with pytest.raises(WrongCurrency):
        transfers.at_account(Money(100, "EUR"), "USC")
    assert desk.session.scalar(select(func.count()).select_from(Transfer)) == 0


def test_a_statement_of_a_client_with_a_cent_account_agrees_with_the_ledger(desk, cents):
    finished(desk, move_cents(desk, cents, 1_000, "to_account", "c1"), 801)
    desk.session.rollback()
    today = now().date()
    made = statement.client_statement(desk.session, client_id=desk.client_id, first=today, last=today)
    assert made.differences == ()
    (wallet,) = made.wallets
    assert (wallet.currency, wallet.closing) == ("USD", Money(99_000, "USD"))
