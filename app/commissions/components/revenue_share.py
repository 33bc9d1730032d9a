"""A percentage of what the house earned on the deal: the spread and the commission that the client paid."""

from __future__ import annotations

from app.commissions.components import Measured, When, component
from app.commissions.deals import EXACT, DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("revenue_share", N_("Spread and commission the client paid"), is_percentage=True, when="each")
def revenue_share(deal: DealFacts, when: When) -> Measured | Reason:
    """Spread plus commission and fee, in the account's currency."""
    spread = deal.spread_paid(when)
    return Reason.NO_SPREAD if spread is None else Measured(EXACT.add(spread, deal.charged), deal.currency)
