"""Posting: move money between accounts, once, whole or not at all.

A posting has a *key*, the business name of the movement (`deposit:stripe:pi_1`). The same posting under the same key is
answered with the transaction of the first time and moves nothing; another one under that key is refused. What makes two
postings the same is their kind, legs and reversed transaction; moment, actor and metadata may differ.

Callers hold a unit of work: the posting commits together with what it belongs to. Keep that unit short, because the rows
of all accounts touched stay locked until it ends, and never wait for the outside world in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import Money
from app.ledger.chart import AccountSpec
from app.ledger.errors import (
    AccountTwice,
    InvalidPosting,
    TooManyLegs,
    UnbalancedTransaction,
    UnknownTransaction,
    UnusableText,
    typed_errors,
)
from app.models.ledger import Account, Entry, Transaction

MAX_LEGS = 200

#: The legs as the database functions take them, see `leg_arrays`.
LEGS = "CAST(:accounts AS text[]), CAST(:currencies AS text[]), CAST(:debits AS bigint[]), CAST(:credits AS bigint[])"

_POST = text(
    f"SELECT ledger.post(:key, :kind, :effective_at, :actor, {LEGS}, CAST(:metadata AS jsonb), CAST(:reverses AS uuid))"
)
#: Many rows: each column travels as one text with a value per line, which costs a third of an array made value by value.
_COLUMNS = {
    "keys": "text", "kinds": "text", "effective_at": "timestamptz", "actors": "text", "metadata": "jsonb", "reverses": "uuid",
    "postings": "integer", "accounts": "text", "currencies": "text", "debits": "bigint", "credits": "bigint",
}  # fmt: skip
_POST_MANY = text(
    "SELECT ledger.post_many({})".format(
        ", ".join(f"CAST(string_to_array(:{name}, chr(10), '') AS {kind}[])" for name, kind in _COLUMNS.items())
    )
)


@dataclass(frozen=True)
class Leg:
    """One side of a movement: a positive amount debited or credited to the account with this code."""

    account: str
    money: Money
    side: Literal["debit", "credit"]


def debit(account: AccountSpec | str, money: Money) -> Leg:
    """A leg that raises an asset or expense, and lowers a liability, income or equity account."""
    return Leg(str(account), money, "debit")


def credit(account: AccountSpec | str, money: Money) -> Leg:
    """A leg that lowers an asset or expense, and raises a liability, income or equity account."""
    return Leg(str(account), money, "credit")


@dataclass(frozen=True)
class Posting:
    """One transaction to be posted by `post_many`; the fields are those of `post`."""

    key: str
    kind: str
    effective_at: datetime
    actor: Actor
    legs: Sequence[Leg]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reverses: UUID | None = None


def post(
    session: Session,
    *,
    key: str,
    kind: str,
    effective_at: datetime,
    actor: Actor,
    legs: Sequence[Leg],
    metadata: Mapping[str, Any] | None = None,
    reverses: UUID | None = None,
) -> UUID:
    """Post one transaction and return its id; the id of the first time when the same was posted before.

    `legs`: 2 to 200, one per account, debits equal to credits in each currency. `effective_at`: an aware moment between 1970
    and tomorrow, which decides in which statement and period it counts. `metadata`: JSON values only, amounts and rates as
    text or minor units. Raises a LedgerError for whatever is wrong; then nothing is posted and the unit of work must be left.
    """
    _check(key, kind, effective_at)
    parameters = {
        "key": key,
        "kind": kind,
        "effective_at": effective_at,
        "actor": str(actor),
        **leg_arrays(legs),
        "metadata": json.dumps(dict(metadata or {})),
        "reverses": reverses,
    }
    with typed_errors():
        return session.execute(_POST, parameters).scalar_one()  # type: ignore[no-any-return]  # a text() result


def post_many(session: Session, postings: Sequence[Posting]) -> list[UUID]:
    """Post several transactions at once, all or none, and return their ids in the order given.

    Much faster than one by one from about ten on. Funds are judged on what all of them do together. Raises as `post`.
    """
    if not postings:
        return []
    legs: dict[str, list[Any]] = {"postings": [], "accounts": [], "currencies": [], "debits": [], "credits": []}
    for number, posting in enumerate(postings, start=1):
        _check(posting.key, posting.kind, posting.effective_at)
        for name, values in leg_arrays(posting.legs).items():
            legs[name] += values
        legs["postings"] += [number] * len(posting.legs)
    parameters: dict[str, list[Any]] = {
        "keys": [posting.key for posting in postings],
        "kinds": [posting.kind for posting in postings],
        "effective_at": [posting.effective_at.isoformat() for posting in postings],
        "actors": [str(posting.actor) for posting in postings],
        "metadata": [json.dumps(dict(posting.metadata)) for posting in postings],
        "reverses": [posting.reverses or "" for posting in postings],
        **legs,
    }
    with typed_errors():
        return list(session.execute(_POST_MANY, {name: _lines(parameters[name]) for name in _COLUMNS}).scalar_one())


def reverse(session: Session, txn_id: UUID, *, key: str, actor: Actor, at: datetime, reason: str) -> UUID:
    """Post the mirror image of a transaction, effective `at`, and return the reversal's id. Works once per transaction.

    Raises UnknownTransaction, AlreadyReversed, and InsufficientFunds when the money is no longer there.
    """
    kind = session.scalar(select(Transaction.kind).where(Transaction.id == txn_id))
    if kind is None:
        raise UnknownTransaction()
    rows = session.execute(
        select(Account.code, Entry.currency, Entry.debit, Entry.credit)
        .join(Account, Account.id == Entry.account_id)
        .where(Entry.txn_id == txn_id)
    ).all()
    legs = [
        credit(row.code, Money(row.debit, row.currency)) if row.debit else debit(row.code, Money(row.credit, row.currency))
        for row in rows
    ]
    return post(
        session,
        key=key,
        kind="reversal",
        effective_at=at,
        actor=actor,
        legs=legs,
        metadata={"of": kind, "reason": reason},
        reverses=txn_id,
    )


def leg_arrays(legs: Sequence[Leg]) -> dict[str, list[Any]]:
    """The legs as the database functions take them, one array per column, ascending by account.

    Checked: number, amounts, one per account, balance per currency. The database checks all of this again; it is refused
    here because here the caller's own line stands in the trace.
    """
    if len(legs) > MAX_LEGS:
        raise TooManyLegs()
    balance: Counter[str] = Counter()
    for leg in legs:
        if leg.side not in ("debit", "credit"):
            raise ValueError(f"a leg is a debit or a credit, not {leg.side!r}")
        if leg.money.amount_minor <= 0:
            raise InvalidPosting()
        balance[leg.money.currency] += leg.money.amount_minor if leg.side == "debit" else -leg.money.amount_minor
    if len({leg.account for leg in legs}) < len(legs):
        raise AccountTwice()
    if len(legs) < 2 or any(balance.values()):
        raise UnbalancedTransaction()
    legs = sorted(legs, key=lambda leg: leg.account)
    return {
        "accounts": [leg.account for leg in legs],
        "currencies": [leg.money.currency for leg in legs],
        "debits": [leg.money.amount_minor if leg.side == "debit" else 0 for leg in legs],
        "credits": [leg.money.amount_minor if leg.side == "credit" else 0 for leg in legs],
    }


def check_name(value: str, *, longest: int) -> str:
    """The key or kind, if it is printable and of a length the database keeps. Raises UnusableText otherwise."""
    if not 1 <= len(value) <= longest or not value.isprintable():
        raise UnusableText()
    return value


def check_moment(moment: datetime) -> datetime:
    """The moment, if it is aware. A naive one is a bug of the caller: ValueError."""
    if moment.tzinfo is None:
        raise ValueError("the ledger takes aware moments only")
    return moment


def _lines(values: Sequence[object]) -> str:
    """The values of a column, one per line. Raises UnusableText for one that has lines of its own."""
    joined = "\n".join(map(str, values))
    if joined.count("\n") >= len(values):
        raise UnusableText()
    return joined


def _check(key: str, kind: str, effective_at: datetime) -> None:
    check_name(key, longest=200)
    check_name(kind, longest=60)
    check_moment(effective_at)
