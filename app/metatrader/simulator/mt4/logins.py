"""The MT4 double's logins: opening, changing, passwords, and whether a balance is what the rows add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from app.metatrader.mt4 import (
    COUNTRY_LIMIT,
    EMAIL_LIMIT,
    GROUP_LIMIT,
    MARK_LIMIT,
    NAME_LIMIT,
    NOTE_LIMIT,
    PASSWORD_LEAST,
    PASSWORD_LIMIT,
    Cmd,
    Login,
)
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.books import Books, moved
from app.metatrader.simulator.mt4.groups import GROUPS, GroupSettings
from app.metatrader.simulator.mt4.valuation import ZERO
from app.metatrader.simulator.passwords import fits, hashed

FIRST_LOGIN = 500_001
KINDS = ("main", "investor")

#: Characters of the text fields that MT4's arrays hold.
_LIMITS = {"name": NAME_LIMIT, "email": EMAIL_LIMIT, "country": COUNTRY_LIMIT, "comment": NOTE_LIMIT, "id": MARK_LIMIT}
SWITCHES = ("enable", "enable_change_password", "enable_read_only")


class Logins:
    """Each method is one transaction, and tells of the login."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._book = books.book

    def add(self, group: str, leverage: int, password: str, password_investor: str, **fields: Any) -> Login:
        """Open a login; `fields`: name, email, country, comment, id and the three switches. What MT4's arrays do not hold is
        cut off. Refused(3): group, leverage, a password against the rules.
        """
        settings = _group(group)
        if not 1 <= leverage <= settings.leverage_max:
            raise Refused(codes.INVALID_DATA)
        if not _is_strong(password) or not _is_strong(password_investor) or password == password_investor:
            raise Refused(codes.INVALID_DATA)
        settled: dict[str, Any] = {name: int(fields.get(name, name != "enable_read_only")) for name in SWITCHES}
        settled |= {name: on_code_page(str(fields.get(name, "")), limit) for name, limit in _LIMITS.items()}
        with self._book.transaction():
            number, now_s = self._book.next_number("login", FIRST_LOGIN), self._books.now_s()
            self._book.put_login(
                Login(
                    login=number,
                    group=group,
                    leverage=leverage,
                    **settled,
                    balance=ZERO,
                    credit=ZERO,
                    equity=ZERO,
                    margin=ZERO,
                    margin_free=ZERO,
                    margin_level=ZERO,
                    regdate=now_s,
                    timestamp=now_s,
                )
            )
            self._book.put_password(number, "main", hashed(password))
            self._book.put_password(number, "investor", hashed(password_investor))
            return self._books.figures(number)

    def change(self, number: int, changes: Mapping[str, Any]) -> Login:
        """Change group, leverage and switches. Refused: 65; 3 for a group of another currency, a leverage over its limit."""
        with self._book.transaction():
            old = self._books.login(number)
            new = replace(old, **changes)
            group = _group(new.group)
            if group.currency != GROUPS[old.group].currency or not 1 <= new.leverage <= group.leverage_max:
                raise Refused(codes.INVALID_DATA)
            self._book.put_login(replace(new, timestamp=max(self._books.now_s(), old.timestamp)))
            return self._books.figures(number)

    def change_password(self, number: int, kind: str, password: str) -> None:
        """Refused: 65; 3 for a password against the rules, or the same as the other kind's."""
        with self._book.transaction():
            self._books.login(number)
            other = KINDS[1 - KINDS.index(kind)]
            if not _is_strong(password) or fits(password, self._book.password(number, other)):
                raise Refused(codes.INVALID_DATA)
            self._book.put_password(number, kind, hashed(password))

    def is_password(self, number: int, kind: str, password: str) -> bool:
        """Refused(65)."""
        self._books.login(number)
        return fits(password, self._book.password(number, kind))

    def sums(self, number: int) -> tuple[Decimal, Decimal]:
        """Balance and credit that a login's rows add up to. Refused(65)."""
        with self._book.reading():
            self._books.login(number)
            rows = self._book.trades(number)
            balance, credit = (sum((moved(row, what) for row in rows), ZERO) for what in (Cmd.BALANCE, Cmd.CREDIT))
            return balance, credit

    def drift(self, number: int, balance: Decimal) -> Login:
        """Change a record's balance without a row, as a broken server would. Refused(65)."""
        with self._book.transaction():
            old = self._books.login(number)
            self._book.put_login(replace(old, balance=old.balance + balance))
            return self._books.figures(number)


def on_code_page(text: str, limit: int) -> str:
    """The text as an array of the server's code page holds it."""
    return text.encode("cp1252", "replace").decode("cp1252")[:limit]


def _group(name: str) -> GroupSettings:
    if len(name) > GROUP_LIMIT or name not in GROUPS:
        raise Refused(codes.INVALID_DATA)
    return GROUPS[name]


def _is_strong(password: str) -> bool:
    """Letters and digits, and a length that MT4 holds."""
    has_both = any(one.isalpha() for one in password) and any(one.isdigit() for one in password)
    return PASSWORD_LEAST <= len(password) <= PASSWORD_LIMIT and password.isascii() and has_both
