"""A fixed amount for a client who was won: once, when the rule's conditions have come true."""

from __future__ import annotations

from decimal import Decimal

from app.commissions.components import Measured, When, component
from app.commissions.deals import DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("cpa", N_("Clients won"), on="client")
def cpa(deal: DealFacts, when: When) -> Measured | Reason:
    """One client."""
    return Measured(Decimal(1))
