"""Money as whole minor units with a currency; no floats, no silent rounding.

The exponent (digits after the point) of a currency is fixed: ISO 4217's, or the one given here for the few units that
brokers hold beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, Inexact, localcontext
from functools import cache

import iso4217

from app.core.errors import N_, InvalidInput

#: Units that ISO 4217 does not list: cent account currencies (1 USC = 0.01 USD) and crypto at eight digits or fewer.
EXTRA_EXPONENTS = {"USC": 2, "EUC": 2, "BTC": 8, "ETH": 8, "USDT": 6, "USDC": 6}

#: The largest amount a bigint column holds.
MAX_AMOUNT_MINOR = 2**63 - 1

#: Digits with at most one point: what a person types for an amount. No exponent, no separators of thousands.
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_LONGEST_TEXT = 60


class InvalidMoney(InvalidInput):
    code = "money.invalid"
    message = N_("This is not a valid amount.")


@cache
def exponent(currency: str) -> int:
    """Digits after the decimal point of a currency, 0 to 8. Raises InvalidMoney for a code nobody knows."""
    if currency in EXTRA_EXPONENTS:
        return EXTRA_EXPONENTS[currency]
    try:
        digits = iso4217.Currency(currency).exponent
    except ValueError:
        raise InvalidMoney(message=N_("Unknown currency %(currency)s."), currency=str(currency)[:12]) from None
    if digits is None:
        raise InvalidMoney(message=N_("Unknown currency %(currency)s."), currency=currency)
    return int(digits)


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
