"""MT4's return codes that the double gives, and what they mean for a command that changes something."""

from __future__ import annotations

from app.metatrader.platforms.mt4_retcodes import NAMES

OK = 0
ERROR = 2
INVALID_DATA = 3
NO_CONNECT = 6
BAD_ACCOUNT_INFO = 65
TRADE_TIMEOUT = 128
BAD_PRICES = 129
BAD_STOPS = 130
BAD_VOLUME = 131
MARKET_CLOSED = 132
DISABLE = 133
NO_MONEY = 134
EXPIRATION_DENIED = 147

#: Nothing was done, later perhaps.
BUSY = frozenset({6, 8, 137, 141, 146})
#: Nobody knows what became of it: timed out, accepted, in process.
UNCERTAIN = frozenset({128, 142, 143})


def name(code: int) -> str:
    """A code in words."""
    return NAMES.get(code, "UNKNOWN")
