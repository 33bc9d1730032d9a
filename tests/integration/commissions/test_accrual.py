"""Booked deals become accruals once, under what held when each deal was done."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import ProgrammingError

from app.commissions import publishing
from app.commissions.accrual import accrue_deals, accrue_server, accrue_shard, accrue_waiting
from app.commissions.explain import explain_deal
from app.commissions.units import SHARDS
from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.models.commissions import Accrual, AccrualCursor, AccrualSum, AccrualUnit, PlanVersion
from app.models.metatrader import Deal
from app.models.partners import Attribution, IntroducingBroker
from tests.conftest import tamper
from tests.integration.commissions.brokerage import LOT, NOON, START, Brokerage, build
from tests.integration.waiting import until_somebody_waits

STAFF = Actor.staff(1)
HELD = [{"key": "held", "component": "per_lot", "rate": "2", "filter": {"min_holding_s": 60}}]


def test_a_closing_deal_pays_the_client_s_ib(house: Brokerage) -> None:
    ib_id = house.ib()
    opening, closing = (house.deal(house.brought(ib_id), "0.5", entry=entry) for entry in (0, 1))

    assert accrue_deals(house.session, [opening, closing]) == 1

    assert house.amounts(ib_id) == [("accrue", Decimal("3.5"))]
    assert house.outcome(closing) == (1, "")
    assert house.outcome(opening) == (0, "not_closing")
    (event,) = house.events("commission.accrued")
    assert event.client_id == house.session.scalar(select(IntroducingBroker.client_id).where(IntroducingBroker.id == ib_id))
    assert event.subject_id == ib_id
    assert event.payload == {"accruals": 1, "amounts": {"USD": "3.5000000000"}}


def test_a_second_delivery_changes_nothing(house: Brokerage) -> None:
    ib_id = house.ib()
    deals = [house.deal(house.brought(ib_id)) for _ in range(3)]

    assert accrue_deals(house.session, deals) == 3
    assert accrue_deals(house.session, [*deals, *deals]) == 0

    assert len(house.amounts(ib_id)) == 3
    assert sum(event.payload["accruals"] for event in house.events("commission.accrued")) == 3


def test_a_unit_tells_each_ib_once(house: Brokerage) -> None:
    first, second = house.ib(), house.ib()
    tickets = itertools.count(SHARDS, SHARDS)
    for ib_id in (first, second):
        for lots in ("1", "2"):
            house.deal(house.brought(ib_id), lots, ticket=next(tickets))

    assert accrue_server(house.session, house.server_id) == 4

    assert [(event.subject_id, event.payload["amounts"]) for event in house.events("commission.accrued")] == [
        (first, {"USD": "21.0000000000"}),
        (second, {"USD": "21.0000000000"}),
    ]


@pytest.mark.parametrize(
    ("why", "changes"),
    [("demo", {}), ("no_ib", {}), ("no_account", {}), ("void", {"is_void": True}), ("excluded_reason", {"reason": 6})],
)
def test_a_deal_that_pays_nothing_keeps_its_reason(house: Brokerage, why: str, changes: dict[str, object]) -> None:
    ib_id = house.ib()
    own = house.brought(ib_id)
    client_id = house.session.scalar(select(Attribution.client_id).where(Attribution.ib_id == ib_id))
    assert client_id is not None
    account = {"demo": house.account(client_id, demo=True), "no_ib": house.account(house.client()), "no_account": None}.get(
        why, own
    )
    deal = house.deal(account, **changes)

    assert accrue_deals(house.session, [deal]) == 0

    assert house.outcome(deal) == (0, why)
    explained = explain_deal(house.session, deal)
    assert (explained.reason, explained.lines) == (why, ())
    assert explained.message


def test_a_correction_reverses_and_pays_anew(house: Brokerage) -> None:
    ib_id = house.ib()
    first = house.deal(house.brought(ib_id), "2")
    accrue_deals(house.session, [first])

    second = house.revise(first, "1.5")
    assert accrue_deals(house.session, [second]) == 2
    assert accrue_deals(house.session, [second, first]) == 0

    assert sorted(house.amounts(ib_id)) == [("accrue", Decimal("10.5")), ("accrue", Decimal(14)), ("reverse", Decimal(-14))]
    assert house.outcome(first) == (0, "superseded")
    assert house.outcome(second) == (1, "")
    lots = house.session.scalar(select(Accrual.lots).where(Accrual.kind == "reverse"))
    assert lots == -2


def test_a_correction_that_arrives_first_leaves_nothing_to_reverse(house: Brokerage) -> None:
    ib_id = house.ib()
    first = house.deal(house.brought(ib_id), "2")
    second = house.revise(first, "1.5")

    accrue_deals(house.session, [second])
    accrue_deals(house.session, [first])

    assert house.amounts(ib_id) == [("accrue", Decimal("10.5"))]


def test_a_deletion_reverses(house: Brokerage) -> None:
    ib_id = house.ib()
    deal = house.deal(house.brought(ib_id))
    accrue_deals(house.session, [deal])
    gone = house.revise(deal, "1", is_void=True)

    assert accrue_deals(house.session, [gone]) == 1

    assert house.amounts(ib_id) == [("accrue", Decimal(7)), ("reverse", Decimal(-7))]
    assert house.outcome(gone) == (0, "void")


def test_what_held_when_the_deal_was_done_counts(house: Brokerage, minute: timedelta) -> None:
    old, new = house.ib(), house.ib([{"key": "fx", "component": "per_lot", "rate": "9"}])
    publishing.publish_version(
        house.session, house.ids["plan"], [{"key": "fx", "component": "per_lot", "rate": "11"}], NOON + 2 * minute, STAFF
    )
    client_id = house.client()
    account = house.brought(old, until=NOON, client_id=client_id)
    house.brought(new, since=NOON, client_id=client_id)
    moments = [NOON - minute, NOON, NOON + minute, NOON + 2 * minute]

    accrue_deals(house.session, [house.deal(account, done_at=at) for at in reversed(moments)])

    assert house.amounts(old) == [("accrue", Decimal(7))]
    assert sorted(house.amounts(new)) == [("accrue", Decimal(9)), ("accrue", Decimal(9)), ("accrue", Decimal(11))]


def test_before_a_plan_begins_nothing_is_paid(house: Brokerage, minute: timedelta) -> None:
    deal = house.deal(house.brought(house.ib(), since=START - 2 * minute), done_at=START - minute)

    accrue_deals(house.session, [deal])

    assert house.outcome(deal) == (0, "no_plan")


def test_a_judged_deal_is_not_judged_again_under_what_was_entered_later(house: Brokerage) -> None:
    client_id = house.client()
    deal = house.deal(house.account(client_id))
    accrue_deals(house.session, [deal])

    ib_id = house.ib()
    house.brought(ib_id, client_id=client_id)
    assert accrue_deals(house.session, [deal]) == 0

    assert house.amounts(ib_id) == []


def test_holding_time_runs_from_the_opening(house: Brokerage, minute: timedelta) -> None:
    ib_id = house.ib(HELD)
    account = house.brought(ib_id)

    def trade(position: int, *moments: tuple[int, int]) -> int:
        """Deals of one position as (seconds before noon, entry); returns the last one's id."""
        return [
            house.deal(
                account,
                position_ticket=position,
                entry=entry,
                volume_closed=LOT if entry == 2 else 0,
                done_at=NOON - timedelta(seconds=before_s),
            )
            for before_s, entry in moments
        ][-1]

    long_held = trade(1, (60, 0), (0, 1))
    too_short = trade(2, (59, 0), (0, 1))
    added_to = trade(3, (90, 0), (5, 0), (0, 1))
    reversed_since = trade(4, (900, 0), (30, 2), (0, 1))
    reversal = trade(5, (61, 0), (0, 2))
    deals = [long_held, too_short, added_to, reversed_since, reversal]
    accrue_deals(house.session, deals)

    assert [house.outcome(deal)[1] for deal in deals] == ["", "held_too_short", "", "held_too_short", ""]


def test_a_deal_waits_for_its_opening_and_is_paid_when_it_comes(house: Brokerage, minute: timedelta) -> None:
    ib_id = house.ib(HELD)
    account = house.brought(ib_id)
    closing = house.deal(account, position_ticket=77)
    accrue_deals(house.session, [closing])
    assert house.outcome(closing) == (0, "opening_unknown")
    assert accrue_waiting(house.session) == 0

    house.deal(account, position_ticket=77, entry=0, done_at=NOON - minute)
    assert accrue_waiting(house.session) == 1

    assert house.amounts(ib_id) == [("accrue", Decimal(2))]
    assert accrue_waiting(house.session) == 0


def test_a_deal_of_a_login_that_becomes_ours_is_paid_then(house: Brokerage) -> None:
    ib_id = house.ib()
    deal = house.deal(None)
    accrue_deals(house.session, [deal])
    assert accrue_waiting(house.session) == 0

    house.session.execute(update(Deal).where(Deal.id == deal).values(trading_account_id=house.brought(ib_id)))
    assert accrue_waiting(house.session) == 1

    assert house.outcome(deal) == (1, "")


def test_a_broken_version_stops_its_plan_and_no_other(house: Brokerage) -> None:
    broken, sound = house.ib(), house.ib()
    rules = [{"key": "fx", "component": "gone", "rate": "1"}]
    version_id = house.session.scalar(
        select(PlanVersion.id).where(PlanVersion.plan_id != house.ids["plan"]).order_by(PlanVersion.id.desc()).limit(1)
    )
    tamper(house.session, f"UPDATE plan_version SET rules = '{json.dumps(rules)}' WHERE id = {version_id}")
    waiting, paid = house.deal(house.brought(broken)), house.deal(house.brought(sound))

    assert accrue_deals(house.session, [waiting, paid]) == 1

    assert house.outcome(waiting) == (0, "plan_invalid")
    assert house.outcome(paid) == (1, "")


def test_two_workers_with_the_same_deals_pay_once(database) -> None:
    with database.session() as session:
        house = build(session)
        ib_id = house.ib()
        account = house.brought(ib_id)
        deals = [house.deal(account) for _ in range(50)]
        house.save()
    written: list[int] = []

    def work() -> None:
        with database.session() as own:
            written.append(accrue_deals(own, deals))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert sorted(written) == [0, 0, 0, 50]
    with database.session() as session:
        assert len(Brokerage(session).amounts(ib_id)) == 50


def test_a_correction_waits_for_the_worker_that_pays_the_old_revision(database) -> None:
    """The second worker must not look for accruals to reverse before the first has committed them."""
    with database.session() as session:
        house = build(session)
        ib_id = house.ib()
        first = house.deal(house.brought(ib_id), "2")
        house.save()
    second: list[int] = []

    def correct() -> None:
        with database.session() as own:
            correction = Brokerage(own, house.server_id)
            second.append(correction.revise(first, "1"))
            correction.save()
            accrue_deals(own, second)

    worker = threading.Thread(target=correct)
    with database.session() as slow:
        with unit_of_work(slow, STAFF):
            assert accrue_deals(slow, [first]) == 1
            worker.start()
            until_somebody_waits(database)
        worker.join(60)

    with database.session() as session:
        assert sorted(Brokerage(session).amounts(ib_id)) == [
            ("accrue", Decimal(7)),
            ("accrue", Decimal(14)),
            ("reverse", Decimal(-14)),
        ]


def test_the_cursor_takes_each_deal_once(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    deals = [house.deal(account, ticket=ticket) for ticket in range(100, 110)]

    assert accrue_server(house.session, house.server_id) == 10
    assert accrue_server(house.session, house.server_id) == 0
    later = house.deal(account, ticket=111)
    assert accrue_server(house.session, house.server_id) == 1

    assert len(house.amounts(ib_id)) == 11
    cursors = house.session.scalars(select(AccrualCursor.deal_id).where(AccrualCursor.server_id == house.server_id))
    assert list(cursors) == [later] * SHARDS, "no shard is left behind"
    assert accrue_deals(house.session, [*deals, later]) == 0


def test_the_cursor_passes_what_was_judged_by_its_id(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    early, waiting = house.deal(account), house.deal(None)
    accrue_deals(house.session, [early, waiting])
    assert house.outcome(waiting) == (0, "no_account")

    assert accrue_server(house.session, house.server_id) == 0
    house.session.execute(update(Deal).where(Deal.id == waiting).values(trading_account_id=account))
    assert accrue_deals(house.session, [waiting]) == 1

    assert house.outcome(waiting) == (1, "")
    assert accrue_server(house.session, house.server_id) == 0


def test_a_correction_behind_the_cursor_is_reversed_before_it(house: Brokerage) -> None:
    ib_id = house.ib()
    first = house.deal(house.brought(ib_id), "2")
    assert accrue_server(house.session, house.server_id) == 1
    house.revise(first, "1.5")

    assert accrue_server(house.session, house.server_id) == 2

    assert sorted(house.amounts(ib_id)) == [("accrue", Decimal("10.5")), ("accrue", Decimal(14)), ("reverse", Decimal(-14))]


def test_units_are_whole_with_their_sums(house: Brokerage) -> None:
    for _ in range(2):
        ib_id = house.ib()
        for lots in ("1", "0.37", "2.5"):
            house.deal(house.brought(ib_id), lots)
    assert accrue_server(house.session, house.server_id) == 6

    key = (Accrual.unit_id, Accrual.ib_id, Accrual.plan_version_id, Accrual.currency)
    added_up = select(*key, func.sum(Accrual.amount), func.count()).group_by(*key).order_by(*key)
    sums = select(
        *(AccrualSum.unit_id, AccrualSum.ib_id, AccrualSum.plan_version_id, AccrualSum.currency),
        *(AccrualSum.amount, AccrualSum.accruals),
    ).order_by(AccrualSum.unit_id, AccrualSum.ib_id)
    assert house.session.execute(added_up).all() == house.session.execute(sums).all()
    assert house.session.scalar(select(func.sum(AccrualUnit.accruals))) == 6


def test_what_was_accrued_cannot_be_changed(database) -> None:
    with database.session() as session:
        house = build(session)
        house.deal(house.brought(house.ib()))
        house.save()
        assert accrue_server(session, house.server_id) == 1
        for statement in (
            "UPDATE accrual SET amount = 0",
            "DELETE FROM accrual",
            "UPDATE accrual_sum SET amount = 0",
            "DELETE FROM accrual_sum",
            "UPDATE accrual_unit SET accruals = 0",
        ):
            with pytest.raises(ProgrammingError, match="permission denied"):
                session.execute(text(statement))
            session.rollback()


def test_shards_accrue_side_by_side(database) -> None:
    with database.session() as session:
        house = build(session)
        ib_id = house.ib()
        account = house.brought(ib_id)
        for _ in range(60):
            house.deal(account)
        house.save()
        server_id = house.server_id
    written: list[int] = []
    start = threading.Barrier(2 * SHARDS)

    def work(shard: int) -> None:
        with database.session() as own:
            start.wait(20)
            written.append(accrue_shard(own, server_id, shard))

    workers = [threading.Thread(target=work, args=(number % SHARDS,)) for number in range(2 * SHARDS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert sum(written) == 60
    with database.session() as session:
        assert session.scalar(select(func.count()).where(Accrual.ib_id == ib_id)) == 60
