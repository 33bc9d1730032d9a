"""Passwords of clients: the rules, the argon2id hash, and setting a new one."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import update

from app.core.errors import N_
from app.core.uow import UnitOfWork
from app.models.clients import Client, PortalSession

MIN_LENGTH = 10
MAX_LENGTH = 200

#: Long enough for the rule above, and yet among the first that anybody tries.
_COMMON = frozenset(Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").split())

_hasher = PasswordHasher()

# A hash takes 64 MiB for a moment; many sign-ins at once must not take it times the number of web threads.
_turnstile = threading.BoundedSemaphore(4)


def password_problem(password: str, email: str) -> str | None:
    """The message id of what is wrong with a new password, or None when it will do."""
    if len(password) < MIN_LENGTH:
        return N_("Please choose a password of at least 10 characters.")
    if len(password) > MAX_LENGTH:
        return N_("A password has 200 characters at most.")
    plain = password.casefold().strip()
    if plain in {email.casefold(), email.casefold().partition("@")[0]}:
        return N_("Your password must not be your mail address.")
    if plain in _COMMON or len(set(plain)) < 5:
        return N_("This password is too easy to guess. A few unrelated words make a good one.")
    return None


def hash_password(password: str) -> str:
    """The argon2id hash to keep, salt and parameters included."""
    with _turnstile:
        return _hasher.hash(_normal(password))


def verify_password(password_hash: str, password: str) -> bool:
    """Whether the password is the one of this hash. Takes the same time for a wrong one."""
    if len(password) > MAX_LENGTH:
        return False
    with _turnstile:
        try:
            return _hasher.verify(password_hash, _normal(password))
        except (VerificationError, InvalidHashError):
            return False


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


@cache
def dummy_hash() -> str:
    """A hash of nobody's password: verifying against it makes an unknown address take as long as a known one."""
    return hash_password("nobody has this password")


def set_password(unit: UnitOfWork, client: Client, password_hash: str, *, keep_session_id: int | None = None) -> None:
    """Replace a client's password and sign out every browser but `keep_session_id`. Emits client.password_changed."""
    client.password_hash = password_hash
    others = update(PortalSession).where(PortalSession.client_id == client.id, ~PortalSession.revoked)
    if keep_session_id is not None:
        others = others.where(PortalSession.id != keep_session_id)
    unit.session.execute(others.values(revoked=True))
    unit.emit("client.password_changed", subject_id=client.id, client_id=client.id)


def _normal(password: str) -> bytes:
    """The same bytes for the same characters, however the keyboard composes them."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
