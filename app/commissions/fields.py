"""Reading a JSON object field by field, strictly. Pure: no database, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from app.core.errors import N_

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,10})?")


def is_whole(value: object) -> bool:
    """Whether it is a whole number; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


class Fields:
    """One JSON object being read. What is wrong is noted under its path; reading goes on with a harmless value."""

    def __init__(self, raw: object, path: str, problems: dict[str, str]) -> None:
        self.path = path
        self.problems = problems
        self._raw: Mapping[str, Any] = {}
        if isinstance(raw, dict):
            self._raw = raw
        else:
            problems[path] = N_("This must be an object with named fields.")

    def problem(self, name: str, message: str) -> None:
        """Note what is wrong with a field; the first problem of a field stands."""
        self.problems.setdefault(f"{self.path}.{name}", message)

    def only(self, *known: str) -> None:
        """Refuse every field that is not known: a misspelt filter would otherwise pay too much."""
        for name in self._raw:
            if name not in known:
                self.problem(str(name)[:40], N_("There is no such field."))

    def get(self, name: str, default: Any = None) -> Any:
        return self._raw.get(name, default)

    def inner(self, name: str) -> Fields:
        return Fields(self._raw.get(name, {}), f"{self.path}.{name}", self.problems)

    def text(self, name: str, default: str, pattern: re.Pattern[str], message: str) -> str:
        value = self._raw.get(name, default)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.problem(name, message)
            return default
        return value

    def choice(self, name: str, default: str, choices: Sequence[str] | Mapping[str, object]) -> str:
        value = self._raw.get(name, default)
        if not isinstance(value, str) or value not in choices:
            self.problem(name, N_("This is not one of the choices."))
            return default
        return value

    def number(self, name: str, value: object, harmless: str = "1") -> Decimal:
        """A decimal from its text. JSON's own numbers are refused: on their way they may have been rounded as floats."""
        if not isinstance(value, str):
            self.problem(name, N_('Write this number as text with up to 10 decimals, such as "7.50".'))
            return Decimal(harmless)
        if not _NUMBER.fullmatch(value):
            self.problem(name, N_("This must be a number with up to 10 decimals, such as 7.50."))
            return Decimal(harmless)
        return Decimal(value)

    def items(self, name: str, default: list[Any], most: int) -> list[Any]:
        value = self._raw.get(name, default)
        if not isinstance(value, list):
            self.problem(name, N_("This must be a list."))
            return default
        if len(value) > most:
            self.problem(name, N_("This list is too long."))
            return default
        return value
