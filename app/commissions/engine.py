"""The engine: one deal and the plan of its IB in, accruals or the reason for none out. Pure and deterministic.

The same function accrues live, replays the past and prices an example: it knows no database, no clock and no ambient
decimal context. Every rule of the plan that fits the deal pays. Amounts are exact products, cut to ten decimal places
towards zero, so that the shares of a rule never sum to more than the rule gives; whole minor units come at settlement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from functools import lru_cache

from app.commissions.components import COMPONENTS, Pool
from app.commissions.deals import BUY, CLOSING_ENTRIES, EXACT, SELL, DealFacts
from app.commissions.plans import PlanSnapshot, Rule, RuleFilter

#: The step of an accrual, as its column NUMERIC(24, 10) holds it, and the first amount that no longer fits.
STEP = Decimal("1e-10")
_TOO_LARGE = Decimal("1e14")


class Reason(StrEnum):
    """Why a deal pays nothing. The words for people stand in app/commissions/explain.py."""

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
    OPENING_UNKNOWN = "opening_unknown"
    BEYOND_LIMITS = "beyond_limits"


#: Deals that cannot be priced yet; they are judged again once what is missing is there.
WAITING = frozenset({Reason.NO_ACCOUNT, Reason.OPENING_UNKNOWN, Reason.PLAN_INVALID, Reason.BEYOND_LIMITS})

#: When no rule pays, the reason is that of the rule that came closest: later in this order.
_CLOSENESS = (Reason.NO_RULE_MATCHED, Reason.EXCLUDED_REASON, Reason.HELD_TOO_SHORT)


@dataclass(frozen=True, slots=True)
class Upline:
    """One beneficiary above the client: level 1 is the client's own IB, level 2 the IB above it."""

    level: int
    ib_id: int


@dataclass(frozen=True, slots=True)
class Accrued:
    """What one rule gives one IB for one deal: `amount` = `lots` x `rate` x `share`, cut to ten places."""

    plan_version_id: int
    rule: str
    level: int
    ib_id: int
    lots: Decimal
    rate: Decimal
    share: Decimal
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Accruals, or the reason why there are none; never both, never neither."""

    accruals: tuple[Accrued, ...] = ()
    reason: Reason | None = None


def compute(deal: DealFacts, plan: PlanSnapshot | None, upline: Sequence[Upline]) -> Outcome:
    """What `deal` accrues under `plan` for the IBs in `upline`, all as they stood when the deal was done.

    A deal that cannot be priced by one of its rules pays nothing yet, also not by the others: it is judged again as a whole.
    """
    reason = _not_payable(deal, plan, upline)
    if reason is not None or plan is None:
        return Outcome(reason=reason)
    closest = Reason.NO_RULE_MATCHED
    accruals: list[Accrued] = []
    for rule in plan.rules:
        refusal = refused_by(rule.filter, deal)
        if refusal in WAITING:
            return Outcome(reason=refusal)
        if refusal is not None:
            closest = max(closest, refusal, key=_CLOSENESS.index)
            continue
        pool = COMPONENTS[rule.component](deal, rule.rate)
        if abs(pool.amount) >= _TOO_LARGE:
            return Outcome(reason=Reason.BEYOND_LIMITS)
        accruals.extend(_shared(pool, rule, plan.version_id, upline))
    return Outcome(tuple(accruals)) if accruals else Outcome(reason=closest)


def refused_by(criteria: RuleFilter, deal: DealFacts) -> Reason | None:
    """Why a rule's filter leaves a closing deal out; None when it takes it."""
    if not _symbols(criteria.symbols).fullmatch(deal.symbol):
        return Reason.NO_RULE_MATCHED
    if criteria.direction not in ("any", deal.position_direction):
        return Reason.NO_RULE_MATCHED
    if deal.reason in criteria.excluded_reasons:
        return Reason.EXCLUDED_REASON
    if criteria.min_holding_s:
        if deal.opened_at is None:
            return Reason.OPENING_UNKNOWN
        if (deal.done_at - deal.opened_at).total_seconds() < criteria.min_holding_s:
            return Reason.HELD_TOO_SHORT
    return None


def share_of(pool_amount: Decimal, share: Decimal) -> Decimal:
    """A level's part of what a rule gives, cut to ten places towards zero."""
    return EXACT.multiply(pool_amount, share).quantize(STEP, rounding=ROUND_DOWN, context=EXACT)


def _not_payable(deal: DealFacts, plan: PlanSnapshot | None, upline: Sequence[Upline]) -> Reason | None:
    """The first reason that needs no rule, from the deal itself outwards."""
    checks = (
        (deal.is_void, Reason.VOID),
        (deal.is_superseded, Reason.SUPERSEDED),
        (deal.action not in (BUY, SELL), Reason.NOT_A_TRADE),
        (deal.entry not in CLOSING_ENTRIES, Reason.NOT_CLOSING),
        (not deal.has_account, Reason.NO_ACCOUNT),
        (deal.is_demo, Reason.DEMO),
        (not upline, Reason.NO_IB),
        (plan is None, Reason.NO_PLAN),
        (plan is not None and plan.is_broken, Reason.PLAN_INVALID),
        (deal.closed_volume <= 0, Reason.NO_CLOSED_VOLUME),
    )
    return next((reason for applies, reason in checks if applies), None)


def _shared(pool: Pool, rule: Rule, version_id: int, upline: Sequence[Upline]) -> list[Accrued]:
    """Give each IB of the upline its level's share; levels without an IB stay with the house."""
    return [
        Accrued(
            plan_version_id=version_id,
            rule=rule.key,
            level=above.level,
            ib_id=above.ib_id,
            lots=pool.lots,
            rate=pool.rate,
            share=rule.levels[above.level - 1],
            amount=share_of(pool.amount, rule.levels[above.level - 1]),
            currency=rule.currency,
        )
        for above in upline
        if above.level <= len(rule.levels)
    ]


@lru_cache(maxsize=1024)
def _symbols(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(".*".join(re.escape(part) for part in pattern.split("*")) for pattern in patterns))
