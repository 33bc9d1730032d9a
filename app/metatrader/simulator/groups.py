"""The simulator's account groups, and the masks that commands select them by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from app.core import money
from app.metatrader.codes import MarginMode

#: On which deals a group books its commission: all, those that open, those that close. MetaTrader's numbers.
COMMISSION_ALL, COMMISSION_IN, COMMISSION_OUT = 0, 1, 2


@dataclass(frozen=True)
class GroupSettings:
    """One group. Commission is per lot and deal, in the group's currency; `server` is the trade server that has the group.

    `compensates` brings a balance that a stop-out left below zero back to it.
    """

    name: str
    currency: str
    leverage_max: int
    commission_per_lot: Decimal = Decimal(0)
    commission_entry: int = COMMISSION_ALL
    stop_out: Decimal = Decimal(50)
    password_min: int = 8
    margin_mode: int = MarginMode.RETAIL_HEDGED
    has_swaps: bool = True
    compensates: bool = False
    server: int = 1

    @property
    def digits(self) -> int:
        """Of the group's currency."""
        return money.exponent(self.currency)

    @property
    def is_hedged(self) -> bool:
        """Whether each order has a position of its own; else there is one per symbol."""
        return self.margin_mode == MarginMode.RETAIL_HEDGED


_NETTING = MarginMode.RETAIL

GROUPS: dict[str, GroupSettings] = {
    group.name: group
    for group in (
        GroupSettings("demo\\forex\\usd", "USD", 500),
        GroupSettings("demo\\netting\\usd", "USD", 500, margin_mode=_NETTING),
        GroupSettings("real\\std\\usd", "USD", 500),
        GroupSettings("real\\std\\eur", "EUR", 500),
        GroupSettings("real\\std\\jpy", "JPY", 500),
        GroupSettings("real\\ecn\\usd", "USD", 200, commission_per_lot=Decimal("3.50")),
        GroupSettings("real\\raw\\usd", "USD", 500, commission_per_lot=Decimal(6), commission_entry=COMMISSION_IN),
        GroupSettings("real\\raw\\eur", "EUR", 500, commission_per_lot=Decimal(6), commission_entry=COMMISSION_OUT),
        GroupSettings("real\\netting\\usd", "USD", 200, margin_mode=_NETTING),
        GroupSettings("real\\netting\\raw", "USD", 200, margin_mode=_NETTING, commission_per_lot=Decimal(3)),
        GroupSettings("real\\swapfree\\usd", "USD", 200, has_swaps=False),
        GroupSettings("real\\cent\\usc", "USC", 500),
        GroupSettings("real\\protected\\usd", "USD", 30, compensates=True),
        GroupSettings("demo2\\forex\\usd", "USD", 500, server=2),
        GroupSettings("real2\\std\\usd", "USD", 500, server=2),
        GroupSettings("real2\\netting\\usd", "USD", 200, margin_mode=_NETTING, server=2),
    )
}


def matches(mask: str, group: str) -> bool:
    r"""Whether a group is selected by a mask such as `real\*,!real\test*`: by one pattern, and by no negated one."""
    patterns = [part.strip() for part in mask.split(",") if part.strip()]
    wanted = [part for part in patterns if not part.startswith("!")]
    unwanted = [part[1:] for part in patterns if part.startswith("!")]
    return any(_fits(part, group) for part in wanted) and not any(_fits(part, group) for part in unwanted)


def _fits(pattern: str, group: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), group) is not None
