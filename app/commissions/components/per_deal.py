"""A fixed amount for each deal, whatever its size."""

from __future__ import annotations

from decimal import Decimal

from app.commissions.components import Measured, When, component
from app.commissions.deals import DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("per_deal", N_("Deals"))
def per_deal(deal: DealFacts, when: When) -> Measured | Reason:
    """One."""
    return Measured(Decimal(1))
