"""One office for all tests of this folder: a database with staff of every role, a few rows of every kind, and browsers."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app import create_app
from app.clients import onboarding
from app.compliance.documents import upload_document
from app.compliance.storage import document_storage
from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.tables import AuditEntry
from app.core.uow import unit_of_work
from app.extensions import db
from app.ledger import chart, posting
from app.models.clients import Client
from app.models.metatrader import Product
from app.models.payments import Deposit
from app.payments import withdrawals
from app.security import permissions
from app.security.roles import ROLES
from config import Settings
from tests.conftest import Database, _clone, _named
from tests.integration.payments.conftest import add_account
from tests.unit.compliance import proofs

#: Flask-AppBuilder 5.3 uses fields in ways that WTForms 3.3 calls old.
LIBRARY_WARNINGS = [
    pytest.mark.filterwarnings("ignore:Yielding raw tuples:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'DateTimeField' renders:DeprecationWarning"),
]
PASSWORD = "ledger-orchid-anchor"
#: A role an administrator made: two permissions, so two things.
TWO_RIGHTS = ("Auditor", [("can_list", "Audit trail"), ("can_list", "Deposits")])
_TOKEN = re.compile(r'(?:name="csrf_token"[^>]*value=|"X-CSRFToken": )"([^"]+)"')


def open_dialog(page: str) -> str:
    """The one dialog that came open with a page, because its form was refused."""
    (found,) = re.findall(r"<dialog [^>]* open data-refused.*?</dialog>", page, re.DOTALL)
    return str(found)


@dataclass
class Browser:
    """One signed-in browser. `post` takes the token from a page first, as people do."""

    http: FlaskClient

    def get(self, path: str) -> TestResponse:
        return self.http.get(path)

    def token(self, page: str) -> str:
        found = _TOKEN.search(self.get(page).text)
        assert found, f"no form on {page}"
        return found.group(1)

    def post(self, path: str, data: dict[str, Any] | None = None, *, page: str = "/") -> TestResponse:
        """Post with a token; the answer is the page after all redirects."""
        return self.http.post(path, data={**(data or {}), "csrf_token": self.token(page)}, follow_redirects=True)

    def bare_post(self, path: str, data: dict[str, Any] | None = None) -> TestResponse:
        return self.http.post(path, data=data or {})


@dataclass
class Office:
    """The application, its database, and the ways in that tests need."""

    app: Flask
    database: Database
    client_id: int
    product_id: int
    _browsers: dict[str, Browser]
    _numbers: Iterator[int]

    def session(self) -> Session:
        return self.database.session()

    def browser(self, role: str) -> Browser:
        """The browser of the staff member who has this role; signed in once."""
        if role not in self._browsers:
            browser = Browser(self.app.test_client())
            browser.http.environ_base["REMOTE_ADDR"] = f"192.0.2.{self.number()}"
            answer = browser.http.post(
                "/login/", data={"username": user_name(role), "password": PASSWORD, "csrf_token": browser.token("/login/")}
            )
            assert answer.status_code == 302
            assert "/login" not in answer.headers["Location"]
            self._browsers[role] = browser
        return self._browsers[role]

    def number(self) -> int:
        return next(self._numbers)

    def audited(self, action: str) -> list[AuditEntry]:
        """The entries of this action, oldest first."""
        with self.session() as session:
            entries = session.scalars(select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)).all()
            session.expunge_all()
            return list(entries)

    def row(self, model: type[Any], key: int) -> Any:
        """The row as it stands committed."""
        with self.session() as session:
            found = session.get(model, key)
            session.expunge_all()
            return found

    def document(self, kind: str = "identity") -> int:
        """A waiting document of a new, verified client."""
        with self.session() as session:
            made = onboarding.register_client(
                session,
                email=f"client{self.number()}@example.com",
                password="four unrelated words",
                first_name="Amira",
                last_name="Haddad",
                country="AE",
                language="en",
                terms_version="1",
                actor_address="",
            )
            secret = onboarding.issue_token(session, made.client_id, "verify_email", onboarding.VERIFY_TTL)
            onboarding.verify_email(session, secret)
            sent = upload_document(
                session,
                document_storage(self.database.settings),
                client_id=made.client_id,
                kind=kind,
                file_name="passport.jpg",
                content=proofs.picture(),
                actor=Actor.client(made.client_id),
            )
            return int(sent.id)

    def withdrawal(self, amount_minor: int = 5_000) -> int:
        """A withdrawal that waits for a decision."""
        with self.session() as session:
            asked = withdrawals.request_withdrawal(
                session,
                client_id=self.client_id,
                amount=Money(amount_minor, "USD"),
                key=f"test-{self.number()}",
                actor=Actor.client(self.client_id),
            )
            return int(asked.id)


def user_name(role: str) -> str:
    return role.lower().replace(" ", "-")


def add_rows(database: Database) -> tuple[int, int]:
    """A client with an account, a settled card payment and money in the wallet. Returns the client's and product's ids."""
    with database.session() as session:
        with unit_of_work(session, Actor.system("test")):
            client = Client(
                email="elena@example.com",
                password_hash="x",
                first_name="Elena",
                last_name="Rossi",
                country="IT",
                status="approved",
                terms_version="1",
                terms_accepted_at=now(),
            )
            session.add(client)
            session.flush()
            session.add(
                Deposit(
                    public_id=uuid.uuid4(),
                    client_id=client.id,
                    connector="stripe",
                    amount_minor=500_000,
                    currency="USD",
                    state="settled",
                    idempotency_key="paid",
                    payment_reference="pi_1",
                    settled_minor=500_000,
                    settled_at=now(),
                )
            )
            bank, wallet = chart.bank_client_money("test", "USD"), chart.client_wallet(client.id, "USD")
            chart.open_accounts(session, bank, wallet)
            posting.post(
                session,
                key="opening",
                kind="migration_opening",
                effective_at=now(),
                actor=Actor.system("test"),
                legs=[posting.debit(bank, Money(500_000, "USD")), posting.credit(wallet, Money(500_000, "USD"))],
            )
        add_account(session, client.id)
        return client.id, session.scalars(select(Product.id)).one()


def add_staff(app: Flask) -> None:
    """One staff member per built-in role, two for withdrawals and documents, and one with two rights."""
    permissions.sync(app)
    with app.app_context():
        manager = app.appbuilder.sm
        name, rights = TWO_RIGHTS
        role = manager.add_role(name)
        role.permissions = [manager.find_permission_view_menu(*pair) for pair in rights]
        db.session.commit()
        people = {role: role for role in ("Admin", *ROLES, name)}
        people |= {"Second officer": "Payments officer", "Second reviewer": "KYC reviewer"}
        for person, role_name in people.items():
            user = user_name(person)
            first, _, last = person.partition(" ")
            made = manager.add_user(user, first, last or "Staff", f"{user}@example.com", manager.find_role(role_name), PASSWORD)
            assert made, person
        db.session.remove()


@contextmanager
def an_office(template: Settings, folder: Path, first_number: int = 1) -> Iterator[Office]:
    """An office on a database of its own; browsers of offices in one process need numbers that differ."""
    name = _clone(template)
    settings = replace(
        template,
        database_url=_named(template.database_url, name),
        database_owner_url=_named(template.database_owner_url, name),
        var_dir=folder,
        documents_dir=folder / "documents",
    )
    database = Database(settings)
    app = create_app(settings)
    add_staff(app)
    client_id, product_id = add_rows(database)
    yield Office(app, database, client_id, product_id, {}, itertools.count(first_number))
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    database.dispose()


@pytest.fixture(scope="session")
def office(template: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with an_office(template, tmp_path_factory.mktemp("office")) as made:
        yield made
