"""Orders as records, orders that wait, stop loss and take profit, closing by an opposite position."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from app.metatrader.codes import OrderState, OrderType
from app.metatrader.events import DealEvent, OrderEvent, decode
from app.metatrader.simulator.exchange import Refused

LOT = 100_000_000
EVER = (0, 2**62)


def refusal(call, *arguments, **named):
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value.retcode


def order_events(simulator):
    rows = simulator.store.outbox(10_000)
    events = [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]
    return [(event.change, event.order.ticket, event.order.state) for event in events if isinstance(event, OrderEvent)]


def points_from(exchange, symbol, points):
    """A price so many points above the ask (or below, when negative)."""
    quote = exchange.market.quote(symbol)
    return quote.symbol.price(quote.ask + points)


def test_a_market_order_is_written_down_filled(simulator, exchange, new_login):
    login = new_login(money="10000")
    opened = exchange.open(login, "EURUSD", 0, LOT // 2, comment="c")
    closed = exchange.close(opened.position_ticket, LOT // 4)
    orders = simulator.store.order_history(login, *EVER)
    assert [(one.ticket, one.type, one.state, one.volume_initial, one.volume_current) for one in orders] == [
        (opened.order_ticket, OrderType.BUY, OrderState.FILLED, LOT // 2, 0),
        (closed.order_ticket, OrderType.SELL, OrderState.FILLED, LOT // 4, 0),
    ]
    assert {one.position_ticket for one in orders} == {opened.position_ticket}
    assert all(one.done_ms == one.set_up_ms == opened.server_time_ms for one in orders)
    assert order_events(simulator) == [("add", one.ticket, OrderState.FILLED) for one in orders]
    assert exchange.orders(login) == []


@pytest.mark.parametrize(
    ("kind", "away", "step", "action"),
    [
        (OrderType.BUY_LIMIT, -100, -60, 0),
        (OrderType.BUY_STOP, 100, 60, 0),
        (OrderType.SELL_LIMIT, 100, 60, 1),
        (OrderType.SELL_STOP, -100, -60, 1),
    ],
)
def test_a_waiting_order_is_carried_out_when_its_price_has_come(simulator, exchange, new_login, kind, away, step, action):
    login = new_login(money="10000")
    price = points_from(exchange, "EURUSD", away)
    order = exchange.place_order(login, "EURUSD", kind, LOT // 10, price, comment="waits")
    exchange.shift("EURUSD", step)
    assert exchange.positions(login) == []
    assert exchange.orders(login) == [order]
    exchange.shift("EURUSD", step)
    (position,) = exchange.positions(login)
    assert (position.ticket, position.action, position.comment) == (order.ticket, action, "waits")
    (deal,) = [one for one in simulator.store.deals(login, *EVER) if one.is_trade]
    assert deal.order_ticket == order.ticket
    assert deal.price == (deal.market_ask if action == 0 else deal.market_bid)
    done = simulator.store.order(order.ticket)
    assert (done.state, done.volume_current, done.position_ticket) == (OrderState.FILLED, 0, order.ticket)
    assert exchange.orders(login) == []
    assert order_events(simulator) == [
        ("add", order.ticket, OrderState.PLACED),
        ("update", order.ticket, OrderState.FILLED),
    ]


def test_an_order_expires(simulator, exchange, clock, new_login):
    login = new_login(money="10000")
    until_ms = exchange.now_ms() + 60_000
    price = points_from(exchange, "EURUSD", -5_000)
    order = exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, LOT, price, expiration_ms=until_ms)
    clock.move(seconds=59)
    exchange.tick()
    assert [one.ticket for one in exchange.orders(login)] == [order.ticket]
    clock.move(seconds=1)
    exchange.tick()
    done = simulator.store.order(order.ticket)
    assert (done.state, done.done_ms, done.volume_current) == (OrderState.EXPIRED, until_ms, LOT)
    assert exchange.orders(login) == []


def test_an_order_is_changed_cancelled_and_deleted(simulator, exchange, new_login):
    login = new_login(money="10000")
    order = exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, LOT, points_from(exchange, "EURUSD", -200))
    nearer = points_from(exchange, "EURUSD", -100)
    assert exchange.change_order(order.ticket, price=nearer, stop_loss=nearer - Decimal("0.01")).price_order == nearer
    assert exchange.cancel_order(order.ticket).state == OrderState.CANCELED
    assert refusal(exchange.cancel_order, order.ticket) == 13
    assert refusal(exchange.change_order, order.ticket, price=nearer) == 13
    exchange.delete_order(order.ticket)
    assert simulator.store.order(order.ticket) is None
    assert [(change, state) for change, _, state in order_events(simulator)] == [
        ("add", OrderState.PLACED),
        ("update", OrderState.PLACED),
        ("update", OrderState.CANCELED),
        ("delete", OrderState.CANCELED),
    ]


def test_an_order_that_cannot_be_paid_any_more_is_rejected(simulator, exchange, new_login):
    login = new_login(money="2000")
    order = exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, LOT, points_from(exchange, "EURUSD", -50))
    exchange.balance_operation(login, 2, Decimal(-1500), "out")
    exchange.shift("EURUSD", -100)
    assert simulator.store.order(order.ticket).state == OrderState.REJECTED
    assert exchange.positions(login) == []


@pytest.mark.parametrize(
    ("kind", "away", "volume", "more", "retcode"),
    [
        (OrderType.BUY_LIMIT, 10, LOT, {}, 10015),
        (OrderType.SELL_STOP, 10, LOT, {}, 10015),
        (OrderType.BUY_STOP, -20, LOT, {}, 10015),
        (OrderType.SELL_LIMIT, -20, LOT, {}, 10015),
        (OrderType.BUY, -20, LOT, {}, 10013),
        (OrderType.CLOSE_BY, -20, LOT, {}, 10013),
        (OrderType.BUY_LIMIT, -20, 5, {}, 10014),
        (OrderType.BUY_LIMIT, -20, LOT, {"expiration_ms": 5}, 10022),
        (OrderType.BUY_LIMIT, -20, LOT, {"stop_loss": Decimal(2)}, 10016),
        (OrderType.BUY_LIMIT, -20, LOT, {"take_profit": Decimal("0.1")}, 10016),
        (OrderType.BUY_LIMIT, -20, LOT, {"stop_loss": Decimal("0.1234567")}, 10016),
    ],
)
def test_orders_that_nobody_may_place(exchange, new_login, kind, away, volume, more, retcode):
    login = new_login(money="10000")
    price = points_from(exchange, "EURUSD", away)
    assert refusal(exchange.place_order, login, "EURUSD", kind, volume, price, **more) == retcode
    assert exchange.orders() == []


@pytest.mark.parametrize(
    ("action", "step", "reason", "word"), [(0, -300, 3, "sl"), (0, 300, 4, "tp"), (1, 300, 3, "sl"), (1, -300, 4, "tp")]
)
def test_stop_loss_and_take_profit(simulator, exchange, new_login, action, step, reason, word):
    login = new_login(money="10000")
    side, far = (1 if action == 0 else -1), Decimal("0.00200")
    price = points_from(exchange, "EURUSD", 0)
    opened = exchange.open(login, "EURUSD", action, LOT // 10, stop_loss=price - side * far, take_profit=price + side * far)
    exchange.shift("EURUSD", step // 3)
    assert len(exchange.positions(login)) == 1
    exchange.shift("EURUSD", step)
    assert exchange.positions(login) == []
    deal = simulator.store.deals(login, *EVER)[-1]
    assert (deal.position_ticket, deal.reason, deal.entry) == (opened.position_ticket, reason, 1)
    assert deal.comment.startswith(f"[{word} ")
    assert (deal.profit > 0) == (word == "tp")


def test_a_position_is_protected_later(simulator, exchange, new_login):
    login = new_login(money="10000")
    opened = exchange.open(login, "EURUSD", 0, LOT // 10)
    stop = points_from(exchange, "EURUSD", -200)
    assert exchange.protect(opened.position_ticket, stop_loss=stop).price_stop_loss == stop
    assert refusal(exchange.protect, opened.position_ticket, stop_loss=points_from(exchange, "EURUSD", 1)) == 10016
    assert refusal(exchange.protect, 5) == 13
    exchange.protect(opened.position_ticket)
    exchange.shift("EURUSD", -400)
    assert len(exchange.positions(login)) == 1


def test_closing_by_an_opposite_position(simulator, exchange, new_login):
    login = new_login("real\\ecn\\usd", money="10000")
    long = exchange.open(login, "EURUSD", 0, LOT)
    exchange.shift("EURUSD", 50)
    short = exchange.open(login, "EURUSD", 1, LOT // 4)
    first, second = exchange.close_by(long.position_ticket, short.position_ticket)
    assert [(one.entry, one.action, one.volume, one.volume_closed) for one in (first, second)] == [
        (3, 1, LOT // 4, LOT // 4),
        (3, 0, LOT // 4, LOT // 4),
    ]
    assert (first.position_ticket, second.position_ticket) == (long.position_ticket, short.position_ticket)
    assert first.price == second.price == short.price
    assert first.order_ticket == second.order_ticket
    assert first.profit == (short.price - long.price) * 25_000 == Decimal("10.50")  # 42 points of a quarter lot: no spread
    assert second.profit == 0
    assert first.commission == second.commission == Decimal("-0.88")
    order = simulator.store.order(first.order_ticket)
    assert (order.type, order.position_ticket, order.position_by_ticket) == (8, long.position_ticket, short.position_ticket)
    (rest,) = exchange.positions(login)
    assert (rest.ticket, rest.volume) == (long.position_ticket, LOT * 3 // 4)
    assert exchange.check_balance(login).agrees


def test_positions_that_do_not_close_each_other(exchange, new_login):
    login, other = new_login(money="100000"), new_login(money="100000")
    long, again = exchange.open(login, "EURUSD", 0, LOT), exchange.open(login, "EURUSD", 0, LOT)
    elsewhere, pound = exchange.open(other, "EURUSD", 1, LOT), exchange.open(login, "GBPUSD", 1, LOT)
    for ticket in (again, elsewhere, pound):
        assert refusal(exchange.close_by, long.position_ticket, ticket.position_ticket) == 10013
    assert refusal(exchange.close_by, long.position_ticket, 5) == 13


def test_a_waiting_order_adds_to_a_netted_position(simulator, exchange, new_login):
    login = new_login("real\\netting\\usd", money="100000")
    opened = exchange.open(login, "EURUSD", 0, LOT)
    order = exchange.place_order(login, "EURUSD", OrderType.SELL_LIMIT, 3 * LOT, points_from(exchange, "EURUSD", 100))
    exchange.shift("EURUSD", 200)
    (position,) = exchange.positions(login)
    assert (position.ticket, position.action, position.volume) == (order.ticket, 1, 2 * LOT)
    deal = simulator.store.deals(login, *EVER)[-1]
    assert (deal.entry, deal.position_ticket, deal.order_ticket) == (2, opened.position_ticket, order.ticket)


def test_orders_outlive_a_restart(tmp_path, simulator, exchange, clock, new_login):
    from app.metatrader.simulator import Simulator

    login = new_login(money="10000")
    order = exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, LOT, points_from(exchange, "EURUSD", -100))
    simulator.store.close()
    again = Simulator(state_dir=tmp_path, password="x", clock=clock, tick_s=0)
    try:
        assert again.exchange.orders(login) == [order]
        again.exchange.shift("EURUSD", -150)
        assert again.exchange.positions(login)[0].ticket == order.ticket
    finally:
        again.store.close()


def test_orders_come_before_their_deals(simulator, exchange, clock, new_login):
    login = new_login(money="10000")
    exchange.open(login, "EURUSD", 0, LOT)
    clock.move(seconds=int(timedelta(minutes=1).total_seconds()))
    rows = simulator.store.outbox(100)
    events = [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]
    kinds = [type(event) for event in events if isinstance(event, OrderEvent | DealEvent)]
    assert kinds == [DealEvent, OrderEvent, DealEvent]  # the deposit, then the order with its deal
