"""Withdrawals: the client asks, the money is reserved, an officer decides, the provider pays, the wallet is debited once.

The reservation is a hold. Approval captures it into "payouts in flight" in the same transaction that records the decision
and the order to pay; what the client takes beyond the money that was brought, the house adds from its own (funding.py). The
provider's final word moves it on, or back.

Rows are locked in one order: client, withdrawal, deposit, accounts.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart, holds, posting
from app.models.clients import Client
from app.models.ledger import Transaction
from app.models.payments import Deposit, Withdrawal
from app.payments import funding
from app.payments.connector import Connector, Outcome, RefundRequest, Refunds, Settled
from app.payments.errors import (
    AlreadyDecided,
    ClientNotApproved,
    NoPaymentToRefund,
    NotRefundable,
    OwnRequest,
    ReasonMissing,
    check_same,
)
from app.payments.state import DEPOSIT, WITHDRAWAL, advance, event_of

REFUNDABLE = ("settled", "refunded_part")
LOST_AFTER = timedelta(minutes=2)


def request_withdrawal(session: Session, *, client_id: int, amount: Money, key: str, actor: Actor) -> Withdrawal:
    """Reserve the amount in the wallet and put the request into the queue. The same key is the same request.

    Raises ClientNotApproved, InsufficientFunds, NoPaymentToRefund, NotRefundable, KeyReused.
    """
    if amount.amount_minor <= 0:
        raise InvalidInput({"amount": N_("Please enter an amount above zero.")})
    with unit_of_work(session, actor) as unit:
        client = session.get_one(Client, client_id, with_for_update={"key_share": True})  # one request of a client at a time
        known = session.scalars(
            select(Withdrawal).where(Withdrawal.client_id == client_id, Withdrawal.idempotency_key == key)
        ).one_or_none()
        if known is not None:
            check_same(known, amount_minor=amount.amount_minor, currency=amount.currency)
            return known
        if client.status != "approved":
            raise ClientNotApproved()
        deposit = _refundable_deposit(session, client_id, amount)
        deposit.refunded_minor += amount.amount_minor
        public_id = uuid.uuid4()
        hold_id = holds.place_hold(
            session,
            account=chart.client_wallet(client_id, amount.currency),
            money=amount,
            key=f"withdrawal:{public_id}:hold",
            reason="withdrawal",
            actor=actor,
        )
        withdrawal = Withdrawal(
            public_id=public_id,
            client_id=client_id,
            connector=deposit.connector,
            deposit_id=deposit.id,
            amount_minor=amount.amount_minor,
            currency=amount.currency,
            state=WITHDRAWAL.initial,
            idempotency_key=key,
            hold_id=hold_id,
            requested_by=str(actor),
        )
        session.add(withdrawal)
        session.flush()
        _tell(unit, withdrawal, "withdrawal.requested")
        return withdrawal


def approve_withdrawal(session: Session, withdrawal_id: int, actor: Actor, *, client_bank: str = funding.BANK) -> Withdrawal:
    """An officer says yes: the reserved money moves to "payouts in flight" and the payout is ordered, in one transaction.

    The transaction has a funding leg at `client_bank` when the client takes out profits that the house owes.
    Raises AlreadyDecided when somebody else was first, OwnRequest for the one who asked.
    """
    with unit_of_work(session, actor) as unit:
        client_id = session.scalar(select(Withdrawal.client_id).where(Withdrawal.id == withdrawal_id))
        if client_id is None:
            raise NotFound()
        session.get_one(Client, client_id, with_for_update={"key_share": True})  # what was brought is counted on once
        withdrawal = _decide(unit, withdrawal_id, "approve", actor)
        amount = withdrawal.amount
        funded = funding.of_withdrawal(session, withdrawal)
        funding_legs = funded.legs(client_bank)
        payouts = chart.psp_payouts(withdrawal.connector, amount.currency)
        chart.open_accounts(session, payouts, *(funding.accounts(client_bank, amount.currency) if funding_legs else ()))
        withdrawal.approved_by = str(actor)
        withdrawal.approved_at = now()
        withdrawal.capture_txn_id = holds.capture_hold(
            session,
            withdrawal.hold_id,
            key=f"withdrawal:{withdrawal.public_id}:capture",
            kind="withdrawal",
            effective_at=now(),
            actor=actor,
            legs=[
                posting.debit(
                    chart.client_wallet(withdrawal.client_id, amount.currency),
                    amount,
                ),
                posting.credit(payouts, amount),
                *funding_legs,
            ],
            metadata={"withdrawal_id": withdrawal.id, "funding": funded.explained()},
        )
        unit.audit(
            "withdrawal.approve",
            f"withdrawal:{withdrawal.id}",
            before={"state": "requested"},
            after={"state": "approved", "paid_by_house": str(funded.of_house)},
        )
        _tell(unit, withdrawal, "withdrawal.approved")
        return withdrawal


def reject_withdrawal(session: Session, withdrawal_id: int, reason: str, actor: Actor) -> Withdrawal:
    """An officer says no, with a reason the client reads; the money is free again."""
    reason = reason.strip()
    if not reason:
        raise ReasonMissing({"reason": ReasonMissing.message})
    with unit_of_work(session, actor) as unit:
        withdrawal = _decide(unit, withdrawal_id, "reject", actor)
        withdrawal.approved_by, withdrawal.approved_at, withdrawal.reason = (
            str(actor),
            now(),
            reason[:500],
        )
        _free(unit, withdrawal)
        unit.audit(
            "withdrawal.reject",
            f"withdrawal:{withdrawal.id}",
            before={"state": "requested"},
            after={"state": "rejected"},
            reason=reason,
        )
        _tell(unit, withdrawal, "withdrawal.rejected", reason=withdrawal.reason)
        return withdrawal


def cancel_withdrawal(session: Session, *, client_id: int, withdrawal_id: int, actor: Actor) -> Withdrawal:
    """The client takes the request back while nobody has decided."""
    with unit_of_work(session, actor) as unit:
        owner = session.scalars(select(Withdrawal.client_id).where(Withdrawal.id == withdrawal_id)).one_or_none()
        if owner != client_id:
            raise NotFound()
        withdrawal = _decide(unit, withdrawal_id, "cancel", actor)
        _free(unit, withdrawal)
        _tell(unit, withdrawal, "withdrawal.cancelled")
        return withdrawal


def submit_payout(session: Session, connector: Connector, withdrawal_id: int) -> str:
    """Ask the provider to pay, once; safe to repeat. Returns the state afterwards.

    "submitting" is committed before the call, so a crash in between is found again as lost and only asked about.
    """
    actor = Actor.system("submit_payout")
    with unit_of_work(session, actor):
        withdrawal = _locked(session, withdrawal_id)
        if withdrawal.state != "approved":
            return withdrawal.state
        withdrawal.state = advance(WITHDRAWAL, withdrawal.state, "submit")
        withdrawal.next_ask_at = now() + LOST_AFTER
        request = refund_request(session, withdrawal)
    started = _refunds(connector).start_refund(request)
    with unit_of_work(session, actor) as unit:
        withdrawal = _locked(session, withdrawal_id)
        apply_outcome(unit, withdrawal, started.outcome, started.provider_reference)
        return withdrawal.state


def refund_request(session: Session, withdrawal: Withdrawal) -> RefundRequest:
    """The same request every time it is asked, as providers demand of repeats."""
    deposit = session.get_one(Deposit, withdrawal.deposit_id)
    return RefundRequest(
        attempt_id=str(withdrawal.public_id),
        payment_reference=deposit.payment_reference or "",
        amount=Money(withdrawal.amount_minor, withdrawal.currency),
    )


def apply_outcome(
    unit: UnitOfWork,
    withdrawal: Withdrawal,
    outcome: Outcome,
    provider_reference: str | None,
) -> None:
    """Move a locked withdrawal by what the provider says and post what follows. Raises IllegalMove on a contradiction."""
    before = withdrawal.state
    after = advance(WITHDRAWAL, before, event_of(outcome))
    withdrawal.provider_reference = withdrawal.provider_reference or provider_reference
    if isinstance(outcome, Settled) and outcome.amount != Money(withdrawal.amount_minor, withdrawal.currency):
        unit.emit(
            "withdrawal.amount_differs",
            subject_id=withdrawal.id,
            provider_minor=outcome.amount.amount_minor,
        )
    if after == before:
        return
    withdrawal.state = after
    if after == "paid":
        _pay(unit, withdrawal)
    elif after in ("failed", "returned"):
        _give_back(unit, withdrawal)
    elif after in ("unknown", "pending", "approved"):
        withdrawal.next_ask_at = now() + LOST_AFTER


def _pay(unit: UnitOfWork, withdrawal: Withdrawal) -> None:
    """The provider took the money out of what it owes us."""
    deposit, amount, at = _deposit(unit.session, withdrawal), withdrawal.amount, now()
    withdrawal.finished_at, withdrawal.next_ask_at = at, None
    clearing = chart.psp_clearing(withdrawal.connector, amount.currency)
    chart.open_account(unit.session, clearing)
    withdrawal.final_txn_id = posting.post(
        unit.session,
        key=f"withdrawal:{withdrawal.public_id}:paid",
        kind="payout",
        effective_at=at,
        actor=unit.actor,
        legs=[
            posting.debit(chart.psp_payouts(withdrawal.connector, amount.currency), amount),
            posting.credit(clearing, amount),
        ],
        metadata={
            "withdrawal_id": withdrawal.id,
            "provider_reference": withdrawal.provider_reference,
        },
    )
    _mark(unit.session, deposit)
    _tell(unit, withdrawal, "withdrawal.paid")


def _give_back(unit: UnitOfWork, withdrawal: Withdrawal) -> None:
    """The provider refused, or sent the money back: reverse what was posted, so that the wallet has it again.

    The house has its own part back, too: its legs are in the transaction that is reversed.
    """
    deposit, at, key = _deposit(unit.session, withdrawal), now(), f"withdrawal:{withdrawal.public_id}"
    taken_back = [_reversal(unit, withdrawal.capture_txn_id, f"{key}:failed", "payout refused by the provider", at)]
    if withdrawal.state == "returned":
        returned = _reversal(unit, withdrawal.final_txn_id, f"{key}:returned", "payout returned by the provider", at)
        taken_back.insert(0, returned)
    posting.post_many(unit.session, taken_back)
    withdrawal.finished_at, withdrawal.next_ask_at = at, None
    withdrawal.reason = N_("The payment provider could not pay this out. The money is back in your wallet.")
    deposit.refunded_minor -= withdrawal.amount_minor
    _mark(unit.session, deposit)
    _tell(unit, withdrawal, "withdrawal.failed")


def _reversal(unit: UnitOfWork, txn_id: UUID | None, key: str, reason: str, at: datetime) -> posting.Posting:
    """The mirror image of a transaction, to be posted together with others: one order of locks for all of them."""
    txn = unit.session.get_one(Transaction, txn_id)
    legs = [
        posting.credit(entry.account.code, entry.debited)
        if entry.debited
        else posting.debit(entry.account.code, Money(entry.credit, entry.currency))
        for entry in txn.entries
    ]
    return posting.Posting(key, "reversal", at, unit.actor, legs, {"of": txn.kind, "reason": reason}, reverses=txn.id)


def _decide(unit: UnitOfWork, withdrawal_id: int, event: str, actor: Actor) -> Withdrawal:
    """Move from "requested" in one UPDATE that names the state it expects; whoever comes second changes nothing."""
    session = unit.session
    moved = session.execute(
        update(Withdrawal)
        .where(Withdrawal.id == withdrawal_id, Withdrawal.state == "requested")
        .values(state=advance(WITHDRAWAL, "requested", event))
        .execution_options(synchronize_session=False)
    )
    withdrawal = session.get(Withdrawal, withdrawal_id, populate_existing=True)
    if withdrawal is None:
        raise NotFound()
    if moved.rowcount == 0:  # type: ignore[attr-defined]  # a DML result is a CursorResult
        raise AlreadyDecided(state=withdrawal.state)
    if event != "cancel" and withdrawal.requested_by == str(actor):
        raise OwnRequest()
    return withdrawal


def _free(unit: UnitOfWork, withdrawal: Withdrawal) -> None:
    deposit = _deposit(unit.session, withdrawal)
    holds.release_hold(unit.session, withdrawal.hold_id, actor=unit.actor)
    withdrawal.finished_at = now()
    deposit.refunded_minor -= withdrawal.amount_minor


def _deposit(session: Session, withdrawal: Withdrawal) -> Deposit:
    """The payment that is refunded, locked. Always before anything is posted, as who asks for a withdrawal locks it, too."""
    return session.get_one(Deposit, withdrawal.deposit_id, with_for_update={"key_share": True})


def _mark(session: Session, deposit: Deposit) -> None:
    """Show on the deposit how much of it went back."""
    session.flush()
    paid = sum(
        session.scalars(select(Withdrawal.amount_minor).where(Withdrawal.deposit_id == deposit.id, Withdrawal.state == "paid"))
    )
    event = "refund_none" if not paid else "refund_all" if paid == deposit.settled_minor else "refund_part"
    # A deposit that was charged back stays so, whatever is refunded on it.
    deposit.state = DEPOSIT.moves.get((deposit.state, event), deposit.state)


def _refundable_deposit(session: Session, client_id: int, amount: Money) -> Deposit:
    """The oldest of the client's payments that still covers the amount, locked."""
    candidates = session.scalars(
        select(Deposit)
        .where(
            Deposit.client_id == client_id,
            Deposit.currency == amount.currency,
            Deposit.state.in_(REFUNDABLE),
            Deposit.payment_reference.is_not(None),
        )
        .order_by(Deposit.id)
        .with_for_update(key_share=True)
    ).all()
    if not candidates:
        raise NoPaymentToRefund()
    for deposit in candidates:
        if (deposit.settled_minor or 0) - deposit.refunded_minor >= amount.amount_minor:
            return deposit
    most = max((deposit.settled_minor or 0) - deposit.refunded_minor for deposit in candidates)
    raise NotRefundable(
        {"amount": NotRefundable.message % {"most": Money(most, amount.currency)}},
        most=str(Money(most, amount.currency)),
    )


def most_refundable(session: Session, client_id: int, currency: str) -> Money:
    """The most that one withdrawal can be now: what is left of the payment that still covers most. Zero without payments."""
    left = session.scalar(
        select(func.max(func.coalesce(Deposit.settled_minor, 0) - Deposit.refunded_minor)).where(
            Deposit.client_id == client_id,
            Deposit.currency == currency,
            Deposit.state.in_(REFUNDABLE),
            Deposit.payment_reference.is_not(None),
        )
    )
    return Money(max(0, left or 0), currency)


def find_for_update(session: Session, public_id: str) -> Withdrawal | None:
    """The withdrawal with this attempt id, locked; None for an id that is not ours."""
    try:
        wanted = uuid.UUID(public_id)
    except ValueError:
        return None
    return session.scalars(select(Withdrawal).where(Withdrawal.public_id == wanted).with_for_update()).one_or_none()


def _locked(session: Session, withdrawal_id: int) -> Withdrawal:
    return session.get_one(Withdrawal, withdrawal_id, with_for_update=True)


def _refunds(connector: Connector) -> Refunds:
    if not isinstance(connector, Refunds):
        raise TypeError(f"connector {connector.name} cannot refund")
    return connector


def _tell(unit: UnitOfWork, withdrawal: Withdrawal, event: str, **payload: str) -> None:
    unit.emit(
        event,
        subject_id=withdrawal.id,
        client_id=withdrawal.client_id,
        amount_minor=withdrawal.amount_minor,
        currency=withdrawal.currency,
        **payload,
    )
