"""A fixed amount for each lot: per round turn when the rule pays on closing, per side when it pays on each deal."""

from __future__ import annotations

from app.commissions.components import Measured, When, component
from app.commissions.deals import DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("per_lot", N_("Lots"))
def per_lot(deal: DealFacts, when: When) -> Measured | Reason:
    """The lots closed, or those of the side."""
    return Measured(deal.lots_closed if when == "close" else deal.lots)
