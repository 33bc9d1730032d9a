"""What is refused before the database is asked, and how refusals read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.errors import AppError
from app.core.money import Money
from app.ledger import chart, errors
from app.ledger.posting import Leg, Posting, credit, debit, leg_arrays, post_many


def test_legs_as_the_database_takes_them_in_the_order_of_accounts():
    wallet, clearing = chart.client_wallet(1, "USD"), chart.psp_clearing("stripe", "USD")
    assert leg_arrays([debit(clearing, Money(5, "USD")), credit(wallet.code, Money(5, "USD"))]) == {
        "accounts": ["client:1:wallet:USD", "psp:stripe:clearing:USD"],
        "currencies": ["USD", "USD"],
        "debits": [0, 5],
        "credits": [5, 0],
    }
    assert debit(wallet, Money(1, "USD")) == Leg("client:1:wallet:USD", Money(1, "USD"), "debit")


def _leg(account, amount, currency="USD", side=debit):
    return side(account, Money(amount, currency))


@pytest.mark.parametrize(
    ("legs", "error"),
    [
        ([], errors.UnbalancedTransaction),
        ([_leg("a", 5)], errors.UnbalancedTransaction),
        ([_leg("a", 5), _leg("b", 4, side=credit)], errors.UnbalancedTransaction),
        ([_leg("a", 5), _leg("b", 5)], errors.UnbalancedTransaction),
        ([_leg("a", 5), _leg("b", 5, "EUR", side=credit)], errors.UnbalancedTransaction),
        ([_leg("a", 0), _leg("b", 0, side=credit)], errors.InvalidPosting),
        ([_leg("a", -5), _leg("b", -5, side=credit)], errors.InvalidPosting),
        ([_leg("a", 5), _leg("a", 5, side=credit)], errors.InvalidPosting),
        ([_leg(f"a{n}", 1) for n in range(201)], errors.TooManyLegs),
    ],
)
def test_refused_legs(legs, error):
    with pytest.raises(error):
        leg_arrays(legs)


def _all(error):
    for sub in error.__subclasses__():
        yield sub
        yield from _all(sub)


@pytest.mark.parametrize("error", list(_all(errors.LedgerError)), ids=lambda error: error.__name__)
def test_every_refusal_says_what_is_wrong(error):
    assert issubclass(error, AppError)
    assert error.code.startswith(("ledger.", "fx."))
    assert error.code != errors.LedgerError.code
    assert error.message != AppError.message
    assert error.http_status in {404, 409, 422}
    assert str(error()) == error.message
    assert len({other.code for other in _all(errors.LedgerError)}) == len(list(_all(errors.LedgerError)))


def test_a_code_of_two_lines_is_refused_before_it_is_sent():
    legs = [
        debit("psp:stripe:clearing:USD", Money(5, "USD")),
        credit("client:1:wallet:USD\nclient:2:wallet:USD", Money(5, "USD")),
    ]
    twice = Posting("key", "deposit", datetime(2026, 11, 27, tzinfo=UTC), Actor.system("test"), legs)
    with pytest.raises(errors.UnusableText):
        post_many(Session(), [twice])
