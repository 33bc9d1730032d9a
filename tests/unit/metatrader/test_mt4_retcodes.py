"""What an MT4 return code means for us: above all, which ones leave the outcome of a change unknown."""

from __future__ import annotations

import pytest

from app.metatrader.errors import (
    AccessDenied,
    BadAnswer,
    BusinessError,
    NotKnown,
    ServerBusy,
    UnknownOutcome,
    Unreachable,
)
from app.metatrader.platforms import mt4_retcodes

#: Every number that MetaTrader 4 has, by what it means for a change.
TABLE = {
    None: [0, 1],
    UnknownOutcome: [2, 4, 6, 9, 128, 142, 143],
    ServerBusy: [8, 137, 141, 146],
    AccessDenied: [5, 7, 10, 11, 66],
    NotKnown: [65],
    BusinessError: [3, 64, 129, 130, 131, 132, 133, 134, 135, 136, 138, 139, 140, 144, 145, 147, 148, 149, 150],
}
EXPECTED = [(code, kind) for kind, numbers in TABLE.items() for code in numbers]


def test_the_table_has_every_code_once():
    numbers = [code for code, _ in EXPECTED]
    assert len(numbers) == len(set(numbers)) == 38
    assert set(numbers) == set(mt4_retcodes.NAMES)
    assert len(set(mt4_retcodes.NAMES.values())) == 38
    assert set(mt4_retcodes.REFUSED) == set(TABLE[BusinessError])


@pytest.mark.parametrize(("code", "kind"), EXPECTED)
def test_what_each_code_means(code, kind):
    assert (code in mt4_retcodes.SUCCESS) == (kind is None)
    if kind is None:
        return
    change = mt4_retcodes.error_of(code, mutation=True, detail="balance")
    read = mt4_retcodes.error_of(code, mutation=False)
    assert type(change) is kind
    assert type(read) is (Unreachable if kind is UnknownOutcome else kind)
    assert change.retcode == read.retcode == mt4_retcodes.REFUSED.get(code, code)
    assert change.detail == "balance"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [(134, "not enough free money"), (132, "market is closed"), (133, "Trading is disabled"), (3, "does not accept")],
)
def test_refusals_speak_to_people_in_the_words_of_mt5(code, sentence):
    assert sentence in str(mt4_retcodes.error_of(code, mutation=True))


def test_a_number_that_nobody_knows():
    """A newer server may have refused, or not: for a change that is not clear."""
    assert type(mt4_retcodes.error_of(77, mutation=True)) is UnknownOutcome
    assert type(mt4_retcodes.error_of(77, mutation=False)) is BadAnswer


def test_names():
    assert mt4_retcodes.name(134) == "134 NO_MONEY"
    assert mt4_retcodes.name(77) == "77"
