"""What is judged at commit is judged in tests, too: an unbalanced transaction gets past no unit of work and no fixture."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, errors, posting, queries
from app.ledger.posting import credit, debit
from tests import conftest
from tests.integration.ledger.tables import dump

ACTOR = Actor.system("test")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BANK, FEES = chart.bank_own_money("first", "USD"), chart.fees("USD")
CENT = Money(1, "USD")


def post_unbalanced(session: Session) -> None:
    """A debit of 100 against a credit of 101, past the checks in Python."""
    legs = {"accounts": [BANK.code, FEES.code], "currencies": ["USD"] * 2, "debits": [100, 0], "credits": [0, 101]}
    session.execute(text(f"SELECT ledger.post('unbalanced', 'raw', :at, 'test', {posting.LEGS})"), {"at": NOON, **legs})


def test_a_unit_of_work(database):
    with database.session() as session:
        with unit_of_work(session, ACTOR):
            chart.open_accounts(session, BANK, FEES)
        before = dump(session)
        with pytest.raises(errors.UnbalancedTransaction, match="differ"), unit_of_work(session, ACTOR):
            post_unbalanced(session)
        assert dump(session) == before
        assert queries.balance(session, BANK).posted == Money(0, "USD")


def test_a_session_that_is_rolled_back_after_the_test(_rollback_engine):
    """By the rollback alone it would get past: deferred triggers wait for a commit. The fixture asks them before its end."""
    fixture = conftest.session.__wrapped__(_rollback_engine)
    session = next(fixture)
    chart.open_accounts(session, BANK, FEES)
    post_unbalanced(session)
    session.commit()
    with pytest.raises(DatabaseError) as caught:
        next(fixture)
    assert caught.value.orig.sqlstate == "LG003"


def test_a_balanced_transaction_gets_past_it(_rollback_engine):
    fixture = conftest.session.__wrapped__(_rollback_engine)
    session = next(fixture)
    chart.open_accounts(session, BANK, FEES)
    legs = [debit(BANK, CENT), credit(FEES, CENT)]
    posting.post(session, key="balanced", kind="test", effective_at=NOON, actor=ACTOR, legs=legs)
    session.commit()
    assert next(fixture, None) is None
