"""An IB gives rates to the IBs right below it, within its own."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest

from app.commissions import offers, publishing
from app.core.clock import now
from app.partners import links, tree
from tests.integration.commissions.brokerage import STAFF, START, build
from tests.integration.portal.partner_house import partner_house

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


def test_what_was_given_is_said_and_shown_beside_todays_and_stays_in_the_field(signed_in, sub_id):
    day = (now().date() + timedelta(days=1)).isoformat()
    signed_in.post(f"{PAGE}/{sub_id[0]}/fx", {"rate": "6.5"}, page=PAGE)

    page = signed_in.get(PAGE).text

    assert f"Saved. It counts from {day} (UTC) on." in page
    assert re.search(r">from \d+ \w+: 6.5<", page), "what comes"
    assert ">5 USD<" in page, "what is today"
    assert 'value="6.5"' in page, "sending the form again must not take it back"
    assert "You keep 1.5 USD a lot." in page
    assert "from " not in re.search(r"<table.*?</table>", signed_in_again(signed_in, sub_id, "5"), re.DOTALL).group()


def signed_in_again(signed_in, sub_id, rate: str) -> str:
    """The page after today's rate was given again: nothing is to come."""
    signed_in.post(f"{PAGE}/{sub_id[0]}/fx", {"rate": rate}, page=PAGE)
    return signed_in.get(PAGE).text


def test_a_rule_is_said_in_words(signed_in, sub_id):
    page = signed_in.get(PAGE).text
    assert "Each lot, when a position is closed" in page
    assert "Difference</bdi> · <bdi>fx" in page


def test_a_percentage_is_kept_in_percent(signed_in, database, sub_id):
    sub, _, me = sub_id
    rules = [{"key": "spread", "component": "spread_share", "levels": {"mode": "override", "values": ["20", "30"]}}]
    with database.session() as session:
        plan_id = publishing.create_plan(session, "Part of the spread", "USD", STAFF)
        publishing.publish_version(session, plan_id, rules, START, STAFF)
        for ib in (sub, me):
            publishing.assign_plan(session, ib, plan_id, now(), STAFF)
    page = signed_in.get(PAGE).text
    assert "Spread the client paid, when a position is closed" in page
    assert "You keep 10 %." in page


def test_other_ibs_are_not_there_and_unknown_rules_not_ones_own_to_give(signed_in, sub_id):
    sub, foreign, _ = sub_id
    assert signed_in.post(f"{PAGE}/{foreign}/fx", {"rate": "1"}, page=PAGE).status_code == 404
    answer = signed_in.post(f"{PAGE}/{sub}/nothing", {"rate": "1"}, page=PAGE)
    assert answer.status_code == 422
    assert "This rate is not yours to give." in answer.text


def test_who_will_stand_elsewhere_gets_no_rate(signed_in, database, sub_id):
    sub, foreign, _ = sub_id
    with database.session() as session:
        tree.place_ib(session, sub, foreign, now() + timedelta(hours=1), "moves", STAFF)
    page = signed_in.get(PAGE)
    assert page.status_code == 200
    assert ">5 USD<" in page.text
    if (now() + timedelta(hours=1)).date() == now().date():
        assert "Not yours to give from the next day on." in page.text


def test_without_sub_ibs_the_page_says_whom_to_invite(signed_in, database, client_id):
    with database.session() as session:
        links.make_ib(session, client_id, "USD", STAFF)
    page = signed_in.get(PAGE).text
    assert "No partners below you yet" in page
    assert "Invite a partner" in page
    assert "Ask us" not in page


def test_where_the_house_sets_the_rates_the_page_says_whom_to_ask(signed_in, database, client_id):
    with database.session() as session:
        partner_house(session, client_id)
    page = signed_in.get(PAGE).text
    assert "No rates to give" in page
    assert "Ask us" in page
    assert "No partners below you yet" not in page
