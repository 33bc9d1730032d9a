"""Registration, one-time links and passwords on a real database."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select, update

from app.clients import onboarding
from app.clients.errors import ExpiredLink, InvalidPassword, InvalidRegistration, UnknownLink, UsedLink
from app.clients.passwords import verify_password
from app.core.clock import now
from app.core.errors import AppError
from app.core.tables import Event
from app.models.clients import Client, ClientToken, PortalSession
from app.security import portal

PERSON = {
    "email": "amira@example.com",
    "password": "four unrelated words",
    "first_name": "  Amira ",
    "last_name": "Haddad",
    "country": "AE",
    "language": "ar",
    "terms_version": "2026-11",
    "birth_date": date(1990, 2, 28),
    "actor_address": "192.0.2.7",
}


def register(session, **changes):
    return onboarding.register_client(session, **{**PERSON, **changes})


def facts(session, type_):
    return session.scalars(select(Event).where(Event.type == type_).order_by(Event.id)).all()


def link(session, client_id, purpose, ttl=timedelta(hours=1)):
    return onboarding.issue_token(session, client_id, purpose, ttl)


def test_a_visitor_becomes_a_client(session):
    made = register(session, touches=[["ALPHA8", 1_790_000_000]], promo_code="BETA7")
    client = session.get_one(Client, made.client_id)
    assert made.is_new
    assert (client.email, client.full_name, client.country, client.language) == (
        "amira@example.com",
        "Amira Haddad",
        "AE",
        "ar",
    )
    assert (client.status, client.email_verified_at, client.terms_version) == ("registered", None, "2026-11")
    assert client.terms_accepted_at <= now()
    assert client.password_hash.startswith("$argon2id$")
    assert verify_password(client.password_hash, PERSON["password"])
    (fact,) = facts(session, "client.registered")
    assert (fact.client_id, fact.payload) == (client.id, {"touches": [["ALPHA8", 1_790_000_000]], "promo_code": "BETA7"})


def test_without_a_link_the_fact_says_so(session):
    register(session)
    assert facts(session, "client.registered")[0].payload == {"touches": [], "promo_code": ""}


def test_a_refused_registration_changes_nothing(session):
    with pytest.raises(InvalidRegistration) as caught:
        register(session, password="short", country="XX", birth_date=now().date())
    assert set(caught.value.problems) == {"password", "country", "birth_date"}
    assert session.scalar(select(func.count()).select_from(Client)) == 0
    assert session.scalar(select(func.count()).select_from(Event)) == 0


@pytest.mark.parametrize("email", ["amira@example.com", "AMIRA@example.com", " Amira@EXAMPLE.com "])
def test_a_known_address_is_told_to_its_owner_only(session, email):
    first = register(session)
    again = register(session, email=email, password="another four words", first_name="Mallory", promo_code="MALLORY1")
    assert (again.client_id, again.is_new) == (first.client_id, False)
    client = session.get_one(Client, first.client_id)
    assert client.first_name == "Amira"
    assert verify_password(client.password_hash, PERSON["password"])
    assert [fact.client_id for fact in facts(session, "client.register_repeated")] == [first.client_id]
    assert len(facts(session, "client.registered")) == 1


def test_two_registrations_at_the_same_moment_make_one_client(database):
    barrier = threading.Barrier(2)
    made = []

    def visitor():
        with database.session() as session:
            barrier.wait(10)
            made.append(register(session))

    threads = [threading.Thread(target=visitor) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(result.is_new for result in made) == [False, True]
    assert len({result.client_id for result in made}) == 1


def test_the_link_of_the_mail_verifies_once(session):
    client_id = register(session).client_id
    secret = link(session, client_id, "verify_email")
    assert session.scalars(select(ClientToken.secret_hash)).one() != secret.encode()
    onboarding.check_link(session, secret, "verify_email")
    verified = onboarding.verify_email(session, secret)
    client = session.get_one(Client, client_id)
    assert (verified.client_id, verified.verified_at) == (client_id, client.email_verified_at)
    assert client.status == "verified"
    assert len(facts(session, "client.verified")) == 1
    with pytest.raises(UsedLink):
        onboarding.verify_email(session, secret)
    with pytest.raises(UsedLink):
        onboarding.check_link(session, secret, "verify_email")
    assert len(facts(session, "client.verified")) == 1


def test_links_sent_before_are_used_up_with_it(session):
    client_id = register(session).client_id
    first, second = link(session, client_id, "verify_email"), link(session, client_id, "verify_email")
    onboarding.verify_email(session, second)
    with pytest.raises(UsedLink):
        onboarding.verify_email(session, first)


def test_an_expired_link_is_told_apart(session):
    client_id = register(session).client_id
    secret = link(session, client_id, "verify_email", timedelta(seconds=-1))
    with pytest.raises(ExpiredLink):
        onboarding.verify_email(session, secret)
    assert session.get_one(Client, client_id).email_verified_at is None


@pytest.mark.parametrize("secret", ["", "nothing", "\x00", "\ud800", "x" * 10_000])
def test_an_unknown_link_is_told_apart(session, secret):
    with pytest.raises(UnknownLink):
        onboarding.verify_email(session, secret)


def test_a_link_serves_its_purpose_only(session):
    client_id = register(session).client_id
    with pytest.raises(UnknownLink):
        onboarding.verify_email(session, link(session, client_id, "reset_password"))
    with pytest.raises(UnknownLink):
        onboarding.reset_password(
            session, secret=link(session, client_id, "verify_email"), password="another four words", actor_address=""
        )


def test_a_link_pressed_twice_at_once_works_once(database):
    with database.session() as session:
        client_id = register(session).client_id
        secret = link(session, client_id, "verify_email")
    barrier = threading.Barrier(2)
    outcomes = []

    def press():
        with database.session() as session:
            barrier.wait(10)
            try:
                onboarding.verify_email(session, secret)
                outcomes.append("verified")
            except AppError as error:
                outcomes.append(error.code)

    threads = [threading.Thread(target=press) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["clients.used_link", "verified"]
    with database.session() as session:
        assert len(facts(session, "client.verified")) == 1


def test_a_blocked_client_stays_blocked_when_verifying(session):
    client_id = register(session).client_id
    secret = link(session, client_id, "verify_email")
    session.execute(update(Client).values(status="blocked"))
    onboarding.verify_email(session, secret)
    assert session.get_one(Client, client_id).status == "blocked"


def test_another_verification_mail_is_asked_for_only_while_it_is_needed(session):
    client_id = register(session).client_id
    for email in ("amira@example.com", "nobody@example.com", "no address", "\x00"):
        onboarding.request_verification(session, email=email, actor_address="")
    assert [fact.client_id for fact in facts(session, "client.verification_requested")] == [client_id]
    onboarding.verify_email(session, link(session, client_id, "verify_email"))
    onboarding.request_verification(session, email="amira@example.com", actor_address="")
    assert len(facts(session, "client.verification_requested")) == 1


def test_a_reset_is_asked_for_without_telling_who_has_an_account(session):
    client_id = register(session).client_id
    for email in ("AMIRA@example.com", "nobody@example.com", "no address"):
        assert onboarding.request_password_reset(session, email=email, actor_address="") is None
    assert [fact.client_id for fact in facts(session, "client.password_reset_requested")] == [client_id]


def test_a_new_password_signs_out_every_browser(session):
    client_id = register(session).client_id
    portal.sign_in(session, email="amira@example.com", password=PERSON["password"], address="", user_agent="")
    secret = link(session, client_id, "reset_password")
    with pytest.raises(InvalidPassword):
        onboarding.reset_password(session, secret=secret, password="short", actor_address="")
    assert onboarding.reset_password(session, secret=secret, password="another four words", actor_address="") == client_id
    assert session.scalars(select(PortalSession.revoked)).all() == [True]
    assert verify_password(session.get_one(Client, client_id).password_hash, "another four words")
    assert len(facts(session, "client.password_changed")) == 1
    with pytest.raises(UsedLink):
        onboarding.reset_password(session, secret=secret, password="yet another phrase", actor_address="")
