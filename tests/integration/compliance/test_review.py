"""Judging documents: once each, with a trail, also when two reviewers press at the same moment."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, update

from app.compliance.errors import AlreadyReviewed, DocumentReplaced, DocumentUnreadable
from app.compliance.review import approve_document, open_document, reject_document
from app.core.actor import Actor
from app.core.errors import AppError, InvalidInput, NotFound
from app.core.tables import AuditEntry, Event
from app.models.clients import Client
from app.models.compliance import Document
from app.models.security import User
from tests.integration.compliance.conftest import PICTURE, make_client

STAFF = Actor.staff(1, "10.0.0.1")
REASON = "The corner is cut off."


def facts(session, *types):
    return session.scalars(select(Event.type).where(Event.type.in_(types)).order_by(Event.id)).all()


def trail(session):
    return session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()


def make_reviewer(session, first_name, last_name):
    user = User(
        first_name=first_name, last_name=last_name, username=first_name, email=f"{first_name}@broker.example", password="x"
    )
    session.add(user)
    session.commit()
    return Actor.staff(user.id, "10.0.0.1")


def test_approval_is_written_audited_and_told(session, send):
    client_id = make_client(session)
    document = send(session, client_id)
    done = approve_document(session, document.id, STAFF)
    assert (done.document_id, done.client_id, done.kind, done.status) == (document.id, client_id, "identity", "approved")
    assert not done.client_approved
    session.expire_all()
    assert (document.status, document.reviewed_by, document.reason) == ("approved", "staff:1", "")
    (entry,) = trail(session)
    assert (entry.action, entry.target, entry.actor, entry.address) == (
        "document.approved", f"document:{document.id}", "staff:1", "10.0.0.1",
    )  # fmt: skip
    assert (entry.before["status"], entry.after["status"]) == ("pending", "approved")
    assert facts(session, "document.approved", "client.approved") == ["document.approved"]


def test_rejection_needs_a_reason_that_the_client_reads(session, send):
    client_id = make_client(session)
    document = send(session, client_id)
    for reason in ("", "  \n ", "x" * 1001, "no\x00", "\u202eno"):
        with pytest.raises(InvalidInput) as caught:
            reject_document(session, document.id, reason, STAFF)
        assert set(caught.value.problems) == {"reason"}
    reject_document(session, document.id, f"  {REASON}\n", STAFF)
    session.expire_all()
    assert (document.status, document.reason) == ("rejected", REASON)
    fact = session.scalars(select(Event).where(Event.type == "document.rejected")).one()
    assert (fact.client_id, fact.payload) == (client_id, {"kind": "identity", "reason": REASON})
    assert [entry.reason for entry in trail(session)] == [REASON]


def test_both_proofs_and_the_mail_address_approve_the_client(session, send):
    client_id = make_client(session)
    assert not approve_document(session, send(session, client_id, "address").id, STAFF).client_approved
    client = session.get_one(Client, client_id)
    assert client.status == "verified"
    assert approve_document(session, send(session, client_id, "identity").id, STAFF).client_approved
    session.expire_all()
    assert client.status == "approved"
    assert client.approved_at is not None
    assert facts(session, "client.approved") == ["client.approved"]
    assert [entry.action for entry in trail(session)] == ["document.approved", "document.approved", "client.approved"]


@pytest.mark.parametrize("status", ["registered", "blocked"])
def test_a_client_who_is_not_verified_is_not_approved(session, send, status):
    client_id = make_client(session)
    proofs = [send(session, client_id, kind) for kind in ("identity", "address")]
    session.execute(update(Client).where(Client.id == client_id).values(status=status))
    assert [approve_document(session, proof.id, STAFF).client_approved for proof in proofs] == [False, False]
    session.expire_all()
    assert session.get_one(Client, client_id).status == status


def test_a_rejected_proof_does_not_count(session, send):
    client_id = make_client(session)
    reject_document(session, send(session, client_id, "identity").id, REASON, STAFF)
    assert not approve_document(session, send(session, client_id, "address").id, STAFF).client_approved


def test_a_second_decision_says_who_was_first_and_changes_nothing(session, send):
    document = send(session, make_client(session))
    first, second = make_reviewer(session, "Ruth", "Weiss"), make_reviewer(session, "Omar", "Aziz")
    reject_document(session, document.id, REASON, first)
    for again in (
        lambda: approve_document(session, document.id, second),
        lambda: reject_document(session, document.id, "No.", second),
    ):
        with pytest.raises(AlreadyReviewed, match=r"^Ruth Weiss rejected this document before you, at 20.* UTC") as caught:
            again()
        assert caught.value.data["by"] == "Ruth Weiss"
    session.expire_all()
    assert (document.status, document.reason, document.reviewed_by) == ("rejected", REASON, str(first))
    assert len(trail(session)) == 1


def test_a_replaced_document_is_not_judged_any_more(session, send):
    client_id = make_client(session)
    former = send(session, client_id)
    send(session, client_id)
    with pytest.raises(DocumentReplaced):
        approve_document(session, former.id, STAFF)
    assert trail(session) == []


def test_a_document_that_does_not_exist(session, storage):
    for judge in (
        lambda: approve_document(session, 987_654, STAFF),
        lambda: reject_document(session, 987_654, REASON, STAFF),
        lambda: open_document(session, storage, 987_654, STAFF),
    ):
        with pytest.raises(NotFound):
            judge()
    assert trail(session) == []


def test_two_reviewers_at_the_same_moment(database, send):
    with database.session() as session:
        document_id = send(session, make_client(session)).id
        reviewers = [make_reviewer(session, "Ruth", "Weiss"), make_reviewer(session, "Omar", "Aziz")]
    barrier = threading.Barrier(2)
    outcomes = []

    def judge(actor, decide):
        with database.session() as session:
            barrier.wait(10)
            try:
                outcomes.append(decide(session, actor).status)
            except AlreadyReviewed as error:
                outcomes.append(error)

    def approve(session, actor):
        return approve_document(session, document_id, actor)

    def reject(session, actor):
        return reject_document(session, document_id, REASON, actor)

    threads = [threading.Thread(target=judge, args=pair) for pair in zip(reviewers, (approve, reject), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (decision,) = [outcome for outcome in outcomes if isinstance(outcome, str)]
    (late,) = [outcome for outcome in outcomes if isinstance(outcome, AlreadyReviewed)]
    with database.session() as session:
        document = session.get_one(Document, document_id)
        assert document.status == decision
        assert late.data["by"] == {"approved": "Ruth Weiss", "rejected": "Omar Aziz"}[decision]
        assert [entry.action for entry in trail(session)] == [f"document.{decision}"]
        assert facts(session, "document.approved", "document.rejected") == [f"document.{decision}"]


def test_a_new_file_and_a_decision_at_the_same_moment(database, send):
    """Whichever comes first, the state is one that could have come about one after the other; nobody waits for ever."""
    with database.session() as session:
        client_id = make_client(session)
        document_id = send(session, client_id).id
    barrier = threading.Barrier(2)
    errors = []

    def run(work):
        with database.session() as session:
            barrier.wait(10)
            try:
                work(session)
            except AppError as error:
                errors.append(type(error).__name__)

    threads = [
        threading.Thread(target=run, args=(lambda session: send(session, client_id),)),
        threading.Thread(target=run, args=(lambda session: reject_document(session, document_id, REASON, STAFF),)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with database.session() as session:
        assert session.scalars(select(Document.status).order_by(Document.id)).all() == ["replaced", "pending"]
    assert errors in ([], ["DocumentReplaced"])


def test_every_look_stands_in_the_trail(session, storage, send):
    document = send(session, make_client(session))
    opened = open_document(session, storage, document.id, STAFF)
    assert (opened.content, opened.media_type, opened.file_name) == (PICTURE, "image/jpeg", "passport.jpg")
    open_document(session, storage, document.id, Actor.staff(2))
    assert [(entry.action, entry.target, entry.actor) for entry in trail(session)] == [
        ("document.viewed", f"document:{document.id}", "staff:1"),
        ("document.viewed", f"document:{document.id}", "staff:2"),
    ]


def test_what_cannot_be_opened_was_not_seen(session, storage, send):
    document = send(session, make_client(session))
    storage.delete(document.storage_key)
    with pytest.raises(DocumentUnreadable):
        open_document(session, storage, document.id, STAFF)
    assert trail(session) == []
