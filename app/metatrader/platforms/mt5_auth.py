"""The hashes of the MT5 Web API's challenge-response sign-in.

Source: MetaQuotes' help on Web API authentication; vectors in tests/vectors/mt5_webapi_auth.json. The protocol prescribes
MD5. All concatenations are of raw bytes: never of their hexadecimal text.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

RANDOM_BYTES = 16


def password_hash(password: str) -> bytes:
    """MD5 of MD5(password in UTF-16LE) followed by the ASCII text WebAPI: what both sides know of the password."""
    inner = _md5(password.encode("utf-16-le"))
    return _md5(inner + b"WebAPI")


def answer(password: str, challenge: bytes) -> str:
    """The answer to 16 random bytes, as 32 lower-case hexadecimal digits. Both sides prove themselves with it."""
    return _md5(password_hash(password) + challenge).hex()


def is_answer(password: str, challenge: bytes, given: str) -> bool:
    """Whether `given` answers the challenge; compared in constant time."""
    return hmac.compare_digest(answer(password, challenge).encode(), given.lower().encode("utf-8", "replace"))


def new_challenge() -> bytes:
    """16 random bytes."""
    return secrets.token_bytes(RANDOM_BYTES)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
