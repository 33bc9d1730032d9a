"""Money as whole minor units with a currency; no floats, no silent rounding.

The exponent (digits after the point) of a currency is fixed: ISO 4217's, or the configured one of the few units that
brokers hold beside it, crypto and cents of a currency. A process is told of them once, by `configure`, before it counts
any money.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, Inexact, localcontext
from functools import cache

import iso4217

from app.core.errors import N_, InvalidInput

#: What brokers hold beside ISO 4217's currencies: cent accounts' units (100 USC are 1 USD) and crypto.
DEFAULT_EXTRA_CURRENCIES = "USC:2=USD/100,EUC:2=EUR/100,BTC:8,ETH:8,USDT:6,USDC:6"
DEFAULT_REPORTING_CURRENCY = "USD"
MAX_EXPONENT = 8

#: The largest amount a bigint column holds.
MAX_AMOUNT_MINOR = 2**63 - 1

#: Digits with at most one point: what a person types for an amount. No exponent, no separators of thousands.
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_LONGEST_TEXT = 60


class InvalidMoney(InvalidInput):
    code = "money.invalid"
    message = N_("This is not a valid amount.")


@dataclass(frozen=True)
class ExtraCurrency:
    """A unit that ISO 4217 does not list. A cent currency has a parent, of which one unit makes `factor` of it."""

    code: str
    exponent: int
    parent: str | None = None
    factor: int = 1


_EXTRA = re.compile(r"([A-Z][A-Z0-9]{2,7}):([0-9])(?:=([A-Z][A-Z0-9]{2,7})/(10+))?")


def parse_extra_currencies(text: str) -> tuple[ExtraCurrency, ...]:
    """The units in a text such as "BTC:8,USC:2=USD/100": code, exponent and, for a cent currency, parent and factor.

    The factor is a power of ten, so that the rate to the parent is exact both ways. Raises ValueError with one line for
    the first that cannot be meant.
    """
    found: dict[str, ExtraCurrency] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _EXTRA.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not like BTC:8 or USC:2=USD/100 (the factor a power of ten)")
        code, digits, parent, factor = match[1], int(match[2]), match[3], int(match[4] or 1)
        if digits > MAX_EXPONENT:
            raise ValueError(f"{code} has {digits} decimals; {MAX_EXPONENT} is the most")
        if code in found or _iso_exponent(code) is not None:
            raise ValueError(f"{code} is {'named twice' if code in found else 'a currency of ISO 4217'}")
        found[code] = ExtraCurrency(code, digits, parent, factor)
    for extra in found.values():
        if extra.parent and not has_own_value(extra.parent, found.values()):
            raise ValueError(f"{extra.parent}, the parent of {extra.code}, is no currency with a value of its own")
    return tuple(found.values())


def has_own_value(code: str, extra: Iterable[ExtraCurrency]) -> bool:
    """Whether the code is a currency of ISO 4217, or one of `extra` that follows no parent."""
    listed = {currency.code: currency for currency in extra}
    return listed[code].parent is None if code in listed else _iso_exponent(code) is not None


_extra: dict[str, ExtraCurrency] = {}
_reporting = [DEFAULT_REPORTING_CURRENCY]


def configure(extra: Iterable[ExtraCurrency], reporting: str = DEFAULT_REPORTING_CURRENCY) -> None:
    """Tell this process which units there are beside ISO 4217's, and in which currency the house keeps its reports.

    Called once, where the settings become known. Raises InvalidMoney for a reporting currency nobody knows.
    """
    known = {currency.code: currency for currency in extra}
    _extra.clear()
    _extra.update(known)
    exponent.cache_clear()
    exponent(reporting)
    _reporting[0] = reporting


def reporting_currency() -> str:
    """The currency in which the house adds up what it has in many."""
    return _reporting[0]


def parent(currency: str) -> tuple[str, int]:
    """The currency whose value this one follows, and how many units of this one make one of it.

    A cent currency has its parent, such as ("USD", 100) for USC; any other is its own: ("EUR", 1) for EUR.
    """
    extra = _extra.get(currency)
    return (extra.parent, extra.factor) if extra and extra.parent else (currency, 1)


@cache
def exponent(currency: str) -> int:
    """Digits after the decimal point of a currency, 0 to 8. Raises InvalidMoney for a code nobody knows."""
    if currency in _extra:
        return _extra[currency].exponent
    digits = _iso_exponent(currency)
    if digits is None:
        raise InvalidMoney(message=N_("Unknown currency %(currency)s."), currency=str(currency)[:12])
    return digits


def _iso_exponent(currency: str) -> int | None:
    """ISO 4217's; None for a code it does not list, and for what it lists without minor units, such as gold."""
    try:
        digits = iso4217.Currency(currency).exponent
    except ValueError:
        return None
    return None if digits is None else int(digits)


configure(parse_extra_currencies(DEFAULT_EXTRA_CURRENCIES))


@dataclass(frozen=True, order=False)
class Money:
    """An exact amount: `amount_minor` whole minor units of `currency`."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if isinstance(self.amount_minor, bool) or not isinstance(self.amount_minor, int):
            raise InvalidMoney()
        if abs(self.amount_minor) > MAX_AMOUNT_MINOR:
            raise InvalidMoney(message=N_("This amount is too large."))
        exponent(self.currency)

    @classmethod
    def parse(cls, text: object, currency: str) -> Money:
        """Money from a plain decimal text such as "12.30", or an exact Decimal.

        Refuses more digits than the currency has, exponents and separators, NaN, infinity, and any other type: a float is
        not exact, and a whole number does not say which unit it counts. Raises InvalidMoney.
        """
        digits = exponent(currency)
        if isinstance(text, Decimal):
            value = text
        elif isinstance(text, str) and len(text) <= _LONGEST_TEXT and _PLAIN.fullmatch(text.strip()):
            value = Decimal(text.strip())
        else:
            raise InvalidMoney()
        if not value.is_finite():
            raise InvalidMoney()
        if value.adjusted() > 20:
            raise InvalidMoney(message=N_("This amount is too large."))
        try:
            with localcontext(prec=60) as context:
                context.traps[Inexact] = True
                return cls(int(value.scaleb(digits).quantize(Decimal(1))), currency)
        except Inexact:
            raise InvalidMoney(
                message=N_("%(currency)s has %(digits)s decimals at most."), currency=currency, digits=digits
            ) from None

    @classmethod
    def zero(cls, currency: str) -> Money:
        return cls(0, currency)

    @classmethod
    def round_down(cls, value: Decimal, currency: str) -> Money:
        """The exact value rounded towards zero to minor units; what is cut off is the caller's to carry."""
        if not value.is_finite():
            raise InvalidMoney()
        if value.adjusted() > 20:
            raise InvalidMoney(message=N_("This amount is too large."))
        with localcontext(prec=60):
            return cls(int(value.scaleb(exponent(currency)).to_integral_value(rounding=ROUND_DOWN)), currency)

    @property
    def decimal(self) -> Decimal:
        """The amount in major units, exact."""
        return Decimal(self.amount_minor).scaleb(-exponent(self.currency))

    def __str__(self) -> str:
        return f"{self.decimal:f} {self.currency}"

    def __bool__(self) -> bool:
        return self.amount_minor != 0

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_minor, self.currency)

    def __abs__(self) -> Money:
        return Money(abs(self.amount_minor), self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount_minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.amount_minor <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.amount_minor > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.amount_minor >= self._same(other)

    def allocate(self, weights: list[int]) -> list[Money]:
        """Split without loss in proportion to whole weights: the parts' sum is the whole, earlier parts get the odd units."""
        total = sum(weights)
        if total <= 0 or any(weight < 0 for weight in weights):
            raise InvalidMoney(message=N_("Shares must be positive."))
        sign = -1 if self.amount_minor < 0 else 1
        amount = abs(self.amount_minor)
        parts = [amount * weight // total for weight in weights]
        rest = amount - sum(parts)
        for index, weight in enumerate(weights):
            if rest and weight:
                parts[index] += 1
                rest -= 1
        return [Money(sign * part, self.currency) for part in parts]

    def _same(self, other: object) -> int:
        if not isinstance(other, Money) or other.currency != self.currency:
            raise TypeError(f"cannot combine {self.currency} with {getattr(other, 'currency', type(other).__name__)}")
        return other.amount_minor
