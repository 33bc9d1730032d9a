"""Books for the tests of bad input, and what it means that something is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any, Self
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, close, holds, posting
from app.ledger.posting import credit, debit
from tests.integration.ledger.market import a_client, a_rate
from tests.integration.ledger.tables import dump

ACTOR, OTHER = Actor.staff(1001), Actor.staff(1002)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CLOSED = datetime(2020, 1, 1, tzinfo=UTC)
ARABIC_AND_MORE = "سحب الأرباح \u200f— «1 000» 🪙👩🏽‍💼 ½"
#: The calendar has more days than PostgreSQL's driver can read back.
BEFORE_ALL = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
AFTER_ALL = datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))

_numbers = count(1)


@dataclass
class Books:
    """Two wallets with 100.00 each, a hold of 40.00 on the first, and one of everything that can be in the way."""

    session: Session
    client: int
    giver: chart.AccountSpec
    taker: chart.AccountSpec
    euros: chart.AccountSpec
    closed: chart.AccountSpec
    clearing: chart.AccountSpec
    hold: UUID
    used: str
    posted: UUID

    def pair(self, money: Money, **changes: Any) -> dict[str, Any]:
        return {"legs": [debit(self.giver, money), credit(self.taker, money)], **changes}

    def one(self, **changes: Any) -> dict[str, Any]:
        """A request with nothing wrong but the changes."""
        return self.pair(usd("1"), **changes)


def usd(amount: str) -> Money:
    return Money.parse(amount, "USD")


def key() -> str:
    return f"bad:{next(_numbers)}"


def make_books(session: Session) -> Books:
    """Committed, as far as the session commits."""
    client, other = a_client(session, "100.00 USD", at=NOON), a_client(session, "100.00 USD", at=NOON)
    giver, taker = (chart.client_wallet(number, "USD") for number in (client, other))
    euros, closed = chart.client_wallet(client, "EUR"), chart.client_bonus(client, "USD")
    clearing, used = chart.psp_clearing("stripe", "USD"), key()
    house = [chart.bank_own_money("first", "USD"), chart.fees("USD"), chart.fees("JPY")]
    with unit_of_work(session, ACTOR):
        chart.open_accounts(session, euros, closed, *house)
        close.close_account(session, closed)
        close.close_period(session, CLOSED, actor=ACTOR)
        hold = holds.place_hold(session, account=giver, money=usd("40"), key=key(), reason="", actor=ACTOR)
        legs = [debit(giver, usd("2")), credit(taker, usd("2"))]
        posted = posting.post(session, key=used, kind="test", effective_at=NOON, actor=ACTOR, legs=legs)
    a_rate(session, "EUR/USD", "1.25")
    a_rate(session, "USD/JPY", "150")
    a_rate(session, "EUR/BTC", "0.00001")
    a_rate(session, "CHF/USD", "1.1", at=now() - timedelta(days=60))
    return Books(session, client, giver, taker, euros, closed, clearing, hold, used, posted)


class refused:  # noqa: N801  reads as a word
    """What happens in the block is refused with this error, changes nothing, and the session serves the next request."""

    def __init__(self, books: Books, error: type[BaseException] | tuple[type[BaseException], ...], words: str = "") -> None:
        self.books, self.raised, self.words = books, pytest.raises(error), words.lower()

    def __enter__(self) -> Self:
        self.before = dump(self.books.session)
        self.caught = self.raised.__enter__()
        return self

    def __exit__(self, *details: object) -> bool:
        swallowed = bool(self.raised.__exit__(*details))
        books, session = self.books, self.books.session
        assert dump(session) == self.before
        if isinstance(self.caught.value, AppError):
            told = told_by(self.caught.value)
            assert self.words in told.lower()
            assert "%(" not in told
            assert told.strip().endswith((".", ")"))
            assert self.caught.value.http_status in (403, 404, 409, 422)
        with unit_of_work(session, ACTOR):
            posting.post(session, key=key(), kind="test", effective_at=NOON, actor=ACTOR, **books.one())
        assert dump(session) != self.before
        return swallowed


def told_by(error: AppError) -> str:
    """All that the reader is told: the sentence, or those beside the fields."""
    return " ".join(getattr(error, "problems", {}).values()) or str(error)
