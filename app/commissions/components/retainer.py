"""A fixed amount for a month, however much was traded."""

from __future__ import annotations

from decimal import Decimal

from app.commissions.components import Measured, When, component
from app.commissions.deals import DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("retainer", N_("Months"), on="month")
def retainer(deal: DealFacts, when: When) -> Measured | Reason:
    """One month."""
    return Measured(Decimal(1))
