"""Personal terms of IBs: rates of their own, a multiplier, and what they hand on to the trader. Pure.

The moment, and which span of an IB's terms holds then, are the business of app/commissions/snapshots.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol

from app.commissions.deals import EXACT
from app.commissions.plans import Rule, Term, terms_of


@dataclass(frozen=True, slots=True)
class PersonalTerms:
    """What was agreed with one IB. `rates` are the IB's own, by the plan's id and the rule's key; they stand in place of the
    rule's rate, or of the rate of the IB's level. `multiplier` multiplies all that the IB gets. `hand_on_percent` is the part
    of its pay as the client's own IB that goes to the trader.
    """

    multiplier: Decimal | None = None
    rates: Mapping[tuple[int, str], Decimal] = field(default_factory=dict)
    hand_on_percent: Decimal | None = None


class WithTerms(Protocol):
    """An IB of an upline, as far as it matters here."""

    @property
    def terms(self) -> PersonalTerms | None: ...


def terms_for(rule: Rule, plan_id: int, upline: Sequence[WithTerms]) -> Sequence[Term]:
    """What each IB of an upline, nearest first, gets of what a rule measured; longer or shorter than the upline."""
    for above in upline:  # of nearly every deal nothing was agreed with anybody, and every deal comes this way
        if above.terms is not None:
            break
    else:
        return rule.terms
    agreed = [above.terms for above in upline]
    own = [terms.rates.get((plan_id, rule.key)) if terms else None for terms in agreed]
    given = list(terms_of(rule, own)) if any(rate is not None for rate in own) else list(rule.terms)
    for index, (terms, term) in enumerate(zip(agreed, given, strict=False)):
        if terms and terms.multiplier is not None:
            factor = EXACT.multiply(term.factor, terms.multiplier)
            given[index] = replace(term, factor=factor, multiplier=terms.multiplier)
    return given
