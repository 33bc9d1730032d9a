"""Finding accounts, transactions and entries for the money desk: filters, and pages by key so that depth costs nothing.

Transactions and entries are ordered by transaction id, whose first 48 bits are the millisecond of posting (UUID version 7):
a range of dates of posting is a range of the key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, literal, select, text, true, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.errors import N_
from app.core.money import Money
from app.ledger.errors import LedgerError
from app.ledger.queries import Line
from app.models.ledger import DEBIT_KINDS, Account, Entry, Hold, HoldResolution, Transaction

#: How long a search may take before the reader is asked to narrow it.
LONGEST_SEARCH_S = 8
#: A transaction's id is made a little after the moment that it says it was posted at: the start of its database transaction.
_SLACK = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SearchTooWide(LedgerError):
    code = "ledger.search_too_wide"
    http_status = 422
    message = N_("This search takes too long. Please narrow it, by dates of posting for instance.")


@contextmanager
def bounded(session: Session, seconds: int | None = None) -> Iterator[None]:
    """Searches inside end after some seconds with SearchTooWide; the session is usable afterwards."""
    session.execute(text(f"SET LOCAL statement_timeout = '{seconds or LONGEST_SEARCH_S}s'"))
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") != "57014":
            raise
        session.rollback()
        raise SearchTooWide() from None
    session.execute(text("SET LOCAL statement_timeout = DEFAULT"))


@dataclass(frozen=True)
class AccountSearch:
    """What accounts are looked for; empty fields do not matter. `code` is a part of the code."""

    code: str = ""
    kind: str = ""
    currency: str = ""
    client_id: int | None = None
    closed: bool | None = None


@dataclass(frozen=True)
class TransactionSearch:
    """What transactions are looked for. `key` is a part of the key, `actors` are whole; empty fields do not matter.

    Amounts are those of a leg, in minor units of `currency`.
    """

    kind: str = ""
    key: str = ""
    actors: Sequence[str] = ()
    posted_from: datetime | None = None
    posted_before: datetime | None = None
    currency: str = ""
    least_minor: int | None = None
    most_minor: int | None = None


@dataclass(frozen=True)
class EntrySearch:
    """What entries are looked for. `code` is a part of the account's code."""

    code: str = ""
    kind: str = ""
    currency: str = ""
    posted_from: datetime | None = None
    posted_before: datetime | None = None


@dataclass(frozen=True)
class Leg:
    """One entry with its account, and the account's balance as it stood after it."""

    account_id: int
    code: str
    version: int
    debit: Money | None
    credit: Money | None
    balance: Money


def accounts(search: AccountSearch, *, after: str = "") -> Select[Account]:
    """Accounts by code, from the one after `after` on."""
    query = select(Account).order_by(Account.code)
    if search.code:
        query = query.where(Account.code.icontains(search.code, autoescape=True))
    if search.kind:
        query = query.where(Account.kind == search.kind)
    if search.currency:
        query = query.where(Account.currency == search.currency)
    if search.client_id is not None:
        query = query.where(Account.client_id == search.client_id)
    if search.closed is not None:
        query = query.where(Account.closed_at.is_not(None) if search.closed else Account.closed_at.is_(None))
    return query.where(Account.code > after) if after else query


def transactions(search: TransactionSearch, *, before: UUID | None = None) -> Select[Transaction]:
    """Transactions, newest first, from the one before `before` on."""
    query = select(Transaction).order_by(Transaction.id.desc())
    query = query.where(*_posted(Transaction.id, search.posted_from, search.posted_before))
    if search.kind:
        query = query.where(Transaction.kind == search.kind)
    if search.key:
        query = query.where(Transaction.idempotency_key.icontains(search.key, autoescape=True))
    if search.actors:
        query = query.where(Transaction.actor.in_(search.actors))
    legs = []
    if search.currency:
        legs.append(Entry.currency == search.currency)
    if search.least_minor is not None:
        legs.append(Entry.debit + Entry.credit >= search.least_minor)
    if search.most_minor is not None:
        legs.append(Entry.debit + Entry.credit <= search.most_minor)
    if legs:
        query = query.where(Transaction.entries.any(and_(*legs)))
    return query.where(Transaction.id < before) if before else query


def entries(search: EntrySearch, *, before: tuple[UUID, int] | None = None) -> Select[Entry, Transaction, Account]:
    """Entries with their transaction and account, newest transaction first, from the one before (transaction, account) on."""
    query = (
        select(Entry, Transaction, Account)
        .join(Transaction, Transaction.id == Entry.txn_id)
        .join(Account, Account.id == Entry.account_id)
        .order_by(Entry.txn_id.desc(), Entry.account_id.desc())
        .where(*_posted(Entry.txn_id, search.posted_from, search.posted_before))
    )
    if search.code:
        query = query.where(Account.code.icontains(search.code, autoescape=True))
    if search.kind:
        query = query.where(Transaction.kind == search.kind)
    if search.currency:
        query = query.where(Entry.currency == search.currency)
    if before is not None:
        query = query.where(tuple_(Entry.txn_id, Entry.account_id) < tuple_(*before))
    return query


def _within(account: Account, start: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    conditions = [Entry.account_id == account.id]
    conditions += [] if start is None else [Entry.effective_at >= start]
    return conditions + ([] if end is None else [Entry.effective_at < end])


def _before(account: Account, moment: datetime) -> ColumnElement[int]:
    """The balance by what is effective before a moment, as a part of a statement."""
    before = func.ledger.counters_before(account.id, moment).table_valued("debits", "credits")
    return select((before.c.debits - before.c.credits) * sign(account.kind)).scalar_subquery()


def volumes(session: Session, txn_ids: Sequence[UUID]) -> dict[UUID, list[Money]]:
    """What each transaction moved, per currency: the sum of its debits."""
    rows = session.execute(
        select(Entry.txn_id, Entry.currency, func.sum(Entry.debit).label("moved"))
        .where(Entry.txn_id.in_(txn_ids))
        .group_by(Entry.txn_id, Entry.currency)
        .order_by(Entry.currency)
    )
    moved: dict[UUID, list[Money]] = defaultdict(list)
    for row in rows:
        moved[row.txn_id].append(Money(int(row.moved), row.currency))
    return moved


def legs_of(session: Session, txn_id: UUID) -> list[Leg]:
    """The legs of a transaction: currency by currency, debits first, by code."""
    rows = session.execute(
        select(Entry, Account)
        .join(Account, Account.id == Entry.account_id)
        .where(Entry.txn_id == txn_id)
        .order_by(Entry.currency, Entry.credit > 0, Account.code)
    )
    return [
        Leg(account.id, account.code, entry.account_version, entry.debited, entry.credited, balance_after(entry, account.kind))
        for entry, account in rows
    ]


def balance_after(entry: Entry, kind: str) -> Money:
    """The account's balance after this entry, with the sign that is natural for the account's kind."""
    return Money((entry.debits_after - entry.credits_after) * sign(kind), entry.currency)


def sign(kind: str) -> int:
    """1 where debits raise the balance of an account of this kind, -1 where credits do."""
    return 1 if kind in DEBIT_KINDS else -1


def account(session: Session, key: int | str) -> Account | None:
    """The account with this number, or with this code."""
    return session.scalars(
        select(Account).where(Account.id == key if isinstance(key, int) else Account.code == key)
    ).one_or_none()


def effective_lines(
    session: Session, account: Account, *, start: datetime | None, end: datetime | None, before: int | None = None, limit: int
) -> list[Line]:
    """A page of an account's entries effective from `start` on and before `end`, the latest effective first.

    `balance` is what all entries up to this one, in that order, make. For the next page pass the last line's `version`.
    """
    query = select(Entry).where(*_within(account, start, end))
    if before is not None:
        last = select(Entry.effective_at, Entry.account_version)
        last = last.where(Entry.account_id == account.id, Entry.account_version == before)
        query = query.where(tuple_(Entry.effective_at, Entry.account_version) < last.scalar_subquery())
    page = query.order_by(Entry.effective_at.desc(), Entry.account_version.desc()).limit(limit).subquery("page")
    earlier = func.ledger.counters_before(account.id, page.c.effective_at).table_valued("debits", "credits").lateral("earlier")
    same_moment = select(func.sum(Entry.debit - Entry.credit)).where(
        Entry.account_id == account.id,
        Entry.effective_at == page.c.effective_at,
        Entry.account_version <= page.c.account_version,
    )
    rows = session.execute(
        select(page, Transaction, (earlier.c.debits - earlier.c.credits + same_moment.scalar_subquery()).label("difference"))
        .select_from(page)
        .join(earlier, true())
        .join(Transaction, Transaction.id == page.c.txn_id)
        .order_by(page.c.effective_at.desc(), page.c.account_version.desc())
    )
    return [
        Line(
            txn_id=row.txn_id,
            kind=row.Transaction.kind,
            effective_at=row.effective_at,
            posted_at=row.Transaction.posted_at,
            version=row.account_version,
            change=Money((row.debit - row.credit) * sign(account.kind), account.currency),
            balance=Money(int(row.difference) * sign(account.kind), account.currency),
            metadata=row.Transaction.details,
        )
        for row in rows
    ]


def movements(account: Account, start: datetime | None, end: datetime | None) -> Select[*tuple[Any, ...]]:
    """All entries of an account effective from `start` on and before `end`, in that order, each with the opening balance.

    One statement, so that opening balance and entries are of one moment. Without entries one row has the opening alone,
    and no version.
    """
    opening = literal(0) if start is None else _before(account, start)
    first = select(opening.label("opening")).subquery("first")
    return (
        select(
            first.c.opening,
            Entry.effective_at,
            Transaction.posted_at,
            Transaction.kind,
            Entry.txn_id,
            Transaction.idempotency_key,
            Entry.account_version.label("version"),
            Entry.debit,
            Entry.credit,
        )
        .select_from(first)
        .outerjoin(Entry, and_(*_within(account, start, end)))
        .outerjoin(Transaction, Transaction.id == Entry.txn_id)
        .order_by(Entry.effective_at, Entry.account_version)
    )


def reversal_of(session: Session, txn_id: UUID) -> Transaction | None:
    """The transaction that reverses this one, if any."""
    return session.scalars(select(Transaction).where(Transaction.reverses == txn_id)).one_or_none()


def open_holds(session: Session, account_id: int) -> Sequence[Hold]:
    """What is set aside on an account, oldest first."""
    return session.scalars(
        select(Hold)
        .where(Hold.account_id == account_id, ~select(HoldResolution).where(HoldResolution.hold_id == Hold.id).exists())
        .order_by(Hold.placed_at, Hold.id)
    ).all()


def _posted(
    txn_id: ColumnElement[UUID] | Any, posted_from: datetime | None, posted_before: datetime | None
) -> list[ColumnElement[bool]]:
    """Conditions on the moment of posting, and on the key, so that only that part of the table is read."""
    conditions = []
    if posted_from is not None:
        conditions += [Transaction.posted_at >= posted_from, txn_id >= _first_id(posted_from - _SLACK)]
    if posted_before is not None:
        conditions += [Transaction.posted_at < posted_before, txn_id < _first_id(posted_before + _SLACK)]
    return conditions


def _first_id(moment: datetime) -> UUID:
    """The lowest id of version 7 that this moment, or a later one, can have."""
    milliseconds = max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    return UUID(int=milliseconds << 80)
