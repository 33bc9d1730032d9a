"""A browser without a screen: keeps cookies, follows forms with their CSRF token, and knows what it was told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from app.clients import onboarding
from app.core.tables import Event

PASSWORD = "four unrelated words"
_TOKEN = re.compile(r'name="(?:\w+-)?csrf_token"[^>]*value="([^"]+)"')


@dataclass
class Visitor:
    """One browser. `post` fetches the page first, as people do, and sends its token."""

    http: FlaskClient
    address: str = "192.0.2.7"
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **more) -> TestResponse:
        return self.http.get(path, environ_base={"REMOTE_ADDR": self.address}, **more)

    def post(self, path: str, data: dict | None = None, *, page: str | None = None, **more) -> TestResponse:
        token = self.token(page or path)
        return self.bare_post(path, {**(data or {}), "csrf_token": token}, **more)

    def bare_post(self, path: str, data: dict | None = None, **more) -> TestResponse:
        return self.http.post(path, data=data or {}, environ_base={"REMOTE_ADDR": self.address}, **more)

    def token(self, page: str) -> str:
        found = _TOKEN.search(self.get(page).text)
        assert found, f"no form on {page}"
        return found.group(1)

    def sign_in(self, email: str = "amira@example.com", password: str = PASSWORD, **more) -> TestResponse:
        return self.post("/portal/sign-in", {"email": email, "password": password}, **more)

    @property
    def secret(self) -> str | None:
        cookie = self.http.get_cookie("lotwise_portal", path="/portal")
        return cookie.value if cookie else None


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return Visitor(app.test_client())


@pytest.fixture
def another(app: Flask) -> Visitor:
    """A second browser, elsewhere."""
    return Visitor(app.test_client(), address="192.0.2.99")


@pytest.fixture
def make_client(database):
    """make_client(email, verified=True) → the client's id."""

    def make(email: str = "amira@example.com", *, verified: bool = True, language: str = "en") -> int:
        with database.session() as session:
            made = onboarding.register_client(
                session,
                email=email,
                password=PASSWORD,
                first_name="Amira",
                last_name="Haddad",
                country="AE",
                language=language,
                terms_version="1",
                birth_date=date(1990, 5, 17),
                actor_address="",
            )
            if verified:
                secret = onboarding.issue_token(session, made.client_id, "verify_email", onboarding.VERIFY_TTL)
                onboarding.verify_email(session, secret)
            return made.client_id

    return make


@pytest.fixture
def client_id(make_client) -> int:
    return make_client()


@pytest.fixture
def signed_in(visitor: Visitor, client_id: int) -> Visitor:
    assert visitor.sign_in().status_code == 302
    return visitor


@pytest.fixture
def facts(database):
    """facts(type) → the payloads and clients of the facts of this type so far."""

    def find(type_: str) -> list[Event]:
        with database.session() as session:
            rows = session.scalars(select(Event).where(Event.type == type_).order_by(Event.id)).all()
            session.expunge_all()
            return list(rows)

    return find
