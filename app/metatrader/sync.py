"""Sweeps: pull what a server has and book it. The stream is an accelerator, the pull is the proof."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import booking
from app.metatrader.platform import TradingPlatform
from app.metatrader.servertime import server_zone
from app.models.metatrader import Product, Server

#: Ingest waits while a unit holds the server, and a statement has room for so many parameters.
DEALS_PER_UNIT = 500


def sweep(session: Session, platform: TradingPlatform, server_id: int, *, since: datetime) -> int:
    """Book every deal of our groups since a moment; what is already booked changes nothing. Returns how many were new."""
    server = session.get_one(Server, server_id)
    groups = session.scalars(
        select(Product.group).where(Product.server_id == server_id).distinct().order_by(Product.group)
    ).all()
    zone = server_zone(server.time_zone)
    session.rollback()
    new = 0
    for group in groups:
        deals = platform.deals_by_group(group, since, now())
        moments = zone.in_order((deal.server_time_ms for deal in deals), not_before=since)
        reports = [
            booking.DealReport(deal, moment.utc, moment.utc_offset_min) for deal, moment in zip(deals, moments, strict=True)
        ]
        for start in range(0, len(reports), DEALS_PER_UNIT):
            with unit_of_work(session, Actor.system("sweep")) as unit:
                booking.lock_server(session, server_id)
                new += len(booking.book_deals(unit, server_id, reports[start : start + DEALS_PER_UNIT]).deal_ids)
    return new
