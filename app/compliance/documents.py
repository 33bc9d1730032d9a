"""Documents that clients hand in: taken, kept sealed, replaced by better ones."""

from __future__ import annotations

import hashlib
import unicodedata

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.compliance.contents import media_type_of
from app.compliance.errors import AlreadyApproved, MailNotVerified, TooManyDocuments
from app.compliance.storage import DocumentStorage
from app.core.actor import Actor
from app.core.errors import N_, Forbidden, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.compliance import DOCUMENT_KINDS, Document

MAX_BYTES = 10_000_000
MOST_PER_KIND = 50

_SHOWN_NAME = 100
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "application/pdf": ".pdf"}


def upload_document(
    session: Session,
    storage: DocumentStorage,
    *,
    client_id: int,
    kind: str,
    file_name: str,
    content: bytes,
    actor: Actor,
    max_bytes: int = MAX_BYTES,
) -> Document:
    """Take a client's proof of `kind` (identity or address) in place of a waiting or rejected one. Emits document.uploaded.

    Raises a RefusedFile (see contents), MailNotVerified, AlreadyApproved or TooManyDocuments; then nothing is kept.
    Not for use inside another unit of work: the file goes only if this one fails.
    """
    if kind not in DOCUMENT_KINDS:
        raise InvalidInput({"kind": N_("Please say what this document proves.")})
    media_type = media_type_of(content, max_bytes)
    key = storage.write(content)
    try:
        with unit_of_work(session, actor) as unit:
            _make_room(session, client_id, kind)
            document = Document(
                client_id=client_id,
                kind=kind,
                file_name=shown_name(file_name, media_type),
                media_type=media_type,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).digest(),
                storage_key=key,
            )
            session.add(document)
            session.flush()
            unit.emit("document.uploaded", subject_id=document.id, client_id=client_id, kind=kind)
    except BaseException:
        storage.delete(key)
        raise
    return document


def documents_of(session: Session, client_id: int) -> dict[str, Document]:
    """The newest document of each kind that the client has sent; kinds without one are missing."""
    rows = session.scalars(
        select(Document).where(Document.client_id == client_id, Document.status != "replaced").order_by(Document.id)
    )
    return {row.kind: row for row in rows}


def read_own_document(
    session: Session, storage: DocumentStorage, *, client_id: int, document_id: int
) -> tuple[Document, bytes]:
    """A client's look at a document of their own. Raises NotFound for anybody else's, and DocumentUnreadable."""
    own = select(Document).where(Document.id == document_id, Document.client_id == client_id)
    document = session.scalars(own).one_or_none()
    if document is None:
        raise NotFound()
    return document, storage.read(document.storage_key)


def shown_name(file_name: str, media_type: str) -> str:
    """The client's name for the file, fit to be shown: no folders, no invisible signs, the suffix of what it really is."""
    last = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    visible = "".join(sign if sign.isprintable() else " " for sign in unicodedata.normalize("NFC", last))
    stem, dot, ending = " ".join(visible.split()).rpartition(".")
    suffix = _SUFFIXES[media_type]
    return ((stem if dot else ending).strip(". ")[: _SHOWN_NAME - len(suffix)] or "document") + suffix


def _make_room(session: Session, client_id: int, kind: str) -> None:
    """Lock the client, check that another document of this kind is wanted, and set the one before aside."""
    client = session.get(Client, client_id, with_for_update=True)
    if client is None:
        raise NotFound()
    if client.status == "blocked":
        raise Forbidden()
    if client.email_verified_at is None:
        raise MailNotVerified()
    of_kind = (Document.client_id == client_id, Document.kind == kind)
    count = session.scalar(select(func.count()).select_from(Document).where(*of_kind)) or 0
    if count >= MOST_PER_KIND:
        raise TooManyDocuments(most=MOST_PER_KIND)
    for former in session.scalars(select(Document).where(*of_kind, Document.status != "replaced").order_by(Document.id)):
        if former.status == "approved":
            raise AlreadyApproved()
        former.status = "replaced"
    session.flush()
