"""The Web API adapter where a server has more than it sends at once: nothing is lost, nothing comes twice."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.core.clock import now
from app.metatrader.codes import OrderType
from app.metatrader.errors import BusinessError, NotKnown
from app.metatrader.platforms import mt5_web, windows
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.simulator.commands import COMMANDS
from app.metatrader.simulator.exchange import Refused
from tests.contracts.platforms.conftest import QUICK
from tests.contracts.platforms.houses import access

HOUR = timedelta(hours=1)


@pytest.fixture
def mt5(simulator):
    """As fast as it can."""
    options = {"requests_per_second": 1000}
    with MT5WebPlatform(access(simulator, options=options), timeouts=QUICK) as connected:
        yield connected


@pytest.fixture
def limit(monkeypatch):
    """The server answers 14 (partial) when a command would bring more rows; says which queries it saw."""
    seen = []

    def switch_on(command, rows):
        original = COMMANDS[command]

        def limited(call):
            seen.append(dict(call.query))
            answer = original(call)
            if len(answer) > rows:
                raise Refused(14)
            return answer

        monkeypatch.setitem(COMMANDS, command, limited)
        return seen

    return switch_on


@pytest.fixture
def deals(mt5, simulator, wanted):
    """Tickets of 150 deals of three logins, spread over half a day; 120 of them in one and the same second."""
    logins = [mt5.create_account(replace(wanted, mark=f"A-{number}")) for number in range(3)]
    store, began_ms = simulator.store, simulator.exchange.now_ms() // 1000 * 1000 - 12 * 3_600_000
    tickets = []
    for number, login in zip(range(150), itertools.cycle(logins), strict=False):
        ticket = simulator.exchange.balance_operation(login, 2, Decimal(1), f"D-{number}").ticket
        moment = began_ms + (3_600_000 if number < 120 else number * 60_000)
        with store.transaction():
            store.add_deal(replace(store.deal(ticket), server_time_ms=moment + number))
        tickets.append(ticket)
    return tickets


def of_group(mt5, mask="real\\*"):
    return mt5.deals_by_group(mask, now() - 24 * HOUR, now() + HOUR)


def test_deals_of_a_day_come_in_windows(mt5, deals, limit, monkeypatch):
    seen = limit("deal/get_batch", 1000)
    assert [deal.ticket for deal in of_group(mt5)] == deals
    spans = [(int(query["from"]), int(query["to"])) for query in seen]
    assert all(later[0] == earlier[1] + 1 for earlier, later in itertools.pairwise(spans))
    assert 1 < len(spans) < 25, "windows with few deals grow"
    monkeypatch.setattr(windows, "MANY_ROWS", 8)
    seen.clear()
    assert [deal.ticket for deal in of_group(mt5)] == deals
    assert len(seen) > len(spans), "windows with many deals shrink"


@pytest.mark.parametrize("rows", [50, 1])
def test_partial_answers_are_asked_for_by_halves(mt5, deals, limit, rows):
    """120 deals of one second are more than the server gives of a group at all: they come login by login, page by page."""
    limit("deal/get_batch", rows)
    assert [deal.ticket for deal in of_group(mt5)] == deals


def test_deals_of_one_login_by_halves_and_pages(mt5, deals, limit):
    limit("deal/get_batch", 10)
    login = of_group(mt5)[0].login
    mine = mt5.deals(login, now() - 24 * HOUR, now() + HOUR)
    assert [deal.ticket for deal in mine] == deals[::3]
    assert {deal.login for deal in mine} == {login}


@pytest.mark.parametrize("total", [99, 100, 101, 200, 230])
def test_pages_end_where_they_should(mt5, simulator, wanted, limit, total):
    login = mt5.create_account(wanted)
    moment = simulator.exchange.now_ms() // 1000 * 1000
    store = simulator.store
    for number in range(total):
        ticket = simulator.exchange.balance_operation(login, 2, Decimal(1), f"D-{number}").ticket
        with store.transaction():
            store.add_deal(replace(store.deal(ticket), server_time_ms=moment))
    limit("deal/get_batch", 0)
    found = mt5.deals(login, now() - timedelta(seconds=2), now() + timedelta(seconds=30))
    assert len({deal.ticket for deal in found}) == len(found) == total


def test_large_groups_come_login_by_login_list(mt5, simulator, wanted, limit, monkeypatch):
    monkeypatch.setattr(mt5_web, "LOGINS_PER_CALL", 3)
    logins = [mt5.create_account(replace(wanted, mark=f"A-{number}")) for number in range(8)]
    mt5.balance_operation(logins[4], Decimal(500), "x")
    simulator.exchange.open(logins[4], "EURUSD", 0, 1_000_000)
    for command in ("user/get_batch", "user/account/get_batch", "position/get_batch"):
        limit(command, 3)
    assert [user.login for user in mt5.users("real\\*")] == logins
    states = mt5.accounts("real\\*")
    assert [state.login for state in states] == logins
    assert states[4].margin > 0
    assert [position.login for position in mt5.positions_by_group("real\\*")] == [logins[4]]
    mt5.balance_operation(logins[0], Decimal(500), "x")
    for login in (logins[4], logins[0]):
        simulator.exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, 1_000_000, Decimal("0.90000"))
    limit("order/get_batch", 1)
    assert [order.login for order in mt5.orders_by_group("real\\*")] == [logins[4], logins[0]]


def test_a_login_that_vanishes_between_two_calls(mt5, simulator, wanted, limit, monkeypatch):
    monkeypatch.setattr(mt5_web, "LOGINS_PER_CALL", 4)
    logins = [mt5.create_account(replace(wanted, mark=f"A-{number}")) for number in range(8)]
    limit("user/get_batch", 4)
    original = COMMANDS["user/logins"]

    def then_archive(call):
        answer = original(call)
        simulator.exchange.archive(logins[5])
        return answer

    monkeypatch.setitem(COMMANDS, "user/logins", then_archive)
    assert [user.login for user in mt5.users("real\\*")] == logins[:5] + logins[6:]


def test_other_refusals_are_not_taken_for_too_much(mt5, monkeypatch):
    def refuse(call):
        raise Refused(3)

    monkeypatch.setitem(COMMANDS, "deal/get_batch", refuse)
    monkeypatch.setitem(COMMANDS, "user/get_batch", refuse)
    for call in (lambda: of_group(mt5), lambda: mt5.users("*")):
        with pytest.raises(BusinessError) as caught:
            call()
        assert caught.value.retcode == 3


def test_a_restored_login_stays_in_a_real_servers_archive(mt5, simulator, wanted, monkeypatch):
    """MetaTrader leaves it there; it is not archived any more all the same."""
    login = mt5.create_account(wanted)
    mt5.archive_account(login)
    record = COMMANDS["user/archive/get_batch"]
    kept = []
    monkeypatch.setitem(COMMANDS, "user/archive/get_batch", lambda call: kept or kept.extend(record(call)) or kept)
    assert [state.login for state in mt5.archived("real\\*")] == [login]
    mt5.restore_account(login)
    assert kept
    assert mt5.archived("real\\*") == []


def test_a_deal_that_is_gone(mt5):
    with pytest.raises(NotKnown):
        mt5.deal(987654321)
