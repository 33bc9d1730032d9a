"""The whole upline is paid, as it stood when the deal was done."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from app.commissions.accrual import accrue_deals
from app.core.actor import Actor
from app.ledger import rates
from app.models.commissions import Accrual
from app.partners.links import make_ib
from app.partners.tree import place_ib
from tests.integration.commissions.brokerage import NOON, START, Brokerage

STAFF = Actor.staff(1)
SHARED = [{"key": "a", "component": "per_lot", "rate": "10", "levels": ["0.6", "0.3", "0.1"]}]


def without_plan(house: Brokerage) -> int:
    return make_ib(house.session, house.client("Sub", "Broker"), "USD", STAFF).id


def test_every_level_gets_its_share(house: Brokerage) -> None:
    low, middle, top = house.ib(SHARED), without_plan(house), without_plan(house)
    place_ib(house.session, low, middle, START, "joined", STAFF)
    place_ib(house.session, middle, top, START, "joined", STAFF)

    accrue_deals(house.session, [house.deal(house.brought(low))])

    assert [house.amounts(ib_id) for ib_id in (low, middle, top)] == [
        [("accrue", Decimal(amount))] for amount in ("6", "3", "1")
    ]


def test_a_move_counts_from_its_moment_on(house: Brokerage) -> None:
    low, before, after = house.ib(SHARED), without_plan(house), without_plan(house)
    place_ib(house.session, low, before, START, "joined", STAFF)
    place_ib(house.session, low, after, NOON, "moved", STAFF)
    account = house.brought(low)
    late = house.deal(account, done_at=NOON)
    early = house.deal(account, done_at=NOON - timedelta(seconds=1))

    accrue_deals(house.session, [late, early])

    assert house.amounts(before) == [("accrue", Decimal(3))]
    assert house.amounts(after) == [("accrue", Decimal(3))]
    assert len(house.amounts(low)) == 2


def test_a_sub_ib_without_a_plan_is_paid_by_the_plan_above_it(house: Brokerage) -> None:
    low, top = without_plan(house), house.ib(SHARED)
    place_ib(house.session, low, top, START, "joined", STAFF)

    accrue_deals(house.session, [house.deal(house.brought(low))])

    assert house.amounts(low) == [("accrue", Decimal(6))]
    assert house.amounts(top) == [("accrue", Decimal(3))]


def test_what_was_paid_to_all_levels_is_taken_back(house: Brokerage) -> None:
    low, top = house.ib(SHARED), without_plan(house)
    place_ib(house.session, low, top, START, "joined", STAFF)
    deal = house.deal(house.brought(low))
    accrue_deals(house.session, [deal])

    accrue_deals(house.session, [house.revise(deal, "2")])

    assert sorted(house.amounts(low)) == [("accrue", Decimal(6)), ("accrue", Decimal(12)), ("reverse", Decimal(-6))]
    assert sum(amount for _, amount in house.amounts(top)) == 6


def test_a_part_of_money_is_converted_by_the_rate_of_the_day_and_reversed_as_it_was(house: Brokerage) -> None:
    ib_id = house.ib([{"key": "c", "component": "commission_share", "rate": "40", "currency": "EUR"}])
    deal = house.deal(house.brought(ib_id), commission=Decimal(-10))
    accrue_deals(house.session, [deal])
    assert house.outcome(deal) == (0, "no_rate")

    day = NOON.replace(hour=0)
    rates.record(house.session, [rates.Observation("manual", "USD", "EUR", Decimal("0.5"), day)])
    accrue_deals(house.session, [deal])
    house.revise(deal, "1", commission=Decimal(-10))
    accrue_deals(house.session, [deal])

    made, back = house.session.query(Accrual).filter_by(ib_id=ib_id, deal_id=deal).order_by(Accrual.id)
    assert (made.base, made.base_currency, made.fx_rate, made.fx_source, made.fx_observed_at) == (
        10,
        "USD",
        Decimal("0.5"),
        "manual",
        day,
    )
    assert (made.amount, made.currency) == (2, "EUR")
    assert (back.kind, back.amount, back.base, back.fx_rate) == ("reverse", -2, -10, Decimal("0.5"))
