"""MetaTrader 4's return codes: their names for the log, and the error that each one means for us.

The numbers are those of the Manager API's header; what may follow from each is our judgement (docs/metatrader-bridge.md).
Sentences for people are kept by MT5's numbers, so a refusal by a rule carries the number that means the same there.
"""

from __future__ import annotations

from app.metatrader.errors import (
    AccessDenied,
    BadAnswer,
    BusinessError,
    NotKnown,
    PlatformError,
    ServerBusy,
    UnknownOutcome,
    Unreachable,
)

SUCCESS = frozenset({0, 1})

NO_CONNECTION = 6

#: MT4 itself does not know how it ended: general errors that may have struck after the effect, a connection that went, a
#: request that it only took in or is still working on.
UNCLEAR = frozenset({2, 4, NO_CONNECTION, 9, 128, 142, 143})

#: Refused for now, with nothing done.
BUSY = frozenset({8, 137, 141, 146})

#: With HTTP 503: nothing was done, later perhaps.
LATER = BUSY | {NO_CONNECTION}

NOT_FOUND = 65

#: What only whoever runs the server or the bridge can mend: versions, rights, keys.
DENIED = frozenset({5, 7, 10, 11, 66})

INVALID_DATA, INVALID_PASSWORD = 3, 3006

#: Refusals by a rule, by MT4's number: MT5's number of the same.
REFUSED = {
    3: INVALID_DATA,
    64: 10017,
    129: 10015,
    130: 10016,
    131: 10014,
    132: 10018,
    133: 10017,
    134: 10019,
    135: 10020,
    136: 10021,
    138: 10004,
    139: 10029,
    140: 10042,
    144: 10007,
    145: 10029,
    147: 10022,
    148: 10033,
    149: 10046,
    150: 10045,
}

NAMES = {
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


def name(retcode: int) -> str:
    """The code's number and name, or the number alone for one that we have no name for."""
    return f"{retcode} {NAMES[retcode]}" if retcode in NAMES else str(retcode)


def error_of(retcode: int, *, mutation: bool, detail: str = "") -> PlatformError:
    """The error that a return code other than success means.

    For a mutation an unclear one is an unknown outcome, and so is a number that we do not know.
    """
    if retcode in UNCLEAR or retcode not in NAMES:
        unclear = Unreachable if retcode in UNCLEAR else BadAnswer
        return (UnknownOutcome if mutation else unclear)(retcode=retcode, detail=detail)
    if retcode in BUSY:
        return ServerBusy(retcode=retcode, detail=detail)
    if retcode in DENIED:
        return AccessDenied(retcode=retcode, detail=detail)
    if retcode == NOT_FOUND:
        return NotKnown(retcode=retcode, detail=detail)
    return BusinessError(REFUSED[retcode], detail)
