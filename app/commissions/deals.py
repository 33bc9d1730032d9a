"""What the engine knows of a deal. Pure: no database, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal

#: MetaTrader's numbers for a deal's action and entry.
BUY, SELL = 0, 1
ENTRY_IN, ENTRY_OUT, ENTRY_INOUT, ENTRY_OUT_BY = 0, 1, 2, 3
CLOSING_ENTRIES = frozenset({ENTRY_OUT, ENTRY_INOUT, ENTRY_OUT_BY})
OPENING_ENTRIES = frozenset({ENTRY_IN, ENTRY_INOUT})

#: Volumes are whole numbers of 1/100000000 lot.
_VOLUME_DIGITS = 8

#: Wide enough for any product of a volume, a rate and a share without losing a digit, whatever the caller's own context is.
EXACT = Context(prec=80)


@dataclass(frozen=True, slots=True)
class DealFacts:
    """One deal at one revision, with what the engine needs to know about its account and position.

    `volume` and `volume_closed` are in 1/100000000 lot; `volume_closed` is 0 when the server does not report it.
    `opened_at` is the moment the closed position began, None when its opening deal is not known.
    """

    deal_id: int
    action: int
    entry: int
    reason: int
    symbol: str
    volume: int
    volume_closed: int
    done_at: datetime
    opened_at: datetime | None = None
    has_account: bool = True
    is_demo: bool = False
    is_void: bool = False
    is_superseded: bool = False

    @property
    def closed_volume(self) -> int:
        """The closed part in 1/100000000 lot; 0 when it cannot be known (a reversal without a reported closed volume)."""
        if self.volume_closed > 0:
            return self.volume_closed
        return 0 if self.entry == ENTRY_INOUT else self.volume

    @property
    def lots_closed(self) -> Decimal:
        """The closed part in lots, exact."""
        return EXACT.scaleb(Decimal(self.closed_volume), Decimal(-_VOLUME_DIGITS))

    @property
    def position_direction(self) -> str:
        """The side of the position being closed, "buy" or "sell": the opposite of the closing deal's."""
        return "buy" if self.action == SELL else "sell"
