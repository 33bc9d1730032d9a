"""Transfers between a client's wallet and the client's trading accounts.

To the account: the money is held in the wallet, the server is asked, and the hold is captured when the server has done it.
To the wallet: the server gives first, the ledger books after. What happens at the server is a balance operation of the
metatrader package; a transfer follows it by the facts it tells.

A transfer's amount is what the wallet gives or gets. A cent account counts in a unit of its own, of which a fixed number make
one of its parent (100 USC are 1 USD): the wallet is in the parent, the operation at the server in cents, and between the two
stand the position accounts, without rate, spread or rounding.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import Money, parent, reporting_currency
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart, holds, posting, queries, rates
from app.ledger.errors import InsufficientFunds
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


def wallet_currency(account_currency: str) -> str:
    """The currency of the wallet that goes with a trading account: its own, or that which its cents are part of."""
    return parent(account_currency)[0]


def at_account(amount: Money, account_currency: str) -> Money:
    """What an amount of the wallet is on the account, exactly.

    Raises WrongCurrency where it is neither the account's currency nor the parent of its cents, InvalidMoney where it is
    too large in them.
    """
    if amount.currency == account_currency:
        return amount
    of, factor = parent(account_currency)
    if amount.currency != of:
        raise WrongCurrency()
    return Money.parse(amount.decimal * factor, account_currency)


def at_wallet(balance: Decimal, account_currency: str) -> Money:
    """The most that this much on an account can be in its wallet: what is less than a minor unit stays on the account."""
    of, factor = parent(account_currency)
    return Money.round_down(balance / factor, of)


def preview_transfer(
    session: Session, *, client_id: int, trading_account_id: int, direction: str, amount: Money
) -> tuple[TradingAccount, Money]:
    """The account, and what would move on it, for a client who is about to confirm. Moves and holds nothing.

    Raises what `request_transfer` would raise as things stand now.
    """
    account, there = _wanted(session, client_id, trading_account_id, direction, amount)
    if direction == "to_account":
        wallet = queries.find_balance(session, chart.client_wallet(client_id, amount.currency))
        if wallet is None or amount > wallet.available:
            raise InsufficientFunds()
    return account, there


def request_transfer(
    session: Session, *, client_id: int, trading_account_id: int, direction: str, amount: Money, key: str, actor: Actor
) -> Transfer:
    """Write the transfer, hold the money where it comes from the wallet, and order the operation at the server.

    `amount` is the wallet's. The same key is the same transfer. Raises AccountNotReady, WrongCurrency, InsufficientFunds,
    NotEnoughOnAccount, KeyReused.
    """
    _check_amount(amount)
    with unit_of_work(session, actor) as unit:
        session.get_one(Client, client_id, with_for_update={"key_share": True})  # one request of a client at a time
        known = session.scalars(
            select(Transfer).where(Transfer.client_id == client_id, Transfer.idempotency_key == key)
        ).one_or_none()
        if known is not None:
            wanted = {"trading_account_id": trading_account_id, "direction": direction}
            check_same(known, amount_minor=amount.amount_minor, currency=amount.currency, **wanted)
            return known
        account, there = _wanted(session, client_id, trading_account_id, direction, amount)
        to_account = direction == "to_account"
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
            unit, server_id=account.server_id, login=account.login, amount=there if to_account else -there, prefix="T"
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
    amount, there = transfer.amount, Money(abs(operation.amount_minor), operation.currency)
    assert account.login is not None
    at_server = chart.mt_balance(account.server.code, account.login, there.currency, client_id=transfer.client_id)
    wallet = chart.client_wallet(transfer.client_id, amount.currency)
    metadata = {"transfer_id": transfer.id, "login": account.login, "deal": operation.deal_ticket}
    if there.currency != amount.currency:
        metadata |= _worth(session, amount, at)
    if transfer.direction == "to_account":
        assert transfer.hold_id is not None
        transfer.ledger_txn_id = holds.capture_hold(
            session,
            transfer.hold_id,
            key=f"transfer:{transfer.id}:capture",
            kind="transfer_to_account",
            effective_at=at,
            actor=unit.actor,
            legs=_legs(session, wallet, amount, at_server, there),
            metadata=metadata,
        )
    else:
        transfer.ledger_txn_id = posting.post(
            session,
            key=f"transfer:{transfer.id}",
            kind="transfer_to_wallet",
            effective_at=at,
            actor=unit.actor,
            legs=_legs(session, at_server, there, wallet, amount),
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


def _legs(
    session: Session, source: chart.AccountSpec, given: Money, target: chart.AccountSpec, got: Money
) -> list[posting.Leg]:
    """From one account to the other; in two units each balances by itself over its position. Opens what is missing."""
    legs = [posting.debit(source, given), posting.credit(target, got)]
    if given.currency == got.currency:
        chart.open_accounts(session, source, target)
        return legs
    positions = chart.fx_position(given.currency), chart.fx_position(got.currency)
    chart.open_accounts(session, source, target, *positions)
    return [*legs, posting.credit(positions[0], given), posting.debit(positions[1], got)]


def _worth(session: Session, amount: Money, at: datetime) -> dict[str, Any]:
    """What the amount was worth in the reporting currency, as conversions tell it for the cost of positions."""
    value = rates.value(session, amount, reporting_currency(), at)
    return {} if value is None else {"value": {"amount": f"{value:.10f}", "currency": reporting_currency()}}


def _free(unit: UnitOfWork, transfer: Transfer, operation: BalanceOperation) -> None:
    """The server refused: the held money is free again."""
    if transfer.hold_id is not None:
        holds.release_hold(unit.session, transfer.hold_id, actor=unit.actor)
    transfer.failure = operation.error
    transfer.finished_at = now()
    unit.emit("transfer.failed", subject_id=transfer.id, client_id=transfer.client_id, direction=transfer.direction)


def _check_amount(amount: Money) -> None:
    if amount.amount_minor <= 0:
        raise InvalidInput({"amount": N_("Please enter an amount above zero.")})


def _wanted(
    session: Session, client_id: int, trading_account_id: int, direction: str, amount: Money
) -> tuple[TradingAccount, Money]:
    """The client's account and what would move on it, checked."""
    _check_amount(amount)
    account = session.get(TradingAccount, trading_account_id)
    if account is None or account.client_id != client_id:
        raise NotFound()
    if account.status != "active" or account.login is None or account.product.is_demo:
        raise AccountNotReady()
    there = at_account(amount, account.currency)
    if direction == "to_wallet" and account.balance < there.decimal:
        raise NotEnoughOnAccount({"amount": NotEnoughOnAccount.message})
    return account, there
