"""The IB's network: a level at a time, whatever stands below; nothing of anybody outside the branch."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import event

from app.commissions import publishing
from app.core.actor import Actor
from app.core.clock import now
from app.partners import links, network, privacy, tree
from app.partners.privacy import Privacy
from tests.integration.commissions.brokerage import START
from tests.integration.portal.partner_house import partner_house

STAFF = Actor.staff(1)


@pytest.fixture
def house(database, client_id):
    with database.session() as session:
        yield partner_house(session, client_id)


def below(house, above: int, first: str, last: str = "Deep") -> int:
    made = links.make_ib(house.session, house.brokerage.client(first, last), "USD", STAFF).id
    tree.place_ib(house.session, made, above, START, "joined", STAFF)
    return made


def test_each_branch_with_its_size_and_what_it_brought(signed_in, house):
    deep = below(house, house.sub_id, "Dora")
    account = house.brokerage.brought(deep)
    house.trade(house.own_account, "5")
    house.trade(house.sub_account, "1.5")
    house.trade(account, "1")
    (branch,) = network.level_below(house.session, house.ib_id, now())
    assert (branch.name, branch.ibs, branch.right_below, branch.own_clients, branch.clients) == ("Sami B.", 1, 1, 1, 2)
    page = signed_in.get("/portal/partner/network").text
    row = re.search(r'role="treeitem".*?</a>', page, re.DOTALL).group()
    assert f'data-below="/portal/partner/network/{house.sub_id}/below"' in row
    assert "1.50" in row
    assert "3 USD" in row
    assert "Dora" not in page
    assert "Olga" not in page


def test_where_the_house_shows_no_names_the_network_shows_numbers(signed_in, house):
    privacy.set_privacy(house.session, Privacy(names="number", shows_sub_clients=True), "The regulator asks for it", STAFF)
    number = f"#{house.sub_id}"
    pages = ("network", f"network/{house.sub_id}", f"network?q={house.sub_id}", "clients", "clients?export=csv")
    for page in pages:
        shown = signed_in.get(f"/portal/partner/{page}").text
        assert "Sami B" not in shown, page
        assert number in shown, page
    assert network.find_below(house.session, house.ib_id, "Sami", now()) == []
    assert network.find_below(house.session, house.ib_id, number, now()) == [(house.sub_id, number)]


def test_a_level_deeper_counts_by_the_deals_own_tree(signed_in, house):
    plan = [{"key": "fx", "component": "per_lot", "levels": {"mode": "rates", "values": ["7", "2", "0.5"]}}]
    deep = below(house, house.sub_id, "Dora")
    plan_id = publishing.create_plan(house.session, "Three levels", "USD", STAFF)
    publishing.publish_version(house.session, plan_id, plan, START, STAFF)
    publishing.assign_plan(house.session, deep, plan_id, START, STAFF)
    account = house.brokerage.brought(deep)
    house.trade(account, "4")
    house.trade(house.sub_account, "1")
    part = signed_in.get(f"/portal/partner/network/{house.sub_id}/below").text
    assert "Dora D." in part
    assert "2 USD" in part
    assert "<html" not in part
    assert 'aria-level="2"' in part
    assert "aria-expanded" not in part
    assert "4 USD" in signed_in.get("/portal/partner/network").text  # 2 of the level above Dora, 2 of Sami's own client


def test_who_left_the_branch_is_gone_from_it(signed_in, house):
    tree.place_ib(house.session, house.sub_id, house.other_id, now() - timedelta(minutes=1), "moved", STAFF)
    assert "No IBs below you yet" in signed_in.get("/portal/partner/network").text
    assert signed_in.get(f"/portal/partner/network/{house.sub_id}").status_code == 404


@pytest.mark.parametrize("path", ["network/{}", "network/{}/below"])
def test_an_ib_elsewhere_is_not_there(signed_in, house, path):
    assert signed_in.get(f"/portal/partner/{path.format(house.sub_id)}").status_code == 200
    assert signed_in.get(f"/portal/partner/{path.format(house.other_id)}").status_code == 404
    assert signed_in.get(f"/portal/partner/{path.format(987654)}").status_code == 404


def test_search_finds_names_as_they_are_shown_within_the_branch(signed_in, house):
    deep = below(house, house.sub_id, "Dora")
    found = signed_in.get("/portal/partner/network?q=dora").text
    assert f"/portal/partner/network/{deep}" in found
    assert "Nobody in your network" in signed_in.get("/portal/partner/network?q=Deep").text
    assert "Nobody in your network" in signed_in.get("/portal/partner/network?q=olga").text
    assert "Sami B." in signed_in.get(f"/portal/partner/network/{deep}").text


def test_a_level_is_so_many_queries_however_wide(house):
    def queries() -> int:
        seen: list[str] = []
        engine = house.session.get_bind()
        event.listen(engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
        network.level_below(house.session, house.ib_id, now())
        return len(seen)

    one = queries()
    for number in range(20):
        below(house, house.ib_id, f"Wide{number}")
    assert len(network.level_below(house.session, house.ib_id, now())) == 21
    assert queries() <= one
