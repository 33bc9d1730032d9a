"""Reading filters from the address of a page: what is typed there is anybody's, so everything is checked and nothing breaks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import request, url_for
from flask_babel import gettext

from app.core.clock import now
from app.core.errors import AppError
from app.core.money import MAX_AMOUNT_MINOR, Money, exponent
from app.surfaces.errors import sentence

LONGEST_TEXT = 120
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2100, 12, 31)


class Filters:
    """The filters of one request. Each method reads one; what it cannot read counts as empty and stands in `problems`."""

    def __init__(self, endpoint: str = "", **place: Any) -> None:
        """`endpoint` with the values of its address: the page of the list, where another one shows it again."""
        self._endpoint, self._place = endpoint, place
        self.problems: dict[str, str] = {}
        #: What was typed, for the form and for links to the same list.
        self.given: dict[str, str] = {}

    @property
    def wants_csv(self) -> bool:
        """Whether the table is asked for as a file."""
        return self.wanted_file == "csv"

    @property
    def wanted_file(self) -> str:
        """Csv or xlsx where the table is asked for as a file, else empty."""
        wanted = request.args.get("export", "")
        return wanted if wanted in {"csv", "xlsx"} else ""

    @property
    def page(self) -> str:
        """The address of this page without filters."""
        return url_for(self._endpoint or request.endpoint or "", **self._where)

    @property
    def _where(self) -> dict[str, Any]:
        return self._place if self._endpoint else dict(request.view_args or {})

    def address(self, **changes: object) -> str:
        """The address of this page with the same filters and these changes; None leaves one out."""
        values: dict[str, Any] = {**self._where, **self.given, **changes}
        return url_for(self._endpoint or request.endpoint or "", **values)  # None is left out by url_for itself

    def text(self, name: str, longest: int = LONGEST_TEXT) -> str:
        """A text without control characters."""
        value = request.args.get(name, "").strip()
        if not value:
            return ""
        self.given[name] = value[: longest * 2]
        if len(value) > longest or not value.isprintable():
            return self._wrong(name, gettext("This text is too long, or has characters that nothing here has."))
        return value

    def choice(self, name: str, choices: Collection[str]) -> str:
        """One of the choices."""
        value = self.text(name)
        if value and value not in choices:
            return self._wrong(name, gettext("Please choose one of the list."))
        return value

    def whole(self, name: str) -> int | None:
        """A whole number from zero to what a key can be."""
        value = self.text(name)
        if not value:
            return None
        if not _is_key(value):
            self._wrong(name, gettext("Please give a whole number."))
            return None
        return int(value)

    def day(self, name: str) -> date | None:
        """A day of this century, written as 2026-11-30."""
        value = self.text(name)
        if not value:
            return None
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = None
        if day is None or not FIRST_DAY <= day <= LAST_DAY:
            self._wrong(name, gettext("Please give a day such as 2026-11-30."))
            return None
        return day

    def as_of(self, name: str) -> tuple[date | None, datetime | None]:
        """A day that has begun, and the moment it ends at in UTC; both None for now."""
        day = self.day(name)
        if day and day > now().date():
            self._wrong(name, gettext("This day has not come yet."))
        return day, start_of(day + timedelta(days=1)) if day else None

    def days(self, first: str, last: str) -> tuple[datetime | None, datetime | None]:
        """Two days as moments: the start of the first, and the end of the last, which is the start of the next. In UTC."""
        start, end = self.day(first), self.day(last)
        if start and end and end < start:
            self._wrong(last, gettext("The last day lies before the first."))
            return None, None
        return start_of(start), start_of(end + timedelta(days=1)) if end else None

    def currency(self, name: str) -> str:
        """A currency that there is; small letters will do."""
        value = self.text(name).upper()
        try:
            if value:
                exponent(value)
        except AppError as error:
            return self._wrong(name, sentence(error))
        return value

    def amount_minor(self, name: str, currency: str) -> int | None:
        """An amount of this currency, in minor units."""
        value = self.text(name)
        if not value:
            return None
        if not currency:
            self._wrong(name, gettext("An amount needs a currency."))
            return None
        try:
            return Money.parse(value, currency).amount_minor
        except AppError as error:
            self._wrong(name, sentence(error))
            return None

    def after(self, name: str) -> str:
        """Where the page begins: the code of the last row before it, from a link."""
        value = self.text(name)
        self.given.pop(name, None)
        return value

    def after_txn(self, name: str) -> UUID | None:
        """The same, as the id of a transaction."""
        value = self.after(name)
        try:
            return UUID(value) if value else None
        except ValueError:
            self._damaged(name)
            return None

    def after_number(self, name: str) -> int | None:
        """The same, as a whole number."""
        value = self.after(name)
        if value and not _is_key(value):
            self._damaged(name)
            return None
        return int(value) if value else None

    def _damaged(self, name: str) -> None:
        self._wrong(name, gettext("This link is damaged. Please go back to the first page."))

    def _wrong(self, name: str, problem: str) -> str:
        self.problems[name] = problem
        return ""


def _is_key(value: str) -> bool:
    """Whether a text is a whole number that a key can be."""
    return value.isascii() and value.isdecimal() and len(value) < 20 and int(value) <= MAX_AMOUNT_MINOR


def start_of(day: date | None) -> datetime | None:
    """The first moment of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None
