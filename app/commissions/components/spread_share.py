"""A percentage of the spread that the client paid.

A round turn crosses the spread once. A rule that pays on closing takes the whole spread of the closing deal for the lots it
closed; one that pays on each side takes half of each deal's own spread for that deal's lots.
"""

from __future__ import annotations

from app.commissions.components import Measured, When, component
from app.commissions.deals import DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("spread_share", N_("Spread the client paid"), is_percentage=True)
def spread_share(deal: DealFacts, when: When) -> Measured | Reason:
    """(ask - bid) x contract size x lots x the rate of the profit currency, in the account's currency."""
    spread = deal.spread_paid(when)
    return Reason.NO_SPREAD if spread is None else Measured(spread, deal.currency)
