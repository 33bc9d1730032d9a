"""Choosing a rate among those known at a moment: by source, by age, direct, turned round, or through a third currency.

Pure: docs/fx.md has the rules in words, tests/vectors/fx the cases. A rate is one fraction of those it is made of, rounded
once, at so many digits that no amount the ledger can hold feels it: 112.00 USD at 1.12 are 100.00 EUR, not a cent less, and
there and back never gains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_UP, Context, Decimal
from itertools import pairwise

from app.core.money import parent

#: Significant digits of a rate we use, three more than the largest amount has, and the decimals that a quote keeps of it.
DIGITS = 22
DECIMALS = 32
_UP = Context(prec=DIGITS, rounding=ROUND_UP)
_EXACT = Context(prec=100)

#: The currencies through which two others meet, in this order: the bank has all its rates to the euro, others to the dollar.
BRIDGES: tuple[tuple[str, ...], ...] = (("EUR",), ("USD",), ("USD", "EUR"), ("EUR", "USD"))

#: The source of a rate that is so by definition: 1 USD is 100 USC.
FIXED = "fixed"


@dataclass(frozen=True)
class RateUsed:
    """A rate that another was made of: 1 `base` is `rate` `quote`. One that is fixed has neither id nor moment."""

    id: int | None
    source: str
    base: str
    quote: str
    rate: Decimal
    observed_at: datetime | None

    def document(self) -> dict[str, str]:
        """What a quote and a transaction keep of it."""
        return {
            "id": "" if self.id is None else str(self.id),
            "source": self.source,
            "pair": f"{self.base}/{self.quote}",
            "rate": rate_text(self.rate),
            "observed_at": self.observed_at.isoformat() if self.observed_at else "",
        }


@dataclass(frozen=True)
class FoundRate:
    """1 unit of one currency in another, and the rates it was made of. Stale: at least one of them is too old to convert."""

    rate: Decimal
    sources: tuple[RateUsed, ...] = ()
    is_stale: bool = False

    @property
    def observed_at(self) -> datetime | None:
        """The moment of the oldest rate in it; None when all are fixed."""
        return min((used.observed_at for used in self.sources if used.observed_at), default=None)

    @property
    def source(self) -> str:
        """The sources by name, each once, such as "ecb" or "mt+ecb"."""
        return "+".join(dict.fromkeys(used.source for used in self.sources))


@dataclass(frozen=True)
class SourceRule:
    """How much a source is trusted: of those young enough, the lowest rank counts."""

    rank: int
    max_age_s: int


@dataclass(frozen=True)
class _Way:
    """The rates from one currency to another, as a fraction: those along the way above, those against it below."""

    above: Decimal = Decimal(1)
    below: Decimal = Decimal(1)
    sources: tuple[RateUsed, ...] = ()
    is_stale: bool = False


class KnownRates:
    """What is known at one moment: at most one rate of each source and pair, its newest."""

    def __init__(self, rates: Iterable[RateUsed], rules: Mapping[str, SourceRule], at: datetime) -> None:
        self.at = at
        self._rules = rules
        self._by_pair: dict[frozenset[str], list[RateUsed]] = {}
        for used in rates:
            self._by_pair.setdefault(frozenset((used.base, used.quote)), []).append(used)

    def find(self, base: str, quote: str, *, stale_too: bool = False) -> FoundRate | None:
        """1 `base` in `quote`, rounded up at the 22nd digit; None when nothing young enough is known.

        With `stale_too` an old rate is found where there is no young one, and says so.
        """
        if base == quote:
            return FoundRate(Decimal(1))
        (base_parent, base_factor), (quote_parent, quote_factor) = parent(base), parent(quote)
        way = _Way() if base_parent == quote_parent else self._between(base_parent, quote_parent, stale_too=stale_too)
        if way is None:
            return None
        rate = _quotient(_EXACT.multiply(way.above, Decimal(quote_factor)), _EXACT.multiply(way.below, Decimal(base_factor)))
        return FoundRate(rate, (*_fixed(base), *way.sources, *_fixed(quote)), way.is_stale)

    def newest(self, source: str, one: str, other: str) -> RateUsed | None:
        """The newest rate of a pair from a source, in either direction."""
        return max(
            (used for used in self._by_pair.get(frozenset((one, other)), []) if used.source == source),
            key=_newest,
            default=None,
        )

    def pairs(self) -> list[tuple[str, str]]:
        """All pairs that rates were observed of, each once, in the direction of its newest one."""
        newest = (max(known, key=_newest) for known in self._by_pair.values())
        return sorted((used.base, used.quote) for used in newest)

    def good_until(self, found: FoundRate) -> datetime | None:
        """The last moment at which a rate made of these can be converted by; None for one that is fixed."""
        ends = (
            used.observed_at + timedelta(seconds=self._rules[used.source].max_age_s)
            for used in found.sources
            if used.observed_at is not None
        )
        return min(ends, default=None)

    def _between(self, base: str, quote: str, *, stale_too: bool) -> _Way | None:
        """The first way whose rates are all young: direct, or over a bridge. Of old ways, the one that is least old."""
        bridges = [bridge for bridge in BRIDGES if base not in bridge and quote not in bridge]
        ways = [(base, quote), *((base, *bridge, quote) for bridge in bridges)]
        for way in ways:
            found = self._along(way, stale_too=False)
            if found is not None:
                return found
        if not stale_too:
            return None
        old = [found for way in ways if (found := self._along(way, stale_too=True)) is not None]
        return max(old, key=lambda found: min(_newest(used)[0] for used in found.sources), default=None)

    def _along(self, way: tuple[str, ...], *, stale_too: bool) -> _Way | None:
        found = _Way()
        for base, quote in pairwise(way):
            used = self._best(base, quote, stale_too=stale_too)
            if used is None:
                return None
            straight = used.base == base
            found = _Way(
                _EXACT.multiply(found.above, used.rate) if straight else found.above,
                found.below if straight else _EXACT.multiply(found.below, used.rate),
                (*found.sources, used),
                found.is_stale or not self._is_young(used),
            )
        return found

    def _best(self, base: str, quote: str, *, stale_too: bool) -> RateUsed | None:
        """The same row for either direction, so that there and back never gains."""
        known = self._by_pair.get(frozenset((base, quote)), [])
        young = [used for used in known if self._is_young(used)]
        if young:
            best = min(self._rules[used.source].rank for used in young)
            return max((used for used in young if self._rules[used.source].rank == best), key=_newest)
        return max(known, key=_newest, default=None) if stale_too else None

    def _is_young(self, used: RateUsed) -> bool:
        assert used.observed_at is not None  # only rates that were observed are known
        return self.at - used.observed_at <= timedelta(seconds=self._rules[used.source].max_age_s)


def rate_text(rate: Decimal) -> str:
    """A rate as text: no exponent, no zeros at the end."""
    text = format(rate, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _newest(used: RateUsed) -> tuple[datetime, int]:
    assert used.observed_at is not None
    return used.observed_at, used.id or 0


def _fixed(currency: str) -> list[RateUsed]:
    of, factor = parent(currency)
    return [] if of == currency else [RateUsed(None, FIXED, of, currency, Decimal(factor), None)]


def _quotient(above: Decimal, below: Decimal) -> Decimal:
    rate = _UP.divide(above, below)
    if -int(rate.as_tuple().exponent) <= DECIMALS:
        return rate
    return rate.quantize(Decimal(1).scaleb(-DECIMALS), rounding=ROUND_UP, context=_EXACT)
