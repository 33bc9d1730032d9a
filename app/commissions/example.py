"""A deal that was typed, priced by rules that pay nobody yet: every payout with its steps, or the reason for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.orm import Session

from app.commissions.accrual import stored
from app.commissions.deals import DealFacts
from app.commissions.engine import Upline, compute
from app.commissions.explain import REASONS, arithmetic
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.snapshots import DayRates
from app.commissions.symbol_groups import resolved
from app.commissions.tier_steps import Step
from app.commissions.tiers import Position, Positions
from app.models.commissions import Accrual


@dataclass(frozen=True)
class Payout:
    """What one level would get by one rule."""

    rule: str
    level: int
    line: Accrual
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Priced:
    """The payouts of an example, or the sentence (a message id) why there are none."""

    payouts: tuple[Payout, ...]
    message: str


def price(
    session: Session,
    rules: Sequence[Rule],
    deal: DealFacts,
    depth: int,
    margin_guard: str = "off",
    stands: Decimal = Decimal(0),
) -> Priced:
    """Price an example with `depth` IBs above the client, at the rates of the deal's day. Nothing is written.

    `stands` is where tiers stand before the deal: a volume, deposits or a number of clients.

    Raises InvalidPlan when a rule names a symbol group that there is not.
    """
    plan = PlanSnapshot(0, resolved(session, rules, deal.done_at), margin_guard=margin_guard)
    upline = [Upline(level, level) for level in range(1, depth + 1)]
    outcome = compute(deal, plan, upline, DayRates(session).of(deal, plan), _positions(plan.rules, deal, stands))
    by_key = {rule.key: rule for rule in rules}
    payouts = []
    for made in outcome.accruals:
        line = Accrual(**stored(0, made))
        payouts.append(Payout(made.rule, made.level, line, arithmetic(line, by_key[made.rule])))
    return Priced(tuple(payouts), REASONS[outcome.reason] if outcome.reason else "")


def _positions(rules: Sequence[Rule], deal: DealFacts, stands: Decimal) -> Positions:
    """The same for all rules; whole tiers count the deal itself too."""
    found = {}
    for rule in rules:
        if rule.tiers is not None:
            counts_itself = rule.tiers.is_running and rule.tiers.mode == "whole"
            lots = deal.lots_closed if rule.when == "close" else deal.lots
            found[rule.key] = Position(stands + lots if counts_itself else stands)
    return found
