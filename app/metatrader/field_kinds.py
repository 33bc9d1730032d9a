"""How one value stands in text fields: the kinds of fields, each strict in reading.

Reading refuses what a server cannot have meant: a missing or malformed number, a negative volume, text over the limit,
characters that no database text can hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from app.metatrader.platform import UNITS_PER_OLD_UNIT

BIGINT_MAX = 2**63 - 1
INT_MAX = 2**31 - 1

#: Wall-clock milliseconds that a server can have: the years 2000 to 2099.
TIME_MS_MIN = 946_684_800_000
TIME_MS_MAX = 4_102_444_799_999

#: The same as a pattern, but for some years at both ends.
TIME_MS_SHAPE = "9[5-9][0-9]{10}|[1-3][0-9]{12}"
_TIME_S_SHAPE = "9[5-9][0-9]{7}|[1-3][0-9]{9}"

#: Minutes that a clock on Earth can be ahead of UTC.
OFFSET_MIN, OFFSET_MAX = -12 * 60, 14 * 60
#: How far a server's clock may run ahead of ours before a time counts as impossible.
CLOCK_AHEAD_S = 86_400

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,16})?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether a database can hold the text: no NUL, no half of a surrogate pair."""
    return not _UNSTORABLE.search(text)


class FieldError(ValueError):
    """A field is missing or its text cannot be meant. `reason` names the field and what is wrong, without long values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Kind(Protocol):
    """How one attribute stands in the fields. `shape` and `parse` are for those who read many (canonical.py)."""

    @property
    def name(self) -> str: ...

    @property
    def parse(self) -> Callable[[Any], Any]:
        """From the text in the group of `shape` to the value, as `read` gives it."""

    def read(self, raw: Mapping[str, Any]) -> Any: ...

    def write(self, value: Any) -> dict[str, str]: ...

    def shape(self, group: str) -> str:
        """A pattern of what `write` gives, as JSON, with the value's text in a group. It may leave out rare values, never
        let through what `read` refuses.
        """


def _raw_text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        raise FieldError(f"{name} is not text")
    return value


@dataclass(frozen=True)
class Whole:
    """A whole number in a range. `also` is the name that older servers use; `missing` stands in for an absent field."""

    name: str
    low: int = 0
    high: int = BIGINT_MAX
    missing: int | None = None
    also: str = ""

    def read(self, raw: Mapping[str, Any]) -> int:
        text = _raw_text(raw, self.name)
        if text is None and self.also:
            text = _raw_text(raw, self.also)
        if text is None:
            if self.missing is None:
                raise FieldError(f"{self.name} is missing")
            return self.missing
        if not _INTEGER.fullmatch(text):
            raise FieldError(f"{self.name} is not a whole number: {text[:24]!r}")
        value = int(text)
        if not self.low <= value <= self.high:
            raise FieldError(f"{self.name} is out of range: {value}")
        return value

    def write(self, value: int) -> dict[str, str]:
        return {self.name: str(value)}

    @property
    def parse(self) -> Callable[[Any], Any]:
        return int

    def shape(self, group: str) -> str:
        if self.high < 10:
            return _field(self.name, f"(?P<{group}>[{self.low}-{self.high}])")
        digits = f"[1-9][0-9]{{0,{len(str(self.high)) - 2}}}"
        return _field(self.name, f"(?P<{group}>{digits})" if self.low else f"(?P<{group}>0|{digits})")


@dataclass(frozen=True)
class Number:
    """An exact decimal: 12 digits before the point at most, no exponent, no infinity."""

    name: str
    missing: Decimal | None = None

    def read(self, raw: Mapping[str, Any]) -> Decimal:
        text = _raw_text(raw, self.name)
        if text is None:
            if self.missing is None:
                raise FieldError(f"{self.name} is missing")
            return self.missing
        if not _DECIMAL.fullmatch(text):
            raise FieldError(f"{self.name} is not a decimal number: {text[:24]!r}")
        return Decimal(text)

    def write(self, value: Decimal) -> dict[str, str]:
        return {self.name: format(value, "f")}

    @property
    def parse(self) -> Callable[[Any], Any]:
        return Decimal

    def shape(self, group: str) -> str:
        return _field(self.name, rf"(?P<{group}>-?[0-9]{{1,12}}(?:\.[0-9]{{1,16}})?)")


@dataclass(frozen=True)
class Words:
    """Text of limited length that every store of ours can hold."""

    name: str
    limit: int
    missing: str | None = ""

    def read(self, raw: Mapping[str, Any]) -> str:
        text = _raw_text(raw, self.name)
        if text is None:
            if self.missing is None:
                raise FieldError(f"{self.name} is missing")
            return self.missing
        if len(text) > self.limit:
            raise FieldError(f"{self.name} is longer than {self.limit} characters")
        if not is_storable(text):
            raise FieldError(f"{self.name} holds characters that are no text")
        return text

    def write(self, value: str) -> dict[str, str]:
        return {self.name: value}

    @property
    def parse(self) -> Callable[[Any], Any]:
        return _unescaped

    def shape(self, group: str) -> str:
        """Of what JSON escapes only the backslash, which groups have in their names."""
        return _field(self.name, rf'(?P<{group}>(?:[^"\\\x00-\x1f\x7f]|\\\\){{0,{self.limit}}})')


@dataclass(frozen=True)
class Volume:
    """A volume in 1/100000000 lot under NameExt, beside the older Name in 1/10000 lot; old servers send only that."""

    name: str
    missing: int | None = None

    def read(self, raw: Mapping[str, Any]) -> int:
        high = BIGINT_MAX // UNITS_PER_OLD_UNIT
        has_old, has_fine = self.name in raw, f"{self.name}Ext" in raw
        if not has_old and not has_fine and self.missing is not None:
            return self.missing
        old = Whole(self.name, high=high).read(raw) if has_old or not has_fine else None
        fine = Whole(f"{self.name}Ext").read(raw) if has_fine else None
        if fine is None or (fine == 0 and old):
            return (old or 0) * UNITS_PER_OLD_UNIT
        if old is not None and abs(fine - old * UNITS_PER_OLD_UNIT) >= UNITS_PER_OLD_UNIT:
            raise FieldError(f"{self.name} and {self.name}Ext contradict each other")
        return fine

    def write(self, value: int) -> dict[str, str]:
        return {self.name: str(value // UNITS_PER_OLD_UNIT), f"{self.name}Ext": str(value)}

    @property
    def parse(self) -> Callable[[Any], Any]:
        return _units

    def shape(self, group: str) -> str:
        """Zero, or the old unit and the same digits with four more behind them."""
        none = f"{_field(self.name, '0')},{_field(f'{self.name}Ext', '0')}"
        some = _field(self.name, f"(?P<{group}_old>[1-9][0-9]{{0,13}})")
        return f"(?:{none}|{some},{_field(f'{self.name}Ext', f'(?P<{group}>(?P={group}_old)[0-9]{{4}})')})"


@dataclass(frozen=True)
class Moment:
    """Server wall-clock milliseconds under NameMsc, beside the same in seconds under Name.

    `may_be_never`: 0, or no field at all, says that it has not come. `in_seconds`: MetaTrader has no NameMsc for it.
    """

    name: str
    may_be_never: bool = False
    in_seconds: bool = False

    def read(self, raw: Mapping[str, Any]) -> int:
        fine = not self.in_seconds and f"{self.name}Msc" in raw
        name, ms = (f"{self.name}Msc", 1) if fine else (self.name, 1000)
        if self.may_be_never and raw.get(name, "0") == "0":
            return 0
        return ms * Whole(name, TIME_MS_MIN // ms, TIME_MS_MAX // ms).read(raw)

    def write(self, value: int) -> dict[str, str]:
        seconds = {self.name: str(value // 1000)}
        return seconds if self.in_seconds else {**seconds, f"{self.name}Msc": str(value)}

    @property
    def parse(self) -> Callable[[Any], Any]:
        return _from_seconds if self.in_seconds else int

    def shape(self, group: str) -> str:
        never = "0|" if self.may_be_never else ""
        if self.in_seconds:
            return _field(self.name, f"(?P<{group}>{never}{_TIME_S_SHAPE})")
        fine = _field(f"{self.name}Msc", f"(?P<{group}>{never}{TIME_MS_SHAPE})")
        return f"{_field(self.name, '[0-9]{1,10}')},{fine}"


def _unescaped(text: str) -> str:
    return text.replace("\\\\", "\\") if "\\" in text else text


def _units(text: str | None) -> int:
    return int(text) if text else 0


def _from_seconds(text: str) -> int:
    return 1000 * int(text)


def _field(name: str, pattern: str) -> str:
    return f'"{name}":"{pattern}"'
