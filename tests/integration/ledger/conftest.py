"""A small broker's books for the ledger's tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import Money
from app.ledger import chart, posting, proofs

ACTOR = Actor.system("test")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
_keys = count(1)


def _array(values: Iterable[Any]) -> str:
    return "{" + ",".join(map(json.dumps, values)) + "}"


class Book:
    """Short words for what the tests do again and again, on one session."""

    actor = ACTOR
    noon = NOON

    def __init__(self, session: Session) -> None:
        self.session = session

    def money(self, amount: str, currency: str = "USD") -> Money:
        return Money.parse(amount, currency)

    def key(self, name: str = "key") -> str:
        """A key that no other test has used."""
        return f"{name}:{next(_keys)}"

    def wallet(self, client_id: int, amount: str | None = None, currency: str = "USD") -> chart.AccountSpec:
        """The client's wallet, opened, with a deposit in it when an amount is given."""
        wallet, clearing = chart.client_wallet(client_id, currency), chart.psp_clearing("stripe", currency)
        chart.open_accounts(self.session, wallet, clearing)
        if amount is not None:
            money = self.money(amount, currency)
            self.post(posting.debit(clearing, money), posting.credit(wallet, money), kind="deposit")
        return wallet

    def open(self, *specs: chart.AccountSpec) -> Sequence[chart.AccountSpec]:
        chart.open_accounts(self.session, *specs)
        return specs

    def post(self, *legs: posting.Leg, key: str | None = None, kind: str = "test", at: datetime = NOON, **more: Any) -> Any:
        return posting.post(self.session, key=key or self.key(), kind=kind, effective_at=at, actor=ACTOR, legs=legs, **more)

    def pay(self, giver: chart.AccountSpec, taker: chart.AccountSpec, amount: str, **more: Any) -> Any:
        """Move money between two accounts of clients."""
        money = self.money(amount, giver.currency)
        return self.post(posting.debit(giver, money), posting.credit(taker, money), **more)

    def post_raw(self, legs: Any, *, many: bool = False, key: str | None = None) -> Any:
        """Call the database function itself, past the checks in Python."""
        legs = sorted(legs, key=lambda leg: leg.get("account") or "")
        # As array literals, so that the database sees also what no column can hold.
        arrays = {
            "accounts": _array(leg.get("account") for leg in legs),
            "currencies": _array(leg.get("currency") for leg in legs),
            "debits": _array(leg.get("debit", 0) for leg in legs),
            "credits": _array(leg.get("credit", 0) for leg in legs),
        }
        values = {"key": key or self.key(), "at": NOON, **arrays}
        if many:
            statement = (
                "SELECT (ledger.post_many(ARRAY[:key], '{raw}', ARRAY[CAST(:at AS timestamptz)], '{test}', '{\"{}\"}',"
                f" '{{NULL}}', array_fill(1, ARRAY[{len(legs)}]), {posting.LEGS}))[1]"
            )
        else:
            statement = f"SELECT ledger.post(:key, 'raw', :at, 'test', {posting.LEGS})"
        return self.session.execute(text(statement), values).scalar_one()

    def state(self) -> list[Any]:
        """Everything a refused operation must leave as it was."""
        return [
            self.session.execute(text(f"SELECT * FROM ledger.{table} ORDER BY 1, 2")).all()
            for table in ("account", "txn", "entry", "hold", "hold_resolution")
        ]

    def broken_proofs(self) -> list[str]:
        return [found for proof in proofs.prove(self.session) for found in proof.breaks]


@pytest.fixture
def book(session: Session) -> Book:
    """Books that are rolled back after the test."""
    return Book(session)


@pytest.fixture
def book_of() -> Callable[[Session], Book]:
    """Books on a session of the test's own."""
    return Book
