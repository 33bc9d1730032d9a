"""Reading the ledger: balances, entries, statements. Nothing here takes a lock or changes a row.

Amounts come with the sign that is natural for the account's kind: positive on a client's wallet is what we owe the client,
positive on a provider's clearing account is what the provider owes us. A moment splits time in two: what is effective
before it, and what is effective from it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, select, true, tuple_
from sqlalchemy.orm import Session

from app.core.money import Money
from app.ledger.chart import AccountSpec
from app.ledger.errors import UnknownAccount
from app.models.ledger import DEBIT_KINDS, Account, Entry, Transaction


@dataclass(frozen=True)
class Balance:
    """`posted` is what the entries say, `held` the part of it that is set aside."""

    posted: Money
    held: Money

    @property
    def available(self) -> Money:
        return self.posted - self.held


@dataclass(frozen=True)
class AccountBalance:
    """One account with its balance, for lists."""

    code: str
    kind: str
    balance: Balance
    is_closed: bool


@dataclass(frozen=True)
class Line:
    """One entry of one account: by how much it changed the balance, and the balance after it."""

    txn_id: UUID
    kind: str
    effective_at: datetime
    posted_at: datetime
    version: int
    change: Money
    balance: Money
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Statement:
    """The account's life from one moment to another; `closing` equals `opening` plus the changes of all lines."""

    account: str
    opening: Money
    lines: tuple[Line, ...]
    closing: Money


def find_balance(session: Session, account: AccountSpec | str) -> Balance | None:
    """What stands on an account now; None when it was never opened."""
    row = session.execute(
        select(Account.currency, Account.balance, Account.held).where(Account.code == str(account))
    ).one_or_none()
    return None if row is None else Balance(Money(row.balance, row.currency), Money(row.held, row.currency))


def balance(session: Session, account: AccountSpec | str) -> Balance:
    """What stands on an account now. Raises UnknownAccount."""
    found = find_balance(session, account)
    if found is None:
        raise UnknownAccount()
    return found


def client_balances(session: Session, client_id: int) -> list[AccountBalance]:
    """All accounts that hold one client's money, by code."""
    rows = session.execute(
        select(Account.code, Account.kind, Account.currency, Account.balance, Account.held, Account.closed_at)
        .where(Account.client_id == client_id)
        .order_by(Account.code)
    )
    return [
        AccountBalance(
            row.code,
            row.kind,
            Balance(Money(row.balance, row.currency), Money(row.held, row.currency)),
            row.closed_at is not None,
        )
        for row in rows
    ]


def balance_as_of(session: Session, account: AccountSpec | str, moment: datetime) -> Money:
    """The posted balance at a moment: the sum of all entries effective before it. Raises UnknownAccount.

    Costs the same for a short and a long history (sql/60_reading.sql).
    """
    found = _account(session, account)
    return Money(session.execute(select(_opening(found, moment))).scalar_one(), found.currency)


def entries(session: Session, account: AccountSpec | str, *, before: int | None = None, limit: int = 50) -> list[Line]:
    """A page of an account's entries in the order they were posted, newest first; `balance` is what stood then.

    For the next page pass the `version` of the last line as `before`. Raises UnknownAccount.
    """
    found = _account(session, account)
    query = (
        select(
            *_LINE,
            _natural(found, Entry.debit, Entry.credit).label("change"),
            _natural(found, Entry.debits_after, Entry.credits_after).label("balance"),
        )
        .join(Transaction, Transaction.id == Entry.txn_id)
        .where(Entry.account_id == found.id)
        .order_by(Entry.account_version.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(Entry.account_version < before)
    return [_line(row, found.currency) for row in session.execute(query)]


def statement(session: Session, account: AccountSpec | str, from_: datetime, to: datetime) -> Statement:
    """All entries effective from `from_` on and before `to`, in that order, with the balance running along.

    One query, so that a posting that commits meanwhile is either in the opening balance and the lines, or in neither.
    Raises UnknownAccount.
    """
    found = _account(session, account)
    change = _natural(found, Entry.debit, Entry.credit)
    lines = (
        select(
            *_LINE,
            change.label("change"),
            func.sum(change).over(order_by=[Entry.effective_at, Entry.account_version]).label("sum_so_far"),
        )
        .join(Transaction, Transaction.id == Entry.txn_id)
        .where(Entry.account_id == found.id, Entry.effective_at >= from_, Entry.effective_at < to)
        .subquery("lines")
    )
    opening = select(_opening(found, from_).label("opening")).subquery("opening")
    rows = session.execute(
        select(opening.c.opening, (opening.c.opening + lines.c.sum_so_far).label("balance"), *(c for c in lines.c))
        .select_from(opening)
        .outerjoin(lines, true())
        .order_by(lines.c.effective_at, lines.c.version)
    ).all()
    made = tuple(_line(row, found.currency) for row in rows if row.txn_id is not None)
    start = Money(int(rows[0].opening), found.currency)
    return Statement(str(account), start, made, made[-1].balance if made else start)


@dataclass(frozen=True)
class Place:
    """Where a line stands on an account in the order of effective moments."""

    effective_at: datetime
    version: int


@dataclass(frozen=True)
class StatementPage:
    """Some lines of a statement. `opening` is the balance before the first one; `next` where to go on, None at the end."""

    opening: Money
    lines: tuple[Line, ...]
    next: Place | None


def statement_page(
    session: Session,
    account: AccountSpec | str,
    from_: datetime,
    to: datetime,
    *,
    after: Place | None = None,
    limit: int = 50,
) -> StatementPage:
    """A page of the statement from `from_` on and before `to`: the lines behind `after`, oldest first, balances running along.

    Costs the same on every page and for every length of history. Raises UnknownAccount.
    """
    found = _account(session, account)
    change = _natural(found, Entry.debit, Entry.credit)
    place = tuple_(Entry.effective_at, Entry.account_version)
    begin = (from_, 0) if after is None else (after.effective_at, after.version)
    opening = select(
        _opening(found, begin[0])
        + select(func.coalesce(func.sum(change), 0))
        .where(Entry.account_id == found.id, Entry.effective_at == begin[0], Entry.account_version <= begin[1])
        .scalar_subquery()
    )
    rows = session.execute(
        select(*_LINE, change.label("change"), opening.scalar_subquery().label("opening"))
        .join(Transaction, Transaction.id == Entry.txn_id)
        .where(Entry.account_id == found.id, place > begin, Entry.effective_at >= from_, Entry.effective_at < to)
        .order_by(Entry.effective_at, Entry.account_version)
        .limit(limit + 1)
    ).all()
    start = Money(int(rows[0].opening if rows else session.execute(opening).scalar_one()), found.currency)
    lines, balance_now = [], start
    for row in rows[:limit]:
        balance_now += Money(int(row.change), found.currency)
        lines.append(_line(row, found.currency, balance_now))
    more = len(rows) > limit
    return StatementPage(start, tuple(lines), Place(lines[-1].effective_at, lines[-1].version) if more else None)


_LINE = (
    Entry.txn_id,
    Transaction.kind,
    Entry.effective_at,
    Transaction.posted_at,
    Entry.account_version.label("version"),
    Transaction.details.label("metadata"),
)


def _account(session: Session, account: AccountSpec | str) -> Row[int, str, str]:
    row = session.execute(select(Account.id, Account.kind, Account.currency).where(Account.code == str(account))).one_or_none()
    if row is None:
        raise UnknownAccount()
    return row


def _natural(account: Row[int, str, str], debit: Any, credit: Any) -> ColumnElement[int]:
    """The change of the balance that debits and credits make on an account of this kind."""
    difference: ColumnElement[int] = debit - credit if account.kind in DEBIT_KINDS else credit - debit
    return difference


def _opening(account: Row[int, str, str], moment: datetime) -> ColumnElement[int]:
    before = func.ledger.counters_before(account.id, moment).table_valued("debits", "credits")
    return select(_natural(account, before.c.debits, before.c.credits)).scalar_subquery()


def _line(row: Any, currency: str, balance: Money | None = None) -> Line:
    return Line(
        txn_id=row.txn_id,
        kind=row.kind,
        effective_at=row.effective_at,
        posted_at=row.posted_at,
        version=row.version,
        change=Money(int(row.change), currency),
        balance=balance if balance is not None else Money(int(row.balance), currency),
        metadata=row.metadata,
    )
