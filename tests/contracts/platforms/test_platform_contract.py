"""What every trading platform adapter promises, tried on a real server over real TLS."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.core.clock import now
from app.core.errors import InvalidInput
from app.metatrader.codes import OrderState, OrderType
from app.metatrader.errors import BusinessError, NotKnown
from app.metatrader.platform import TradingPlatform

HOUR = timedelta(hours=1)


def recent(platform, login):
    return platform.deals(login, now() - HOUR, now() + HOUR)


def test_it_is_a_trading_platform(platform):
    assert isinstance(platform, TradingPlatform)


def test_an_account_from_opening_to_withdrawal(platform, simulator, wanted):
    login = platform.create_account(wanted)
    state = platform.get_account(login)
    assert (state.group, state.leverage, state.mark, state.may_trade) == (wanted.group, 100, wanted.mark, True)
    assert (state.balance, state.credit, state.equity, state.margin) == (0, 0, 0, 0)
    assert recent(platform, login) == []
    assert platform.positions(login) == []

    deposit = platform.balance_operation(login, Decimal("600.00"), "D-8QK2N0V5ZT3RM")
    booked = recent(platform, login)
    assert [(deal.ticket, deal.profit, deal.comment, deal.action) for deal in booked] == [
        (deposit, Decimal("600.00"), "D-8QK2N0V5ZT3RM", 2)
    ]

    opened, closed = simulator.control.trade(login, "EURUSD", "buy", Decimal("0.50"), move_points=58)
    still_open = simulator.exchange.open(login, "USDJPY", 1, 10_000_000)
    (position,) = platform.positions(login)
    assert (position.ticket, position.symbol, position.action) == (still_open.position_ticket, "USDJPY", 1)
    assert position.lots == Decimal("0.1")
    simulator.exchange.close(position.ticket)

    deals = recent(platform, login)
    assert [deal.ticket for deal in deals] == sorted(deal.ticket for deal in deals)
    assert deals[1:3] == [opened, closed]
    assert closed.profit == Decimal("25.00")

    withdrawal = platform.balance_operation(login, Decimal(-300), "W-1")
    state = platform.get_account(login)
    deals = recent(platform, login)
    assert deals[-1].ticket == withdrawal
    assert deals[-1].profit == Decimal(-300)
    assert state.balance == sum((deal.result for deal in deals), Decimal(0))
    assert state.equity == state.balance
    assert state.digits_currency == 2


def test_deals_of_a_group_and_of_a_range(platform, simulator, wanted):
    ours = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(2)]
    other = platform.create_account(replace(wanted, group="real\\std\\eur"))
    for login in (*ours, other, ours[0]):
        platform.balance_operation(login, Decimal(10), "x")
    deals = platform.deals_by_group("real\\std\\usd", now() - HOUR, now() + HOUR)
    assert [deal.login for deal in deals] == [*ours, ours[0]]
    everything = platform.deals_by_group("real\\*", now() - HOUR, now() + HOUR)
    assert len(everything) == 4
    assert platform.deals_by_group("demo\\*", now() - HOUR, now() + HOUR) == []
    assert platform.deals(ours[0], now() - 3 * HOUR, now() - HOUR) == []
    assert platform.deals(ours[0], now() + HOUR, now() + 2 * HOUR) == []


def test_a_lost_account_is_found_by_its_mark(platform, wanted):
    logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(3)]
    platform.balance_operation(logins[1], Decimal(10), "x")
    states = platform.accounts("real\\std\\*")
    assert [(state.login, state.mark, state.equity) for state in states] == [
        (logins[0], "A-0", 0),
        (logins[1], "A-1", 10),
        (logins[2], "A-2", 0),
    ]
    assert platform.accounts("real\\ecn\\*") == []


def test_settings_change_one_at_a_time(platform, wanted):
    login = platform.create_account(wanted)
    platform.update_account(login, leverage=200)
    platform.update_account(login, group="real\\ecn\\usd")
    platform.update_account(login, rights=355 | 0x4)
    state = platform.get_account(login)
    assert (state.leverage, state.group, state.rights, state.mark) == (200, "real\\ecn\\usd", 359, wanted.mark)
    assert not state.may_trade


def test_a_change_of_currency_is_refused_while_money_is_there(platform, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(1), "x")
    with pytest.raises(BusinessError) as caught:
        platform.update_account(login, group="real\\std\\eur")
    assert caught.value.retcode == 3010


def test_passwords(platform, wanted):
    login = platform.create_account(wanted)
    assert platform.check_password(login, "main", wanted.main_password)
    assert platform.check_password(login, "investor", wanted.investor_password)
    assert not platform.check_password(login, "main", wanted.investor_password)
    platform.change_password(login, "main", "Ünbekannt%&=1a")
    assert platform.check_password(login, "main", "Ünbekannt%&=1a")
    with pytest.raises(BusinessError) as caught:
        platform.change_password(login, "main", "weak")
    assert caught.value.retcode == 3006


def test_a_weak_password_opens_no_account(platform, wanted):
    with pytest.raises(BusinessError) as caught:
        platform.create_account(replace(wanted, main_password="weak"))
    assert caught.value.retcode == 3006
    assert platform.accounts("*") == []


@pytest.mark.parametrize(("amount", "retcode"), [("-0.01", 10019), ("1000000000.01", 4005), ("0.001", 3)])
def test_refused_balance_operations(platform, wanted, amount, retcode):
    login = platform.create_account(wanted)
    with pytest.raises(BusinessError) as caught:
        platform.balance_operation(login, Decimal(amount), "x")
    assert caught.value.retcode == retcode
    assert recent(platform, login) == []


def test_margin_is_checked_unless_told_otherwise(platform, simulator, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(2000), "in")
    simulator.exchange.open(login, "EURUSD", 0, 100_000_000)
    with pytest.raises(BusinessError) as caught:
        platform.balance_operation(login, Decimal(-1500), "out")
    assert caught.value.retcode == 10019
    platform.balance_operation(login, Decimal(-1500), "out", check_margin=False)
    assert platform.get_account(login).balance == 500


@pytest.mark.parametrize("comment", ["x" * 32, "Über"])
def test_comments_that_would_not_arrive_whole_are_not_sent(platform, wanted, comment):
    login = platform.create_account(wanted)
    with pytest.raises(InvalidInput):
        platform.balance_operation(login, Decimal(1), comment)
    assert recent(platform, login) == []


@pytest.mark.parametrize("amount", ["0", "NaN", "Infinity"])
def test_amounts_that_are_none_are_not_sent(platform, wanted, amount):
    login = platform.create_account(wanted)
    with pytest.raises(InvalidInput):
        platform.balance_operation(login, Decimal(amount), "x")


def test_records_of_users(platform, wanted):
    first = platform.create_account(replace(wanted, comment="from the portal"))
    second = platform.create_account(replace(wanted, group="real\\std\\eur", mark="A-2", rights=355 | 0x10000))
    platform.balance_operation(first, Decimal("12.34"), "x")
    ours, theirs = platform.users("real\\std\\*")
    assert (ours.login, ours.group, ours.name, ours.email, ours.country) == (
        first, "real\\std\\usd", "Zoë O'Brien & Søn", "zoe@example.com", "Denmark",
    )  # fmt: skip
    assert (ours.leverage, ours.rights, ours.comment, ours.mark) == (100, 355, "from the portal", wanted.mark)
    assert (ours.balance, ours.credit, ours.is_technical) == (Decimal("12.34"), 0, False)
    assert abs(ours.registered_ms - platform.server_time().wall_ms) < 60_000
    assert (theirs.login, theirs.is_technical) == (second, True)
    assert platform.users("demo\\*") == []
    assert (platform.user(first), platform.user(second)) == (ours, theirs)


def test_the_archive(platform, wanted):
    login, other = (platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(2))
    platform.balance_operation(login, Decimal(25), "x")
    platform.archive_account(login)
    with pytest.raises(NotKnown):
        platform.get_account(login)
    with pytest.raises(NotKnown):
        platform.archive_account(login)
    assert [user.login for user in platform.users("real\\*")] == [other]
    (state,) = platform.archived("real\\*")
    assert (state.login, state.balance, state.mark, state.group) == (login, 25, "A-0", wanted.group)
    assert platform.archived("demo\\*") == []

    platform.restore_account(login)
    state = platform.get_account(login)
    assert (state.balance, state.mark, state.leverage, state.rights) == (25, "A-0", 100, 355)
    assert platform.archived("real\\*") == []
    assert platform.check_password(login, "main", wanted.main_password)
    with pytest.raises((NotKnown, BusinessError)):
        platform.restore_account(other)


def test_what_is_open_keeps_a_login_out_of_the_archive(platform, simulator, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(2000), "x")
    simulator.exchange.open(login, "EURUSD", 0, 10_000_000)
    with pytest.raises(BusinessError) as caught:
        platform.archive_account(login)
    assert caught.value.retcode == 3008
    assert platform.get_account(login).login == login


def test_open_orders_and_protected_positions(platform, simulator, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(5000), "x")
    assert platform.orders(login) == []
    deal = simulator.exchange.open(login, "EURUSD", 0, 10_000_000)
    stop_loss, take_profit = deal.price - Decimal("0.01"), deal.price + Decimal("0.02")
    simulator.exchange.protect(deal.position_ticket, stop_loss, take_profit)
    (position,) = platform.positions(login)
    assert (position.price_stop_loss, position.price_take_profit) == (stop_loss, take_profit)

    price = deal.price - Decimal("0.02")
    placed = [
        simulator.exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, volume, price, comment="low")
        for volume in (20_000_000, 30_000_000)
    ]
    orders = platform.orders(login)
    assert [order.ticket for order in orders] == sorted(order.ticket for order in placed)
    order = orders[0]
    assert (order.login, order.symbol, order.type, order.state, order.price_order, order.comment, order.done_ms) == (
        login, "EURUSD", OrderType.BUY_LIMIT, OrderState.PLACED, price, "low", 0,
    )  # fmt: skip
    assert (order.volume_initial, order.volume_current) == (20_000_000, 20_000_000)
    simulator.exchange.cancel_order(order.ticket)
    assert [order.ticket for order in platform.orders(login)] == [orders[1].ticket]


def test_positions_of_a_group(platform, simulator, wanted):
    logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(3)]
    other = platform.create_account(replace(wanted, group="real\\std\\eur"))
    for login in (logins[1], other, logins[0], logins[1]):
        platform.balance_operation(login, Decimal(2000), "x")
        simulator.exchange.open(login, "EURUSD", 0, 1_000_000)
    positions = platform.positions_by_group("real\\std\\usd")
    assert [position.login for position in positions] == [logins[1], logins[0], logins[1]]
    assert [position.ticket for position in positions] == sorted(position.ticket for position in positions)
    assert len(platform.positions_by_group("real\\*")) == 4
    assert platform.positions_by_group("demo\\*") == []


def test_orders_of_a_group_and_what_became_of_one(platform, simulator, wanted):
    logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(2)]
    other = platform.create_account(replace(wanted, group="real\\std\\eur"))
    placed = []
    for login in (logins[1], other, logins[0], logins[1]):
        platform.balance_operation(login, Decimal(2000), "x")
        order = simulator.exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, 1_000_000, Decimal("0.90000"))
        placed.append(order.ticket)
    orders = platform.orders_by_group("real\\std\\usd")
    assert [(order.login, order.ticket) for order in orders] == [
        (logins[1], placed[0]), (logins[0], placed[2]), (logins[1], placed[3]),
    ]  # fmt: skip
    assert len(platform.orders_by_group("real\\*")) == 4
    assert platform.orders_by_group("demo\\*") == []

    assert platform.order(placed[0]) == orders[0]
    simulator.exchange.cancel_order(placed[0])
    done = platform.order(placed[0])
    assert (done.ticket, done.state, done.done_ms > 0) == (placed[0], OrderState.CANCELED, True)
    assert len(platform.orders_by_group("real\\*")) == 3
    with pytest.raises(NotKnown):
        platform.order(placed[-1] + 1)


def test_one_deal(platform, simulator, wanted):
    login = platform.create_account(wanted)
    ticket = platform.balance_operation(login, Decimal(10), "before")
    assert platform.deal(ticket) == recent(platform, login)[0]
    simulator.exchange.edit_deal(ticket, comment="after")
    assert platform.deal(ticket).comment == "after"
    simulator.exchange.delete_deal(ticket)
    with pytest.raises(NotKnown):
        platform.deal(ticket)


def test_what_the_server_says_beside_what_its_deals_add_up_to(platform, simulator, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal("30.50"), "x")
    check = platform.check_balance(login)
    assert (check.login, check.balance, check.balance_of_deals, check.agrees) == (
        login,
        Decimal("30.50"),
        Decimal("30.50"),
        True,
    )
    simulator.control.users.set_balance(login, Decimal(31), Decimal(5))
    check = platform.check_balance(login)
    assert (check.balance, check.balance_of_deals) == (Decimal(31), Decimal("30.50"))
    assert (check.credit, check.credit_of_deals, check.agrees) == (5, 0, False)
    assert platform.check_balance(login) == check, "it only looks"


def test_unknown_logins(platform):
    for call in (
        lambda: platform.archive_account(5),
        lambda: platform.restore_account(5),
        lambda: platform.orders(5),
        lambda: platform.deal(5),
        lambda: platform.order(5),
        lambda: platform.check_balance(5),
        lambda: platform.get_account(5),
        lambda: platform.user(5),
        lambda: platform.positions(5),
        lambda: platform.deals(5, now() - HOUR, now()),
        lambda: platform.balance_operation(5, Decimal(1), "x"),
        lambda: platform.update_account(5, leverage=10),
        lambda: platform.check_password(5, "main", "x"),
        lambda: platform.change_password(5, "main", "x"),
    ):
        with pytest.raises(NotKnown):
            call()


def test_the_catalogue(platform):
    groups = {group.name: group for group in platform.groups()}
    assert groups["real\\std\\eur"].currency == "EUR"
    assert groups["real\\ecn\\usd"].margin_mode == 2
    chosen = {group.name for group in platform.groups("real\\*,!real\\std\\*")}
    assert chosen == {name for name in groups if name.startswith("real\\") and not name.startswith("real\\std\\")}
    assert "real\\ecn\\usd" in chosen
    symbols = {symbol.name: symbol for symbol in platform.symbols()}
    assert {"EURUSD", "GBPUSD", "USDJPY", "EURGBP", "USDCHF"} <= set(symbols)
    assert (symbols["USDJPY"].digits, symbols["USDJPY"].currency_profit) == (3, "JPY")
    assert symbols["EURUSD"].volume_min == 1_000_000


def test_the_servers_clock(platform, simulator):
    clock = platform.server_time()
    assert abs(clock.wall_ms - simulator.exchange.now_ms()) < 5_000
    assert clock.utc_offset_min == simulator.exchange.zone.offset_min(now())


def test_it_can_be_closed_and_used_again(platform, wanted):
    platform.groups()
    platform.close()
    assert platform.create_account(wanted) > 0
