"""The engine: one deal and the plan of its IB in, accruals or the reason for none out. Pure and deterministic.

The same function accrues live, replays the past and prices an example: it knows no database, no clock and no ambient
decimal context. Every rule of the plan that fits the deal pays. Amounts are exact products, cut to ten decimal places
towards zero, so that what a rule pays never sums to more than it gives; whole minor units come at settlement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from app.commissions import margin
from app.commissions.components import COMPONENTS, Measured
from app.commissions.deals import BUY, ENTRY_OUT, EXACT, SELL, STEP, DealFacts, cut
from app.commissions.plans import PlanSnapshot, Rule, Term
from app.commissions.reasons import WAITING, Reason
from app.commissions.terms import PersonalTerms, terms_for
from app.commissions.tiers import BEGINNING, Piece, Position, Positions, average_rate, capped, pieces

__all__ = ["STEP", "WAITING", "Accrued", "Outcome", "Rate", "Reason", "Upline", "compute", "cut"]

#: The first amount that does not fit an accrual's column any more.
_TOO_LARGE = Decimal("1e14")

#: When no rule pays, the reason is that of the rule that came closest: later in this order.
_CLOSENESS = (
    Reason.NOT_CLOSING,
    Reason.NO_RULE_MATCHED,
    Reason.EXCLUDED_REASON,
    Reason.HELD_TOO_SHORT,
    Reason.MOVED_TOO_LITTLE,
    Reason.ON_CREDIT,
    Reason.NO_CLOSED_VOLUME,
    Reason.NOTHING_TO_SHARE,
)


@dataclass(frozen=True, slots=True)
class Upline:
    """One beneficiary above the client: level 1 is the client's own IB, level 2 the IB above it. An upline has them in this
    order, without a gap. `terms` are the IB's own, where it has some.
    """

    level: int
    ib_id: int
    terms: PersonalTerms | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """1 unit of the account's currency in another at a moment, and who said so when; the source of "1" is "same"."""

    rate: Decimal
    source: str
    observed_at: datetime | None


#: The rates of the day of the deal, from the account's currency to others, by the other's code.
Rates = Mapping[str, Rate]

SAME = Rate(Decimal(1), "same", None)

#: Whom a rebate goes to, in place of the upline.
_TRADER = (Upline(0, 0),)


@dataclass(frozen=True, slots=True)
class Accrued:
    """What one rule gives one IB for one deal; of level 0, a rebate, `ib_id` is None and `client_id` the trader.

    `amount` = measured x `rate` (a percentage: a hundredth of it) x `share` x `multiplier` x `fx`'s rate x `part`, cut to ten
    places. What was measured is `lots`, or `base` where that is something else: in the account's currency, or a number.
    `multiplier` is the IB's own, and `part` what is left of a line after handing on, or was handed on; None: 1.
    `uncapped` is the amount before the rule's caps and the margin guard, None where they took nothing; `earned`, where the
    guard took something, what the deal earned. `tier_position` is where the rule's tiers stood, and `cap_paid` what the IB had
    got before in the period whose cap took something.
    """

    plan_version_id: int
    rule: str
    level: int
    ib_id: int | None
    lots: Decimal
    rate: Decimal
    share: Decimal
    amount: Decimal
    currency: str
    base: Decimal | None = None
    base_currency: str | None = None
    fx: Rate | None = None
    uncapped: Decimal | None = None
    client_id: int | None = None
    tier_position: Decimal | None = None
    cap_paid: Decimal | None = None
    multiplier: Decimal | None = None
    part: Decimal | None = None
    earned: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Accruals, or the reason why there are none; never both, never neither. `excess`: the deal pays more than it earned and
    its plan wants that flagged.
    """

    accruals: tuple[Accrued, ...] = ()
    reason: Reason | None = None
    excess: margin.Excess | None = None


def compute(
    deal: DealFacts,
    plan: PlanSnapshot | None,
    upline: Sequence[Upline],
    rates: Rates | None = None,
    positions: Positions | None = None,
) -> Outcome:
    """What `deal` accrues under `plan` for the IBs in `upline`, all as they stood when the deal was done.

    `positions` say where the rules with tiers and caps of a period stand; without them they stand at the beginning.
    A deal that cannot be priced by one of its rules pays nothing yet, also not by the others: it is judged again as a whole.
    """
    reason = _not_payable(deal, plan, upline)
    if reason is not None or plan is None:
        return Outcome(reason=reason)
    closest = Reason.NOT_CLOSING if plan.for_deals else Reason.NO_RULE_MATCHED
    accruals: list[Accrued] = []
    for rule in plan.for_deals:
        position = positions.get(rule.key, BEGINNING) if positions else BEGINNING
        paid = refused_by(rule, deal) or _paid(rule, deal, plan, upline, rates or {}, position)
        if isinstance(paid, list):
            accruals += paid
        elif paid in WAITING:
            return Outcome(reason=paid)
        else:
            closest = max(closest, paid, key=_CLOSENESS.index)
    if not accruals:
        return Outcome(reason=closest)
    found = margin.excess(accruals, deal, plan, rates or {}, upline[0].ib_id) if plan.margin_guard != "off" else None
    if plan.margin_guard == "cap" and isinstance(found, Reason):
        return Outcome(reason=found)
    if plan.margin_guard == "cap" and isinstance(found, margin.Excess):
        accruals, found = margin.capped(accruals, found, rates or {}), None
    return Outcome(_handed_on(accruals, deal, upline), excess=found if isinstance(found, margin.Excess) else None)


def grant(rule: Rule, plan: PlanSnapshot, upline: Sequence[Upline], at: datetime) -> list[Accrued] | Reason:
    """What a rule that is not for deals gives each IB of the upline for one occasion."""
    return _paid(rule, DealFacts(0, BUY, ENTRY_OUT, 0, "", 0, 0, at), plan, upline, {}, BEGINNING)


def refused_by(rule: Rule, deal: DealFacts) -> Reason | None:
    """Why a rule leaves a deal out; None when it takes it."""
    criteria = rule.filter
    if criteria.symbol_groups:
        return Reason.PLAN_INVALID
    if rule.when == "close" and not deal.is_closing:
        return Reason.NOT_CLOSING
    if (
        not _symbols(criteria.symbols).fullmatch(deal.symbol)
        or criteria.direction not in ("any", deal.position_direction)
        or (criteria.products and deal.product not in criteria.products)
        or (criteria.countries and deal.country not in criteria.countries)
        or (criteria.categories and deal.category not in criteria.categories)
    ):
        return Reason.NO_RULE_MATCHED
    if deal.reason in criteria.excluded_reasons:
        return Reason.EXCLUDED_REASON
    if rule.when == "close" and deal.closed_volume <= 0:
        return Reason.NO_CLOSED_VOLUME
    if criteria.min_holding_s:
        if deal.opened_at is None:
            return Reason.OPENING_UNKNOWN
        if (deal.done_at - deal.opened_at).total_seconds() < criteria.min_holding_s:
            return Reason.HELD_TOO_SHORT
    if criteria.min_points:
        if deal.points_moved is None:
            return Reason.NO_SYMBOL_DATA
        if deal.points_moved < criteria.min_points:
            return Reason.MOVED_TOO_LITTLE
    if deal.credit_percent > criteria.max_credit_percent:
        return Reason.ON_CREDIT
    return None


def _not_payable(deal: DealFacts, plan: PlanSnapshot | None, upline: Sequence[Upline]) -> Reason | None:
    """The first reason that needs no rule, from the deal itself outwards."""
    if deal.is_void:
        return Reason.VOID
    if deal.is_superseded:
        return Reason.SUPERSEDED
    if deal.action not in (BUY, SELL):
        return Reason.NOT_A_TRADE
    if not deal.has_account:
        return Reason.NO_ACCOUNT
    if deal.is_demo:
        return Reason.DEMO
    if not upline:
        return Reason.NO_IB
    if plan is None:
        return Reason.NO_PLAN
    return Reason.PLAN_INVALID if plan.is_broken else None


def _paid(
    rule: Rule, deal: DealFacts, plan: PlanSnapshot, upline: Sequence[Upline], rates: Rates, position: Position
) -> list[Accrued] | Reason:
    """What a rule that takes the deal gives each IB of the upline, or the trader; levels without an IB stay with the house."""
    measured = COMPONENTS[rule.component].measure(deal, rule.when)
    if isinstance(measured, Reason):
        return measured
    if not measured.quantity:
        return Reason.NOTHING_TO_SHARE
    fx = _rate_of(measured, rule.currency, rates)
    if fx is None:
        return Reason.NO_RATE
    is_rebate = rule.beneficiary == "trader"
    terms = rule.terms if is_rebate else terms_for(rule, plan.plan_id, upline)
    levels = list(zip(_TRADER if is_rebate else upline, terms, strict=False))
    unit = measured.quantity if fx is SAME else EXACT.multiply(measured.quantity, fx.rate)
    lots = deal.lots_closed if rule.when == "close" else deal.lots
    average: Decimal | None = None
    if rule.tiers is None:
        exact = [EXACT.multiply(unit, term.factor) for _, term in levels]
    elif position.tier is None:
        return Reason.NO_RATE
    else:
        parts = pieces(rule.tiers, position.tier, lots)
        average = average_rate(parts)
        exact = [_in_tiers(unit, lots, term, parts, rule.rate) for _, term in levels]
    total = sum((abs(amount) for amount in exact), Decimal(0)) if rule.cap is not None else Decimal(0)
    if any(abs(amount) >= _TOO_LARGE for amount in exact):
        return Reason.BEYOND_LIMITS
    paid: list[Accrued] = []
    for (above, term), whole in zip(levels, exact, strict=True):
        amount = whole
        if rule.cap is not None and total > rule.cap:
            amount = EXACT.divide(EXACT.multiply(whole, rule.cap), total)
        if not term.rate:
            continue
        given, cap_paid = cut(amount), None
        if rule.caps is not None:
            given, cap_paid = capped(rule.caps, position, above.ib_id, given)
        paid.append(
            Accrued(
                plan_version_id=plan.version_id,
                rule=rule.key,
                level=above.level,
                ib_id=None if is_rebate else above.ib_id,
                lots=lots,
                rate=term.rate if average is None or term.is_personal else average,
                share=term.share,
                amount=given,
                currency=rule.currency,
                base=None if measured.currency is None and measured.quantity == lots else measured.quantity,
                base_currency=measured.currency,
                fx=None if fx is SAME else fx,
                uncapped=None if amount is whole and cap_paid is None else cut(whole),
                client_id=deal.client_id if is_rebate else None,
                multiplier=term.multiplier,
                tier_position=None if rule.tiers is None or term.is_personal else position.tier,
                cap_paid=cap_paid,
            )
        )
    return paid


def _in_tiers(unit: Decimal, lots: Decimal, term: Term, parts: Sequence[Piece], first_rate: Decimal) -> Decimal:
    """What a level gets of a measured amount whose lots lie in bands; `term` is that of the first band's rate, or
    a personal one, which is no band's.
    """
    if term.is_personal:
        return EXACT.multiply(unit, term.factor)
    share = EXACT.multiply(unit, EXACT.divide(term.factor, first_rate))
    if len(parts) == 1:
        return EXACT.multiply(share, parts[0].band.rate)
    weighted = Decimal(0)
    for part in parts:
        weighted = EXACT.add(weighted, EXACT.multiply(part.lots, part.band.rate))
    return EXACT.divide(EXACT.multiply(share, weighted), lots)


def _handed_on(accruals: list[Accrued], deal: DealFacts, upline: Sequence[Upline]) -> tuple[Accrued, ...]:
    """The lines, with what the client's own IB hands on to the trader as lines of their own; the sum stays the same."""
    percent = upline[0].terms.hand_on_percent if upline[0].terms else None
    if not percent:
        return tuple(accruals)
    part = EXACT.scaleb(percent, Decimal(-2))
    lines: list[Accrued] = []
    for line in accruals:
        if line.level != 1:
            lines.append(line)
            continue
        given = cut(EXACT.multiply(line.amount, part))
        before = None if line.uncapped is None else cut(EXACT.multiply(line.uncapped, part))
        lines.append(
            replace(
                line,
                amount=EXACT.subtract(line.amount, given),
                uncapped=None if before is None or line.uncapped is None else EXACT.subtract(line.uncapped, before),
                part=EXACT.subtract(Decimal(1), part),
            )
        )
        lines.append(replace(line, level=0, ib_id=None, client_id=deal.client_id, amount=given, uncapped=before, part=part))
    return tuple(lines)


def _rate_of(measured: Measured, currency: str, rates: Rates) -> Rate | None:
    """By what a measured amount becomes one in the rule's currency; None where the day has no rate."""
    if measured.currency is None or measured.currency == currency:
        return SAME
    return rates.get(currency)


@lru_cache(maxsize=1024)
def _symbols(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(".*".join(re.escape(part) for part in pattern.split("*")) for pattern in patterns))
