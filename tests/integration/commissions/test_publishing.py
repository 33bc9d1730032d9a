"""Plans are put to use without gaps, overlaps or changes to what has been paid."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.commissions import publishing
from app.commissions.accrual import accrue_deals
from app.commissions.errors import AssignmentOverlap, InvalidPlan, PlanNameTaken, PlanNotYetValid, VersionOverlap
from app.core.actor import Actor
from app.core.errors import NotFound
from app.core.money import InvalidMoney
from app.models.commissions import IBPlan, PlanVersion
from tests.integration.commissions.brokerage import NOON, RULES, START, Brokerage

STAFF = Actor.staff(1)


def test_a_plan_needs_a_name_of_its_own_and_a_currency(house: Brokerage) -> None:
    publishing.create_plan(house.session, "  Gold   rebate ", "USD", STAFF)

    with pytest.raises(PlanNameTaken):
        publishing.create_plan(house.session, "Gold rebate", "USD", STAFF)
    with pytest.raises(InvalidMoney):
        publishing.create_plan(house.session, "Moon", "ZZZ", STAFF)
    for name in ("", "x" * 101, "a\x00b"):
        with pytest.raises(InvalidPlan):
            publishing.create_plan(house.session, name, "USD", STAFF)


def test_versions_follow_one_another(house: Brokerage, minute: timedelta) -> None:
    plan_id = publishing.create_plan(house.session, "Versions", "USD", STAFF)

    first = publishing.publish_version(house.session, plan_id, RULES, START, STAFF)
    second = publishing.publish_version(house.session, plan_id, RULES, NOON, STAFF)

    assert (first.version, second.version) == (1, 2)
    for moment in (NOON, NOON - minute):
        with pytest.raises(VersionOverlap):
            publishing.publish_version(house.session, plan_id, RULES, moment, STAFF)
    with pytest.raises(NotFound):
        publishing.publish_version(house.session, 10**9, RULES, NOON, STAFF)
    with pytest.raises(InvalidPlan):
        publishing.publish_version(house.session, plan_id, [], NOON + minute, STAFF)
    stored = house.session.scalar(select(PlanVersion.rules).where(PlanVersion.id == first.id))
    assert stored is not None
    assert stored[0]["filter"]["symbols"] == ["*"]


def test_what_has_been_paid_is_not_rewritten(house: Brokerage, minute: timedelta) -> None:
    ib_id = house.ib()
    accrue_deals(house.session, [house.deal(house.brought(ib_id), done_at=NOON)])

    with pytest.raises(VersionOverlap):
        publishing.publish_version(house.session, house.ids["plan"], RULES, NOON - minute, STAFF)

    assert publishing.publish_version(house.session, house.ids["plan"], RULES, NOON + minute, STAFF).version == 2


def test_an_assignment_ends_the_one_before(house: Brokerage, minute: timedelta) -> None:
    ib_id = house.ib()
    plan_id = publishing.create_plan(house.session, "Next", "USD", STAFF)
    with pytest.raises(PlanNotYetValid):
        publishing.assign_plan(house.session, ib_id, plan_id, NOON, STAFF)
    publishing.publish_version(house.session, plan_id, RULES, START, STAFF)

    publishing.assign_plan(house.session, ib_id, plan_id, NOON, STAFF)

    spans = house.session.execute(
        select(IBPlan.valid_from, IBPlan.valid_to).where(IBPlan.ib_id == ib_id).order_by(IBPlan.valid_from)
    ).all()
    assert [tuple(span) for span in spans] == [(START, NOON), (NOON, None)]
    with pytest.raises(AssignmentOverlap):
        publishing.assign_plan(house.session, ib_id, plan_id, NOON, STAFF)
    with pytest.raises(NotFound):
        publishing.assign_plan(house.session, 10**9, plan_id, NOON + minute, STAFF)
