"""Plans with tiers and caps: paid as deals arrive, and in the end as if they had come in their own order."""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions.accrual import accrue_deals, accrue_shard
from app.commissions.explain import explain_accrual
from app.commissions.progress import standing
from app.commissions.true_up import true_up_all
from app.commissions.units import SHARDS
from app.models.commissions import Accrual
from app.models.metatrader import Deal
from app.models.partners import Attribution, IBParent
from app.models.payments import Deposit
from app.models.plan_tiers import PlanCounter, PlanPeriod
from tests.integration.commissions.brokerage import NOON, START, Brokerage, build, without_plan

BANDS = [{"from": "0", "rate": "5"}, {"from": "10", "rate": "6"}, {"from": "20", "rate": "8"}]
LATER = NOON + timedelta(days=40)


def rule(**changes: Any) -> dict[str, Any]:
    return {"key": "fx", "component": "per_lot", "levels": ["0.5", "0.5"], **changes}


def tiers(**changes: Any) -> dict[str, Any]:
    return {"measure": "lots", "period": "month", "mode": "marginal", "basis": "current", "bands": BANDS, **changes}


MARGINAL = [rule(tiers=tiers())]
WHOLE = [rule(tiers=tiers(mode="whole"))]
CAPPED = [rule(rate="10", caps={"day": "60", "month": "100"})]
ALL = [MARGINAL, WHOLE, CAPPED]


_tickets = itertools.count(1_000_000, 1000)


class Branch:
    """An IB with a plan, two without one below it, each with an account of a client."""

    def __init__(self, house: Brokerage, rules: list[dict[str, Any]]) -> None:
        self.house = house
        self.owner_id = house.ib(rules)
        self.ib_ids = [house.ib() for _ in range(2)]
        for ib_id in self.ib_ids:
            without_plan(house.session, ib_id)
            house.add(IBParent(ib_id=ib_id, parent_id=self.owner_id, valid_from=START, set_by="test", reason="test"))
        self.accounts = [house.brought(ib_id) for ib_id in self.ib_ids]
        self.deals: dict[int, int] = {}
        self.tickets = next(_tickets)

    def deal(self, number: int, lots: str, *, below: int, hours: int = 0) -> None:
        """The deal `number` of a story, done so many hours after noon; `below`: which of the two IBs brought the client."""
        self.deals[number] = self.house.deal(
            self.accounts[below], lots, ticket=self.tickets + number, done_at=NOON + timedelta(hours=hours)
        )

    def arrive(self, *numbers: int) -> None:
        for number in numbers:
            accrue_deals(self.house.session, [self.deals[number]])

    def void(self, number: int) -> None:
        old = self.house.session.get_one(Deal, self.deals[number])
        changes = {"is_void": True, "done_at": old.done_at}
        accrue_deals(self.house.session, [self.house.revise(old.id, str(Decimal(old.volume) / 10**8), **changes)])

    def sums(self) -> list[Decimal]:
        """What each of the three has, the owner first."""
        query = select(Accrual.ib_id, func.sum(Accrual.amount)).group_by(Accrual.ib_id)
        found = {row.ib_id: row[1] for row in self.house.session.execute(query)}
        return [found.get(ib_id, Decimal(0)).normalize() for ib_id in (self.owner_id, *self.ib_ids)]

    def periods(self) -> list[PlanPeriod]:
        query = select(PlanPeriod).where(PlanPeriod.owner_id == self.owner_id).order_by(PlanPeriod.starts_on)
        return list(self.house.session.scalars(query.execution_options(populate_existing=True)))

    def volume(self) -> Decimal:
        query = select(PlanCounter.quantity).where(PlanCounter.owner_id == self.owner_id, PlanCounter.ib_id == 0)
        return self.house.session.scalars(query).one()


def story(house: Brokerage, rules: list[dict[str, Any]]) -> Branch:
    branch = Branch(house, rules)
    branch.deal(1, "7", below=0)
    branch.deal(2, "6", below=1, hours=1)
    branch.deal(3, "4", below=0, hours=2)
    branch.deal(4, "8", below=1, hours=24)
    return branch


def test_a_deal_across_two_bands_is_paid_by_both(house: Brokerage) -> None:
    branch = story(house, MARGINAL)

    branch.arrive(1, 2, 3, 4)

    # 7 x 5; 3 x 5 + 3 x 6; 4 x 6; 3 x 6 + 5 x 8, half to each of the two levels
    assert branch.sums() == [Decimal(75), Decimal("29.5"), Decimal("45.5")]
    positions = house.session.scalars(select(Accrual.tier_position).where(Accrual.level == 1).order_by(Accrual.id)).all()
    assert positions == [0, 7, 13, 17]
    assert branch.volume() == 25
    assert [period.dirty_why for period in branch.periods()] == [""]
    assert true_up_all(house.session, NOON) == 0


def test_whole_tiers_pay_all_of_the_month_by_what_it_reached(house: Brokerage) -> None:
    branch = story(house, WHOLE)

    branch.arrive(1, 2)
    assert branch.periods()[0].dirty_why == "crossed"
    assert true_up_all(house.session, NOON) == 2
    assert branch.sums() == [Decimal(39), Decimal(21), Decimal(18)]

    branch.void(2)
    true_up_all(house.session, NOON)
    assert branch.sums() == [Decimal("17.5"), Decimal("17.5"), 0]


def test_caps_of_day_and_month_hold_for_each_ib(house: Brokerage) -> None:
    branch = story(house, CAPPED)

    branch.arrive(1, 2, 3, 4)

    # the owner: 35 + 25 of 30 + 0 of 20 on the first day, then 40 up to the month's 100
    assert branch.sums() == [Decimal(100), Decimal(55), Decimal(70)]
    lines = house.session.execute(
        select(Accrual.amount, Accrual.uncapped, Accrual.cap_paid).where(Accrual.level == 2).order_by(Accrual.id)
    ).all()
    assert [tuple(row) for row in lines] == [(35, None, None), (25, 30, 35), (0, 20, 60), (40, None, None)]


@pytest.mark.parametrize("rules", ALL)
def test_the_order_of_arrival_does_not_matter_in_the_end(session: Session, rules: list[dict[str, Any]]) -> None:
    """All orders of four deals, one of which is deleted somewhere on the way."""
    ends = set()
    for order in itertools.islice(itertools.permutations((1, 2, 3, 4)), 0, 24, 5):
        branch = story(build(session), rules)
        for number in order:
            branch.arrive(number)
            if number == 2:
                branch.void(2)
        true_up_all(session, NOON)
        ends.add(tuple(branch.sums()))
        assert true_up_all(session, NOON) == 0
        assert [period.dirty_at for period in branch.periods()] == [None]

    assert len(ends) == 1


@pytest.mark.parametrize("rules", ALL)
def test_a_late_deal_is_put_in_its_place(house: Brokerage, rules: list[dict[str, Any]]) -> None:
    branch, straight = story(house, rules), story(house, rules)

    branch.arrive(1, 3, 4, 2)
    assert branch.periods()[0].dirty_why in ("late", "crossed")
    straight.arrive(1, 2, 3, 4)
    true_up_all(house.session, NOON)

    assert branch.sums() == straight.sums()


def test_a_period_is_trued_up_once_when_it_has_ended(house: Brokerage) -> None:
    branch = story(house, MARGINAL)
    branch.arrive(1, 2, 3, 4)

    true_up_all(house.session, NOON)
    assert branch.periods()[0].closed_at is None
    true_up_all(house.session, LATER)
    assert branch.periods()[0].closed_at == LATER
    true_up_all(house.session, LATER + timedelta(days=1))
    assert branch.periods()[0].closed_at == LATER


def test_a_deal_after_the_end_still_moves_the_period_and_the_next_one_that_looks_back(house: Brokerage) -> None:
    branch = Branch(house, [rule(tiers=tiers(mode="whole", basis="previous"))])
    branch.deal(1, "7", below=0)
    branch.deal(2, "5", below=1)
    branch.deal(3, "4", below=0, hours=31 * 24)
    branch.arrive(1, 3)
    true_up_all(house.session, LATER)
    assert branch.sums() == [Decimal("27.5"), Decimal("27.5"), 0]

    branch.arrive(2)
    true_up_all(house.session, LATER)
    true_up_all(house.session, LATER)

    # 12 lots in July: 4 lots in August at 6 instead of 5
    assert branch.sums() == [Decimal(42), Decimal("29.5"), Decimal("12.5")]
    assert true_up_all(house.session, LATER) == 0


def test_shards_at_once_count_one_after_the_other(database: Any) -> None:
    with database.session() as session:
        house = build(session)
        branch = Branch(house, MARGINAL)
        for number in range(1, 9):
            branch.deal(number, "3", below=number % 2, hours=number)
        house.save()
    start = threading.Barrier(SHARDS)

    def work(shard: int) -> None:
        with database.session() as own:
            start.wait(20)
            accrue_shard(own, house.server_id, shard)

    workers = [threading.Thread(target=work, args=(shard,)) for shard in range(SHARDS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    with database.session() as session:
        house.session = session
        # All of 24 lots were taken from the bands once, whoever came first: 10 at 5, 10 at 6 and 4 at 8.
        assert branch.sums()[0] == 71
        assert branch.volume() == 24
        true_up_all(session, NOON)
        assert branch.sums() == [71, 37, 34]


def test_net_deposits_and_active_clients_are_those_of_the_morning(house: Brokerage) -> None:
    by_deposits = tiers(measure="net_deposits", mode="whole", bands=[{"from": "0", "rate": "5"}, {"from": "1000", "rate": "7"}])
    by_clients = tiers(measure="active_clients", mode="whole", bands=[{"from": "0", "rate": "1"}, {"from": "2", "rate": "2"}])
    branch = Branch(house, [rule(key="paid-in", tiers=by_deposits), rule(key="active", tiers=by_clients)])
    client_ids = [
        house.session.scalars(select(Attribution.client_id).where(Attribution.ib_id == ib_id)).one() for ib_id in branch.ib_ids
    ]
    # Of the first one the client withdrew something after that morning, which the payment shows.
    for client_id, amount, state in zip(client_ids, (60000, 50000), ("refunded_part", "settled"), strict=True):
        house.add(
            Deposit(
                public_id=uuid4(),
                client_id=client_id,
                connector="test",
                amount_minor=amount,
                settled_minor=amount,
                currency="USD",
                state=state,
                idempotency_key=str(uuid4()),
                settled_at=NOON,
            )
        )
    branch.deal(1, "1", below=0)
    branch.deal(2, "1", below=1)
    branch.deal(3, "1", below=0, hours=24)

    branch.arrive(1, 2, 3)

    lines = house.session.execute(
        select(Accrual.rule, Accrual.rate, Accrual.tier_position).where(Accrual.level == 1).order_by(Accrual.id)
    ).all()
    assert [tuple(row) for row in lines] == [("paid-in", 5, 0), ("active", 1, 0)] * 2 + [("paid-in", 7, 1100), ("active", 2, 2)]
    assert true_up_all(house.session, NOON) == 0


def test_deposits_in_a_currency_without_a_rate_make_the_deal_wait(house: Brokerage) -> None:
    branch = Branch(house, [rule(tiers=tiers(measure="net_deposits", mode="whole"))])
    client_id = house.session.scalars(select(Attribution.client_id).where(Attribution.ib_id == branch.ib_ids[0])).one()
    house.add(
        Deposit(
            public_id=uuid4(),
            client_id=client_id,
            connector="test",
            amount_minor=100,
            settled_minor=100,
            currency="THB",
            state="settled",
            idempotency_key=str(uuid4()),
            settled_at=NOON,
        )
    )
    branch.deal(1, "1", below=0, hours=24)

    branch.arrive(1)

    assert house.outcome(branch.deals[1]) == (0, "no_rate")


def test_a_line_that_trued_up_a_period_is_explained(house: Brokerage) -> None:
    branch = story(house, WHOLE)
    branch.arrive(1, 2)
    true_up_all(house.session, NOON)

    line_id = house.session.scalars(select(func.min(Accrual.id)).where(Accrual.kind.like("adjust:%"), Accrual.level == 1)).one()
    explained = explain_accrual(house.session, line_id, branch.ib_ids[0])

    assert [(step.operator, step.value) for step in explained.steps][:2] == [("", 13), ("≥", 10)]
    assert [step.value for step in explained.steps][-3:] == [21, Decimal("17.5"), Decimal("3.5")]


def test_an_ib_sees_where_it_stands(house: Brokerage) -> None:
    branch = story(house, [rule(tiers=tiers(), caps={"day": "50"})])
    branch.arrive(1, 2)

    for ib_id in (branch.owner_id, branch.ib_ids[0]):
        (found,) = standing(house.session, ib_id, NOON)
        assert (found.owner_id, found.position, found.to_go) == (branch.owner_id, 13, 7)
        assert found.band
        assert found.following
        assert (found.band.rate, found.following.rate) == (6, 8)
    assert [(cap.period, cap.paid, cap.cap) for cap in found.caps] == [("day", Decimal("17.5"), 50)]
    assert standing(house.session, house.ib(), NOON) == []
    (next_month,) = standing(house.session, branch.owner_id, LATER)
    assert (next_month.position, next_month.to_go) == (0, 10)
