"""Holds: reserved money cannot be spent, and each hold ends once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.core.money import Money
from app.ledger import chart, close, errors, holds, queries
from app.ledger.posting import credit, debit
from app.models.ledger import Hold


@pytest.fixture
def wallet(book):
    """A wallet with 100 dollars."""
    return book.wallet(1, "100")


@pytest.fixture
def payouts(book):
    return book.open(chart.psp_payouts("stripe", "USD"))[0]


def _place(book, account, amount="60", key=None, expires_at=None, currency="USD"):
    return holds.place_hold(
        book.session,
        account=account,
        money=book.money(amount, currency),
        key=key or book.key("hold"),
        reason="withdrawal",
        actor=book.actor,
        expires_at=expires_at,
    )


def _capture(book, hold_id, *legs, key=None):
    return holds.capture_hold(
        book.session,
        hold_id,
        key=key or book.key("capture"),
        kind="withdrawal.submitted",
        effective_at=book.noon,
        actor=book.actor,
        legs=legs,
        metadata={"withdrawal": 1},
    )


def _balance(book, account):
    found = queries.balance(book.session, account)
    return str(found.posted.decimal), str(found.held.decimal), str(found.available.decimal)


def test_held_money_stays_but_cannot_be_spent(book, wallet):
    other = book.wallet(2)
    hold_id = _place(book, wallet)
    assert _balance(book, wallet) == ("100.00", "60.00", "40.00")
    with pytest.raises(errors.InsufficientFunds), book.session.begin_nested():
        book.pay(wallet, other, "40.01")
    with pytest.raises(errors.InsufficientFunds), book.session.begin_nested():
        _place(book, wallet, "40.01")
    book.pay(wallet, other, "40")
    row = book.session.get_one(Hold, hold_id)
    assert (row.amount, row.reason, row.actor, row.expires_at, row.resolution) == (
        6000,
        "withdrawal",
        "system:test",
        None,
        None,
    )
    assert book.broken_proofs() == []


def test_the_same_hold_again_holds_nothing_more(book, wallet):
    hold_id = _place(book, wallet, key="h")
    assert _place(book, wallet, key="h") == hold_id
    assert _place(book, wallet, key="h", expires_at=datetime.now(UTC)) == hold_id
    assert _balance(book, wallet) == ("100.00", "60.00", "40.00")
    holds.release_hold(book.session, hold_id, actor=book.actor)
    assert _place(book, wallet, key="h") == hold_id, "also when it has ended"
    for account, amount in ((wallet, "61"), (book.wallet(2, "100"), "60")):
        with pytest.raises(errors.IdempotencyConflict), book.session.begin_nested():
            _place(book, account, amount, key="h")


@pytest.mark.parametrize(
    ("code", "amount", "currency", "error"),
    [
        ("client:1:wallet:USD", "0", "USD", errors.InvalidPosting),
        ("client:1:wallet:USD", "-1", "USD", errors.InvalidPosting),
        ("client:1:wallet:USD", "100.01", "USD", errors.InsufficientFunds),
        ("client:1:wallet:USD", "1", "EUR", errors.CurrencyMismatch),
        ("client:404:wallet:USD", "1", "USD", errors.UnknownAccount),
        ("client:9:wallet:USD", "1", "USD", errors.AccountClosed),
        ("client:1:wallet:USD", "92233720368547758.07", "USD", errors.AmountTooLarge),
    ],
)
def test_refused_holds(book, wallet, code, amount, currency, error):
    close.close_account(book.session, book.wallet(9))
    _place(book, wallet, "1")
    before = book.state()
    with pytest.raises(error), book.session.begin_nested():
        _place(book, code, amount, currency=currency)
    assert book.state() == before


@pytest.mark.parametrize(("key", "reason"), [("", "r"), ("k" * 201, "r"), ("k\x00", "r"), ("k", "r\x00")])
def test_unusable_texts_are_refused(book, wallet, key, reason):
    with pytest.raises(errors.InvalidPosting):
        holds.place_hold(book.session, account=wallet, money=book.money("1"), key=key, reason=reason, actor=book.actor)


@pytest.mark.parametrize(("amount", "left"), [("60", "40.00"), ("25.50", "74.50"), ("0.01", "99.99")])
def test_a_capture_moves_the_money_and_frees_the_rest(book, wallet, payouts, amount, left):
    hold_id = _place(book, wallet)
    money = book.money(amount)
    txn_id = _capture(book, hold_id, debit(wallet, money), credit(payouts, money))
    assert _balance(book, wallet) == (left, "0.00", left)
    assert queries.balance(book.session, payouts).posted == money
    resolution = book.session.get_one(Hold, hold_id).resolution
    assert (resolution.outcome, resolution.txn_id) == ("captured", txn_id)
    assert book.broken_proofs() == []


def test_all_of_a_balance_can_be_held_and_captured(book, wallet, payouts):
    hold_id = _place(book, wallet, "100")
    _capture(book, hold_id, debit(wallet, book.money("100")), credit(payouts, book.money("100")))
    assert _balance(book, wallet) == ("0.00", "0.00", "0.00")


def test_the_held_account_need_not_be_the_lowest(book):
    low, high = book.wallet(5, "10"), book.wallet(6, "100")
    hold_id = _place(book, high)
    _capture(book, hold_id, debit(high, book.money("60")), credit(low, book.money("60")))
    assert _balance(book, low) == ("70.00", "0.00", "70.00")


def test_a_hold_on_an_asset(book, wallet):
    clearing, payouts = book.open(chart.psp_clearing("stripe", "USD"), chart.psp_payouts("stripe", "USD"))
    hold_id = _place(book, clearing)
    with pytest.raises(errors.CaptureMismatch), book.session.begin_nested():
        _capture(book, hold_id, debit(clearing, book.money("60")), credit(payouts, book.money("60")))
    _capture(book, hold_id, credit(clearing, book.money("60")), debit(wallet, book.money("60")))
    assert book.broken_proofs() == []


def test_the_same_capture_again_moves_nothing(book, wallet, payouts):
    hold_id = _place(book, wallet)
    legs = (debit(wallet, book.money("60")), credit(payouts, book.money("60")))
    txn_id = _capture(book, hold_id, *legs, key="c")
    before = book.state()
    assert _capture(book, hold_id, *legs, key="c") == txn_id
    assert book.state() == before
    smaller = (debit(wallet, book.money("59")), credit(payouts, book.money("59")))
    with pytest.raises(errors.IdempotencyConflict), book.session.begin_nested():
        _capture(book, hold_id, *smaller, key="c")
    with pytest.raises(errors.HoldAlreadyResolved), book.session.begin_nested():
        _capture(book, hold_id, *legs, key="another")
    with pytest.raises(errors.IdempotencyConflict), book.session.begin_nested():
        _capture(book, _place(book, wallet, "5"), *legs, key="c")
    assert book.broken_proofs() == []


@pytest.mark.parametrize("case", ["more than held", "nothing from the held account", "to the held account"])
def test_captures_that_do_not_fit_the_hold(book, wallet, payouts, case):
    other = book.wallet(2, "500")
    hold_id = _place(book, wallet)
    before = book.state()
    legs = {
        "more than held": (debit(wallet, book.money("60.01")), credit(payouts, book.money("60.01"))),
        "nothing from the held account": (debit(other, book.money("60")), credit(payouts, book.money("60"))),
        "to the held account": (debit(other, book.money("60")), credit(wallet, book.money("60"))),
    }[case]
    with pytest.raises(errors.CaptureMismatch), book.session.begin_nested():
        _capture(book, hold_id, *legs)
    assert book.state() == before


def test_a_capture_obeys_the_rules_of_posting(book, wallet, payouts):
    hold_id = _place(book, wallet)
    before = book.state()
    with pytest.raises(errors.UnknownAccount), book.session.begin_nested():
        _capture(book, hold_id, debit(wallet, book.money("60")), credit("client:404:wallet:USD", book.money("60")))
    with pytest.raises(errors.CurrencyMismatch), book.session.begin_nested():
        _capture(book, hold_id, debit(wallet, Money(60, "EUR")), credit(payouts, Money(60, "EUR")))
    with pytest.raises(errors.UnbalancedTransaction):
        _capture(book, hold_id, debit(wallet, book.money("60")), credit(payouts, book.money("59")))
    close.close_period(book.session, book.noon + timedelta(days=1), actor=book.actor)
    with pytest.raises(errors.PeriodClosed), book.session.begin_nested():
        _capture(book, hold_id, debit(wallet, book.money("60")), credit(payouts, book.money("60")))
    assert book.state() == before


def test_release_gives_the_money_back_once(book, wallet, payouts):
    hold_id = _place(book, wallet)
    assert holds.release_hold(book.session, hold_id, actor=book.actor) is True
    assert holds.release_hold(book.session, hold_id, actor=book.actor) is False
    assert _balance(book, wallet) == ("100.00", "0.00", "100.00")
    with pytest.raises(errors.HoldAlreadyResolved), book.session.begin_nested():
        _capture(book, hold_id, debit(wallet, book.money("60")), credit(payouts, book.money("60")))
    with pytest.raises(errors.HoldAlreadyResolved), book.session.begin_nested():
        holds.expire_hold(book.session, hold_id, actor=book.actor)
    assert book.broken_proofs() == []


def test_captured_money_cannot_be_released(book, wallet, payouts):
    hold_id = _place(book, wallet)
    _capture(book, hold_id, debit(wallet, book.money("60")), credit(payouts, book.money("60")))
    with pytest.raises(errors.HoldAlreadyResolved), book.session.begin_nested():
        holds.release_hold(book.session, hold_id, actor=book.actor)


def test_holds_expire_when_their_time_has_come(book, wallet):
    past, future = datetime.now(UTC) - timedelta(minutes=1), datetime.now(UTC) + timedelta(hours=1)
    due, later, for_ever, ended = (_place(book, wallet, "10", expires_at=moment) for moment in (past, future, None, past))
    holds.release_hold(book.session, ended, actor=book.actor)
    assert holds.due_holds(book.session) == [due]
    for early in (later, for_ever):
        with pytest.raises(errors.HoldNotDue), book.session.begin_nested():
            holds.expire_hold(book.session, early, actor=book.actor)
    assert holds.expire_hold(book.session, due, actor=book.actor) is True
    assert holds.expire_hold(book.session, due, actor=book.actor) is False
    assert holds.due_holds(book.session) == []
    assert _balance(book, wallet) == ("100.00", "20.00", "80.00")
    assert book.broken_proofs() == []


def test_a_hold_past_its_time_can_still_be_captured(book, wallet, payouts):
    hold_id = _place(book, wallet, expires_at=datetime.now(UTC) - timedelta(minutes=1))
    _capture(book, hold_id, debit(wallet, book.money("60")), credit(payouts, book.money("60")))
    assert holds.due_holds(book.session) == []


def test_unknown_holds(book, wallet, payouts):
    legs = (debit(wallet, book.money("1")), credit(payouts, book.money("1")))
    with pytest.raises(errors.UnknownHold), book.session.begin_nested():
        _capture(book, uuid4(), *legs)
    with pytest.raises(errors.UnknownHold), book.session.begin_nested():
        holds.release_hold(book.session, uuid4(), actor=book.actor)


def test_an_account_with_a_hold_cannot_be_closed(book):
    (position,) = book.open(chart.fx_position("USD"))
    hold_id = _place(book, position, "10")
    with pytest.raises(errors.AccountNotEmpty), book.session.begin_nested():
        close.close_account(book.session, position)
    holds.release_hold(book.session, hold_id, actor=book.actor)
    close.close_account(book.session, position)


def test_a_naive_expiry_is_a_bug_of_the_caller(book, wallet):
    with pytest.raises(ValueError, match="aware"):
        _place(book, wallet, expires_at=datetime(2026, 1, 1))
