"""MetaTrader 5's numbers by name (read from MetaQuotes' own `mt5manager` package).

Records keep plain integers, because a newer server may send a number that is not listed here.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class DealAction(IntEnum):
    """What a deal did. Only BUY and SELL are trades; all others move money without one."""

    BUY = 0
    SELL = 1
    BALANCE = 2
    CREDIT = 3
    CHARGE = 4
    CORRECTION = 5
    BONUS = 6
    COMMISSION = 7
    COMMISSION_DAILY = 8
    COMMISSION_MONTHLY = 9
    AGENT_DAILY = 10
    AGENT_MONTHLY = 11
    INTEREST_RATE = 12
    BUY_CANCELED = 13
    SELL_CANCELED = 14
    DIVIDEND = 15
    DIVIDEND_FRANKED = 16
    TAX = 17
    AGENT = 18
    SO_COMPENSATION = 19
    SO_COMPENSATION_CREDIT = 20


class DealEntry(IntEnum):
    """Whether a deal opened (IN), closed (OUT), reversed (INOUT) or was closed by an opposite position (OUT_BY)."""

    IN = 0
    OUT = 1
    INOUT = 2
    OUT_BY = 3


class DealReason(IntEnum):
    """Who or what caused a deal, an order or a position."""

    CLIENT = 0
    EXPERT = 1
    DEALER = 2
    STOP_LOSS = 3
    TAKE_PROFIT = 4
    STOP_OUT = 5
    ROLLOVER = 6
    EXTERNAL_CLIENT = 7
    VARIATION_MARGIN = 8
    GATEWAY = 9
    SIGNAL = 10
    SETTLEMENT = 11
    TRANSFER = 12
    SYNC = 13
    EXTERNAL_SERVICE = 14
    MIGRATION = 15
    MOBILE = 16
    WEB = 17
    SPLIT = 18
    CORPORATE_ACTION = 19
    ULTENCY = 20
    COVERAGE = 21


class OrderType(IntEnum):
    """What an order asks for. LIMIT waits for a better price, STOP for a worse one."""

    BUY = 0
    SELL = 1
    BUY_LIMIT = 2
    SELL_LIMIT = 3
    BUY_STOP = 4
    SELL_STOP = 5
    BUY_STOP_LIMIT = 6
    SELL_STOP_LIMIT = 7
    CLOSE_BY = 8


class OrderState(IntEnum):
    """What has become of an order. All but STARTED, PLACED, PARTIAL and the requests are final."""

    STARTED = 0
    PLACED = 1
    CANCELED = 2
    PARTIAL = 3
    FILLED = 4
    REJECTED = 5
    EXPIRED = 6
    REQUEST_ADD = 7
    REQUEST_MODIFY = 8
    REQUEST_CANCEL = 9


class UserRight(IntFlag):
    """The rights bits of a login. "Closed for trading" sets TRADE_DISABLED; "may not sign in" clears ENABLED."""

    ENABLED = 0x1
    PASSWORD = 0x2
    TRADE_DISABLED = 0x4
    INVESTOR = 0x8
    CONFIRMED = 0x10
    TRAILING = 0x20
    EXPERT = 0x40
    REPORTS = 0x100
    READONLY = 0x200
    RESET_PASSWORD = 0x400
    OTP_ENABLED = 0x800
    API_ENABLED = 0x4000
    PUSH_NOTIFICATION = 0x8000
    TECHNICAL = 0x10000
    EXCLUDE_REPORTS = 0x20000


#: What a new login gets: enabled, may change its password, trailing stops, experts, reports.
DEFAULT_RIGHTS = int(UserRight.ENABLED | UserRight.PASSWORD | UserRight.TRAILING | UserRight.EXPERT | UserRight.REPORTS)


class MarginMode(IntEnum):
    """How a group holds positions: one per symbol (RETAIL, EXCHANGE) or one per order (RETAIL_HEDGED)."""

    RETAIL = 0
    EXCHANGE = 1
    RETAIL_HEDGED = 2
