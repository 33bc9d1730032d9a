"""Personal terms with four eyes, the cascade, and rates that an IB gives to those below it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from app.commissions import agreements, offers, publishing
from app.commissions.accrual import accrue_deals
from app.commissions.errors import InvalidPlan, TermsTooEarly, TermsWaiting
from app.commissions.terms import PersonalTerms
from app.core.actor import Actor
from app.core.errors import InvalidInput, NotFound
from app.ledger.errors import OwnRequest, RequestDecided
from app.models.commission_flags import CommissionFlag
from app.models.commissions import Plan
from app.models.ib_terms import IBTerms
from app.partners.links import make_ib
from app.partners.tree import place_ib
from tests.integration.commissions.brokerage import NOON, STAFF, START, Brokerage

OTHER = Actor.staff(2)
DIFFERENCE = [{"key": "fx", "component": "per_lot", "levels": {"mode": "override", "values": ["6", "8"]}}]


def propose(house: Brokerage, ib_id: int, terms: PersonalTerms, at: datetime | None = NOON, reason: str = "Agreed") -> int:
    return agreements.propose_terms(house.session, ib_id=ib_id, terms=terms, valid_from=at, reason=reason, actor=STAFF).id


def agree(house: Brokerage, ib_id: int, terms: PersonalTerms, at: datetime | None = NOON) -> None:
    agreements.approve_terms(house.session, propose(house, ib_id, terms, at), actor=OTHER)


def own(house: Brokerage, rate: str) -> PersonalTerms:
    return PersonalTerms(rates={(house.ids["plan"], "fx"): Decimal(rate)})


def sub_ib(house: Brokerage, upper: int) -> int:
    made = make_ib(house.session, house.client("Sub", "Broker"), "USD", STAFF)
    place_ib(house.session, made.id, upper, START, "joined", STAFF)
    return made.id


def flags(house: Brokerage, kind: str, ib_id: int) -> list[dict[str, Any]]:
    query = select(CommissionFlag.details).where(CommissionFlag.kind == kind, CommissionFlag.ib_id == ib_id)
    return list(house.session.scalars(query))


def test_somebody_else_agrees_and_then_it_is_paid(house: Brokerage) -> None:
    ib_id = house.ib()
    proposal_id = propose(house, ib_id, PersonalTerms(Decimal("1.5"), hand_on_percent=Decimal(10)))

    with pytest.raises(OwnRequest):
        agreements.approve_terms(house.session, proposal_id, actor=STAFF)
    with pytest.raises(TermsWaiting):
        propose(house, ib_id, PersonalTerms(Decimal(2)))
    agreements.approve_terms(house.session, proposal_id, actor=OTHER)
    with pytest.raises(RequestDecided):
        agreements.reject_terms(house.session, proposal_id, reason="Late", actor=OTHER)

    accrue_deals(house.session, [house.deal(house.brought(ib_id))])
    assert house.amounts(ib_id) == [("accrue", Decimal("9.45"))]


def test_new_terms_end_the_ones_before(house: Brokerage) -> None:
    ib_id = house.ib()
    agree(house, ib_id, PersonalTerms(Decimal(2)))
    agree(house, ib_id, own(house, "9"), NOON + timedelta(days=1))

    spans = house.session.scalars(select(IBTerms).where(IBTerms.ib_id == ib_id).order_by(IBTerms.valid_from)).all()

    assert [(one.valid_from, one.valid_to, one.multiplier) for one in spans] == [
        (NOON, NOON + timedelta(days=1), 2),
        (NOON + timedelta(days=1), None, None),
    ]
    with pytest.raises(TermsTooEarly):
        propose(house, ib_id, PersonalTerms(Decimal(3)), NOON)


def test_a_proposal_is_rejected_with_a_reason_or_withdrawn_and_nothing_changes(house: Brokerage) -> None:
    ib_id = house.ib()
    first = propose(house, ib_id, PersonalTerms(Decimal(2)))
    with pytest.raises(InvalidInput):
        agreements.reject_terms(house.session, first, reason=" ", actor=OTHER)
    agreements.reject_terms(house.session, first, reason="Too much", actor=OTHER)
    agreements.withdraw_terms(house.session, propose(house, ib_id, PersonalTerms(Decimal(2))), actor=STAFF)

    assert agreements.present_terms(house.session, ib_id, NOON) == PersonalTerms()


def test_all_that_is_wrong_is_said_at_once(house: Brokerage) -> None:
    ib_id = house.ib()
    plan = house.ids["plan"]
    rates = {(plan, "fx"): Decimal(10**9), (plan, "gone"): Decimal(1), (10**6, "fx"): Decimal(1)}

    with pytest.raises(InvalidInput) as refused:
        propose(house, ib_id, PersonalTerms(Decimal(11), rates, Decimal(101)), reason=" ")

    assert sorted(refused.value.problems) == [
        "hand_on_percent",
        "multiplier",
        f"rates.{10**6}.fx",
        f"rates.{plan}.fx",
        f"rates.{plan}.gone",
        "reason",
    ]
    with pytest.raises(InvalidInput):
        propose(house, ib_id, PersonalTerms())


class TestCascade:
    def test_more_than_the_ib_above_has_is_refused(self, house: Brokerage) -> None:
        top = house.ib(DIFFERENCE)
        low = sub_ib(house, top)

        with pytest.raises(InvalidInput) as refused:
            propose(house, low, own(house, "8.5"))
        with pytest.raises(InvalidInput):
            propose(house, low, PersonalTerms(Decimal("1.5")))

        assert list(refused.value.problems) == [f"rates.{house.ids['plan']}.fx"]
        agree(house, low, own(house, "8"))

    def test_less_than_an_ib_below_has_is_refused_too(self, house: Brokerage) -> None:
        top = house.ib(DIFFERENCE)
        low = sub_ib(house, top)
        agree(house, low, own(house, "7.5"))

        with pytest.raises(InvalidInput):
            propose(house, top, own(house, "7"))

    def test_or_flagged_where_the_plan_says_so(self, house: Brokerage) -> None:
        top = house.ib(DIFFERENCE)
        low = sub_ib(house, top)
        house.session.execute(update(Plan).where(Plan.id == house.ids["plan"]).values(cascade_guard="flag"))
        house.save()

        agree(house, low, own(house, "9"))

        (details,) = flags(house, "cascade", low)
        assert (details["ibs"], details["rate"], details["rate_above"]) == ([low, top], "9", "8")

    def test_rules_that_would_turn_it_round_are_not_published(self, house: Brokerage) -> None:
        top = house.ib(DIFFERENCE)
        low = sub_ib(house, top)
        agree(house, low, own(house, "7.5"))
        cheaper = [{"key": "fx", "component": "per_lot", "levels": {"mode": "override", "values": ["5", "7"]}}]

        with pytest.raises(InvalidPlan) as refused:
            publishing.publish_version(house.session, house.ids["plan"], cheaper, NOON + timedelta(days=1), STAFF)

        assert list(refused.value.problems) == ["rules"]


class TestOffers:
    TOMORROW = datetime(2026, 7, 2, tzinfo=UTC)

    def test_an_ib_gives_up_to_its_own_rate_from_the_next_day_on(self, house: Brokerage) -> None:
        top = house.ib(DIFFERENCE)
        low = sub_ib(house, top)
        (offer,) = offers.offers(house.session, top, NOON)
        assert (offer.sub_ib_id, offer.present, offer.most) == (low, 6, 8)

        given = offers.offer_rate(house.session, top, low, "fx", Decimal(7), NOON, Actor.client(1))

        assert given.valid_from == self.TOMORROW
        account = house.brought(low)
        before, after = house.deal(account), house.deal(account, done_at=self.TOMORROW)
        accrue_deals(house.session, [before, after])
        assert house.amounts(low) == [("accrue", Decimal(6)), ("accrue", Decimal(7))]
        assert house.amounts(top) == [("accrue", Decimal(2)), ("accrue", Decimal(1))]

    def test_not_more_than_it_has_and_not_to_others(self, house: Brokerage) -> None:
        top = house.ib(DIFFERENCE)
        low = sub_ib(house, top)
        lowest, stranger = sub_ib(house, low), house.ib(DIFFERENCE)

        with pytest.raises(InvalidInput) as refused:
            offers.offer_rate(house.session, top, low, "fx", Decimal("8.01"), NOON, STAFF)
        assert refused.value.problems == {"rate": "This is more than you have yourself."}
        for other in (lowest, stranger, top):
            with pytest.raises(NotFound):
                offers.offer_rate(house.session, top, other, "fx", Decimal(7), NOON, STAFF)

    def test_only_what_is_paid_out_of_its_own_rate(self, house: Brokerage) -> None:
        top = house.ib()
        low = sub_ib(house, top)

        assert offers.offers(house.session, top, NOON) == []
        with pytest.raises(InvalidInput) as refused:
            offers.offer_rate(house.session, top, low, "fx", Decimal(5), NOON, STAFF)
        assert refused.value.problems == {"rule": "This rate is not yours to give."}

    def test_two_on_one_day_keep_each_other_and_what_staff_agreed(self, house: Brokerage) -> None:
        top = house.ib([*DIFFERENCE, {**DIFFERENCE[0], "key": "gold"}])
        low = sub_ib(house, top)
        agree(house, low, PersonalTerms(hand_on_percent=Decimal(5)), NOON)

        offers.offer_rate(house.session, top, low, "fx", Decimal(7), NOON, STAFF)
        last = offers.offer_rate(house.session, top, low, "gold", Decimal(5), NOON + timedelta(hours=1), STAFF)

        plan = house.ids["plan"]
        assert last.valid_from == self.TOMORROW + timedelta(seconds=1)
        assert agreements.present_terms(house.session, low, last.valid_from) == PersonalTerms(
            None, {(plan, "fx"): Decimal(7), (plan, "gold"): Decimal(5)}, Decimal(5)
        )
