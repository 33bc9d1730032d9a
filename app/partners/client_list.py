"""The clients of an IB as its policy of privacy lets the IB see them: found by filters, sorted, counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, String, and_, case, cast, func, literal, or_, select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.models.clients import Client
from app.models.metatrader import Product, TradingAccount
from app.models.partners import Attribution, IntroducingBroker
from app.partners import client_stages
from app.partners.branches import branch_ids
from app.partners.privacy import Privacy, current_privacy

#: Lots are those of so many days.
LOTS_OF = timedelta(days=30)
_LOT = Decimal(100_000_000)
_CHUNK = 500

SORTS = ("since", "name", "country", "lots")


@dataclass(frozen=True)
class ClientFilter:
    """Which clients are wanted; what is empty does not matter. Registered from `since` until before `until`.

    `ib_id` is an IB of the branch, or the IB itself; `stage` one of client_stages.STAGES, or "former".
    """

    text: str = ""
    stage: str = ""
    country: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ib_id: int | None = None
    sort: str = "since"
    is_descending: bool = True


@dataclass(frozen=True)
class ListedClient:
    """One client of an IB. What the policy keeps back, and what became of a former client, is None or empty.

    `under` is the sub-IB whose client it is, empty for an own one.
    """

    client_id: int
    name: str
    email: str
    country: str
    stage: str
    since: datetime
    until: datetime | None
    under: str
    lots: Decimal | None
    balances: tuple[tuple[str, Decimal], ...] | None


def count_clients(session: Session, ib_id: int, wanted: ClientFilter) -> int:
    """How many clients fit."""
    query = _query(session, ib_id, wanted, current_privacy(session)).order_by(None).subquery()
    return session.scalar(select(func.count()).select_from(query)) or 0


def list_clients(session: Session, ib_id: int, wanted: ClientFilter, *, first: int, most: int) -> list[ListedClient]:
    """The clients that fit, in the order wanted, from number `first` (0 is the first) on."""
    privacy = current_privacy(session)
    rows = session.execute(_query(session, ib_id, wanted, privacy).offset(first).limit(most)).all()
    return _listed(session, rows, ib_id, privacy)


def each_client(session: Session, ib_id: int, wanted: ClientFilter) -> Iterator[ListedClient]:
    """All clients that fit, read as they are used."""
    first = 0
    while True:
        found = list_clients(session, ib_id, wanted, first=first, most=_CHUNK)
        yield from found
        if len(found) < _CHUNK:
            return
        first += _CHUNK


def sub_ibs(session: Session, ib_id: int) -> list[tuple[int, str]]:
    """The IBs below whose clients the policy lets this IB see, with their names, for a choice."""
    privacy = current_privacy(session)
    if not privacy.shows_sub_clients:
        return []
    below = branch_ids(session, ib_id, now())
    people = select(IntroducingBroker.id, Client).join(Client, Client.id == IntroducingBroker.client_id)
    rows = session.execute(people.where(IntroducingBroker.id.in_(below)))
    return sorted(((found, privacy.ib_name(found, client)) for found, client in rows), key=lambda pair: pair[1])


def _query(session: Session, ib_id: int, wanted: ClientFilter, privacy: Privacy) -> Any:
    ib_ids = [ib_id, *(branch_ids(session, ib_id, now()) if privacy.shows_sub_clients else [])]
    is_current = Attribution.valid_to.is_(None)
    # Of a former client, and of a former client of a sub-IB at all, nothing new is told.
    stage = case((is_current, client_stages.stage), else_="former")
    lots = client_stages.lots_since(now() - LOTS_OF) if privacy.shows_lots else literal(None)
    shown = _shown_name(privacy)
    query = (
        select(Attribution, Client, stage.label("stage"), lots.label("lots"))
        .join(Client, Client.id == Attribution.client_id)
        .where(or_(Attribution.ib_id == ib_id, and_(Attribution.ib_id.in_(ib_ids), is_current)))
    )
    if wanted.ib_id is not None:
        query = query.where(Attribution.ib_id == wanted.ib_id)
    if wanted.text:
        query = query.where(_fits(wanted.text, shown, privacy))
    if wanted.stage:
        query = query.where(stage == wanted.stage)
    if wanted.country:
        query = query.where(Client.country == wanted.country)
    if wanted.since is not None:
        query = query.where(Attribution.valid_from >= wanted.since)
    if wanted.until is not None:
        query = query.where(Attribution.valid_from < wanted.until)
    by: dict[str, Any] = {
        "since": Attribution.valid_from,
        "name": func.lower(shown),
        "country": Client.country,
        "lots": func.coalesce(lots, 0),
    }
    order = by.get(wanted.sort, Attribution.valid_from)
    way = order.desc() if wanted.is_descending else order.asc()
    return query.order_by(way, Attribution.id.desc())


def _shown_name(privacy: Privacy) -> ColumnElement[str]:
    """The name as it is shown, so that search and order tell no more than the page."""
    if privacy.names == "number":
        return cast(Client.id, String)
    if privacy.names == "full":
        return Client.first_name + " " + Client.last_name
    return Client.first_name + " " + func.left(Client.last_name, 1) + "."


def _fits(text: str, shown: ColumnElement[str], privacy: Privacy) -> ColumnElement[bool]:
    conditions = [shown.icontains(text, autoescape=True), cast(Client.id, String) == text.removeprefix("#")]
    if privacy.shows_email:
        conditions.append(and_(Attribution.valid_to.is_(None), Client.email.icontains(text, autoescape=True)))
    return or_(*conditions)


def _listed(session: Session, rows: Any, ib_id: int, privacy: Privacy) -> list[ListedClient]:
    current = [span.client_id for span, *_ in rows if span.valid_to is None]
    balances = _balances(session, current) if privacy.shows_balance else None
    others = {span.ib_id for span, *_ in rows} - {ib_id}
    people = select(IntroducingBroker.id, Client).join(Client, Client.id == IntroducingBroker.client_id)
    named = session.execute(people.where(IntroducingBroker.id.in_(others)))
    names = {ib_id: privacy.ib_name(ib_id, client) for ib_id, client in named}
    found = []
    for span, client, stage, lots in rows:
        is_current = span.valid_to is None
        found.append(
            ListedClient(
                client_id=client.id,
                name=privacy.name(client),
                email=client.email if privacy.shows_email and is_current else "",
                country=client.country,
                stage=stage,
                since=span.valid_from,
                until=span.valid_to,
                under=names.get(span.ib_id, ""),
                lots=Decimal(lots or 0) / _LOT if privacy.shows_lots else None,
                balances=tuple(balances.get(client.id, ())) if balances is not None and is_current else None,
            )
        )
    return found


def _balances(session: Session, client_ids: list[int]) -> dict[int, list[tuple[str, Decimal]]]:
    """What each client's live accounts hold, by currency."""
    query = (
        select(TradingAccount.client_id, TradingAccount.currency, func.sum(TradingAccount.balance))
        .join(Product, Product.id == TradingAccount.product_id)
        .where(TradingAccount.client_id.in_(client_ids), Product.is_demo.is_(False))
        .group_by(TradingAccount.client_id, TradingAccount.currency)
        .order_by(TradingAccount.client_id, TradingAccount.currency)
    )
    found: dict[int, list[tuple[str, Decimal]]] = {}
    for client_id, currency, balance in session.execute(query):
        found.setdefault(client_id, []).append((currency, balance))
    return found
