"""The simulator's account groups, and the masks that commands select them by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from app.metatrader.codes import MarginMode


@dataclass(frozen=True)
class GroupSettings:
    """One group. Commission is per lot and side, in the group's currency. All groups hold positions per order (hedged)."""

    name: str
    currency: str
    leverage_max: int
    commission_per_lot: Decimal = Decimal(0)
    digits: int = 2
    stop_out: Decimal = Decimal(50)
    password_min: int = 8
    margin_mode: int = MarginMode.RETAIL_HEDGED


GROUPS: dict[str, GroupSettings] = {
    group.name: group
    for group in (
        GroupSettings("demo\\forex\\usd", "USD", 500),
        GroupSettings("real\\std\\usd", "USD", 500),
        GroupSettings("real\\std\\eur", "EUR", 500),
        GroupSettings("real\\ecn\\usd", "USD", 200, commission_per_lot=Decimal("3.50")),
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
