"""Trading servers do not wait for each other, and nothing goes out to one whose commands staff have paused."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import select, text

from app.core.actor import Actor
from app.core.clock import now
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs import gateways, queues, relay, tasks
from app.jobs.deliver import deliver
from app.metatrader import accounts, commands
from app.metatrader.errors import CommandsPaused
from app.metatrader.platforms import health
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.faults import FOREVER, Fault
from app.models.metatrader import BalanceOperation, Product, Server, TradingAccount
from config import ServerSecrets
from tests.integration.jobs.conftest import SYSTEM
from tests.integration.trading.house import PASSWORD, USER, add_server, wait_until

START_S = 40.0


def status(house, operation_id):
    return house.operation(operation_id).status


@pytest.fixture
def other(house, tmp_path):
    """A second trading server with its row: (simulator, server id)."""
    with Simulator(state_dir=tmp_path / "other", password=PASSWORD, code="other", tick_s=0) as simulator:
        yield simulator, add_server(house.session, simulator, "other")


def order_at(house, simulator, server_id):
    """A new operation for a new login of a server."""
    login = simulator.control.users.add(USER).login
    home, house.server_id = house.server_id, server_id
    try:
        return house.order(login)
    finally:
        house.server_id = home


def test_a_silent_server_holds_up_no_other(house, other, redis, start, monkeypatch):
    """Two workers. Twelve operations wait at a server that answers nothing, then three at one that is well."""
    simulator, other_id = other
    well = [order_at(house, simulator, other_id) for _ in range(3)]
    house.simulator.control.faults.set([Fault(kind="slow", times=FOREVER, seconds=60)])
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(Server, house.server_id).options = {"timeout_s": 20}
    first = [order_at(house, house.simulator, house.server_id) for _ in range(6)]
    secrets = {
        code: {"password": PASSWORD, "ca_file": str(one.ca_file)}
        for code, one in (("sim", house.simulator), ("other", simulator))
    }
    start("worker", house.settings, WORKERS="2", MT_SECRETS=json.dumps(secrets))
    wait_until(lambda: redis.scard("rq:workers") == 2, START_S, "two workers")
    start("relay", house.settings)
    wait_until(lambda: {status(house, one) for one in well} == {"done"}, START_S, "before the other was even asked")
    sent = [order_at(house, simulator, other_id)]

    wait_until(lambda: "sending" in {status(house, one) for one in first}, START_S, "the silent one is being asked")
    began = time.monotonic()
    second = [order_at(house, house.simulator, house.server_id) for _ in range(6)]
    sent += [order_at(house, simulator, other_id) for _ in range(3)]
    wait_until(lambda: {status(house, one) for one in sent} == {"done"}, 10, "the server that is well waits")
    assert time.monotonic() - began < 10
    counted = Counter(status(house, one) for one in first + second)
    assert counted["done"] == counted["failed"] == 0
    assert counted["sending"] + counted["unknown"] <= 2, "one exchange at a time with the silent one"
    assert redis.zcard("platform:sim:places") <= 1


def test_a_server_that_was_silent_gets_what_waited(house, redis, clock):
    """The breaker opens, the operations stay new; once the server answers again the resolver sends each of them once."""
    with unit_of_work(house.session, SYSTEM):
        options = {"timeout_s": 1, "breaker": {"failures": 2, "open_s": 1}}
        house.session.get_one(Server, house.server_id).options = options
    orders = [order_at(house, house.simulator, house.server_id) for _ in range(5)]
    clock.advance(61)
    house.faults("slow", path="", times=FOREVER, seconds=3)
    tasks.resolve_operations(house.session, house.settings)
    assert health(redis, "sim").state == "open"
    assert Counter(status(house, one) for one in orders) == {"unknown": 2, "new": 3}
    house.faults(path="")
    wait_until(lambda: not house.simulator.control.faults.listed())
    time.sleep(3.1)  # what was slow is carried out in the end: the two are unknown, not undone
    for _ in range(4):
        clock.advance(61)
        tasks.resolve_operations(house.session, house.settings)
    assert {status(house, one) for one in orders} == {"done"}
    assert [len(house.with_token(one)) for one in orders] == [1] * 5
    assert health(redis, "sim").state == "closed"


class TestPause:
    @pytest.fixture
    def pause(self, house):
        def set_to(moment):
            with unit_of_work(house.session, SYSTEM):
                house.session.get_one(Server, house.server_id).commands_paused_at = moment

        return set_to

    @pytest.fixture
    def bring(self, house, app, redis):
        """Deliver what was told, as a worker does."""
        app.extensions["settings"] = house.settings

        def work():
            relay.relay_new(house.session, redis)
            waiting = house.session.execute(
                text(
                    "SELECT handler, array_agg(event_id ORDER BY event_id) FROM delivery WHERE delivered_at IS NULL GROUP BY 1"
                )
            ).all()
            house.session.rollback()
            with app.app_context():
                for handler, ids in waiting:
                    deliver(handler, ids)

        return work

    def test_operations_wait_and_go_out_later(self, house, pause, bring, clock):
        order = order_at(house, house.simulator, house.server_id)
        pause(now())
        bring()
        clock.advance(61)
        tasks.resolve_operations(house.session, house.settings)
        operation = house.operation(order)
        assert (operation.status, operation.sends) == ("new", 0)
        assert house.at_server(operation.login) == []
        failed = house.session.execute(text("SELECT count(*) FROM delivery WHERE error IS NOT NULL")).scalar()
        assert failed == 0, "that is no failure"
        pause(None)
        tasks.resolve_operations(house.session, house.settings)
        assert status(house, order) == "done"
        assert len(house.with_token(order)) == 1

    def test_a_lost_answer_is_looked_for_all_the_same(self, house, pause, clock):
        order = order_at(house, house.simulator, house.server_id)
        house.faults("execute_then_drop", path="trade/balance")
        assert house.send(order) == "unknown"
        pause(now())
        clock.advance(61)
        tasks.resolve_operations(house.session, house.settings)
        assert status(house, order) == "done"

    def test_accounts_wait_too(self, house, pause, bring, clock):
        product_id = house.session.scalars(select(Product.id).where(Product.code == "std")).one()
        pause(now())
        account_id = accounts.request_account(
            house.session, client_id=house.client_id, product_id=product_id, leverage=100, actor=Actor.client(house.client_id)
        ).id
        bring()
        clock.advance(200)
        tasks.open_lost_accounts(house.session, house.settings)
        assert house.simulator.store.accounts() == []
        pause(None)
        tasks.open_lost_accounts(house.session, house.settings)
        house.session.rollback()
        assert house.session.get_one(TradingAccount, account_id).status == "active"

    def test_reads_are_let_through(self, house, pause):
        pause(now())
        assert gateways.platform_of(house.session, house.settings, house.server_id).groups()
        with pytest.raises(CommandsPaused):
            gateways.command_platform_of(house.session, house.settings, house.server_id)

    def test_others_are_not_paused(self, house, other, pause, clock):
        simulator, other_id = other
        order = order_at(house, simulator, other_id)
        pause(now())
        clock.advance(61)
        secrets = (("other", ServerSecrets(password=PASSWORD, ca_file=str(simulator.ca_file))),)
        tasks.resolve_operations(house.session, replace(house.settings, mt_secrets=secrets))
        assert status(house, order) == "done"


def test_what_was_not_sent_goes_out_again_soon(house, clock):
    order = order_at(house, house.simulator, house.server_id)
    house.faults("retcode", path="trade/balance", code=12)
    assert house.send(order) == "new", "the server was too busy to take it"
    tasks.resolve_operations(house.session, house.settings)
    assert (status(house, order), house.operation(order).sends) == ("new", 1), "it is not pestered"
    clock.advance(11)
    tasks.resolve_operations(house.session, house.settings)
    assert status(house, order) == "done"
    assert len(house.with_token(order)) == 1


def test_the_resolver_takes_some_of_every_server(house, other, monkeypatch):
    simulator, other_id = other
    monkeypatch.setattr("app.metatrader.commands.MOST_AT_ONCE", 3)
    mine = [order_at(house, house.simulator, house.server_id) for _ in range(5)]
    theirs = [order_at(house, simulator, other_id) for _ in range(2)]
    with unit_of_work(house.session, SYSTEM):
        house.session.execute(text("UPDATE balance_operation SET status = 'unknown', sends = 1, sent_at = now()"))
    found = commands.unresolved_operations(house.session)
    assert [row[0] for row in found] == [mine[0], theirs[0], mine[1], theirs[1], mine[2]]
    assert {row[1:] for row in found} == {(house.server_id, "unknown"), (other_id, "unknown")}
    assert house.count(BalanceOperation) == 7


def test_events_of_two_servers_share_no_job(database, redis):
    with database.session() as session:
        with unit_of_work(session, SYSTEM):
            for number in range(6):
                session.add(Event(type="operation.new", actor="system:test", subject_id=1, payload={"server_id": number % 2}))
            session.add_all(Event(type="test.mark", actor="system:test", payload={"server_id": number}) for number in range(2))
        relay.relay_new(session, redis)
        jobs = [job.kwargs for job in queues.queue(redis, "money").jobs]
        servers = [
            {session.get_one(Event, event_id).payload["server_id"] for event_id in job["event_ids"]}
            for job in jobs
            if job["handler"] == "send_operation"
        ]
        assert servers == [{0}, {1}]
        (marks,) = [job.kwargs for job in queues.queue(redis, "default").jobs]
        assert len(marks["event_ids"]) == 2, "what asks no server goes together"

        redis.flushall()
        session.execute(text("UPDATE delivery SET enqueued_at = now() - interval '1 day'"))
        session.commit()
        relay.redeliver(session, redis)
        again = [sorted(job.kwargs["event_ids"]) for job in queues.queue(redis, "money").jobs]
        assert sorted(again) == sorted(sorted(job["event_ids"]) for job in jobs)
