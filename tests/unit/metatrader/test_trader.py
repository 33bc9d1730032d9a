"""The people who trade: funded logins only, bounded volumes, opening and closing."""

from __future__ import annotations

from decimal import Decimal

EVER = (0, 2**62)
LOT = 100_000_000


def test_without_funded_logins_nobody_trades(simulator, new_login):
    assert not simulator.trader.act()
    new_login()
    assert not simulator.trader.act()


def test_a_disabled_login_is_left_alone(simulator, new_login):
    login = new_login(money="1000")
    simulator.control.users.update(login, {"Rights": "0"})
    assert not simulator.trader.act()


def test_they_open_and_close_within_their_means(simulator, clock, new_login):
    logins = [new_login("demo\\forex\\usd", money="600"), new_login("real\\ecn\\usd", leverage="200", money="30000")]
    for _ in range(300):
        clock.move(seconds=10)
        simulator.exchange.tick()
        simulator.trader.act()
    for login in logins:
        deals = [deal for deal in simulator.store.deals(login, *EVER) if deal.is_trade]
        entries, exits = [deal for deal in deals if deal.entry == 0], [deal for deal in deals if deal.entry == 1]
        assert entries
        assert exits
        assert max(deal.volume for deal in entries) <= LOT
        assert len(simulator.store.positions(login)) <= 3
        assert simulator.exchange.state(login).balance > 0
    poor = [deal for deal in simulator.store.deals(logins[0], *EVER) if deal.is_trade and deal.entry == 0]
    for deal in poor:  # a fifth of what they have may be tied up by one of them
        worth = deal.contract_size * deal.volume / LOT * deal.rate_margin
        assert (worth if deal.digits > 2 else worth * deal.price) / 100 <= 200
    rich = [deal for deal in simulator.store.deals(logins[1], *EVER) if deal.entry == 1]
    assert any(deal.profit > 0 for deal in rich)
    assert any(deal.profit < 0 for deal in rich)
    state = simulator.exchange.state(logins[1])
    assert state.balance == sum((deal.result for deal in simulator.store.deals(logins[1], *EVER)), Decimal(0))
