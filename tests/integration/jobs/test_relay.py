"""The relay: every committed event reaches its handlers' queues, in order of commit, whatever is lost on the way."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.serializers import JSONSerializer
from sqlalchemy import text

from app.core import live
from app.core.uow import unit_of_work
from app.jobs import queues, relay
from tests.integration.jobs.conftest import SYSTEM
from tests.integration.trading.house import add_client, in_threads


@pytest.fixture
def session(database):
    with database.session() as session:
        yield session


def jobs(redis, queue: str = "default") -> list[tuple[str, list[int]]]:
    """(handler, event ids) of the queued jobs."""
    found = queues.queue(redis, queue).jobs
    assert all(job.serializer is JSONSerializer and job.args in ((), []) for job in found)
    return [(job.kwargs["handler"], job.kwargs["event_ids"]) for job in found]


def deliveries(session) -> dict[tuple[int, str], int]:
    rows = session.execute(text("SELECT event_id, handler, attempts FROM delivery ORDER BY 1, 2")).all()
    session.rollback()
    return {(row.event_id, row.handler): row.attempts for row in rows}


def age(session, seconds: float) -> None:
    """Let all open deliveries have been enqueued so long ago."""
    with unit_of_work(session, SYSTEM):
        session.execute(text("UPDATE delivery SET enqueued_at = now() - make_interval(secs => :s)"), {"s": seconds})


def test_events_reach_the_queues_of_their_handlers(session, redis, emit):
    first, second, third = emit("test.mark", "test.both", "test.nobody")
    assert relay.relay_new(session, redis) is False
    assert jobs(redis) == [("leave_a_mark", [first, second])]
    assert jobs(redis, "money") == [("always_fail", [second])]
    assert set(deliveries(session)) == {(first, "leave_a_mark"), (second, "leave_a_mark"), (second, "always_fail")}
    relay.relay_new(session, redis)
    assert len(jobs(redis)) == 1
    (fourth,) = emit("test.mark")
    relay.relay_new(session, redis)
    assert jobs(redis)[1:] == [("leave_a_mark", [fourth])]
    assert third < fourth


def test_many_events_go_in_jobs_of_a_hundred(session, redis, emit, monkeypatch):
    monkeypatch.setattr(relay, "READ_LIMIT", 200)
    ids = emit(*["test.mark"] * 250)
    assert [relay.relay_new(session, redis) for _ in range(2)] == [True, False]
    assert [event_ids for _, event_ids in jobs(redis)] == [ids[:100], ids[100:200], ids[200:]]


def test_an_event_that_took_its_id_early_and_commits_late_is_not_skipped(database, session, redis, emit):
    """Reading by `id >` would see 2, remember it, and never look at 1."""
    with database.session() as slow, unit_of_work(slow, SYSTEM) as unit:
        unit.emit("test.mark")
        slow.flush()
        (quick,) = emit("test.mark")
        relay.relay_new(session, redis)
        assert jobs(redis) == []
    relay.relay_new(session, redis)
    assert jobs(redis) == [("leave_a_mark", [quick - 1, quick])]


def test_a_transaction_that_began_early_and_tells_late_is_not_skipped(database, session, redis, emit):
    """It has the lower transaction id and the higher event id."""
    with database.session() as slow, unit_of_work(slow, SYSTEM) as unit:
        slow.execute(text("SELECT pg_current_xact_id()"))
        (quick,) = emit("test.mark")
        relay.relay_new(session, redis)
        unit.emit("test.mark")
    relay.relay_new(session, redis)
    (late,) = emit("test.mark")
    relay.relay_new(session, redis)
    assert [event_ids for _, event_ids in jobs(redis)] == [[quick + 1, quick], [late]]


def test_transaction_ids_are_numbers(session, redis, monkeypatch):
    """As texts 9 comes after 10: a reader that believed so would pass 9 over for ever."""
    monkeypatch.setattr(relay, "READ_LIMIT", 2)
    with unit_of_work(session, SYSTEM):
        for xact in (9, 10, 11, 100):
            session.execute(text("INSERT INTO event (xact, type, actor) VALUES (:x, 'test.mark', 'x')"), {"x": str(xact)})
    while relay.relay_new(session, redis):
        pass
    assert [event_ids for _, event_ids in jobs(redis)] == [[1, 2], [3, 4]]


def test_what_was_rolled_back_is_nothing(database, session, redis):
    with database.session() as other:
        other.execute(text("INSERT INTO event (type, actor) VALUES ('test.mark', 'x')"))
        other.rollback()
    relay.relay_new(session, redis)
    assert jobs(redis) == []


def test_relays_at_once_deliver_once(database, session, redis, emit):
    ids = emit(*["test.mark"] * 60)

    def work():
        with database.session() as own:
            for _ in range(5):
                relay.relay_new(own, redis)

    in_threads(*[work] * 4)
    assert Counter(event_id for _, event_ids in jobs(redis) for event_id in event_ids) == Counter(ids)
    assert len(deliveries(session)) == 60


def test_a_second_relay_stands_by(database):
    engine = database._engine(database.settings.database_url)

    def session():
        return relay.Session(engine.connect())

    with session() as first, session() as second:
        with relay.single_relay(first) as mine, relay.single_relay(second) as others:
            assert (mine, others) == (True, False)
            first.execute(text("SELECT 1"))
            first.commit()
            with relay.single_relay(second) as still_others:
                assert not still_others
        with relay.single_relay(second) as mine:
            assert mine
        for used in (first, second):
            used.connection().close()


def test_a_client_is_told_that_there_is_news(session, redis, emit):
    client_id = add_client(session)
    with redis.pubsub() as channel:
        channel.subscribe(live.channel(client_id))
        channel.get_message(timeout=5)
        emit("test.nobody", client_id=client_id)
        relay.relay_new(session, redis)
        assert json.loads(channel.get_message(timeout=5)["data"]) == {"type": "test.nobody"}


def test_what_redis_lost_is_enqueued_again(session, redis, emit):
    ids = emit("test.mark", "test.mark")
    relay.relay_new(session, redis)
    redis.flushall()
    age(session, 14)
    relay.redeliver(session, redis)
    assert jobs(redis) == []
    age(session, 16)
    relay.redeliver(session, redis)
    assert [(name, sorted(event_ids)) for name, event_ids in jobs(redis)] == [("leave_a_mark", ids)]
    assert set(deliveries(session).values()) == {1}
    age(session, 16)
    relay.redeliver(session, redis)
    assert len(jobs(redis)) == 1  # the second wait is twice as long


def test_what_was_delivered_is_not_enqueued_again(session, redis, emit):
    emit("test.mark")
    relay.relay_new(session, redis)
    with unit_of_work(session, SYSTEM):
        session.execute(text("UPDATE delivery SET delivered_at = now(), enqueued_at = now() - interval '1 day'"))
    redis.flushall()
    relay.redeliver(session, redis)
    assert jobs(redis) == []


@pytest.mark.parametrize(("error", "comes_again"), [("RuntimeError", False), (None, True)])
def test_failing_ends_at_last_but_waiting_never_does(session, redis, emit, error, comes_again):
    emit("test.mark")
    relay.relay_new(session, redis)
    redis.flushall()
    with unit_of_work(session, SYSTEM):
        session.execute(
            text("UPDATE delivery SET attempts = 2000, error = :error, enqueued_at = now() - interval '61 minutes'"),
            {"error": error},
        )
    relay.redeliver(session, redis)
    assert bool(jobs(redis)) is comes_again


def test_a_relay_that_died_before_it_enqueued(session, redis, emit, monkeypatch):
    (event_id,) = emit("test.mark")
    with monkeypatch.context() as patch:
        patch.setattr(queues, "enqueue", lambda *_, **__: (_ for _ in ()).throw(RedisConnectionError()))
        with pytest.raises(RedisConnectionError):
            relay.relay_new(session, redis)
    relay.relay_new(session, redis)
    assert jobs(redis) == []
    age(session, 16)
    relay.redeliver(session, redis)
    assert jobs(redis) == [("leave_a_mark", [event_id])]


def test_a_handler_that_is_gone_is_passed_over(session, redis, emit):
    (event_id,) = emit("test.nobody")
    with unit_of_work(session, SYSTEM):
        session.execute(
            text("INSERT INTO delivery (event_id, handler, enqueued_at) VALUES (:id, 'retired', now() - interval '1 day')"),
            {"id": event_id},
        )
    relay.redeliver(session, redis)
    assert jobs(redis) == jobs(redis, "money") == []
