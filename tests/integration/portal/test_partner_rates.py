"""An IB gives rates to the IBs right below it, within its own."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from app.commissions import offers, publishing
from app.core.clock import now
from app.partners import links, tree
from tests.integration.commissions.brokerage import STAFF, START, build

RULES = [{"key": "fx", "component": "per_lot", "levels": {"mode": "override", "values": ["5.00", "8.00"]}}]
PAGE = "/portal/partner/rates"


@pytest.fixture
def sub_id(database, client_id):
    """The IB that signs in has eight dollars a lot; the one below it five."""
    with database.session() as session:
        house = build(session)
        me = links.make_ib(session, client_id, "USD", STAFF)
        plan_id = publishing.create_plan(session, "Difference", "USD", STAFF)
        publishing.publish_version(session, plan_id, RULES, START, STAFF)
        publishing.assign_plan(session, me.id, plan_id, START, STAFF)
        sub = links.make_ib(session, house.client("Sami", "Below"), "USD", STAFF)
        tree.place_ib(session, sub.id, me.id, START, "joined", STAFF)
        foreign = links.make_ib(session, house.client("Olga", "Elsewhere"), "USD", STAFF)
        house.save()
        yield sub.id, foreign.id, me.id


def test_a_rate_is_given_out_of_ones_own_from_the_next_day_on(signed_in, database, sub_id):
    sub, _, me = sub_id
    page = signed_in.get(PAGE).text
    assert "Sami B." in page
    assert "8 USD" in page
    assert "3 USD" in page, "what is kept"

    answer = signed_in.post(f"{PAGE}/{sub}/fx", {"rate": "6.5"}, page=PAGE)

    assert answer.status_code == 302
    with database.session() as session:
        (today,) = offers.offers(session, me, now())
        (later,) = offers.offers(session, me, now() + timedelta(days=2))
        assert (today.present, later.present) == (Decimal(5), Decimal("6.5"))


@pytest.mark.parametrize("rate", ["8.01", "0", "-1", "some", "NaN", "1,234", "1_0", ""])
def test_more_than_ones_own_and_nonsense_are_refused_and_kept_in_the_field(signed_in, sub_id, rate):
    answer = signed_in.post(f"{PAGE}/{sub_id[0]}/fx", {"rate": rate}, page=PAGE)
    assert answer.status_code == 422
    assert f'value="{rate}"' in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_other_ibs_and_unknown_rules_are_not_there(signed_in, sub_id):
    sub, foreign, _ = sub_id
    assert signed_in.post(f"{PAGE}/{foreign}/fx", {"rate": "1"}, page=PAGE).status_code == 404
    assert signed_in.post(f"{PAGE}/{sub}/nothing", {"rate": "1"}, page=PAGE).status_code == 422


def test_without_sub_ibs_the_page_says_what_to_do(signed_in, database, client_id):
    with database.session() as session:
        links.make_ib(session, client_id, "USD", STAFF)
    assert "Invite a partner" in signed_in.get(PAGE).text
