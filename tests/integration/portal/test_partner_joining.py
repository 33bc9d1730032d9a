"""The pages on which a client becomes a partner, and a partner invites others."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import update

from app.core.actor import Actor
from app.core.clock import now
from app.models.clients import Client
from app.partners import agreements, joining
from app.partners.links import ib_by_client, links_of, make_ib
from app.partners.policy import Policy, set_policy

STAFF = Actor.staff(1)


@pytest.fixture
def approved(database, client_id):
    with database.session() as session:
        session.execute(update(Client).where(Client.id == client_id).values(status="approved"))
        session.commit()
        yield session


def test_without_documents_there_is_no_form(signed_in):
    page = signed_in.get("/portal/partner/join").text
    assert "documents approved first" in page
    assert "<textarea" not in page
    assert signed_in.get("/portal/partner/").headers["Location"] == "/portal/partner/join"


def test_a_client_applies_reads_that_it_waits_and_takes_it_back(signed_in, approved, client_id):
    agreements.publish_agreement(approved, "1", {"en": "Be <b>honest</b>.\n\nAnd kind."}, STAFF)
    page = signed_in.get("/portal/partner/join").text
    assert "Be &lt;b&gt;honest&lt;/b&gt;." in page
    form = {"currency": "USD", "words": "My courses", "agreement": str(agreements.current_agreement(approved).id)}
    refused = signed_in.post("/portal/partner/join", form, page="/portal/partner/join")
    assert refused.status_code == 422
    assert "Please read the agreement and agree to it." in refused.text
    assert "My courses" in refused.text, "nothing typed is lost"

    other = {**form, "agreed": "y", "agreement": "9" * 5000}
    assert signed_in.post("/portal/partner/join", other, page="/portal/partner/join").status_code == 422

    sent = signed_in.post("/portal/partner/join", {**form, "agreed": "y"}, page="/portal/partner/join")
    assert sent.status_code == 302
    page = signed_in.get("/portal/partner/join").text
    assert "Your application waits for us" in page
    signed_in.post("/portal/partner/join/withdraw", {}, page="/portal/partner/join")
    assert joining.waiting_application(approved, client_id) is None


def test_who_was_turned_down_reads_why_and_may_ask_again(signed_in, approved, client_id):
    asked = joining.join(approved, client_id, currency="USD", words="x", agreed_id=None, actor=Actor.client(client_id))
    joining.reject_application(approved, asked.application_id, reason="No <website> yet", actor=STAFF)
    page = signed_in.get("/portal/partner/join").text
    assert "No &lt;website&gt; yet" in page
    assert "<textarea" in page
    told = signed_in.get("/portal/").text
    assert "Your application as a partner was not accepted" in told


def test_by_invitation_the_inviter_is_named_and_the_client_joins_at_once(signed_in, approved, client_id):
    set_policy(approved, Policy(join_mode="invited"), "test", STAFF)
    assert "by invitation of a partner only" in signed_in.get("/portal/partner/join").text
    inviter = Client(
        email="inviter@example.com", password_hash="x", first_name="Rania", last_name="B", country="AE", terms_version="1",
        terms_accepted_at=approved.get(Client, client_id).terms_accepted_at,
    )  # fmt: skip
    approved.add(inviter)
    approved.flush()
    ib = make_ib(approved, inviter.id, "USD", STAFF)
    secret = joining.invite(approved, ib.id, "", STAFF)
    address = f"/portal/partner/join?invitation={secret}"
    assert "Rania invited you" in signed_in.get(address).text
    signed_in.post("/portal/partner/join", {"currency": "USD", "invitation": secret}, page=address)
    approved.expire_all()
    assert ib_by_client(approved, client_id) is not None
    assert "used, taken back or has expired" not in signed_in.get("/portal/partner/invitations").text


def test_an_invitation_s_link_is_shown_once_and_can_be_taken_back(signed_in, approved, client_id):
    make_ib(approved, client_id, "USD", STAFF)
    page = signed_in.post("/portal/partner/invitations", {"note": "for Omar <b>"}, page="/portal/partner/invitations").text
    secret = re.search(r"/portal/partner/join\?invitation=([A-Za-z0-9_-]+)", page).group(1)
    later = signed_in.get("/portal/partner/invitations").text
    assert secret not in later
    assert "for Omar &lt;b&gt;" in later
    (row,) = joining.invitations_of(approved, ib_by_client(approved, client_id).id)
    signed_in.post(f"/portal/partner/invitations/{row.id}/revoke", {}, page="/portal/partner/invitations")
    assert "Taken back" in signed_in.get("/portal/partner/invitations").text


def test_a_partner_chooses_the_code_of_a_link(signed_in, approved, client_id):
    ib = make_ib(approved, client_id, "USD", STAFF)
    page = "/portal/partner/links"
    refused = signed_in.post(page, {"name": "Summer <3", "code": "a b"}, page=page)
    assert refused.status_code == 422
    assert "A code has 4 to 24 letters, digits or dashes." in refused.text
    assert "Summer &lt;3" in refused.text, "nothing typed is lost"
    signed_in.post(page, {"name": "Summer", "code": " summer-26 "}, page=page)
    assert [link.code for link in links_of(approved, ib.id)] == ["SUMMER-26"]
    taken = signed_in.post(page, {"name": "", "code": "Summer-26"}, page=page)
    assert "Another link has this code." in taken.text
    assert len(links_of(approved, ib.id)) == 1


def test_an_ib_is_asked_to_accept_a_new_agreement_and_does(signed_in, approved, client_id):
    agreements.publish_agreement(approved, "1", {"en": "Be <b>honest</b>."}, STAFF)
    make_ib(approved, client_id, "USD", STAFF)
    assert "There is a new partner agreement" not in signed_in.get("/portal/partner/links").text
    first = agreements.current_agreement(approved)
    agreements.record_acceptance(approved, client_id, first.id, Actor.client(client_id))
    row = agreements.publish_agreement(
        approved, "2", {"en": "Be kind.", "ar": "كن لطيفا."}, STAFF, accept_by=now().date(), holds_payouts=True
    )
    approved.commit()
    page = signed_in.get("/portal/partner/links").text
    assert "There is a new partner agreement" in page
    assert f"accept it by {row.accept_by.day}\N{NO-BREAK SPACE}{row.accept_by:%b}" in page
    assert "your payouts are held until you do" in page
    page = signed_in.get("/portal/partner/agreement").text
    assert "It replaces version 1, which you agreed to." in page
    assert "Be kind." in page
    assert "Be &lt;b&gt;honest&lt;/b&gt;." in page
    sent = {"agreement": str(row.id)}
    refused = signed_in.post("/portal/partner/agreement", sent, page="/portal/partner/agreement")
    assert refused.status_code == 422
    assert "Please read the agreement and agree to it." in refused.text
    older = {"agreement": str(first.id), "agreed": "y"}
    refused = signed_in.post("/portal/partner/agreement", older, page="/portal/partner/agreement")
    assert "has changed meanwhile" in refused.text
    accepted = signed_in.post("/portal/partner/agreement", sent | {"agreed": "y"}, page="/portal/partner/agreement")
    assert accepted.status_code == 302
    assert "There is a new partner agreement" not in signed_in.get("/portal/partner/links").text
    assert "You agreed to it" in signed_in.get("/portal/partner/agreement").text
    assert agreements.last_acceptance(approved, client_id).address == "192.0.2.7"


def test_who_is_no_ib_has_no_agreement_to_accept(signed_in, approved):
    row = agreements.publish_agreement(approved, "1", {"en": "Be honest."}, STAFF, accept_by=now().date())
    approved.commit()
    page = signed_in.get("/portal/partner/agreement").text
    assert "Be honest." in page
    assert "Accept the agreement" not in page
    sent = {"agreement": str(row.id), "agreed": "y"}
    assert signed_in.post("/portal/partner/agreement", sent, page="/portal/partner/join").status_code == 404
