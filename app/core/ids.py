"""Secrets for links and cookies, and short tokens that people and trading servers can carry."""

from __future__ import annotations

import hashlib
import re
import secrets

#: Crockford's base 32: no I, L, O, U, so that a token read aloud comes back right.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TOKEN_LENGTH = 15
_TOKEN = re.compile(f"[A-Z]-[{ALPHABET}]{{13}}")


def new_secret() -> str:
    """256 random bits as URL-safe text, for a link or a cookie. Keep only `secret_hash` of it."""
    return secrets.token_urlsafe(32)


def secret_hash(secret: str) -> bytes:
    """SHA-256 of a random secret: enough for 256 random bits, and fast enough for every request."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def new_token(prefix: str) -> str:
    """A 13-character base 32 token behind a prefix letter, such as D-8QK2N0V5ZT3RM: 65 random bits, ASCII, 15 characters."""
    return f"{prefix}-" + "".join(secrets.choice(ALPHABET) for _ in range(13))


def is_token(text: str) -> bool:
    """Whether this has the form of a token of ours."""
    return _TOKEN.fullmatch(text) is not None
