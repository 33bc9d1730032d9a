"""Sending documents through the portal's page, and what the page says about them."""

from __future__ import annotations

from io import BytesIO

from sqlalchemy import select
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from app.compliance.review import approve_document, reject_document
from app.core.actor import Actor
from app.models.compliance import Document
from tests.integration.portal.conftest import Visitor
from tests.unit.compliance import proofs

STAFF = Actor.staff(1)
REASON = "The <corner> is cut off."


def send(visitor: Visitor, kind="identity", content=None, name="passport.jpg", media_type="image/jpeg"):
    content = proofs.picture() if content is None else content
    file = FileStorage(BytesIO(content), filename=name, content_type=media_type)
    # Encoded here, because the test client would spool a large body to a file and leave that open.
    values = {"csrf_token": visitor.token("/portal/documents"), f"{kind}-file": file}
    boundary, body = encode_multipart(values)
    return visitor.bare_post(f"/portal/documents/{kind}", body, content_type=f"multipart/form-data; boundary={boundary}")


def documents(database):
    with database.session() as session:
        return session.scalars(select(Document).order_by(Document.id)).all()


def judge(database, decide, *arguments):
    with database.session() as session:
        decide(session, documents(database)[-1].id, *arguments, STAFF)


def test_from_missing_over_rejected_to_approved(signed_in, database):
    page = signed_in.get("/portal/documents").text
    assert page.count("Missing") == 2
    answer = send(signed_in)
    assert (answer.status_code, answer.location) == (302, "/portal/documents")
    page = signed_in.get("/portal/documents").text
    assert "We have your document." in page
    assert "passport.jpg" in page
    assert "We check it" in page
    judge(database, reject_document, REASON)
    page = signed_in.get("/portal/documents").text
    assert "The &lt;corner&gt; is cut off." in page
    assert "Please send another one" in page
    home = signed_in.get("/portal/").text
    assert "The &lt;corner&gt; is cut off." in home
    assert "Please send a document again" in home
    send(signed_in, content=proofs.pdf(), name="scan.pdf")
    judge(database, approve_document)
    page = signed_in.get("/portal/documents").text
    assert "Approved. Nothing more to do here." in page
    assert page.count('type="file"') == 1
    assert [document.status for document in documents(database)] == ["replaced", "approved"]


def test_refused_files_are_explained_beside_the_field(signed_in, database):
    send(signed_in)
    for content, status, words in (
        (b"", 422, "This file is empty"),
        (b"not a picture", 415, "This is not a JPEG, a PNG or a PDF"),
        (proofs.picture()[:-500], 422, "cannot be read to its end"),
        (proofs.pdf(password="x"), 422, "protected by a password"),
        (proofs.pdf_with_javascript(), 422, "holds a program"),
        (b"\xff" * 10_000_001, 413, "10 MB at most"),
    ):
        answer = send(signed_in, content=content)
        assert answer.status_code == status, words
        assert words in answer.text
        assert "Nothing was changed" in answer.text
    (document,) = documents(database)
    assert document.status == "pending"


def test_no_file_at_all(signed_in):
    for data in ({}, {"identity-file": "text instead of a file"}):
        answer = signed_in.post("/portal/documents/identity", data, page="/portal/documents")
        assert answer.status_code == 422
        assert "Please choose a file." in answer.text


def test_far_too_large_is_refused_before_it_is_read(signed_in, database):
    answer = send(signed_in, content=b"\xff" * 11_500_000)
    assert answer.status_code == 413
    assert documents(database) == []


def test_a_kind_that_is_none(signed_in):
    assert signed_in.post("/portal/documents/passport", page="/portal/documents").status_code == 404
    assert signed_in.get("/portal/documents/passport/card").status_code == 404


def test_before_the_mail_address_is_confirmed(visitor, make_client, database):
    make_client(verified=False)
    visitor.sign_in()
    page = visitor.get("/portal/documents").text
    assert "Please confirm your mail address first" in page
    assert 'type="file"' not in page
    answer = visitor.post(
        "/portal/documents/identity",
        {"identity-file": (BytesIO(proofs.picture()), "x.jpg")},
        page="/portal/profile",
        content_type="multipart/form-data",
    )
    assert answer.status_code == 409
    assert documents(database) == []


def test_a_card_fetches_itself_only_when_something_changed(signed_in, database):
    assert signed_in.get("/portal/documents/identity/card?shown=none").status_code == 204
    send(signed_in)
    card = signed_in.get("/portal/documents/identity/card?shown=none")
    assert card.status_code == 200
    assert "passport.jpg" in card.text
    assert "<html" not in card.text
    shown = f"{documents(database)[0].id}-pending"
    assert signed_in.get(f"/portal/documents/identity/card?shown={shown}").status_code == 204
    judge(database, approve_document)
    assert "Approved" in signed_in.get(f"/portal/documents/identity/card?shown={shown}").text


def test_one_s_own_file_comes_back_and_nothing_in_it_runs(signed_in, database):
    send(signed_in, content=proofs.pdf(), name='../"evil"\r\n.html')
    document = documents(database)[0]
    answer = signed_in.get(f"/portal/documents/{document.id}/file")
    assert answer.data == proofs.pdf()
    assert answer.mimetype == "application/pdf"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_uploads_of_one_client_are_limited(signed_in):
    token = signed_in.token("/portal/documents")
    statuses = [signed_in.bare_post("/portal/documents/address", {"csrf_token": token}).status_code for _ in range(41)]
    assert statuses == [422] * 40 + [429]
