"""Sweeps: pull what a server has and book it. The stream is an accelerator, the pull is the proof.

What is not at the server any more is only believed gone after a second look at the single thing. Where more is gone than
people delete by hand, nothing is done: the daily check puts it before staff (reconcile.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.arrays import in_parts
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import booking, findings
from app.metatrader.backfill import (
    BackfillSource,
    PlatformBackfill,
    Witness,
    asked_now,
    is_gone,
    our_groups,
    witness_of,
)
from app.metatrader.errors import NotKnown
from app.metatrader.open_orders import ReplacedOrders, replace_orders
from app.metatrader.open_positions import Replaced, replace_positions
from app.metatrader.platform import Deal, TradingPlatform
from app.metatrader.servertime import ServerMoment, ServerZone, server_zone
from app.models.metatrader import Deal as BookedDeal
from app.models.metatrader import DealHead, Server

log = logging.getLogger("lotwise.metatrader")

#: Ingest waits while a unit holds the server.
DEALS_PER_UNIT = 500
#: How much time is compared at once at first: its tickets are kept in memory. It doubles while there are few.
PIECE = timedelta(hours=6)
FEW_TICKETS = 100_000
#: More than this nobody deletes by hand between two sweeps.
MOST_BELIEVED_GONE = 100
#: By so much tickets may be in another order than the moments of their deals.
OUT_OF_ORDER = timedelta(minutes=5)
ACTOR = Actor.system("sweep")


@dataclass
class Swept:
    """What a sweep did: deals that were unknown or otherwise known, those it found deleted at the server, positions, orders."""

    began_at: datetime
    through: datetime
    new: int = 0
    voided: int = 0
    positions: Replaced = field(default_factory=Replaced)
    orders: ReplacedOrders = field(default_factory=ReplacedOrders)


@dataclass(frozen=True)
class StoredDeal(Deal):
    """A deal as we have it. What we do not keep of a deal is empty, so its fingerprint is the one it was booked with."""

    stored_fingerprint: bytes = b""

    def fingerprint(self) -> bytes:
        return self.stored_fingerprint


def sweep(
    session: Session, platform: TradingPlatform, server_id: int, *, since: datetime, source: BackfillSource | None = None
) -> Swept | None:
    """Book every deal of our groups since a moment; what is already booked changes nothing.

    Deals of that time that are no longer at the server become void, and our open positions and orders become those of the
    server. None while another sweep of the server is under way.
    """
    with alone(session, f"sweep:{server_id}") as is_alone:
        if not is_alone:
            return None
        zone = server_zone(session.get_one(Server, server_id).time_zone)
        source = source or PlatformBackfill(platform, our_groups(session, server_id))
        witness = witness_of(source, platform)
        session.rollback()
        swept = Swept(began_at=now(), through=now())
        start, piece = since, PIECE
        while start < swept.through:
            end = min(start + piece, swept.through)
            seen = _book_piece(session, source, server_id, zone, start, end, swept)
            _void_vanished(session, witness, server_id, (start, end), seen, swept)
            start, piece = end, piece * 2 if len(seen) < FEW_TICKETS else piece
        swept.positions = replace_positions(session, witness, source, server_id, zone, actor=ACTOR)
        swept.orders = replace_orders(session, witness, source, server_id, zone, actor=ACTOR)
        return swept


@contextmanager
def alone(session: Session, name: str) -> Iterator[bool]:
    """Hold a named lock over several units of work; says whether it is ours. It dies with its holder."""
    with session.get_bind().engine.connect() as connection:
        yield bool(connection.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 0)))))


def book(
    session: Session,
    server_id: int,
    deals: Iterable[Deal],
    zone: ServerZone,
    *,
    not_before: datetime,
    actor: Actor,
    asked_at: datetime | None,
) -> int:
    """Book deals given by ticket, in units of bearable length. Returns how many were new or changed.

    `asked_at`: when the server itself was asked for them, so that they are its word; None where they come from elsewhere.
    """
    new = 0
    for part in in_parts(deals, DEALS_PER_UNIT):
        moments = _moments(session, server_id, part, zone, not_before)
        reports = [
            booking.DealReport(deal, at.utc, at.utc_offset_min, seen_at=asked_at, is_answer=asked_at is not None)
            for deal, at in zip(part, moments, strict=True)
        ]
        not_before = max(not_before, moments[-1].utc)
        with unit_of_work(session, actor) as unit:
            booking.lock_server(session, server_id)
            new += len(booking.book_deals(unit, server_id, reports).deal_ids)
    return new


def void(session: Session, server_id: int, tickets: Iterable[int], *, actor: Actor) -> list[int]:
    """Book that deals are deleted at the server, as they last stood. Returns the ids of the new, void revisions."""
    with unit_of_work(session, actor) as unit:
        booking.lock_server(session, server_id)
        rows = session.scalars(
            select(BookedDeal).where(
                BookedDeal.server_id == server_id,
                BookedDeal.ticket.in_(list(tickets)),
                BookedDeal.is_current,
                BookedDeal.is_void.is_(False),
            )
        ).all()
        reports = [
            booking.DealReport(stored(row), row.done_at, row.utc_offset_min, is_deleted=True, is_answer=True) for row in rows
        ]
        return booking.book_deals(unit, server_id, reports).deal_ids


def refetch(
    session: Session, witness: Witness, server_id: int, tickets: Iterable[int], *, actor: Actor
) -> tuple[int, list[int]]:
    """Ask the server for single deals and book what it says. Returns how many changed, and the tickets it does not show."""
    zone = server_zone(session.get_one(Server, server_id).time_zone)
    session.rollback()
    changed, unseen = 0, []
    for ticket in tickets:
        asked_at = now()
        try:
            deal = witness.deal(ticket)
        except NotKnown:
            unseen.append(ticket)
            continue
        near = session.scalar(select(DealHead.filed_at).where(DealHead.server_id == server_id, DealHead.ticket == ticket))
        session.rollback()
        changed += book(session, server_id, [deal], zone, not_before=near or asked_at, actor=actor, asked_at=asked_at)
    return changed, unseen


def follow(session: Session, witness: Witness, server_id: int, tickets: Iterable[int], *, actor: Actor) -> int:
    """Make these deals what the server says of them: as they stand there, or void. Returns how many changed."""
    wanted = list(tickets)
    changed, unseen = refetch(session, witness, server_id, wanted, actor=actor)
    if unseen:
        rows = session.execute(
            select(BookedDeal.ticket, BookedDeal.login).where(
                BookedDeal.server_id == server_id, BookedDeal.ticket.in_(unseen), BookedDeal.is_current
            )
        ).all()
        session.rollback()
        gone = [row.ticket for row in rows if is_gone(witness, row.ticket, row.login)]
        changed += len(void(session, server_id, gone, actor=actor)) if gone else 0
    return changed


def stored(row: BookedDeal) -> StoredDeal:
    """A booked deal as a report of it, for what is said about it later."""
    named = {name: getattr(row, name) for name in Deal.__dataclass_fields__ if name in BookedDeal.__table__.c}
    kept = {name: value for name, value in named.items() if value is not None}
    missing: dict[str, Any] = dict.fromkeys(("price_position", "rate_margin", "digits"), 0)
    return StoredDeal(**{**missing, **kept}, stored_fingerprint=row.fingerprint)


def _moments(
    session: Session, server_id: int, deals: Sequence[Deal], zone: ServerZone, not_before: datetime
) -> list[ServerMoment]:
    """When deals given by ticket were done. In the hour that the clock shows twice their order tells the pass; what we have
    beside them by ticket, or of the same, tells it better, because it also knows of deals that were not asked for.
    """
    moments = zone.in_order((deal.server_time_ms for deal in deals), not_before=not_before)
    unsure = {deal.ticket: place for place, deal in enumerate(deals) if moments[place].is_ambiguous}
    if unsure:
        rows = session.execute(_BESIDE, {"server_id": server_id, "tickets": list(unsure)}).all()
        session.rollback()
        for ticket, before, after in rows:
            place = unsure[ticket]
            wall_ms = deals[place].server_time_ms
            first = zone.to_utc(wall_ms)
            second = zone.to_utc(wall_ms, near=first.utc + timedelta(hours=1))
            if before is not None and before > first.utc + OUT_OF_ORDER:
                moments[place] = second
            elif after is not None and after < second.utc - OUT_OF_ORDER:
                moments[place] = first
    return moments


#: By ticket: when the nearest deals that we have were done, up to it and from it on.
_BESIDE = text("""
    SELECT asked.ticket,
           (SELECT filed_at FROM deal_head WHERE server_id = :server_id AND ticket <= asked.ticket
             ORDER BY ticket DESC LIMIT 1),
           (SELECT filed_at FROM deal_head WHERE server_id = :server_id AND ticket >= asked.ticket
             ORDER BY ticket LIMIT 1)
      FROM unnest(CAST(:tickets AS bigint[])) AS asked (ticket)
""")


def _book_piece(
    session: Session,
    source: BackfillSource,
    server_id: int,
    zone: ServerZone,
    start: datetime,
    end: datetime,
    swept: Swept,
) -> set[int]:
    """Book a piece of the range. Returns the tickets that the server has in it."""
    seen: set[int] = set()

    def noticed() -> Iterator[Deal]:
        for deal in source.deals(start, end):
            seen.add(deal.ticket)
            yield deal

    asked_at = asked_now(source)
    swept.new += book(session, server_id, noticed(), zone, not_before=start, actor=ACTOR, asked_at=asked_at)
    return seen


def _void_vanished(
    session: Session,
    witness: Witness,
    server_id: int,
    piece: tuple[datetime, datetime],
    seen: set[int],
    swept: Swept,
) -> None:
    """Void those of our deals of this time that the server did not give and, asked again for each, does not have."""
    rows = session.execute(
        select(BookedDeal.ticket, BookedDeal.login).where(
            BookedDeal.server_id == server_id,
            BookedDeal.is_current,
            BookedDeal.is_void.is_(False),
            BookedDeal.filed_at.between(*piece),
            BookedDeal.done_at.between(*piece),
        )
    ).all()
    for_people = findings.left_to_people(session, server_id)
    session.rollback()
    missing = [(row.ticket, row.login) for row in rows if row.ticket not in seen and row.login not in for_people]
    if len(missing) > MOST_BELIEVED_GONE:
        log.error("deals vanished in numbers; left to the daily check server=%s deals=%s", server_id, len(missing))
        return
    gone = [ticket for ticket, login in missing if is_gone(witness, ticket, login)]
    if gone:
        swept.voided += len(void(session, server_id, gone, actor=ACTOR))
