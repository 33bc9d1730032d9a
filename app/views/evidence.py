"""Evidence for requests: a file that a member of staff adds to a form, kept while the form is mended, shown safely later.

A browser sends a file once and cannot be given it back: what was chosen is kept sealed, and the form carries a signed note
of it. A note that is not used within a day leads nowhere, and its file is removed.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from flask import Response, current_app
from flask_login import current_user
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.datastructures import FileStorage

from app.compliance.contents import media_type_of
from app.compliance.documents import shown_name
from app.compliance.errors import DocumentUnreadable
from app.compliance.storage import VAULT_PURPOSE, DocumentStorage, document_storage
from app.core.crypto import Vault
from app.ledger.requests import Evidence

ACCEPT = "application/pdf,image/png,image/jpeg"
KEPT_FOR_S = 24 * 3600


@dataclass(frozen=True)
class Draft:
    """A file chosen for a form that is not stored yet. `note` stands in the form."""

    note: str
    key: str
    name: str
    media_type: str


def keep(upload: FileStorage) -> Draft:
    """Keep a chosen file for this person's form. Raises a RefusedFile that says what is wrong with it."""
    settings = current_app.extensions["settings"]
    content = upload.stream.read(settings.upload_max_bytes + 1)
    media_type = media_type_of(content, settings.upload_max_bytes)
    _sweep()
    name = shown_name(upload.filename or "", media_type)
    key = _drafts().write(content)
    return Draft(_notes().dumps([current_user.id, key, name, media_type]), key, name, media_type)


def kept(note: str) -> Draft | None:
    """The file of a note; None when the note is old, changed, or somebody else's."""
    try:
        owner, key, name, media_type = _notes().loads(note, max_age=KEPT_FOR_S)
    except (BadSignature, ValueError, TypeError):
        return None
    return Draft(note, key, name, media_type) if owner == current_user.id else None


def store(draft: Draft | None) -> Evidence | None:
    """Put the file where documents lie for good. None for none, or when it is gone."""
    if draft is None:
        return None
    try:
        content = _drafts().read(draft.key)
    except DocumentUnreadable:
        return None
    return Evidence(_storage().write(content), draft.name, draft.media_type)


def discard(evidence: Evidence | None) -> None:
    """Remove a stored file that no request took."""
    if evidence is not None:
        _storage().delete(evidence.key)


def forget(draft: Draft | None) -> None:
    """Remove a kept file that is stored now."""
    if draft is not None:
        _drafts().delete(draft.key)


def answer(key: str, media_type: str) -> Response:
    """The decrypted file as a page of its own in which nothing runs. Raises DocumentUnreadable."""
    response = Response(_storage().read(key), mimetype=media_type)
    if media_type != "application/pdf":
        response.headers["Content-Security-Policy"] = "default-src 'none'; img-src 'self'; sandbox; frame-ancestors 'self'"
    response.headers["Content-Disposition"] = "inline"
    return response


def _storage() -> DocumentStorage:
    return document_storage(current_app.extensions["settings"])


def _drafts() -> DocumentStorage:
    settings = current_app.extensions["settings"]
    return DocumentStorage(settings.documents_dir / "drafts", Vault(settings.document_key, VAULT_PURPOSE))


def _notes() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.secret_key or "", salt="evidence")


def _sweep() -> None:
    """Remove what nobody came back for."""
    for path in (current_app.extensions["settings"].documents_dir / "drafts").glob("*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - KEPT_FOR_S:
                path.unlink()
