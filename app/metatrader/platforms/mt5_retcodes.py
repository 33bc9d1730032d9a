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
#: may have struck after the effect, something cancelled midway, and requests that it only took in or is still working on.
UNCLEAR = frozenset({2, 5, 6, 7, 9, 10, 11, 15, 16, 10001, 10002, 10003, 10011, 10012, 10028, 10031, 11001, 12003})

#: Refused for now, with nothing done.
BUSY = frozenset({12, 1018, 10024, 12004})

NOT_FOUND = 13

#: More rows than the server sends at once: ask for less.
PARTIAL = 14

#: What only whoever runs the server can mend: rights, 3003 USR_LOGIN_PROHIBITED (a number from the server), and calls that
#: this server does not offer.
DENIED = frozenset({8, 3003, 12000, 12001, 12002, *range(1000, 1018), *range(1019, 1036)})

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
    1003: "AUTH_ADVANCED",
    1004: "AUTH_CERTIFICATE",
    1005: "AUTH_CERTIFICATE_BAD",
    1006: "AUTH_NOTCONFIRMED",
    1007: "AUTH_SERVER_INTERNAL",
    1008: "AUTH_SERVER_BAD",
    1009: "AUTH_UPDATE_ONLY",
    1010: "AUTH_CLIENT_OLD",
    1011: "AUTH_MANAGER_NOCONFIG",
    1012: "AUTH_MANAGER_IPBLOCK",
    1013: "AUTH_GROUP_INVALID",
    1014: "AUTH_CA_DISABLED",
    1015: "AUTH_INVALID_ID",
    1016: "AUTH_INVALID_IP",
    1017: "AUTH_INVALID_TYPE",
    1018: "AUTH_SERVER_BUSY",
    1019: "AUTH_SERVER_CERT",
    1020: "AUTH_ACCOUNT_UNKNOWN",
    1021: "AUTH_SERVER_OLD",
    1022: "AUTH_SERVER_LIMIT",
    1023: "AUTH_MOBILE_DISABLED",
    1024: "AUTH_MANAGER_TYPE",
    1025: "AUTH_DEMO_DISABLED",
    1026: "AUTH_RESET_PASSWORD",
    1027: "AUTH_OTP_INVALID",
    1028: "AUTH_OTP_NEED_SECRET",
    1029: "AUTH_MIGRATION_MT4",
    1030: "AUTH_MIGRATION_MT5",
    1031: "AUTH_INVALID_VERIFY",
    1032: "AUTH_VERIFY_BAD_EMAIL",
    1033: "AUTH_VERIFY_BAD_PHONE",
    1034: "AUTH_API_DISABLED",
    1035: "AUTH_CLIENT_UPGRADE",
    2000: "CFG_LAST_ADMIN",
    2001: "CFG_LAST_ADMIN_GROUP",
    2003: "CFG_NOT_EMPTY",
    2004: "CFG_INVALID_RANGE",
    2005: "CFG_NOT_MANAGER_LOGIN",
    2006: "CFG_BUILTIN",
    2007: "CFG_DUPLICATE",
    2008: "CFG_LIMIT_REACHED",
    2009: "CFG_NO_ACCESS_TO_MAIN",
    2010: "CFG_DEALER_ID_EXIST",
    2011: "CFG_BIND_ADDR_EXIST",
    2012: "CFG_WORKING_TRADE",
    2013: "CFG_GATEWAY_NAME_EXIST",
    2014: "CFG_SWITCH_TO_BACKUP",
    2015: "CFG_NO_BACKUP_MODULE",
    2016: "CFG_NO_TRADE_MODULE",
    2017: "CFG_NO_HISTORY_MODULE",
    2018: "CFG_ANOTHER_SWITCH",
    2019: "CFG_NO_LICENSE_FILE",
    2020: "CFG_GATEWAY_LOGIN_EXIST",
    2021: "CFG_INVALID_COMPANY",
    3001: "USR_LAST_ADMIN",
    3002: "USR_LOGIN_EXHAUSTED",
    3003: "USR_LOGIN_PROHIBITED",
    3004: "USR_LOGIN_EXIST",
    3005: "USR_SUICIDE",
    3006: "USR_INVALID_PASSWORD",
    3007: "USR_LIMIT_REACHED",
    3008: "USR_HAS_TRADES",
    3009: "USR_DIFFERENT_SERVERS",
    3010: "USR_DIFFERENT_CURRENCY",
    3011: "USR_IMPORT_BALANCE",
    3012: "USR_IMPORT_GROUP",
    3013: "USR_ACCOUNT_EXIST",
    3014: "USR_IMPORT_ACCOUNT",
    3015: "USR_IMPORT_POSITIONS",
    3016: "USR_IMPORT_ORDERS",
    3017: "USR_IMPORT_DEALS",
    3018: "USR_IMPORT_HISTORY",
    3019: "USR_API_LIMIT_REACHED",
    3020: "USR_ULTENCY_COVERAGE",
    4001: "TRADE_LIMIT_REACHED",
    4002: "TRADE_ORDER_EXIST",
    4003: "TRADE_ORDER_EXHAUSTED",
    4004: "TRADE_DEAL_EXHAUSTED",
    4005: "TRADE_MAX_MONEY",
    4006: "TRADE_DEAL_EXIST",
    4007: "TRADE_ORDER_PROHIBITED",
    4008: "TRADE_DEAL_PROHIBITED",
    4009: "TRADE_SPLIT_VOLUME",
    5001: "REPORT_SNAPSHOT",
    5002: "REPORT_NOTSUPPORTED",
    5003: "REPORT_NODATA",
    5004: "REPORT_TEMPLATE_BAD",
    5005: "REPORT_TEMPLATE_END",
    5006: "REPORT_INVALID_ROW",
    5007: "REPORT_LIMIT_REPEAT",
    5008: "REPORT_LIMIT_REPORT",
    6001: "HST_SYMBOL_NOTFOUND",
    10001: "REQUEST_INWAY",
    10002: "REQUEST_ACCEPTED",
    10003: "REQUEST_PROCESS",
    10004: "REQUEST_REQUOTE",
    10005: "REQUEST_PRICES",
    10006: "REQUEST_REJECT",
    10007: "REQUEST_CANCEL",
    10008: "REQUEST_PLACED",
    10009: "REQUEST_DONE",
    10010: "REQUEST_DONE_PARTIAL",
    10011: "REQUEST_ERROR",
    10012: "REQUEST_TIMEOUT",
    10013: "REQUEST_INVALID",
    10014: "REQUEST_INVALID_VOLUME",
    10015: "REQUEST_INVALID_PRICE",
    10016: "REQUEST_INVALID_STOPS",
    10017: "REQUEST_TRADE_DISABLED",
    10018: "REQUEST_MARKET_CLOSED",
    10019: "REQUEST_NO_MONEY",
    10020: "REQUEST_PRICE_CHANGED",
    10021: "REQUEST_PRICE_OFF",
    10022: "REQUEST_INVALID_EXP",
    10023: "REQUEST_ORDER_CHANGED",
    10024: "REQUEST_TOO_MANY",
    10025: "REQUEST_NO_CHANGES",
    10026: "REQUEST_AT_DISABLED_SERVER",
    10027: "REQUEST_AT_DISABLED_CLIENT",
    10028: "REQUEST_LOCKED",
    10029: "REQUEST_FROZEN",
    10030: "REQUEST_INVALID_FILL",
    10031: "REQUEST_CONNECTION",
    10032: "REQUEST_ONLY_REAL",
    10033: "REQUEST_LIMIT_ORDERS",
    10034: "REQUEST_LIMIT_VOLUME",
    10035: "REQUEST_INVALID_ORDER",
    10036: "REQUEST_POSITION_CLOSED",
    10037: "REQUEST_EXECUTION_SKIPPED",
    10038: "REQUEST_INVALID_CLOSE_VOLUME",
    10039: "REQUEST_CLOSE_ORDER_EXIST",
    10040: "REQUEST_LIMIT_POSITIONS",
    10041: "REQUEST_REJECT_CANCEL",
    10042: "REQUEST_LONG_ONLY",
    10043: "REQUEST_SHORT_ONLY",
    10044: "REQUEST_CLOSE_ONLY",
    10045: "REQUEST_PROHIBITED_BY_FIFO",
    10046: "REQUEST_HEDGE_PROHIBITED",
    11000: "REQUEST_RETURN",
    11001: "REQUEST_DONE_CANCEL",
    11002: "REQUEST_REQUOTE_RETURN",
    12000: "ERR_NOTIMPLEMENT",
    12001: "ERR_NOTMAIN",
    12002: "ERR_NOTSUPPORTED",
    12003: "ERR_DEADLOCK",
    12004: "ERR_LOCKED",
    14000: "MESSENGER_INVALID_PHONE",
    14001: "MESSENGER_NOT_MOBILE",
    15000: "SUBS_NOT_FOUND",
    15001: "SUBS_NOT_FOUND_CFG",
    15002: "SUBS_NOT_FOUND_USER",
    15003: "SUBS_DISABLED",
    15004: "SUBS_PERMISSION_USER",
    15005: "SUBS_PERMISSION_SUBSCRIBE",
    15006: "SUBS_PERMISSION_UNSUBSCRIBE",
    15007: "SUBS_REAL_ONLY",
    15008: "SUBS_PAYMENT_METHOD",
    16000: "PAY_REAL_ONLY",
    16001: "PAY_INVALID_AMOUNT",
    16002: "PAY_NOT_ALLOWED_DEPOSIT",
    16003: "PAY_NOT_ALLOWED_WITHDRAWAL",
    16004: "PAY_NOT_ALLOWED_GROUP",
    16005: "PAY_NOT_ALLOWED_COUNTRY",
    16006: "PAY_DECLINE_BY_RULES",
    16007: "PAY_DECLINE_BY_AML",
    16008: "PAY_LIMIT_DEPOSIT_MIN",
    16009: "PAY_LIMIT_DEPOSIT_MAX",
    16010: "PAY_LIMIT_WITHDRAWAL_MIN",
    16011: "PAY_LIMIT_WITHDRAWAL_MAX",
    16012: "PAY_PROVIDER_PAYMENT",
    16013: "PAY_PROVIDER_STATUS",
    16014: "PAY_CONVERSION",
    16015: "PAY_NOT_WAITING",
    16016: "PAY_VERIFICATION",
    16017: "PAY_INVOICE",
    16018: "PAY_INVALID_CURRENCY",
    16019: "PAY_LIMIT_REACHED",
    16020: "PAY_PROVIDER_REFUND",
    16021: "PAY_DECLINE_BY_CARDHOLDER_NAME",
}


def name(retcode: int) -> str:
    """The code's name, or the number itself for one that we have no name for."""
    return NAMES.get(retcode, str(retcode))


def error_of(retcode: int, *, mutation: bool, detail: str = "") -> PlatformError:
    """The error that a return code other than success means.

    For a mutation an unclear one is an unknown outcome, and so is a number that we do not know.
    """
    if mutation and (retcode in UNCLEAR or retcode not in NAMES):
        return UnknownOutcome(retcode=retcode, detail=detail)
    if retcode in UNCLEAR:
        return Unreachable(retcode=retcode, detail=detail)
    if retcode in BUSY:
        return ServerBusy(retcode=retcode, detail=detail)
    if retcode in DENIED:
        return AccessDenied(retcode=retcode, detail=detail)
    if retcode == NOT_FOUND:
        return NotKnown(retcode=retcode, detail=detail)
    return BusinessError(retcode, detail)
