"""Moves with four eyes: one person proposes where a client, all clients of an IB or an IB with its branch go, another decides.

What cannot be carried out is refused when it is proposed already: the move is tried in a savepoint that is rolled back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import four_eyes
from app.models.clients import Client
from app.models.partner_moves import PartnerMove
from app.models.partners import IntroducingBroker
from app.partners import tree
from app.partners.errors import MovedMeanwhile, NothingToMove

CLIENT, CLIENTS, IB = KINDS = ("client", "clients", "ib")

LONGEST_REASON = 500

#: How far ahead a move may be set.
FURTHEST = timedelta(days=366)


def draft_move(
    session: Session, *, kind: str, subject_id: int, target_id: int | None, effective_at: datetime | None = None
) -> PartnerMove:
    """A move that is not proposed yet, with whose the subject is now. `subject_id` is a client's, or an IB's.

    Raises NotFound for a subject that does not exist.
    """
    move = PartnerMove(
        kind=kind,
        client_id=subject_id if kind == CLIENT else None,
        ib_id=subject_id if kind == IB else None,
        from_id=subject_id if kind == CLIENTS else None,
        target_id=target_id,
        effective_at=effective_at,
    )
    if session.get(Client if kind == CLIENT else IntroducingBroker, subject_id) is None:
        raise NotFound
    move.from_id = _present(session, move)
    return move


def propose_move(
    session: Session,
    *,
    kind: str,
    subject_id: int,
    target_id: int | None,
    effective_at: datetime | None,
    reason: str,
    actor: Actor,
) -> PartnerMove:
    """Ask that a client, the clients of an IB or an IB belong to another IB, or to nobody, from a moment on; without one,
    from the approval on.

    Raises InvalidInput with all problems of the input, NotFound, MoveWaiting, and all that `move_client`, `move_clients` and
    `place_ib` would refuse.
    """
    with unit_of_work(session, actor) as unit:
        said = " ".join(reason.split())
        _check(session, kind, target_id, effective_at, said)
        move = draft_move(session, kind=kind, subject_id=subject_id, target_id=target_id, effective_at=effective_at)
        move.reason, move.proposed_by = said[:LONGEST_REASON], str(actor)
        _try(unit, move)
        session.add(move)
        session.flush()
        unit.audit("partner_move.propose", f"partner_move:{move.id}", after=_values(move), reason=move.reason)
        unit.emit("partner_move.proposed", subject_id=move.id)
        return move


def try_move(session: Session, move: PartnerMove, actor: Actor) -> None:
    """Raises what a proposal of this draft would be refused for, but for its reason. Nothing is kept."""
    with unit_of_work(session, actor) as unit:
        _check(session, move.kind, move.target_id, move.effective_at, "tried")
        move.reason = move.reason or "tried"
        _try(unit, move)


def approve_move(session: Session, move_id: int, *, actor: Actor) -> PartnerMove:
    """Carry a proposed move out. Raises NotFound, OwnRequest for the one who proposed, RequestDecided, MovedMeanwhile, and
    what the move itself is refused for by now.
    """
    with unit_of_work(session, actor) as unit:
        move = _open(session, move_id)
        four_eyes.require_other(move, actor)
        _lock_subject(session, move)
        if _present(session, move) != move.from_id:
            raise MovedMeanwhile
        at = move.effective_at or now()
        moved = _carry_out(unit, move, at)
        move.effective_at, move.moved = at, moved
        _decide(unit, move, "approved", "approve")
        return move


def reject_move(session: Session, move_id: int, *, reason: str, actor: Actor) -> PartnerMove:
    """Turn a proposed move down. Raises NotFound, OwnRequest, RequestDecided, InvalidInput without a reason."""
    with unit_of_work(session, actor) as unit:
        move = _open(session, move_id)
        four_eyes.require_other(move, actor)
        said = " ".join(reason.split())
        if not said:
            raise InvalidInput({"reason": N_("Please give a reason.")})
        _decide(unit, move, "rejected", "reject", said[:LONGEST_REASON])
        return move


def withdraw_move(session: Session, move_id: int, *, actor: Actor) -> PartnerMove:
    """Take back one's own proposal. Raises NotFound, NotYourRequest, RequestDecided."""
    with unit_of_work(session, actor) as unit:
        move = _open(session, move_id)
        four_eyes.require_proposer(move, actor)
        _decide(unit, move, "withdrawn", "withdraw")
        return move


def _check(session: Session, kind: str, target_id: int | None, effective_at: datetime | None, reason: str) -> None:
    problems: dict[str, str] = {}
    if kind not in KINDS:
        problems["kind"] = N_("Please choose what is to be moved.")
    target = session.get(IntroducingBroker, target_id) if target_id is not None else None
    if target_id is not None and target is None:
        problems["target"] = N_("This introducing broker does not exist.")
    elif target is not None and not target.is_active:
        problems["target"] = N_("This introducing broker is not active.")
    if effective_at is not None and effective_at > now() + FURTHEST:
        problems["effective_at"] = N_("Choose a moment within the next year.")
    if not reason:
        problems["reason"] = N_("Please give a reason.")
    if problems:
        raise InvalidInput(problems)


def _present(session: Session, move: PartnerMove) -> int | None:
    """Whose the subject is by the last that is known of it, which may begin in the future; None: nobody's."""
    if move.client_id is not None:
        span = tree.last_attribution(session, move.client_id)
        return span.ib_id if span and span.valid_to is None else None
    if move.ib_id is not None:
        place = tree.last_place(session, move.ib_id)
        return place.parent_id if place and place.valid_to is None else None
    return move.from_id


def _try(unit: UnitOfWork, move: PartnerMove) -> None:
    at = move.effective_at or now()
    if move.from_id == move.target_id:
        raise NothingToMove
    if move.kind == CLIENTS:
        # Nothing else refuses them, and there may be thousands.
        tree.require_movable(unit.session, move.subject_id, move.target_id, at)
        return
    with unit.session.begin_nested() as trial:
        _carry_out(unit, move, at)
        trial.rollback()


def _lock_subject(session: Session, move: PartnerMove) -> None:
    """Nobody else moves it until this is through."""
    if move.client_id is not None:
        session.get(Client, move.client_id, with_for_update={"key_share": True})
    elif move.ib_id is not None:
        session.get(IntroducingBroker, move.ib_id, with_for_update={"key_share": True})


def _carry_out(unit: UnitOfWork, move: PartnerMove, at: datetime) -> int:
    """Returns how many clients moved, or 1 for an IB."""
    session, actor = unit.session, unit.actor
    if move.client_id is not None:
        tree.move_client(session, move.client_id, move.target_id, at, move.reason, actor, move_id=move.id)
        return 1
    if move.ib_id is not None:
        tree.place_ib(session, move.ib_id, move.target_id, at, move.reason, actor)
        return 1
    assert move.from_id is not None  # a check of the table
    return tree.move_clients(session, move.from_id, move.target_id, at, move.reason, actor, move_id=move.id)


def _open(session: Session, move_id: int) -> PartnerMove:
    move = session.get(PartnerMove, move_id, with_for_update=True, populate_existing=True)
    if move is None:
        raise NotFound
    four_eyes.require_open(move)
    return move


def _decide(unit: UnitOfWork, move: PartnerMove, status: str, verb: str, reason: str = "") -> None:
    move.status, move.decided_by, move.decided_at, move.decision_reason = status, str(unit.actor), now(), reason
    unit.session.flush()
    unit.audit(
        f"partner_move.{verb}",
        f"partner_move:{move.id}",
        before={"status": "proposed"},
        after={"status": status, "moved": move.moved, **_values(move)},
        reason=reason,
    )
    unit.emit(f"partner_move.{status}", subject_id=move.id)


def _values(move: PartnerMove) -> dict[str, str | int | None]:
    """What the audit trail keeps of it."""
    return {
        "kind": move.kind,
        "client_id": move.client_id,
        "ib_id": move.ib_id,
        "from_id": move.from_id,
        "target_id": move.target_id,
        "effective_at": move.effective_at.isoformat() if move.effective_at else None,
    }
