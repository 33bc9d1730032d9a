"""One payout: asked for or found by a run, held, and paid: from the commission account to the wallet, and on from there.

    requested ─┐                       ┌─> paid          (to the wallet)
               ├─> proposed ─> approved ┼─> paying ─> paid | failed   (on to a trading account or a provider)
    a run ─────┘        │               └─> held         (the IB was stopped since)
                        └─> held, rejected

Whatever the way, the money goes through the IB's wallet, in one ledger transaction, together with the order to move it on.
What orders that is given as an argument (`SendOn`), because it belongs to payments. When it is refused, the money is in the
wallet and the payout says why (`failed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.commissions.errors import AskedTwice, PayoutDecided, PayoutWaiting
from app.commissions.payables import payable
from app.commissions.payout_statements import freeze
from app.commissions.payout_warnings import Planned, stops
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput, NotFound
from app.core.money import Money, parent
from app.core.uow import UnitOfWork, retried, unit_of_work
from app.ledger import chart, holds, posting
from app.models.clients import Client
from app.models.metatrader import TradingAccount
from app.models.partners import IntroducingBroker
from app.models.payments import Transfer, Withdrawal
from app.models.payouts import DESTINATIONS, Payout

KIND = "commission_payout"

#: Why what was approved is held back after all.
STOPPED = N_("It was approved, but the IB was blocked or stopped before it was paid.")

_ACTOR = Actor.system("pay_payout")

#: Where a transfer or withdrawal leaves the payout that ordered it; while it stands otherwise, the payout is on its way.
_ARRIVED, _CAME_BACK = ("done", "paid"), ("failed", "compensated", "rejected", "cancelled", "returned")


@dataclass(frozen=True)
class SentOn:
    """What moves the money on from the wallet: a transfer or a withdrawal, by its id."""

    transfer_id: int | None = None
    withdrawal_id: int | None = None


#: Orders the movement from the wallet, in the unit of work it is called in; the key makes a repeat the same order.
SendOn = Callable[[Payout, str], SentOn]


def request_payout(
    session: Session,
    *,
    ib_id: int,
    amount: Money,
    destination: str,
    key: str,
    actor: Actor,
    trading_account_id: int | None = None,
) -> Payout:
    """An IB asks for its money; the amount is held until a run pays it. The same key is the same request.

    Raises InvalidInput with what is wrong, PayoutWaiting while another one waits, AskedTwice when the key is spent on another
    one or on one that was cancelled, InsufficientFunds.
    """
    with unit_of_work(session, actor) as unit:
        ib = session.get_one(IntroducingBroker, ib_id, with_for_update={"key_share": True})
        known = session.scalars(select(Payout).where(Payout.ib_id == ib_id, Payout.idempotency_key == key)).one_or_none()
        wanted = Planned(ib_id, ib.client_id, amount, destination, trading_account_id)
        if known is not None:
            if Planned.of(known) != wanted or known.state == "cancelled":
                raise AskedTwice
            return known
        if waiting_request(session, ib_id) is not None:
            raise PayoutWaiting
        found = payable(session, ib_id, now())
        _check(session, ib, wanted, found.available, found.minimum)
        payout = open_payout(unit, wanted, found.figures(), idempotency_key=key)
        unit.emit("payout.requested", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))
        return payout


def cancel_payout(session: Session, *, ib_id: int, payout_id: int, actor: Actor) -> Payout:
    """The IB takes its request back while no run has taken it up. Raises NotFound, PayoutDecided."""
    with unit_of_work(session, actor) as unit:
        session.get(
            IntroducingBroker, ib_id, with_for_update={"key_share": True}
        )  # a run that takes it up goes first, or after
        payout = session.get(Payout, payout_id, with_for_update=True)
        if payout is None or payout.ib_id != ib_id:
            raise NotFound
        if payout.state != "requested":
            raise PayoutDecided(state=payout.state)
        holds.release_hold(session, payout.hold_id, actor=actor)
        payout.state, payout.finished_at = "cancelled", now()
        unit.emit("payout.cancelled", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))
        return payout


def waiting_request(session: Session, ib_id: int) -> Payout | None:
    """What the IB has asked for and was neither paid nor turned down."""
    states = ("requested", "proposed", "held", "approved")
    query = select(Payout).where(Payout.ib_id == ib_id, Payout.idempotency_key.is_not(None), Payout.state.in_(states))
    return session.scalars(query).one_or_none()


def pay(session: Session, payout_id: int, send_on: SendOn) -> str:
    """Move an approved payout to the wallet and order its way on, in one transaction; returns its state. Safe to repeat.

    It is held back again when its IB was blocked or stopped since the approval, for somebody to decide. Where the way on is
    refused (the account is closed, no payment can be refunded …), the money stays in the wallet.
    """
    try:
        return retried(lambda: _pay(session, payout_id, send_on))
    except AppError as error:
        refusal = error
    failure = str(refusal)
    return retried(lambda: _pay(session, payout_id, None, failure))


def follow(unit: UnitOfWork, *, transfer_id: int | None = None, withdrawal_id: int | None = None) -> None:
    """Bring a payout to where its transfer or withdrawal now stands. Facts may arrive twice or out of order.

    What a provider has paid may still be returned: then the money is in the wallet after all.
    """
    session = unit.session
    mine = Payout.transfer_id == transfer_id if transfer_id is not None else Payout.withdrawal_id == withdrawal_id
    payout = session.scalars(select(Payout).where(mine).with_for_update()).one_or_none()
    if payout is None or payout.state not in ("paying", "paid"):
        return
    on: Transfer | Withdrawal | None = payout.transfer or payout.withdrawal
    assert on is not None
    if on.state in _ARRIVED and payout.state == "paying":
        _finish(unit, payout, "paid")
    elif on.state in _CAME_BACK:
        payout.failure = on.failure if isinstance(on, Transfer) else on.reason
        _finish(unit, payout, "failed")


def open_payout(
    unit: UnitOfWork,
    planned: Planned,
    figures: Mapping[str, Any],
    *,
    run_id: int | None = None,
    warnings: Sequence[Mapping[str, Any]] = (),
    idempotency_key: str | None = None,
) -> Payout:
    """The row of a payout, and its hold, which has no end: it is released or captured by what becomes of the payout."""
    session = unit.session
    number = session.scalars(text("SELECT nextval(pg_get_serial_sequence('payout', 'id'))")).one()
    hold_id = holds.place_hold(
        session,
        account=chart.ib_commission(planned.ib_id, planned.amount.currency),
        money=planned.amount,
        key=f"payout:{number}:hold",
        reason="payout",
        actor=unit.actor,
    )
    payout = Payout(
        id=number,
        run_id=run_id,
        ib_id=planned.ib_id,
        client_id=planned.client_id,
        amount_minor=planned.amount.amount_minor,
        currency=planned.amount.currency,
        destination=planned.destination,
        trading_account_id=planned.trading_account_id,
        state="requested" if run_id is None else "proposed",
        figures=dict(figures),
        warnings=[dict(one) for one in warnings],
        requested_by=str(unit.actor),
        idempotency_key=idempotency_key,
        hold_id=hold_id,
    )
    session.add(payout)
    session.flush()
    return payout


def event_values(payout: Payout) -> dict[str, Any]:
    """What facts about a payout carry."""
    return {
        "ib_id": payout.ib_id,
        "amount_minor": payout.amount_minor,
        "currency": payout.currency,
        "destination": payout.destination,
    }


def _check(session: Session, ib: IntroducingBroker, wanted: Planned, available: Money, minimum: Money) -> None:
    problems: dict[str, str] = {}
    amount = wanted.amount
    if not ib.is_active or ib.client.status != "approved":
        problems["amount"] = N_("Payouts are possible as soon as your account is approved.")
    elif amount.currency != ib.currency or amount.amount_minor <= 0:
        problems["amount"] = N_("Please enter an amount above zero.")
    elif amount > available:
        problems["amount"] = N_("This is more than you can be paid now.")
    elif amount < minimum:
        problems["amount"] = N_("This is less than the minimum.")
    if wanted.destination not in DESTINATIONS:
        problems["destination"] = N_("Please choose where the money goes.")
    elif wanted.destination == "account":
        account = session.get(TradingAccount, wanted.trading_account_id) if wanted.trading_account_id else None
        if account is None or account.client_id != ib.client_id or account.status != "active" or account.product.is_demo:
            problems["destination"] = N_("Please choose one of your own trading accounts.")
        elif parent(account.currency)[0] != amount.currency:
            problems["destination"] = N_("This trading account is in another currency.")
    if problems:
        raise InvalidInput(problems)


def _pay(session: Session, payout_id: int, send_on: SendOn | None, failure: str = "") -> str:
    with unit_of_work(session, _ACTOR) as unit:
        client_id = session.scalar(select(Payout.client_id).where(Payout.id == payout_id))
        if client_id is None:
            raise NotFound
        # First, as payments do: whoever moves a client's money follows the one before.
        session.get_one(Client, client_id, with_for_update={"key_share": True})
        payout = session.get_one(Payout, payout_id, with_for_update=True)
        if payout.state != "approved":
            return payout.state
        if told := stops(session, payout, now()):
            payout.state, payout.warnings, payout.decision_reason = "held", told, STOPPED
            payout.decided_by, payout.decided_at = str(unit.actor), now()
            unit.emit("payout.held", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))
            return payout.state
        _move(unit, payout)
        if payout.destination == "wallet":
            _finish(unit, payout, "paid")
        elif send_on is None:
            payout.failure = failure
            _finish(unit, payout, "failed")
        else:
            sent = send_on(payout, f"payout:{payout.id}")
            payout.transfer_id, payout.withdrawal_id = sent.transfer_id, sent.withdrawal_id
            session.flush()
            unit.emit("payout.sent_on", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))
        return payout.state


def _move(unit: UnitOfWork, payout: Payout) -> None:
    """One ledger transaction: what we owed as commission, we now owe in the wallet."""
    session, amount, at = unit.session, payout.amount, now()
    commission = chart.ib_commission(payout.ib_id, amount.currency, client_id=payout.client_id)
    wallet = chart.client_wallet(payout.client_id, amount.currency)
    chart.open_accounts(session, wallet)
    payout.ledger_txn_id = holds.capture_hold(
        session,
        payout.hold_id,
        key=f"payout:{payout.id}",
        kind=KIND,
        effective_at=at,
        actor=unit.actor,
        legs=[posting.debit(commission, amount), posting.credit(wallet, amount)],
        metadata={"payout_id": payout.id, "ib_id": payout.ib_id, "run_id": payout.run_id},
    )
    payout.state, payout.moved_at = "paying", at
    session.flush()
    freeze(session, payout)
    unit.emit("payout.moved", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))


def _finish(unit: UnitOfWork, payout: Payout, state: str) -> None:
    payout.state, payout.finished_at = state, now()
    unit.session.flush()
    unit.emit(f"payout.{state}", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))
