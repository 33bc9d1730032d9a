"""Periods recomputed: no difference where nothing changed, exactly the difference where something did, posted once."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions import replay, replay_posting
from app.commissions.accrual import accrue_deals
from app.commissions.errors import ReplayMoved
from app.commissions.overrides import Instead, Overrides
from app.commissions.recompute import Scope
from app.commissions.true_up import true_up_all
from app.core.actor import Actor
from app.core.errors import InvalidInput
from app.ledger.errors import OwnRequest
from app.models.commissions import AccrualSum, PlanVersion
from app.models.metatrader import Deal
from app.models.replays import ReplayLine, ReplayRun
from tests.conftest import tamper
from tests.integration.commissions.brokerage import NOON, STAFF, START, Brokerage
from tests.integration.commissions.test_true_up import CAPPED, MARGINAL, WHOLE, Branch

OTHER = Actor.staff(2)
DAY = timedelta(days=1)
UNTIL = NOON + DAY


def run(house: Brokerage, scope: Scope | None = None, page: int = 2, **overrides: Any) -> ReplayRun:
    """A run that is computed, on pages of two deals."""
    scope = scope or Scope(NOON - DAY, UNTIL)
    house.save()
    started = replay.start_replay(house.session, scope, Overrides(scope.until, **overrides), "asked for", STAFF)
    run_id = started.id
    compute(house, run_id, page)
    return house.session.get_one(ReplayRun, run_id, populate_existing=True)


def compute(house: Brokerage, run_id: int, page: int = 2) -> None:
    """As the job does, but within the transaction of the test."""
    replay.compute_replay(
        house.session, Session(house.session.connection(), join_transaction_mode="rollback_only"), run_id, page
    )


def lines(house: Brokerage, made: ReplayRun) -> list[tuple[int, int | None, Decimal]]:
    rows = house.session.scalars(
        select(ReplayLine).where(ReplayLine.run_id == made.id).order_by(ReplayLine.deal_id, ReplayLine.id)
    )
    return [(row.deal_id, row.ib_id, row.difference.normalize()) for row in rows]


def posted(house: Brokerage, made: ReplayRun) -> str:
    replay.propose_replay(house.session, made.id, actor=STAFF)
    replay.approve_replay(house.session, made.id, actor=OTHER)
    replay_posting.post_replay(house.session, made.id)
    return house.session.get_one(ReplayRun, made.id, populate_existing=True).status


def net(house: Brokerage, ib_id: int) -> Decimal:
    return sum((amount for _, amount in house.amounts(ib_id)), Decimal(0)).normalize()


def accrue(house: Brokerage, *deal_ids: int) -> None:
    house.save()
    accrue_deals(house.session, deal_ids)


def version(house: Brokerage, rate: str, since: datetime) -> int:
    """A version of the plan that was published later than it should have been."""
    made = PlanVersion(
        plan_id=house.ids["plan"],
        version=2,
        valid_from=since,
        rules=[{"key": "fx", "component": "per_lot", "rate": rate}],
    )
    return house.add(made)


def test_nothing_changed_gives_no_difference_after_edits_voids_and_late_deals(house: Brokerage) -> None:
    account = house.brought(house.ib())
    deals = [house.deal(account, lots) for lots in ("1", "2", "3")]
    accrue(house, *deals)
    edited = house.revise(deals[0], "5")
    gone = house.revise(deals[1], "2", is_void=True)
    late = house.deal(account, "4", done_at=NOON - timedelta(hours=3))
    accrue(house, edited, gone, late)

    made = run(house)

    assert (made.status, made.sums["deals"], made.sums["lines"], made.deals_done) == ("computed", 6, 0, 6)
    assert made.sums["currencies"]["USD"] == {"stored": "84.0000000000", "recomputed": "84.0000000000"}


def test_a_version_that_should_have_counted_gives_exactly_the_difference_once(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    early, deal = house.deal(account, "1", done_at=NOON - timedelta(hours=2)), house.deal(account, "2")
    accrue(house, early, deal)
    better = version(house, "9", NOON + 30 * DAY)

    made = run(house, versions=(Instead(house.ids["plan"], better, NOON - timedelta(hours=1)),))

    assert made.sums["touched"] == 1
    assert sorted(lines(house, made)) == [(deal, ib_id, Decimal(-14)), (deal, ib_id, Decimal(18))]
    assert posted(house, made) == "posted"
    assert net(house, ib_id) == 25
    assert {kind for kind, _ in house.amounts(ib_id)} == {"accrue", f"adjust:{made.id}"}
    assert replay_posting.post_replay(house.session, made.id) == 0
    assert net(house, ib_id) == 25
    sums = house.session.scalars(select(AccrualSum.amount).where(AccrualSum.ib_id == ib_id)).all()
    assert sum(sums) == 25

    assert run(house).sums["lines"] == 0, "what was agreed holds for the next replay"


def test_what_was_agreed_holds_for_late_deals_of_that_time(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    accrue(house, house.deal(account, "1"))
    made = run(house, versions=(Instead(house.ids["plan"], version(house, "9", NOON + 30 * DAY), NOON - DAY),))
    posted(house, made)

    accrue(house, house.deal(account, "1", done_at=NOON + timedelta(hours=1)), house.deal(account, "1", done_at=UNTIL))

    assert net(house, ib_id) == 9 + 9 + 7


def test_a_client_that_should_have_been_anothers(house: Brokerage) -> None:
    first, second = house.ib(), house.ib([{"key": "fx", "component": "per_lot", "rate": "10.00"}])
    client_id = house.client()
    account = house.brought(first, client_id=client_id)
    deal = house.deal(account, "2")
    accrue(house, deal)

    made = run(house, clients=(Instead(client_id, second, NOON - DAY),))
    assert sorted(lines(house, made), key=str) == sorted([(deal, first, Decimal(-14)), (deal, second, Decimal(20))], key=str)
    posted(house, made)
    assert (net(house, first), net(house, second)) == (0, 20)

    nobody = run(house, clients=(Instead(client_id, 0, NOON - DAY),))
    assert [amount for *_, amount in lines(house, nobody)] == [Decimal(-20)]


def test_a_client_whom_nobody_was_written_to_have_brought_stays_agreed_in_the_next_replay(house: Brokerage) -> None:
    ib_id = house.ib()
    client_id = house.client()
    accrue(house, house.deal(house.account(client_id)))
    assert posted(house, run(house, clients=(Instead(client_id, ib_id, START),))) == "posted"
    assert net(house, ib_id) == 7

    assert run(house).sums["lines"] == 0


def test_an_ib_that_should_have_been_paid_by_another_plan(house: Brokerage) -> None:
    house.ib([{"key": "gold", "component": "per_lot", "rate": "1.00"}])
    other_plan = house.ids["plan"]
    ib_id = house.ib()
    deal = house.deal(house.brought(ib_id), "2")
    accrue(house, deal)

    made = run(house, plans=(Instead(ib_id, other_plan, START),))
    posted(house, made)

    assert net(house, ib_id) == 2


def test_a_reversal_after_an_adjustment_takes_back_all_of_it(house: Brokerage) -> None:
    ib_id = house.ib()
    deal = house.deal(house.brought(ib_id), "2")
    accrue(house, deal)
    posted(house, run(house, versions=(Instead(house.ids["plan"], version(house, "9", NOON + 30 * DAY), START),)))

    accrue(house, house.revise(deal, "2", is_void=True))

    assert net(house, ib_id) == 0
    assert run(house).sums["lines"] == 0


@pytest.mark.parametrize("change", ["edited", "voided before it paid"])
def test_what_changed_since_makes_a_run_stale(house: Brokerage, change: str) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id, until=None if change == "edited" else NOON - DAY, since=NOON - 9 * DAY)
    client_id = house.session.get_one(Deal, deal := house.deal(account, "2")).trading_account.client_id
    accrue(house, deal)
    overrides: dict[str, Any] = (
        {"versions": (Instead(house.ids["plan"], version(house, "9", NOON + 30 * DAY), START),)}
        if change == "edited"
        else {"clients": (Instead(client_id, ib_id, NOON - DAY),)}
    )
    made = run(house, **overrides)
    assert made.sums["lines"]
    house.revise(deal, "3", is_void=change != "edited")
    accrue(house, *house.session.scalars(select(Deal.id)))
    before = net(house, ib_id)

    assert posted(house, made) == "stale"
    assert net(house, ib_id) == before
    assert replay_posting.post_replay(house.session, made.id) == 0


def test_deals_that_wait_or_were_not_judged_yet_are_left_out(house: Brokerage) -> None:
    ib_id = house.ib([{"key": "spread", "component": "spread_share", "rate": "25"}])
    account = house.brought(ib_id)
    accrue(house, house.deal(account, "1"))
    house.deal(account, "1")

    made = run(house)

    assert (made.sums["left_out"], made.sums["deals"], made.sums["lines"]) == (2, 0, 0)


def test_scopes(house: Brokerage) -> None:
    first, first_plan = house.ib(), house.ids["plan"]
    second = house.ib()
    accrue(house, *(house.deal(house.brought(ib_id), "1") for ib_id in (first, second)))

    def compared(**scope: int) -> int:
        return run(house, Scope(NOON - DAY, UNTIL, **scope)).sums["deals"]

    assert compared() == 2
    assert compared(plan_id=first_plan) == 1
    assert compared(branch_id=second) == 1
    assert compared(server_id=house.server_id) == 2
    assert run(house, Scope(NOON - DAY, NOON)).sums["deals"] == 0, "until is exclusive"


@pytest.mark.parametrize("rules", [MARGINAL, WHOLE, CAPPED])
def test_plans_that_count_are_judged_by_whole_periods(session: Session, house: Brokerage, rules: list[dict[str, Any]]) -> None:
    branch = Branch(house, rules)
    for number, lots in enumerate(("8", "7", "9")):
        branch.deal(number, lots, below=number % 2, hours=24 * number)
    house.save()
    branch.arrive(2, 0, 1)
    true_up_all(session, NOON + 2 * DAY)

    made = run(house, Scope(NOON + timedelta(hours=23), NOON + 3 * DAY))

    assert (made.sums["deals"], made.sums["lines"]) == (2, 0)


def test_a_true_up_does_not_take_back_what_was_agreed(session: Session, house: Brokerage) -> None:
    branch = Branch(house, MARGINAL)
    for number in range(3):
        branch.deal(number, "8", below=0, hours=number)
    house.save()
    branch.arrive(0, 1, 2)
    client_id = session.get_one(Deal, branch.deals[0]).trading_account.client_id
    made = run(house, clients=(Instead(client_id, branch.ib_ids[1], START),))
    assert posted(house, made) == "posted"
    agreed = branch.sums()
    assert agreed[1] == 0
    assert agreed[2] == agreed[0]

    true_up_all(session, NOON + DAY)

    assert branch.sums() == agreed


def test_a_true_up_counts_a_client_whom_only_a_replay_gave_to_the_branch(session: Session, house: Brokerage) -> None:
    branch = Branch(house, MARGINAL)
    client_id = house.client()
    branch.accounts[0] = house.account(client_id)
    branch.deal(0, "12", below=0)
    branch.deal(1, "2", below=1, hours=1)
    house.save()
    branch.arrive(0, 1)
    assert posted(house, run(house, clients=(Instead(client_id, branch.ib_ids[0], START),))) == "posted"
    agreed = branch.sums()

    true_up_all(session, NOON + DAY)

    assert branch.sums() == agreed
    assert branch.volume() == 14


def test_four_eyes_and_what_cannot_be(house: Brokerage) -> None:
    ib_id = house.ib()
    accrue(house, house.deal(house.brought(ib_id), "1"))
    same = run(house)
    with pytest.raises(InvalidInput):
        replay.propose_replay(house.session, same.id, actor=STAFF)
    tamper(house.session, """UPDATE plan_version SET rules = '[{"key": "fx", "component": "per_lot", "rate": "8"}]'""")
    made = run(house)
    replay.propose_replay(house.session, made.id, actor=STAFF)
    with pytest.raises(OwnRequest):
        replay.approve_replay(house.session, made.id, actor=STAFF)
    with pytest.raises(InvalidInput):
        replay.reject_replay(house.session, made.id, reason=" ", actor=OTHER)
    assert replay.reject_replay(house.session, made.id, reason="no", actor=OTHER).status == "rejected"
    with pytest.raises(ReplayMoved):
        replay.approve_replay(house.session, made.id, actor=OTHER)
    with pytest.raises(InvalidInput) as refused:
        replay.start_replay(
            house.session,
            Scope(NOON, NOON, plan_id=10**9),
            Overrides(NOON, versions=(Instead(1, 10**9, NOON),), clients=(Instead(10**9, 10**9, START),)),
            "",
            STAFF,
        )
    assert set(refused.value.problems) == {
        *("until", "plan", "version", "version_since", "client", "client_ib", "reason"),
    }


def test_a_run_that_is_withdrawn_stops(house: Brokerage) -> None:
    house.save()
    started = replay.start_replay(house.session, Scope(NOON - DAY, UNTIL), Overrides(UNTIL), "asked for", STAFF)
    replay.withdraw_replay(house.session, started.id, actor=STAFF)
    compute(house, started.id)
    assert house.session.get_one(ReplayRun, started.id, populate_existing=True).status == "withdrawn"
