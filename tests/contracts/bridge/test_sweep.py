"""A sweep that reads through the bridge finds what the stream lost, and takes what the stream told for the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app.core.uow import unit_of_work
from app.jobs import gateways
from app.metatrader import sync
from app.metatrader.bridge.asking import BridgeBackfill
from app.metatrader.fields import write_account, write_deal, write_position
from app.models.metatrader import Deal, Position, Server
from tests.contracts.bridge import house as bridge
from tests.contracts.bridge.fake_manager import SERVER, MTAccount, MTDeal, MTPosition, MTUser
from tests.integration.trading.house import SYSTEM, clock, house, wait_until

__all__ = ["clock", "house"]


def mirror_the_simulator(house, login):
    """The fake server has what the simulator has."""
    state = house.platform.get_account(login)
    SERVER.users[login] = bridge.mt(MTUser, write_account(state))
    SERVER.states[login] = bridge.mt(MTAccount, write_account(state))
    SERVER.deals = {deal.ticket: bridge.mt(MTDeal, write_deal(deal)) for deal in house.at_server(login)}
    SERVER.positions = {
        position.ticket: bridge.mt(MTPosition, write_position(position)) for position in house.platform.positions(login)
    }


@pytest.fixture
def swept(house, tmp_path):
    """Sweep through the bridge; returns deals found new and found gone."""
    SERVER.clear()
    with unit_of_work(house.session, SYSTEM):
        house.session.execute(update(Server).where(Server.id == house.server_id).values(backfill="bridge"))
    loaded = replace(bridge.settings(tmp_path / "bridge", house.settings.redis_url), code="sim")

    def sweep():
        source = gateways.backfill_of(house.session, house.settings, house.server_id, house.platform)
        assert isinstance(source, BridgeBackfill)
        since = datetime.now(UTC) - timedelta(hours=1)
        done = sync.sweep(house.session, house.platform, house.server_id, since=since, source=source)
        return done.new, done.voided

    with bridge.answering(loaded):
        yield sweep
    SERVER.clear()


def test_what_the_stream_lost_is_found_through_the_bridge(house, swept):
    login = house.add_account().login
    house.simulator.exchange.balance_operation(login, 2, Decimal(5_000), "start")
    house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.30"), move_points=71)
    wait_until(lambda: house.simulator.store.outbox_size() == 0)
    house.drain()
    mirror_the_simulator(house, login)
    assert swept() == (0, 0), "the same deals, told by stream and by bridge, are the same"

    house.simulator.control.trade(login, "USDJPY", "sell", Decimal("0.10"), close=False)
    wait_until(lambda: house.simulator.store.outbox_size() == 0)
    house.redis.delete("mt:sim:0")
    mirror_the_simulator(house, login)
    assert swept() == (1, 0)
    house.session.rollback()
    assert set(house.session.scalars(select(Deal.ticket))) == {deal.ticket for deal in house.at_server(login)}
    (open_position,) = house.platform.positions(login)
    assert list(house.session.scalars(select(Position.ticket))) == [open_position.ticket]
    assert swept() == (0, 0)
