"""The trading engine: money adds up, swap, margin, stop-out, and the events that tell of it."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest

from app.metatrader.events import AccountEvent, DealEvent, PositionEvent, decode
from app.metatrader.fields import write_deal
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.exchange import Refused

LOT = 100_000_000
EVER = (0, 2**62)


def events(simulator):
    rows = simulator.store.outbox(100_000)
    return [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]


def sums(simulator, login):
    deals = simulator.store.deals(login, *EVER)
    return sum((deal.result for deal in deals if deal.action != 3), Decimal(0))


def refusal(call, *arguments, **named):
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value.retcode


def test_a_round_trip(exchange, new_login):
    login = new_login(money="1000")
    opened = exchange.open(login, "EURUSD", 0, LOT // 10)
    assert (opened.action, opened.entry, opened.profit, opened.price) == (0, 0, 0, opened.market_ask)
    exchange.shift("EURUSD", 108)
    closed = exchange.close(opened.position_ticket)
    assert (closed.action, closed.entry, closed.position_ticket) == (1, 1, opened.position_ticket)
    assert closed.price == opened.price + Decimal("0.00100")  # 108 points less the spread of 8
    assert closed.price_position == opened.price
    assert closed.profit == Decimal("10.00")  # 100 points of 0.1 lot
    assert exchange.state(login).balance == Decimal("1010.00")
    assert exchange.positions(login) == []


def test_money_adds_up_after_two_hundred_random_trades(simulator, exchange, clock, new_login):
    logins = [
        new_login(group, money="20000") for group in ("real\\std\\usd", "real\\std\\eur", "real\\ecn\\usd", "demo\\forex\\usd")
    ]
    chance = random.Random(11)
    trades = 0
    while trades < 200:
        clock.move(minutes=chance.randint(1, 180))
        exchange.tick()
        login = chance.choice(logins)
        positions = exchange.positions(login)
        try:
            if positions and chance.random() < 0.55:
                position = chance.choice(positions)
                part = position.volume // 2 // 1_000_000 * 1_000_000
                exchange.close(position.ticket, part if part and chance.random() < 0.4 else None)
            else:
                exchange.open(
                    login,
                    chance.choice(["EURUSD", "GBPUSD", "USDJPY", "EURGBP", "USDCHF"]),
                    chance.randint(0, 1),
                    chance.randint(1, 20) * LOT // 100,
                )
            trades += 1
        except Refused:
            continue
    exchange.balance_operation(logins[0], 2, Decimal("-12.34"), "out")
    exchange.balance_operation(logins[0], 3, Decimal(50), "credit")
    for login in logins:
        state = exchange.state(login)
        assert state.balance == sums(simulator, login)
        assert state.equity == state.balance + state.credit + state.floating
        assert state.margin_free == state.equity - state.margin
    _volumes_add_up(simulator)
    deals = simulator.store.deals(None, *EVER)
    assert any(deal.swap for deal in deals)
    assert any(deal.profit > 0 for deal in deals if deal.entry == 1)
    assert any(deal.profit < 0 for deal in deals if deal.entry == 1)


def _volumes_add_up(simulator):
    """What was opened and not closed is what is open, per position."""
    left = Counter()
    for deal in simulator.store.deals(None, *EVER):
        if deal.is_trade:
            left[deal.position_ticket] += deal.volume if deal.entry == 0 else -deal.volume
    opened = {position.ticket: position.volume for position in simulator.store.positions()}
    assert {ticket: volume for ticket, volume in left.items() if volume} == opened


def test_the_same_seed_and_commands_give_the_same_deals(tmp_path, clock):
    def play(folder):
        made = Simulator(state_dir=folder, password="x", clock=clock, tick_s=0, seed=5)
        account = made.control.users.add(
            {"Group": "real\\std\\usd", "Leverage": "100", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}
        )
        made.exchange.balance_operation(account.login, 2, Decimal(5000), "")
        start = clock.moment
        for _ in range(60):
            clock.move(seconds=20)
            made.exchange.tick()
            made.trader.act()
        clock.moment = start
        deals = [write_deal(deal) for deal in made.store.deals(None, *EVER)]
        made.store.close()
        return deals

    first, second = play(tmp_path / "a"), play(tmp_path / "b")
    assert first == second
    assert len(first) > 20


def test_everything_is_told_in_order(simulator, exchange, new_login):
    login = new_login(money="1000")
    opened = exchange.open(login, "EURUSD", 0, LOT // 10)
    exchange.close(opened.position_ticket, LOT // 20)
    exchange.close(opened.position_ticket)
    told = events(simulator)
    assert [event.kind for event in told] == [
        "account.state",
        *("deal.add", "account.state"),
        *("order.add", "deal.add", "position.add", "account.state"),
        *("order.add", "deal.add", "position.update", "account.state"),
        *("order.add", "deal.add", "position.delete", "account.state"),
    ]
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    deals = {event.deal.ticket: event.deal for event in told if isinstance(event, DealEvent)}
    assert deals == {deal.ticket: deal for deal in simulator.store.deals(login, *EVER)}
    updated, deleted = [event for event in told if isinstance(event, PositionEvent)][1:]
    assert updated.position.volume == deleted.position.volume == LOT // 20
    states = [event for event in told if isinstance(event, AccountEvent)]
    assert states[-1].account == exchange.state(login)


def test_a_refused_command_leaves_no_trace(simulator, exchange, new_login):
    login = new_login(money="100")
    before = simulator.store.outbox_size()
    assert refusal(exchange.open, login, "EURUSD", 0, LOT) == 10019
    assert simulator.store.outbox_size() == before
    assert simulator.store.positions(login) == []
    assert simulator.store.count_deals(login, *EVER) == 1


def test_commission_of_the_ecn_group(exchange, new_login):
    login = new_login("real\\ecn\\usd", money="5000")
    opened = exchange.open(login, "EURUSD", 0, LOT // 2)
    closed = exchange.close(opened.position_ticket)
    assert opened.commission == closed.commission == Decimal("-1.75")
    assert exchange.state(login).balance == 5000 + closed.profit - Decimal("3.50")


def test_margin_counts_the_larger_side(exchange, new_login):
    login = new_login(money="10000")
    exchange.open(login, "EURUSD", 0, LOT // 2)
    one_side = exchange.state(login).margin
    exchange.open(login, "EURUSD", 1, LOT // 4)
    assert exchange.state(login).margin == one_side
    exchange.open(login, "USDJPY", 0, LOT // 4)
    assert exchange.state(login).margin == one_side + 250  # 25,000 USD at 1:100


def test_swap_at_the_servers_midnight(exchange, clock, new_login):
    """Tuesday's night counts once, Wednesday's three times, the weekend not at all."""
    login = new_login(money="10000")
    exchange.tick()
    opened = exchange.open(login, "EURUSD", 0, LOT)
    clock.move(hours=9, minutes=59)  # 23:59 at the server
    exchange.tick()
    assert exchange.positions(login)[0].swap == 0
    clock.move(minutes=1)
    exchange.tick()
    exchange.tick()
    assert exchange.positions(login)[0].swap == Decimal("-7.20")
    clock.move(days=1)
    exchange.tick()
    assert exchange.positions(login)[0].swap == Decimal("-28.80")
    clock.move(days=5)  # a stop over Thursday to Monday is caught up with
    exchange.tick()
    assert exchange.positions(login)[0].swap == Decimal("-50.40")
    half = exchange.close(opened.position_ticket, LOT // 4)
    rest = exchange.close(opened.position_ticket)
    assert half.swap == Decimal("-12.60")
    assert half.swap + rest.swap == Decimal("-50.40")
    assert exchange.state(login).balance == 10000 + half.result + rest.result


def test_stop_out_closes_the_worst_first_and_only_as_many_as_needed(exchange, new_login):
    login = new_login(leverage="500", money="500")
    exchange.open(login, "GBPUSD", 0, LOT // 10)
    worst = exchange.open(login, "EURUSD", 0, LOT // 2)
    exchange.shift("EURUSD", -900)
    deals = exchange.store.deals(login, *EVER)
    assert [(deal.position_ticket, deal.reason, deal.entry) for deal in deals[3:]] == [(worst.position_ticket, 5, 1)]
    assert deals[-1].comment.startswith("[so ")
    assert [position.symbol for position in exchange.positions(login)] == ["GBPUSD"]


@pytest.mark.parametrize(
    ("kind", "amount", "retcode"),
    [
        (2, "0", 3),
        (7, "10", 3),
        (1, "10", 3),
        (2, "0.001", 3),
        (2, "1000000000.01", 4005),
        (2, "-1000000000.01", 4005),
        (2, "-100.01", 10019),
        (3, "-0.01", 10019),
        (5, "-100.01", 10019),
    ],
)
def test_refused_balance_operations(exchange, new_login, kind, amount, retcode):
    login = new_login(money="100")
    assert refusal(exchange.balance_operation, login, kind, Decimal(amount), "") == retcode
    assert exchange.state(login).balance == 100


def test_free_margin_bounds_withdrawals(exchange, new_login):
    login = new_login(money="2000")
    exchange.open(login, "EURUSD", 0, LOT)
    assert refusal(exchange.balance_operation, login, 2, Decimal(-1000), "") == 10019
    exchange.balance_operation(login, 5, Decimal(-1000), "a correction may")
    exchange.balance_operation(login, 2, Decimal(-500), "unchecked", check_margin=False)
    assert exchange.state(login).balance == 500


def test_the_comment_is_cut_at_31(exchange, new_login):
    deal = exchange.balance_operation(new_login(), 2, Decimal(1), "D-8QK2N0V5ZT3RM and more words behind it")
    assert deal.comment == "D-8QK2N0V5ZT3RM and more words "
    assert (deal.action, deal.symbol, deal.volume, deal.profit) == (2, "", 0, 1)


@pytest.mark.parametrize("volume", [0, -LOT, LOT // 1000, LOT // 100 + 1, 101 * LOT])
def test_impossible_volumes(exchange, new_login, volume):
    login = new_login(money="1000")
    assert refusal(exchange.open, login, "EURUSD", 0, volume) == 10014


def test_what_does_not_exist(exchange, new_login):
    login = new_login(money="1000")
    assert refusal(exchange.open, login, "XPTUSD", 0, LOT) == 13
    assert refusal(exchange.open, 5, "EURUSD", 0, LOT) == 13
    assert refusal(exchange.close, 5) == 13
    assert refusal(exchange.shift, "EURGBP", 5) == 13
    opened = exchange.open(login, "EURUSD", 0, LOT // 100)
    assert refusal(exchange.close, opened.position_ticket, LOT) == 10038


def test_a_closed_login_may_not_trade(simulator, exchange, new_login):
    login = new_login(money="1000")
    simulator.control.users.update(login, {"Rights": str(355 | 0x4)})
    assert refusal(exchange.open, login, "EURUSD", 0, LOT // 100) == 10017


def test_state_and_numbers_outlive_a_restart(tmp_path, simulator, exchange, clock, new_login):
    login = new_login(money="1000")
    last = exchange.open(login, "EURUSD", 0, LOT // 10)
    exchange.tick()
    state, mids = exchange.state(login), dict(exchange.market.mids)
    simulator.store.close()
    again = Simulator(state_dir=tmp_path, password="x", clock=clock, tick_s=0)
    try:
        assert again.exchange.market.mids == mids
        assert again.exchange.state(login) == state
        closed = again.exchange.close(last.position_ticket)
        assert closed.ticket == last.ticket + 1
        told = events(again)
        assert [event.seq for event in told] == list(range(1, len(told) + 1))
        assert len({event.boot for event in told}) == 2
    finally:
        again.store.close()


def test_deals_carry_the_servers_wall_clock(exchange, clock, new_login):
    deal = exchange.balance_operation(new_login(), 2, Decimal(1), "")
    assert deal.server_time_ms == int((clock.moment + timedelta(hours=2)).timestamp() * 1000)


def test_open_positions_are_reported_at_the_present_price(simulator, exchange, clock, new_login):
    login = new_login(money="1000")
    exchange.open(login, "EURUSD", 0, LOT // 10)
    exchange.shift("EURUSD", 58)
    clock.move(seconds=5)
    exchange.report_open()
    position, account = events(simulator)[-2:]
    assert position.kind == "position.update"
    assert position.position.profit == Decimal("5.00")
    assert position.position.update_ms == exchange.now_ms()
    assert account.account.floating == Decimal("5.00")


@pytest.mark.parametrize(
    ("group", "entry", "exit_"),
    [
        ("real\\ecn\\usd", "-3.50", "-3.50"),
        ("real\\raw\\usd", "-6.00", "0.00"),
        ("real\\raw\\eur", "0.00", "-6.00"),
        ("real\\std\\usd", "0.00", "0.00"),
    ],
)
def test_commission_is_booked_on_the_deals_that_the_group_says(exchange, new_login, group, entry, exit_):
    login = new_login(group, money="20000")
    opened = exchange.open(login, "EURUSD", 0, LOT)
    closed = exchange.close(opened.position_ticket)
    assert (opened.commission, closed.commission) == (Decimal(entry), Decimal(exit_))


def test_a_cent_account_counts_in_cents(exchange, new_login):
    """50 points of 0.10 lot are 5 dollars, which are 500 cents; they are written with two decimals."""
    login = new_login("real\\cent\\usc", leverage="500", money="100000")
    opened = exchange.open(login, "EURUSD", 0, LOT // 10)
    exchange.shift("EURUSD", 58)
    closed = exchange.close(opened.position_ticket)
    assert (closed.profit, closed.digits_currency, closed.rate_profit) == (Decimal("500.00"), 2, 100)
    assert exchange.state(login).balance == Decimal("100500.00")


def test_a_yen_account_has_no_decimals(exchange, new_login):
    login = new_login("real\\std\\jpy", money="1000000")
    opened = exchange.open(login, "USDJPY", 0, LOT // 10)
    exchange.shift("USDJPY", 110)
    closed = exchange.close(opened.position_ticket)
    assert (str(closed.profit), closed.digits_currency) == ("1000", 0)  # 0.100 yen of 10,000 dollars
    assert refusal(exchange.balance_operation, login, 2, Decimal("0.5"), "") == 3
    assert exchange.check_balance(login).agrees


def test_margin_of_gold_and_indices_goes_by_their_price(exchange, new_login):
    login = new_login(leverage="100", money="100000")
    gold = exchange.open(login, "XAUUSD", 0, LOT // 10)
    assert exchange.state(login).margin == (gold.price * 10 / 100).quantize(Decimal("0.01"))
    dax = exchange.open(login, "DE40", 1, LOT)
    more = dax.price / 100 * dax.rate_margin
    assert exchange.state(login).margin == (gold.price * 10 / 100 + more).quantize(Decimal("0.01"), rounding="ROUND_HALF_UP")


def test_old_servers_tell_no_market_prices(exchange, new_login):
    login = new_login(money="10000")
    exchange.books.shows_market = False
    opened = exchange.open(login, "EURUSD", 0, LOT // 10)
    assert (opened.market_bid, opened.market_ask) == (0, 0)
    exchange.books.shows_market = True
    assert exchange.close(opened.position_ticket).market_bid > 0
