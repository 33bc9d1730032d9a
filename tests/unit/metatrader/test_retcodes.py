"""What a return code means for us: above all, which ones leave the outcome of a change unknown."""

from __future__ import annotations

import pytest

from app.metatrader.errors import AccessDenied, BusinessError, NotKnown, ServerBusy, UnknownOutcome, Unreachable
from app.metatrader.platforms import mt5_retcodes


@pytest.mark.parametrize("code", [7, 9, 10, 11, 15, 10012, 10031])
def test_unclear_codes(code):
    assert isinstance(mt5_retcodes.error_of(code, mutation=True), UnknownOutcome)
    assert isinstance(mt5_retcodes.error_of(code, mutation=False), Unreachable)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (12, ServerBusy),
        (1018, ServerBusy),
        (10024, ServerBusy),
        (8, AccessDenied),
        (1001, AccessDenied),
        (1035, AccessDenied),
        (3003, AccessDenied),
        (13, NotKnown),
        (3, BusinessError),
        (3006, BusinessError),
        (10019, BusinessError),
        (16001, BusinessError),
    ],
)
@pytest.mark.parametrize("mutation", [True, False])
def test_clear_codes(code, kind, mutation):
    error = mt5_retcodes.error_of(code, mutation=mutation)
    assert type(error) is kind
    assert error.retcode == code


def test_business_errors_speak_to_people():
    assert "not enough free money" in str(BusinessError(10019))
    assert str(BusinessError(16001)) == "The trading server refused this (code 16001)."


def test_names():
    assert mt5_retcodes.name(10019) == "REQUEST_NO_MONEY"
    assert mt5_retcodes.name(77) == "77"
