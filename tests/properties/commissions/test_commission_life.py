"""Any life of a branch's commission: deals in any order, corrected, deleted, judged, settled in one currency or another.

Whatever happened, every cent is somewhere: what was accrued is settled or waits, what was settled is in the ledger or carried,
and a replay finds nothing to put right.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.commissions.accrual import accrue_server
from app.commissions.engine import cut
from app.commissions.recompute import Scope, book_for, differences, recompute
from app.commissions.settlement import settle_all
from app.commissions.true_up import true_up_all
from app.core.clock import now
from app.core.money import Money
from app.ledger import chart, proofs, queries
from app.models.commissions import Accrual, AccrualSum, Plan, Settlement
from app.models.ib_terms import IBTerms
from app.models.metatrader import Deal
from app.models.partners import IBParent, IntroducingBroker
from tests.integration.commissions.brokerage import NOON, START, Brokerage, build, without_plan

#: Three IBs above one another, each with a client.
DEPTH = 3
CURRENCIES = ("USD", "EUR", "JPY")
LATER = NOON + timedelta(days=40)

BANDS = [{"from": "0", "rate": "3.3333"}, {"from": "4", "rate": "5.7"}, {"from": "9", "rate": "7.1"}]
TIERS = {"measure": "lots", "period": "month", "basis": "current", "bands": BANDS}
RULES: list[dict[str, Any]] = [
    {"component": "per_lot", "rate": "7.77", "levels": ["0.61", "0.3", "0.09"]},
    {"component": "per_lot", "levels": {"mode": "override", "values": ["3.331", "4.1", "5.009"]}},
    {"component": "per_lot", "rate": "9.999", "levels": {"mode": "below", "values": ["1", "0.13", "0.7"]}, "cap": "11.01"},
    {"component": "per_lot", "levels": ["0.7", "0.3"], "tiers": TIERS | {"mode": "marginal"}},
    {"component": "per_lot", "levels": ["0.7", "0.3"], "tiers": TIERS | {"mode": "whole"}},
    {"component": "per_lot", "rate": "6.01", "levels": ["0.7", "0.3"], "caps": {"day": "21.03", "month": "40.07"}},
    {"component": "per_deal", "rate": "0.0133", "when": "each"},
    {"component": "per_lot", "rate": "0.777", "beneficiary": "trader"},
]

DEAL = st.tuples(st.just("deal"), st.integers(0, DEPTH - 1), st.integers(1, 500), st.integers(0, 20 * 24))
WHICH = st.integers(0, 99)
STEP = st.one_of(
    DEAL,
    DEAL,
    st.tuples(st.just("revise"), WHICH, st.integers(1, 500)),
    st.tuples(st.just("void"), WHICH),
    st.just(("judge",)),
    st.just(("settle",)),
    st.just(("true_up",)),
    st.tuples(st.just("currency"), st.integers(0, DEPTH - 1), st.sampled_from(CURRENCIES)),
    st.tuples(st.just("every"), st.sampled_from(["minutes", "day"])),
)
_minutes = itertools.count(1)


class Life:
    def __init__(self, session: Session, rules: list[dict[str, Any]], multiplier: str, hand_on: str) -> None:
        self.house: Brokerage = build(session)
        self.session = session
        keyed = [{"key": f"r{number}", **rule} for number, rule in enumerate(rules)]
        self.ibs = [self.house.ib(keyed)]
        self.plan_id = self.house.ids["plan"]
        for above in range(DEPTH - 1):
            made = self.house.ib()
            without_plan(session, made)
            self.house.add(IBParent(ib_id=made, parent_id=self.ibs[above], valid_from=START, set_by="test", reason="test"))
            self.ibs.append(made)
        self.house.add(
            IBTerms(
                ib_id=self.ibs[-1], valid_from=START, multiplier=Decimal(multiplier), hand_on_percent=Decimal(hand_on),
                set_by="staff:1", reason="test",
            )
        )  # fmt: skip
        self.accounts = [self.house.brought(ib_id) for ib_id in self.ibs]
        self.deals: list[int] = []
        self.house.save()

    def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("deal", below, hundredths, hours):
                lots, at = str(Decimal(hundredths) / 100), NOON + timedelta(hours=hours)
                self.deals.append(self.house.deal(self.accounts[below], lots, done_at=at))
            case ("revise", which, hundredths) if self.deals:
                self._revise(which, str(Decimal(hundredths) / 100))
            case ("void", which) if self.deals:
                self._revise(which, "1", is_void=True)
            case ("judge",):
                accrue_server(self.session, self.house.server_id)
            case ("true_up",):
                true_up_all(self.session, NOON + timedelta(days=10))
            case ("settle",):
                self.settle()
            case ("currency", of, currency):
                mine = IntroducingBroker.id == self.ibs[of]
                self.session.execute(update(IntroducingBroker).where(mine).values(currency=currency))
            case ("every", every):
                self.session.execute(update(Plan).where(Plan.id == self.plan_id).values(settle_every=every))
        self.house.save()

    def _revise(self, which: int, lots: str, **changes: Any) -> None:
        place = which % len(self.deals)
        done_at = self.session.get_one(Deal, self.deals[place]).done_at
        self.deals[place] = self.house.revise(self.deals[place], lots, done_at=done_at, **changes)

    def settle(self) -> None:
        self.house.save()
        settle_all(self.session, now() + timedelta(minutes=next(_minutes)))


@pytest.mark.slow
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=2, unique_by=str),
    multiplier=st.sampled_from(["1", "1.37"]),
    hand_on=st.sampled_from(["0", "33.3"]),
    steps=st.lists(STEP, min_size=3, max_size=18),
)
def test_every_cent_is_somewhere(
    session: Session, rules: list[dict[str, Any]], multiplier: str, hand_on: str, steps: list[tuple[Any, ...]]
) -> None:
    life = Life(session, rules, multiplier, hand_on)
    life.house.rate("USD", "EUR", "0.913711")
    life.house.rate("USD", "JPY", "151.37")
    for step in steps:
        life.take(step)
    for last in (("judge",), ("settle",)):
        life.take(last)
    true_up_all(session, LATER)
    life.settle()

    accrued_is_settled_or_waits(life)
    settled_is_in_the_ledger_or_carried(life)
    nothing_differs(life)
    broken = [proof for proof in proofs.prove(session) if proof.breaks]
    assert broken == []


def accrued_is_settled_or_waits(life: Life) -> None:
    by_line, by_sum = (
        life.session.scalar(select(func.sum(table.amount)).where(table.ib_id.in_(life.ibs))) or 0
        for table in (Accrual, AccrualSum)
    )
    settled = life.session.scalar(select(func.sum(Settlement.accrued)).where(Settlement.ib_id.in_(life.ibs))) or 0
    mine = AccrualSum.ib_id.in_(life.ibs)
    waits = life.session.scalar(select(func.sum(AccrualSum.amount)).where(mine, AccrualSum.settlement_id.is_(None))) or 0
    assert by_line == by_sum == settled + waits


def settled_is_in_the_ledger_or_carried(life: Life) -> None:
    rows = life.session.scalars(select(Settlement).where(Settlement.ib_id.in_(life.ibs)).order_by(Settlement.id)).all()
    carried: dict[int, tuple[str, Decimal]] = {}
    posted: dict[tuple[int, str], int] = defaultdict(int)
    for row in rows:
        assert row.ib_id is not None
        before = carried.get(row.ib_id, (row.paid_currency, Decimal(0)))
        if before[0] == row.paid_currency:
            assert row.carried_in == before[1]
        assert row.converted == cut(row.accrued * (row.fx_rate or 1))
        assert row.converted + row.carried_in == Money(row.amount_minor, row.paid_currency).decimal + row.carried_out
        carried[row.ib_id] = (row.paid_currency, row.carried_out)
        posted[row.ib_id, row.paid_currency] += row.amount_minor
    for ib_id, currency in itertools.product(life.ibs, CURRENCIES):
        found = queries.find_balance(life.session, chart.ib_commission(ib_id, currency))
        assert (found.posted.amount_minor if found else 0) == posted[ib_id, currency]


def nothing_differs(life: Life) -> None:
    snapshot = Session(life.session.connection(), join_transaction_mode="rollback_only")
    scope = Scope(START, LATER, server_id=life.house.server_id)
    found = [
        difference
        for _, compared in recompute(snapshot, scope, book_for(snapshot), 3)
        for one in compared
        for difference in differences(one)
    ]
    assert found == []
