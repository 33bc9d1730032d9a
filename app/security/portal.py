"""Portal sessions: server-side, in PostgreSQL, apart from staff sign-in.

The cookie holds a random secret, the table its hash. A session ends two hours after the client was last there, 24 hours
after sign-in, by signing out, by revoking it from another browser, and with a new password. Every sign-in draws a new
secret, so a secret that somebody planted in the browser beforehand is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.orm import Session, contains_eager

from app.clients.errors import AccessBlocked, WrongCredentials
from app.clients.onboarding import find_client
from app.clients.passwords import dummy_hash, hash_password, needs_rehash, verify_password
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import NotFound
from app.core.ids import new_secret, secret_hash
from app.core.uow import unit_of_work
from app.models.clients import Client, PortalSession

COOKIE = "lotwise_portal"
IDLE = timedelta(hours=2)
LIFETIME = timedelta(hours=24)

#: How old "last seen" may grow before a request writes it again.
TOUCH_AFTER = timedelta(minutes=1)


@dataclass(frozen=True)
class SignedIn:
    """A fresh session. `secret` goes into the cookie and is kept nowhere else."""

    client_id: int
    session_id: int
    secret: str


@dataclass(frozen=True)
class OpenSession:
    """One signed-in browser, as its owner sees it."""

    id: int
    address: str
    user_agent: str
    created_at: datetime
    last_seen_at: datetime


def sign_in(session: Session, *, email: str, password: str, address: str, user_agent: str, former_secret: str = "") -> SignedIn:
    """Open a session for the right address and password; the browser's former session ends.

    Raises WrongCredentials after the same time whether the address is known or not, or AccessBlocked.
    """
    client = find_client(session, email)
    is_right = verify_password(client.password_hash if client else dummy_hash(), password)
    if client is None or not is_right:
        raise WrongCredentials()
    if client.status == "blocked":
        raise AccessBlocked()
    with unit_of_work(session, Actor.client(client.id, address)):
        if needs_rehash(client.password_hash):
            client.password_hash = hash_password(password)
        if former_secret:
            former = PortalSession.secret_hash == secret_hash(former_secret)
            session.execute(update(PortalSession).where(former).values(revoked=True))
        secret, moment = new_secret(), now()
        row = PortalSession(
            client_id=client.id,
            secret_hash=secret_hash(secret),
            address=address,
            user_agent="".join(sign for sign in user_agent[:200] if sign.isprintable()),
            last_seen_at=moment,
            expires_at=moment + LIFETIME,
        )
        session.add(row)
        session.flush()
        return SignedIn(client.id, row.id, secret)


def find_session(session: Session, secret: str) -> PortalSession | None:
    """The valid session of a cookie's secret with its client loaded; None when there is none, or not any more."""
    if not secret or len(secret) > 100:
        return None
    wanted = (
        select(PortalSession)
        .join(PortalSession.client)
        .options(contains_eager(PortalSession.client))
        .where(PortalSession.secret_hash == secret_hash(secret), _is_open(), Client.status != "blocked")
    )
    return session.scalars(wanted).one_or_none()


def touch(session: Session, found: PortalSession) -> None:
    """Write down that the client is there; at most once a minute."""
    moment = now()
    if moment - found.last_seen_at >= TOUCH_AFTER:
        with unit_of_work(session, Actor.client(found.client_id)):
            session.execute(update(PortalSession).where(PortalSession.id == found.id).values(last_seen_at=moment))


def is_open(session: Session, session_id: int) -> bool:
    """Whether a session still counts. For long answers, which must end with it."""
    wanted = select(PortalSession.id).join(PortalSession.client)
    wanted = wanted.where(PortalSession.id == session_id, _is_open(), Client.status != "blocked")
    return session.scalar(wanted) is not None


def open_sessions(session: Session, client_id: int) -> list[OpenSession]:
    """Where a client is signed in, the last seen first."""
    rows = session.scalars(
        select(PortalSession)
        .where(PortalSession.client_id == client_id, _is_open())
        .order_by(PortalSession.last_seen_at.desc())
    )
    return [OpenSession(row.id, row.address, row.user_agent, row.created_at, row.last_seen_at) for row in rows]


def revoke_session(session: Session, *, client_id: int, session_id: int, actor: Actor) -> None:
    """End one of the client's own sessions. Emits session.revoked. Raises NotFound for anybody else's."""
    with unit_of_work(session, actor) as unit:
        own = and_(PortalSession.id == session_id, PortalSession.client_id == client_id)
        found = session.scalar(update(PortalSession).where(own).values(revoked=True).returning(PortalSession.id))
        if found is None:
            raise NotFound()
        unit.emit("session.revoked", subject_id=session_id, client_id=client_id)


def _is_open() -> ColumnElement[bool]:
    moment = now()
    return and_(~PortalSession.revoked, PortalSession.expires_at > moment, PortalSession.last_seen_at > moment - IDLE)
