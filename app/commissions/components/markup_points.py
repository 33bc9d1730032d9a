"""Points of mark-up: the broker widens the spread by some points, and the rate says how many of them are paid out.

A point is the smallest step of the symbol's prices: 0.00001 of EURUSD quoted with five digits, a tenth of a pip.
"""

from __future__ import annotations

from app.commissions.components import Measured, When, component
from app.commissions.deals import EXACT, DealFacts
from app.commissions.reasons import Reason
from app.core.errors import N_


@component("markup_points", N_("What one point of these lots is worth"), rate_label=N_("Points"))
def markup_points(deal: DealFacts, when: When) -> Measured | Reason:
    """Point x contract size x lots (those closed, or of the side) x rate of the profit currency: the account's currency."""
    if deal.point is None or deal.rate_profit <= 0:
        return Reason.NO_SYMBOL_DATA
    a_lot = EXACT.multiply(EXACT.multiply(deal.point, deal.contract_size), deal.rate_profit)
    return Measured(EXACT.multiply(a_lot, deal.lots_closed if when == "close" else deal.lots), deal.currency)
