"""Cancelling an approved move before its moment: everything goes on as if nobody had proposed it.

What has begun is history and stays; see sql/tree.sql. Approving took four eyes because it changes who is paid; cancelling
changes nothing that anybody was paid by, so one who may decide moves is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.arrays import any_of
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.tables import AuditEntry
from app.core.uow import UnitOfWork, unit_of_work
from app.models.partner_moves import PartnerMove
from app.models.partners import Attribution, IBParent, IntroducingBroker
from app.partners import tree
from app.partners.errors import MoveBuiltUpon, MoveNotCancellable
from app.partners.moves import CLIENTS, LONGEST_REASON

#: So long before its moment a move stands for good: deals of that moment must not be paid by what is being taken back.
NOTICE = timedelta(minutes=1)


def can_cancel(move: PartnerMove, at: datetime) -> bool:
    """Whether a move is approved and its moment far enough ahead."""
    return move.status == "approved" and move.effective_at is not None and move.effective_at > at + NOTICE


def cancel_move(session: Session, move_id: int, *, reason: str, actor: Actor) -> PartnerMove:
    """Have an approved move not happen: what it would have ended goes on, what it would have begun is gone.

    Raises NotFound, InvalidInput without a reason, MoveNotCancellable, MoveBuiltUpon where a later move begins with what this
    one leads to, and CircleOfIBs or OwnDownline where one is possible only because of this one. Emits partner_move.cancelled,
    and client.move_cancelled for each client.
    """
    said = " ".join(reason.split())[:LONGEST_REASON]
    if not said:
        raise InvalidInput({"reason": N_("Please give a reason.")})
    with unit_of_work(session, actor) as unit:
        move = session.get(PartnerMove, move_id, with_for_update=True, populate_existing=True)
        if move is None:
            raise NotFound
        if not can_cancel(move, now()):
            raise MoveNotCancellable
        if move.ib_id is not None:
            _take_back_place(session, move, move.ib_id)
        else:
            _take_back_clients(unit, move, said)
        move.status, move.cancelled_by, move.cancelled_at, move.cancel_reason = "cancelled", str(actor), now(), said
        session.flush()
        unit.audit(
            "partner_move.cancel",
            f"partner_move:{move.id}",
            before={"status": "approved"},
            after={"status": "cancelled", "moved": move.moved},
            reason=said,
        )
        unit.emit("partner_move.cancelled", subject_id=move.id)
        return move


def _take_back_place(session: Session, move: PartnerMove, ib_id: int) -> None:
    session.get(IntroducingBroker, ib_id, with_for_update={"key_share": True})
    spans = select(IBParent).where(IBParent.ib_id == ib_id, _from(IBParent, move)).order_by(IBParent.valid_from)
    found = session.scalars(spans.with_for_update().execution_options(populate_existing=True)).all()
    if not _restore(session, move, [(span, span.parent_id) for span in found], 1):
        raise _built_upon(session, move, [])


def _take_back_clients(unit: UnitOfWork, move: PartnerMove, reason: str) -> None:
    session = unit.session
    moved = tree.lock_clients(session, _moved_clients(move))
    spans = select(Attribution).where(Attribution.client_id == any_of(moved), _from(Attribution, move))
    ordered = spans.order_by(Attribution.client_id, Attribution.valid_from)
    found = session.scalars(ordered.with_for_update().execution_options(populate_existing=True)).all()
    if len(moved) != move.moved or not _restore(session, move, [(span, span.ib_id) for span in found], len(moved)):
        raise _built_upon(session, move, moved)
    for client_id in moved:
        unit.audit(
            "client.move_cancelled",
            f"client:{client_id}",
            before={"ib_id": move.target_id, "move_id": move.id},
            after={"ib_id": move.from_id},
            reason=reason,
        )
        unit.emit("client.move_cancelled", subject_id=client_id, client_id=client_id, ib_id=move.from_id)


def _moved_clients(move: PartnerMove) -> Select[int]:
    """Whom a move moved. Of one to nobody only the trail tells: such a move begins no spans that could name it."""
    if move.client_id is not None:
        return select(literal(move.client_id))
    if move.target_id is not None:
        return select(Attribution.client_id).where(Attribution.move_id == move.id)
    told = and_(
        AuditEntry.target == func.concat("client:", Attribution.client_id),
        AuditEntry.action == "client.moved",
        AuditEntry.after["move_id"].as_integer() == move.id,
    )
    ended = select(Attribution.client_id).join(AuditEntry, told)
    return ended.where(Attribution.ib_id == move.from_id, Attribution.valid_to == move.effective_at)


def _from(table: type[IBParent | Attribution], move: PartnerMove) -> ColumnElement[bool]:
    """The spans that begin at the move's moment or later, or end then or later."""
    return or_(table.valid_from >= move.effective_at, table.valid_to >= move.effective_at)


def _restore(session: Session, move: PartnerMove, spans: Sequence[tuple[IBParent | Attribution, int]], subjects: int) -> bool:
    """Of so many subjects take away what the move began and have go on what it ended; False, and nothing done, where these
    spans, each with its IB, are not as the move left them.
    """
    at = move.effective_at
    begins = [span for span, _ in spans if at is not None and span.valid_from >= at]
    begun = [span for span, ib_id in spans if span.valid_from == at and span.valid_to is None and ib_id == move.target_id]
    ended = [span for span, ib_id in spans if span.valid_to == at and ib_id == move.from_id]
    wanted = subjects * (move.target_id is not None), subjects * (move.from_id is not None)
    if (len(begun), len(ended)) != wanted or begins != begun:
        return False
    for span in begun:
        session.delete(span)
    session.flush()
    for span in ended:
        span.valid_to = None
    session.flush()
    return True


def _built_upon(session: Session, move: PartnerMove, client_ids: list[int]) -> MoveBuiltUpon:
    """Names the newest approved move of the same that was decided later, where there is one."""
    same = [PartnerMove.client_id == any_of(client_ids)]
    if move.ib_id is not None:
        same.append(PartnerMove.ib_id == move.ib_id)
    elif move.target_id is not None:
        same.append(and_(PartnerMove.kind == CLIENTS, PartnerMove.from_id == move.target_id))
    decided = PartnerMove.status == "approved", PartnerMove.id != move.id, PartnerMove.decided_at >= move.decided_at
    query = select(PartnerMove.id).where(*decided, or_(*same))
    later = session.scalar(query.order_by(PartnerMove.effective_at.desc(), PartnerMove.id.desc()).limit(1))
    return MoveBuiltUpon(MoveBuiltUpon.named, later=later) if later is not None else MoveBuiltUpon()
