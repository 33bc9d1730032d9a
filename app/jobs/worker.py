"""The worker pool: forking RQ workers that share no database connection with their children."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import Flask
from redis.exceptions import RedisError
from rq import Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker_pool import WorkerPool

from app.core import heartbeat
from app.core.collector import calm_collector
from app.jobs import queues

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.jobs")

#: How often a worker looks for what dead ones left: their jobs, and the duty to enqueue retries. RQ's ten minutes would
#: let every retry wait so long after a power cut.
MAINTENANCE_EVERY_S = 30


class HorseKilled(Exception):
    """The process that ran a job was killed: by the kernel, for its time, or for its memory."""


class DatabaseWorker(Worker):
    """A forking worker whose children drop the inherited connection pool before their first query (RQ forks after
    SQLAlchemy may have connected; a shared socket would mix two conversations).
    """

    #: Set before the pool forks, so that every child finds it loaded.
    application: Flask

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # RQ waits for a job for 15 s less than the worker's time to live, then looks.
        rhythm = {"maintenance_interval": MAINTENANCE_EVERY_S, "worker_ttl": MAINTENANCE_EVERY_S + 15}
        super().__init__(*arguments, **{**options, **rhythm})

    def main_work_horse(self, job: Job, queue: Any) -> None:
        from app.extensions import db

        self.application.app_context().push()
        db.engine.dispose(close=False)
        calm_collector()
        super().main_work_horse(job, queue)

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """RQ calls no exception handler for a killed child; its job may have been the last try all the same."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)
        record_failure(job, HorseKilled, HorseKilled(f"waitpid returned {ret_val}"), None)


class DatabaseWorkerPool(WorkerPool):
    """A pool that gives a sign of life for as long as it has workers."""

    def check_workers(self, respawn: bool = True) -> None:  # noqa: FBT001, FBT002  # RQ's signature
        super().check_workers(respawn)
        if self.number_of_active_workers:
            with suppress(RedisError):
                heartbeat.beat(self.connection, "worker")


def record_failure(job: Job, _type: type, error: BaseException, _traceback: object) -> bool:
    """RQ exception handler: when a job has used up its retries, keep a row that staff can see and retry.

    RQ calls it before it takes one off `retries_left`, so 0 means that this try was the last. It is called in a job's child,
    and in the worker itself for jobs that a dead worker left behind.
    """
    if job.retries_left:
        log.warning("job will be retried id=%s function=%s error=%s", job.id, job.func_name, type(error).__name__)
        return True
    from app.core.actor import Actor
    from app.core.tables import JobFailure
    from app.core.uow import unit_of_work
    from app.extensions import db

    log.error("job failed for good id=%s function=%s error=%s", job.id, job.func_name, type(error).__name__)
    with DatabaseWorker.application.app_context(), unit_of_work(db.session(), Actor.system("jobs")) as unit:
        if not unit.session.query(JobFailure).filter_by(job_id=job.id).first():
            unit.session.add(
                JobFailure(
                    job_id=job.id, queue=job.origin, function=job.func_name, arguments=job.kwargs, error=type(error).__name__
                )
            )
    return True


def run(settings: Settings) -> None:
    """Run the pool until SIGTERM or SIGINT; running jobs finish first."""
    from app import create_app

    DatabaseWorker.application = create_app(settings)
    pool = DatabaseWorkerPool(
        list(queues.NAMES),
        connection=DatabaseWorker.application.extensions["redis_client"],
        num_workers=settings.workers,
        worker_class=DatabaseWorker,
        serializer=JSONSerializer,
        queue_class=queues.JSONQueue,
        exception_handlers=[record_failure],
    )
    pool.start(logging_level="WARNING")
