"""What every trading platform adapter promises, tried on a real server over real TLS."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.core.clock import now
from app.core.errors import InvalidInput
from app.metatrader.codes import OrderState, OrderType
from app.metatrader.errors import BusinessError, NotKnown, NotOffered
from app.metatrader.platform import TradingPlatform

HOUR = timedelta(hours=1)


@pytest.fixture
def wanted(wanted, house):
    return replace(wanted, group=house.usd)


def recent(platform, login):
    return platform.deals(login, now() - HOUR, now() + HOUR)


def test_it_is_a_trading_platform(platform):
    assert isinstance(platform, TradingPlatform)


def test_an_account_from_opening_to_withdrawal(platform, house, wanted):
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

    opened, closed = house.round_trip(login, "EURUSD", "0.50", points=58)
    still_open = house.sell(login, "USDJPY", "0.10")
    (position,) = platform.positions(login)
    assert (position.ticket, position.symbol, position.action) == (still_open, "USDJPY", 1)
    assert position.lots == Decimal("0.1")
    house.close(position.ticket)

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


def test_deals_of_a_group_and_of_a_range(platform, house, wanted):
    ours = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(2)]
    other = platform.create_account(replace(wanted, group=house.eur))
    for login in (*ours, other, ours[0]):
        platform.balance_operation(login, Decimal(10), "x")
    deals = platform.deals_by_group(house.usd, now() - HOUR, now() + HOUR)
    assert [deal.login for deal in deals] == [*ours, ours[0]]
    everything = platform.deals_by_group(house.all_real, now() - HOUR, now() + HOUR)
    assert len(everything) == 4
    assert platform.deals_by_group(house.nobody, now() - HOUR, now() + HOUR) == []
    assert platform.deals(ours[0], now() - 3 * HOUR, now() - HOUR) == []
    assert platform.deals(ours[0], now() + HOUR, now() + 2 * HOUR) == []


def test_a_lost_account_is_found_by_its_mark(platform, house, wanted):
    logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(3)]
    platform.balance_operation(logins[1], Decimal(10), "x")
    states = platform.accounts(house.all_std)
    assert [(state.login, state.mark, state.equity) for state in states] == [
        (logins[0], "A-0", 0),
        (logins[1], "A-1", 10),
        (logins[2], "A-2", 0),
    ]
    assert platform.accounts(house.all_ecn) == []


def test_settings_change_one_at_a_time(platform, house, wanted):
    login = platform.create_account(wanted)
    platform.update_account(login, leverage=200)
    platform.update_account(login, group=house.ecn)
    platform.update_account(login, rights=355 | 0x4)
    state = platform.get_account(login)
    assert (state.leverage, state.group, state.rights, state.mark) == (200, house.ecn, 359, wanted.mark)
    assert not state.may_trade


def test_a_change_of_currency_is_refused_while_money_is_there(platform, house, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(1), "x")
    with pytest.raises(BusinessError) as caught:
        platform.update_account(login, group=house.eur)
    assert caught.value.retcode == 3010
    assert platform.get_account(login).group == house.usd


def test_passwords(platform, house, wanted):
    login = platform.create_account(wanted)
    assert platform.check_password(login, "main", wanted.main_password)
    assert platform.check_password(login, "investor", wanted.investor_password)
    assert not platform.check_password(login, "main", wanted.investor_password)
    platform.change_password(login, "main", house.odd_password)
    assert platform.check_password(login, "main", house.odd_password)
    for weak in ("weak", "nodigits", "x" * 17):
        with pytest.raises(BusinessError) as caught:
            platform.change_password(login, "main", weak)
        assert caught.value.retcode == 3006
    assert platform.check_password(login, "main", house.odd_password)


def test_a_weak_password_opens_no_account(platform, wanted):
    with pytest.raises(BusinessError) as caught:
        platform.create_account(replace(wanted, main_password="weak"))
    assert caught.value.retcode == 3006
    assert platform.accounts("*") == []


def test_refused_balance_operations(platform, house, wanted):
    login = platform.create_account(wanted)
    for amount, retcode in house.refused.items():
        with pytest.raises(BusinessError) as caught:
            platform.balance_operation(login, Decimal(amount), "x")
        assert caught.value.retcode == retcode
    assert recent(platform, login) == []


def test_margin_is_checked_unless_told_otherwise(platform, house, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(2000), "in")
    house.buy(login, "EURUSD", "1.00")
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


def test_records_of_users(platform, house, wanted):
    first = platform.create_account(replace(wanted, comment="from the portal"))
    second = platform.create_account(replace(wanted, group=house.eur, mark="A-2", rights=355 | 0x10000))
    platform.balance_operation(first, Decimal("12.34"), "x")
    ours, theirs = platform.users(house.all_std)
    assert (ours.login, ours.group, ours.name, ours.email, ours.country) == (
        first, house.usd, "Zoë O'Brien & Søn", "zoe@example.com", "Denmark",
    )  # fmt: skip
    assert (ours.leverage, ours.rights, ours.comment, ours.mark) == (100, 355, "from the portal", wanted.mark)
    assert (ours.balance, ours.credit, ours.is_technical) == (Decimal("12.34"), 0, False)
    assert abs(ours.registered_ms - platform.server_time().wall_ms) < 60_000
    assert (theirs.login, theirs.is_technical) == (second, house.has_technical_logins)
    assert platform.users(house.nobody) == []
    assert (platform.user(first), platform.user(second)) == (ours, theirs)


def test_the_archive(platform, house, wanted):
    login, other = (platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(2))
    platform.balance_operation(login, Decimal(25), "x")
    if not house.has_archive:
        for refused in (platform.archive_account, platform.restore_account):
            with pytest.raises(NotOffered, match="This trading server cannot do this"):
                refused(login)
        assert platform.archived("*") == []
        assert platform.get_account(login).may_trade
        return
    platform.archive_account(login)
    with pytest.raises(NotKnown):
        platform.get_account(login)
    with pytest.raises(NotKnown):
        platform.archive_account(login)
    assert [user.login for user in platform.users(house.all_real)] == [other]
    (state,) = platform.archived(house.all_real)
    assert (state.login, state.balance, state.mark, state.group) == (login, 25, "A-0", wanted.group)
    assert platform.archived(house.nobody) == []

    platform.restore_account(login)
    state = platform.get_account(login)
    assert (state.balance, state.mark, state.leverage, state.rights) == (25, "A-0", 100, 355)
    assert platform.archived(house.all_real) == []
    assert platform.check_password(login, "main", wanted.main_password)
    with pytest.raises((NotKnown, BusinessError)):
        platform.restore_account(other)


def test_what_is_open_keeps_a_login_out_of_the_archive(platform, house, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(2000), "x")
    house.buy(login, "EURUSD", "0.10")
    with pytest.raises(BusinessError) as caught:
        platform.archive_account(login)
    assert caught.value.retcode == (3008 if house.has_archive else 12002)
    assert platform.get_account(login).login == login


def test_open_orders_and_protected_positions(platform, house, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(5000), "x")
    assert platform.orders(login) == []
    ticket = house.buy(login, "EURUSD", "0.10")
    (position,) = platform.positions(login)
    stop_loss, take_profit = position.price_open - Decimal("0.01"), position.price_open + Decimal("0.02")
    house.protect(ticket, stop_loss, take_profit)
    (position,) = platform.positions(login)
    assert (position.price_stop_loss, position.price_take_profit) == (stop_loss, take_profit)

    price = position.price_open - Decimal("0.02")
    placed = [house.buy_limit(login, "EURUSD", lots, price, comment="low") for lots in ("0.20", "0.30")]
    orders = platform.orders(login)
    assert [order.ticket for order in orders] == sorted(placed)
    order = orders[0]
    assert (order.login, order.symbol, order.type, order.state, order.price_order, order.comment, order.done_ms) == (
        login, "EURUSD", OrderType.BUY_LIMIT, OrderState.PLACED, price, "low", 0,
    )  # fmt: skip
    assert (order.volume_initial, order.volume_current) == (20_000_000, 20_000_000)
    house.cancel(order.ticket)
    assert [order.ticket for order in platform.orders(login)] == [orders[1].ticket]


def test_positions_of_a_group(platform, house, wanted):
    logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(3)]
    other = platform.create_account(replace(wanted, group=house.eur))
    for login in (logins[1], other, logins[0], logins[1]):
        platform.balance_operation(login, Decimal(2000), "x")
        house.buy(login, "EURUSD", "0.01")
    positions = platform.positions_by_group(house.usd)
    assert [position.login for position in positions] == [logins[1], logins[0], logins[1]]
    assert [position.ticket for position in positions] == sorted(position.ticket for position in positions)
    assert len(platform.positions_by_group(house.all_real)) == 4
    assert platform.positions_by_group(house.nobody) == []


def test_orders_of_a_group_and_what_became_of_one(platform, house, wanted):
    logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(2)]
    other = platform.create_account(replace(wanted, group=house.eur))
    placed = []
    for login in (logins[1], other, logins[0], logins[1]):
        platform.balance_operation(login, Decimal(2000), "x")
        placed.append(house.buy_limit(login, "EURUSD", "0.01", Decimal("0.90000")))
    orders = platform.orders_by_group(house.usd)
    assert [(order.login, order.ticket) for order in orders] == [
        (logins[1], placed[0]), (logins[0], placed[2]), (logins[1], placed[3]),
    ]  # fmt: skip
    assert len(platform.orders_by_group(house.all_real)) == 4
    assert platform.orders_by_group(house.nobody) == []

    assert platform.order(placed[0]) == orders[0]
    house.cancel(placed[0])
    done = platform.order(placed[0])
    assert (done.ticket, done.state, done.done_ms > 0) == (placed[0], OrderState.CANCELED, True)
    assert len(platform.orders_by_group(house.all_real)) == 3
    with pytest.raises(NotKnown):
        platform.order(placed[-1] + 1)


def test_an_order_that_became_a_trade_is_filled(platform, house, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal(2000), "x")
    ticket = house.buy(login, "EURUSD", "0.01")
    (opening,) = [deal for deal in recent(platform, login) if deal.is_trade]
    order = platform.order(opening.order_ticket)
    assert (order.type, order.state, order.volume_current, order.position_ticket) == (
        OrderType.BUY,
        OrderState.FILLED,
        0,
        ticket,
    )
    assert order.done_ms > 0
    assert platform.orders(login) == []


def test_one_deal(platform, house, wanted):
    login = platform.create_account(wanted)
    ticket = platform.balance_operation(login, Decimal(10), "before")
    assert platform.deal(ticket) == recent(platform, login)[0]
    house.reword(ticket, "after")
    assert platform.deal(ticket).comment == "after"
    house.delete(ticket)
    with pytest.raises(NotKnown):
        platform.deal(ticket)


def test_what_the_server_says_beside_what_its_deals_add_up_to(platform, house, wanted):
    login = platform.create_account(wanted)
    platform.balance_operation(login, Decimal("30.50"), "x")
    check = platform.check_balance(login)
    assert (check.login, check.balance, check.balance_of_deals, check.agrees) == (
        login,
        Decimal("30.50"),
        Decimal("30.50"),
        True,
    )
    house.misstate(login, Decimal(31))
    check = platform.check_balance(login)
    assert (check.balance, check.balance_of_deals) == (Decimal(31), Decimal("30.50"))
    assert (check.credit, check.credit_of_deals, check.agrees) == (house.misstated_credit, 0, False)
    assert platform.check_balance(login) == check, "it only looks"


def test_unknown_logins(platform, house):
    archive = (lambda: platform.archive_account(5), lambda: platform.restore_account(5)) if house.has_archive else ()
    for call in (
        *archive,
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
        lambda: platform.update_account(5, group=house.ecn),
        lambda: platform.check_password(5, "main", "x"),
        lambda: platform.change_password(5, "main", "Main1234!"),
    ):
        with pytest.raises(NotKnown):
            call()


def test_the_catalogue(platform, house):
    groups = {group.name: group for group in platform.groups()}
    assert groups[house.eur].currency == "EUR"
    assert groups[house.ecn].margin_mode == 2
    chosen = {group.name for group in platform.groups(f"*,!{house.all_std}")}
    assert chosen == groups.keys() - {group.name for group in platform.groups(house.all_std)}
    assert house.ecn in chosen
    assert house.usd not in chosen
    symbols = {symbol.name: symbol for symbol in platform.symbols()}
    assert {"EURUSD", "GBPUSD", "USDJPY", "EURGBP", "USDCHF"} <= set(symbols)
    assert (symbols["USDJPY"].digits, symbols["USDJPY"].currency_profit) == (3, "JPY")
    assert symbols["EURUSD"].volume_min == 1_000_000


def test_the_servers_clock(platform, house):
    clock = platform.server_time()
    assert abs(clock.wall_ms - house.now_ms()) < 5_000
    assert clock.utc_offset_min == house.offset_min(now())


def test_it_can_be_closed_and_used_again(platform, wanted):
    platform.groups()
    platform.close()
    assert platform.create_account(wanted) > 0
