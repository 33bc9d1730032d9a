"""The way in: registration, the one-time links of the mails, and a forgotten password.

Nothing here tells a visitor whether an address has an account: a second registration and a reset for an unknown address
look like the first and the known one. The owner learns by mail.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clients.countries import COUNTRIES
from app.clients.errors import ExpiredLink, InvalidPassword, InvalidRegistration, UnknownLink, UsedLink
from app.clients.passwords import hash_password, password_problem, set_password
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_
from app.core.ids import new_secret, secret_hash
from app.core.uow import unit_of_work
from app.models.clients import Client, ClientToken

MINIMUM_AGE = 18
VERIFY_TTL = timedelta(hours=24)
RESET_TTL = timedelta(hours=1)

_OLDEST = 120
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")
_LINK_CODE = re.compile(r"[A-Za-z0-9-]{4,24}")
_IN_NAMES = frozenset(" -'’ʼ.,\N{MIDDLE DOT}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


@dataclass(frozen=True)
class RegisteredClient:
    """`is_new` is False when the address had an account already: then nothing changed, and the visitor must not learn it."""

    client_id: int
    is_new: bool


@dataclass(frozen=True)
class VerifiedClient:
    client_id: int
    verified_at: datetime


def register_client(
    session: Session,
    *,
    email: str,
    password: str,
    first_name: str,
    last_name: str,
    country: str,
    language: str,
    terms_version: str,
    actor_address: str,
    birth_date: date | None = None,
    touches: Sequence[list[str | int]] = (),
    promo_code: str = "",
) -> RegisteredClient:
    """Register a visitor. Emits client.registered with what may tell whose client it is (`touches`: visits through IBs' links,
    as app/partners/touches.py packs them), or client.register_repeated for a known address.

    Raises InvalidRegistration with every problem at once. `terms_version` is the version agreed to, empty for none.
    """
    problems = registration_problems(
        email=email,
        password=password,
        first_name=first_name,
        last_name=last_name,
        country=country,
        language=language,
        terms_version=terms_version,
        birth_date=birth_date,
    )
    if problems:
        raise InvalidRegistration(problems)
    address, _ = _address(email)
    password_hash = hash_password(password)  # also for a known address, so that both take the same time
    with unit_of_work(session, Actor("system", "registration", actor_address)) as unit:
        client_id = session.scalar(
            insert(Client)
            .values(
                email=address,
                password_hash=password_hash,
                first_name=_tidy(first_name),
                last_name=_tidy(last_name),
                country=country,
                birth_date=birth_date,
                language=language,
                terms_version=terms_version,
                terms_accepted_at=now(),
            )
            .on_conflict_do_nothing(index_elements=[text("lower(email)")])
            .returning(Client.id)
        )
        if client_id is None:
            known_id = session.scalars(select(Client.id).where(func.lower(Client.email) == address.lower())).one()
            unit.emit("client.register_repeated", subject_id=known_id, client_id=known_id)
            return RegisteredClient(known_id, is_new=False)
        unit.emit("client.registered", subject_id=client_id, client_id=client_id, touches=list(touches), promo_code=promo_code)
        return RegisteredClient(client_id, is_new=True)


def registration_problems(
    *,
    email: str,
    password: str,
    first_name: str,
    last_name: str,
    country: str,
    language: str,
    terms_version: str,
    birth_date: date | None = None,
) -> dict[str, str]:
    """Everything that is wrong with a registration: field → message id. Asks nobody whether the address is known."""
    address, problems = _address(email)
    for field, name in (("first_name", first_name), ("last_name", last_name)):
        _note(problems, field, _name_problem(_tidy(name)))
    _note(problems, "password", password_problem(password, address or email))
    _note(problems, "birth_date", _age_problem(birth_date))
    if country not in COUNTRIES:
        problems["country"] = N_("Please choose the country you live in.")
    if not _LANGUAGE.fullmatch(language):
        problems["language"] = N_("Please choose a language.")
    if not terms_version or len(terms_version) > 32:
        problems["terms"] = N_("Please read the terms and agree to them.")
    return problems


def find_client(session: Session, email: str) -> Client | None:
    """The client of a mail address, however it is written; None for a malformed or unknown one."""
    address, problems = _address(email)
    if problems:
        return None
    return session.scalars(select(Client).where(func.lower(Client.email) == address.lower())).one_or_none()


def clean_link_code(code: str | None) -> str | None:
    """An IB link's code as it came from an address or a cookie, or None when it cannot be one."""
    stripped = (code or "").strip()
    return stripped if _LINK_CODE.fullmatch(stripped) else None


def request_verification(session: Session, *, email: str, actor_address: str) -> None:
    """Ask for another verification mail. An unknown or already verified address changes nothing, and looks the same.

    Emits client.verification_requested, or link.not_sent without a word about whom.
    """
    with unit_of_work(session, Actor("system", "registration", actor_address)) as unit:
        client = find_client(session, email)
        if client is not None and client.email_verified_at is None:
            unit.emit("client.verification_requested", subject_id=client.id, client_id=client.id)
        else:
            unit.emit("link.not_sent")  # takes as long as the other, so that the time tells nothing


def issue_token(session: Session, client_id: int, purpose: str, ttl: timedelta) -> str:
    """Make a one-time link's secret for a mail; only its hash is kept. `purpose` is verify_email or reset_password."""
    secret = new_secret()
    with unit_of_work(session, Actor.system("links")):
        session.add(ClientToken(client_id=client_id, purpose=purpose, secret_hash=secret_hash(secret), expires_at=now() + ttl))
    return secret


def check_link(session: Session, secret: str, purpose: str) -> None:
    """See whether a link would work, without using it. Raises UnknownLink, UsedLink or ExpiredLink."""
    _token(session, secret, purpose)


def verify_email(session: Session, secret: str, *, actor_address: str = "") -> VerifiedClient:
    """Take the link of the verification mail: once, within its time. Emits client.verified.

    Raises UnknownLink, UsedLink or ExpiredLink; then nothing changes.
    """
    with unit_of_work(session, Actor("system", "registration", actor_address)) as unit:
        client = _use(session, _token(session, secret, "verify_email"))
        if client.email_verified_at is None:
            client.email_verified_at = now()
            if client.status == "registered":
                client.status = "verified"
            unit.emit("client.verified", subject_id=client.id, client_id=client.id)
        return VerifiedClient(client.id, client.email_verified_at)


def request_password_reset(session: Session, *, email: str, actor_address: str) -> None:
    """Ask for a reset mail. Emits client.password_reset_requested for a known address; an unknown one looks the same.

    Then link.not_sent is emitted, without a word about whom.
    """
    with unit_of_work(session, Actor("system", "password reset", actor_address)) as unit:
        client = find_client(session, email)
        if client is not None:
            unit.emit("client.password_reset_requested", subject_id=client.id, client_id=client.id)
        else:
            unit.emit("link.not_sent")  # takes as long as the other, so that the time tells nothing


def reset_password(session: Session, *, secret: str, password: str, actor_address: str) -> int:
    """Set a new password by the link of the reset mail and sign out every browser. Returns the client's id.

    Raises UnknownLink, UsedLink, ExpiredLink, or InvalidPassword; the link still works after the last.
    """
    with unit_of_work(session, Actor("system", "password reset", actor_address)) as unit:
        token = _token(session, secret, "reset_password")
        client = session.get_one(Client, token.client_id)
        problem = password_problem(password, client.email)
        if problem:
            raise InvalidPassword({"password": problem})
        client = _use(session, token)
        set_password(unit, client, hash_password(password))
        return client.id


def _token(session: Session, secret: str, purpose: str) -> ClientToken:
    wanted = select(ClientToken).where(ClientToken.secret_hash == secret_hash(secret), ClientToken.purpose == purpose)
    token = session.scalars(wanted).one_or_none()
    if token is None:
        raise UnknownLink()
    if token.used_at is not None:
        raise UsedLink()
    if token.expires_at <= now():
        raise ExpiredLink()
    return token


def _use(session: Session, token: ClientToken) -> Client:
    """Mark the link used, and with it every other of its kind. Of two at the same moment one gets UsedLink."""
    client = session.get_one(Client, token.client_id, with_for_update=True)
    used = session.execute(
        update(ClientToken)
        .where(ClientToken.client_id == client.id, ClientToken.purpose == token.purpose, ClientToken.used_at.is_(None))
        .values(used_at=now())
        .returning(ClientToken.id)
    )
    if token.id not in set(used.scalars()):
        raise UsedLink()
    return client


def _address(email: str) -> tuple[str, dict[str, str]]:
    """The normal form of a mail address, or a problem. No name server is asked: the mail itself is the proof.

    The part before the @ must be ASCII, because not every mail server carries others (RFC 6531); domains of all scripts pass.
    """
    try:
        checked = validate_email(email.strip(), check_deliverability=False, allow_smtputf8=False, strict=True)
    except (EmailNotValidError, UnicodeError):
        return "", {"email": N_("Please enter a mail address such as name@example.com.")}
    return checked.normalized, {}


def _tidy(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _name_problem(name: str) -> str | None:
    """Names of all scripts, and no web addresses or commands: a name goes into mails."""
    if not name:
        return N_("Please enter your name as it stands in your passport or identity card.")
    if len(name) > 100:
        return N_("A name has 100 characters at most.")
    if not any(sign.isalpha() for sign in name) or any(
        sign not in _IN_NAMES and unicodedata.category(sign)[0] not in "LM" for sign in name
    ):
        return N_("A name is written with letters, spaces, hyphens, apostrophes and dots.")
    return None


def _age_problem(birth_date: date | None) -> str | None:
    if birth_date is None:
        return None
    today = now().date()
    age = today.year - birth_date.year - ((today.month, today.day) < (birth_date.month, birth_date.day))
    if age < 0 or age > _OLDEST:
        return N_("Please check your date of birth.")
    return N_("You must be at least 18 years old to open an account.") if age < MINIMUM_AGE else None


def _note(problems: dict[str, str], field: str, problem: str | None) -> None:
    if problem:
        problems[field] = problem
