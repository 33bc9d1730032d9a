"""Finding an IB or a client by what somebody types: a number, parts of a name, or of a mail address."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.models.clients import Client
from app.models.partners import Attribution, IBParent, IntroducingBroker

#: A key has no more digits.
_LONGEST_NUMBER = 18


@dataclass(frozen=True)
class FoundIB:
    """An IB with what tells it from others: the IB it stands under at the moment asked for, and its own clients then."""

    ib_id: int
    client_id: int
    name: str
    email: str
    country: str
    under: str
    clients: int


@dataclass(frozen=True)
class FoundClient:
    """A client, whose it is at the moment asked for, and which IB it is itself."""

    client_id: int
    name: str
    email: str
    country: str
    ib_name: str
    own_ib_id: int | None


def find_ibs(session: Session, text: str, at: datetime, limit: int = 20, *, without: Collection[int] = ()) -> list[FoundIB]:
    """Active IBs whose name or mail address has every word of `text`, or whose number it is; the newest first.

    An empty text finds the newest; those of `without` are left out.
    """
    query = (
        select(IntroducingBroker.id)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .where(IntroducingBroker.is_active, IntroducingBroker.id.not_in(without), *_fits(text, IntroducingBroker.id))
    )
    return ibs_named(session, list(session.scalars(query.order_by(IntroducingBroker.id.desc()).limit(limit))), at)


def ibs_named(session: Session, ib_ids: list[int], at: datetime) -> list[FoundIB]:
    """These IBs, active or not, the newest first."""
    person, upper, broker = aliased(Client), aliased(IntroducingBroker), aliased(Client)
    clients = (
        select(func.count())
        .where(Attribution.ib_id == IntroducingBroker.id, _holds(Attribution, at))
        .correlate(IntroducingBroker)
        .scalar_subquery()
    )
    rows = session.execute(
        select(IntroducingBroker, person, broker, clients)
        .join(person, person.id == IntroducingBroker.client_id)
        .outerjoin(IBParent, and_(IBParent.ib_id == IntroducingBroker.id, _holds(IBParent, at)))
        .outerjoin(upper, upper.id == IBParent.parent_id)
        .outerjoin(broker, broker.id == upper.client_id)
        .where(IntroducingBroker.id.in_(ib_ids))
        .order_by(IntroducingBroker.id.desc())
    )
    return [
        FoundIB(ib.id, one.id, one.full_name, one.email, one.country, _name(above), count or 0)
        for ib, one, above, count in rows
    ]


def find_clients(session: Session, text: str, at: datetime, limit: int = 20) -> list[FoundClient]:
    """Clients whose name or mail address has every word of `text`, or whose number it is; the newest first."""
    found = session.scalars(select(Client.id).where(*_fits(text, Client.id)).order_by(Client.id.desc()).limit(limit))
    return clients_named(session, list(found), at)


def clients_named(session: Session, client_ids: list[int], at: datetime) -> list[FoundClient]:
    """These clients, the newest first."""
    own, broker = aliased(IntroducingBroker), aliased(Client)
    rows = session.execute(
        select(Client, broker, own.id)
        .outerjoin(own, own.client_id == Client.id)
        .outerjoin(Attribution, and_(Attribution.client_id == Client.id, _holds(Attribution, at)))
        .outerjoin(IntroducingBroker, IntroducingBroker.id == Attribution.ib_id)
        .outerjoin(broker, broker.id == IntroducingBroker.client_id)
        .where(Client.id.in_(client_ids))
        .order_by(Client.id.desc())
    )
    return [FoundClient(one.id, one.full_name, one.email, one.country, _name(above), own_id) for one, above, own_id in rows]


def _name(client: Client | None) -> str:
    return client.full_name if client is not None else ""


def _fits(text: str, key: InstrumentedAttribute[int]) -> list[ColumnElement[bool]]:
    words = text.split()
    number = words[0].removeprefix("#") if len(words) == 1 else ""
    if number.isascii() and number.isdecimal() and len(number) <= _LONGEST_NUMBER:
        return [key == int(number)]
    spoken = func.concat_ws(" ", Client.first_name, Client.last_name, Client.email)
    return [spoken.icontains(word, autoescape=True) for word in words]


def _holds(table: type[Attribution | IBParent], at: datetime) -> ColumnElement[bool]:
    return and_(table.valid_from <= at, or_(table.valid_to.is_(None), table.valid_to > at))
