"""What the MT4 adapter sends and how it reads rows: limits of MT4's fields, windows of time, contract sizes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.core.clock import now
from app.metatrader import mt4 as rows
from app.metatrader.codes import DealEntry
from app.metatrader.errors import BusinessError, NotKnown
from app.metatrader.platforms import windows
from app.metatrader.platforms.mt4_bridge import MT4BridgePlatform
from app.metatrader.simulator.mt4 import MT4Simulator
from app.metatrader.simulator.mt4.commands import CHANGES, READS
from tests.contracts.platforms.houses import PASSWORD, access

HOUR = timedelta(hours=1)


@pytest.fixture
def simulator(tmp_path):
    with MT4Simulator(state_dir=tmp_path / "server", password=PASSWORD, tick_s=0) as running:
        yield running


@pytest.fixture
def mt4(simulator):
    options = {"requests_per_second": 1000}
    with MT4BridgePlatform(access(simulator, platform="mt4_bridge", options=options)) as platform:
        yield platform


@pytest.fixture
def wanted(wanted):
    return replace(wanted, group="std-usd")


@pytest.fixture
def login(mt4, wanted):
    login = mt4.create_account(wanted)
    mt4.balance_operation(login, Decimal(5000), "in")
    return login


@pytest.fixture
def asked(monkeypatch):
    """The bodies of a command as the bridge gets them."""

    def listen(command):
        table = READS if command in READS else CHANGES
        seen, original = [], table[command]
        monkeypatch.setitem(table, command, lambda engine, body: seen.append(dict(body.fields)) or original(engine, body))
        return seen

    return listen


# ── what MT4 has no room for ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "retcode"),
    [
        ({"main_password": "x1" * 8}, 3006), ({"investor_password": "x1" * 8}, 3006), ({"main_password": "Ünbekannt1"}, 3006),
        ({"main_password": "ab1"}, 3006), ({"group": "a-group-too-long"}, 3), ({"mark": "A-" + "0" * 30}, 3),
        ({"mark": "Ä"}, 3),
    ],
)  # fmt: skip
def test_accounts_that_would_be_cut_are_not_opened(mt4, wanted, asked, changes, retcode):
    seen = asked("open_account")
    with pytest.raises(BusinessError) as caught:
        mt4.create_account(replace(wanted, **changes))
    assert caught.value.retcode == retcode
    assert seen == []


def test_texts_for_people_are_cut(mt4, wanted):
    login = mt4.create_account(
        replace(
            wanted,
            first_name="A" * 100,
            last_name="B" * 100,
            country="C" * 40,
            comment="D" * 80,
            email=f"{'e' * 40}@example.com",
        )
    )
    user = mt4.user(login)
    assert user.name == f"{'A' * 100} {'B' * 26}"
    assert (user.country, user.comment, user.email) == ("C" * 31, "D" * 63, "")


@pytest.mark.parametrize("password", ["x1" * 8, "Ünbekannt1", "ab1"])
def test_passwords_that_mt4_would_not_keep_are_not_sent(mt4, login, asked, password):
    seen = asked("change_password")
    with pytest.raises(BusinessError) as caught:
        mt4.change_password(login, "main", password)
    assert caught.value.retcode == 3006
    assert seen == []


@pytest.mark.parametrize("amount", ["0.001", "-12.345"])
def test_amounts_that_mt4_would_round_are_not_sent(mt4, login, asked, amount):
    seen = asked("balance")
    with pytest.raises(BusinessError):
        mt4.balance_operation(login, Decimal(amount), "x")
    assert seen == []
    mt4.balance_operation(login, Decimal("12.500"), "x")
    assert len(seen) == 1


def test_a_group_that_the_server_does_not_have(mt4, login, wanted):
    for call in (
        lambda: mt4.update_account(login, group="nowhere"),
        lambda: mt4.create_account(replace(wanted, group="nowhere")),
    ):
        with pytest.raises(BusinessError) as caught:
            call()
        assert caught.value.retcode == 3


def test_only_what_changes_is_sent(mt4, login, asked):
    seen = asked("change_account")
    mt4.update_account(login, leverage=50)
    mt4.update_account(login, group="ecn-usd")
    mt4.update_account(login, rights=0x2)
    number = str(login)
    switches = {"enable": "0", "enable_change_password": "1", "enable_read_only": "0"}
    assert seen == [{"login": number, "leverage": "50"}, {"login": number, "group": "ecn-usd"}, {"login": number, **switches}]
    assert not mt4.get_account(login).is_enabled


# ── deals of a time ────────────────────────────────────────────────────────────────────────────────────────────────────


def moved(simulator, order, **times):
    """A row as if it had happened at other times of the server's clock."""
    return simulator.engine.edit(order, **times)


def test_each_deal_of_a_row_belongs_to_its_own_time_and_one_that_closed_tells_what_opened(mt4, simulator, login):
    order = simulator.engine.open(login, "EURUSD", 0, Decimal("0.10")).order
    simulator.engine.close(order)
    closed_at = now() - HOUR
    opened_at = closed_at - 48 * HOUR
    zone = simulator.engine.zone
    seconds = [zone.wall_ms(moment) // 1000 for moment in (opened_at, closed_at)]
    moved(simulator, order, open_time=seconds[0], close_time=seconds[1])

    def entries(since, until):
        return [(deal.ticket, deal.entry) for deal in mt4.deals(login, since, until) if deal.is_trade]

    opening, closing = (rows.opening_ticket(order), DealEntry.IN), (rows.closing_ticket(order), DealEntry.OUT)
    assert entries(opened_at - HOUR, now()) == [opening, closing]
    assert entries(opened_at - HOUR, opened_at + HOUR) == [opening]
    assert entries(closed_at - HOUR, closed_at + HOUR / 2) == [opening, closing]
    assert entries(opened_at + HOUR, closed_at - HOUR) == []


def test_both_ends_of_a_range_belong_to_it(mt4, simulator, login):
    moment = (now() - 5 * HOUR).replace(microsecond=0)
    order = mt4.balance_operation(login, Decimal(1), "edge") // 2
    moved(simulator, order, open_time=simulator.engine.zone.wall_ms(moment) // 1000)
    second = timedelta(seconds=1)

    def comments(since, until):
        return [deal.comment for deal in mt4.deals(login, since, until)]

    assert comments(moment, moment) == comments(moment - HOUR, moment) == comments(moment, moment + HOUR) == ["edge"]
    assert comments(moment - HOUR, moment - second) == comments(moment + second, moment + HOUR) == []


def test_a_long_time_comes_in_windows(mt4, simulator, login, asked, monkeypatch):
    monkeypatch.setattr(windows, "MANY_ROWS", 8)
    start = now() - 24 * HOUR
    zone, tickets = simulator.engine.zone, []
    for number in range(60):
        ticket = mt4.balance_operation(login, Decimal(1), f"D-{number}")
        moved(simulator, ticket // 2, open_time=zone.wall_ms(start + number * HOUR / 3) // 1000)
        tickets.append(ticket)
    seen = asked("trades")
    found = mt4.deals_by_group("std-*", start - HOUR, now() - HOUR)
    assert [deal.ticket for deal in found] == tickets
    spans = [(int(body["from"]), int(body["to"])) for body in seen]
    assert all(later[0] == earlier[1] + 1 for earlier, later in itertools.pairwise(spans))
    assert 5 < len(spans) < 60
    lengths = [last - first for first, last in spans[:-1]]
    assert min(lengths) < max(lengths), "they grow and shrink"


def test_the_whole_of_time_can_be_asked_for(mt4, login):
    since, until = now().replace(year=1970, month=1, day=1), now().replace(year=2099)
    assert [deal.comment for deal in mt4.deals(login, since, until)] == ["in"]


def test_a_closed_part(mt4, simulator, login):
    order = simulator.engine.open(login, "EURUSD", 0, Decimal("0.80")).order
    simulator.engine.close(order, Decimal("0.30"))
    trades = [deal for deal in mt4.deals(login, now() - HOUR, now() + HOUR) if deal.is_trade]
    opened = [deal for deal in trades if deal.entry == DealEntry.IN]
    (closed,) = (deal for deal in trades if deal.entry == DealEntry.OUT)
    assert [deal.lots for deal in opened] == [Decimal("0.3"), Decimal("0.5")]
    assert (closed.position_ticket, closed.lots) == (order, Decimal("0.3"))
    (position,) = mt4.positions(login)
    assert (position.ticket, position.lots) == (opened[1].position_ticket, Decimal("0.5"))


# ── single rows ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deals_that_an_order_has_not_made(mt4, simulator, login):
    order = simulator.engine.open(login, "EURUSD", 0, Decimal("0.10")).order
    assert mt4.deal(rows.opening_ticket(order)).position_ticket == order
    with pytest.raises(NotKnown):
        mt4.deal(rows.closing_ticket(order))
    simulator.engine.close(order)
    assert mt4.deal(rows.closing_ticket(order)).closes


def test_a_deposit_is_no_order(mt4, login):
    (deposit,) = mt4.deals(login, now() - HOUR, now() + HOUR)
    with pytest.raises(NotKnown):
        mt4.order(rows.order_of_ticket(deposit.ticket))


def test_a_row_that_was_deleted_counts_no_longer(mt4, simulator, login, monkeypatch):
    order = simulator.engine.open(login, "EURUSD", 0, Decimal("0.10")).order
    simulator.engine.close(order)
    original = READS["trades"]

    def with_state(engine, body):
        answer = original(engine, body)
        for row in answer["trades"]:
            row["state"] = "6" if row["order"] == str(order) else row["state"]
        return answer

    monkeypatch.setitem(READS, "trades", with_state)
    assert [deal.comment for deal in mt4.deals(login, now() - HOUR, now() + HOUR)] == ["in"]
    for call in (lambda: mt4.deal(rows.opening_ticket(order)), lambda: mt4.order(order)):
        with pytest.raises(NotKnown):
            call()


def test_contract_sizes_are_asked_for_once(mt4, simulator, login, asked):
    for symbol in ("EURUSD", "USDJPY"):
        simulator.engine.open(login, symbol, 0, Decimal("0.10"))
    seen = asked("symbols")
    assert [position.contract_size for position in mt4.positions(login)] == [100_000, 100_000]
    assert {deal.contract_size for deal in mt4.deals(login, now() - HOUR, now() + HOUR)} == {0, 100_000}
    assert len(seen) == 1


def test_a_symbol_that_is_gone_does_not_hide_its_trades(mt4, simulator, login, monkeypatch):
    simulator.engine.open(login, "EURUSD", 0, Decimal("0.10"))
    monkeypatch.setitem(READS, "symbols", lambda engine, body: {"symbols": []})
    (position,) = mt4.positions(login)
    assert (position.symbol, position.contract_size, position.lots) == ("EURUSD", 0, Decimal("0.1"))


def test_an_account_of_another_currency_is_for_the_server_to_judge_when_it_is_empty(mt4, wanted, asked):
    login = mt4.create_account(wanted)
    seen = asked("change_account")
    with pytest.raises(BusinessError):
        mt4.update_account(login, group="std-eur")
    assert len(seen) == 1
