"""Delivering: the effect and its mark together, each event once, one failure for itself alone."""

from __future__ import annotations

import threading

import pytest
from rq.timeouts import JobTimeoutException
from sqlalchemy import text

from app.core.tables import Event
from app.core.uow import unit_of_work
from app.extensions import db
from app.jobs import relay
from app.jobs.deliver import deliver
from app.jobs.handlers import HANDLERS, Handler
from tests.integration.jobs.conftest import SYSTEM
from tests.integration.jobs.process import leave_a_mark
from tests.integration.trading.house import in_threads


@pytest.fixture
def session(database):
    with database.session() as session:
        yield session


@pytest.fixture
def told(session, redis, emit):
    """Tell facts and let the relay write their deliveries; returns their ids."""

    def tell(*types: str) -> list[int]:
        ids = emit(*types)
        relay.relay_new(session, redis)
        return ids

    return tell


@pytest.fixture
def work(app):
    def run(handler: str, ids: list[int]) -> None:
        with app.app_context():
            deliver(handler, ids)

    return run


@pytest.fixture
def handle(monkeypatch):
    """Register a handler for test.own."""

    def register(function, **options) -> None:
        monkeypatch.setitem(HANDLERS, "own", Handler(("test.own",), function, **options))

    return register


def effects(session) -> list[int]:
    rows = session.execute(text("SELECT job FROM cron_slot WHERE job LIKE 'effect:%' ORDER BY job")).scalars().all()
    session.rollback()
    return sorted(int(row.partition(":")[2]) for row in rows)


def state(session, event_id: int, handler: str) -> tuple[bool, str | None]:
    """(delivered?, error)"""
    row = session.execute(
        text("SELECT delivered_at IS NOT NULL AS done, error FROM delivery WHERE event_id = :id AND handler = :handler"),
        {"id": event_id, "handler": handler},
    ).one()
    session.rollback()
    return row.done, row.error


def test_effect_and_mark(session, told, work):
    ids = told("test.mark", "test.mark")
    work("leave_a_mark", ids)
    assert effects(session) == ids
    assert [state(session, event_id, "leave_a_mark") for event_id in ids] == [(True, None)] * 2
    work("leave_a_mark", ids)
    assert effects(session) == ids


def test_a_failing_handler_leaves_nothing_and_stays_open(session, told, work):
    (event_id,) = told("test.both")
    work("always_fail", [event_id])
    assert effects(session) == []
    assert state(session, event_id, "always_fail") == (False, "RuntimeError")
    work("leave_a_mark", [event_id])
    assert state(session, event_id, "leave_a_mark") == (True, None)
    assert state(session, event_id, "always_fail") == (False, "RuntimeError")


def test_one_failure_does_not_stop_the_others(session, told, work, handle):
    def picky(session, event, settings):
        leave_a_mark(session, event, settings)
        if event.id == bad:
            session.execute(text("SELECT 1 / 0"))

    handle(picky)
    good, bad, fine = told(*["test.own"] * 3)
    work("own", [good, bad, fine])
    assert effects(session) == [good, fine]
    assert [state(session, event_id, "own") for event_id in (good, bad, fine)] == [
        (True, None), (False, "DataError"), (True, None),
    ]  # fmt: skip


def test_a_later_success_clears_the_error(session, told, work, handle):
    calls = []

    def second_time(session, event, settings):
        calls.append(event.id)
        if len(calls) == 1:
            raise LookupError

    handle(second_time)
    ids = told("test.own")
    work("own", ids)
    work("own", ids)
    assert state(session, ids[0], "own") == (True, None)


def test_no_effect_without_a_delivery_row(session, emit, work):
    ids = emit("test.mark")
    work("leave_a_mark", [*ids, 999])
    assert effects(session) == []


def test_workers_at_once_have_one_effect(session, told, app):
    ids = told(*["test.mark"] * 5)

    def run():
        with app.app_context():
            deliver("leave_a_mark", ids)

    in_threads(*[run] * 4)
    assert effects(session) == ids
    assert [state(session, event_id, "leave_a_mark") for event_id in ids] == [(True, None)] * 5


def test_a_command_runs_outside_of_transactions_and_is_marked_after(session, told, work, handle):
    seen = []

    def command(own, event, settings):
        seen.append((event.id, event.type, own.in_transaction(), state(session, event.id, "own")[0]))
        with unit_of_work(own, SYSTEM):
            leave_a_mark(own, event, settings)

    handle(command, is_command=True)
    ids = told("test.own")
    work("own", ids)
    work("own", ids)
    assert seen == [(ids[0], "test.own", False, False)]
    assert (effects(session), state(session, ids[0], "own")) == (ids, (True, None))


def test_a_command_that_fails_keeps_what_it_committed_and_comes_again(session, told, work, handle):
    def stumbling(own, event, settings):
        done = own.execute(text("SELECT count(*) FROM cron_slot")).scalar()
        own.rollback()
        if not done:
            with unit_of_work(own, SYSTEM):
                leave_a_mark(own, event, settings)
            raise ConnectionError

    handle(stumbling, is_command=True)
    ids = told("test.own")
    work("own", ids)
    assert (effects(session), state(session, ids[0], "own")) == (ids, (False, "ConnectionError"))
    work("own", ids)
    assert (effects(session), state(session, ids[0], "own")) == (ids, (True, None))


def test_a_job_whose_time_is_over_ends_and_leaves_the_rest_open(session, told, work, handle):
    def slow(own, event, settings):
        leave_a_mark(own, event, settings)
        if event.id == second:
            raise JobTimeoutException

    handle(slow)
    first, second, third = told(*["test.own"] * 3)
    with pytest.raises(JobTimeoutException):
        work("own", [first, second, third])
    assert effects(session) == [first]
    assert state(session, second, "own") == (False, "JobTimeoutException")
    assert state(session, third, "own") == (False, None)


def test_the_mark_waits_for_the_effect(session, told, app, handle):
    """While the effect is not committed nobody sees the delivery as done."""
    started, go_on = threading.Event(), threading.Event()

    def slow(own, event, settings):
        leave_a_mark(own, event, settings)
        started.set()
        go_on.wait(timeout=10)

    handle(slow)
    ids = told("test.own")

    def run():
        with app.app_context():
            deliver("own", ids)

    def look():
        assert started.wait(timeout=10)
        before = (effects(session), state(session, ids[0], "own"))
        go_on.set()
        return before

    assert in_threads(run, look)[1] == ([], (False, None))
    assert (effects(session), state(session, ids[0], "own")) == (ids, (True, None))


def test_every_handler_can_be_called_and_listens_to_something():
    for name, handler in HANDLERS.items():
        assert handler.types, name
        assert handler.queue in ("money", "default", "bulk")
        assert handler.timeout_s > 0


def test_the_session_of_jobs_is_the_applications(app):
    with app.app_context():
        assert (
            db.session().get_bind().url.database == app.extensions["settings"].database_url.partition("?")[0].rsplit("/", 1)[1]
        )


def test_events_are_read_with_their_content(session, told, work, handle):
    read = {}
    handle(lambda own, event, settings: read.update(type=event.type, payload=event.payload, actor=event.actor))
    (event_id,) = told("test.own")
    work("own", [event_id])
    assert read == {"type": "test.own", "payload": {}, "actor": "system:test"}
    assert session.get_one(Event, event_id).type == "test.own"
