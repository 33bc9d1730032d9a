"""A percentage of what the client lost; what the client won is taken back at the same rate.

Not allowed in every jurisdiction: a rule must name the countries of the clients whom it is for.
"""

from __future__ import annotations

from app.commissions.components import Measured, When, component
from app.commissions.deals import EXACT, DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("loss_share", N_("What the client lost"), is_percentage=True, needs_countries=True, closing_only=True)
def loss_share(deal: DealFacts, when: When) -> Measured | Reason:
    """The result of the deal with swap, commission and fee, turned round; negative when the client won."""
    return Measured(EXACT.subtract(deal.charged, EXACT.add(deal.profit, deal.swap)), deal.currency)
