"""Balances, entries, statements: what the reader sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.ledger import chart, close, errors, holds, posting, queries
from app.ledger.posting import credit, debit


def _day(day, hour=12):
    return datetime(2026, 3, day, hour, tzinfo=UTC)


@pytest.fixture
def year(book):
    """A wallet with movements on the 2nd, 5th, 9th and, entered last, the 3rd."""
    wallet, other = book.wallet(1), book.wallet(2, "500")
    clearing = chart.psp_clearing("stripe", "USD")
    for day, amount in ((2, "100"), (5, "50")):
        money = book.money(amount)
        book.post(debit(clearing, money), credit(wallet, money), kind="deposit", at=_day(day), metadata={"day": day})
    book.pay(wallet, other, "30", kind="transfer", at=_day(9))
    book.pay(other, wallet, "7", kind="correction", at=_day(3))
    return wallet


def test_a_balance(book, year):
    found = queries.balance(book.session, year)
    assert (found.posted, found.held, found.available) == (book.money("127"), book.money("0"), book.money("127"))
    assert queries.balance(book.session, year.code) == found
    clearing = queries.balance(book.session, chart.psp_clearing("stripe", "USD"))
    assert clearing.posted == book.money("650"), "an asset is positive when it is owed to us"


@pytest.mark.parametrize("read", [queries.balance, queries.entries])
def test_unknown_accounts(session, read):
    with pytest.raises(errors.UnknownAccount):
        read(session, "client:404:wallet:USD")
    with pytest.raises(errors.UnknownAccount):
        queries.balance_as_of(session, "client:404:wallet:USD", _day(1))
    with pytest.raises(errors.UnknownAccount):
        queries.statement(session, "client:404:wallet:USD", _day(1), _day(2))
    assert queries.find_balance(session, "client:404:wallet:USD") is None


def test_all_accounts_of_a_client(book):
    wallet, receivable, bonus = book.open(
        chart.client_wallet(1, "USD"), chart.client_receivable(1, "USD"), chart.client_bonus(1, "EUR")
    )
    trading = book.open(chart.mt_balance("demo", 5001, "USD", client_id=1))[0]
    book.wallet(1, "10")
    book.wallet(11, "99")
    close.close_account(book.session, bonus)
    holds.place_hold(book.session, account=wallet, money=book.money("4"), key="h", reason="", actor=book.actor)
    found = queries.client_balances(book.session, 1)
    assert [(row.code, row.is_closed) for row in found] == [
        (bonus.code, True),
        (receivable.code, False),
        (wallet.code, False),
        (trading.code, False),
    ]
    assert found[2].kind == "liability"
    assert found[2].balance == queries.Balance(book.money("10"), book.money("4"))
    assert queries.client_balances(book.session, 404) == []


@pytest.mark.parametrize(
    ("moment", "amount"),
    [
        (_day(1), "0"),
        (_day(2), "0"),
        (_day(2) + timedelta(microseconds=1), "100"),
        (_day(4), "107"),
        (_day(6), "157"),
        (_day(20), "127"),
    ],
)
def test_the_balance_at_a_moment_counts_what_is_effective_before_it(book, year, moment, amount):
    assert queries.balance_as_of(book.session, year, moment) == book.money(amount)


def test_entries_come_newest_first_and_page_by_page(book, year):
    first = queries.entries(book.session, year, limit=3)
    second = queries.entries(book.session, year, before=first[-1].version, limit=3)
    lines = [(line.kind, str(line.change.decimal), str(line.balance.decimal)) for line in first + second]
    assert lines == [
        ("correction", "7.00", "127.00"),
        ("transfer", "-30.00", "120.00"),
        ("deposit", "50.00", "150.00"),
        ("deposit", "100.00", "100.00"),
    ]
    assert [line.version for line in first + second] == [4, 3, 2, 1]
    assert first[2].metadata == {"day": 5}
    assert first[0].posted_at.tzinfo is not None
    assert queries.entries(book.session, year, before=1) == []


def test_a_statement_runs_by_effective_date(book, year):
    found = queries.statement(book.session, year, _day(3, 0), _day(9))
    assert found.account == year.code
    assert found.opening == book.money("100")
    assert [(line.kind, line.effective_at, str(line.change.decimal), str(line.balance.decimal)) for line in found.lines] == [
        ("correction", _day(3), "7.00", "107.00"),
        ("deposit", _day(5), "50.00", "157.00"),
    ]
    assert found.closing == book.money("157")
    assert found.closing == queries.balance_as_of(book.session, year, _day(9))
    after = queries.statement(book.session, year, _day(9), _day(10))
    assert after.opening == found.closing
    assert after.closing == book.money("127")


def test_a_statement_of_a_quiet_time(book, year):
    found = queries.statement(book.session, year, _day(20), _day(21))
    assert (found.opening, found.lines, found.closing) == (book.money("127"), (), book.money("127"))
    found = queries.statement(book.session, year, _day(1), _day(2))
    assert (found.opening, found.lines, found.closing) == (book.money("0"), (), book.money("0"))


def test_a_statement_of_an_asset(book, year):
    found = queries.statement(book.session, chart.psp_clearing("stripe", "USD"), _day(2, 0), _day(6))
    assert [str(line.change.decimal) for line in found.lines] == ["500.00", "100.00", "50.00"]
    assert found.closing == book.money("650")


def test_lines_lead_to_their_transaction(book, year):
    line = queries.entries(book.session, year, limit=1)[0]
    posting.reverse(book.session, line.txn_id, key="undo", actor=book.actor, at=_day(10), reason="wrong client")
    reversal = queries.entries(book.session, year, limit=1)[0]
    assert (reversal.kind, reversal.change, reversal.metadata["of"]) == ("reversal", book.money("-7"), "correction")
