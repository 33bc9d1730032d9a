"""MetaTrader 5's return codes: their names for the log, and the error that each one means for us.

The numbers are those of the `mt5manager` package; what may follow from each is our judgement (docs/metatrader.md).
"""

from __future__ import annotations

from app.metatrader.errors import (
    AccessDenied,
    BusinessError,
    NotKnown,
    PlatformError,
    ServerBusy,
    UnknownOutcome,
    Unreachable,
)

SUCCESS = frozenset({0, 1, 10008, 10009, 10010})

#: The server itself does not know how it ended: network and time-outs inside it, shutdown, failures of disk or memory that
#: may have struck after the effect, and requests that it only took in.
UNCLEAR = frozenset({2, 5, 6, 7, 9, 10, 11, 15, 10001, 10002, 10003, 10011, 10012, 10031})

BUSY = frozenset({12, 1018, 10024})

NOT_FOUND = 13

#: A number from the server, 3003 USR_LOGIN_PROHIBITED among them, that only whoever runs the server can mend.
DENIED = frozenset({8, 3003, *range(1000, 1018), *range(1019, 1036)})

NAMES = {
    0: "OK",
    1: "OK_NONE",
    2: "ERROR",
    3: "ERR_PARAMS",
    4: "ERR_DATA",
    5: "ERR_DISK",
    6: "ERR_MEM",
    7: "ERR_NETWORK",
    8: "ERR_PERMISSIONS",
    9: "ERR_TIMEOUT",
    10: "ERR_CONNECTION",
    11: "ERR_NOSERVICE",
    12: "ERR_FREQUENT",
    13: "ERR_NOTFOUND",
    14: "ERR_PARTIAL",
    15: "ERR_SHUTDOWN",
    16: "ERR_CANCEL",
    17: "ERR_DUPLICATE",
    1000: "AUTH_CLIENT_INVALID",
    1001: "AUTH_ACCOUNT_INVALID",
    1002: "AUTH_ACCOUNT_DISABLED",
    1008: "AUTH_SERVER_BAD",
    1010: "AUTH_CLIENT_OLD",
    1011: "AUTH_MANAGER_NOCONFIG",
    1012: "AUTH_MANAGER_IPBLOCK",
    1018: "AUTH_SERVER_BUSY",
    1022: "AUTH_SERVER_LIMIT",
    1026: "AUTH_RESET_PASSWORD",
    3002: "USR_LOGIN_EXHAUSTED",
    3003: "USR_LOGIN_PROHIBITED",
    3004: "USR_LOGIN_EXIST",
    3006: "USR_INVALID_PASSWORD",
    3007: "USR_LIMIT_REACHED",
    3008: "USR_HAS_TRADES",
    3009: "USR_DIFFERENT_SERVERS",
    3010: "USR_DIFFERENT_CURRENCY",
    4005: "TRADE_MAX_MONEY",
    10012: "REQUEST_TIMEOUT",
    10017: "REQUEST_TRADE_DISABLED",
    10018: "REQUEST_MARKET_CLOSED",
    10019: "REQUEST_NO_MONEY",
    10024: "REQUEST_TOO_MANY",
    10031: "REQUEST_CONNECTION",
}


def name(retcode: int) -> str:
    """The code's name, or the number itself for one that we have no name for."""
    return NAMES.get(retcode, str(retcode))


def error_of(retcode: int, *, mutation: bool, detail: str = "") -> PlatformError:
    """The error that a return code other than success means. An unclear one is an unknown outcome only for a mutation."""
    if retcode in UNCLEAR:
        return UnknownOutcome(retcode=retcode, detail=detail) if mutation else Unreachable(retcode=retcode, detail=detail)
    if retcode in BUSY:
        return ServerBusy(retcode=retcode, detail=detail)
    if retcode in DENIED:
        return AccessDenied(retcode=retcode, detail=detail)
    if retcode == NOT_FOUND:
        return NotKnown(retcode=retcode, detail=detail)
    return BusinessError(retcode, detail)
