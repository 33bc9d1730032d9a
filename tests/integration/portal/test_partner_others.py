"""An IB reaches nothing of an IB elsewhere, and nothing of the one above it, by whatever number it sends."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from sqlalchemy import select

from app.commissions import payouts
from app.core.actor import Actor
from app.core.money import Money
from app.engagement import tickets
from app.models.commissions import Accrual
from app.models.partners import IntroducingBroker
from app.partners import joining, links, tree
from tests.integration.commissions.brokerage import START
from tests.integration.portal.partner_house import PartnerHouse, partner_house

STAFF = Actor.staff(1)


@pytest.fixture
def house(database, client_id):
    with database.session() as session:
        yield partner_house(session, client_id)


def belongings(house: PartnerHouse) -> dict[str, int]:
    """Numbers of the other IB's things, by the names that routes give them."""
    session, ib_id = house.session, house.other_id
    client_id = session.get_one(IntroducingBroker, ib_id).client_id
    him = Actor.client(client_id)
    house.trade(house.other_account, "3")
    house.settle()
    link = links.create_link(session, ib_id, "Site", him)
    joining.invite(session, ib_id, "", him)
    (invitation,) = joining.invitations_of(session, ib_id)
    session.get_one(IntroducingBroker, ib_id).client.status = "approved"
    payout = payouts.request_payout(
        session, ib_id=ib_id, amount=Money.parse("10", "USD"), destination="wallet", key="k", actor=him
    )
    ticket = tickets.open_ticket(session, client_id=client_id, subject="Mine", text="Why?", actor=him)
    session.commit()
    return {
        "accrual_id": session.scalars(select(Accrual.id).where(Accrual.ib_id == ib_id)).one(),
        "link_id": link.id,
        "invitation_id": invitation.id,
        "payout_id": payout.id,
        "ticket_id": ticket.id,
        "ib_id": ib_id,
        "sub_ib": ib_id,
    }


@pytest.mark.parametrize("stands", ["elsewhere", "above"])
def test_what_is_another_ib_s_is_not_there(signed_in, house, app: Flask, stands: str) -> None:
    if stands == "above":
        tree.place_ib(house.session, house.ib_id, house.other_id, START, "joined", STAFF)
    theirs = belongings(house)
    token = signed_in.token("/portal/profile")
    walked = set()
    for rule in app.url_map.iter_rules():
        numbers = rule.arguments & set(theirs)
        if not rule.endpoint.startswith("portal_partner.") or not rule.arguments:
            continue
        assert numbers, f"{rule.endpoint} names a thing that this test does not know"
        values = {**{name: theirs[name] for name in numbers}, "kind": "svg", "rule_key": "fx"}
        with app.test_request_context():
            path = app.url_for(rule.endpoint, **{name: values[name] for name in rule.arguments})
        form = {"csrf_token": token, "text": "mine now", "rate": "1"}
        for method in sorted(rule.methods & {"GET", "POST"}):
            answer = signed_in.get(path) if method == "GET" else signed_in.bare_post(path, form)
            assert answer.status_code == 404, (method, path)
            assert not re.search(r"Egon|Olga", answer.text), path
        walked.add(rule.endpoint)
    assert len(walked) == 10
