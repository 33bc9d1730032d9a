"""What stands below an IB, and why a client or an IB stands where it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select, text
from sqlalchemy.orm import Session

from app.core.tables import AuditEntry
from app.models.clients import Client
from app.models.partner_moves import PartnerMove
from app.models.partners import Attribution, IBLink, IBParent, IntroducingBroker
from app.partners.attribution import short_name

_BELOW = text(
    """
    WITH RECURSIVE below (ib_id, parent_id, depth, since) AS (
        SELECT p.ib_id, p.parent_id, 1, p.valid_from FROM ib_parent p
        WHERE p.parent_id = :ib_id AND tstzrange(p.valid_from, p.valid_to) @> CAST(:at AS timestamptz)
        UNION ALL
        SELECT p.ib_id, p.parent_id, below.depth + 1, p.valid_from FROM below
        JOIN ib_parent p ON p.parent_id = below.ib_id AND tstzrange(p.valid_from, p.valid_to) @> CAST(:at AS timestamptz)
    )
    SELECT ib_id, parent_id, depth, since FROM below ORDER BY depth, ib_id LIMIT :limit
    """
)


@dataclass(frozen=True)
class BranchIB:
    """An IB below another: `depth` steps down, under `parent_id` since `since`, with `clients` of its own."""

    ib_id: int
    parent_id: int
    depth: int
    name: str
    clients: int
    since: datetime


@dataclass(frozen=True)
class ClientSpan:
    """That a client was an IB's for a span of time, or nobody's; by which link, or who moved it there and why.

    With four eyes `proposed_by` asked for the move `move_id` and `moved_by` approved it. `explained` is what decided at the
    registration, as app/partners/attribution.py keeps it.
    """

    ib_id: int | None
    ib_name: str
    source: str
    link_code: str
    valid_from: datetime
    valid_to: datetime | None
    moved_by: str = ""
    reason: str = ""
    proposed_by: str = ""
    move_id: int | None = None
    explained: dict[str, Any] | None = None

    def holds(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


@dataclass(frozen=True)
class PlaceSpan:
    """That an IB stood under another for a span of time, or under nobody; who placed it there and why.

    With four eyes `proposed_by` asked for the move `move_id` and `set_by` approved it.
    """

    parent_id: int | None
    parent_name: str
    valid_from: datetime
    valid_to: datetime | None
    set_by: str = ""
    reason: str = ""
    proposed_by: str = ""
    move_id: int | None = None


def branch_ids(session: Session, ib_id: int, at: datetime, limit: int = 100_000) -> list[int]:
    """The IBs below an IB at a moment, the nearest first, without the IB itself."""
    return list(session.scalars(_BELOW, {"ib_id": ib_id, "at": at, "limit": limit}))


def branch(session: Session, ib_id: int, at: datetime, limit: int = 500) -> list[BranchIB]:
    """The IBs below an IB at a moment, the nearest first, without the IB itself; `limit` of them at most."""
    rows = session.execute(_BELOW, {"ib_id": ib_id, "at": at, "limit": limit}).all()
    ids = [row.ib_id for row in rows]
    people = session.execute(
        select(IntroducingBroker.id, Client)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .where(IntroducingBroker.id.in_(ids))
    )
    names = {found: short_name(client) for found, client in people}
    counted = session.execute(
        select(Attribution.ib_id, func.count())
        .where(
            Attribution.ib_id.in_(ids),
            Attribution.valid_from <= at,
            or_(Attribution.valid_to.is_(None), Attribution.valid_to > at),
        )
        .group_by(Attribution.ib_id)
    )
    clients = {row.ib_id: int(row[1]) for row in counted}
    return [
        BranchIB(row.ib_id, row.parent_id, row.depth, names[row.ib_id], clients.get(row.ib_id, 0), row.since) for row in rows
    ]


def history_of_client(session: Session, client_id: int) -> list[ClientSpan]:
    """Whose client somebody was, from when to when and why, the first span first; also when it was nobody's any more."""
    rows = session.execute(
        select(Attribution, IBLink.code, Client)
        .join(IntroducingBroker, IntroducingBroker.id == Attribution.ib_id)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .outerjoin(IBLink, IBLink.id == Attribution.link_id)
        .where(Attribution.client_id == client_id)
        .order_by(Attribution.valid_from)
    ).all()
    found: list[ClientSpan] = []
    for span, code, broker in rows:
        if found and found[-1].valid_to is not None and found[-1].valid_to < span.valid_from:
            found.append(ClientSpan(None, "", "manual", "", found[-1].valid_to, span.valid_from))
        made = ClientSpan(span.ib_id, broker.full_name, span.source, code or "", span.valid_from, span.valid_to)
        found.append(replace(made, explained=span.explained))
    if found and found[-1].valid_to is not None:
        found.append(ClientSpan(None, "", "manual", "", found[-1].valid_to, None))
    told = _moves_of_client(session, client_id)
    return [replace(span, **told.get(span.valid_from, {})) for span in found]


def _moves_of_client(session: Session, client_id: int) -> dict[datetime, dict[str, Any]]:
    """Who moved a client and why, by the moment from which the move counts."""
    entries = session.scalars(
        select(AuditEntry)
        .where(AuditEntry.action == "client.moved", AuditEntry.target == f"client:{client_id}")
        .order_by(AuditEntry.id)
    ).all()
    after = [entry.after or {} for entry in entries]
    numbers = {values["move_id"] for values in after if values.get("move_id")}
    query = select(PartnerMove.id, PartnerMove.proposed_by).where(PartnerMove.id.in_(numbers))
    proposers = {row.id: row.proposed_by for row in session.execute(query)}
    return {
        datetime.fromisoformat(values["at"]): {
            "moved_by": entry.actor,
            "reason": entry.reason,
            "proposed_by": proposers.get(values.get("move_id"), ""),
            "move_id": values.get("move_id"),
        }
        for entry, values in zip(entries, after, strict=True)
    }


def places_of_ib(session: Session, ib_id: int) -> list[PlaceSpan]:
    """Under whom an IB stood, from when to when and why, the first span first; also when it was under nobody any more."""
    rows = session.execute(
        select(IBParent, Client)
        .join(IntroducingBroker, IntroducingBroker.id == IBParent.parent_id)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .where(IBParent.ib_id == ib_id)
        .order_by(IBParent.valid_from)
    ).all()
    found: list[PlaceSpan] = []
    for span, broker in rows:
        if found and found[-1].valid_to is not None and found[-1].valid_to < span.valid_from:
            found.append(PlaceSpan(None, "", found[-1].valid_to, span.valid_from))
        found.append(PlaceSpan(span.parent_id, broker.full_name, span.valid_from, span.valid_to, span.set_by, span.reason))
    if found and found[-1].valid_to is not None:
        found.append(PlaceSpan(None, "", found[-1].valid_to, None))
    made = select(PartnerMove).where(PartnerMove.ib_id == ib_id, PartnerMove.status == "approved")
    moves = {move.effective_at: move for move in session.scalars(made)}
    return [_with_move(span, moves.get(span.valid_from)) for span in found]


def _with_move(span: PlaceSpan, move: PartnerMove | None) -> PlaceSpan:
    if move is None:
        return span
    return replace(span, set_by=move.decided_by or "", reason=move.reason, proposed_by=move.proposed_by, move_id=move.id)
