"""Exchange rates: kept as they were observed, never changed, never invented.

Each rate has a source (docs/fx.md): `manual`, `mt` or `ecb`. Which one counts at a moment is decided in known_rates.py;
here the known ones are read and new ones recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.money import Money, exponent
from app.ledger.errors import NoRate, StaleRate
from app.ledger.known_rates import FoundRate, KnownRates, RateUsed, SourceRule
from app.models.fx import FXSource

__all__ = ["FoundRate", "Observation", "RateBook", "RateUsed", "Valued", "known", "rate_at", "record", "value"]

#: Enough for any amount times any rate, exactly.
_EXACT = Context(prec=80)

#: One probe of an index for each source and pair, however many rates there are.
_NEWEST = text(
    """
    WITH RECURSIVE pair AS (
        (SELECT source, base, quote FROM fx_rate ORDER BY source, base, quote LIMIT 1)
        UNION ALL
        SELECT later.source, later.base, later.quote
          FROM pair
         CROSS JOIN LATERAL (SELECT r.source, r.base, r.quote FROM fx_rate r
                              WHERE (r.source, r.base, r.quote) > (pair.source, pair.base, pair.quote)
                              ORDER BY r.source, r.base, r.quote LIMIT 1) AS later
    )
    SELECT newest.id, pair.source, pair.base, pair.quote, newest.rate, newest.observed_at
      FROM pair
     CROSS JOIN LATERAL (SELECT r.id, r.rate, r.observed_at FROM fx_rate r
                          WHERE r.source = pair.source AND r.base = pair.base AND r.quote = pair.quote
                            AND r.observed_at <= :at
                          ORDER BY r.observed_at DESC LIMIT 1) AS newest
    """
)
_RECORD = text(
    """
    INSERT INTO fx_rate (source, base, quote, rate, observed_at, reference)
    SELECT * FROM unnest(CAST(:sources AS text[]), CAST(:bases AS text[]), CAST(:quotes AS text[]),
                         CAST(:rates AS numeric[]), CAST(:moments AS timestamptz[]), CAST(:references AS text[]))
        ON CONFLICT DO NOTHING
    """
)


@dataclass(frozen=True)
class Observation:
    """A rate to be recorded: from `observed_at` on, 1 `base` is `rate` `quote`, says `source`."""

    source: str
    base: str
    quote: str
    rate: Decimal
    observed_at: datetime
    reference: str = ""


@dataclass(frozen=True)
class Valued:
    """What an amount is worth in another currency, unrounded. `amount` and `rate` are None where no rate is known."""

    amount: Decimal | None
    rate: Decimal | None
    source: str
    observed_at: datetime | None
    is_stale: bool


def known(session: Session, at: datetime | None = None) -> KnownRates:
    """All rates known at a moment (now, unless given), in two short queries."""
    moment = at or now()
    rules = {
        source.code: SourceRule(source.rank, source.max_age_s)
        for source in session.execute(select(FXSource.code, FXSource.rank, FXSource.max_age_s))
    }
    rows = session.execute(_NEWEST, {"at": moment})
    return KnownRates([RateUsed(*row) for row in rows], rules, moment)


def rate_at(session: Session, base: str, quote: str, at: datetime | None = None) -> FoundRate:
    """What 1 `base` is in `quote` at a moment (now, unless given), young enough to convert by, with all it was made of.

    Raises StaleRate when all that is known is too old, NoRate when nothing is known, InvalidMoney for a currency nobody knows.
    """
    for currency in (base, quote):
        exponent(currency)
    found = known(session, at).find(base, quote, stale_too=True)
    if found is None:
        raise NoRate(base=base, quote=quote)
    if found.is_stale:
        assert found.observed_at is not None  # what is fixed grows no older
        raise StaleRate(base=base, quote=quote, observed_at=f"{found.observed_at.astimezone(UTC):%Y-%m-%d %H:%M}")
    return found


def value(session: Session, money: Money, currency: str, at: datetime | None = None) -> Decimal | None:
    """What the amount is worth in `currency`, unrounded, for reports: an old rate counts too. None where none is known."""
    return RateBook(session, currency, at).value(money).amount


class RateBook:
    """Values of many amounts in one currency at one moment, from one read of the rates. For reports: old rates count."""

    def __init__(self, session: Session, currency: str, at: datetime | None = None) -> None:
        exponent(currency)
        self.currency = currency
        self._known = known(session, at)
        self._found: dict[str, FoundRate | None] = {}

    @property
    def at(self) -> datetime:
        return self._known.at

    def rate(self, currency: str) -> FoundRate | None:
        """1 unit of `currency` in the book's; None where no rate is known."""
        if currency not in self._found:
            self._found[currency] = self._known.find(currency, self.currency, stale_too=True)
        return self._found[currency]

    def value(self, money: Money) -> Valued:
        """What the amount is worth in the book's currency."""
        found = self.rate(money.currency)
        if found is None:
            return Valued(None, None, "", None, is_stale=False)
        amount = _EXACT.multiply(money.decimal, found.rate)
        return Valued(amount, found.rate, found.source, found.observed_at, found.is_stale)


def record(session: Session, observed: Sequence[Observation]) -> int:
    """Keep the rates that are new: one source says one thing of a pair at a moment. Returns how many were.

    The caller holds a unit of work.
    """
    if not observed:
        return 0
    columns = {
        "sources": [one.source for one in observed],
        "bases": [one.base for one in observed],
        "quotes": [one.quote for one in observed],
        "rates": [str(one.rate) for one in observed],
        "moments": [one.observed_at.isoformat() for one in observed],
        "references": [one.reference for one in observed],
    }
    return session.execute(_RECORD, columns).rowcount  # type: ignore[attr-defined,no-any-return]  # a DML result is a CursorResult
