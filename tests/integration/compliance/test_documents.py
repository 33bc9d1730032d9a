"""Handing in documents, on a real database and a real folder."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import func, select, update

from app.compliance import documents
from app.compliance.documents import documents_of, read_own_document
from app.compliance.errors import AlreadyApproved, BrokenFile, FileTooLarge, MailNotVerified, TooManyDocuments, UnknownContent
from app.compliance.review import approve_document, reject_document
from app.core.actor import Actor
from app.core.errors import Forbidden, InvalidInput, NotFound
from app.core.tables import Event
from app.models.clients import Client
from app.models.compliance import Document
from tests.integration.compliance.conftest import PICTURE, make_client
from tests.unit.compliance import proofs

STAFF = Actor.staff(1, "10.0.0.1")


def files(tmp_path):
    folder = tmp_path / "documents"
    return sorted(folder.iterdir()) if folder.exists() else []


def statuses(session, client_id):
    return session.scalars(select(Document.status).where(Document.client_id == client_id).order_by(Document.id)).all()


def test_a_document_is_taken_sealed_and_told(session, storage, send, tmp_path):
    client_id = make_client(session)
    document = send(session, client_id, content=proofs.pdf(), file_name="my passport.jpg")
    assert (document.kind, document.status, document.media_type) == ("identity", "pending", "application/pdf")
    assert (document.file_name, document.size_bytes) == ("my passport.pdf", len(proofs.pdf()))
    assert document.sha256 == hashlib.sha256(proofs.pdf()).digest()
    assert storage.read(document.storage_key) == proofs.pdf()
    assert len(files(tmp_path)) == 1
    fact = session.scalars(select(Event).where(Event.type == "document.uploaded")).one()
    assert (fact.subject_id, fact.client_id, fact.payload) == (document.id, client_id, {"kind": "identity"})
    assert fact.actor == f"client:{client_id}"


@pytest.mark.parametrize(("content", "error"), [(b"", InvalidInput), (b"text", UnknownContent), (PICTURE[:-200], BrokenFile)])
def test_a_refused_file_leaves_everything_as_it_was(session, send, tmp_path, content, error):
    client_id = make_client(session)
    kept = send(session, client_id)
    with pytest.raises(error):
        send(session, client_id, content=content)
    assert documents_of(session, client_id) == {"identity": kept}
    assert len(files(tmp_path)) == 1


def test_a_file_above_the_limit(session, send, tmp_path):
    with pytest.raises(FileTooLarge):
        send(session, make_client(session), max_bytes=1000)
    assert files(tmp_path) == []


@pytest.mark.parametrize("kind", ["", "passport", "identity; DROP TABLE", "\x00"])
def test_a_kind_that_is_none(session, send, tmp_path, kind):
    with pytest.raises(InvalidInput) as caught:
        send(session, make_client(session), kind)
    assert set(caught.value.problems) == {"kind"}
    assert files(tmp_path) == []


def test_when_the_transaction_fails_the_file_goes(session, send, tmp_path):
    with pytest.raises(NotFound):
        send(session, 987_654_321)
    assert files(tmp_path) == []


def test_the_mail_address_comes_first(session, send, tmp_path):
    client_id = make_client(session, verified=False)
    with pytest.raises(MailNotVerified):
        send(session, client_id)
    assert files(tmp_path) == []


def test_a_blocked_client_sends_nothing(session, send):
    client_id = make_client(session)
    session.execute(update(Client).values(status="blocked"))
    with pytest.raises(Forbidden):
        send(session, client_id)


def test_a_waiting_document_is_replaced(session, send):
    client_id = make_client(session)
    send(session, client_id)
    newer = send(session, client_id)
    assert statuses(session, client_id) == ["replaced", "pending"]
    assert documents_of(session, client_id) == {"identity": newer}


def test_a_rejected_document_is_replaced_and_keeps_what_was_said(session, send):
    client_id = make_client(session)
    first = send(session, client_id)
    reject_document(session, first.id, "The corner is cut off.", STAFF)
    newer = send(session, client_id)
    session.expire_all()
    assert (first.status, first.reason, first.reviewed_by) == ("replaced", "The corner is cut off.", "staff:1")
    assert first.reviewed_at is not None
    assert newer.status == "pending"


def test_an_approved_document_stays(session, send, tmp_path):
    client_id = make_client(session)
    approve_document(session, send(session, client_id).id, STAFF)
    with pytest.raises(AlreadyApproved):
        send(session, client_id)
    assert statuses(session, client_id) == ["approved"]
    assert len(files(tmp_path)) == 1


def test_kinds_do_not_touch_each_other(session, send):
    client_id = make_client(session)
    send(session, client_id)
    send(session, client_id, "address")
    assert {kind: document.status for kind, document in documents_of(session, client_id).items()} == {
        "identity": "pending",
        "address": "pending",
    }


def test_nobody_fills_the_disk(session, send, monkeypatch):
    monkeypatch.setattr(documents, "MOST_PER_KIND", 2)
    client_id = make_client(session)
    send(session, client_id)
    send(session, client_id)
    with pytest.raises(TooManyDocuments):
        send(session, client_id)
    assert session.scalar(select(func.count()).select_from(Document)) == 2


def test_clients_read_their_own_documents_only(session, storage, send):
    client_id, other_id = make_client(session), make_client(session)
    document = send(session, client_id)
    assert read_own_document(session, storage, client_id=client_id, document_id=document.id) == (document, PICTURE)
    for wrong in ({"client_id": other_id, "document_id": document.id}, {"client_id": client_id, "document_id": 987_654}):
        with pytest.raises(NotFound):
            read_own_document(session, storage, **wrong)
