"""MT4's return codes by name, and what they mean for a command that changes something."""

from __future__ import annotations

OK = 0
ERROR = 2
INVALID_DATA = 3
NO_CONNECT = 6
BAD_ACCOUNT_INFO = 65
BAD_PRICES = 129
BAD_STOPS = 130
BAD_VOLUME = 131
MARKET_CLOSED = 132
DISABLE = 133
TRADE_TIMEOUT = 128
NO_MONEY = 134
EXPIRATION_DENIED = 147

#: Nothing was done, later perhaps.
BUSY = frozenset({6, 8, 137, 141, 146})
#: Nobody knows what became of it: timed out, accepted, in process.
UNCERTAIN = frozenset({128, 142, 143})

_NAMES = {
    0: "OK",
    1: "OK_NONE",
    2: "ERROR",
    3: "INVALID_DATA",
    4: "TECH_PROBLEM",
    5: "OLD_VERSION",
    6: "NO_CONNECT",
    7: "NOT_ENOUGH_RIGHTS",
    8: "TOO_FREQUENT",
    9: "MALFUNCTION",
    10: "GENERATE_KEY",
    11: "SECURITY_SESSION",
    64: "ACCOUNT_DISABLED",
    65: "BAD_ACCOUNT_INFO",
    66: "PUBLIC_KEY_MISSING",
    128: "TRADE_TIMEOUT",
    129: "BAD_PRICES",
    130: "BAD_STOPS",
    131: "BAD_VOLUME",
    132: "MARKET_CLOSED",
    133: "DISABLE",
    134: "NO_MONEY",
    135: "PRICE_CHANGED",
    136: "OFFQUOTES",
    137: "BROKER_BUSY",
    138: "REQUOTE",
    139: "ORDER_LOCKED",
    140: "LONG_ONLY",
    141: "TOO_MANY_REQ",
    142: "ACCEPTED",
    143: "PROCESS",
    144: "USER_CANCEL",
    145: "MODIFY_DENIED",
    146: "CONTEXT_BUSY",
    147: "EXPIRATION_DENIED",
    148: "TOO_MANY_ORDERS",
    149: "HEDGE_PROHIBITED",
    150: "PROHIBITED_BY_FIFO",
}


def name(code: int) -> str:
    """A code in words."""
    return _NAMES.get(code, "UNKNOWN")
