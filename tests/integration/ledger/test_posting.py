"""Posting: moved once, whole or not at all; every refusal typed and without effect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.core.money import MAX_AMOUNT_MINOR, Money
from app.core.uow import unit_of_work
from app.ledger import chart, close, errors, posting, queries
from app.ledger.posting import Posting, credit, debit
from app.models.ledger import Entry, Transaction

REFUSALS = pytest.mark.parametrize("many", [False, True], ids=["post", "post_many"])


def _send(book, legs, *, many, key=None, at=None, kind="test"):
    key, at = key or book.key(), at or book.noon
    if many:
        return posting.post_many(book.session, [Posting(key, kind, at, book.actor, legs)])[0]
    return posting.post(book.session, key=key, kind=kind, effective_at=at, actor=book.actor, legs=legs)


@REFUSALS
def test_a_deposit_is_in_the_wallet_and_owed_by_the_provider(book, many):
    wallet, clearing = book.open(chart.client_wallet(1, "USD"), chart.psp_clearing("stripe", "USD"))
    txn_id = _send(book, [debit(clearing, book.money("1000")), credit(wallet, book.money("1000"))], many=many)
    assert queries.balance(book.session, wallet).posted == book.money("1000.00")
    assert queries.balance(book.session, clearing).posted == book.money("1000.00")
    row = book.session.get_one(Transaction, txn_id)
    assert (row.kind, row.actor, row.effective_at) == ("test", "system:test", book.noon)
    assert [(entry.debit, entry.credit, entry.account_version) for entry in sorted(row.entries, key=lambda e: e.credit)] == [
        (100_000, 0, 1),
        (0, 100_000, 1),
    ]
    assert book.broken_proofs() == []


@REFUSALS
def test_the_same_request_again_moves_nothing(book, many):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    legs = [debit(giver, book.money("40")), credit(taker, book.money("40"))]
    first = _send(book, legs, many=many, key="pay:1")
    before = book.state()
    assert _send(book, legs, many=many, key="pay:1") == first
    # Order of legs, moment, actor and metadata do not make it another request.
    assert _send(book, legs[::-1], many=many, key="pay:1", at=book.noon + timedelta(days=1)) == first
    assert _send(book, legs, many=not many, key="pay:1") == first
    assert book.state() == before


@REFUSALS
@pytest.mark.parametrize("change", ["amount", "account", "kind", "direction"])
def test_the_same_key_with_other_content_is_refused(book, many, change):
    giver, taker, other = book.wallet(1, "100"), book.wallet(2, "100"), book.wallet(3)
    _send(book, [debit(giver, book.money("40")), credit(taker, book.money("40"))], many=many, key="pay:1")
    amount = book.money("41" if change == "amount" else "40")
    legs = [debit(giver, amount), credit(other if change == "account" else taker, amount)]
    if change == "direction":
        legs = [credit(giver, amount), debit(taker, amount)]
    with pytest.raises(errors.IdempotencyConflict), book.session.begin_nested():
        _send(book, legs, many=many, key="pay:1", kind="other" if change == "kind" else "test")
    assert queries.balance(book.session, giver).posted == book.money("60")
    assert book.broken_proofs() == []


def _legs(book, giver, taker, amount="10"):
    return [debit(giver, book.money(amount)), credit(taker, book.money(amount))]


def _other_currency(book, giver, taker):
    return [debit(giver, Money(10, "EUR")), credit(taker, Money(10, "EUR"))]


def _duplicate(book, giver, taker):
    return [debit(giver, book.money("5")), debit(giver, book.money("5")), credit(taker, book.money("10"))]


def _too_many(book, giver, taker):
    return [debit(giver, book.money("200")), *(credit(f"client:{n}:wallet:USD", book.money("1")) for n in range(200))]


def _past_the_column(book, giver, taker):
    clearing = chart.psp_clearing("stripe", "USD")
    return [debit(clearing, Money(MAX_AMOUNT_MINOR, "USD")), credit(taker, Money(MAX_AMOUNT_MINOR, "USD"))]


BAD_LEGS = {
    "overdraw": (lambda b, g, t: _legs(b, g, t, "100.01"), errors.InsufficientFunds),
    "unknown account": (lambda b, g, t: _legs(b, g, "client:404:wallet:USD"), errors.UnknownAccount),
    "no such account name": (lambda b, g, t: _legs(b, g, "'; DROP TABLE ledger.txn; --"), errors.UnknownAccount),
    "other currency's account": (_other_currency, errors.CurrencyMismatch),
    "zero": (lambda b, g, t: _legs(b, g, t, "0"), errors.InvalidPosting),
    "negative": (lambda b, g, t: _legs(b, g, t, "-1"), errors.InvalidPosting),
    "account twice": (_duplicate, errors.InvalidPosting),
    "no legs": (lambda b, g, t: [], errors.UnbalancedTransaction),
    "one leg": (lambda b, g, t: [debit(g, b.money("1"))], errors.UnbalancedTransaction),
    "unbalanced": (lambda b, g, t: [debit(g, b.money("2")), credit(t, b.money("1"))], errors.UnbalancedTransaction),
    "201 legs": (_too_many, errors.TooManyLegs),
    "past the column": (_past_the_column, errors.AmountTooLarge),
}


@REFUSALS
@pytest.mark.parametrize("case", BAD_LEGS)
def test_refused_without_effect(book, many, case):
    make, error = BAD_LEGS[case]
    giver, taker = book.wallet(1, "100"), book.wallet(2, "1")
    before = book.state()
    with pytest.raises(error) as caught, book.session.begin_nested():
        _send(book, make(book, giver, taker), many=many)
    assert str(caught.value)
    assert caught.value.code.startswith("ledger.")
    assert book.state() == before


@pytest.mark.parametrize("key", ["", "k" * 201, "a\x00b", "two\nlines"])
def test_unusable_keys_are_refused(book, key):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    with pytest.raises(errors.InvalidPosting):
        posting.post(book.session, key=key, kind="t", effective_at=book.noon, actor=book.actor, legs=_legs(book, giver, taker))
    with pytest.raises(errors.InvalidPosting):
        book.pay(giver, taker, "1", kind="k" * 61)


def test_text_that_no_column_holds_is_refused(book):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    with pytest.raises(errors.InvalidPosting), book.session.begin_nested():
        book.pay(giver, taker, "1", metadata={"note": "a\x00b"})


def test_naive_moments_are_a_bug_of_the_caller(book):
    with pytest.raises(ValueError, match="aware"):
        book.pay(book.wallet(1, "100"), book.wallet(2), "1", at=datetime(2026, 1, 1))


def _raw(account, currency="USD", **side):
    return {"account": account, "currency": currency, **side}


RAW_LEGS = {
    "zero": ([_raw("client:1:wallet:USD", debit=0), _raw("client:2:wallet:USD", credit=0)], "LG001"),
    "negative": ([_raw("client:1:wallet:USD", debit=-5), _raw("client:2:wallet:USD", credit=-5)], "LG001"),
    "both sides": ([_raw("client:1:wallet:USD", debit=5, credit=5), _raw("client:2:wallet:USD", debit=5, credit=5)], "LG001"),
    "neither side": ([_raw("client:1:wallet:USD"), _raw("client:2:wallet:USD")], "LG001"),
    "account twice": (
        [_raw("client:1:wallet:USD", debit=5), _raw("client:1:wallet:USD", credit=5)],
        ("LG001", "23505"),
    ),
    "no account": ([{"debit": 5}, {"credit": 5}], "LG005"),
    "no currency": ([{"account": "client:1:wallet:USD", "debit": 5}, _raw("client:2:wallet:USD", credit=5)], "LG008"),
    "201 legs": ([_raw(f"a{n}", debit=5) for n in range(201)], "LG010"),
    "10^30": ([_raw("client:1:wallet:USD", debit=10**30), _raw("client:2:wallet:USD", credit=10**30)], "22003"),
    "NaN": ([_raw("client:1:wallet:USD", debit="NaN"), _raw("client:2:wallet:USD", credit="NaN")], "22P02"),
    "half a cent": ([_raw("client:1:wallet:USD", debit=0.5), _raw("client:2:wallet:USD", credit=0.5)], "22P02"),
}


@REFUSALS
@pytest.mark.parametrize("case", RAW_LEGS)
def test_the_database_refuses_what_python_would_not_have_sent(book, many, case):
    legs, sqlstate = RAW_LEGS[case]
    book.wallet(1, "100")
    book.wallet(2, "100")
    before = book.state()
    with pytest.raises(DBAPIError) as caught, book.session.begin_nested():
        book.post_raw(legs, many=many)
    assert caught.value.orig.sqlstate in sqlstate
    assert book.state() == before


RAW_UNBALANCED = {
    "debits and credits differ": [_raw("client:1:wallet:USD", debit=100), _raw("client:2:wallet:USD", credit=101)],
    "one leg": [_raw("client:1:wallet:USD", credit=100)],
    "no legs": [],
    "dollars against euros": [_raw("client:1:wallet:USD", debit=100), _raw("client:1:wallet:EUR", "EUR", credit=100)],
}


@REFUSALS
@pytest.mark.parametrize("case", RAW_UNBALANCED)
def test_unbalanced_legs_are_refused_at_commit(database, book_of, many, case):
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            book.wallet(1, "100")
            book.wallet(1, currency="EUR")
            book.wallet(2, "100")
        before = book.state()
        with pytest.raises(errors.UnbalancedTransaction), unit_of_work(session, book.actor):
            book.post_raw(RAW_UNBALANCED[case], many=many)
        assert book.state() == before


def test_conversion_needs_the_position_accounts(book):
    usd, eur = book.wallet(1, "1000"), book.wallet(1, currency="EUR")
    usd_position, eur_position, spread = book.open(chart.fx_position("USD"), chart.fx_position("EUR"), chart.fx_spread("USD"))
    paid, received = book.money("100.50"), book.money("92.60", "EUR")
    with pytest.raises(errors.UnbalancedTransaction):
        book.post(debit(usd, paid), credit(eur, received))
    book.post(
        debit(usd, paid),
        credit(usd_position, book.money("100.00")),
        credit(spread, book.money("0.50")),
        debit(eur_position, received),
        credit(eur, received),
        kind="conversion",
        metadata={"rate": "0.926"},
    )
    posted = {spec.code: queries.balance(book.session, spec).posted for spec in (usd, eur, usd_position, eur_position)}
    assert list(map(str, posted.values())) == ["899.50 USD", "92.60 EUR", "100.00 USD", "-92.60 EUR"]
    assert book.broken_proofs() == []


@REFUSALS
def test_a_closed_account_takes_nothing(book, many):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    close.close_account(book.session, taker)
    close.close_account(book.session, taker)
    with pytest.raises(errors.AccountClosed), book.session.begin_nested():
        _send(book, _legs(book, giver, taker), many=many)
    with pytest.raises(errors.AccountNotEmpty), book.session.begin_nested():
        close.close_account(book.session, giver)
    with pytest.raises(errors.UnknownAccount), book.session.begin_nested():
        close.close_account(book.session, "client:404:wallet:USD")


@REFUSALS
def test_a_closed_period_takes_nothing(book, many):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    old = _send(book, _legs(book, giver, taker), many=many, key="old")
    end = datetime(2026, 4, 1, tzinfo=UTC)
    close.close_period(book.session, end, actor=book.actor)
    close.close_period(book.session, end, actor=book.actor)
    close.close_period(book.session, datetime(2026, 2, 1, tzinfo=UTC), actor=book.actor)
    with pytest.raises(errors.PeriodClosed), book.session.begin_nested():
        _send(book, _legs(book, giver, taker), many=many, at=end - timedelta(microseconds=1))
    assert _send(book, _legs(book, giver, taker), many=many, at=end) != old
    assert _send(book, _legs(book, giver, taker), many=many, key="old") == old, "a replay moves nothing and is answered"
    with pytest.raises(errors.PeriodNotOver), book.session.begin_nested():
        close.close_period(book.session, datetime.now(UTC) + timedelta(hours=1), actor=book.actor)


def test_a_reversal_mirrors_and_happens_once(book):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    txn_id = book.pay(giver, taker, "40", kind="gift")

    def reverse(key):
        return posting.reverse(book.session, txn_id, key=key, actor=book.actor, at=book.noon, reason="by mistake")

    reversal_id = reverse("undo:1")
    assert queries.balance(book.session, giver).posted == book.money("100")
    assert queries.balance(book.session, taker).posted == book.money("0")
    row = book.session.get_one(Transaction, reversal_id)
    assert (row.kind, row.reverses, row.details) == ("reversal", txn_id, {"of": "gift", "reason": "by mistake"})
    assert reverse("undo:1") == reversal_id
    with pytest.raises(errors.AlreadyReversed), book.session.begin_nested():
        reverse("undo:2")
    assert book.broken_proofs() == []


def test_a_reversal_needs_the_money(book):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    txn_id = book.pay(giver, taker, "40")
    book.pay(taker, giver, "1")
    with pytest.raises(errors.InsufficientFunds), book.session.begin_nested():
        posting.reverse(book.session, txn_id, key="undo", actor=book.actor, at=book.noon, reason="")


def test_a_reversal_needs_its_transaction(book):
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    with pytest.raises(errors.UnknownTransaction):
        posting.reverse(book.session, uuid4(), key="undo", actor=book.actor, at=book.noon, reason="")
    with pytest.raises(errors.UnknownTransaction), book.session.begin_nested():
        book.pay(giver, taker, "1", reverses=uuid4())


@pytest.mark.parametrize("amount", ["39", "40"])
def test_a_reversal_that_does_not_mirror_is_refused_at_commit(database, book_of, amount):
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            giver, taker, other = book.wallet(1, "100"), book.wallet(2, "100"), book.wallet(3, "100")
            txn_id = book.pay(giver, taker, "40")
        with pytest.raises(errors.ReversalMismatch), unit_of_work(session, book.actor):
            book.pay(taker if amount == "39" else other, giver, amount, reverses=txn_id)


def test_posting_inside_a_savepoint(database, book_of):
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            giver, taker = book.wallet(1, "100"), book.wallet(2)
            with session.begin_nested():
                book.pay(giver, taker, "10")
            with pytest.raises(errors.InsufficientFunds), session.begin_nested():
                book.pay(giver, taker, "1000")
            book.pay(giver, taker, "5")
        assert queries.balance(session, taker).posted == book.money("15")
        assert book.broken_proofs() == []


def test_post_many_writes_what_post_writes(book):
    giver, taker = book.wallet(1, "100"), book.wallet(2, "100")
    eur = book.wallet(3, "50", currency="EUR")
    other = book.wallet(4, currency="EUR")
    moves = [(giver, taker, "1"), (taker, giver, "2"), (eur, other, "3"), (giver, taker, "4")]

    def written(ids):
        columns = (Entry.debit, Entry.credit, Entry.currency, Entry.effective_at)
        rows = [
            book.session.execute(select(*columns).where(Entry.txn_id == one).order_by(Entry.account_id)).all() for one in ids
        ]
        headers = [
            (row.kind, row.actor, row.details, row.reverses) for row in (book.session.get_one(Transaction, i) for i in ids)
        ]
        return rows, headers

    one_by_one = [book.pay(*move, metadata={"n": n}) for n, move in enumerate(moves)]
    at_once = posting.post_many(
        book.session,
        [
            Posting(book.key(), "test", book.noon, book.actor, _legs(book, a, b, amount), {"n": n})
            if a.currency == "USD"
            else Posting(
                book.key(),
                "test",
                book.noon,
                book.actor,
                [debit(a, book.money(amount, "EUR")), credit(b, book.money(amount, "EUR"))],
                {"n": n},
            )
            for n, (a, b, amount) in enumerate(moves)
        ],
    )
    assert written(at_once) == written(one_by_one)
    assert book.broken_proofs() == []


def test_post_many_tells_old_from_new(book):
    giver, taker = book.wallet(1, "100"), book.wallet(2)

    def one(key, amount):
        return Posting(key, "test", book.noon, book.actor, _legs(book, giver, taker, amount))

    assert posting.post_many(book.session, []) == []
    old = posting.post(
        book.session, key="z", kind="test", effective_at=book.noon, actor=book.actor, legs=_legs(book, giver, taker, "1")
    )
    ids = posting.post_many(book.session, [one("b", "2"), one("z", "1"), one("a", "3"), one("b", "2")])
    assert ids[1] == old
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3
    assert queries.balance(book.session, taker).posted == book.money("6")
    assert posting.post_many(book.session, [one("a", "3"), one("b", "2")]) == [ids[2], ids[0]]
    with pytest.raises(errors.IdempotencyConflict), book.session.begin_nested():
        posting.post_many(book.session, [one("c", "1"), one("c", "2")])
    assert book.broken_proofs() == []


def test_post_many_is_all_or_none_and_judges_funds_together(book):
    poor, rich, third = book.wallet(1), book.wallet(2, "100"), book.wallet(3)

    def one(giver, taker, amount):
        return Posting(book.key(), "test", book.noon, book.actor, _legs(book, giver, taker, amount))

    before = book.state()
    with pytest.raises(errors.InsufficientFunds), book.session.begin_nested():
        posting.post_many(book.session, [one(rich, third, "50"), one(rich, third, "51")])
    assert book.state() == before
    posting.post_many(book.session, [one(poor, third, "30"), one(rich, poor, "30")])
    assert queries.balance(book.session, poor).posted == book.money("0")
    assert book.broken_proofs() == []


@REFUSALS
def test_200_legs_are_one_transaction(book, many):
    takers = book.open(*(chart.client_wallet(n, "USD") for n in range(1, 200)))
    (expense,) = book.open(chart.commission_expense("USD"))
    legs = [debit(expense, book.money("199")), *(credit(taker, book.money("1")) for taker in takers)]
    txn_id = _send(book, legs, many=many)
    assert book.session.scalar(select(func.count()).where(Entry.txn_id == txn_id)) == 200
    assert book.broken_proofs() == []


@REFUSALS
def test_no_posting_reads_all_accounts(database, book_of, many):
    """A plan that scans the accounts is the cheapest while there are ten, and stays when there are ten thousand."""
    scanned = text(
        "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE schemaname = 'ledger' AND relname = 'account'"
    )
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            giver, taker = book.wallet(1, "100"), book.wallet(2)
            for _ in range(10):
                _send(book, _legs(book, giver, taker, "1"), many=many)
        with database.owner_session() as owner:
            owner.execute(
                text(
                    "INSERT INTO ledger.account (code, kind, currency, may_go_negative)"
                    " SELECT 'a' || n, 'liability', 'USD', true FROM generate_series(1, 10000) AS n"
                )
            )
            owner.commit()
        for n in range(1, 11):
            _send(book, [debit(f"a{n}", book.money("1")), credit(f"a{1000 * n}", book.money("1"))], many=many)
        found = session.execute(scanned).one()
        assert found.seq_tup_read == 0
        assert 20 <= found.idx_tup_fetch <= 200
        session.execute(text("SELECT count(closed_at) FROM ledger.account"))
        assert session.execute(scanned).one().seq_tup_read > 10_000, "the measure itself works"
