"""What clients change themselves, on a real database."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.clients.errors import InvalidPassword, InvalidProfile
from app.clients.onboarding import register_client
from app.clients.passwords import verify_password
from app.clients.profile import change_password, update_profile
from app.core.actor import Actor
from app.core.tables import Event
from app.models.clients import Client, PortalSession
from app.security import portal

PASSWORD = "four unrelated words"


@pytest.fixture
def client_id(session):
    return register_client(
        session,
        email="amira@example.com",
        password=PASSWORD,
        first_name="Amira",
        last_name="Haddad",
        country="AE",
        language="en",
        terms_version="1",
        actor_address="",
    ).client_id


def save(session, client_id, **changes):
    values = {"language": "en", "phone": "", "address": "", **changes}
    return update_profile(session, client_id=client_id, **values, actor=Actor.client(client_id))


def changes_told(session):
    return [row.payload["fields"] for row in session.scalars(select(Event).where(Event.type == "client.profile_changed"))]


def test_what_is_saved_is_tidy(session, client_id):
    saved = save(session, client_id, language="ar", phone=" +٤٤ ٢٠ 7946  0958 ", address=" 12  Harbour Street \r\n\r\n Dubai ")
    assert (saved.language, saved.phone, saved.address) == ("ar", "+44 20 7946 0958", "12 Harbour Street\nDubai")
    assert session.get_one(Client, client_id).phone == "+44 20 7946 0958"
    assert changes_told(session) == [["language", "phone", "address"]]


def test_nothing_changed_is_nothing_told(session, client_id):
    save(session, client_id)
    assert changes_told(session) == []


@pytest.mark.parametrize(
    "phone", ["12345678", "+1", "+123456789012345678", "+44 20 CALL ME", "+44\x0020 7946", "++4420794609", "+" + "1" * 40]
)
def test_what_is_no_telephone_number(session, client_id, phone):
    with pytest.raises(InvalidProfile) as caught:
        save(session, client_id, phone=phone)
    assert set(caught.value.problems) == {"phone"}


@pytest.mark.parametrize("address", ["a" * 301, "12 Harbour\x00", "\u202eteertS"])
def test_what_is_no_address(session, client_id, address):
    with pytest.raises(InvalidProfile) as caught:
        save(session, client_id, address=address)
    assert set(caught.value.problems) == {"address"}


def test_all_problems_at_once_and_nothing_saved(session, client_id):
    with pytest.raises(InvalidProfile) as caught:
        save(session, client_id, language="!", phone="1", address="a" * 301)
    assert set(caught.value.problems) == {"language", "phone", "address"}
    assert session.get_one(Client, client_id).language == "en"


def test_a_changed_password_signs_out_the_others(session, client_id):
    mine, other = (
        portal.sign_in(session, email="amira@example.com", password=PASSWORD, address="", user_agent="") for _ in range(2)
    )
    change_password(
        session, client_id=client_id, current=PASSWORD, password="another four words", keep_session_id=mine.session_id,
        actor=Actor.client(client_id),
    )  # fmt: skip
    assert verify_password(session.get_one(Client, client_id).password_hash, "another four words")
    assert not session.get_one(PortalSession, mine.session_id).revoked
    assert session.get_one(PortalSession, other.session_id).revoked
    assert portal.find_session(session, other.secret) is None


@pytest.mark.parametrize(
    ("current", "password", "fields"),
    [
        ("wrong", "another four words", {"current"}),
        (PASSWORD, "short", {"password"}),
        (PASSWORD, PASSWORD, {"password"}),
        ("wrong", "amira@example.com", {"current", "password"}),
        ("", "", {"current", "password"}),
    ],
)
def test_a_refused_password_changes_nothing(session, client_id, current, password, fields):
    with pytest.raises(InvalidPassword) as caught:
        change_password(
            session,
            client_id=client_id,
            current=current,
            password=password,
            keep_session_id=None,
            actor=Actor.client(client_id),
        )
    assert set(caught.value.problems) == fields
    assert verify_password(session.get_one(Client, client_id).password_hash, PASSWORD)
