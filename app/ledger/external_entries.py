"""Entries of ours that a line of a statement may be: those of its account that no line has yet.

What names a payment outside is not all in the ledger: the payment's row knows it, and the transaction's metadata says which
row that is (`deposit_id`, `withdrawal_id`). A reversal has the names of what it reverses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Date,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session, aliased

from app.core.money import Money
from app.ledger.external_matching import WINDOW, Candidate, Line, Proposal, proposals, references
from app.models.controls import ExternalLine, ExternalStatement
from app.models.ledger import Account, Entry, Transaction
from app.models.payments import Deposit, Withdrawal

#: How many entries a search shows.
FOUND_MOST = 50
_LONGEST_SEARCH = 200


@dataclass(frozen=True)
class OpenEntry(Candidate):
    """An entry without a line, with what a person needs to recognise it."""

    txn_id: UUID
    kind: str
    txn_key: str
    effective_at: datetime


def account_of(line: ExternalLine, statement: ExternalStatement) -> str:
    """The code of the account that a line is compared with."""
    return f"{statement.account_code}:{line.currency}"


def open_lines(session: Session, *where: ColumnElement[bool]) -> list[Line]:
    """Lines that are not matched, in the order of their ids."""
    rows = session.execute(
        select(
            ExternalLine.id, ExternalLine.booked_on, ExternalLine.reference, ExternalLine.amount_minor, ExternalLine.currency
        )
        .join(ExternalStatement, ExternalStatement.id == ExternalLine.statement_id)
        .where(ExternalLine.matched_at.is_(None), *where)
        .order_by(ExternalLine.id)
    )
    return [Line(row.id, row.booked_on, row.reference, Money(row.amount_minor, row.currency)) for row in rows]


def entries_for(session: Session, statement: ExternalStatement, lines: Sequence[Line]) -> list[OpenEntry]:
    """The open entries of the statement's account that have the amount of one of these lines and a day near one of them."""
    if not lines:
        return []
    first, last = min(line.booked_on for line in lines) - WINDOW, max(line.booked_on for line in lines) + WINDOW
    wanted = aliased(ExternalLine)
    day = cast(func.timezone("UTC", Entry.effective_at), Date)
    fits = exists().where(
        wanted.id == any_(_ids(line.id for line in lines)),
        wanted.currency == Entry.currency,
        wanted.amount_minor == Entry.debit - Entry.credit,
        day.between(wanted.booked_on - WINDOW.days, wanted.booked_on + WINDOW.days),
    )
    accounts = {f"{statement.account_code}:{line.amount.currency}" for line in lines}
    return _read(
        session,
        _OPEN.where(
            Account.code.in_(accounts), Entry.effective_at >= _midnight(first), Entry.effective_at < _midnight(last, 1), fits
        ),
    )


def proposals_for(session: Session, statement: ExternalStatement, lines: Sequence[Line]) -> dict[int, list[Proposal]]:
    """For each of these open lines of the statement, the entries that a person may confirm."""
    if not lines:
        return {}
    rivals = open_lines(
        session,
        ExternalStatement.account_code == statement.account_code,
        ExternalLine.amount_minor.in_({line.amount.amount_minor for line in lines}),
    )
    return proposals(lines, rivals, entries_for(session, statement, lines))


def search(session: Session, statement: ExternalStatement, line: ExternalLine, words: str = "") -> list[OpenEntry]:
    """Open entries of the line's account for a person to choose from, the nearest day first.

    With `words`: those whose key or metadata has them, whatever their amount. Without: those of the line's amount.
    """
    nearness = func.abs(cast(func.timezone("UTC", Entry.effective_at), Date) - line.booked_on)
    query = _OPEN.where(Account.code == account_of(line, statement))
    words = words.strip().replace("\0", "")[:_LONGEST_SEARCH]
    if words:
        query = query.where(
            or_(
                Transaction.idempotency_key.icontains(words, autoescape=True),
                cast(Transaction.details, Text).icontains(words, autoescape=True),
            )
        )
    else:
        query = query.where(Entry.debit - Entry.credit == line.amount_minor)
    return _read(session, query.order_by(nearness, Entry.account_version).limit(FOUND_MOST))


_original = aliased(Transaction)
_OPEN: Select[Any] = (
    select(
        Entry.account_id,
        Entry.account_version,
        (Entry.debit - Entry.credit).label("change"),
        Entry.currency,
        Entry.effective_at,
        Transaction.id,
        Transaction.kind,
        Transaction.idempotency_key,
        Transaction.details,
        _original.idempotency_key.label("original_key"),
        _original.details.label("original_details"),
    )
    .join(Account, Account.id == Entry.account_id)
    .join(Transaction, Transaction.id == Entry.txn_id)
    .outerjoin(_original, _original.id == Transaction.reverses)
    .where(~exists().where(ExternalLine.account_id == Entry.account_id, ExternalLine.account_version == Entry.account_version))
)


def _read(session: Session, query: Select[Any]) -> list[OpenEntry]:
    rows = session.execute(query).all()
    outside = _payment_references(session, [details for row in rows for details in (row.details, row.original_details or {})])
    found = []
    for row in rows:
        names = references(row.idempotency_key, row.details, outside.of(row.details))
        if row.original_key is not None:
            names |= references(row.original_key, row.original_details, outside.of(row.original_details))
        found.append(
            OpenEntry(
                account_id=row.account_id,
                version=row.account_version,
                amount=Money(row.change, row.currency),
                booked_on=row.effective_at.astimezone(UTC).date(),
                references=names,
                txn_id=row.id,
                kind=row.kind,
                txn_key=row.idempotency_key,
                effective_at=row.effective_at,
            )
        )
    return found


@dataclass(frozen=True)
class _Payments:
    """What providers call deposits and withdrawals, by our ids."""

    deposits: Mapping[int, tuple[str | None, ...]]
    withdrawals: Mapping[int, tuple[str | None, ...]]

    def of(self, details: Mapping[str, Any]) -> tuple[str | None, ...]:
        return (
            *self.deposits.get(_id(details, "deposit_id"), ()),
            *self.withdrawals.get(_id(details, "withdrawal_id"), ()),
        )


def _payment_references(session: Session, every: Iterable[Mapping[str, Any]]) -> _Payments:
    details = list(every)
    deposits = {_id(one, "deposit_id") for one in details} - {0}
    withdrawals = {_id(one, "withdrawal_id") for one in details} - {0}
    of_deposits = select(Deposit.id, Deposit.public_id, Deposit.provider_reference, Deposit.payment_reference)
    # A refund is often named by the payment that it pays back.
    of_withdrawals = select(Withdrawal.id, Withdrawal.public_id, Withdrawal.provider_reference, Deposit.payment_reference).join(
        Deposit, Deposit.id == Withdrawal.deposit_id
    )
    return _Payments(
        _by_id(session, of_deposits.where(Deposit.id == any_(_ids(deposits)))) if deposits else {},
        _by_id(session, of_withdrawals.where(Withdrawal.id == any_(_ids(withdrawals)))) if withdrawals else {},
    )


def _by_id(session: Session, query: Select[Any]) -> dict[int, tuple[str | None, ...]]:
    return {row.id: (str(row.public_id), row.provider_reference, row.payment_reference) for row in session.execute(query)}


def _id(details: Mapping[str, Any], name: str) -> int:
    """The id that metadata has under this name; 0 where there is none."""
    value = details.get(name)
    return value if isinstance(value, int) and 0 < value < 2**63 else 0


def _ids(values: Iterable[int]) -> BindParameter[Any]:
    """Any number of ids as one value of a statement."""
    return bindparam(None, sorted(values), ARRAY(BigInteger))


def _midnight(day: date, later: int = 0) -> datetime:
    return datetime.combine(day + timedelta(days=later), time(), UTC)
