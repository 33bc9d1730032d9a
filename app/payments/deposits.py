"""Deposits: from the client's wish to pay in to the money in the wallet, once, whatever the provider repeats."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import NotFound
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart, posting
from app.models.clients import Client
from app.models.payments import Deposit
from app.payments.connector import Connector, DepositRequest, Failed, Outcome, Settled
from app.payments.errors import ClientNotApproved, check_same
from app.payments.state import DEPOSIT, advance, event_of

FIRST_ASK_AFTER = timedelta(minutes=1)


@dataclass(frozen=True)
class StartedPayment:
    """Where the client's browser goes next; `redirect_url` is None while the provider did not answer."""

    deposit_id: int
    state: str
    redirect_url: str | None


def start_deposit(
    session: Session,
    connector: Connector,
    *,
    client_id: int,
    amount: Money,
    key: str,
    return_url: str,
    cancel_url: str,
    actor: Actor,
) -> StartedPayment:
    """Write the attempt down, then ask the provider for its payment page.

    The same `key` of the same client is the same attempt: pressing twice makes one. `return_url` and `cancel_url` may hold
    "{deposit}", which becomes the attempt's id. Raises ClientNotApproved, UnsupportedAmount, KeyReused.
    """
    connector.capabilities.check(amount)
    with unit_of_work(session, actor) as unit:
        client = session.get_one(Client, client_id, with_for_update={"key_share": True})  # one request of a client at a time
        if client.status != "approved":
            raise ClientNotApproved()
        deposit = _attempt(unit, connector.name, client_id, amount, key)
        request = DepositRequest(
            attempt_id=str(deposit.public_id),
            amount=Money(deposit.amount_minor, deposit.currency),
            description="Deposit",
            return_url=return_url.replace("{deposit}", str(deposit.public_id)),
            cancel_url=cancel_url.replace("{deposit}", str(deposit.public_id)),
        )
        deposit_id, url, state = deposit.id, deposit.redirect_url, deposit.state
    if url is not None or state not in ("created", "unknown"):
        return StartedPayment(deposit_id, state, url)
    started = connector.start_deposit(request)
    with unit_of_work(session, actor) as unit:
        deposit = _locked(session, deposit_id)
        deposit.provider_reference = deposit.provider_reference or started.provider_reference
        deposit.redirect_url = deposit.redirect_url or started.redirect_url
        deposit.next_ask_at = now() + FIRST_ASK_AFTER
        apply_outcome(unit, deposit, started.outcome)
        return StartedPayment(deposit.id, deposit.state, deposit.redirect_url)


def apply_outcome(unit: UnitOfWork, deposit: Deposit, outcome: Outcome) -> None:
    """Move a locked deposit by what the provider says; on settlement post the money, under a key that posts once.

    Raises IllegalMove when the news contradicts what is known.
    """
    before = deposit.state
    after = advance(DEPOSIT, before, event_of(outcome))
    if isinstance(outcome, Settled):
        deposit.payment_reference = deposit.payment_reference or outcome.payment_reference
        deposit.card_fingerprint = deposit.card_fingerprint or outcome.card_fingerprint
    if after == before:
        return
    if isinstance(outcome, Settled) and after == "settled":
        deposit.settled_minor, deposit.settled_at = outcome.amount.amount_minor, now()
    deposit.state = after
    if isinstance(outcome, Failed):
        deposit.failure = outcome.code
        unit.emit(
            "deposit.failed",
            subject_id=deposit.id,
            client_id=deposit.client_id,
            code=outcome.code,
        )
    if isinstance(outcome, Settled) and after == "settled":
        _settle(unit, deposit, outcome)


def _settle(unit: UnitOfWork, deposit: Deposit, settled: Settled) -> None:
    """Debit what the provider owes us, credit the wallet with what it processed; its fee is a transaction of its own."""
    session, at = unit.session, now()
    amount = settled.amount
    clearing = chart.psp_clearing(deposit.connector, amount.currency)
    wallet = chart.client_wallet(deposit.client_id, amount.currency)
    chart.open_accounts(session, clearing, wallet)
    deposit.next_ask_at = None
    postings = [
        posting.Posting(
            key=f"deposit:{deposit.connector}:{deposit.public_id}",
            kind="deposit",
            effective_at=at,
            actor=unit.actor,
            legs=[
                posting.debit(clearing, amount),
                posting.credit(wallet, amount),
            ],
            metadata={
                "deposit_id": deposit.id,
                "provider_reference": deposit.provider_reference,
            },
        )
    ]
    if settled.fee:
        postings += _fee(unit, deposit, settled.fee)
    deposit.ledger_txn_id = posting.post_many(session, postings)[0]
    if settled.amount != Money(deposit.amount_minor, deposit.currency):
        unit.emit(
            "deposit.amount_differs", subject_id=deposit.id, client_id=deposit.client_id, asked_minor=deposit.amount_minor
        )
    unit.emit(
        "deposit.settled",
        subject_id=deposit.id,
        client_id=deposit.client_id,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
    )


def book_fee(session: Session, connector: Connector, deposit_id: int) -> bool:
    """Ask the provider for the fee of a settled deposit and post it, and which card it was. A callback carries neither, so they
    come a little later.

    Returns whether the fee is known now; safe to repeat.
    """
    with unit_of_work(session, Actor.system("book_fee")):
        deposit = _locked(session, deposit_id)
        known, reference = deposit.fee_minor is not None, deposit.provider_reference
    if known or reference is None:
        return known
    outcome = connector.fetch_deposit(reference)
    if not isinstance(outcome, Settled) or outcome.fee is None:
        return False
    with unit_of_work(session, Actor.system("book_fee")) as unit:
        deposit = _locked(session, deposit_id)
        deposit.card_fingerprint = deposit.card_fingerprint or outcome.card_fingerprint
        posting.post_many(session, _fee(unit, deposit, outcome.fee))
    return True


def _fee(unit: UnitOfWork, deposit: Deposit, fee: Money) -> list[posting.Posting]:
    """The provider keeps its fee out of what it owes us: our expense, not the client's. Nothing to post for a fee of zero."""
    deposit.fee_minor = fee.amount_minor
    if not fee:
        return []
    expense, clearing = chart.psp_fees(deposit.connector, fee.currency), chart.psp_clearing(deposit.connector, fee.currency)
    chart.open_accounts(unit.session, expense, clearing)
    made = posting.Posting(
        key=f"deposit-fee:{deposit.connector}:{deposit.public_id}",
        kind="psp_fee",
        effective_at=now(),
        actor=unit.actor,
        legs=[posting.debit(expense, fee), posting.credit(clearing, fee)],
        metadata={"deposit_id": deposit.id},
    )
    return [made]


def find_for_update(session: Session, public_id: str) -> Deposit | None:
    """The deposit with this attempt id, locked; None for an id that is not ours."""
    try:
        wanted = uuid.UUID(public_id)
    except ValueError:
        return None
    return session.scalars(select(Deposit).where(Deposit.public_id == wanted).with_for_update()).one_or_none()


def _attempt(unit: UnitOfWork, connector: str, client_id: int, amount: Money, key: str) -> Deposit:
    """The client's attempt under this key, made when it is new."""
    session = unit.session
    found = session.scalars(
        select(Deposit).where(Deposit.client_id == client_id, Deposit.idempotency_key == key).with_for_update()
    ).one_or_none()
    if found is not None:
        check_same(found, amount_minor=amount.amount_minor, currency=amount.currency)
        return found
    deposit = Deposit(
        public_id=uuid.uuid4(),
        client_id=client_id,
        connector=connector,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        state=DEPOSIT.initial,
        idempotency_key=key,
        next_ask_at=now() + FIRST_ASK_AFTER,
    )
    session.add(deposit)
    session.flush()
    unit.emit(
        "deposit.started",
        subject_id=deposit.id,
        client_id=client_id,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
    )
    return deposit


def _locked(session: Session, deposit_id: int) -> Deposit:
    deposit = session.get(Deposit, deposit_id, with_for_update=True)
    if deposit is None:
        raise NotFound()
    return deposit
