"""One position per symbol: increase, partial close, reversal, against figures worked by hand."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from app.metatrader.events import PositionEvent, decode
from app.metatrader.simulator.exchange import Refused

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "mt5_netting.json").read_text(encoding="utf-8"))
LOT = 100_000_000
GROUP = "real\\netting\\raw"
SIDES = {"buy": 0, "sell": 1}


def volume(lots):
    return int(Decimal(lots) * LOT)


def put_price(exchange, symbol, mid):
    exchange.shift(symbol, mid - exchange.market.mids[symbol])


def position_events(simulator):
    rows = simulator.store.outbox(1000)
    events = [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]
    return [event for event in events if isinstance(event, PositionEvent)]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_netting(exchange, new_login, case):
    login, symbol = new_login(GROUP, money="1000000"), case["symbol"]
    first_ticket, balance = None, Decimal(1_000_000)
    for wanted in case["deals"]:
        put_price(exchange, symbol, wanted["mid"])
        deal = exchange.open(login, symbol, SIDES[wanted["side"]], volume(wanted["lots"]))
        assert (deal.action, deal.entry, deal.volume) == (SIDES[wanted["side"]], wanted["entry"], volume(wanted["lots"]))
        assert (deal.price, deal.price_position) == (Decimal(wanted["price"]), Decimal(wanted["price_position"]))
        assert (deal.volume_closed, deal.profit) == (volume(wanted["closed"]), Decimal(wanted["profit"]))
        assert deal.commission == Decimal(wanted["commission"])
        first_ticket = first_ticket or deal.position_ticket
        assert deal.position_ticket == first_ticket  # deals keep the position's first name, also after a reversal
        balance += deal.result
        left = [(["buy", "sell"][one.action], one.lots, one.price_open) for one in exchange.positions(login)]
        wanted_left = wanted["left"] and (wanted["left"][0], *map(Decimal, wanted["left"][1:]))
        assert left == ([wanted_left] if wanted_left else [])
    assert exchange.state(login).balance == balance


def test_a_reversal_gives_the_position_another_ticket(simulator, exchange, new_login):
    login = new_login(GROUP, money="100000")
    first = exchange.open(login, "EURUSD", 0, LOT)
    turned = exchange.open(login, "EURUSD", 1, 3 * LOT)
    (position,) = exchange.positions(login)
    assert position.ticket == turned.order_ticket != first.position_ticket
    assert turned.position_ticket == first.position_ticket
    told = [(event.change, event.position.ticket) for event in position_events(simulator)]
    assert told == [("add", first.position_ticket), ("delete", first.position_ticket), ("add", position.ticket)]
    closed = exchange.close(position.ticket)
    assert (closed.position_ticket, closed.entry, closed.volume) == (first.position_ticket, 1, 2 * LOT)


def test_a_reversal_brings_all_of_the_swap(exchange, clock, new_login):
    login = new_login(GROUP, money="100000")
    exchange.tick()
    exchange.open(login, "EURUSD", 0, LOT)
    clock.move(days=1)
    exchange.tick()
    assert exchange.positions(login)[0].swap == Decimal("-7.20")
    assert exchange.open(login, "EURUSD", 1, 2 * LOT).swap == Decimal("-7.20")
    assert exchange.positions(login)[0].swap == 0


def test_symbols_and_logins_are_netted_apart(exchange, new_login):
    first, second = new_login(GROUP, money="100000"), new_login(GROUP, money="100000")
    exchange.open(first, "EURUSD", 0, LOT)
    assert exchange.open(first, "GBPUSD", 1, LOT).entry == 0
    assert exchange.open(second, "EURUSD", 1, LOT).entry == 0
    assert [len(exchange.positions(login)) for login in (first, second)] == [2, 1]


def test_taking_from_a_position_needs_no_margin_and_turning_it_does(exchange, new_login):
    login = new_login(GROUP, leverage="100", money="1200")
    exchange.open(login, "EURUSD", 0, LOT)
    with pytest.raises(Refused) as caught:
        exchange.open(login, "EURUSD", 0, LOT)
    assert caught.value.retcode == 10019
    with pytest.raises(Refused) as caught:
        exchange.open(login, "EURUSD", 1, 3 * LOT)
    assert caught.value.retcode == 10019
    assert exchange.open(login, "EURUSD", 1, LOT).entry == 1


def test_netted_positions_are_not_closed_by_each_other(exchange, new_login):
    login = new_login(GROUP, money="100000")
    one, other = exchange.open(login, "EURUSD", 0, LOT), exchange.open(login, "GBPUSD", 1, LOT)
    with pytest.raises(Refused) as caught:
        exchange.close_by(one.position_ticket, other.position_ticket)
    assert caught.value.retcode == 10013
