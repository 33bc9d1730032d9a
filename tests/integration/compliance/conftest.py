"""A verified client, a storage of the test's own, and a way to send documents."""

from __future__ import annotations

import itertools

import pytest

from app.clients import onboarding
from app.compliance.documents import upload_document
from app.compliance.storage import DocumentStorage
from app.core.actor import Actor
from app.core.crypto import Vault
from tests.unit.compliance import proofs

_numbers = itertools.count(1)
PICTURE = proofs.picture()


def make_client(session, *, verified=True):
    made = onboarding.register_client(
        session,
        email=f"documents{next(_numbers)}@example.com",
        password="four unrelated words",
        first_name="Amira",
        last_name="Haddad",
        country="AE",
        language="en",
        terms_version="1",
        actor_address="",
    )
    if verified:
        onboarding.verify_email(session, onboarding.issue_token(session, made.client_id, "verify_email", onboarding.VERIFY_TTL))
    return made.client_id


@pytest.fixture
def storage(tmp_path):
    return DocumentStorage(tmp_path / "documents", Vault("22" * 32, "client-document"))


@pytest.fixture
def send(storage):
    """send(session, client_id, kind) → the document."""

    def upload(session, client_id, kind="identity", content=PICTURE, file_name="passport.jpg", **more):
        return upload_document(
            session,
            storage,
            client_id=client_id,
            kind=kind,
            file_name=file_name,
            content=content,
            actor=Actor.client(client_id),
            **more,
        )

    return upload
