"""What must hold for tiers and caps of a period, whatever arrives in whatever order."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.commissions.deals import DealFacts
from app.commissions.engine import STEP, Accrued, Upline
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.tally import Case, Tally, recount
from app.commissions.tiers import Band, Caps, Tiers, start_of

START = datetime(2026, 6, 27, tzinfo=UTC)
LOT = 10**8


def unknown(owner_id: int, rule: Rule, since: datetime, until: datetime) -> Decimal:
    """Measures that are not counted from deals: something that depends on the day only."""
    return Decimal(until.day)


@st.composite
def tiers(draw: st.DrawFn, mode: str | None = None) -> Tiers:
    starts = sorted(draw(st.sets(st.integers(1, 60), max_size=3)))
    rates = draw(st.lists(st.integers(1, 20), min_size=4, max_size=4))
    bands = tuple(Band(Decimal(start), Decimal(rate)) for start, rate in zip([0, *starts], rates, strict=False))
    mode = mode or draw(st.sampled_from(["whole", "marginal"]))
    plain = mode == "marginal"
    return Tiers(
        "lots" if plain else draw(st.sampled_from(["lots", "lots", "active_clients"])),
        draw(st.sampled_from(["day", "month", "quarter"] if plain else ["month", "quarter"])),
        mode,
        "current" if plain else draw(st.sampled_from(["current", "current", "previous"])),
        bands,
    )


@st.composite
def plans(draw: st.DrawFn) -> PlanSnapshot:
    rules = []
    for index in range(draw(st.integers(1, 3))):
        caps = Caps(*(draw(st.none() | st.integers(1, 200).map(Decimal)) for _ in range(2)))
        found = draw(st.none() | tiers())
        rate = found.bands[0].rate if found else Decimal(5)
        levels = (Decimal("0.7"), Decimal("0.3"))
        rules.append(Rule(f"r{index}", "per_lot", rate, "USD", levels, tiers=found, caps=caps if caps.periods else None))
    return PlanSnapshot(1, tuple(rules), plan_id=9)


@st.composite
def cases(draw: st.DrawFn, plan: PlanSnapshot) -> list[Case]:
    made = []
    for number in range(1, draw(st.integers(1, 10)) + 1):
        done_at = START + timedelta(hours=draw(st.integers(0, 240)))
        deal = DealFacts(number, 1, 1, 0, "EURUSD", draw(st.integers(1, 40)) * LOT // 2, 0, done_at)
        upline = (Upline(1, draw(st.sampled_from([1, 2]))), Upline(2, 7))
        made.append(Case(deal, plan, upline, {}, 7, (done_at, 1, number)))
    return made


both = plans().flatmap(lambda plan: st.tuples(st.just(plan), cases(plan)))
Sums = dict[tuple[int, str, int], Decimal]


def sums(accrued: dict[int, tuple[Accrued, ...]]) -> Sums:
    return {(deal, made.rule, made.level): made.amount for deal, all_made in accrued.items() for made in all_made}


@given(both, st.randoms())
def test_as_it_came_and_then_trued_up_is_what_a_recount_says(
    drawn: tuple[PlanSnapshot, list[Case]], chance: random.Random
) -> None:
    """Deals in any order, some of them deleted again, then the period is recounted: the same as if nothing else ever was."""
    _, arrived = drawn
    order = arrived.copy()
    chance.shuffle(order)
    live = Tally(unknown, {})
    paid: Sums = defaultdict(Decimal)
    standing: dict[int, tuple[Accrued, ...]] = {}
    for case in order:
        standing[case.deal.deal_id] = live.judge(case).accruals
    deleted = {case.deal.deal_id for case in order if chance.random() < 0.3}
    for case in order:
        if case.deal.deal_id in deleted:
            taken = standing.pop(case.deal.deal_id)
            live.add(case, [replace(made, lots=-made.lots, amount=-made.amount) for made in taken])
    paid.update(sums(standing))

    left = [case for case in order if case.deal.deal_id not in deleted]
    outcomes, recounted = recount(left, unknown)
    final = sums({deal_id: outcome.accruals for deal_id, outcome in outcomes.items()})
    for key, amount in final.items():
        paid[key] += amount - paid[key]

    straight, tally = recount([case for case in arrived if case.deal.deal_id not in deleted], unknown)
    assert paid == sums({deal_id: outcome.accruals for deal_id, outcome in straight.items()})
    assert recounted.counts == tally.counts
    volumes = {counter: quantity for counter, quantity in live.counts.items() if counter.ib_id == 0 and quantity}
    assert volumes == {counter: quantity for counter, quantity in tally.counts.items() if counter.ib_id == 0 and quantity}


@given(both)
def test_nobody_gets_more_than_a_cap(drawn: tuple[PlanSnapshot, list[Case]]) -> None:
    plan, arrived = drawn
    live = Tally(unknown, {})
    for outcomes in (
        {case.deal.deal_id: live.judge(case) for case in arrived},
        recount(arrived, unknown)[0],
    ):
        given_: dict[tuple[object, ...], Decimal] = defaultdict(Decimal)
        for case in arrived:
            for made in outcomes[case.deal.deal_id].accruals:
                for period in ("day", "month"):
                    given_[made.rule, period, start_of(period, case.deal.done_at), made.ib_id] += made.amount
        for rule in plan.rules:
            for period, cap in rule.caps.periods.items() if rule.caps else ():
                assert all(amount <= cap for key, amount in given_.items() if key[:2] == (rule.key, period))


@given(tiers("marginal"), st.integers(0, 200), st.integers(1, 400), st.integers(1, 400))
def test_a_volume_in_two_deals_pays_what_one_deal_pays(found: Tiers, before: int, first: int, second: int) -> None:
    rule = Rule("r", "per_lot", found.bands[0].rate, "USD", (Decimal("0.7"), Decimal("0.3")), tiers=found)
    plan = PlanSnapshot(1, (rule,), plan_id=9)

    def paid(*volumes: int) -> Decimal:
        tally, total = Tally(unknown, {}), Decimal(0)
        for number, volume in enumerate(volumes):
            deal = DealFacts(number, 1, 1, 0, "EURUSD", volume * LOT // 10, 0, START)
            outcome = tally.judge(Case(deal, plan, (Upline(1, 1), Upline(2, 7)), {}, 7, (START, 1, number)))
            total += sum((made.amount for made in outcome.accruals), Decimal(0))
        return total

    assert abs(paid(before, first, second) - paid(before, first + second)) <= 2 * STEP


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 5), tiers("whole"))
def test_whole_tiers_pay_all_of_a_period_at_the_rate_it_reached_up_and_down(
    volumes: list[int], deleted: int, found: Tiers
) -> None:
    found = replace(found, measure="lots", basis="current")
    plan = PlanSnapshot(1, (Rule("r", "per_lot", found.bands[0].rate, "USD", tiers=found),), plan_id=9)
    made = [
        Case(DealFacts(number, 1, 1, 0, "EURUSD", lots * LOT, 0, START), plan, (Upline(1, 7),), {}, 7, (START, 1, number))
        for number, lots in enumerate(volumes)
    ]
    for cases_ in (made, [case for case in made if case.deal.deal_id != deleted]):
        total = sum((case.deal.lots_closed for case in cases_), Decimal(0))
        (rate,) = [band.rate for band in found.bands if band.start <= total][-1:]

        outcomes, _ = recount(cases_, unknown)

        assert all(
            [one.amount for one in outcomes[case.deal.deal_id].accruals] == [case.deal.lots_closed * rate] for case in cases_
        )
