"""What a return code means for us: above all, which ones leave the outcome of a change unknown."""

from __future__ import annotations

import pytest

from app.metatrader.errors import AccessDenied, BusinessError, NotKnown, ServerBusy, UnknownOutcome, Unreachable
from app.metatrader.platforms import mt5_retcodes


def codes(text):
    """`3, 5-7` → 3, 5, 6, 7"""
    found = []
    for part in text.split(", "):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


#: Every number that MetaTrader 5 has, by what it means for a change; reads differ for those that are unclear.
TABLE = {
    None: codes("0-1, 10008-10010"),
    UnknownOutcome: codes("2, 5-7, 9-11, 15-16, 10001-10003, 10011-10012, 10028, 10031, 11001, 12003"),
    ServerBusy: codes("12, 1018, 10024, 12004"),
    AccessDenied: codes("8, 1000-1017, 1019-1035, 3003, 12000-12002"),
    NotKnown: [13],
    BusinessError: codes(
        "3-4, 14, 17, 2000-2001, 2003-2021, 3001-3002, 3004-3020, 4001-4009, 5001-5008, 6001, 10004-10007, 10013-10023,"
        " 10025-10027, 10029-10030, 10032-10046, 11000, 11002, 14000-14001, 15000-15008, 16000-16021"
    ),
}
EXPECTED = [(code, kind) for kind, numbers in TABLE.items() for code in numbers]


def test_the_table_has_every_code_once():
    numbers = [code for code, _ in EXPECTED]
    assert len(numbers) == len(set(numbers)) == 200
    assert set(numbers) == set(mt5_retcodes.NAMES)
    assert len(set(mt5_retcodes.NAMES.values())) == 200


@pytest.mark.parametrize(("code", "kind"), EXPECTED)
def test_what_each_code_means(code, kind):
    assert (code in mt5_retcodes.SUCCESS) == (kind is None)
    if kind is None:
        return
    change = mt5_retcodes.error_of(code, mutation=True)
    read = mt5_retcodes.error_of(code, mutation=False)
    assert type(change) is kind
    assert type(read) is (Unreachable if kind is UnknownOutcome else kind)
    assert change.retcode == read.retcode == code


def test_a_number_that_nobody_knows():
    """A newer server may have refused, or not: for a change that is not clear."""
    assert type(mt5_retcodes.error_of(10047, mutation=True)) is UnknownOutcome
    assert type(mt5_retcodes.error_of(10047, mutation=False)) is BusinessError


def test_business_errors_speak_to_people():
    assert "not enough free money" in str(BusinessError(10019))
    assert str(BusinessError(16001)) == "The trading server refused this (code 16001)."


def test_names():
    assert mt5_retcodes.name(10019) == "REQUEST_NO_MONEY"
    assert mt5_retcodes.name(16021) == "PAY_DECLINE_BY_CARDHOLDER_NAME"
    assert mt5_retcodes.name(77) == "77"
