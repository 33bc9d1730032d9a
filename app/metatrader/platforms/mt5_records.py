"""Records out of the answers of the MT5 Web API: envelopes, and what only this interface has (users, account states)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from app.metatrader.errors import BadAnswer
from app.metatrader.fields import Number, Whole, Words, read_account
from app.metatrader.platform import AccountState, BalanceCheck, User
from app.metatrader.platforms.answers import parsed

_ACCOUNT_MONEY = ("Balance", "Credit", "Equity", "Margin", "MarginFree", "MarginLevel", "Floating", "CurrencyDigits")
_ZERO = Decimal(0)


def retcode_of(answer: Mapping[str, Any]) -> int:
    """The number before the first space of `retcode`; the text behind it is never compared. Raises BadAnswer."""
    number = str(answer.get("retcode", "")).partition(" ")[0]
    if not number.isascii() or not number.isdigit():
        raise BadAnswer(detail="answer without a retcode")
    return int(number)


def one(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The single record of an answer; some commands wrap it in a list."""
    record = answer.get("answer")
    if isinstance(record, list) and len(record) == 1:
        record = record[0]
    return record if isinstance(record, dict) else {}


def many(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of an answer. Raises BadAnswer for anything but a list of objects."""
    rows = answer.get("answer", [])
    rows = [rows] if isinstance(rows, dict) else rows or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadAnswer(detail="answer is not a list of records")
    return rows


def logins_of(answer: Mapping[str, Any]) -> list[int]:
    """The logins that user/logins answers with. Raises BadAnswer."""
    numbers = answer.get("answer") or []
    if not isinstance(numbers, list):
        raise BadAnswer(detail="answer is not a list of logins")
    return parsed(lambda: [Whole("Login", low=1).read({"Login": str(number)}) for number in numbers])


def account_of(user: Mapping[str, Any], money: Mapping[str, Any] | None) -> AccountState:
    """A user record with its financial state. The server has none for a login without trades since its start: then
    nothing is open, and equity is what the record says.
    """
    if money is None:
        balance = Decimal(str(user.get("Balance", "0")))
        equity = format(balance + Decimal(str(user.get("Credit", "0"))), "f")
        digits = str(max(0, -int(balance.as_tuple().exponent)))
        money = {
            "Equity": equity,
            "MarginFree": equity,
            "Margin": "0",
            "MarginLevel": "0",
            "Floating": "0",
            "CurrencyDigits": digits,
        }
    return read_account({**user, **{name: money[name] for name in _ACCOUNT_MONEY if name in money}})


def user_of(raw: Mapping[str, Any]) -> User:
    """A user record. `Name` is the older way to write the name. Raises FieldError."""
    parts = [Words(field, 127).read(raw) for field in ("FirstName", "MiddleName", "LastName")]
    return User(
        login=Whole("Login", low=1).read(raw),
        group=Words("Group", 127, missing=None).read(raw),
        name=" ".join(part for part in parts if part) or Words("Name", 127).read(raw),
        email=Words("EMail", 127).read(raw),
        country=Words("Country", 127).read(raw),
        leverage=Whole("Leverage", high=5000).read(raw),
        rights=Whole("Rights").read(raw),
        comment=Words("Comment", 127).read(raw),
        mark=Words("ID", 127).read(raw),
        balance=Number("Balance").read(raw),
        credit=Number("Credit", missing=_ZERO).read(raw),
        registered_ms=1000 * Whole("Registration", high=4_102_444_799, missing=0).read(raw),
    )


def balance_check_of(login: int, raw: Mapping[str, Any]) -> BalanceCheck:
    """What user/check_balance answers: for balance and credit the value of the record (User) and of the deals (History)."""
    pairs = [raw.get(name) for name in ("Balance", "Credit")]
    balance, credit = (pair if isinstance(pair, dict) else {} for pair in pairs)
    record, history = Number("User"), Number("History")
    return BalanceCheck(
        login=login,
        balance=record.read(balance),
        balance_of_deals=history.read(balance),
        credit=record.read(credit),
        credit_of_deals=history.read(credit),
    )
