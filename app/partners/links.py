"""Introducing brokers and the links they hand out."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.ids import ALPHABET
from app.core.money import exponent
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.partners import IBLink, IBLinkDay, IntroducingBroker
from app.partners.errors import AlreadyIB, InvalidLink, TooManyLinks
from app.partners.tree import place_ib, place_under_bringer

MAX_LINKS = 100
MAX_NAME = 60
_CODE_LENGTH = 8
_CODE = re.compile(r"[A-Z0-9-]{4,24}")


@dataclass(frozen=True)
class IB:
    """An introducing broker, paid in `currency`."""

    id: int
    client_id: int
    currency: str
    is_active: bool


@dataclass(frozen=True)
class Link:
    """A link of an IB. A visitor who registers through it becomes the IB's client while `is_active`."""

    id: int
    ib_id: int
    code: str
    name: str
    visits: int
    is_active: bool


def make_ib(session: Session, client_id: int, currency: str, actor: Actor, *, parent_id: int | None = None) -> IB:
    """Make a client an introducing broker who is paid in `currency`, under `parent_id`, or the IB who brought it, if any.

    Raises NotFound, AlreadyIB, or InvalidInput for a currency nobody knows. Emits ib.created.
    """
    exponent(currency)
    with unit_of_work(session, actor) as unit:
        client = session.get(Client, client_id, with_for_update={"key_share": True})
        if client is None:
            raise NotFound
        if client.status == "blocked":
            raise InvalidInput({"client_id": N_("A blocked client cannot be an introducing broker.")})
        if ib_by_client(session, client_id) is not None:
            raise AlreadyIB
        row = IntroducingBroker(client_id=client_id, currency=currency, is_active=True)
        session.add(row)
        session.flush()
        made = _ib(row)
        unit.audit(
            "ib.created",
            f"introducing_broker:{made.id}",
            after={"client_id": client_id, "currency": currency, "is_active": True},
        )
        unit.emit("ib.created", subject_id=made.id, client_id=client_id, currency=currency)
        if parent_id is None:
            place_under_bringer(session, made.id, client_id, now(), actor)
        else:
            place_ib(session, made.id, parent_id, now(), "invited by this IB", actor)
    return made


def ib_by_client(session: Session, client_id: int) -> IB | None:
    """The introducing broker that a client is, active or not; None for an ordinary client."""
    row = session.scalar(select(IntroducingBroker).where(IntroducingBroker.client_id == client_id))
    return _ib(row) if row else None


def create_link(session: Session, ib_id: int, name: str, actor: Actor, *, code: str | None = None) -> Link:
    """Give an IB one more link. `code` is 4 to 24 letters, digits or dashes; without one a random code is drawn.

    Raises NotFound, InvalidLink, TooManyLinks or LinkCodeTaken. Emits ib_link.created.
    """
    name = " ".join(name.split())
    wanted = _normal(code) if code is not None else "".join(secrets.choice(ALPHABET) for _ in range(_CODE_LENGTH))
    problems: dict[str, str] = {}
    if len(name) > MAX_NAME or not name.isprintable():
        problems["name"] = N_("A name has 60 characters at most.")
    if not _CODE.fullmatch(wanted):
        problems["code"] = N_("A code has 4 to 24 letters, digits or dashes.")
    if problems:
        raise InvalidLink(problems)
    with unit_of_work(session, actor) as unit:
        ib = session.get(IntroducingBroker, ib_id, with_for_update={"key_share": True})
        if ib is None or not ib.is_active:
            raise NotFound
        links = session.scalar(select(func.count()).select_from(IBLink).where(IBLink.ib_id == ib_id)) or 0
        if links >= MAX_LINKS:
            raise TooManyLinks
        row = IBLink(ib_id=ib_id, code=wanted, name=name, visits=0, is_active=True)
        session.add(row)
        session.flush()
        made = _link(row)
        unit.audit("ib_link.created", f"ib_link:{made.id}", after={"ib_id": ib_id, "code": made.code, "name": made.name})
        unit.emit("ib_link.created", subject_id=made.id, client_id=ib.client_id, ib_id=ib_id)
    return made


def links_of(session: Session, ib_id: int) -> list[Link]:
    """All links of an IB, oldest first."""
    return [_link(row) for row in session.scalars(select(IBLink).where(IBLink.ib_id == ib_id).order_by(IBLink.id))]


def resolve_link(session: Session, code: str) -> Link | None:
    """The link of a code as it came from outside, in any case; None when unknown, switched off, or its IB is."""
    link = find_link(session, code)
    return link if link and link.is_active else None


def find_link(session: Session, code: str) -> Link | None:
    """The link of a code, also one that is switched off. `is_active` is false too when the IB is not active."""
    wanted = _normal(code)
    if not _CODE.fullmatch(wanted):
        return None
    found = session.execute(
        select(IBLink, IntroducingBroker.is_active)
        .join(IntroducingBroker, IntroducingBroker.id == IBLink.ib_id)
        .where(IBLink.code == wanted)
    ).one_or_none()
    return _link(found[0], ib_is_active=found[1]) if found else None


def count_visit(session: Session, code: str) -> bool:
    """Count one visit through a link, in all and on its UTC day. False, and nothing counted, when the link is not to be had."""
    link = resolve_link(session, code)
    if link is None:
        return False
    with unit_of_work(session, Actor.system("links")):
        session.execute(
            update(IBLink)
            .where(IBLink.id == link.id)
            .values(visits=IBLink.visits + 1)
            .execution_options(synchronize_session=False)
        )
        session.execute(
            insert(IBLinkDay)
            .values(link_id=link.id, day=now().date(), visits=1)
            .on_conflict_do_update(index_elements=[IBLinkDay.link_id, IBLinkDay.day], set_={"visits": IBLinkDay.visits + 1})
        )
    return True


def _normal(code: str) -> str:
    return code.strip().upper()


def _ib(row: IntroducingBroker) -> IB:
    return IB(row.id, row.client_id, row.currency, row.is_active)


def _link(row: IBLink, *, ib_is_active: bool = True) -> Link:
    return Link(row.id, row.ib_id, row.code, row.name, row.visits, row.is_active and ib_is_active)
