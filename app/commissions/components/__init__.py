"""Components: what of a deal a rule pays for. One file with one function each, registered by name, found by itself.

A component measures the deal: lots, a count, or an amount of money. The engine multiplies what it measured by the rule's
rates, shares that over the levels of the tree, converts and cuts. How to add one: docs/commissions.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from app.commissions.deals import DealFacts
from app.commissions.reasons import Reason

#: On which deals a rule pays: when a position is closed, or on each side of it.
When = Literal["close", "each"]

#: What a rule pays for: a deal, a client who was won, or a month.
On = Literal["deal", "client", "month"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a rule's rate is multiplied by: a number of lots or deals, or, with `currency`, an amount of money."""

    quantity: Decimal
    currency: str | None = None


#: Answers with what it measured, or with the reason why the deal cannot be measured (yet).
Measure = Callable[[DealFacts, When], Measured | Reason]


@dataclass(frozen=True, slots=True)
class Component:
    """A registered way of paying. The rate of a percentage is in percent of what was measured; `when` is what rules get
    that do not say it; `label` (a message id) names what is measured, where that is not the lots. Of one that `needs_countries`
    a rule must name the countries it is for: many jurisdictions forbid it. One that is `closing_only` is not known before.
    What is not `on` deals is paid once for its occasion: see app/commissions/occasions.py.
    `rate_label` (a message id) names the rate of one that measures what a unit of money's worth is, such as a point.
    """

    name: str
    measure: Measure
    label: str
    is_percentage: bool
    when: When
    needs_countries: bool
    closing_only: bool
    on: On
    rate_label: str = ""

    @property
    def is_money(self) -> bool:
        """Whether it measures an amount in the account's currency, which may have to be converted."""
        return self.is_percentage or bool(self.rate_label)


COMPONENTS: dict[str, Component] = {}


def component(
    name: str,
    label: str,
    *,
    is_percentage: bool = False,
    when: When = "close",
    needs_countries: bool = False,
    closing_only: bool = False,
    on: On = "deal",
    rate_label: str = "",
) -> Callable[[Measure], Measure]:
    """Register a function as the component `name` of rules documents."""

    def register(function: Measure) -> Measure:
        if name in COMPONENTS:
            raise ValueError(f"commission component {name!r} is registered twice")
        COMPONENTS[name] = Component(name, function, label, is_percentage, when, needs_countries, closing_only, on, rate_label)
        return function

    return register


for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
