"""What stands below an IB, and why a client is whose."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select, text
from sqlalchemy.orm import Session

from app.core.tables import AuditEntry
from app.models.clients import Client
from app.models.partners import Attribution, IBLink, IntroducingBroker
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
    """That a client was an IB's for a span of time, by which link, and for a move: who moved it and why."""

    ib_id: int
    ib_name: str
    source: str
    link_code: str
    valid_from: datetime
    valid_to: datetime | None
    moved_by: str
    reason: str


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
    """Whose client somebody was, from when to when and why, the first span first."""
    moves = {
        datetime.fromisoformat(entry.after["at"]): entry
        for entry in session.scalars(
            select(AuditEntry)
            .where(AuditEntry.action == "client.moved", AuditEntry.target == f"client:{client_id}")
            .order_by(AuditEntry.id)
        )
        if entry.after
    }
    found = []
    for span, code, broker in session.execute(
        select(Attribution, IBLink.code, Client)
        .join(IntroducingBroker, IntroducingBroker.id == Attribution.ib_id)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .outerjoin(IBLink, IBLink.id == Attribution.link_id)
        .where(Attribution.client_id == client_id)
        .order_by(Attribution.valid_from)
    ):
        move = moves.get(span.valid_from)
        found.append(
            ClientSpan(
                span.ib_id,
                broker.full_name,
                span.source,
                code or "",
                span.valid_from,
                span.valid_to,
                move.actor if move else "",
                move.reason if move else "",
            )
        )
    return found
