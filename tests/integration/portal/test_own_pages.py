"""Start page and profile; and that a client reaches nothing of another client's, whatever the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO

import pytest
from flask import Flask
from sqlalchemy import select, update

from app.core.tables import Event
from app.models.clients import Client, PortalSession
from app.models.compliance import Document
from app.portal.timeline import WORDS
from tests.integration.portal.conftest import PASSWORD, Visitor
from tests.unit.compliance import proofs


def set_client(database, **values):
    with database.session() as session:
        session.execute(update(Client).values(**values))
        session.commit()


def test_the_next_thing_to_do_stands_on_top(visitor, database, make_client):
    make_client(verified=False)
    visitor.sign_in()
    page = visitor.get("/portal/").text
    assert "Open the mail we sent to amira@example.com" in page
    assert "/portal/check-mail" in page
    set_client(database, status="verified", email_verified_at=datetime(2026, 7, 1, tzinfo=UTC))
    assert "A proof of identity and a proof of address." in visitor.get("/portal/").text
    for kind in ("identity", "address"):
        file = (BytesIO(proofs.picture()), "x.jpg")
        visitor.post(f"/portal/documents/{kind}", {f"{kind}-file": file}, page="/portal/documents")
    assert "We check your documents" in visitor.get("/portal/").text
    set_client(database, status="approved")
    page = visitor.get("/portal/").text
    assert "Your documents are approved. Choose an account type" in page
    assert "You registered" in page
    assert "Proof of address sent" in page


def test_every_sentence_of_the_timeline_can_be_said(signed_in, database, client_id):
    with database.session() as session:
        for key in WORDS:
            type_, _, detail = key.partition(":")
            payload = {
                "kind": detail,
                "direction": detail,
                "amount_minor": 123_456,
                "currency": "USD",
                "login": 500_123,
                "reason": "<b>why</b>",
            }
            session.add(Event(type=type_, client_id=client_id, actor="system:test", payload=payload))
        session.add(Event(type="withdrawal.paid", client_id=client_id, actor="system:test", payload={}))
        session.add(Event(type="client.something_new", client_id=client_id, actor="system:test", payload={}))
        session.commit()
    from app.portal import home

    limit, home.EVENTS = home.EVENTS, 100
    try:
        page = signed_in.get("/portal/").text
    finally:
        home.EVENTS = limit
    assert page.count("<li>") >= len(WORDS)
    assert "Withdrawal of \u20661,234.56 USD\u2069 paid out" in page
    assert "%(" not in page
    assert "<b>why" not in page
    assert "something_new" not in page


def test_partials_are_parts_of_pages(signed_in):
    part = signed_in.get("/portal/overview", headers={"HX-Request": "true"}).text
    assert "Send two documents" in part
    assert "<html" not in part


def test_the_profile_is_saved_and_speaks_the_new_language(signed_in, database):
    saved = signed_in.post("/portal/profile", {"language": "ar", "phone": "+971 4 000 0000", "address": "1 Creek Road"})
    assert (saved.status_code, saved.location) == (302, "/portal/profile")
    assert 'dir="rtl"' in signed_in.get("/portal/profile").text
    with database.session() as session:
        client = session.scalars(select(Client)).one()
        assert (client.language, client.phone, client.address) == ("ar", "+971 4 000 0000", "1 Creek Road")


def test_a_refused_profile_keeps_the_input(signed_in, database):
    answer = signed_in.post("/portal/profile", {"language": "xx", "phone": "call me", "address": "1 Creek Road"})
    assert answer.status_code == 422
    assert "Please choose a language." in answer.text
    assert "1 Creek Road" in answer.text
    answer = signed_in.post("/portal/profile", {"language": "en", "phone": "call me", "address": "x" * 301})
    assert "with its country code" in answer.text
    assert "300 characters at most" in answer.text
    assert 'value="call me"' in answer.text
    with database.session() as session:
        assert session.scalars(select(Client.phone)).one() == ""


def test_changing_the_password_signs_out_other_browsers(signed_in, another):
    another.sign_in()
    wrong = signed_in.post("/portal/profile/password", {"current": "wrong", "password": "short"}, page="/portal/profile")
    assert wrong.status_code == 422
    assert "This is not your present password." in wrong.text
    assert "at least 10 characters" in wrong.text
    assert another.get("/portal/").status_code == 200
    right = signed_in.post(
        "/portal/profile/password", {"current": PASSWORD, "password": "another four words"}, page="/portal/profile"
    )
    assert right.status_code == 302
    assert signed_in.get("/portal/").status_code == 200
    assert another.get("/portal/").status_code == 302


def test_signing_out_another_device(signed_in, another, database):
    another.http.environ_base["HTTP_USER_AGENT"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    another.sign_in()
    page = signed_in.get("/portal/profile").text
    assert "Firefox, Linux" in page
    assert "192.0.2.99" in page
    assert page.count("This device") == 1
    (path,) = re.findall(r'action="(/portal/profile/sessions/\d+/revoke)"', page)
    assert signed_in.post(path, page="/portal/profile").status_code == 302
    assert another.get("/portal/").status_code == 302
    assert signed_in.get("/portal/").status_code == 200


def test_pages_of_a_part_ask_the_page_to_reload_after_the_session(visitor, client_id):
    answer = visitor.get("/portal/overview", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Refresh"]) == (401, "true")
    assert visitor.get("/portal/live", headers={"Accept": "text/event-stream"}).status_code == 401


@dataclass
class Belongings:
    """Ids of one client's things, by the name that routes give them."""

    document_id: int
    session_id: int


@pytest.fixture
def belongings(signed_in: Visitor, database) -> Belongings:
    file = (BytesIO(proofs.picture()), "x.jpg")
    signed_in.post("/portal/documents/identity", {"identity-file": file}, page="/portal/documents")
    with database.session() as session:
        return Belongings(session.scalars(select(Document.id)).one(), session.scalars(select(PortalSession.id)).one())


def test_another_client_s_things_are_not_there(belongings, another, signed_in, make_client, app: Flask):
    """Walks all routes of these pages that name a thing by its id."""
    make_client("omar@example.com")
    another.sign_in("omar@example.com")
    token = another.token("/portal/profile")
    walked = 0
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith("portal.") or not rule.arguments & set(vars(belongings)):
            continue
        with app.test_request_context():
            path = app.url_for(rule.endpoint, **{name: vars(belongings)[name] for name in rule.arguments})
        answer = another.get(path) if "GET" in rule.methods else another.bare_post(path, {"csrf_token": token})
        assert answer.status_code == 404, path
        unknown = re.sub(r"\d+", "987654", path)
        again = another.get(unknown) if "GET" in rule.methods else another.bare_post(unknown, {"csrf_token": token})
        assert again.status_code == 404
        walked += 1
    assert walked == 2
    assert signed_in.get(f"/portal/documents/{belongings.document_id}/file").status_code == 200


def test_every_page_but_the_way_in_needs_a_client(visitor, app: Flask):
    """Also those of other subjects: whatever is below /portal is closed unless it is listed here."""
    open_to_all = {"banner", "gallery", "register", "terms", "check_mail", "verify", "sign_in", "sign_out", "forgot", "reset"}
    token = visitor.token("/portal/sign-in")
    for rule in app.url_map.iter_rules():
        blueprint, _, name = rule.endpoint.partition(".")
        if not rule.rule.startswith("/portal") or (blueprint == "portal" and name in open_to_all):
            continue
        with app.test_request_context():
            kind = "svg" if name == "link_qr" else "identity"
            values = {argument: kind if argument == "kind" else 1 for argument in rule.arguments}
            path = app.url_for(rule.endpoint, **values)
        answer = visitor.get(path) if "GET" in rule.methods else visitor.bare_post(path, {"csrf_token": token})
        assert answer.status_code in (302, 401), path
        if answer.status_code == 302:
            assert answer.location.startswith("/portal/sign-in"), path
