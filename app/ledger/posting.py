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
from app.ledger.errors import InvalidPosting, TooManyLegs, UnbalancedTransaction, UnknownTransaction, typed_errors
from app.models.ledger import Account, Entry, Transaction

MAX_LEGS = 200

_POST = text(
    "SELECT ledger.post(:key, :kind, :effective_at, :actor, CAST(:legs AS jsonb), CAST(:metadata AS jsonb),"
    " CAST(:reverses AS uuid))"
)
_POST_MANY = text("SELECT ledger.post_many(CAST(:postings AS jsonb))")


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

    `legs`: 2 to 200, one per account, debits equal to credits in each currency. `effective_at`: an aware moment, which
    decides in which statement and period it counts. `metadata`: JSON values only, amounts and rates as text or minor units.
    Raises a LedgerError for whatever is wrong; then nothing is posted and the unit of work must be left.
    """
    document = _document(Posting(key, kind, effective_at, actor, legs, metadata or {}, reverses))
    document["legs"] = json.dumps(document["legs"])
    document["metadata"] = json.dumps(document["metadata"])
    with typed_errors():
        return session.execute(_POST, document).scalar_one()  # type: ignore[no-any-return]  # a text() result


def post_many(session: Session, postings: Sequence[Posting]) -> list[UUID]:
    """Post several transactions at once, all or none, and return their ids in the order given.

    Much faster than one by one from about ten on. Funds are judged on what all of them do together. Raises as `post`.
    """
    if not postings:
        return []
    documents = json.dumps([_document(posting) for posting in postings])
    with typed_errors():
        return list(session.execute(_POST_MANY, {"postings": documents}).scalar_one())


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


def leg_documents(legs: Sequence[Leg]) -> list[dict[str, Any]]:
    """The legs as the database functions take them, checked: number, amounts, one per account, balance per currency.

    The database checks all of this again; it is refused here because here the caller's own line stands in the trace.
    """
    if len(legs) > MAX_LEGS:
        raise TooManyLegs()
    balance: Counter[str] = Counter()
    for leg in legs:
        if leg.money.amount_minor <= 0:
            raise InvalidPosting()
        balance[leg.money.currency] += leg.money.amount_minor if leg.side == "debit" else -leg.money.amount_minor
    if len({leg.account for leg in legs}) < len(legs):
        raise InvalidPosting()
    if len(legs) < 2 or any(balance.values()):
        raise UnbalancedTransaction()
    return [{"account": leg.account, "currency": leg.money.currency, leg.side: leg.money.amount_minor} for leg in legs]


def check_name(value: str, *, longest: int) -> str:
    """The key or kind, if it is printable and of a length the database keeps. Raises InvalidPosting otherwise."""
    if not 1 <= len(value) <= longest or not value.isprintable():
        raise InvalidPosting()
    return value


def check_moment(moment: datetime) -> datetime:
    """The moment, if it is aware. A naive one is a bug of the caller: ValueError."""
    if moment.tzinfo is None:
        raise ValueError("the ledger takes aware moments only")
    return moment


def _document(posting: Posting) -> dict[str, Any]:
    return {
        "key": check_name(posting.key, longest=200),
        "kind": check_name(posting.kind, longest=60),
        "effective_at": check_moment(posting.effective_at).isoformat(),
        "actor": str(posting.actor),
        "legs": leg_documents(posting.legs),
        "metadata": dict(posting.metadata),
        "reverses": str(posting.reverses) if posting.reverses else None,
    }
