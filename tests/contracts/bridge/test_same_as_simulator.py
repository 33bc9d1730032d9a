"""The bridge tells of the same deals, positions and logins what the simulator tells, though its numbers come as floats."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.metatrader.bridge import records
from app.metatrader.events import AccountEvent, DealEvent, OrderEvent, PositionEvent, decode
from app.metatrader.fields import write_account, write_deal, write_order, write_position
from app.metatrader.platform import NewAccount, ServerAccess
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.simulator import Simulator
from tests.contracts.bridge import house
from tests.contracts.bridge.fake_manager import MTAccount, MTDeal, MTOrder, MTPosition, MTUser
from tests.contracts.bridge.house import mt, until

PASSWORD = "Mt5#Manager1"
LOGIN = NewAccount(
    group="real\\std\\eur",
    leverage=100,
    first_name="Zoë",
    last_name="Søn",
    main_password="Main1234!",
    investor_password="Invest1234!",
    mark="A-8QK2N0V5ZT3RM",
)


@pytest.fixture
def told(tmp_path, base_settings, redis):
    """What the simulator tells of a deposit, a trade that is closed in two parts, and one that stays open."""
    with Simulator(
        state_dir=tmp_path / "simulator", password=PASSWORD, redis_url=base_settings.redis_url, tick_s=0
    ) as simulator:
        access = ServerAccess("sim", "mt5_web", simulator.url, 1000, PASSWORD, str(simulator.ca_file), "GMT+2/EU")
        with MT5WebPlatform(access) as platform:
            login = platform.create_account(LOGIN)
            platform.balance_operation(login, Decimal("10000.10"), "D-8QK2N0V5ZT3RM")
            simulator.control.trade(login, "EURUSD", "buy", Decimal("0.50"), move_points=108)
            simulator.control.trade(login, "USDJPY", "sell", Decimal("0.33"), move_points=-71)
            simulator.control.trade(login, "GBPUSD", "buy", Decimal("0.10"), close=False)
            until(lambda: simulator.store.outbox_size() == 0)
        return [decode(fields) for _, fields in redis.xrange("mt:sim:0")]


def test_the_same_deals_with_the_same_revisions(told, server, loaded, reader):
    deals = [event for event in told if isinstance(event, DealEvent)]
    assert len(deals) >= 6
    with house.Running(loaded):
        reader.first("control.sync_done")
        for event in deals:
            server.deal_add(mt(MTDeal, write_deal(event.deal)))
        until(lambda: len(reader.of("deal.add")) == len(deals))
    ours = reader.of("deal.add")
    assert [event.deal for event in ours] == [event.deal for event in deals]
    assert [(event.kind, event.key, event.rev, event.src) for event in ours] == [
        (event.kind, event.key, event.rev, event.src) for event in deals
    ]


def test_the_same_positions(told, server, loaded, reader):
    positions = [event for event in told if isinstance(event, PositionEvent)]
    assert {event.change for event in positions} >= {"add", "delete"}
    with house.Running(loaded):
        reader.first("control.sync_done")
        for event in positions:
            getattr(server, f"position_{event.change}")(mt(MTPosition, write_position(event.position)))
        until(lambda: len(reader.of("position.add", "position.update", "position.delete")) == len(positions))
    ours = reader.of("position.add", "position.update", "position.delete")
    assert [(event.kind, event.position) for event in ours] == [(event.kind, event.position) for event in positions]


def test_the_same_orders(told):
    for event in told:
        if isinstance(event, OrderEvent):
            made = mt(MTOrder, write_order(event.order))
            assert records.order(records.copied(made, records.ORDER_FIELDS)) == event.order


def test_the_same_states(told):
    states = [event.account for event in told if isinstance(event, AccountEvent)]
    assert states
    for state in states:
        fields = write_account(state)
        user, account = mt(MTUser, fields), mt(MTAccount, fields)
        ours = records.account(records.copied(user, records.USER_FIELDS), records.copied(account, records.STATE_FIELDS))
        assert ours == state
