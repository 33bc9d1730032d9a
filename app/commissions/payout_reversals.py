"""Taking a paid payout back, with four eyes: from the IB's wallet to the commission account, or not at all.

What the IB then has as commission again, adjusting entries take away if it was not due (claw-back): until they are outweighed
by new commission, the IB owes the rest, and is paid nothing (app/commissions/payables.py).
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions.errors import PayoutDecided, WalletEmptied
from app.commissions.payouts import event_values
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart, four_eyes, posting, queries
from app.models.clients import Client
from app.models.payouts import Payout, PayoutReversal

LONGEST_REASON = 500

#: States in which the money is where it was to go, or in the wallet.
REVERSIBLE = ("paid", "failed")


def propose_reversal(session: Session, payout_id: int, *, reason: str, actor: Actor) -> PayoutReversal:
    """Ask that a payout be taken back. Raises NotFound, PayoutDecided, ReversalWaiting, InvalidInput without a reason."""
    said = _reason(reason)
    with unit_of_work(session, actor) as unit:
        payout = session.get(Payout, payout_id, with_for_update=True)
        if payout is None:
            raise NotFound
        _require_reversible(payout)
        found = PayoutReversal(payout_id=payout_id, reason=said, proposed_by=str(actor))
        session.add(found)
        session.flush()
        unit.audit(
            "payout_reversal.propose",
            f"payout_reversal:{found.id}",
            after={"payout_id": payout_id, "amount": str(payout.amount)},
            reason=said,
        )
        unit.emit("payout_reversal.proposed", subject_id=found.id, payout_id=payout_id)
        return found


def approve_reversal(session: Session, reversal_id: int, *, actor: Actor) -> PayoutReversal:
    """Take the payout back. Raises NotFound, OwnRequest, RequestDecided, PayoutDecided, AlreadyReversed, and WalletEmptied,
    with what is missing, when the wallet no longer has all of it: then nothing moves and the proposal goes on waiting.
    """
    with unit_of_work(session, actor) as unit:
        found = _open(session, reversal_id)
        four_eyes.require_other(found, actor)
        # Client before payout before accounts: the order in which everybody locks them.
        session.get_one(Client, found.payout.client_id, with_for_update={"key_share": True})
        payout = session.get_one(Payout, found.payout_id, with_for_update=True)
        _require_reversible(payout)
        missing = missing_in_wallet(session, payout)
        assert payout.ledger_txn_id is not None  # a check of the table
        if missing:
            raise WalletEmptied(missing=str(missing))
        posting.reverse(
            session,
            payout.ledger_txn_id,
            key=f"payout:{payout.id}:reversed",
            actor=actor,
            at=now(),
            reason=found.reason,
        )
        payout.state, payout.finished_at = "reversed", now()
        _decide(unit, found, "approved", "approve")
        unit.emit("payout.reversed", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))
        return found


def reject_reversal(session: Session, reversal_id: int, *, reason: str, actor: Actor) -> PayoutReversal:
    """Leave the payout as it is. Raises NotFound, OwnRequest, RequestDecided, InvalidInput without a reason."""
    said = _reason(reason)
    with unit_of_work(session, actor) as unit:
        found = _open(session, reversal_id)
        four_eyes.require_other(found, actor)
        _decide(unit, found, "rejected", "reject", said)
        return found


def withdraw_reversal(session: Session, reversal_id: int, *, actor: Actor) -> PayoutReversal:
    """Take back one's own proposal. Raises NotFound, NotYourRequest, RequestDecided."""
    with unit_of_work(session, actor) as unit:
        found = _open(session, reversal_id)
        four_eyes.require_proposer(found, actor)
        _decide(unit, found, "withdrawn", "withdraw")
        return found


def waiting_reversal(session: Session, payout_id: int) -> PayoutReversal | None:
    """The proposal to take this payout back that waits for a decision."""
    query = select(PayoutReversal).where(PayoutReversal.payout_id == payout_id, PayoutReversal.status == "proposed")
    return session.scalars(query).one_or_none()


def missing_in_wallet(session: Session, payout: Payout) -> Money:
    """How much of the payout the wallet does not have free any more; zero when all of it is there."""
    wallet = queries.find_balance(session, chart.client_wallet(payout.client_id, payout.currency))
    zero = Money.zero(payout.currency)
    return max(zero, payout.amount - (wallet.available if wallet else zero), key=lambda money: money.amount_minor)


def _require_reversible(payout: Payout) -> None:
    if payout.state not in REVERSIBLE:
        raise PayoutDecided(state=payout.state)


def _reason(text: str) -> str:
    said = " ".join(text.split())
    if not said:
        raise InvalidInput({"reason": N_("Please give a reason.")})
    return said[:LONGEST_REASON]


def _open(session: Session, reversal_id: int) -> PayoutReversal:
    found = session.get(PayoutReversal, reversal_id, with_for_update=True)
    if found is None:
        raise NotFound
    four_eyes.require_open(found)
    return found


def _decide(unit: UnitOfWork, found: PayoutReversal, status: str, verb: str, reason: str = "") -> None:
    found.status, found.decided_by, found.decided_at, found.decision_reason = status, str(unit.actor), now(), reason
    unit.session.flush()
    unit.audit(
        f"payout_reversal.{verb}",
        f"payout_reversal:{found.id}",
        before={"status": "proposed"},
        after={"status": status, "payout_id": found.payout_id},
        reason=reason,
    )
    unit.emit(f"payout_reversal.{status}", subject_id=found.id, payout_id=found.payout_id)
