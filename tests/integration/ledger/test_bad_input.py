"""Whatever is wrong with a movement or a hold: a sentence that says so, and nothing is changed.

One table for each door into the ledger. A row is a request, the error it meets, and words that the sentence must have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError
from app.core.money import MAX_AMOUNT_MINOR, InvalidMoney, Money
from app.core.uow import unit_of_work
from app.ledger import chart, close, errors, holds, posting
from app.ledger.posting import Leg, Posting, credit, debit
from app.models.ledger import Hold, Transaction
from tests.integration.ledger.bad_input import (
    ACTOR,
    AFTER_ALL,
    ARABIC_AND_MORE,
    BEFORE_ALL,
    CLOSED,
    NOON,
    Books,
    key,
    make_books,
    refused,
    usd,
)
from tests.integration.ledger.market import a_client


@pytest.fixture
def books(session) -> Books:
    return make_books(session)


# ── three doors for legs ────────────────────────────────────────────────────────────────────────────────────────────────


def through_post(books: Books, request: dict[str, Any]) -> Any:
    return posting.post(books.session, **request)


def through_post_many(books: Books, request: dict[str, Any]) -> Any:
    """Between two that are in order: all or none."""
    good = [Posting(key(), "test", NOON, ACTOR, books.one()["legs"]) for _ in range(2)]
    return posting.post_many(books.session, [good[0], Posting(**request), good[1]])


def through_capture(books: Books, request: dict[str, Any]) -> Any:
    return holds.capture_hold(books.session, books.hold, **request)


DOORS = {"post": through_post, "post_many": through_post_many, "capture": through_capture}


def knock(door: str, books: Books, make: Callable[[Books], dict[str, Any]]) -> Any:
    """Make the request and send it, in one unit of work."""
    with unit_of_work(books.session, ACTOR):
        request = {"key": key(), "kind": "test", "effective_at": NOON, "actor": ACTOR, **make(books)}
        return DOORS[door](books, request)


def _many(books: Books, legs: int) -> list[Leg]:
    takers = [credit(f"client:{900_000 + n}:wallet:USD", usd("0.01")) for n in range(legs - 1)]
    return [debit(books.giver, Money(legs - 1, "USD")), *takers]


#: name → the request, the error, words of its sentence. Amounts are made inside, because Money refuses most of them itself.
MOVEMENTS: dict[str, tuple[Callable[[Books], dict[str, Any]], type[BaseException], str]] = {
    # amounts
    "unknown currency": (lambda b: b.pair(Money.parse("1", "XXQ")), InvalidMoney, "unknown currency XXQ"),
    "currency in small letters": (lambda b: b.pair(Money.parse("1", "usd")), InvalidMoney, "unknown currency usd"),
    "no currency": (lambda b: b.pair(Money(1, "")), InvalidMoney, "unknown currency"),
    "currency of None": (lambda b: b.pair(Money(1, None)), InvalidMoney, "unknown currency"),
    "gold, which has no minor unit": (lambda b: b.pair(Money(1, "XAU")), InvalidMoney, "unknown currency XAU"),
    "a tenth of a cent": (lambda b: b.pair(usd("1.001")), InvalidMoney, "USD has 2 decimals at most"),
    "half a yen": (lambda b: b.pair(Money.parse("0.5", "JPY")), InvalidMoney, "JPY has 0 decimals"),
    "less than a satoshi": (lambda b: b.pair(Money.parse("0.000000001", "BTC")), InvalidMoney, "BTC has 8 decimals"),
    "fils of the fourth place": (lambda b: b.pair(Money.parse("1.0001", "KWD")), InvalidMoney, "KWD has 3 decimals"),
    "zero": (lambda b: b.pair(usd("0")), errors.InvalidPosting, "greater than zero"),
    "minus zero": (lambda b: b.pair(usd("-0.00")), errors.InvalidPosting, "greater than zero"),
    "negative": (lambda b: b.pair(usd("-1")), errors.InvalidPosting, "greater than zero"),
    "rounds to zero": (lambda b: b.pair(Money.round_down(Decimal("0.0099"), "USD")), errors.InvalidPosting, "than zero"),
    "rounds to zero yen": (lambda b: b.pair(Money.round_down(Decimal("0.9"), "JPY")), errors.InvalidPosting, "than zero"),
    "NaN": (lambda b: b.pair(usd("NaN")), InvalidMoney, "not a valid amount"),
    "NaN as a number": (lambda b: b.pair(Money.parse(Decimal("NaN"), "USD")), InvalidMoney, "not a valid amount"),
    "NaN rounded": (lambda b: b.pair(Money.round_down(Decimal("NaN"), "USD")), InvalidMoney, "not a valid amount"),
    "NaN as float": (lambda b: b.pair(Money(math.nan, "USD")), InvalidMoney, "not a valid amount"),
    "infinity": (lambda b: b.pair(Money.round_down(Decimal("Infinity"), "USD")), InvalidMoney, "not a valid amount"),
    "10^30": (lambda b: b.pair(Money(10**30, "USD")), InvalidMoney, "too large"),
    "10^30 in digits": (lambda b: b.pair(usd("1" + "0" * 30)), InvalidMoney, "too large"),
    "10^30 as a number": (lambda b: b.pair(Money.parse(Decimal("1E30"), "USD")), InvalidMoney, "too large"),
    "10^30 in letters": (lambda b: b.pair(usd("1e30")), InvalidMoney, "not a valid amount"),
    "minus 10^30": (lambda b: b.pair(Money(-(10**30), "USD")), InvalidMoney, "too large"),
    "None": (lambda b: b.pair(Money(None, "USD")), InvalidMoney, "not a valid amount"),
    "float": (lambda b: b.pair(Money(1.0, "USD")), InvalidMoney, "not a valid amount"),
    "float to be parsed": (lambda b: b.pair(Money.parse(0.1, "USD")), InvalidMoney, "not a valid amount"),
    "true": (lambda b: b.pair(Money(True, "USD")), InvalidMoney, "not a valid amount"),
    "text": (lambda b: b.pair(Money("1", "USD")), InvalidMoney, "not a valid amount"),
    "text with NUL": (lambda b: b.pair(usd("1\x00")), InvalidMoney, "not a valid amount"),
    "thousands with a comma": (lambda b: b.pair(usd("1,000.00")), InvalidMoney, "not a valid amount"),
    # accounts
    "another currency's account": (
        lambda b: {"legs": [debit(b.giver, Money(1, "EUR")), credit(b.euros, Money(1, "EUR"))]},
        errors.CurrencyMismatch, "another currency",
    ),
    "unknown account": (lambda b: b.one(legs=[debit(b.giver, usd("1")), credit("client:0:wallet:USD", usd("1"))]),
                        errors.UnknownAccount, "no such account"),
    "account of None": (lambda b: b.one(legs=[debit(b.giver, usd("1")), credit(None, usd("1"))]),
                        errors.UnknownAccount, "no such account"),
    "account in emoji": (lambda b: b.one(legs=[debit(b.giver, usd("1")), credit("👛", usd("1"))]),
                         errors.UnknownAccount, "no such account"),
    "account with NUL": (lambda b: b.one(legs=[debit(b.giver, usd("1")), credit("client\x00", usd("1"))]),
                         errors.UnusableText, "characters that cannot be kept"),
    "account of half a character": (lambda b: b.one(legs=[debit(b.giver, usd("1")), credit("\ud83d", usd("1"))]),
                                    errors.UnusableText, "characters that cannot be kept"),
    "closed account": (lambda b: b.one(legs=[debit(b.giver, usd("1")), credit(b.closed, usd("1"))]),
                       errors.AccountClosed, "account is closed"),
    "more than there is": (lambda b: b.pair(usd("10000")), errors.InsufficientFunds, "not enough"),
    "more than an account can hold": (
        lambda b: {"legs": [debit(b.giver, usd("1")), debit(b.clearing, Money(MAX_AMOUNT_MINOR, "USD")),
                            credit(b.taker, usd("1")), credit(chart.bank_own_money("first", "USD"),
                                                              Money(MAX_AMOUNT_MINOR, "USD"))]},
        errors.AmountTooLarge, "too large",
    ),
    # legs
    "no legs": (lambda b: {"legs": []}, errors.UnbalancedTransaction, "debits and credits differ"),
    "one leg": (lambda b: {"legs": [debit(b.giver, usd("1"))]}, errors.UnbalancedTransaction, "debits and credits differ"),
    "a cent short": (lambda b: {"legs": [debit(b.giver, usd("1")), credit(b.taker, usd("0.99"))]},
                     errors.UnbalancedTransaction, "debits and credits differ"),
    "dollars against euros": (lambda b: {"legs": [debit(b.giver, usd("1")), credit(b.euros, Money(100, "EUR"))]},
                              errors.UnbalancedTransaction, "in at least one currency"),
    "201 legs": (lambda b: {"legs": _many(b, 201)}, errors.TooManyLegs, "200 accounts at most"),
    "10,000 legs": (lambda b: {"legs": _many(b, 10_000)}, errors.TooManyLegs, "200 accounts at most"),
    # texts
    "NUL in a detail": (lambda b: b.one(metadata={"note": "a\x00b"}), errors.UnusableText, "characters that cannot be kept"),
    "half a character in a detail": (lambda b: b.one(metadata={"note": "\ud83d"}), errors.UnusableText, "cannot be kept"),
    "NaN in a detail": (lambda b: b.one(metadata={"rate": math.nan}), errors.UnusableText, "cannot be kept"),
    "infinity in a detail": (lambda b: b.one(metadata={"rate": -math.inf}), errors.UnusableText, "cannot be kept"),
    "NUL in the actor": (lambda b: b.one(actor=Actor("staff", "\x00")), errors.UnusableText, "cannot be kept"),
    "half a character in the actor": (lambda b: b.one(actor=Actor("staff", "\ud83d")), errors.UnusableText, "cannot be kept"),
    # the rest
    "closed period": (lambda b: b.one(effective_at=CLOSED - timedelta(microseconds=1)), errors.PeriodClosed, "are closed"),
    "same key, other amount": (lambda b: b.one(key=b.used), errors.IdempotencyConflict, "with other content"),
    "same key, other kind": (lambda b: b.pair(usd("2"), key=b.used, kind="else"), errors.IdempotencyConflict, "other content"),
    "same key, other account": (lambda b: {"legs": [debit(b.giver, usd("2")), credit(b.clearing, usd("2"))], "key": b.used},
                                errors.IdempotencyConflict, "other content"),
    "same key, one leg more": (
        lambda b: {"legs": [debit(b.giver, usd("2")), credit(b.taker, usd("1")), credit(b.clearing, usd("1"))], "key": b.used},
        errors.IdempotencyConflict, "other content",
    ),
    "same key, as a reversal": (lambda b: b.pair(usd("2"), key=b.used, reverses=b.posted), AppError, ""),
    "reversal of nothing": (lambda b: b.one(reverses=uuid4()), errors.UnknownTransaction, "no such transaction"),
}  # fmt: skip
#: A capture may not take more than was held, which is asked first.
INSTEAD = {("capture", "more than there is"): (errors.CaptureMismatch, errors.InsufficientFunds)}


def at_each_door(cases: Iterable[str]) -> pytest.MarkDecorator:
    """Every case at every door; but a capture reverses nothing."""
    pairs = [(door, case) for case in cases for door in DOORS if not (door == "capture" and "revers" in case)]
    return pytest.mark.parametrize(("door", "case"), pairs)


@at_each_door(MOVEMENTS)
def test_a_movement_is_refused(books, door, case):
    make, error, words = MOVEMENTS[case]
    instead = INSTEAD.get((door, case))
    with refused(books, instead or error, "" if instead else words):
        knock(door, books, make)


#: What says nothing about the amount is not to be called a wrong amount.
NAMES: dict[str, tuple[Callable[[Books], dict[str, Any]], type[BaseException], str]] = {
    "no key": (lambda b: b.one(key=""), errors.InvalidPosting, "empty"),
    "a key too long": (lambda b: b.one(key="k" * 201), errors.InvalidPosting, "too long"),
    "NUL in the key": (lambda b: b.one(key="a\x00b"), errors.InvalidPosting, "cannot be kept"),
    "two lines in the key": (lambda b: b.one(key="a\nb"), errors.InvalidPosting, "cannot be kept"),
    "a key that reads backwards": (lambda b: b.one(key="pay\u202e001"), errors.InvalidPosting, "cannot be kept"),
    "half a character in the key": (lambda b: b.one(key="\ud83d"), errors.InvalidPosting, "cannot be kept"),
    "no kind": (lambda b: b.one(kind=""), errors.InvalidPosting, "empty"),
    "a kind too long": (lambda b: b.one(kind="k" * 61), errors.InvalidPosting, "too long"),
    "an account twice": (
        lambda b: {"legs": [debit(b.giver, usd("1")), credit(b.giver, usd("1"))]}, errors.InvalidPosting, "twice",
    ),
}  # fmt: skip


@at_each_door(NAMES)
def test_an_unusable_name_is_refused(books, door, case):
    make, error, _ = NAMES[case]
    with refused(books, error):
        knock(door, books, make)


@pytest.mark.parametrize("case", NAMES)
def test_what_is_said_of_an_unusable_name_is_true(books, case):
    make, error, words = NAMES[case]
    with refused(books, error, words):
        knock("post", books, make)


#: Moments at which nothing can have happened. One of the outermost two, once written, cannot be read back by the driver, and
#: one in the far future makes each later entry of its accounts a late one.
MOMENTS = {
    "before the calendar": BEFORE_ALL,
    "year 1": datetime(1, 1, 1, tzinfo=UTC),
    "1800": datetime(1800, 1, 1, tzinfo=UTC),
    "1969": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    "in two days": now() + timedelta(days=2),
    "2200": datetime(2200, 1, 1, tzinfo=UTC),
    "year 9999": datetime.max.replace(tzinfo=UTC),
    "after the calendar": AFTER_ALL,
}


@pytest.fixture
def open_books(session) -> Books:
    """Books without a closed period, so that only the moment can be wrong."""
    client, other = a_client(session, "100.00 USD", at=NOON), a_client(session, "100.00 USD", at=NOON)
    giver, taker = (chart.client_wallet(number, "USD") for number in (client, other))
    with unit_of_work(session, ACTOR):
        hold = holds.place_hold(session, account=giver, money=usd("40"), key=key(), reason="", actor=ACTOR)
    return Books(session, client, giver, taker, giver, giver, giver, hold, "", hold)


@at_each_door(MOMENTS)
def test_a_moment_that_cannot_be_is_refused(open_books, door, case):
    with refused(open_books, AppError, "date"):
        knock(door, open_books, lambda b: b.one(effective_at=MOMENTS[case]))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2005, 1, 1, tzinfo=UTC), now()], ids=["1970", "2005", "now"]
)
def test_the_moments_of_markets_and_servers_are_taken(open_books, door, at):
    knock(door, open_books, lambda b: b.one(effective_at=at))
    assert at in open_books.session.scalars(select(Transaction.effective_at)).all()


#: Not what a person can send, but a slip in code that calls the ledger: it must not move money either.
SLIPS: dict[str, Callable[[Books], dict[str, Any]]] = {
    "naive moment": lambda b: b.one(effective_at=datetime(2026, 1, 1)),
    "moment of None": lambda b: b.one(effective_at=None),
    "moment as text": lambda b: b.one(effective_at="2026-01-01"),
    "a day": lambda b: b.one(effective_at=date(2026, 1, 1)),
    "key of None": lambda b: b.one(key=None),
    "key of 5": lambda b: b.one(key=5),
    "kind of None": lambda b: b.one(kind=None),
    "legs of None": lambda b: b.one(legs=None),
    "legs of numbers": lambda b: b.one(legs=[1, 2]),
    "money of None": lambda b: b.pair(None),
    "money of 1.5": lambda b: b.pair(1.5),
    "money of True": lambda b: b.pair(True),
    "a side that is none": lambda b: b.one(legs=[debit(b.giver, usd("1")), Leg(b.taker.code, usd("1"), "sideways")]),
    "decimals in details": lambda b: b.one(metadata={"rate": Decimal(1)}),
    "details that are a list": lambda b: b.one(metadata=[1]),
    "details that are text": lambda b: b.one(metadata="abc"),
    "reverses a text": lambda b: b.one(reverses="abc"),
    "currencies in a list": lambda b: b.pair(Money(1, ["USD"])),
}


@at_each_door(SLIPS)
def test_a_slip_of_the_caller_moves_nothing(books, door, case):
    with refused(books, (AppError, TypeError, ValueError, AttributeError)):
        knock(door, books, SLIPS[case])


@pytest.mark.parametrize("door", DOORS)
def test_words_of_all_languages_are_kept_as_they_are(books, door):
    details = {"note": ARABIC_AND_MORE, ARABIC_AND_MORE: ["🪙", {"\u202b": 10**40}], "empty": "", "none": None}
    made = knock(door, books, lambda b: b.one(metadata=details, key=f"{key()} دفعة 🪙", kind="دفعة"))
    txn = books.session.get_one(Transaction, made[1] if isinstance(made, list) else made)
    assert txn.details == details
    assert txn.kind == "دفعة"


# ── holds ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

HOLDS: dict[str, tuple[Callable[[Books], dict[str, Any]], type[BaseException] | tuple[type[BaseException], ...], str]] = {
    "unknown currency": (lambda b: {"money": Money.parse("1", "XXQ")}, InvalidMoney, "unknown currency"),
    "a tenth of a cent": (lambda b: {"money": usd("0.001")}, InvalidMoney, "2 decimals"),
    "zero": (lambda b: {"money": usd("0")}, errors.InvalidPosting, "greater than zero"),
    "negative": (lambda b: {"money": usd("-5")}, errors.InvalidPosting, "greater than zero"),
    "NaN": (lambda b: {"money": usd("nan")}, InvalidMoney, "not a valid amount"),
    "10^30": (lambda b: {"money": Money(10**30, "USD")}, InvalidMoney, "too large"),
    "as much as a column holds": (
        lambda b: {"money": Money(MAX_AMOUNT_MINOR, "USD")}, (errors.AmountTooLarge, errors.InsufficientFunds), "",
    ),
    "the free part and a cent": (lambda b: {"money": usd("58.01")}, errors.InsufficientFunds, "not enough"),
    "another currency's account": (lambda b: {"money": Money(1, "EUR")}, errors.CurrencyMismatch, "another currency"),
    "unknown account": (lambda b: {"account": "client:0:wallet:USD"}, errors.UnknownAccount, "no such account"),
    "account with NUL": (lambda b: {"account": "client\x00"}, errors.UnusableText, "cannot be kept"),
    "closed account": (lambda b: {"account": b.closed}, errors.AccountClosed, "account is closed"),
    "same key, other amount": (lambda b: {"key": _key_of(b), "money": usd("39")}, errors.IdempotencyConflict, "other content"),
    "same key, other account": (
        lambda b: {"key": _key_of(b), "money": usd("40"), "account": b.taker}, errors.IdempotencyConflict, "other content",
    ),
    "no key": (lambda b: {"key": ""}, errors.InvalidPosting, ""),
    "a key too long": (lambda b: {"key": "k" * 201}, errors.InvalidPosting, ""),
    "NUL in the reason": (lambda b: {"reason": "a\x00b"}, errors.UnusableText, "cannot be kept"),
    "half a character in the reason": (lambda b: {"reason": "\ud83d"}, errors.UnusableText, "cannot be kept"),
    "money of None": (lambda b: {"money": None}, (TypeError, AttributeError), ""),
    "naive expiry": (lambda b: {"expires_at": datetime(2026, 1, 1)}, ValueError, ""),
    "expiry as text": (lambda b: {"expires_at": "tomorrow"}, (TypeError, AttributeError), ""),
}  # fmt: skip


def _key_of(books: Books) -> str:
    return books.session.get_one(Hold, books.hold).idempotency_key


@pytest.mark.parametrize("case", HOLDS)
def test_a_hold_is_refused(books, case):
    make, error, words = HOLDS[case]
    with refused(books, error, words), unit_of_work(books.session, ACTOR):
        asked = {"account": books.giver, "money": usd("1"), "key": key(), "reason": "", "actor": ACTOR}
        holds.place_hold(books.session, **{**asked, **make(books)})


def test_a_hold_says_why_in_any_language(books):
    with unit_of_work(books.session, ACTOR):
        made = holds.place_hold(
            books.session, account=books.giver, money=usd("1"), key=key(), reason=ARABIC_AND_MORE, actor=ACTOR
        )
    assert books.session.get_one(Hold, made).reason == ARABIC_AND_MORE


ENDINGS: dict[str, tuple[Callable[[Books], Any], type[BaseException], str]] = {
    "release of no hold": (lambda b: holds.release_hold(b.session, uuid4(), actor=ACTOR), errors.UnknownHold, "reservation"),
    "expiry of no hold": (lambda b: holds.expire_hold(b.session, uuid4(), actor=ACTOR), errors.UnknownHold, "reservation"),
    "expiry of a hold without an end": (
        lambda b: holds.expire_hold(b.session, b.hold, actor=ACTOR), errors.HoldNotDue, "not come to its end",
    ),
    "release of None": (lambda b: holds.release_hold(b.session, None, actor=ACTOR), errors.UnknownHold, "reservation"),
    "release of a text": (lambda b: holds.release_hold(b.session, "abc", actor=ACTOR), AppError, ""),
    "capture of no hold": (
        lambda b: holds.capture_hold(
            b.session, uuid4(), key=key(), kind="t", effective_at=NOON, actor=ACTOR, legs=b.one()["legs"]
        ),
        errors.UnknownHold, "reservation",
    ),
    "capture beyond the hold": (
        lambda b: holds.capture_hold(
            b.session, b.hold, key=key(), kind="t", effective_at=NOON, actor=ACTOR, legs=b.pair(usd("40.01"))["legs"]
        ),
        errors.CaptureMismatch, "up to its amount",
    ),
    "capture that takes from another": (
        lambda b: holds.capture_hold(
            b.session, b.hold, key=key(), kind="t", effective_at=NOON, actor=ACTOR,
            legs=[debit(b.taker, usd("1")), credit(b.clearing, usd("1"))],
        ),
        errors.CaptureMismatch, "up to its amount",
    ),
    "capture that gives": (
        lambda b: holds.capture_hold(
            b.session, b.hold, key=key(), kind="t", effective_at=NOON, actor=ACTOR,
            legs=[debit(b.taker, usd("1")), credit(b.giver, usd("1"))],
        ),
        errors.CaptureMismatch, "up to its amount",
    ),
    "reversal of no transaction": (
        lambda b: posting.reverse(b.session, uuid4(), key=key(), actor=ACTOR, at=NOON, reason=""),
        errors.UnknownTransaction, "no such transaction",
    ),
    "reversal with a NUL in its reason": (
        lambda b: posting.reverse(b.session, b.posted, key=key(), actor=ACTOR, at=NOON, reason="a\x00b"),
        errors.UnusableText, "cannot be kept",
    ),
    "reversal into a closed period": (
        lambda b: posting.reverse(
            b.session, b.posted, key=key(), actor=ACTOR, at=CLOSED - timedelta(days=1), reason=""
        ),
        errors.PeriodClosed, "books are closed",
    ),
    "reversal under a used key": (
        lambda b: posting.reverse(b.session, b.posted, key=b.used, actor=ACTOR, at=NOON, reason=""),
        errors.IdempotencyConflict, "other content",
    ),
    "close of a period to come": (
        lambda b: close.close_period(b.session, now() + timedelta(hours=1), actor=ACTOR), errors.PeriodNotOver, "is over",
    ),
    "close of an account with money": (
        lambda b: close.close_account(b.session, b.giver), errors.AccountNotEmpty, "without balance",
    ),
    "close of no account": (lambda b: close.close_account(b.session, "nobody"), errors.UnknownAccount, "no such account"),
    "close of an account with NUL": (lambda b: close.close_account(b.session, "\x00"), errors.UnusableText, "cannot be kept"),
    "close at a naive moment": (
        lambda b: close.close_period(b.session, datetime(2020, 1, 1), actor=ACTOR), ValueError, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
def test_an_end_is_refused(books, case):
    work, error, words = ENDINGS[case]
    with refused(books, error, words), unit_of_work(books.session, ACTOR):
        work(books)
