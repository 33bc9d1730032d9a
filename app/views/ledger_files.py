"""The ledger's tables as CSV files: accounts, transactions, entries, and one account's entries of a range of days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Response
from flask_babel import gettext
from sqlalchemy import Select

from app.core.money import Money
from app.extensions import db
from app.ledger import search
from app.models.ledger import Account
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.facts import transaction_kind
from app.views.columns import person

#: Rows that are read at once; so many objects at most are in memory.
CHUNK = 1000


def accounts(query: Select[*tuple[Any, ...]]) -> Response:
    head = [
        gettext("Account"),
        gettext("Kind"),
        gettext("Currency"),
        gettext("Balance"),
        gettext("Held"),
        gettext("Entries"),
        gettext("Client"),
        gettext("Opened"),
        gettext("Closed"),
    ]
    return csv_file("ledger-accounts", head, map(_account, _rows(query)))


def _account(row: Any) -> list[Cell]:
    one: Account = row.Account
    start: list[Cell] = [one.code, one.kind, one.currency, one.posted, one.set_aside, one.version]
    return [*start, one.client_id, one.opened_at, one.closed_at]


def transactions(query: Select[*tuple[Any, ...]]) -> Response:
    """One row for each currency of each transaction."""
    head = [
        gettext("Transaction"),
        gettext("Kind"),
        gettext("Key"),
        gettext("Effective"),
        gettext("Posted"),
        gettext("Who"),
        gettext("Reverses"),
        gettext("Currency"),
        gettext("Amount"),
    ]
    return csv_file("ledger-transactions", head, _transactions(query))


def _transactions(query: Select[*tuple[Any, ...]]) -> Iterator[list[Cell]]:
    for rows in db.session.execute(query.execution_options(yield_per=CHUNK)).partitions():
        txns = [row.Transaction for row in rows]
        moved = search.volumes(db.session(), [txn.id for txn in txns])
        for txn in txns:
            start: list[Cell] = [str(txn.id), transaction_kind(txn.kind), txn.idempotency_key, txn.effective_at, txn.posted_at]
            start += [person(txn.actor), str(txn.reverses or "")]
            for money in moved[txn.id]:
                yield [*start, money.currency, money]


def entries(query: Select[*tuple[Any, ...]]) -> Response:
    head = [
        gettext("Account"),
        gettext("Entry"),
        gettext("Transaction"),
        gettext("Kind"),
        gettext("Effective"),
        gettext("Posted"),
        gettext("Debit"),
        gettext("Credit"),
        gettext("Balance after"),
        gettext("Currency"),
    ]
    return csv_file("ledger-entries", head, map(_entry, _rows(query)))


def _entry(row: Any) -> list[Cell]:
    entry, txn, account = row.Entry, row.Transaction, row.Account
    start: list[Cell] = [account.code, entry.account_version, str(txn.id), transaction_kind(txn.kind)]
    start += [entry.effective_at, txn.posted_at, entry.debited, entry.credited]
    return [*start, search.balance_after(entry, account.kind), entry.currency]


def account_entries(account: Account, start: datetime | None, end: datetime | None) -> Response:
    """What is effective from `start` on and before `end`, in that order, between opening and closing balance."""
    head = [
        gettext("Effective"),
        gettext("Posted"),
        gettext("Kind"),
        gettext("Transaction"),
        gettext("Key"),
        gettext("Entry"),
        gettext("Debit"),
        gettext("Credit"),
        gettext("Balance"),
        gettext("Currency"),
    ]
    return csv_file(f"entries-{account.code.replace(':', '-')}", head, _account_entries(account, start, end))


def _account_entries(account: Account, start: datetime | None, end: datetime | None) -> Iterator[list[Cell]]:
    def total(words: str, at: datetime | None, balance: Money) -> list[Cell]:
        return [at, None, words, None, None, None, None, None, balance, account.currency]

    balance = None
    for row in _rows(search.movements(account, start, end)):
        if balance is None:
            balance = Money(int(row.opening), account.currency)
            yield total(gettext("Opening balance"), start, balance)
        if row.version is not None:
            debit, credit = (Money(amount, account.currency) if amount else None for amount in (row.debit, row.credit))
            balance += Money((row.debit - row.credit) * search.sign(account.kind), account.currency)
            first: list[Cell] = [row.effective_at, row.posted_at, transaction_kind(row.kind), str(row.txn_id)]
            yield [*first, row.idempotency_key, row.version, debit, credit, balance, account.currency]
    assert balance is not None  # the query has one row at least
    yield total(gettext("Closing balance"), end, balance)


def _rows(query: Select[*tuple[Any, ...]]) -> Iterator[Any]:
    """The rows of a query as one statement reads them, some at a time; what has been written is forgotten."""
    for rows in db.session.execute(query.execution_options(yield_per=CHUNK)).partitions():
        yield from rows
