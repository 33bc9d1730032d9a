"""Staff judge documents: approve, reject with a reason, look at the file. Each document is decided once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.compliance.errors import AlreadyReviewed, DocumentReplaced
from app.compliance.storage import DocumentStorage
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.models.clients import Client
from app.models.compliance import DOCUMENT_KINDS, Document
from app.models.security import User

MAX_REASON = 1_000


@dataclass(frozen=True)
class Reviewed:
    """The decision. `client_approved`: with it the client's way in is complete."""

    document_id: int
    client_id: int
    kind: str
    status: str
    client_approved: bool


@dataclass(frozen=True)
class OpenedDocument:
    content: bytes
    media_type: str
    file_name: str


def approve_document(session: Session, document_id: int, actor: Actor) -> Reviewed:
    """Accept a waiting document. With both proofs accepted and the mail address verified the client is approved.

    Emits document.approved, and client.approved when it completes the way in. Raises NotFound, AlreadyReviewed (by whom
    and when) or DocumentReplaced; then nothing changes.
    """
    with unit_of_work(session, actor) as unit:
        document, client = _decide(unit, document_id, "approved", "")
        unit.emit("document.approved", subject_id=document.id, client_id=client.id, kind=document.kind)
        return Reviewed(document.id, client.id, document.kind, "approved", _approve_client(unit, client))


def reject_document(session: Session, document_id: int, reason: str, actor: Actor) -> Reviewed:
    """Refuse a waiting document with a reason that the client reads. Emits document.rejected.

    Raises InvalidInput without a reason, and what approve_document raises.
    """
    words = " ".join(reason.split())
    if not words or len(words) > MAX_REASON or not words.isprintable():
        problem = N_("Please give the reason in a sentence for the client (at most 1,000 characters).")
        raise InvalidInput({"reason": problem}, message=problem)
    with unit_of_work(session, actor) as unit:
        document, client = _decide(unit, document_id, "rejected", words)
        unit.emit("document.rejected", subject_id=document.id, client_id=client.id, kind=document.kind, reason=words)
        return Reviewed(document.id, client.id, document.kind, "rejected", client_approved=False)


def open_document(session: Session, storage: DocumentStorage, document_id: int, actor: Actor) -> OpenedDocument:
    """The decrypted file for a reviewer's eyes; the look stands in the audit trail before anything is shown.

    Raises NotFound or DocumentUnreadable.
    """
    document = session.get(Document, document_id)
    if document is None:
        raise NotFound()
    opened = OpenedDocument(storage.read(document.storage_key), document.media_type, document.file_name)
    with unit_of_work(session, actor) as unit:
        unit.audit("document.viewed", f"document:{document_id}")
    return opened


def _decide(unit: UnitOfWork, document_id: int, status: str, reason: str) -> tuple[Document, Client]:
    """Write the decision if the document still waits. The client's row is locked first, as in every use case on documents."""
    session = unit.session
    client_id = session.scalar(select(Document.client_id).where(Document.id == document_id))
    if client_id is None:
        raise NotFound()
    client = session.get_one(Client, client_id, with_for_update=True)
    decided = session.scalar(
        update(Document)
        .where(Document.id == document_id, Document.status == "pending")
        .values(status=status, reason=reason, reviewed_at=now(), reviewed_by=str(unit.actor))
        .returning(Document.id)
    )
    document = session.get_one(Document, document_id, populate_existing=True)
    if decided is None:
        raise _too_late(session, document)
    after = {"status": status, "kind": document.kind, "client_id": client_id}
    unit.audit(f"document.{status}", f"document:{document_id}", before={"status": "pending"}, after=after, reason=reason)
    return document, client


def _too_late(session: Session, document: Document) -> AlreadyReviewed | DocumentReplaced:
    if document.status == "replaced" or document.reviewed_at is None:
        return DocumentReplaced()
    message = AlreadyReviewed.message_approved if document.status == "approved" else None
    at = f"{document.reviewed_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    return AlreadyReviewed(message, by=_name_of(session, document.reviewed_by or ""), at=at)


def _name_of(session: Session, actor: str) -> str:
    """A staff member's name for colleagues; the actor's text form for anybody else."""
    kind, _, number = actor.partition(":")
    user = session.get(User, int(number)) if kind == "staff" and number.isdigit() else None
    return f"{user.first_name} {user.last_name}".strip() if user else actor


def _approve_client(unit: UnitOfWork, client: Client) -> bool:
    """Approve a client whose address is verified and whose proofs are all accepted. Returns whether that was now."""
    if client.status != "verified" or client.email_verified_at is None:
        return False
    accepted = unit.session.scalars(
        select(Document.kind).where(Document.client_id == client.id, Document.status == "approved").distinct()
    )
    if set(accepted) != set(DOCUMENT_KINDS):
        return False
    client.status, client.approved_at = "approved", now()
    unit.audit("client.approved", f"client:{client.id}", before={"status": "verified"}, after={"status": "approved"})
    unit.emit("client.approved", subject_id=client.id, client_id=client.id)
    return True
