"""Who moves or joins is news on the pages of all IBs above, those it left and those it came to, and of nobody else."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from app.core import live
from app.core.clock import now
from app.core.tables import Delivery
from app.jobs import relay
from app.jobs.deliver import deliver
from app.partners import links, tree
from tests.integration.commissions.brokerage import STAFF, START, build


@pytest.fixture
def session(database):
    with database.session() as session:
        yield session


@pytest.fixture
def news(app, session, redis):
    """Carry out what was told; returns the clients who hear of their network."""

    def carry_out() -> set[int]:
        while relay.relay_new(session, redis):
            pass
        waiting = session.scalars(
            select(Delivery.event_id).where(Delivery.handler == "tell_networks", Delivery.delivered_at.is_(None))
        ).all()
        heard = redis.pubsub(ignore_subscribe_messages=True)
        heard.psubscribe(live.channel("*"))
        heard.get_message(timeout=5)
        with app.app_context():
            deliver("tell_networks", list(waiting))
        found = set()
        while message := heard.get_message(timeout=0.5):
            if json.loads(message["data"]) == {"type": "network.changed"}:
                found.add(int(message["channel"].decode().rsplit(":", 1)[1]))
        heard.close()
        return found

    return carry_out


def test_all_above_hear_of_it_and_nobody_else(session, news):
    house = build(session)
    people = {name: house.client(name, "Broker") for name in ("Top", "Middle", "Other", "Stranger")}
    ibs = {name: links.make_ib(session, person, "USD", STAFF).id for name, person in people.items()}
    tree.place_ib(session, ibs["Middle"], ibs["Top"], START, "joined", STAFF)
    client = house.client("Carla", "Own")
    account = house.brought(ibs["Middle"], client_id=client)
    house.save()
    assert account
    news()

    tree.move_client(session, client, ibs["Other"], now(), "asked for it", STAFF)
    assert news() == {people["Middle"], people["Top"], people["Other"]}

    tree.place_ib(session, ibs["Middle"], ibs["Other"], now(), "moved", STAFF)
    assert news() == {people["Middle"], people["Top"], people["Other"]}

    tree.place_ib(session, ibs["Middle"], None, now(), "left", STAFF)
    assert news() == {people["Middle"], people["Other"]}
