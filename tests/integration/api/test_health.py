"""/healthz: up when every part is, else down with the reason."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from rq.cron import CronScheduler
from rq.registry import ScheduledJobRegistry

from app import create_app, migrate
from app.core import heartbeat
from app.jobs import queues

UP = {
    "database": "up", "redis": "up", "worker": "up", "relay": "up", "ingest": "up", "cron": "up", "retries": "up",
}  # fmt: skip


@pytest.fixture
def ask(app):
    def get(made=app):
        answer = made.test_client().get("/healthz")
        return answer.status_code, answer.json

    return get


@pytest.fixture
def all_up(redis):
    """Every part gives its sign of life, as its process does."""
    for name in ("worker", "relay", "ingest"):
        heartbeat.beat(redis, name)
    scheduler = CronScheduler(redis, logging_level="WARNING")
    scheduler.register_birth()
    scheduler.heartbeat()
    yield scheduler
    scheduler.register_death()


def test_all_is_up(ask, all_up):
    assert ask() == (200, {"status": "up", "parts": UP})


def test_nothing_is_there(ask):
    assert ask() == (
        503,
        {
            "status": "down",
            "parts": {
                **UP, "worker": "not running", "relay": "not running", "ingest": "not running", "cron": "no cron process",
            },
        },
    )  # fmt: skip


@pytest.mark.parametrize("name", ["worker", "relay", "ingest"])
def test_a_part_that_fell_silent(ask, all_up, redis, name):
    redis.set(f"heartbeat:{name}", time.time() - heartbeat.STALE_AFTER_S - 1)
    assert ask() == (503, {"status": "down", "parts": {**UP, name: "not running"}})


def test_retries_that_nobody_enqueues(ask, all_up, redis):
    registry = ScheduledJobRegistry("money", connection=redis)
    redis.zadd(registry.key, {"job-1": time.time() - 60, "job-2": time.time() + 600})
    assert ask()[0] == 200
    redis.zadd(registry.key, {"job-1": time.time() - 300})
    assert ask() == (503, {"status": "down", "parts": {**UP, "retries": "1 overdue"}})
    assert queues.NAMES[0] == "money"


def test_a_database_of_an_older_version(ask, all_up, database, app):
    with database.owner_session() as owner:
        owner.connection().exec_driver_sql("UPDATE alembic_version SET version_num = 'older'")
        owner.commit()
    newest = migrate.revisions(app.extensions["settings"])[1]
    assert ask() == (503, {"status": "down", "parts": {**UP, "database": f"needs migration to {newest}"}})


def test_servers_that_cannot_be_reached(ask, app, database, all_up):
    away = replace(
        database.settings,
        database_url="postgresql+psycopg://x:x@/x?host=/nowhere",
        redis_url="unix:///nowhere/valkey.sock",
    )
    status, answer = ask(create_app(away))
    assert (status, answer) == (503, {"status": "down", "parts": {"database": "unreachable", "redis": "unreachable"}})
