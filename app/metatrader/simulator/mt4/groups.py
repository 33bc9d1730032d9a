"""The MT4 double's account groups. MT4 has no folders: a group is one short name."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class GroupSettings:
    """One group. Commission is for a whole trade of one lot, written on the row when it opens; money has two places always."""

    name: str
    currency: str
    leverage_max: int = 500
    commission_per_lot: Decimal = Decimal(0)
    stop_out: Decimal = Decimal(50)
    has_swaps: bool = True


GROUPS: dict[str, GroupSettings] = {
    group.name: group
    for group in (
        GroupSettings("std-usd", "USD"),
        GroupSettings("std-eur", "EUR"),
        GroupSettings("ecn-usd", "USD", leverage_max=200, commission_per_lot=Decimal(7), stop_out=Decimal(30)),
        GroupSettings("swapfree-usd", "USD", leverage_max=200, has_swaps=False),
        GroupSettings("cent-usc", "USC"),
        GroupSettings("demo-usd", "USD"),
        GroupSettings("tech", "USD", leverage_max=100),
    )
}
