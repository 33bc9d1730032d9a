"""Components: the ways a rule can turn a deal into an amount. Pure functions, registered by name.

A component answers with the whole amount its rule gives for the deal; the engine shares it over the levels of the tree
and rounds. How to add one: docs/commissions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from app.commissions.deals import EXACT, DealFacts


@dataclass(frozen=True, slots=True)
class Pool:
    """What a rule gives for a deal before it is shared: lots counted, rate, and the exact amount in the rule's currency."""

    lots: Decimal
    rate: Decimal
    amount: Decimal


Component = Callable[[DealFacts, Decimal], Pool]

COMPONENTS: dict[str, Component] = {}


def component(name: str) -> Callable[[Component], Component]:
    """Register a function as the component `name` of rules documents."""

    def register(function: Component) -> Component:
        if name in COMPONENTS:
            raise ValueError(f"commission component {name!r} is registered twice")
        COMPONENTS[name] = function
        return function

    return register


@component("per_lot")
def per_lot(deal: DealFacts, rate: Decimal) -> Pool:
    """A fixed amount for each lot closed."""
    lots = deal.lots_closed
    return Pool(lots, rate, EXACT.multiply(lots, rate))
