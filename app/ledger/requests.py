"""Requests to correct the ledger, and to close a period: one person proposes, another one decides.

A request changes nothing. What it asks for is judged twice, when it is proposed and when it is approved, because money
moves and periods close in between; an approval that cannot be carried out leaves the request as it was. That proposer and
decider differ is held here and by a constraint of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import adjustments, approvals, four_eyes, period_review, posting
from app.ledger.adjustments import DraftLeg, Faults
from app.ledger.errors import (
    AlreadyReversed,
    IdempotencyConflict,
    RefusedRequest,
    ReversalRequested,
    UnknownTransaction,
)
from app.models.controls import LedgerRequest
from app.models.ledger import Transaction
from app.models.security import User

MAX_REASON = 1_000


@dataclass(frozen=True)
class Evidence:
    """A stored file that shows why: its key in the document storage, its name for people, its media type."""

    key: str
    name: str
    media_type: str


@dataclass(frozen=True)
class Proposed:
    """The request. Sent twice under one key it is one request, and the evidence of the first time is the one that is kept."""

    request_id: int
    evidence_key: str | None


@dataclass(frozen=True)
class Decided:
    """The decision, and the transaction that an approved adjustment or reversal has become."""

    request_id: int
    kind: str
    status: str
    txn_id: UUID | None


def propose_adjustment(
    session: Session,
    *,
    legs: Sequence[DraftLeg],
    effective_at: datetime | None,
    reason: str,
    evidence: Evidence | None,
    key: str,
    actor: Actor,
) -> Proposed:
    """Ask for a transaction of 2 to 200 legs, balanced per currency. Emits ledger_request.proposed; posts nothing.

    Raises RefusedRequest with everything that is wrong, and IdempotencyConflict when the key was used for something else.
    """
    with unit_of_work(session, actor) as unit:
        judged = adjustments.judge(session, legs)
        words = _words(reason)
        wanted = {"legs": approvals.leg_documents(judged.legs), "effective_at": effective_at, "reason": words}
        if known := _repeated(session, "adjustment", key, wanted, actor):
            return known
        faults = {**judged.faults, **_faults_of(words, evidence)}
        faults["effective_at"] = adjustments.judge_moment(session, effective_at)
        return _store(unit, "adjustment", key, wanted, faults, evidence)


def propose_reversal(
    session: Session,
    *,
    txn_id: UUID,
    effective_at: datetime | None,
    reason: str,
    evidence: Evidence | None,
    key: str,
    actor: Actor,
) -> Proposed:
    """Ask for a transaction to be taken back by its mirror image. Emits ledger_request.proposed; posts nothing.

    Raises as propose_adjustment; also for a transaction that is reversed, or asked to be reversed by an open request.
    """
    with unit_of_work(session, actor) as unit:
        words = _words(reason)
        wanted = {"reverses": txn_id, "effective_at": effective_at, "reason": words}
        if known := _repeated(session, "reversal", key, wanted, actor):
            return known
        faults = _faults_of(words, evidence)
        faults["txn_id"] = judge_reversal(session, txn_id)
        faults["effective_at"] = adjustments.judge_moment(session, effective_at, not_before=_effective_of(session, txn_id))
        return _store(unit, "reversal", key, wanted, faults, evidence)


def propose_period_close(session: Session, *, through: date | None, reason: str, key: str, actor: Actor) -> Proposed:
    """Ask for the books to be closed up to the end of a UTC day. Emits ledger_request.proposed; closes nothing.

    Raises as propose_adjustment; also for a day that is not over, or while something forbids it (period_review).
    """
    with unit_of_work(session, actor) as unit:
        words, end = _words(reason), end_of(through)
        wanted = {"closed_through": end, "reason": words}
        if known := _repeated(session, "period_close", key, wanted, actor):
            return known
        faults = _faults_of(words, None, needs_evidence=False)
        faults["through"] = period_review.judge_end(session, end) or approvals.blockers(session, end)
        return _store(unit, "period_close", key, wanted, faults, None)


def approve(session: Session, request_id: int, actor: Actor) -> Decided:
    """Carry out what somebody else has proposed, in one unit of work. Emits ledger_request.approved.

    Raises NotFound, RequestDecided, OwnRequest, and NotPostable when the books or the money no longer allow it; then
    nothing is posted and the request stays proposed.
    """
    with unit_of_work(session, actor) as unit:
        request = _open_request(session, request_id)
        four_eyes.require_other(request, actor)
        return _decide(unit, request, "approved", txn_id=approvals.carry_out(session, request, actor))


def reject(session: Session, request_id: int, reason: str, actor: Actor) -> Decided:
    """Refuse what somebody else has proposed, with a reason. Emits ledger_request.rejected.

    Raises InvalidInput without a reason, and what approve raises.
    """
    words = _words(reason)
    if not 0 < len(words) <= MAX_REASON:
        problem = N_("Please give the reason in a sentence (at most 1,000 characters).")
        raise InvalidInput({"reason": problem}, message=problem)
    with unit_of_work(session, actor) as unit:
        request = _open_request(session, request_id)
        four_eyes.require_other(request, actor)
        return _decide(unit, request, "rejected", reason=words)


def withdraw(session: Session, request_id: int, actor: Actor) -> Decided:
    """Take an own request back. Emits ledger_request.withdrawn. Raises NotFound, RequestDecided or NotYourRequest."""
    with unit_of_work(session, actor) as unit:
        request = _open_request(session, request_id)
        four_eyes.require_proposer(request, actor)
        return _decide(unit, request, "withdrawn")


def judge_reversal(session: Session, txn_id: UUID) -> list[AppError]:
    """Why a transaction cannot be asked to be reversed: unknown, reversed, asked for already, or taken back elsewhere."""
    txn = session.get(Transaction, txn_id)
    if txn is None:
        return [UnknownTransaction()]
    if txn.kind == "commission_payout":
        return [
            InvalidInput(message=N_("A commission payout is taken back on its own page, so that it is known as taken back."))
        ]
    if session.scalar(select(Transaction.id).where(Transaction.reverses == txn_id)) is not None:
        return [AlreadyReversed()]
    open_one = select(LedgerRequest.id).where(LedgerRequest.reverses == txn_id, LedgerRequest.status == "proposed")
    return [ReversalRequested()] if session.scalar(open_one) is not None else []


def end_of(day: date | None) -> datetime | None:
    """The moment at which a UTC day is over."""
    return None if day is None or day == date.max else datetime.combine(day + timedelta(days=1), time(), UTC)


# ── proposing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _words(reason: str) -> str:
    """One line of what can be printed; marks of writing direction and other invisible signs are left out."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in reason).split())


def _faults_of(words: str, evidence: Evidence | None, *, needs_evidence: bool = True) -> Faults:
    faults: Faults = {}
    if not 0 < len(words) <= MAX_REASON:
        faults["reason"] = [InvalidInput(message=N_("Please say why, in a sentence or two (at most 1,000 characters)."))]
    if needs_evidence and evidence is None:
        faults["evidence"] = [InvalidInput(message=N_("Please add a file that shows why: a PDF, a PNG or a JPEG."))]
    return faults


def _repeated(session: Session, kind: str, key: str, wanted: dict[str, Any], actor: Actor) -> Proposed | None:
    """The request that the same person sent before under this key, if it asks for the same."""
    posting.check_name(key, longest=64)
    own = select(LedgerRequest).where(LedgerRequest.proposed_by == str(actor), LedgerRequest.idempotency_key == key)
    request = session.scalars(own).one_or_none()
    if request is None:
        return None
    if request.kind != kind or any(getattr(request, name) != value for name, value in wanted.items()):
        raise IdempotencyConflict()
    return Proposed(request.id, request.evidence_key)


def _store(
    unit: UnitOfWork, kind: str, key: str, wanted: dict[str, Any], faults: Faults, evidence: Evidence | None
) -> Proposed:
    session, refused = unit.session, RefusedRequest(faults)
    if refused.faults:
        raise refused
    values = {**wanted, "kind": kind, "idempotency_key": key, "proposed_by": str(unit.actor)}
    if evidence is not None:
        values |= {"evidence_key": evidence.key, "evidence_name": evidence.name, "evidence_type": evidence.media_type}
    once = insert(LedgerRequest).values(values).on_conflict_do_nothing(index_elements=["proposed_by", "idempotency_key"])
    request_id = session.scalar(once.returning(LedgerRequest.id))
    if request_id is None:  # the same form came twice at once, and the other one was first
        known = _repeated(session, kind, key, wanted, unit.actor)
        assert known is not None  # it is what the insert met
        return known
    request = session.get_one(LedgerRequest, request_id)
    unit.audit("ledger_request.proposed", f"ledger_request:{request_id}", after=_picture(request), reason=request.reason)
    unit.emit("ledger_request.proposed", subject_id=request_id, kind=kind)
    return Proposed(request_id, request.evidence_key)


def _effective_of(session: Session, txn_id: UUID) -> datetime | None:
    return session.scalar(select(Transaction.effective_at).where(Transaction.id == txn_id))


# ── deciding ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _open_request(session: Session, request_id: int) -> LedgerRequest:
    """The request, locked. Raises NotFound, and RequestDecided with what became of it."""
    request = session.get(LedgerRequest, request_id, with_for_update=True)
    if request is None:
        raise NotFound()
    four_eyes.require_open(request, _name_of(session, request.decided_by or ""))
    return request


def _name_of(session: Session, actor: str) -> str:
    """A staff member's name for colleagues; the actor's text form for anybody else."""
    kind, _, number = actor.partition(":")
    user = session.get(User, int(number)) if kind == "staff" and number.isdigit() else None
    return f"{user.first_name} {user.last_name}".strip() if user else actor


def _decide(unit: UnitOfWork, request: LedgerRequest, status: str, *, reason: str = "", txn_id: UUID | None = None) -> Decided:
    before = _picture(request)
    request.status, request.decided_by, request.decided_at = status, str(unit.actor), now()
    request.decision_reason, request.txn_id = reason, txn_id
    unit.session.flush()
    unit.audit(
        f"ledger_request.{status}", f"ledger_request:{request.id}", before=before, after=_picture(request), reason=reason
    )
    unit.emit(f"ledger_request.{status}", subject_id=request.id, kind=request.kind, txn_id=str(txn_id) if txn_id else None)
    return Decided(request.id, request.kind, status, txn_id)


def _picture(request: LedgerRequest) -> dict[str, Any]:
    """What the audit trail keeps of a request."""
    moments = ("effective_at", "closed_through", "decided_at")
    plain = ("kind", "status", "reason", "legs", "evidence_name", "proposed_by", "decided_by", "decision_reason")
    ids = ("reverses", "txn_id")
    return {
        **{name: getattr(request, name) for name in plain},
        **{name: moment.isoformat() if (moment := getattr(request, name)) else None for name in moments},
        **{name: str(value) if (value := getattr(request, name)) else None for name in ids},
    }
