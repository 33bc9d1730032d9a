"""order/* and history/*: orders that wait, and orders that are done."""

from __future__ import annotations

from collections.abc import Sequence

from app.metatrader.platform import Order
from app.metatrader.simulator.commands.call import Call, Command
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.records import order_record


def get(call: Call) -> object:
    """An order that waits. Refused(13) also for one that is done."""
    return order_record(_order(call, is_done=False))


def get_total(call: Call) -> object:
    return call.total(len(_waiting(call, call.whole("login"))))


def get_page(call: Call) -> object:
    offset, limit = call.page()
    return _records(_waiting(call, call.whole("login"))[offset : offset + limit])


def get_batch(call: Call) -> object:
    """Waiting orders of logins, groups or tickets: exactly one of the three; with `symbol` only of that."""
    if call.one_of("login", "group", "ticket") == "ticket":
        tickets = set(call.numbers("ticket"))
        found = [order for order in call.exchange.orders() if order.ticket in tickets]
    else:
        logins = {account.login for account in call.selected()}
        found = [order for order in call.exchange.orders() if order.login in logins]
    return _records(_of_symbol(call, found))


def history_get(call: Call) -> object:
    """An order that is done. Refused(13) also for one that waits."""
    return order_record(_order(call, is_done=True))


def history_get_total(call: Call) -> object:
    call.exchange.account(call.whole("login"))
    return call.total(call.exchange.store.count_order_history(call.whole("login"), *call.range_ms()))


def history_get_page(call: Call) -> object:
    """At most 100 done orders of a login, by the time at which they were done."""
    call.exchange.account(call.whole("login"))
    offset, limit = call.page()
    return _records(call.exchange.store.order_history(call.whole("login"), *call.range_ms(), limit=limit, offset=offset))


def history_get_batch(call: Call) -> object:
    """Done orders of logins, groups or tickets: exactly one of the three; with `symbol` only of that."""
    store = call.exchange.store
    if call.one_of("login", "group", "ticket") == "ticket":
        found = [order for ticket in call.numbers("ticket") if (order := store.order(ticket)) and order.done_ms]
    else:
        logins = {account.login for account in call.selected()}
        found = [order for order in store.order_history(None, *call.range_ms()) if order.login in logins]
    return _records(_of_symbol(call, found))


def _order(call: Call, *, is_done: bool) -> Order:
    order = call.exchange.store.order(call.whole("ticket"))
    if order is None or bool(order.done_ms) != is_done:
        raise Refused(13)
    return order


def _waiting(call: Call, login: int) -> list[Order]:
    call.exchange.account(login)
    return call.exchange.orders(login)


def _of_symbol(call: Call, orders: Sequence[Order]) -> list[Order]:
    symbol = call.query.get("symbol")
    return [order for order in orders if symbol in (None, order.symbol)]


def _records(orders: Sequence[Order]) -> list[dict[str, str]]:
    return [order_record(order) for order in orders]


ORDERS: dict[str, Command] = {
    "order/get": get,
    "order/get_total": get_total,
    "order/get_page": get_page,
    "order/get_batch": get_batch,
    "history/get": history_get,
    "history/get_total": history_get_total,
    "history/get_page": history_get_page,
    "history/get_batch": history_get_batch,
}
