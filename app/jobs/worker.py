"""The worker pool: forking RQ workers that share no database connection with their children."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app
from rq import Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker_pool import WorkerPool

from app.jobs import queues

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.jobs")

#: The application of this worker process; set before the pool forks, so that every child finds it loaded.
_application: Flask | None = None


class DatabaseWorker(Worker):
    """A forking worker whose children drop the inherited connection pool before their first query (RQ forks after
    SQLAlchemy may have connected; a shared socket would mix two conversations).
    """

    def main_work_horse(self, job: Job, queue: Any) -> None:
        from app.extensions import db

        assert _application is not None
        context = _application.app_context()
        context.push()
        db.engine.dispose(close=False)
        super().main_work_horse(job, queue)


def record_failure(job: Job, _type: type, error: BaseException, _traceback: object) -> bool:
    """RQ exception handler: when a job has used up its retries, keep a row that staff can see and retry."""
    if job.retries_left:
        log.warning("job will be retried id=%s function=%s error=%s", job.id, job.func_name, type(error).__name__)
        return True
    from app.core.actor import Actor
    from app.core.tables import JobFailure
    from app.core.uow import unit_of_work
    from app.extensions import db

    log.error("job failed for good id=%s function=%s error=%s", job.id, job.func_name, type(error).__name__)
    db.session.rollback()
    with unit_of_work(db.session(), Actor.system("jobs")) as unit:
        if not unit.session.query(JobFailure).filter_by(job_id=job.id).first():
            unit.session.add(
                JobFailure(
                    job_id=job.id, queue=job.origin, function=job.func_name, arguments=job.kwargs, error=type(error).__name__
                )
            )
    return True


def run(settings: Settings) -> None:
    """Run the pool until SIGTERM or SIGINT; running jobs finish first."""
    global _application
    from app import create_app

    _application = create_app(settings)
    with _application.app_context():
        connection = current_app.extensions["redis_client"]
    pool = WorkerPool(
        list(queues.NAMES),
        connection=connection,
        num_workers=settings.workers,
        worker_class=DatabaseWorker,
        serializer=JSONSerializer,
        exception_handlers=[record_failure],
    )
    pool.start(logging_level="WARNING")
