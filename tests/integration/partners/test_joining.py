"""Becoming an introducing broker: openly, by invitation, by application."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, text, update

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.tables import AuditEntry
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.partner_joining import IBApplication, IBInvitation
from app.models.partners import IntroducingBroker
from app.partners import agreements, joining
from app.partners.errors import (
    AgreementChanged,
    AlreadyIB,
    ApplicationDecided,
    ApplicationWaiting,
    InvitationNeeded,
    InvitationOver,
    NotApprovedYet,
    OwnDownline,
)
from app.partners.links import ib_by_client, make_ib
from app.partners.policy import Policy, set_policy
from app.partners.tree import upline_at, uplines
from tests.conftest import tamper
from tests.integration.waiting import until_somebody_waits

STAFF = Actor.staff(1)


def person(session, status: str = "approved") -> int:
    number = session.scalar(text("SELECT count(*) FROM client"))
    row = Client(
        email=f"joiner{number}@example.com", password_hash="x", first_name="A", last_name="B", country="AE", terms_version="1",
        terms_accepted_at=now(), status=status,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def ask(session, client_id: int, words: str = "My courses", agreed: int | None = None, invitation: str = "") -> joining.Joined:
    return joining.join(
        session,
        client_id,
        currency="USD",
        words=words,
        agreed_id=agreed,
        invitation=invitation,
        actor=Actor.client(client_id),
    )


def mode(session, join_mode: str) -> None:
    set_policy(session, Policy(join_mode=join_mode), "test", STAFF)


def test_an_application_waits_for_staff_and_is_decided_once(session):
    client_id = person(session)
    asked = ask(session, client_id)
    assert asked.ib_id is None
    with pytest.raises(ApplicationWaiting):
        ask(session, client_id)
    ib_id = joining.approve_application(session, asked.application_id, actor=STAFF)
    assert ib_by_client(session, client_id).id == ib_id
    with pytest.raises(ApplicationDecided):
        joining.reject_application(session, asked.application_id, reason="late", actor=STAFF)
    with pytest.raises(AlreadyIB):
        ask(session, client_id)
    assert session.scalar(select(AuditEntry.action).where(AuditEntry.action == "ib_application.approved"))


def test_a_rejection_says_why_and_one_may_ask_again(session):
    client_id = person(session)
    asked = ask(session, client_id)
    with pytest.raises(InvalidInput):
        joining.reject_application(session, asked.application_id, reason="  ", actor=STAFF)
    joining.reject_application(session, asked.application_id, reason="no website", actor=STAFF)
    assert session.get_one(IBApplication, asked.application_id).decision_reason == "no website"
    again = ask(session, client_id)
    joining.withdraw_application(session, client_id, actor=Actor.client(client_id))
    assert session.get_one(IBApplication, again.application_id).status == "withdrawn"
    with pytest.raises(NotFound):
        joining.withdraw_application(session, client_id, actor=Actor.client(client_id))


def test_openly_everybody_approved_joins_at_once_under_nobody_decided(session):
    mode(session, "open")
    joined = ask(session, person(session), words="")
    assert joined.ib_id is not None
    assert session.get_one(IBApplication, joined.application_id).status == "approved"
    with pytest.raises(NotApprovedYet):
        ask(session, person(session, status="verified"))


def test_who_was_invited_stands_under_the_inviter_once(session):
    mode(session, "invited")
    inviter = make_ib(session, person(session), "USD", STAFF)
    secret = joining.invite(session, inviter.id, "for Omar", Actor.client(inviter.client_id))
    with pytest.raises(InvitationNeeded):
        ask(session, person(session))
    joined = ask(session, person(session), invitation=secret)
    assert upline_at(uplines(session, [joined.ib_id]), joined.ib_id, now()) == (joined.ib_id, inviter.id)
    with pytest.raises(InvitationOver):
        ask(session, person(session), invitation=secret)
    assert session.scalars(select(IBInvitation.secret_hash)).one() != secret.encode()


def test_invitations_end(session):
    mode(session, "invited")
    inviter, other = (make_ib(session, person(session), "USD", STAFF) for _ in range(2))
    revoked = joining.invite(session, inviter.id, "", STAFF)
    (row,) = joining.invitations_of(session, inviter.id, at=now())
    with pytest.raises(NotFound):
        joining.revoke_invitation(session, other.id, row.id, actor=STAFF)
    joining.revoke_invitation(session, inviter.id, row.id, actor=STAFF)
    expired = joining.invite(session, inviter.id, "", STAFF)
    tamper(session, "UPDATE ib_invitation SET expires_at = now() - interval '1 day' WHERE revoked_at IS NULL")
    session.commit()
    for secret in (revoked, expired, "nonsense"):
        with pytest.raises(InvitationOver):
            ask(session, person(session), invitation=secret)
    assert joining.invitations_of(session, inviter.id, at=now()) == []


def test_the_inviter_of_an_application_counts_when_it_is_approved(session):
    inviter = make_ib(session, person(session), "USD", STAFF)
    asked = ask(session, person(session), invitation=joining.invite(session, inviter.id, "", STAFF))
    ib_id = joining.approve_application(session, asked.application_id, actor=STAFF)
    assert upline_at(uplines(session, [ib_id]), ib_id, now())[1:] == (inviter.id,)


def test_an_agreement_has_to_be_the_one_that_holds(session):
    mode(session, "open")
    first = agreements.publish_agreement(session, "1", {"en": "Be honest.", "ar": ""}, STAFF)
    with pytest.raises(InvalidInput) as refused:
        ask(session, person(session))
    assert set(refused.value.problems) == {"agreed"}
    second = agreements.publish_agreement(session, "2", {"en": "Be very honest."}, STAFF)
    with pytest.raises(AgreementChanged):
        ask(session, person(session), agreed=first.id)
    client_id = person(session)
    ask(session, client_id, agreed=second.id)
    agreements.publish_agreement(session, "3", {"en": "Be kind."}, STAFF)
    assert agreements.last_acceptance(session, client_id).agreement.version == "2"
    with pytest.raises(InvalidInput):
        agreements.publish_agreement(session, " ", {"ar": "نص"}, STAFF)


def test_an_own_client_of_the_upline_cannot_invite_it(session):
    """Whoever stands above cannot be invited below: it is an IB already."""
    mode(session, "invited")
    top = make_ib(session, person(session), "USD", STAFF)
    low = make_ib(session, person(session), "USD", STAFF, parent_id=top.id)
    secret = joining.invite(session, low.id, "", STAFF)
    with pytest.raises((AlreadyIB, OwnDownline)):
        ask(session, top.client_id, invitation=secret)


def test_an_invitation_is_spent_by_who_joins_not_by_who_asked_in_vain(session):
    inviter = make_ib(session, person(session), "USD", STAFF)
    secret = joining.invite(session, inviter.id, "", STAFF)
    client_id = person(session)
    ask(session, client_id, invitation=secret)
    with pytest.raises(InvitationOver):
        ask(session, person(session), invitation=secret)
    joining.withdraw_application(session, client_id, actor=Actor.client(client_id))
    again = ask(session, client_id, invitation=secret)
    joining.reject_application(session, again.application_id, reason="no website", actor=STAFF)
    last = ask(session, client_id, invitation=secret)
    ib_id = joining.approve_application(session, last.application_id, actor=STAFF)
    assert upline_at(uplines(session, [ib_id]), ib_id, now())[1:] == (inviter.id,)
    with pytest.raises(InvitationOver):
        ask(session, person(session), invitation=secret)


def test_an_ib_that_was_switched_off_has_no_invitations(session):
    mode(session, "invited")
    inviter = make_ib(session, person(session), "USD", STAFF)
    secret = joining.invite(session, inviter.id, "", STAFF)
    session.execute(update(IntroducingBroker).where(IntroducingBroker.id == inviter.id).values(is_active=False))
    session.commit()
    with pytest.raises(InvitationOver):
        joining.inviter_of(session, secret)
    with pytest.raises(InvitationOver):
        ask(session, person(session), invitation=secret)


def test_what_staff_said_of_the_last_application_is_known(session):
    client_id = person(session)
    assert joining.last_application(session, client_id) is None
    joining.reject_application(session, ask(session, client_id).application_id, reason="no website", actor=STAFF)
    found = joining.last_application(session, client_id)
    assert (found.status, found.decision_reason) == ("rejected", "no website")


def test_an_application_that_is_being_approved_cannot_be_taken_back(database):
    with database.session() as session:
        client_id = person(session)
        application_id = ask(session, client_id).application_id
    refused: list[bool] = []

    def take_back() -> None:
        with database.session() as own:
            try:
                joining.withdraw_application(own, client_id, actor=Actor.client(client_id))
            except NotFound:
                refused.append(True)

    worker = threading.Thread(target=take_back)
    with database.session() as session, unit_of_work(session, STAFF):
        joining.approve_application(session, application_id, actor=STAFF)
        session.flush()
        worker.start()
        until_somebody_waits(database)
    worker.join(30)
    assert refused == [True]
    with database.session() as session:
        assert session.get_one(IBApplication, application_id).status == "approved"


def test_two_with_one_invitation_at_once(database):
    with database.session() as session:
        mode(session, "invited")
        inviter = make_ib(session, person(session), "USD", STAFF)
        secret = joining.invite(session, inviter.id, "", STAFF)
        clients = [person(session) for _ in range(4)]
        session.commit()
    joined: list[object] = []
    start = threading.Barrier(4)

    def work(client_id: int) -> None:
        with database.session() as own:
            start.wait(20)
            try:
                joined.append(ask(own, client_id, invitation=secret).ib_id)
            except InvitationOver:
                joined.append(None)

    workers = [threading.Thread(target=work, args=(client_id,)) for client_id in clients]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(one is None for one in joined) == [False, True, True, True]
