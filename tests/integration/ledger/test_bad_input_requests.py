"""Whatever is wrong with a request for an adjustment, or for a conversion: said in a sentence, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.money import MAX_AMOUNT_MINOR, InvalidMoney, Money
from app.ledger import errors, fx, requests
from app.ledger.adjustments import DraftLeg
from app.ledger.requests import Evidence
from app.models.controls import LedgerRequest
from tests.integration.ledger.bad_input import (
    ACTOR,
    AFTER_ALL,
    ARABIC_AND_MORE,
    BEFORE_ALL,
    CLOSED,
    OTHER,
    Books,
    key,
    make_books,
    refused,
    usd,
)

PROOF = Evidence("ab" * 32, "bank.pdf", "application/pdf")

BANK, FEES = "bank:first:own_money:USD", "income:fees:USD"


@pytest.fixture
def books(session) -> Books:
    return make_books(session)


def _rows(amount: Any, account: str = BANK, side: str = "debit") -> list[DraftLeg]:
    return [DraftLeg(account, side, amount), DraftLeg(FEES, "credit", "1")]


#: name → what is asked, the field beside which it is said, words of it.
ADJUSTMENTS: dict[str, tuple[Callable[[Books], dict[str, Any]], str, str]] = {
    "unknown currency": (lambda b: {"legs": _rows("1 XXQ")}, "legs-0-amount", "kept in USD, not in XXQ"),
    "account of an unknown currency": (lambda b: {"legs": _rows("1", "income:fees:XXQ")}, "legs-0-account", "no account"),
    "a tenth of a cent": (lambda b: {"legs": _rows("1.001")}, "legs-0-amount", "USD has 2 decimals at most"),
    "half a yen": (lambda b: {"legs": _rows("0.5", "income:fees:JPY")}, "legs-0-amount", "JPY has 0 decimals"),
    "zero": (lambda b: {"legs": _rows("0.00")}, "legs-0-amount", "greater than zero"),
    "negative": (lambda b: {"legs": _rows("-1")}, "legs-0-amount", "greater than zero"),
    "NaN": (lambda b: {"legs": _rows("NaN")}, "legs-0-amount", "not a valid amount"),
    "10^30": (lambda b: {"legs": _rows("1" + "0" * 30)}, "legs-0-amount", "too large"),
    "float": (lambda b: {"legs": _rows(1.0)}, "legs-0-amount", "not a valid amount"),
    "true": (lambda b: {"legs": _rows(True)}, "legs-0-amount", "not a valid amount"),
    "None": (lambda b: {"legs": _rows(None)}, "legs-0-amount", "not a valid amount"),
    "text with NUL": (lambda b: {"legs": _rows("1\x00")}, "legs-0-amount", "not a valid amount"),
    "rounds to zero": (lambda b: {"legs": _rows("0.0001")}, "legs-0-amount", "2 decimals at most"),
    "another currency's account": (lambda b: {"legs": _rows("1 EUR")}, "legs-0-amount", "kept in USD, not in EUR"),
    "unknown account": (lambda b: {"legs": _rows("1", "client:0:wallet:USD")}, "legs-0-account", "no account client:0"),
    "account with NUL": (lambda b: {"legs": _rows("1", "a\x00")}, "legs-0-account", "no account"),
    "account of half a character": (lambda b: {"legs": _rows("1", "\ud83d")}, "legs-0-account", "no account"),
    "closed account": (lambda b: {"legs": _rows("1", b.closed.code)}, "legs-0-account", "account is closed"),
    "an account twice": (lambda b: {"legs": _rows("1", FEES)}, "legs-1-account", "stands in row 1 already"),
    "neither side": (lambda b: {"legs": _rows("1", side="both")}, "legs-0-side", "debits or credits"),
    "one row": (lambda b: {"legs": _rows("1")[:1]}, "legs", "two rows at least"),
    "no rows": (lambda b: {"legs": []}, "legs", "two rows at least"),
    "does not balance": (lambda b: {"legs": _rows("1.01")}, "legs", "USD does not balance"),
    "201 rows": (lambda b: {"legs": [DraftLeg(f"client:{n}:wallet:USD", "debit", "1") for n in range(201)]}, "legs", "200"),
    "closed period": (lambda b: {"effective_at": CLOSED - timedelta(days=1)}, "effective_at", "books are closed up to 2020"),
    "no moment": (lambda b: {"effective_at": None}, "effective_at", "give the moment"),
    "naive moment": (lambda b: {"effective_at": datetime(2026, 1, 1)}, "effective_at", "in UTC"),
    "a moment to come": (lambda b: {"effective_at": now() + timedelta(hours=1)}, "effective_at", "still to come"),
    "year 1": (lambda b: {"effective_at": BEFORE_ALL}, "effective_at", "before the year 2000"),
    "year 9999": (lambda b: {"effective_at": AFTER_ALL}, "effective_at", "still to come"),
    "no reason": (lambda b: {"reason": " \n\t "}, "reason", "say why"),
    "a reason of NULs": (lambda b: {"reason": "\x00\x00"}, "reason", "say why"),
    "a reason too long": (lambda b: {"reason": "x" * 1_001}, "reason", "1,000 characters"),
    "no evidence": (lambda b: {"evidence": None}, "evidence", "add a file"),
}


@pytest.mark.parametrize("case", ADJUSTMENTS)
def test_an_adjustment_is_not_even_asked_for(books, case):
    make, field, words = ADJUSTMENTS[case]
    asked = {"legs": _rows("1"), "effective_at": now(), "reason": "why", "evidence": PROOF, "key": key(), "actor": ACTOR}
    with refused(books, errors.RefusedRequest, words) as found:
        requests.propose_adjustment(books.session, **{**asked, **make(books)})
    assert words.lower() in found.caught.value.problems[field].lower()


def test_a_request_is_asked_for_once_and_with_one_content(books):
    asked = {"legs": _rows("1"), "effective_at": now(), "reason": ARABIC_AND_MORE, "evidence": PROOF, "key": key()}
    made = requests.propose_adjustment(books.session, **asked, actor=ACTOR)
    assert requests.propose_adjustment(books.session, **asked, actor=ACTOR) == made
    kept = books.session.get_one(LedgerRequest, made.request_id).reason
    assert kept.split() == ARABIC_AND_MORE.replace("\u200f", " ").replace("\u200d", " ").split()
    with refused(books, errors.IdempotencyConflict, "other content"):
        requests.propose_adjustment(books.session, **{**asked, "reason": "another"}, actor=ACTOR)
    with refused(books, errors.OwnRequest, "somebody else"):
        requests.approve(books.session, made.request_id, ACTOR)
    with refused(books, errors.InvalidPosting):
        requests.propose_adjustment(books.session, **{**asked, "key": ""}, actor=ACTOR)
    with refused(books, NotFound, "could not find"):
        requests.approve(books.session, 2**40, OTHER)
    with refused(books, InvalidInput, "reason"):
        requests.reject(books.session, made.request_id, "\x00", OTHER)


QUOTES: dict[str, tuple[Callable[[Books], dict[str, Any]], type[BaseException] | tuple[type[BaseException], ...], str]] = {
    "unknown currency to sell": (lambda b: {"sell": Money.parse("1", "XXQ")}, InvalidMoney, "unknown currency XXQ"),
    "unknown currency to buy": (lambda b: {"buy_currency": "XXQ"}, InvalidMoney, "unknown currency XXQ"),
    "nothing to buy": (lambda b: {"buy_currency": None}, InvalidMoney, "unknown currency"),
    "NUL to buy": (lambda b: {"buy_currency": "EU\x00"}, InvalidMoney, "unknown currency"),
    "the same currency": (lambda b: {"buy_currency": "USD"}, InvalidInput, "two different currencies"),
    "a tenth of a cent": (lambda b: {"sell": usd("1.001")}, InvalidMoney, "2 decimals"),
    "zero": (lambda b: {"sell": usd("0")}, InvalidInput, "above zero"),
    "negative": (lambda b: {"sell": usd("-1")}, InvalidInput, "above zero"),
    "NaN": (lambda b: {"sell": usd("NaN")}, InvalidMoney, "not a valid amount"),
    "10^30": (lambda b: {"sell": Money(10**30, "USD")}, InvalidMoney, "too large"),
    "all spread": (lambda b: {"sell": usd("0.01")}, errors.AmountTooSmall, "too small"),
    "rounds to zero euros": (lambda b: {"sell": Money(1, "JPY")}, errors.AmountTooSmall, "too small"),
    "more than the other currency can count": (
        lambda b: {"sell": Money(MAX_AMOUNT_MINOR, "USD"), "buy_currency": "BTC"}, InvalidMoney, "too large",
    ),
    "no rate": (lambda b: {"buy_currency": "KWD"}, errors.NoRate, "no exchange rate from USD to KWD"),
    "an old rate": (lambda b: {"buy_currency": "CHF"}, errors.StaleRate, "too old"),
    "no client": (lambda b: {"client_id": 2**40}, NotFound, "could not find"),
    "money of None": (lambda b: {"sell": None}, (TypeError, AttributeError), ""),
    "money of 1.5": (lambda b: {"sell": 1.5}, (TypeError, AttributeError), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", QUOTES)
def test_a_quote_is_refused(books, case):
    make, error, words = QUOTES[case]
    asked = {"client_id": books.client, "sell": usd("10"), "buy_currency": "EUR", "actor": ACTOR}
    with refused(books, error, words):
        fx.quote(books.session, **{**asked, **make(books)})


@pytest.mark.parametrize("given", [None, "", "abc", "\x00", "\ud83d", 5, UUID(int=404), ARABIC_AND_MORE], ids=repr)
def test_a_conversion_of_no_quote_is_refused(books, given):
    with refused(books, NotFound, "could not find"):
        fx.convert(books.session, quote_public_id=given, client_id=books.client, actor=ACTOR)


def test_a_conversion_is_refused_for_funds_and_to_others(books):
    dear = fx.quote(books.session, client_id=books.client, sell=usd("58.01"), buy_currency="EUR", actor=ACTOR)
    with refused(books, errors.InsufficientFunds, "not enough"):
        fx.convert(books.session, quote_public_id=dear.public_id, client_id=books.client, actor=ACTOR)
    with refused(books, NotFound, "could not find"):
        fx.convert(books.session, quote_public_id=dear.public_id, client_id=books.client + 1, actor=ACTOR)
