"""From a visit to a trade: how many of an IB's clients came how far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.models.clients import Client
from app.models.partners import Attribution, IBLink, IBLinkDay
from app.partners import client_stages


@dataclass(frozen=True)
class Step:
    """How many came at least so far, and which part of those of the step before that is, in percent; None: of nobody."""

    key: str
    number: int
    percent: Decimal | None


def funnel(session: Session, ib_id: int, since: datetime | None) -> list[Step]:
    """The visits since a moment, counted by UTC day; then those who became the IB's clients since then, as far as they have
    come today. None: of all time.
    """
    traded = client_stages.has_traded
    deposited = or_(traded, client_stages.has_deposited)
    approved = or_(client_stages.is_approved, deposited)
    verified = or_(client_stages.is_verified, approved)
    query = (
        select(func.count(), *(func.count().filter(reached) for reached in (verified, approved, deposited, traded)))
        .select_from(Attribution)
        .join(Client, Client.id == Attribution.client_id)
        .where(Attribution.ib_id == ib_id)
    )
    if since is not None:
        query = query.where(Attribution.valid_from >= since)
    people = [(key, int(number)) for key, number in zip(client_stages.STAGES, session.execute(query).one(), strict=True)]
    counted = [("visits", _visits(session, ib_id, since)), *people]
    before = [None, *(number for _, number in counted)]
    return [Step(key, number, _percent(number, of)) for (key, number), of in zip(counted, before, strict=False)]


def counts(session: Session, ib_id: int, since: datetime) -> tuple[int, int]:
    """How many clients an IB has now, and how many of them have traded since a moment."""
    query = (
        select(func.count(), func.count().filter(client_stages.traded_since(since)))
        .select_from(Attribution)
        .join(Client, Client.id == Attribution.client_id)
        .where(Attribution.ib_id == ib_id, Attribution.valid_to.is_(None))
    )
    total, active = session.execute(query).one()
    return int(total), int(active)


def _visits(session: Session, ib_id: int, since: datetime | None) -> int:
    """Of all time by the link itself: it counted before its days were kept."""
    total = select(func.sum(IBLink.visits)).where(IBLink.ib_id == ib_id)
    if since is not None:
        of_days = select(func.sum(IBLinkDay.visits)).join(IBLink, IBLink.id == IBLinkDay.link_id)
        total = of_days.where(IBLink.ib_id == ib_id, IBLinkDay.day >= since.astimezone(UTC).date())
    return int(session.scalar(total) or 0)


def _percent(number: int, of: int | None) -> Decimal | None:
    return (Decimal(number * 100) / of).quantize(Decimal("0.1")) if of else None
