"""Which client is whose: attribution through a link, once, and the questions asked of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.partners import Attribution, IntroducingBroker
from app.partners.links import Link, find_link
from app.partners.policy import policy_at
from app.partners.touches import Touch, candidates, packed

log = logging.getLogger("lotwise.partners")

#: The IB is the client, or was brought by or stands under the client's own IB, over any number of steps.
_IS_OWN_UPLINE = text(
    """
    WITH RECURSIVE above (id, client_id) AS (
        SELECT id, client_id FROM introducing_broker WHERE id = :ib_id
        UNION
        SELECT ib.id, ib.client_id FROM above
        JOIN LATERAL (
            SELECT ib_id FROM attribution WHERE client_id = above.client_id AND valid_to IS NULL
            UNION ALL
            SELECT parent_id FROM ib_parent WHERE ib_id = above.id AND valid_to IS NULL
        ) AS next ON true
        JOIN introducing_broker ib ON ib.id = next.ib_id
    )
    SELECT EXISTS (SELECT FROM above WHERE client_id = :client_id)
    """
)


@dataclass(frozen=True)
class Attributed:
    """That a client belongs to an IB from `valid_from` on; `link_id` is the link it came through."""

    id: int
    client_id: int
    ib_id: int
    link_id: int | None
    source: str
    valid_from: datetime


@dataclass(frozen=True)
class IBClient:
    """A client as its IB may see it: the last name shortened to its initial."""

    attribution_id: int
    client_id: int
    name: str
    country: str
    since: datetime
    until: datetime | None


def attribute_visitor(
    session: Session, *, client_id: int, promo_code: str, touches: Sequence[Touch], at: datetime
) -> Attributed | None:
    """Find whose client somebody is who registered at `at`: a typed promotion code counts before any link, and of the visits
    through links the one that the policy of that moment names. One that cannot count gives way to the next.

    What decided stands with the attribution. None when nothing counts.
    """
    held = policy_at(session, at)
    counting = candidates(touches, held.touch, held.window_days, at)
    said = {"policy": asdict(held), "promo_code": promo_code, "touches": packed(touches)}
    for code, source in [*([(promo_code, "promo_code")] if promo_code else []), *((touch.code, "link") for touch in counting)]:
        made = attribute_client(session, client_id=client_id, link_code=code, at=at, source=source, explained=said)
        if made is not None:
            return made
    return None


def attribute_client(
    session: Session,
    *,
    client_id: int,
    link_code: str,
    at: datetime,
    source: str,
    explained: dict[str, Any] | None = None,
) -> Attributed | None:
    """Make a client the client of the IB whose link it came through, from `at` on.

    Emits client.attributed, and ib.client_joined for the IB's own pages. Happens once: a client who was ever attributed
    stays as it is. A code that is unknown or switched off, an IB's own registration through its own link and a circle of
    IBs are ignored: None, with the reason in the log.
    """
    with unit_of_work(session, Actor.system("attribution")) as unit:
        client = session.get(Client, client_id, with_for_update={"key_share": True})
        link = find_link(session, link_code)
        reason = _ignored_because(session, client, link)
        if reason or link is None:
            log.info("attribution ignored reason=%s client=%s", reason, client_id)
            return None
        row = Attribution(client_id=client_id, ib_id=link.ib_id, link_id=link.id, source=source, valid_from=at)
        row.explained = explained
        session.add(row)
        session.flush()
        made = _attributed(row)
        unit.emit(
            "client.attributed", subject_id=made.id, client_id=client_id, ib_id=link.ib_id, link_id=link.id, source=source
        )
        ib_client_id = session.scalar(select(IntroducingBroker.client_id).where(IntroducingBroker.id == link.ib_id))
        unit.emit("ib.client_joined", subject_id=made.id, client_id=ib_client_id, ib_id=link.ib_id)
    return made


def ib_of(session: Session, client_id: int, at: datetime) -> Attributed | None:
    """Whose client somebody was at a moment; None for nobody's."""
    row = session.scalar(
        select(Attribution).where(
            Attribution.client_id == client_id,
            Attribution.valid_from <= at,
            or_(Attribution.valid_to.is_(None), Attribution.valid_to > at),
        )
    )
    return _attributed(row) if row else None


def clients_of(session: Session, ib_id: int, *, before_id: int | None = None, limit: int = 50) -> list[IBClient]:
    """The clients of an IB, former ones included, the newest first; `before_id` is the last page's last attribution."""
    query = select(Attribution, Client).join(Client, Client.id == Attribution.client_id).where(Attribution.ib_id == ib_id)
    if before_id is not None:
        query = query.where(Attribution.id < before_id)
    rows = session.execute(query.order_by(Attribution.id.desc()).limit(max(1, min(limit, 200)))).all()
    return [
        IBClient(span.id, client.id, short_name(client), client.country, span.valid_from, span.valid_to)
        for span, client in rows
    ]


def short_name(client: Client) -> str:
    """A client's name as others may see it: the first name and the initial of the last."""
    initial = client.last_name.strip()[:1]
    return f"{client.first_name} {initial}.".strip() if initial else client.first_name


def _ignored_because(session: Session, client: Client | None, link: Link | None) -> str:
    """The code of the reason why a registration is nobody's; empty when the link counts."""
    if client is None:
        return "unknown_client"
    if link is None:
        return "unknown_link"
    if not link.is_active:
        return "inactive_link"
    if session.scalar(select(IntroducingBroker.client_id).where(IntroducingBroker.id == link.ib_id)) == client.id:
        return "self_referral"
    if session.scalar(select(Attribution.id).where(Attribution.client_id == client.id).limit(1)) is not None:
        return "already_attributed"
    if session.scalar(_IS_OWN_UPLINE, {"ib_id": link.ib_id, "client_id": client.id}):
        return "own_upline"
    return ""


def _attributed(row: Attribution) -> Attributed:
    return Attributed(row.id, row.client_id, row.ib_id, row.link_id, row.source, row.valid_from)
