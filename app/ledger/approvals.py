"""What an approved request does in the ledger, and why it may no longer be able to.

Called inside the unit of work that approves: what is posted and the decision commit together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.errors import N_, AppError
from app.core.money import Money
from app.ledger import adjustments, chart, close, period_review, posting, revaluation
from app.ledger.adjustments import DraftLeg, Faults
from app.ledger.errors import AlreadyReversed, InsufficientFunds, LedgerError, NotPostable
from app.models.controls import LedgerRequest
from app.models.ledger import Transaction


def carry_out(session: Session, request: LedgerRequest, actor: Actor) -> UUID | None:
    """Post what the request asks for, or close the period. Returns the transaction of an adjustment or reversal.

    Raises NotPostable with all that has come in the way since the request was proposed.
    """
    if request.kind == "period_close":
        _close_period(session, request, actor)
        return None
    return _adjust(session, request, actor) if request.kind == "adjustment" else _reverse(session, request, actor)


def legs_of(session: Session, request: LedgerRequest) -> list[posting.Leg]:
    """What would be posted: the legs that were proposed, or the mirror image of the transaction to be reversed."""
    if request.kind == "reversal":
        return adjustments.mirrored(session, request.reverses) if request.reverses else []
    return [
        posting.Leg(
            leg["account"], Money(leg["amount_minor"], leg["currency"]), "credit" if leg["side"] == "credit" else "debit"
        )
        for leg in request.legs or []
    ]


def leg_documents(legs: Sequence[posting.Leg]) -> list[dict[str, Any]]:
    """The legs as a request keeps them."""
    return [
        {"account": leg.account, "side": leg.side, "amount_minor": leg.money.amount_minor, "currency": leg.money.currency}
        for leg in legs
    ]


def obstacles(session: Session, request: LedgerRequest) -> Faults:
    """Why the request could not be carried out now, by field; empty when it could."""
    if request.kind == "period_close":
        through = period_review.judge_end(session, request.closed_through)
        return _told({"through": through or blockers(session, request.closed_through)})
    legs = legs_of(session, request)
    faults: Faults = {"effective_at": adjustments.judge_moment(session, request.effective_at)}
    if request.kind == "reversal":
        reversed_by = select(Transaction.id).where(Transaction.reverses == request.reverses)
        faults["txn_id"] = [AlreadyReversed()] if session.scalar(reversed_by) is not None else []
    else:
        faults |= adjustments.judge(session, _drafts(legs)).faults
    if not faults.get("legs"):
        try:
            faults["legs"] = adjustments.shortages(adjustments.effects(session, legs))
        except LedgerError as error:
            faults["legs"] = [error]
    return _told(faults)


def blockers(session: Session, end: datetime | None) -> list[AppError]:
    """What forbids to close the time before `end`."""
    found = period_review.review(session, end).blockers if end is not None else ()
    return [LedgerError(finding.message, **finding.data) for finding in found]


def _adjust(session: Session, request: LedgerRequest, actor: Actor) -> UUID:
    _require_possible(session, request)
    assert request.effective_at is not None  # the table's check on content
    legs = legs_of(session, request)
    chart.open_accounts(session, *adjustments.judge(session, _drafts(legs)).unopened)
    try:
        return posting.post(
            session,
            key=f"ledger-request:{request.id}",
            kind="adjustment",
            effective_at=request.effective_at,
            actor=actor,
            legs=legs,
            metadata={"request_id": request.id, "reason": request.reason},
        )
    except LedgerError as error:
        raise _meanwhile(error) from error


def _reverse(session: Session, request: LedgerRequest, actor: Actor) -> UUID:
    _require_possible(session, request)
    assert request.reverses is not None  # the table's check on content
    assert request.effective_at is not None
    try:
        return posting.reverse(
            session,
            request.reverses,
            key=f"ledger-request:{request.id}",
            actor=actor,
            at=request.effective_at,
            reason=request.reason,
        )
    except LedgerError as error:
        raise _meanwhile(error) from error


def _close_period(session: Session, request: LedgerRequest, actor: Actor) -> None:
    """Revalue what the house holds in other currencies, then close; both or neither."""
    assert request.closed_through is not None  # the table's check on content
    close.hold_up_postings(session)
    _require_possible(session, request)
    try:
        revaluation.post_result(session, through=request.closed_through, actor=actor)
        close.close_period(session, request.closed_through, actor=actor)
    except LedgerError as error:
        raise _meanwhile(error) from error


def _require_possible(session: Session, request: LedgerRequest) -> None:
    faults = obstacles(session, request)
    if faults:
        raise NotPostable(faults)


def _meanwhile(error: LedgerError) -> NotPostable:
    """Somebody else took the money, or closed the books, between our look and our step."""
    short = InsufficientFunds(N_("An account has not enough any more."))
    return NotPostable({"legs": [short if isinstance(error, InsufficientFunds) else error]})


def _drafts(legs: Sequence[posting.Leg]) -> list[DraftLeg]:
    return [DraftLeg(leg.account, leg.side, leg.money) for leg in legs]


def _told(faults: Faults) -> Faults:
    return {field: errors for field, errors in faults.items() if errors}
