"""The steps of an explanation that tiers and caps of a period add. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.commissions.components import COMPONENTS
from app.commissions.deals import EXACT
from app.commissions.plans import Rule
from app.commissions.tiers import Tiers, pieces
from app.core.errors import N_
from app.models.commissions import Accrual

_BEFORE_THE_DEAL = {
    "day": N_("Volume of the day before this deal"),
    "week": N_("Volume of the week before this deal"),
    "month": N_("Volume of the month before this deal"),
    "quarter": N_("Volume of the quarter before this deal"),
}
_OF_THE_PERIOD = {
    "day": N_("Volume of the day"),
    "week": N_("Volume of the week"),
    "month": N_("Volume of the month"),
    "quarter": N_("Volume of the quarter"),
}
_AT_THE_DAY = {
    ("lots", "previous"): N_("Volume of the period before"),
    ("net_deposits", "current"): N_("Net deposits of the period when the day began"),
    ("net_deposits", "previous"): N_("Net deposits of the period before"),
    ("active_clients", "current"): N_("Active clients of the period when the day began"),
    ("active_clients", "previous"): N_("Active clients of the period before"),
}
#: What a position is now, for whoever asks how far it is to the next band.
NOW = {
    ("lots", "current"): N_("Lots of the branch"),
    ("lots", "previous"): N_("Lots of the branch in the period before"),
    ("net_deposits", "current"): N_("Net deposits of the branch when the day began"),
    ("net_deposits", "previous"): N_("Net deposits of the branch in the period before"),
    ("active_clients", "current"): N_("Active clients of the branch when the day began"),
    ("active_clients", "previous"): N_("Active clients of the branch in the period before"),
}
_CAPS = {
    "day": (N_("The rule pays one IB at most, a day"), N_("Paid to the IB before on this day")),
    "month": (N_("The rule pays one IB at most, a month"), N_("Paid to the IB before in this month")),
}


@dataclass(frozen=True)
class Step:
    """One step of the arithmetic: "", "×" or "=", what the value is (a message id), the value and its unit."""

    operator: str
    label: str
    value: Decimal
    unit: str


def position_label(tiers: Tiers) -> str:
    """What a position of these tiers is, as a message id."""
    if not tiers.is_running:
        return _AT_THE_DAY[tiers.measure, tiers.basis]
    return (_BEFORE_THE_DEAL if tiers.mode == "marginal" else _OF_THE_PERIOD)[tiers.period]


def position_unit(tiers: Tiers, currency: str) -> str:
    """The unit of a position: a currency, or nothing beside the words of its label."""
    return currency if tiers.measure == "net_deposits" else ""


def tier_steps(paid: Accrual, rule: Rule, tiers: Tiers, position: Decimal) -> tuple[list[Step], Decimal | None]:
    """Where the tiers stood; of a deal that lies in several bands, how much lies in each, and lots x rate of all of them."""
    unit = position_unit(tiers, rule.currency)
    steps = [Step("", position_label(tiers), position, unit)]
    parts = pieces(tiers, position, paid.lots)
    if len(parts) == 1:
        return [*steps, Step("≥", N_("The tier begins at"), parts[0].band.start, unit)], None
    rate_unit = "%" if COMPONENTS[rule.component].is_percentage else paid.currency
    total = Decimal(0)
    for part in parts:
        steps += [
            Step("+", N_("Lots of this deal in the tier"), part.lots, ""),
            Step("≥", N_("The tier begins at"), part.band.start, unit),
            Step("×", N_("Rate of the tier"), part.band.rate, rate_unit),
        ]
        total = EXACT.add(total, EXACT.multiply(part.lots, part.band.rate))
    return [*steps, Step("=", N_("Over all lots, on average"), paid.rate, rate_unit)], total


def cap_steps(paid: Accrual, rule: Rule, exact: Decimal) -> tuple[Step, ...] | None:
    """What the cap of a period left of an exact product; None when no such cap took something."""
    if paid.cap_paid is None or rule.caps is None:
        return None
    sign = Decimal(1).copy_sign(exact)
    rooms = {period: max(cap - paid.cap_paid, Decimal(0)) for period, cap in rule.caps.periods.items()}
    period = next((period for period, room in rooms.items() if room == paid.amount * sign), min(rooms, key=rooms.__getitem__))
    at_most, before = _CAPS[period]
    return (
        Step("=", N_("Before the cap"), exact, paid.currency),
        Step("→", at_most, rule.caps.periods[period], paid.currency),
        Step("−", before, paid.cap_paid, paid.currency),
        Step("=", N_("What the cap left"), paid.amount, paid.currency),
    )
