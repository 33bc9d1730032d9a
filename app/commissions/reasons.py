"""Why a deal pays nothing. The words for people stand in app/commissions/explain.py."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One reason, as the deal's outcome keeps it."""

    VOID = "void"
    SUPERSEDED = "superseded"
    NOT_A_TRADE = "not_a_trade"
    NOT_CLOSING = "not_closing"
    NO_ACCOUNT = "no_account"
    DEMO = "demo"
    NO_IB = "no_ib"
    NO_PLAN = "no_plan"
    PLAN_INVALID = "plan_invalid"
    NO_CLOSED_VOLUME = "no_closed_volume"
    NO_RULE_MATCHED = "no_rule_matched"
    EXCLUDED_REASON = "excluded_reason"
    HELD_TOO_SHORT = "held_too_short"
    MOVED_TOO_LITTLE = "moved_too_little"
    ON_CREDIT = "on_credit"
    NOTHING_TO_SHARE = "nothing_to_share"
    OPENING_UNKNOWN = "opening_unknown"
    BEYOND_LIMITS = "beyond_limits"
    NO_SPREAD = "no_spread"
    NO_SYMBOL_DATA = "no_symbol_data"
    NO_RATE = "no_rate"


#: Deals that cannot be priced yet; they are judged again once what is missing is there.
WAITING = frozenset(
    {
        Reason.NO_ACCOUNT,
        Reason.OPENING_UNKNOWN,
        Reason.PLAN_INVALID,
        Reason.BEYOND_LIMITS,
        Reason.NO_SPREAD,
        Reason.NO_SYMBOL_DATA,
        Reason.NO_RATE,
    }
)
