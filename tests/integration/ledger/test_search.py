"""Searching the ledger: pages of an account by effective date, ranges of dates of posting, legs and holds."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from app.core.clock import now
from app.ledger import chart, holds, posting, queries, search
from app.models.ledger import Account
from tests.integration.ledger.conftest import NOON


@pytest.fixture
def account(book):
    """A bank account with forty movements, posted in no order of time, several at the same moment."""
    bank, equity = book.open(chart.bank_own_money("first", "EUR"), chart.migration_opening("EUR"))
    draw = random.Random(7)
    for _ in range(40):
        money, at = (
            book.money(f"{draw.randrange(1, 900)}.{draw.randrange(100):02}", "EUR"),
            NOON + timedelta(hours=draw.randrange(12)),
        )
        legs = [posting.debit(bank, money), posting.credit(equity, money)]
        book.post(*(legs if draw.random() < 0.5 else [posting.debit(equity, money), posting.credit(bank, money)]), at=at)
    return book.session.scalars(select(Account).where(Account.code == bank.code)).one()


@pytest.mark.parametrize("kind", ["asset", "equity"])
@pytest.mark.parametrize(("start", "end"), [(None, None), (3, None), (None, 8), (3, 8), (11, 12), (20, 30), (5, 5)])
def test_pages_by_effective_date_are_the_statement_backwards(book, account, kind, start, end):
    if kind == "equity":
        account = book.session.scalars(select(Account).where(Account.code == "migration:opening:EUR")).one()
    begin, stop = (None if hours is None else NOON + timedelta(hours=hours) for hours in (start, end))
    lines: list[queries.Line] = []
    before = None
    while page := search.effective_lines(book.session, account, start=begin, end=stop, before=before, limit=7):
        lines += page
        before = page[-1].version
    whole = queries.statement(book.session, account.code, begin or NOON - timedelta(days=1), stop or NOON + timedelta(days=400))
    assert lines == list(reversed(whole.lines))


@pytest.mark.parametrize(("start", "end"), [(None, None), (3, 8), (20, 30)])
def test_movements_begin_with_the_opening_balance(book, account, start, end):
    begin, stop = (None if hours is None else NOON + timedelta(hours=hours) for hours in (start, end))
    rows = book.session.execute(search.movements(account, begin, stop)).all()
    opening = queries.balance_as_of(book.session, account.code, begin).amount_minor if begin else 0
    assert {row.opening for row in rows} == {opening}
    changes = [row.debit - row.credit for row in rows if row.version is not None]
    closing = queries.balance_as_of(book.session, account.code, stop).amount_minor if stop else account.balance
    assert opening + sum(changes) == closing
    assert len(changes) == (40 if start is None else 0 if start == 20 else len(changes))


def test_dates_of_posting_are_ranges_of_the_key(book, account):
    at = now()
    for start, end, found in [(-1, 1, True), (None, -1, False), (1, None, False), (-1, None, True), (None, 1, True)]:
        begin, stop = (None if days is None else at + timedelta(days=days) for days in (start, end))
        query = search.transactions(search.TransactionSearch(posted_from=begin, posted_before=stop, kind="test"))
        assert bool(book.session.scalars(query).all()) is found
        rows = book.session.execute(
            search.entries(search.EntrySearch(posted_from=begin, posted_before=stop, code="bank:first"))
        ).all()
        assert (len(rows) == 40) is found
    compiled = str(search.transactions(search.TransactionSearch(posted_from=at)))
    assert "txn.id >=" in compiled
    assert "posted_at >=" in compiled


def test_open_holds_only(book):
    wallet = book.wallet(5, "100.00")
    one, two = (
        holds.place_hold(book.session, account=wallet, money=book.money("10.00"), key=book.key(), reason="w", actor=book.actor)
        for _ in range(2)
    )
    holds.release_hold(book.session, one, actor=book.actor)
    key = book.session.scalars(select(Account.id).where(Account.code == wallet.code)).one()
    assert [hold.id for hold in search.open_holds(book.session, key)] == [two]


def test_a_bounded_search_leaves_the_session_usable(book):
    with pytest.raises(search.SearchTooWide), search.bounded(book.session, seconds=1):
        book.session.execute(text("SELECT pg_sleep(20)"))
    assert book.session.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    with search.bounded(book.session):
        assert book.session.execute(text("SELECT 1")).scalar_one() == 1
    assert book.session.execute(text("SHOW statement_timeout")).scalar_one() == "0"
