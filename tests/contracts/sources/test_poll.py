"""Asking again and again: what leaves a list is asked for alone before it is told as gone."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.core.clock import now
from app.metatrader.errors import NotKnown
from app.metatrader.sources.snapshot import OrderSnapshot
from tests.integration.trading.house import wait_until
from tests.unit.metatrader.samples import ORDER

MOMENT = now()
OPEN = replace(ORDER, state=1, done_ms=0)


class Server:
    """Orders that are asked for one by one."""

    def __init__(self, *orders):
        self.orders = {order.ticket: order for order in orders}
        self.asked = []

    def order(self, ticket):
        self.asked.append(ticket)
        if ticket not in self.orders:
            raise NotKnown
        return self.orders[ticket]


def told(news):
    return [(one.change, one.record.ticket, one.record.state) for one in news]


def test_orders_are_told_as_they_come_change_and_go():
    first, second, third = (replace(OPEN, ticket=ticket) for ticket in (1, 2, 3))
    server = Server(replace(first, state=4, done_ms=first.set_up_ms + 1), third)
    snapshot = OrderSnapshot([first, second], server.order)
    assert told(snapshot.compare([first, second], MOMENT)) == []
    assert server.asked == []
    assert told(snapshot.compare([first, replace(second, price_order=second.price_order + 1), third], MOMENT)) == [
        ("update", 2, 1), ("add", 3, 1),
    ]  # fmt: skip
    assert told(snapshot.compare([], MOMENT)) == [("update", 1, 4), ("delete", 2, 1), ("update", 3, 1)]
    assert told(snapshot.compare([], MOMENT)) == []


def test_of_many_that_left_at_once_some_are_asked_for_in_each_round(monkeypatch):
    monkeypatch.setattr(OrderSnapshot, "MOST_ASKED", 2)
    server = Server()
    snapshot = OrderSnapshot([replace(OPEN, ticket=ticket) for ticket in range(1, 6)], server.order)
    assert [len(snapshot.compare([], MOMENT)) for _ in range(4)] == [2, 2, 1, 0]
    assert server.asked == [1, 2, 3, 4, 5]


def test_the_deals_of_a_login_that_was_archived_are_not_told_as_deleted(make_world):
    """The server shows them no more; that is not the same as having them no more."""
    world = make_world("poll")
    with world.reading():
        world.deposit()
        world.close(world.open("0.20"))
        world.settles()
        before = world.deals()
        world.simulator.exchange.archive(world.login)
        other = world.simulator.control.users.add(
            {"Group": r"real\std\usd", "Leverage": "100", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}
        ).login
        for _ in range(2):  # two rounds later at least
            told = world.simulator.exchange.balance_operation(other, 2, Decimal(5), "x").ticket
            wait_until(lambda ticket=told: world.drain() or ticket in world.deals(), within_s=30)
    assert before.items() <= world.deals().items()
