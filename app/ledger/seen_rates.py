"""Rates seen where clients trade: kept when they are plausible, and not more often than a rate has use for.

What a trading server says is not checked by people, so it must be near what is known of the pair already, from the central
bank or a manual rate. A pair that nobody has known before begins with a manual rate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import InvalidMoney, exponent, parent
from app.core.uow import unit_of_work
from app.ledger.known_rates import KnownRates
from app.ledger.rates import Observation, known, record

log = logging.getLogger("lotwise.fx")

SOURCE = "mt"
#: Of each pair one rate in so long a time: four within the hour that it may be used for.
EVERY = timedelta(minutes=15)
#: How far from the rate known so far it may lie.
BOUND = Decimal("0.2")
#: A smaller number has too few digits left in the ten decimals that are kept.
_SMALLEST, _UNIT = Decimal("0.001"), Decimal("0.0000000001")
_ACTOR = Actor.system("observe_rates")


@dataclass(frozen=True)
class Seen:
    """1 `base` was `rate` `quote` at a moment; `reference` says where, such as a server and the ticket of a deal."""

    base: str
    quote: str
    rate: Decimal
    at: datetime
    reference: str


def record_seen(session: Session, seen: Iterable[Seen]) -> int:
    """Record what is plausible and not too soon; of several rates of a pair the first. Returns how many were recorded."""
    with unit_of_work(session, _ACTOR):
        before = known(session)
        kept: dict[frozenset[str], Observation] = {}
        for one in seen:
            made = _observation(one)
            pair = frozenset((made.base, made.quote)) if made else frozenset()
            if made and len(pair) == 2 and pair not in kept and _is_new(made, before) and _is_plausible(made, before):
                kept[pair] = made
        return record(session, list(kept.values()))


def _observation(one: Seen) -> Observation | None:
    """The rate between currencies with a value of their own; None where one is unknown, or too few digits are left."""
    try:
        for currency in (one.base, one.quote):
            exponent(currency)
    except InvalidMoney:
        return None
    (base, base_factor), (quote, quote_factor) = parent(one.base), parent(one.quote)
    rate = (one.rate * base_factor / quote_factor).quantize(_UNIT)
    return Observation(SOURCE, base, quote, rate, one.at, one.reference) if rate >= _SMALLEST else None


def _is_new(made: Observation, before: KnownRates) -> bool:
    last = before.newest(SOURCE, made.base, made.quote)
    return made.observed_at <= before.at and (
        last is None or last.observed_at is None or last.observed_at + EVERY <= made.observed_at
    )


def _is_plausible(made: Observation, before: KnownRates) -> bool:
    expected = before.find(made.base, made.quote, stale_too=True)
    if expected is None:
        log.info("first rate of a pair left out pair=%s/%s seen=%s", made.base, made.quote, made.reference)
        return False
    if abs(made.rate - expected.rate) > expected.rate * BOUND:
        log.warning(
            "implausible rate left out pair=%s/%s rate=%s expected=%s seen=%s",
            made.base,
            made.quote,
            made.rate,
            expected.rate,
            made.reference,
        )
        return False
    return True
