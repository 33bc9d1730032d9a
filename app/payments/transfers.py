"""Transfers between a client's wallet and the client's trading accounts.

To the account: the money is held in the wallet, the server is asked, and the hold is captured when the server has done it.
To the wallet: the server gives first, the ledger books after. What happens at the server is a balance operation of the
metatrader package; a transfer follows it by the facts it tells.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart, holds, posting
from app.metatrader.commands import create_operation
from app.models.clients import Client
from app.models.metatrader import BalanceOperation, TradingAccount
from app.models.payments import Transfer
from app.payments.errors import AccountNotReady, NotEnoughOnAccount, WrongCurrency, check_same
from app.payments.state import TRANSFER, advance

#: What a transfer has seen when its operation stands so; moves that are not possible from its state are news it has had.
SEEN = {
    "sending": ("send",),
    "unknown": ("send", "lose"),
    "done": ("send", "settle"),
    "failed": ("send", "fail"),
    "new": ("not_sent",),
}


def request_transfer(
    session: Session, *, client_id: int, trading_account_id: int, direction: str, amount: Money, key: str, actor: Actor
) -> Transfer:
    """Write the transfer, hold the money where it comes from the wallet, and order the operation at the server.

    The same key is the same transfer. Raises AccountNotReady, WrongCurrency, InsufficientFunds, NotEnoughOnAccount, KeyReused.
    """
    if amount.amount_minor <= 0:
        raise InvalidInput({"amount": N_("Please enter an amount above zero.")})
    with unit_of_work(session, actor) as unit:
        session.get_one(Client, client_id, with_for_update={"key_share": True})  # one request of a client at a time
        known = session.scalars(
            select(Transfer).where(Transfer.client_id == client_id, Transfer.idempotency_key == key)
        ).one_or_none()
        if known is not None:
            wanted = {"trading_account_id": trading_account_id, "direction": direction}
            check_same(known, amount_minor=amount.amount_minor, currency=amount.currency, **wanted)
            return known
        account = _own_account(session, client_id, trading_account_id, amount.currency)
        to_account = direction == "to_account"
        if not to_account and account.balance < amount.decimal:
            raise NotEnoughOnAccount({"amount": NotEnoughOnAccount.message})
        machine = TRANSFER[direction]
        transfer = Transfer(
            client_id=client_id,
            trading_account_id=account.id,
            direction=direction,
            amount_minor=amount.amount_minor,
            currency=amount.currency,
            state=machine.initial,
            idempotency_key=key,
        )
        session.add(transfer)
        session.flush()
        if to_account:
            transfer.hold_id = holds.place_hold(
                session,
                account=chart.client_wallet(client_id, amount.currency),
                money=amount,
                key=f"transfer:{transfer.id}:hold",
                reason="transfer",
                actor=actor,
            )
            transfer.state = advance(machine, transfer.state, "hold")
        assert account.login is not None
        operation = create_operation(
            unit, server_id=account.server_id, login=account.login, amount=amount if to_account else -amount, prefix="T"
        )
        transfer.operation_id = operation.id
        unit.emit(
            "transfer.requested",
            subject_id=transfer.id,
            client_id=client_id,
            direction=direction,
            amount_minor=amount.amount_minor,
            currency=amount.currency,
            login=account.login,
        )
        return transfer


def follow_operation(unit: UnitOfWork, operation_id: int) -> None:
    """Bring the transfer of an operation to where the operation now stands; posts when it is done, frees when it failed.

    Reads the operation's present status, so facts may arrive late, twice or out of order.
    """
    session = unit.session
    transfer = session.scalars(select(Transfer).where(Transfer.operation_id == operation_id).with_for_update()).one_or_none()
    if transfer is None:
        return
    operation = session.get_one(BalanceOperation, operation_id)
    machine, before = TRANSFER[transfer.direction], transfer.state
    for event in SEEN[operation.status]:
        if (transfer.state, event) in machine.moves:
            transfer.state = advance(machine, transfer.state, event)
    if transfer.state == before:
        return
    if transfer.state == "done":
        _book(unit, transfer, operation)
    elif transfer.state == "failed":
        _free(unit, transfer, operation)


def _book(unit: UnitOfWork, transfer: Transfer, operation: BalanceOperation) -> None:
    """The server has done it: move the money in the ledger."""
    session, at = unit.session, now()
    account = session.get_one(TradingAccount, transfer.trading_account_id)
    amount = Money(transfer.amount_minor, transfer.currency)
    assert account.login is not None
    at_server = chart.mt_balance(account.server.code, account.login, amount.currency, client_id=transfer.client_id)
    wallet = chart.client_wallet(transfer.client_id, amount.currency)
    chart.open_accounts(session, at_server, wallet)
    metadata = {"transfer_id": transfer.id, "login": account.login, "deal": operation.deal_ticket}
    if transfer.direction == "to_account":
        assert transfer.hold_id is not None
        transfer.ledger_txn_id = holds.capture_hold(
            session,
            transfer.hold_id,
            key=f"transfer:{transfer.id}:capture",
            kind="transfer_to_account",
            effective_at=at,
            actor=unit.actor,
            legs=[posting.debit(wallet, amount), posting.credit(at_server, amount)],
            metadata=metadata,
        )
    else:
        transfer.ledger_txn_id = posting.post(
            session,
            key=f"transfer:{transfer.id}",
            kind="transfer_to_wallet",
            effective_at=at,
            actor=unit.actor,
            legs=[posting.debit(at_server, amount), posting.credit(wallet, amount)],
            metadata=metadata,
        )
    transfer.finished_at = at
    unit.emit(
        "transfer.done",
        subject_id=transfer.id,
        client_id=transfer.client_id,
        direction=transfer.direction,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        login=account.login,
    )


def _free(unit: UnitOfWork, transfer: Transfer, operation: BalanceOperation) -> None:
    """The server refused: the held money is free again."""
    if transfer.hold_id is not None:
        holds.release_hold(unit.session, transfer.hold_id, actor=unit.actor)
    transfer.failure = operation.error
    transfer.finished_at = now()
    unit.emit("transfer.failed", subject_id=transfer.id, client_id=transfer.client_id, direction=transfer.direction)


def _own_account(session: Session, client_id: int, trading_account_id: int, currency: str) -> TradingAccount:
    account = session.get(TradingAccount, trading_account_id)
    if account is None or account.client_id != client_id:
        raise NotFound()
    if account.status != "active" or account.login is None or account.product.is_demo:
        raise AccountNotReady()
    if account.currency != currency:
        raise WrongCurrency()
    return account
