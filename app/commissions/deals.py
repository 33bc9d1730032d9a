"""What the engine knows of a deal. Pure: no database, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Context, Decimal

#: MetaTrader's numbers for a deal's action and entry.
BUY, SELL = 0, 1
ENTRY_IN, ENTRY_OUT, ENTRY_INOUT, ENTRY_OUT_BY = 0, 1, 2, 3
CLOSING_ENTRIES = frozenset({ENTRY_OUT, ENTRY_INOUT, ENTRY_OUT_BY})
OPENING_ENTRIES = frozenset({ENTRY_IN, ENTRY_INOUT})

#: Volumes are whole numbers of 1/100000000 lot.
_VOLUME_DIGITS = 8
_HALF = Decimal("0.5")

#: Wide enough for any product of a volume, a rate and a share without losing a digit, whatever the caller's own context is.
EXACT = Context(prec=80)

#: The step of an accrual, as its column NUMERIC(24, 10) holds it.
STEP = Decimal("1e-10")


def cut(amount: Decimal) -> Decimal:
    """An exact amount cut to ten places towards zero."""
    return amount.quantize(STEP, rounding=ROUND_DOWN, context=EXACT)


@dataclass(frozen=True, slots=True)
class DealFacts:
    """One deal at one revision, with what the engine needs to know about its account and position.

    `volume` and `volume_closed` are in 1/100000000 lot; `volume_closed` is 0 when the server does not report it.
    `opened_at` is the moment the closed position began, None when its opening deal is not known. Money is in `currency`, the
    account's, with the server's signs: what the client pays or loses is negative. `bid`, `ask`, `contract_size`,
    `price_position` (at which the closed position began) and `rate_profit` (the profit currency in the account's) are 0 where
    the server does not report them, and `digits` (of the symbol's prices) None. `category` is the client's at that moment,
    and `credit_percent` how much of the account's money was credit then, where a rule asks for it.
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
    product: str = ""
    country: str = ""
    category: str = "retail"
    currency: str = ""
    profit: Decimal = Decimal(0)
    swap: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    price: Decimal = Decimal(0)
    price_position: Decimal = Decimal(0)
    digits: int | None = None
    bid: Decimal = Decimal(0)
    ask: Decimal = Decimal(0)
    contract_size: Decimal = Decimal(0)
    rate_profit: Decimal = Decimal(0)
    client_id: int | None = None
    has_account: bool = True
    is_demo: bool = False
    is_void: bool = False
    is_superseded: bool = False
    credit_percent: Decimal = Decimal(0)

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
    def lots(self) -> Decimal:
        """The whole volume of the deal in lots, exact."""
        return EXACT.scaleb(Decimal(self.volume), Decimal(-_VOLUME_DIGITS))

    @property
    def is_closing(self) -> bool:
        return self.entry in CLOSING_ENTRIES

    @property
    def position_direction(self) -> str:
        """The side of the position, "buy" or "sell": of a closing deal the opposite of its own."""
        return "buy" if (self.action == SELL) == self.is_closing else "sell"

    @property
    def charged(self) -> Decimal:
        """Commission and fee of this deal; positive when the client paid."""
        return EXACT.minus(EXACT.add(self.commission, self.fee))

    @property
    def point(self) -> Decimal | None:
        """The smallest step of the symbol's prices; None where it is not known. A server that reports no contract size
        reports no digits either, and then the 0 that stands for them is none.
        """
        if self.digits is None or self.contract_size <= 0:
            return None
        return EXACT.scaleb(Decimal(1), Decimal(-self.digits))

    @property
    def points_moved(self) -> Decimal | None:
        """How far the price went from opening to closing, either way, in points; None where that is not known."""
        if self.point is None or self.price <= 0 or self.price_position <= 0:
            return None
        return EXACT.divide(abs(EXACT.subtract(self.price, self.price_position)), self.point)

    def spread_paid(self, when: str) -> Decimal | None:
        """The spread in the account's currency: all of it for the lots closed (`when` is "close"), or half of it for the lots
        of this side ("each"). None where the server did not report what is needed.

        (ask - bid) x contract size x lots x rate of the profit currency: MetaTrader's rule for symbols of the Forex type.
        """
        if self.bid <= 0 or self.ask < self.bid or self.contract_size <= 0 or self.rate_profit <= 0:
            return None
        a_lot = EXACT.multiply(EXACT.multiply(EXACT.subtract(self.ask, self.bid), self.contract_size), self.rate_profit)
        if when == "close":
            return EXACT.multiply(a_lot, self.lots_closed)
        return EXACT.multiply(EXACT.multiply(a_lot, self.lots), _HALF)
