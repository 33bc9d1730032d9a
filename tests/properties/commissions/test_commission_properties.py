"""What must hold for any deal and any plan."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.commissions.deals import DealFacts
from app.commissions.engine import STEP, Outcome, Upline, compute
from app.commissions.plans import PlanSnapshot, Rule, parse_rules, rules_document
from app.commissions.rule_filter import DIRECTIONS, RuleFilter
from app.commissions.terms import PersonalTerms

SYMBOLS = ("EURUSD", "GBPUSD.pro", "XAUUSD", "#AAPL")
LAST = datetime(2026, 7, 1, tzinfo=UTC)


def _decimals(low: str, high: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(low, high, places=places, allow_nan=False, allow_infinity=False)


@st.composite
def deals(draw: st.DrawFn) -> DealFacts:
    volume = draw(st.integers(0, 10**12))
    return DealFacts(
        deal_id=draw(st.integers(1, 10**6)),
        action=draw(st.sampled_from([0, 1, 1, 2, 6])),
        entry=draw(st.sampled_from([0, 1, 1, 2, 3])),
        reason=draw(st.integers(0, 21)),
        symbol=draw(st.sampled_from(SYMBOLS)),
        volume=volume,
        volume_closed=draw(st.one_of(st.just(0), st.integers(0, volume))),
        done_at=LAST,
        opened_at=draw(st.one_of(st.none(), st.integers(0, 7200).map(lambda age_s: LAST - timedelta(seconds=age_s)))),
        is_demo=draw(st.sampled_from([False, False, True])),
        is_void=draw(st.sampled_from([False, False, True])),
    )


@st.composite
def shares(draw: st.DrawFn) -> tuple[Decimal, ...]:
    """Shares with ten places that sum to 1 at most."""
    parts = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=5))
    whole = sum(parts) + draw(st.integers(0, 10**9))
    return tuple(Decimal(max(1, part * 10**10 // whole)).scaleb(-10) for part in parts)


@st.composite
def rates(draw: st.DrawFn) -> tuple[Decimal, ...]:
    """The own rates of levels, none below that of the level under it."""
    return tuple(sorted(draw(st.lists(_decimals("0.0000000001", "100000", 10), min_size=1, max_size=5))))


@st.composite
def rules(draw: st.DrawFn, key: str, *, capped: bool = True) -> Rule:
    when = draw(st.sampled_from(["close", "close", "each"]))
    mode = draw(st.sampled_from(["shares", "shares", "rates", "override", "below"]))
    by_rate = mode in ("rates", "override")
    return Rule(
        key=key,
        component=draw(st.sampled_from(["per_lot", "per_lot", "per_deal"])) if capped else "per_lot",
        rate=Decimal(0) if by_rate else draw(_decimals("0.0000000001", "100000", 10)),
        currency=draw(st.sampled_from(["USD", "EUR", "JPY"])),
        levels=draw(rates() if by_rate else shares()),
        mode=mode,
        when=when,
        cap=draw(st.none() | _decimals("0.0000000001", "1000", 10)) if capped else None,
        filter=RuleFilter(
            symbols=tuple(draw(st.lists(st.sampled_from(["*", "EUR*", "*USD*", "#AAPL"]), min_size=1, max_size=3))),
            direction=draw(st.sampled_from(DIRECTIONS)),
            min_holding_s=draw(st.sampled_from([0, 0, 60, 3600])) if when == "close" else 0,
        ),
    )


@st.composite
def plans(draw: st.DrawFn) -> PlanSnapshot:
    return PlanSnapshot(1, tuple(draw(rules(f"r{index}")) for index in range(draw(st.integers(1, 4)))))


uplines = st.integers(0, 6).map(lambda depth: tuple(Upline(level, 10 * level) for level in range(1, depth + 1)))


@given(deals(), plans(), uplines)
def test_a_deal_pays_or_says_why_and_never_takes(deal: DealFacts, plan: PlanSnapshot, upline: tuple[Upline, ...]) -> None:
    outcome = compute(deal, plan, upline)

    assert bool(outcome.accruals) != bool(outcome.reason)
    assert all(made.amount >= 0 and made.lots >= 0 for made in outcome.accruals)
    assert {made.ib_id for made in outcome.accruals} <= {above.ib_id for above in upline}


@given(deals(), plans(), uplines)
def test_the_levels_of_a_rule_never_get_more_than_the_rule_gives(
    deal: DealFacts, plan: PlanSnapshot, upline: tuple[Upline, ...]
) -> None:
    outcome = compute(deal, plan, upline)

    for rule in plan.rules:
        paid = [made for made in outcome.accruals if made.rule == rule.key]
        assert len(paid) <= min(len(rule.levels), len(upline))
        total = sum(made.amount for made in paid)
        quantity = Decimal(1) if rule.component == "per_deal" else deal.lots_closed if rule.when == "close" else deal.lots
        most = {"shares": rule.rate, "below": rule.rate * len(rule.levels), "rates": sum(rule.levels)}
        assert total <= quantity * most.get(rule.mode, max(rule.levels))
        assert rule.cap is None or total <= rule.cap


terms = st.builds(
    PersonalTerms,
    multiplier=st.none() | _decimals("0.01", "10", 4),
    rates=st.dictionaries(st.tuples(st.just(0), st.sampled_from(["r0", "r1"])), _decimals("0.0000000001", "100000", 10)),
    hand_on_percent=st.none() | _decimals("0", "100", 4),
)
agreed = st.lists(st.none() | terms, min_size=1, max_size=6).map(
    lambda own: tuple(Upline(level, 10 * level, one) for level, one in enumerate(own, start=1))
)


@given(deals(), plans(), agreed)
def test_handing_on_loses_nothing(deal: DealFacts, plan: PlanSnapshot, upline: tuple[Upline, ...]) -> None:
    keeping = tuple(replace(above, terms=above.terms and replace(above.terms, hand_on_percent=None)) for above in upline)

    handed, kept = compute(deal, plan, upline), compute(deal, plan, keeping)

    for rule in plan.rules:
        paid = [[made.amount for made in outcome.accruals if made.rule == rule.key] for outcome in (handed, kept)]
        assert sum(paid[0]) == sum(paid[1])
        assert all(amount >= 0 for amount in paid[0])
        assert rule.cap is None or sum(paid[0]) <= rule.cap


@given(deals(), plans(), agreed, _decimals("0", "50", 2), _decimals("-5", "20", 2))
def test_a_guarded_deal_never_pays_more_than_it_earned(
    deal: DealFacts, plan: PlanSnapshot, upline: tuple[Upline, ...], points: Decimal, charged: Decimal
) -> None:
    priced = {"bid": Decimal(1), "ask": 1 + points / 100_000, "contract_size": Decimal(100_000), "rate_profit": Decimal(1)}
    deal = replace(deal, currency="USD", commission=-charged, **priced)
    plan = replace(plan, rules=tuple(replace(rule, currency="USD") for rule in plan.rules), margin_guard="cap")

    outcome = compute(deal, plan, upline)

    spread = deal.spread_paid("each" if any(rule.when == "each" for rule in plan.rules) else "close")
    assert spread is not None
    assert sum(made.amount for made in outcome.accruals) <= max(spread + charged, Decimal(0))


@given(deals(), plans(), uplines)
def test_the_same_again_gives_the_same(deal: DealFacts, plan: PlanSnapshot, upline: tuple[Upline, ...]) -> None:
    assert compute(deal, plan, upline) == compute(replace(deal), replace(plan), tuple(upline))


@given(st.lists(deals(), max_size=8, unique_by=lambda deal: deal.deal_id), plans(), uplines, st.randoms())
def test_the_order_of_arrival_does_not_matter(
    batch: list[DealFacts], plan: PlanSnapshot, upline: tuple[Upline, ...], chance: random.Random
) -> None:
    def judged(order: list[DealFacts]) -> dict[int, Outcome]:
        return {deal.deal_id: compute(deal, plan, upline) for deal in order}

    shuffled = batch.copy()
    chance.shuffle(shuffled)
    assert judged(shuffled) == judged(batch)


@given(st.lists(st.integers(1, 10**10), min_size=2, max_size=6), rules("r", capped=False), uplines)
def test_a_volume_in_parts_pays_what_the_whole_pays(parts: list[int], rule: Rule, upline: tuple[Upline, ...]) -> None:
    """To the last digit while nothing is cut; otherwise less by under one step per further part."""
    plan = PlanSnapshot(1, (replace(rule, filter=RuleFilter()),))
    whole = DealFacts(1, 1, 1, 0, "EURUSD", sum(parts), 0, LAST)

    split = [compute(replace(whole, deal_id=2 + index, volume=part), plan, upline) for index, part in enumerate(parts)]

    for made in compute(whole, plan, upline).accruals:
        in_parts = sum(part.amount for outcome in split for part in outcome.accruals if part.level == made.level)
        assert 0 <= made.amount - in_parts <= STEP * (len(parts) - 1)
        if (made.rate * made.share) % Decimal("0.01") == 0:
            assert made.amount == in_parts


@given(plans())
def test_rules_survive_the_way_to_the_database_and_back(plan: PlanSnapshot) -> None:
    assert parse_rules(rules_document(plan.rules), "USD") == plan.rules
