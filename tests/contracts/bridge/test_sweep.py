"""A sweep that reads through the bridge finds what the stream lost, and takes what the stream told for the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app.core.uow import unit_of_work
from app.jobs import gateways
from app.metatrader import reconcile, sync
from app.metatrader.bridge.asking import BridgeBackfill
from app.metatrader.codes import OrderState, OrderType
from app.metatrader.errors import BadAnswer
from app.metatrader.fields import write_account, write_deal, write_order, write_position
from app.models.metatrader import Deal, Order, Position, Server
from tests.contracts.bridge import fake_manager
from tests.contracts.bridge import house as bridge
from tests.contracts.bridge.fake_manager import SERVER, MTAccount, MTDeal, MTOrder, MTPosition, MTUser
from tests.integration.trading.house import SYSTEM, clock, house, wait_until

__all__ = ["clock", "house"]


def mirror_the_simulator(house, login):
    """The fake server has what the simulator has."""
    store, exchange = house.simulator.store, house.simulator.exchange
    state = exchange.state(login)
    SERVER.users[login] = bridge.mt(MTUser, write_account(state))
    SERVER.states[login] = bridge.mt(MTAccount, write_account(state))
    SERVER.deals = {deal.ticket: bridge.mt(MTDeal, write_deal(deal)) for deal in house.at_server(login)}
    SERVER.positions = {
        position.ticket: bridge.mt(MTPosition, write_position(position)) for position in exchange.positions(login)
    }
    SERVER.orders = {order.ticket: bridge.mt(MTOrder, write_order(order)) for order in store.orders(login)}
    SERVER.history = {order.ticket: bridge.mt(MTOrder, write_order(order)) for order in store.order_history(login, 0, 2**62)}


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


@pytest.fixture
def without_web_api(house):
    """The server has a bridge and nothing else that could be asked."""
    with unit_of_work(house.session, SYSTEM):
        house.session.execute(update(Server).where(Server.id == house.server_id).values(url="https://127.0.0.1:1"))
    house.platform = gateways.platform_of(house.session, house.settings, house.server_id)
    yield
    house.platform.close()


@pytest.fixture
def login(house, swept):
    """A login whose deals are booked: a deposit, and a trade."""
    made = house.add_account().login
    house.simulator.exchange.balance_operation(made, 2, Decimal(5_000), "start")
    house.simulator.control.trade(made, "EURUSD", "buy", Decimal("0.30"), move_points=71)
    house.drain()
    mirror_the_simulator(house, made)
    return made


def is_void(house, ticket):
    house.session.rollback()
    return house.session.scalars(select(Deal.is_void).where(Deal.ticket == ticket, Deal.is_current)).one()


def test_a_deal_that_vanished_is_void_by_the_bridges_word_alone(house, login, swept, without_web_api):
    gone = max(SERVER.deals)
    del SERVER.deals[gone]
    assert swept() == (0, 1)
    assert is_void(house, gone)
    assert swept() == (0, 0)


def test_a_deal_that_was_moved_out_of_the_range_is_not_void(house, login, swept, without_web_api):
    moved = max(SERVER.deals)
    SERVER.deals[moved].TimeMsc -= 5 * 3_600_000
    assert swept() == (0, 0)
    assert not is_void(house, moved)


def test_a_login_that_is_out_of_sight_keeps_its_deals(house, login, swept, without_web_api):
    SERVER.users.clear()
    SERVER.deals.clear()
    assert swept() == (0, 0)
    assert not any(is_void(house, ticket) for ticket in house.session.scalars(select(Deal.ticket)).all())


@pytest.mark.parametrize("spoil", ["unreadable", "refused"])
def test_no_whole_answer_voids_nothing(house, login, swept, without_web_api, monkeypatch, spoil):
    gone, other = sorted(SERVER.deals)[-2:]
    del SERVER.deals[gone]
    if spoil == "unreadable":
        SERVER.deals[other].Profit = float("nan")
    else:
        refusal = 8, fake_manager.R.MT_RET_ERR_PERMISSIONS, "no right"
        monkeypatch.setattr(fake_manager.ManagerAPI, "DealRequestByTickets", lambda *_: None)
        monkeypatch.setattr(fake_manager, "LastError", lambda: refusal)
    with pytest.raises(BadAnswer):
        swept()
    house.session.rollback()
    assert not is_void(house, gone)


def test_orders_and_what_became_of_them(house, login, swept, without_web_api):
    exchange = house.simulator.exchange
    kept, done, deleted = (
        exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, 1_000_000, Decimal("0.90000")).ticket for _ in range(3)
    )
    house.drain()
    exchange.cancel_order(done)
    exchange.delete_order(deleted)
    new = exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, 1_000_000, Decimal("0.80000")).ticket
    mirror_the_simulator(house, login)
    swept()
    house.session.rollback()
    rows = {row.ticket: (row.state, row.is_deleted) for row in house.session.scalars(select(Order)) if row.ticket >= kept}
    assert rows == {
        kept: (OrderState.PLACED, False),
        done: (OrderState.CANCELED, False),
        deleted: (OrderState.PLACED, True),
        new: (OrderState.PLACED, False),
    }


def test_a_day_is_checked_by_the_bridges_word_alone(house, login, swept, without_web_api):
    gone, edited = sorted(SERVER.deals)[-2:]
    del SERVER.deals[gone]
    SERVER.deals[edited].Profit += 1
    look = gateways.look_of(house.session, house.settings, house.server_id, SYSTEM)
    wall = datetime.fromtimestamp(bridge.ZONE.wall_ms(datetime.now(UTC)) / 1000, UTC)
    checked = reconcile.check_server(replace(look, pause=lambda _: None), wall.date())
    assert (checked.booked, is_void(house, gone), is_void(house, edited)) == (2, True, False)
