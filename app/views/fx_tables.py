"""Tables of exchange rates: what counts now for each pair, and all that was recorded; on pages and as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select, or_, select

from app.extensions import db
from app.ledger import fx, proposals
from app.ledger.known_rates import FoundRate, KnownRates
from app.models.fx import FXPair, FXRate, FXSource
from app.surfaces.csv_files import Cell
from app.surfaces.filters import Filters
from app.views.fx_reference import source_words

CHUNK = 1000
USABLE = {"yes": _l("Can be converted by"), "no": _l("Too old, or not known")}


@dataclass(frozen=True)
class CurrentRate:
    """What 1 `base` is in `quote` at present; None where nothing is known. Past `good_until` nothing is converted by it."""

    base: str
    quote: str
    found: FoundRate | None
    good_until: datetime | None
    spread_bp: int

    @property
    def is_usable(self) -> bool:
        return self.found is not None and not self.found.is_stale

    @property
    def through(self) -> list[str]:
        """The pairs it was crossed from, when it was."""
        used = [f"{one.base}/{one.quote}" for one in self.found.sources] if self.found else []
        return used if len(used) > 1 else []


def current_rates(known: KnownRates) -> list[CurrentRate]:
    """One for each pair that a rate was observed of or that has a spread, by name."""
    spreads = {(pair.base, pair.quote): pair.spread_bp for pair in db.session.scalars(select(FXPair))}
    observed = known.pairs()
    seen = {frozenset(pair) for pair in observed}
    shown = []
    for base, quote in sorted([*observed, *(pair for pair in spreads if frozenset(pair) not in seen)]):
        found = known.find(base, quote, stale_too=True)
        basis_points = spreads.get((min(base, quote), max(base, quote)), fx.DEFAULT_SPREAD_BP)
        shown.append(CurrentRate(base, quote, found, known.good_until(found) if found else None, basis_points))
    return shown


def current_head() -> list[str]:
    return [
        gettext("Base"),
        gettext("Quote"),
        gettext("Rate"),
        gettext("Source"),
        gettext("Observed"),
        gettext("Good until"),
        gettext("Usable"),
        gettext("Spread, basis points"),
    ]


def current_row(one: CurrentRate) -> list[Cell]:
    found = one.found
    return [
        one.base,
        one.quote,
        found.rate if found else None,
        found.source if found else None,
        found.observed_at if found else None,
        one.good_until,
        gettext("Yes") if one.is_usable else gettext("No"),
        one.spread_bp,
    ]


def recorded(filters: Filters) -> Select[FXRate]:
    """The rates that the filters leave, in the order in which they were recorded, newest first."""
    query = select(FXRate).order_by(FXRate.id.desc())
    for name in ("currency", "other"):
        currency = filters.currency(name)
        if currency:
            query = query.where(or_(FXRate.base == currency, FXRate.quote == currency))
    source = filters.choice("source", sources())
    if source:
        query = query.where(FXRate.source == source)
    start, end = filters.days("from", "to")
    if start:
        query = query.where(FXRate.observed_at >= start)
    if end:
        query = query.where(FXRate.observed_at < end)
    return query


def recorded_head() -> list[str]:
    return [
        gettext("No."),
        gettext("Base"),
        gettext("Quote"),
        gettext("Rate"),
        gettext("Source"),
        gettext("Observed"),
        gettext("Recorded"),
        gettext("Reference"),
    ]


def recorded_rows(query: Select[FXRate]) -> Iterator[list[Cell]]:
    for one in db.session.scalars(query.execution_options(yield_per=CHUNK)):
        yield [one.id, one.base, one.quote, one.rate, one.source, one.observed_at, one.recorded_at, one.reference]


def sources() -> dict[str, str]:
    """The sources there are, by code, in words."""
    return {code: source_words(code) for code in db.session.scalars(select(FXSource.code).order_by(FXSource.rank))}


def proposal_of(one: FXRate) -> int | None:
    """The proposal that a manual rate comes from."""
    number = one.reference.removeprefix("proposal:")
    return int(number) if one.source == proposals.SOURCE and number.isdecimal() else None
