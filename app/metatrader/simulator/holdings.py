"""What the simulator keeps of logins and of what is open on them. Money is whole minor units, prices points."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass
class Account:
    """A login. `profile` holds the personal fields under MetaTrader's names; `archived_ms` is 0 while it is not archived."""

    login: int
    group_name: str
    leverage: int
    rights: int
    balance: int
    credit: int
    registered_ms: int
    active_boot: str
    profile: dict[str, str]
    main_hash: str
    investor_hash: str
    archived_ms: int = 0


@dataclass
class OpenPosition:
    """An open position; `opened` is its price in points, an average with a fraction where positions are netted.

    `identifier` is what its deals name it by: the ticket it was opened with, also after a reversal gave it another one.
    Stop loss and take profit are points, 0 for none.
    """

    ticket: int
    login: int
    symbol: str
    action: int
    volume: int
    opened: Decimal
    swap: int
    rate_margin: Decimal
    reason: int
    created_ms: int
    update_ms: int
    comment: str
    identifier: int = 0
    stop_loss: int = 0
    take_profit: int = 0
    modification_flags: int = 0

    def __post_init__(self) -> None:
        self.identifier = self.identifier or self.ticket
