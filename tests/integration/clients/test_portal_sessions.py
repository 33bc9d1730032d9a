"""Portal sessions: who gets one, how it ends, and what does not open one."""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from app.clients.errors import AccessBlocked, WrongCredentials
from app.clients.onboarding import register_client
from app.clients.passwords import dummy_hash, needs_rehash
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import NotFound
from app.core.ids import secret_hash
from app.core.tables import Event
from app.models.clients import Client, PortalSession
from app.security import portal

PASSWORD = "four unrelated words"


def make_client(session, email="amira@example.com"):
    return register_client(
        session,
        email=email,
        password=PASSWORD,
        first_name="Amira",
        last_name="Haddad",
        country="AE",
        language="en",
        terms_version="1",
        actor_address="",
    ).client_id


@pytest.fixture
def client_id(session):
    return make_client(session)


def sign_in(session, email="amira@example.com", password=PASSWORD, **more):
    return portal.sign_in(session, email=email, password=password, address="192.0.2.7", user_agent="Firefox\x00\n", **more)


def age(session, **values):
    session.execute(update(PortalSession).values(**values))
    session.expire_all()


def test_the_right_password_opens_a_session(session, client_id):
    signed_in = sign_in(session, email=" AMIRA@example.com ")
    found = portal.find_session(session, signed_in.secret)
    assert (found.client_id, found.client.id, found.id) == (client_id, client_id, signed_in.session_id)
    row = session.get_one(PortalSession, signed_in.session_id)
    assert row.secret_hash == secret_hash(signed_in.secret)
    assert (row.address, row.user_agent) == ("192.0.2.7", "Firefox")
    assert portal.is_open(session, row.id)


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("amira@example.com", "wrong"),
        ("amira@example.com", ""),
        ("nobody@example.com", PASSWORD),
        ("", ""),
        ("\x00", "\x00"),
        ("a" * 400, PASSWORD),
    ],
)
def test_what_opens_none_says_the_same_always(session, client_id, email, password):
    with pytest.raises(WrongCredentials) as caught:
        sign_in(session, email=email, password=password)
    assert str(caught.value) == WrongCredentials.message
    assert session.scalars(select(PortalSession)).all() == []


def test_an_unknown_address_takes_as_long_as_a_wrong_password(session, client_id):
    dummy_hash()

    def took(email):
        started = perf_counter()
        with pytest.raises(WrongCredentials):
            sign_in(session, email=email, password="wrong password")
        return perf_counter() - started

    known = min(took("amira@example.com") for _ in range(4))
    unknown = min(took("nobody@example.com") for _ in range(4))
    assert 0.5 < unknown / known < 2


def test_a_blocked_client_is_told_only_with_the_right_password(session, client_id):
    signed_in = sign_in(session)
    session.execute(update(Client).values(status="blocked"))
    with pytest.raises(WrongCredentials):
        sign_in(session, password="wrong")
    with pytest.raises(AccessBlocked):
        sign_in(session)
    assert portal.find_session(session, signed_in.secret) is None
    assert not portal.is_open(session, signed_in.session_id)


def test_every_sign_in_draws_a_new_secret_and_ends_the_browsers_former_session(session, client_id):
    planted = "planted-by-somebody-else"
    first = sign_in(session, former_secret=planted)
    second = sign_in(session, former_secret=first.secret)
    assert len({planted, first.secret, second.secret}) == 3
    assert portal.find_session(session, planted) is None
    assert portal.find_session(session, first.secret) is None
    assert portal.find_session(session, second.secret) is not None


@pytest.mark.parametrize("secret", ["", "x", "\x00", "\ud800", "x" * 101, "x" * 100_000])
def test_secrets_that_are_none(session, client_id, secret):
    sign_in(session)
    assert portal.find_session(session, secret) is None


def test_a_session_ends_two_hours_after_the_client_was_there(session, client_id):
    secret = sign_in(session).secret
    age(session, last_seen_at=now() - timedelta(hours=1, minutes=59))
    found = portal.find_session(session, secret)
    portal.touch(session, found)
    assert portal.find_session(session, secret).last_seen_at > now() - timedelta(minutes=1)
    age(session, last_seen_at=now() - timedelta(hours=2, seconds=1))
    assert portal.find_session(session, secret) is None


def test_a_session_ends_a_day_after_sign_in_whatever_happens(session, client_id):
    secret = sign_in(session).secret
    age(session, expires_at=now() - timedelta(seconds=1))
    assert portal.find_session(session, secret) is None


def test_last_seen_is_written_once_a_minute_at_most(session, client_id):
    found = portal.find_session(session, sign_in(session).secret)
    before = found.last_seen_at
    portal.touch(session, found)
    session.expire_all()
    assert found.last_seen_at == before


def test_revoking(session, client_id):
    first, second = sign_in(session), sign_in(session)
    assert {row.id for row in portal.open_sessions(session, client_id)} == {first.session_id, second.session_id}
    portal.revoke_session(session, client_id=client_id, session_id=first.session_id, actor=Actor.client(client_id))
    assert portal.find_session(session, first.secret) is None
    assert [row.id for row in portal.open_sessions(session, client_id)] == [second.session_id]
    assert session.scalars(select(Event.subject_id).where(Event.type == "session.revoked")).all() == [first.session_id]


def test_nobody_revokes_anothers_session(session, client_id):
    other_id = make_client(session, "omar@example.com")
    mine = sign_in(session)
    with pytest.raises(NotFound):
        portal.revoke_session(session, client_id=other_id, session_id=mine.session_id, actor=Actor.client(other_id))
    assert portal.find_session(session, mine.secret) is not None


def test_an_old_hash_is_made_anew_at_sign_in(session, client_id):
    weak = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    session.execute(update(Client).values(password_hash=weak))
    session.expire_all()
    sign_in(session)
    assert not needs_rehash(session.get_one(Client, client_id).password_hash)
