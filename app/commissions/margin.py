"""The margin guard: what a deal pays out beside what it earned. Pure.

A deal earned the spread and the commission that the client paid on it, as `DealFacts` counts them: where every rule of the
plan pays at the closing, the closing deal stands for the whole spread; otherwise each deal for half of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from app.commissions.deals import EXACT, DealFacts, cut
from app.commissions.plans import PlanSnapshot
from app.commissions.reasons import Reason

if TYPE_CHECKING:
    from app.commissions.engine import Accrued, Rates


@dataclass(frozen=True, slots=True)
class Excess:
    """That a deal pays out more than it earned, both in the account's currency; `ib_id` is the client's own IB."""

    earned: Decimal
    paid: Decimal
    currency: str
    ib_id: int


def excess(lines: Sequence[Accrued], deal: DealFacts, plan: PlanSnapshot, rates: Rates, ib_id: int) -> Excess | Reason | None:
    """By how much the lines of a deal are too much; None when they are not; a reason when that cannot be known yet."""
    spread = deal.spread_paid("each" if any(rule.when == "each" for rule in plan.rules) else "close")
    if spread is None:
        return Reason.NO_SPREAD
    paid = Decimal(0)
    for line in lines:
        amount = line.amount
        if line.currency != deal.currency:
            rate = rates.get(line.currency)
            if rate is None:
                return Reason.NO_RATE
            amount = EXACT.divide(amount, rate.rate)
        paid = EXACT.add(paid, amount)
    earned = max(EXACT.add(spread, deal.charged), Decimal(0))
    return Excess(cut(earned), paid, deal.currency, ib_id) if paid > earned else None


def capped(lines: Sequence[Accrued], found: Excess, rates: Rates) -> list[Accrued]:
    """The lines in proportion, so that together they pay no more than the deal earned. Each says what that was."""
    scaled = []
    for line in lines:
        earned = found.earned
        if line.currency != found.currency:
            earned = cut(EXACT.multiply(earned, rates[line.currency].rate))
        amount = cut(EXACT.divide(EXACT.multiply(line.amount, found.earned), found.paid))
        uncapped = line.amount if line.uncapped is None else line.uncapped
        scaled.append(replace(line, amount=amount, uncapped=uncapped, earned=earned))
    return scaled
