"""Below zero after a stop-out: restored once where the law protects, shown to people where it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.core.uow import unit_of_work
from app.jobs import queues, servers, tasks
from app.ledger import chart
from app.metatrader import mirror, negative_balance
from app.models.metatrader import BalanceOperation, Deal, Server, TradingAccount, TradingRule
from app.models.trading_desk import ForeignOperation, ServerBreak
from tests.integration.trading.house import SYSTEM, House
from tests.integration.trading.test_mirror import book
from tests.unit.metatrader.samples import DEAL

WRITE_OFF = chart.negative_balance_expense("USD")


def protect(house: House, *countries: str) -> None:
    with unit_of_work(house.session, SYSTEM):
        house.session.add(
            TradingRule(name="test", countries=list(countries), protects_negative_balance=True, valid_from=date(2020, 1, 1))
        )


def fall(house: House, login: int, below: str, *, ago: timedelta = timedelta(minutes=5)) -> int:
    """The balance goes below zero by a stop-out, at the server and here. The stop-out's ticket."""
    store, exchange = house.simulator.store, house.simulator.exchange
    was = exchange.state(login).balance
    with store.transaction():
        deal = replace(
            DEAL, ticket=store.next_number("deal", 500_000), login=login, reason=5, profit=Decimal(below) - was,
            swap=Decimal(0), commission=Decimal(0), server_time_ms=exchange.now_ms() - int(ago.total_seconds()) * 1000,
        )  # fmt: skip
        store.add_deal(deal)
        account = store.account(login)
        account.balance = int(Decimal(below) * 100)
        store.save_account(account)
    book(house, deal)
    know(house, login)
    return deal.ticket


def know(house: House, login: int) -> None:
    """What we last heard of the account's balance."""
    house.session.rollback()
    with unit_of_work(house.session, SYSTEM):
        account = house.session.scalars(select(TradingAccount).where(TradingAccount.login == login)).one()
        account.balance = house.simulator.exchange.state(login).balance


def look_after(house: House) -> negative_balance.Restored:
    house.session.rollback()
    return negative_balance.restore_balances(house.session, house.platform, house.server_id)


def operations(house: House) -> list[BalanceOperation]:
    house.session.rollback()
    return list(house.session.scalars(select(BalanceOperation).order_by(BalanceOperation.id)))


def found(house: House) -> list[tuple[str, str, str]]:
    house.session.rollback()
    return [(one.subject, one.state, one.cause) for one in house.session.scalars(select(ServerBreak).order_by(ServerBreak.id))]


@pytest.fixture
def login(house: House) -> int:
    made = house.add_account().login
    house.simulator.exchange.balance_operation(made, 2, Decimal(500), "start")
    house.drain()
    return made


def test_restored_to_zero_once_and_written_off(house, login):
    protect(house, "IT")
    ticket = fall(house, login, "-13.37")
    assert look_after(house).ordered == 1
    assert look_after(house).ordered == 0  # in flight
    (operation,) = operations(house)
    assert (operation.amount_minor, operation.purpose, operation.status) == (1_337, "negative_balance", "new")
    assert house.send(operation.id) == "done"
    assert house.simulator.exchange.state(login).balance == 0
    house.drain()
    assert look_after(house).ordered == 0
    mirror.mirror_deals(house.session)
    assert house.mirrored(login).amount_minor == 0
    assert house.ledger(WRITE_OFF).amount_minor == 1_337
    assert found(house) == [(f"{login}#{ticket}", "repaired", "stop_out")]
    assert house.count(ForeignOperation, ForeignOperation.comment.startswith(operation.token)) == 0
    house.prove()


def test_another_fall_is_restored_anew_but_the_same_is_not(house, login):
    protect(house)
    first = fall(house, login, "-10")
    look_after(house)
    house.send(operations(house)[0].id)
    house.drain()
    # Below zero again without a new stop-out: somebody else's doing.
    house.simulator.exchange.balance_operation(login, 5, Decimal(-3), "correction", check_margin=False)
    house.drain()
    know(house, login)
    assert look_after(house) == negative_balance.Restored(0, 1)
    assert found(house)[-1] == (f"{login}#{first}", "open", "fell_again")
    second = fall(house, login, "-20", ago=timedelta(minutes=2))
    assert look_after(house).ordered == 1
    assert [one.amount_minor for one in operations(house)] == [1_000, 2_000]
    assert (f"{login}#{second}", "repaired", "stop_out") in found(house)
    assert (f"{login}#{first}", "gone", "fell_again") in found(house)


def test_where_no_rule_protects_people_look(house, login):
    protect(house, "DE")
    ticket = fall(house, login, "-13.37")
    assert look_after(house) == negative_balance.Restored(0, 1)
    assert operations(house) == []
    assert found(house) == [(f"{login}#{ticket}", "open", "not_protected")]
    house.simulator.exchange.balance_operation(login, 2, Decimal(20), "the client paid")
    know(house, login)
    look_after(house)
    assert found(house) == [(f"{login}#{ticket}", "gone", "not_protected")]


def test_below_zero_without_a_stop_out(house, login):
    protect(house)
    house.simulator.exchange.balance_operation(login, 5, Decimal(-600), "correction", check_margin=False)
    house.drain()
    know(house, login)
    assert look_after(house).left == 1
    assert found(house) == [(str(login), "open", "no_stop_out")]


def test_on_mt4_people_look_because_clients_may_write_what_tells_a_stop_out(house, login):
    protect(house, "DE", "IT", "CY")
    fall(house, login, "-37.50")
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(Server, house.server_id).platform = "mt4_bridge"
    look_after(house)
    assert operations(house) == []
    assert found(house) == [(str(login), "open", "no_stop_out")]


def test_not_while_a_position_is_open_nor_at_once(house, login):
    protect(house)
    fall(house, login, "-5", ago=timedelta(seconds=5))
    assert look_after(house) == negative_balance.Restored()  # the server may give back by itself
    other = house.add_account().login
    house.simulator.exchange.balance_operation(other, 2, Decimal(900), "start")
    house.simulator.control.trade(other, "EURUSD", "buy", Decimal("0.10"), close=False)
    fall(house, other, "-5")
    assert look_after(house) == negative_balance.Restored()
    assert operations(house) == []


def test_not_while_a_transfer_is_in_flight(house, login):
    protect(house)
    fall(house, login, "-5")
    house.order(login, 1_000)
    assert look_after(house) == negative_balance.Restored()
    assert len(operations(house)) == 1


def test_what_the_server_refused_stands_before_people(house, login):
    protect(house)
    ticket = fall(house, login, "-5")
    look_after(house)
    house.faults("retcode", path="trade/balance", code=3)
    assert house.send(operations(house)[0].id) == "failed"
    assert look_after(house) == negative_balance.Restored(0, 1)
    assert found(house)[-1] == (f"{login}#{ticket}", "open", "operation_failed")
    assert len(operations(house)) == 1


def test_what_we_gave_back_and_the_dealer_deletes_is_written_back(house, login):
    protect(house)
    fall(house, login, "-13.37")
    look_after(house)
    operation = operations(house)[0]
    house.send(operation.id)
    house.drain()
    mirror.mirror_deals(house.session)
    ticket = house.session.scalars(select(Deal.ticket).where(Deal.is_ours)).one()
    house.delete(ticket)
    house.drain()
    mirror.mirror_deals(house.session)
    assert house.ledger(WRITE_OFF).amount_minor == 0
    assert house.mirrored(login).amount_minor == -1_337
    house.prove()


def test_old_stop_outs_are_no_excuse(house, login):
    protect(house)
    fall(house, login, "-5", ago=timedelta(days=8))
    assert look_after(house).left == 1
    assert found(house)[0][2] == "no_stop_out"


def test_only_servers_with_something_below_zero_are_looked_at(house, login, app, redis):
    app.extensions["settings"] = house.settings
    waiting = queues.queue(redis, servers.QUEUE)
    with app.app_context():
        tasks.restore_negative_balances(house.session, house.settings)
        assert waiting.job_ids == []
        protect(house)
        fall(house, login, "-13.37")
        tasks.restore_negative_balances(house.session, house.settings)
        assert waiting.job_ids == [f"restore_balances-{house.server_id}"]
        servers.run_task("restore_balances", house.server_id)
    assert [one.amount_minor for one in operations(house)] == [1_337]
