"""A percentage of the commission that the trading server charged on this very deal.

Servers charge it at the opening, at the closing or at both, by the group's setting; so such a rule pays on each side unless
it says otherwise.
"""

from __future__ import annotations

from app.commissions.components import Measured, When, component
from app.commissions.deals import DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("commission_share", N_("Commission the client paid"), is_percentage=True, when="each")
def commission_share(deal: DealFacts, when: When) -> Measured | Reason:
    """Commission and fee, in the account's currency; what the client paid is positive."""
    return Measured(deal.charged, deal.currency)
