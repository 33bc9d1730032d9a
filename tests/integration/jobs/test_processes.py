"""The real processes: worker pool, relay and cron, started, killed and watched."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

import pytest
from rq.cron import CronScheduler
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer
from sqlalchemy import select, text

from app.core import heartbeat
from app.core.actor import Actor
from app.core.money import Money
from app.core.tables import JobFailure
from app.jobs import queues
from app.jobs.schedule import PLAN
from app.ledger import chart
from app.metatrader import accounts
from app.models.metatrader import Product, TradingAccount
from app.models.payments import Transfer
from app.payments import transfers
from tests.integration.jobs import process
from tests.integration.jobs.conftest import kill_all, stop
from tests.integration.trading.house import wait_until

pytestmark = pytest.mark.slow

START_S = 40.0
MODULE = "tests.integration.jobs.process"


@pytest.fixture
def session(database):
    with database.session() as session:
        yield session


def scalar(session, sql: str, **values):
    session.rollback()
    return session.execute(text(sql), values).scalar()


def failures(session) -> list[JobFailure]:
    session.rollback()
    return list(session.scalars(select(JobFailure)))


def tries(redis, name: str) -> int:
    return int(redis.hget(process.TRIES, name) or 0)


def put(redis, function: str, /, **arguments: object) -> Job:
    return queues.enqueue(redis, "money", f"{MODULE}.{function}", **arguments)


@pytest.fixture
def quick(monkeypatch):
    """Two more tries, at once after each other."""
    monkeypatch.setattr(queues, "RETRY_INTERVALS_S", [1, 1])


def test_events_travel_from_the_table_to_their_effect(session, redis, emit, start):
    """Relay and worker as processes: JSON jobs, priority queues, effects once, both leave when told to."""
    parts = [start("worker"), start("relay")]
    ids = emit(*["test.mark"] * 30, "test.both")
    wait_until(lambda: scalar(session, "SELECT count(*) FROM delivery WHERE delivered_at IS NOT NULL") == 31, START_S)
    assert scalar(session, "SELECT count(*) FROM cron_slot WHERE job LIKE 'effect:%'") == 31
    wait_until(lambda: scalar(session, "SELECT error FROM delivery WHERE handler = 'always_fail'") == "RuntimeError")
    assert ids[-1] == scalar(session, "SELECT event_id FROM delivery WHERE delivered_at IS NULL")
    for name in ("worker", "relay"):
        wait_until(lambda name=name: heartbeat.age_s(redis, name, time.time()) is not None)
    began = time.monotonic()
    assert [stop(part, signal.SIGTERM) for part in parts] == [0, 0]
    assert time.monotonic() - began < 8


def test_what_becomes_of_jobs(session, redis, start, quick):
    """Failing jobs and killed ones are tried again; those that never work are kept for staff. Children have connections of
    their own.
    """
    start("worker")
    connections = [put(redis, "tell_connection") for _ in range(3)]
    killed = put(redis, "be_killed", name="killed", times=2)
    hopeless = {put(redis, "explode", name="explodes").id, put(redis, "be_killed", name="dies", times=99).id}
    wait_until(lambda: tries(redis, "explodes") >= 2, START_S)
    assert not any(row.error == "ZeroDivisionError" for row in failures(session))  # its retries are not used up
    wait_until(lambda: Job.fetch(killed.id, redis, serializer=JSONSerializer).is_finished, START_S)
    assert tries(redis, "killed") == 3
    wait_until(lambda: len(failures(session)) == 2, START_S)
    kept = {row.error: row for row in failures(session)}
    assert {row.job_id for row in kept.values()} == hopeless
    assert (tries(redis, "explodes"), tries(redis, "dies")) == (3, 3)
    exploded, died = kept["ZeroDivisionError"], kept["HorseKilled"]
    assert (exploded.queue, exploded.function, exploded.arguments) == ("money", f"{MODULE}.explode", {"name": "explodes"})
    assert (died.arguments, died.retried_at) == ({"name": "dies", "times": 99}, None)
    pids = {int(pid) for pid in redis.lrange(process.JOB_PIDS, 0, -1)}
    assert len(pids) == len(connections)
    assert int(redis.get(process.PARENT_PID)) not in pids


def test_after_a_power_cut_the_jobs_of_the_dead_run_again(session, redis, start, quick):
    """Two workers die together with their children. The next pool finds both jobs; one had tries left, the other had not."""
    pool = start("worker", WORKERS="2")
    again, last = put(redis, "wait_for_go", name="again"), put(redis, "wait_for_go", name="last")
    wait_until(lambda: tries(redis, "again") and tries(redis, "last"), START_S)
    kill_all(pool)
    redis.hset(last.key, "retries_left", 0)
    registry = StartedJobRegistry("money", connection=redis, serializer=JSONSerializer)
    for entry in redis.zrange(registry.key, 0, -1):
        redis.zadd(registry.key, {entry: 1})  # a minute and a half later
    redis.set(process.GO, 1)
    start("worker")
    wait_until(lambda: Job.fetch(again.id, redis, serializer=JSONSerializer).is_scheduled, START_S)
    redis.delete(*[RQScheduler.get_locking_key(name) for name in queues.NAMES])  # the dead one's right to enqueue runs out
    wait_until(lambda: Job.fetch(again.id, redis, serializer=JSONSerializer).is_finished, START_S)
    wait_until(lambda: failures(session), START_S)
    (kept,) = failures(session)
    assert (kept.job_id, kept.error) == (last.id, "AbandonedJobError")
    assert (tries(redis, "again"), tries(redis, "last")) == (2, 1)


def test_the_cron_process_plans_and_leaves(session, redis, start):
    first, second = start("cron"), start("cron")
    wait_until(lambda: len(CronScheduler.all(redis)) == 2, START_S)
    planned = {planned.name for planned in PLAN}
    wait_until(lambda: sum(len(queues.queue(redis, name).jobs) for name in queues.NAMES) >= 2 * len(PLAN), 20)
    found = [job for name in queues.NAMES for job in queues.queue(redis, name).jobs]
    assert {job.kwargs["name"] for job in found} == planned
    assert all(job.retries_left and job.timeout for job in found)
    start("worker")
    done = "SELECT count(DISTINCT job) FROM cron_slot WHERE job = ANY(:names)"
    wait_until(lambda: scalar(session, done, names=list(planned)) == len(planned), START_S)
    wait_until(lambda: not any(queues.queue(redis, name).jobs for name in queues.NAMES), START_S)
    assert failures(session) == []
    assert [stop(part, signal.SIGTERM) for part in (first, second)] == [0, 0]
    assert CronScheduler.all(redis) == []


def test_a_second_relay_takes_over(session, redis, emit, start):
    first = start("relay")
    wait_until(lambda: heartbeat.age_s(redis, "relay", time.time()) is not None, START_S)
    second = start("relay")
    emit("test.mark")
    wait_until(lambda: scalar(session, "SELECT count(*) FROM delivery") == 1)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=10)
    emit("test.mark")
    wait_until(lambda: scalar(session, "SELECT count(*) FROM delivery") == 2, START_S)
    assert stop(second, signal.SIGTERM) == 0


def test_the_relay_waits_for_a_database_that_went_away(database, session, redis, emit, start):
    start("relay")
    emit("test.mark")
    wait_until(lambda: scalar(session, "SELECT count(*) FROM delivery") == 1, START_S)
    ours = session.execute(text("SELECT pg_backend_pid()")).scalar()
    session.execute(
        text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> :ours"),
        {"ours": ours},
    )
    emit("test.mark")
    wait_until(lambda: scalar(session, "SELECT count(*) FROM delivery") == 2, 20)


def test_an_account_and_a_transfer_through_all_processes(house, redis, start):
    """From the client's wish to money on the trading account: relay, worker and simulator, nothing called by hand."""
    settings = replace(house.settings, var_dir=house.settings.var_dir)
    start("relay", settings)
    start("worker", settings)
    client = Actor.client(house.client_id)
    house.bring_money(house.client_id, 100_000)
    product_id = house.session.scalars(select(Product.id).where(Product.code == "std")).one()
    account_id = accounts.request_account(
        house.session, client_id=house.client_id, product_id=product_id, leverage=100, actor=client
    ).id

    def of(table, column, row_id):
        house.session.rollback()
        return house.session.scalars(select(column).where(table.id == row_id)).one()

    wait_until(lambda: of(TradingAccount, TradingAccount.status, account_id) == "active", START_S)
    login = of(TradingAccount, TradingAccount.login, account_id)
    transfer_id = transfers.request_transfer(
        house.session, client_id=house.client_id, trading_account_id=account_id, direction="to_account",
        amount=Money(60_000, "USD"), key="k", actor=client,
    ).id  # fmt: skip
    wait_until(lambda: of(Transfer, Transfer.state, transfer_id) == "done", START_S)
    assert house.platform.get_account(login).balance == 600
    assert house.mirrored(login) == Money(60_000, "USD")
    assert house.ledger(chart.client_wallet(house.client_id, "USD")) == Money(40_000, "USD")
    house.prove()
