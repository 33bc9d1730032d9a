"""A part of the house as a process of its own, with handlers and jobs that tests can watch.

Run as `python -m tests.integration.jobs.process worker|relay|cron`; the settings stand in the environment.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.tables import Event
from app.extensions import db
from app.jobs import cron, relay, worker
from app.jobs.handlers import HANDLERS, Handler
from config import Settings, load_settings

#: Redis keys: what the jobs below count and wait for.
PARENT_PID, JOB_PIDS, TRIES, GO = "test:parent", "test:pids", "test:tries", "test:go"


def leave_a_mark(session: Session, event: Event, settings: Settings) -> None:
    """An effect that shows how often it happened: a second one would break the key."""
    session.execute(text("INSERT INTO cron_slot (job, slot) VALUES (:job, 'epoch')"), {"job": f"effect:{event.id}"})


def always_fail(session: Session, event: Event, settings: Settings) -> None:
    leave_a_mark(session, event, settings)
    raise RuntimeError("never works")


TEST_HANDLERS = {
    "leave_a_mark": Handler(("test.mark", "test.both"), leave_a_mark),
    "always_fail": Handler(("test.fail", "test.both"), always_fail, queue="money"),
}


def explode(name: str) -> None:
    _redis().hincrby(TRIES, name)
    raise ZeroDivisionError


def be_killed(name: str, times: int) -> None:
    """Die like a process that ran out of memory, so many times."""
    if _redis().hincrby(TRIES, name) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def wait_for_go(name: str) -> None:
    redis = _redis()
    redis.hincrby(TRIES, name)
    deadline = time.monotonic() + 60
    while not redis.exists(GO) and time.monotonic() < deadline:
        time.sleep(0.05)


def tell_connection() -> None:
    _redis().rpush(JOB_PIDS, db.session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _redis() -> Redis:
    return Redis.from_url(os.environ["REDIS_URL"])


def _run_worker(settings: Settings) -> None:
    """The pool, whose parent has used the database before it forks."""
    real = worker.DatabaseWorkerPool.start

    def start(self: worker.DatabaseWorkerPool, **options: object) -> None:
        with worker.DatabaseWorker.application.app_context():
            _redis().set(PARENT_PID, db.session.execute(text("SELECT pg_backend_pid()")).scalar_one())
        real(self, **options)

    worker.MAINTENANCE_EVERY_S = 2
    worker.DatabaseWorkerPool.start = start  # type: ignore[method-assign]
    worker.run(settings)


PARTS = {"worker": _run_worker, "relay": relay.run, "cron": cron.run}

if __name__ == "__main__":
    HANDLERS.update(TEST_HANDLERS)
    PARTS[sys.argv[1]](load_settings())
