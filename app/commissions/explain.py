"""Every number explained, as data: a line down to deal, rule, version, arithmetic and settlement; a zero down to its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions.accrual import REVERSE
from app.commissions.components import COMPONENTS
from app.commissions.deals import EXACT, cut
from app.commissions.lines import AccrualLine, line_of, lines_of, stored_lines
from app.commissions.plans import Rule, parse_rules
from app.commissions.reasons import Reason
from app.commissions.tier_steps import Step, cap_steps, tier_steps
from app.core.errors import N_, NotFound
from app.models.commissions import Accrual, DealOutcome, Plan, PlanVersion, Settlement
from app.models.metatrader import Deal
from app.models.occasions import Occasion, OccasionTakenBack
from app.partners.privacy import Privacy, current_privacy

#: Why a deal paid nothing, in words for people.
REASONS: dict[Reason, str] = {
    Reason.VOID: N_("The deal was removed at the trading server."),
    Reason.SUPERSEDED: N_("The deal was corrected at the trading server; the corrected deal counts."),
    Reason.NOT_A_TRADE: N_("This is not a trade but a movement on the account."),
    Reason.NOT_CLOSING: N_("Commission is paid when a position is closed; this deal opened one."),
    Reason.NO_ACCOUNT: N_("The trading account of this deal is not known yet; the deal waits."),
    Reason.DEMO: N_("The deal was done on a demo account."),
    Reason.NO_IB: N_("The client had no introducing broker when the deal was done."),
    Reason.NO_PLAN: N_("The introducing broker had no plan when the deal was done."),
    Reason.PLAN_INVALID: N_("The plan's rules cannot be read; the deal waits until they are mended."),
    Reason.NO_CLOSED_VOLUME: N_("The trading server did not report how much this deal closed."),
    Reason.NO_RULE_MATCHED: N_("No rule of the plan is for this symbol, direction, product, country and category."),
    Reason.EXCLUDED_REASON: N_("The deal was not made by the trader: a rollover, a split, a correction or the like."),
    Reason.HELD_TOO_SHORT: N_("The position was held for less than the plan asks."),
    Reason.NOTHING_TO_SHARE: N_("The plan gives a part of an amount that is zero for this deal."),
    Reason.NO_SPREAD: N_("The trading server did not report the spread of this deal; the deal waits."),
    Reason.NO_SYMBOL_DATA: N_(
        "The trading server did not report the opening price or the digits of this deal; the deal waits."
    ),
    Reason.MOVED_TOO_LITTLE: N_("The price moved by fewer points than the plan asks."),
    Reason.ON_CREDIT: N_("More of the account's money was credit, such as a bonus, than the plan allows."),
    Reason.NO_RATE: N_("There is no exchange rate for the day of this deal; the deal waits."),
    Reason.OPENING_UNKNOWN: N_("The opening of this position is not known yet; the deal waits."),
    Reason.BEYOND_LIMITS: N_("The amount is larger than any real deal's; the deal waits to be looked at."),
}


#: Staff read names in full.
_FOR_STAFF = Privacy(names="full", shows_sub_clients=True)


@dataclass(frozen=True)
class SettledIn:
    """The settlement that paid a line, and its transaction in the ledger."""

    settlement_id: int
    period: str
    settled_at: datetime
    ledger_txn_id: UUID | None


@dataclass(frozen=True)
class Explanation:
    """All that leads to one line, of a deal or of an occasion. `settled` is None while it waits for the next settlement;
    `taken_back`, of the reverse of an occasion's line, is why.
    """

    line: AccrualLine
    deal_id: int | None
    revision: int | None
    occasion: Occasion | None
    plan: str
    version: int
    valid_from: datetime
    rule: Rule
    steps: tuple[Step, ...]
    settled: SettledIn | None
    taken_back: OccasionTakenBack | None = None


@dataclass(frozen=True)
class DealExplanation:
    """What became of a deal: its lines, or the reason why there are none; `judged_at` is None while it waits for its job."""

    deal_id: int
    judged_at: datetime | None
    reason: Reason | None
    message: str
    lines: tuple[AccrualLine, ...]


def explain_accrual(session: Session, accrual_id: int, ib_id: int | None) -> Explanation:
    """Everything behind one line of this IB; None, for staff: of anybody. Raises NotFound for another's."""
    lines = stored_lines() if ib_id is None else lines_of(ib_id)
    found = session.execute(lines.where(Accrual.id == accrual_id)).one_or_none()
    if found is None:
        raise NotFound
    accrual, deal, _, _, occasion, settlement_id = found
    version, plan = session.execute(
        select(PlanVersion, Plan).join(Plan, Plan.id == PlanVersion.plan_id).where(PlanVersion.id == accrual.plan_version_id)
    ).one()
    rule = next(rule for rule in parse_rules(version.rules, plan.currency) if rule.key == accrual.rule)
    settlement = session.get(Settlement, settlement_id) if settlement_id else None
    return Explanation(
        line=line_of(found, _FOR_STAFF if ib_id is None else current_privacy(session)),
        deal_id=deal.id if deal else None,
        revision=deal.revision if deal else None,
        occasion=occasion,
        plan=plan.name,
        version=version.version,
        valid_from=version.valid_from,
        rule=rule,
        steps=arithmetic(accrual, rule, _stood_before(session, accrual)),
        settled=SettledIn(settlement.id, settlement.period, settlement.settled_at, settlement.ledger_txn_id)
        if settlement
        else None,
        taken_back=session.get(OccasionTakenBack, occasion.id) if occasion and accrual.kind == REVERSE else None,
    )


def explain_deal(session: Session, deal_id: int) -> DealExplanation:
    """What became of a deal, for staff: it shows the lines of every IB. Raises NotFound."""
    if session.scalar(select(Deal.id).where(Deal.id == deal_id)) is None:
        raise NotFound
    rows = session.execute(stored_lines().where(Accrual.deal_id == deal_id).order_by(Accrual.id)).all()
    outcome = session.get(DealOutcome, deal_id, populate_existing=True)
    reason = Reason(outcome.reason) if outcome and outcome.reason else None
    return DealExplanation(
        deal_id=deal_id,
        judged_at=outcome.judged_at if outcome else min((row[0].accrued_at for row in rows), default=None),
        reason=reason,
        message=REASONS[reason] if reason else "",
        lines=tuple(line_of(row, _FOR_STAFF) for row in rows),
    )


def arithmetic(paid: Accrual, rule: Rule, before: tuple[Decimal, Decimal] | None = None) -> tuple[Step, ...]:
    """The steps from what was measured to the amount; a step that changes nothing is left out.

    An adjustment is the difference between two such amounts: of it there is one step. `before`, of an adjustment that trued up
    a period, are the amount and the lots that stood; then the steps are those of what is due in the end.
    """
    last = Step("=", N_("Rebate") if paid.level == 0 else N_("Commission"), paid.amount, paid.currency)
    if before is not None:
        return _trued_up(paid, rule, *before)
    if paid.kind.startswith("adjust:"):
        return (replace(last, label=N_("Difference found when the period was recomputed")),)
    kind = COMPONENTS[rule.component]
    currency = paid.base_currency or paid.currency
    measured = paid.lots if paid.base is None else paid.base
    label = kind.label if paid.base is not None else (N_("Lots closed") if rule.when == "close" else N_("Lots"))
    steps = [Step("", label, measured, paid.base_currency or "")]
    exact = EXACT.multiply(measured, paid.rate)
    if kind.is_percentage:
        is_difference = rule.mode == "override" and paid.level > 1
        label = N_("Difference to the percentage of the level below") if is_difference else N_("Percentage")
        steps += [Step("×", label, paid.rate, "%")]
    else:
        label = N_("Rate per lot") if paid.base is None else N_("Rate")
        if rule.mode == "override" and paid.level > 1:
            label = N_("Difference to the rate of the level below")
        steps += [Step("×", kind.rate_label or label, paid.rate, "" if kind.rate_label else paid.currency)]
    if rule.tiers is not None and paid.tier_position is not None:
        stood, weighted = tier_steps(paid, rule, rule.tiers, paid.tier_position)
        steps = [*stood, *steps]
        if weighted is not None:
            exact = weighted if paid.base is None else EXACT.divide(EXACT.multiply(measured, weighted), paid.lots)
    if kind.is_percentage:
        exact = EXACT.scaleb(exact, Decimal(-2))
    # A rebate that was handed on is of the first level, whose share it is a part of.
    share = rule.terms[max(paid.level, 1) - 1].share
    if share != 1:
        steps += [Step("=", N_("The rule gives"), exact, currency), Step("×", N_("Share of this level"), share, "")]
        exact = EXACT.multiply(exact, share)
    if paid.multiplier is not None:
        steps += [Step("×", N_("The IB's own multiplier"), paid.multiplier, "")]
        exact = EXACT.multiply(exact, paid.multiplier)
    if paid.fx_rate is not None:
        steps += [Step("=", N_("In the account's currency"), exact, currency)]
        steps += [Step("×", N_("Exchange rate of the day"), paid.fx_rate, f"{paid.currency}/{currency}")]
        exact = EXACT.multiply(exact, paid.fx_rate)
    if paid.part is not None:
        handed = N_("Handed on by the IB") if paid.level == 0 else N_("Kept after handing on to the trader")
        steps += [Step("×", handed, EXACT.scaleb(paid.part, Decimal(2)), "%")]
        exact = EXACT.multiply(exact, paid.part)
    if paid.uncapped is not None:
        return (*steps, *_caps(paid, rule, exact))
    if paid.kind == "reverse" and cut(exact) != paid.amount:
        steps += [Step("=", N_("Taken back of the first line"), exact, paid.currency)]
        last = replace(last, label=N_("With the adjustments made since"))
    elif exact != paid.amount:
        steps += [Step("=", N_("Exact product"), exact, paid.currency)]
        last = replace(
            last, label=N_("Rebate, cut to ten decimals") if paid.level == 0 else N_("Commission, cut to ten decimals")
        )
    return (*steps, last)


def _trued_up(paid: Accrual, rule: Rule, amount: Decimal, lots: Decimal) -> tuple[Step, ...]:
    """How the amount that is due in the end comes about, and what is left of it after what was paid before."""
    columns = {column.key: getattr(paid, column.key) for column in Accrual.__table__.columns}
    due = Accrual(**columns | {"kind": "accrue", "amount": paid.amount + amount, "lots": paid.lots + lots})
    return (
        *arithmetic(due, rule),
        Step("−", N_("Given for this deal before"), amount, paid.currency),
        Step("=", N_("Difference found when the period was trued up"), paid.amount, paid.currency),
    )


def _stood_before(session: Session, paid: Accrual) -> tuple[Decimal, Decimal] | None:
    """Amount and lots of all earlier lines for the same, of a line that trued up a period."""
    if not paid.kind.startswith("adjust:true-up:"):
        return None
    same = (Accrual.deal_id, Accrual.plan_version_id, Accrual.rule, Accrual.level, Accrual.ib_id, Accrual.client_id)
    query = select(func.coalesce(func.sum(Accrual.amount), 0), func.coalesce(func.sum(Accrual.lots), 0)).where(
        Accrual.id < paid.id, *(column.is_not_distinct_from(getattr(paid, column.key)) for column in same)
    )
    amount, lots = session.execute(query).one()
    return amount, lots


def _caps(paid: Accrual, rule: Rule, exact: Decimal) -> tuple[Step, ...]:
    """What a cap of the rule or the margin guard left of an exact product."""
    before = Step("=", N_("Before the cap"), exact, paid.currency)
    of_a_period = cap_steps(paid, rule, exact)
    if of_a_period is not None and paid.earned is None:
        return of_a_period
    if paid.earned is None:
        limit = Step("→", N_("The rule pays for one deal at most"), rule.cap or Decimal(0), paid.currency)
        return before, limit, Step("=", N_("This level's part of the cap"), paid.amount, paid.currency)
    limit = Step("→", N_("The deal earned, and all its payouts were cut to that"), paid.earned, paid.currency)
    return before, limit, Step("=", N_("This line's part of it"), paid.amount, paid.currency)
