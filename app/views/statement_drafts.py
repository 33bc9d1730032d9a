"""The file of a statement between its preview and its import: a browser sends a file once and cannot be given it back.

It lies sealed in the Redis-protocol server, one for each member of staff, and is gone after half an hour. When it is lost
the person chooses the file again.
"""

from __future__ import annotations

import zlib
from typing import Any

from flask import current_app
from flask_login import current_user

from app.core.crypto import BrokenSeal, Vault
from app.ledger.external_import import fingerprint

KEPT_FOR_S = 1800


def keep(content: bytes) -> None:
    """Keep the file for this person, in place of the one before."""
    _redis().set(_name(), _vault().seal(zlib.compress(content), _name()), ex=KEPT_FOR_S)


def kept(sha256: str) -> bytes | None:
    """The file that this person looked at, if it is still the one with this fingerprint."""
    sealed = _redis().get(_name())
    if sealed is None:
        return None
    try:
        content = zlib.decompress(_vault().open(sealed, _name()))
    except BrokenSeal:
        return None
    return content if fingerprint(content) == sha256 else None


def forget() -> None:
    """Remove what this person's preview left."""
    _redis().delete(_name())


def _name() -> str:
    return f"statement-draft:{current_user.id}"


def _redis() -> Any:
    """The client. Its own annotations say that every answer may have to be awaited, which is so of its other kind only."""
    return current_app.extensions["redis_client"]


def _vault() -> Vault:
    return Vault(current_app.extensions["settings"].document_key, "statement drafts")
