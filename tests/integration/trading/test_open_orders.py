"""Open orders in the safety net: what the stream lost of them is found, and what a late list says changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.metatrader import open_orders, sync
from app.metatrader.backfill import PlatformBackfill
from app.metatrader.codes import OrderState, OrderType
from app.models.metatrader import Order
from tests.integration.trading.house import House
from tests.integration.trading.test_sweep import lose_the_stream

LOT = 100_000_000
GROUP = r"real\std\usd"


@pytest.fixture
def login(house: House) -> int:
    made = house.add_account().login
    house.simulator.exchange.balance_operation(made, 2, Decimal(50_000), "start")
    return made


def place(house: House, login: int, price: str = "0.90000") -> int:
    return house.simulator.exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, LOT // 10, Decimal(price)).ticket


def sweep(house: House, source: PlatformBackfill | None = None) -> tuple[int, int]:
    """How many orders it found new or other, and how many done or gone."""
    since = datetime.now(UTC) - timedelta(hours=1)
    done = sync.sweep(house.session, house.platform, house.server_id, since=since, source=source)
    house.session.rollback()
    return done.orders.changed, done.orders.closed


def orders(house: House) -> dict[int, Order]:
    house.session.rollback()
    return {row.ticket: row for row in house.session.scalars(select(Order).execution_options(populate_existing=True))}


def test_what_the_stream_lost_of_orders_is_found(house, login):
    kept, changed, cancelled, deleted = (place(house, login) for _ in range(4))
    house.drain()
    exchange = house.simulator.exchange
    exchange.change_order(changed, price=Decimal("0.91000"))
    exchange.cancel_order(cancelled)
    exchange.delete_order(deleted)
    missing = place(house, login, "0.92000")
    lose_the_stream(house)
    assert sweep(house) == (2, 2)
    rows = orders(house)
    assert {ticket: row.price_order for ticket, row in rows.items() if not row.done_ms and not row.is_deleted} == {
        kept: Decimal("0.9"), changed: Decimal("0.91"), missing: Decimal("0.92"),
    }  # fmt: skip
    there = house.platform.order(cancelled)
    row = rows[cancelled]
    assert (row.state, row.done_ms, row.is_deleted) == (OrderState.CANCELED, there.done_ms, False)
    assert row.done_at == datetime.fromtimestamp(there.done_ms / 1000, UTC) - timedelta(minutes=row.utc_offset_min)
    assert (rows[deleted].state, rows[deleted].is_deleted) == (OrderState.PLACED, True)
    assert rows[missing].trading_account_id == rows[kept].trading_account_id is not None
    assert sweep(house) == (0, 0)


def test_an_order_that_a_list_lacks_stays_while_the_server_has_it(house, login):
    ticket = place(house, login)
    house.drain()

    class Late(PlatformBackfill):
        def orders(self):
            return iter(())

    assert sweep(house, Late(house.platform, [GROUP])) == (1, 0)
    row = orders(house)[ticket]
    assert (row.done_ms, row.is_deleted) == (0, False)


def test_an_order_that_was_done_while_we_looked_does_not_open_again(house, login):
    ticket = place(house, login)

    class Meanwhile(PlatformBackfill):
        def orders(self):
            found = list(super().orders())
            house.simulator.exchange.cancel_order(ticket)
            house.drain()
            return iter(found)

    sweep(house, Meanwhile(house.platform, [GROUP]))
    assert orders(house)[ticket].state == OrderState.CANCELED


def test_a_copy_is_not_believed_where_we_know_otherwise(house, login, monkeypatch):
    """A copy that lags still shows an order that is gone, and another as it was."""
    unheard = place(house, login)
    lose_the_stream(house)
    gone, changed = place(house, login), place(house, login)
    copied = house.platform.orders_by_group(GROUP)
    exchange = house.simulator.exchange
    exchange.change_order(changed, price=Decimal("0.91000"))
    exchange.delete_order(gone)
    house.drain()
    assert orders(house).keys() == {gone, changed}

    class Copy(PlatformBackfill):
        def orders(self):
            return iter(copied)

    monkeypatch.setattr(open_orders, "asked_now", lambda _: None)
    sweep(house, Copy(house.platform, [GROUP]))
    rows = orders(house)
    assert rows[gone].is_deleted
    assert rows[changed].price_order == Decimal("0.91")
    assert rows[unheard].price_order == Decimal("0.9")


def test_many_that_nobody_shows_at_once_are_not_believed_gone(house, login, monkeypatch):
    monkeypatch.setattr(open_orders, "MOST_BELIEVED_GONE", 2)
    tickets = [place(house, login) for _ in range(4)]
    house.drain()
    for ticket in tickets[:3]:
        house.simulator.exchange.delete_order(ticket)
    house.simulator.exchange.cancel_order(tickets[3])
    lose_the_stream(house)
    assert sweep(house) == (0, 1)
    rows = orders(house)
    assert not any(row.is_deleted for row in rows.values())
    assert rows[tickets[3]].state == OrderState.CANCELED
    monkeypatch.setattr(open_orders, "MOST_BELIEVED_GONE", 100)
    monkeypatch.setattr(open_orders, "MOST_ASKED", 2)
    assert [sweep(house) for _ in range(3)] == [(0, 2), (0, 1), (0, 0)]


def test_an_order_that_is_shown_again_is_open_again(house, login):
    ticket = place(house, login)
    house.drain()
    order = house.platform.order(ticket)
    house.simulator.exchange.delete_order(ticket)
    lose_the_stream(house)
    assert sweep(house) == (0, 1)
    with house.simulator.store.transaction():
        house.simulator.store.save_order(order)
    assert sweep(house) == (1, 0)
    assert not orders(house)[ticket].is_deleted
