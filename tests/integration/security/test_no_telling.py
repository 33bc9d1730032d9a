"""Asking for a link does the same work for every address: neither text nor time tells who has an account."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from app.clients import onboarding
from tests.integration.payments.conftest import add_client


@pytest.mark.parametrize("ask", [onboarding.request_password_reset, onboarding.request_verification])
def test_known_and_unknown_addresses_take_the_same_statements(session, ask):
    add_client(session, "elena@example.com")
    statements: list[str] = []

    @event.listens_for(session.connection(), "before_cursor_execute")
    def note(_connection, _cursor, statement, *_) -> None:
        if "SAVEPOINT" not in statement:  # the fixture's
            statements.append(statement)

    ask(session, email="elena@example.com", actor_address="192.0.2.1")
    known = statements.copy()
    statements.clear()
    ask(session, email="nobody@example.com", actor_address="192.0.2.1")
    assert statements == known
    assert any(words.startswith("INSERT") for words in known)
