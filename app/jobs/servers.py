"""Work on trading servers that must not wait for each other: a job for each server, so that one that is sick holds up none.

Such a job is on the queue once: what is waiting or under way already is not asked for again.
"""

from __future__ import annotations

from flask import current_app
from rq.job import JobStatus
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.extensions import db
from app.jobs import queues
from app.models.metatrader import Server

QUEUE = "bulk"
#: How long each may take. A name is a function of app.jobs.tasks.
TIMEOUTS_S = {"sweep_server": 1_800, "check_server": 4 * 3_600, "restore_balances": 600, "refetch_server": 120}
#: Queues of the tasks that should not wait behind sweeps.
QUEUES = {"refetch_server": "default"}
#: States in which a job will still run, or is running.
_UNDER_WAY = (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED)


def fan_out(session: Session, task: str) -> None:
    """A job for each active server."""
    server_ids = session.scalars(select(Server.id).where(Server.is_active).order_by(Server.id)).all()
    session.rollback()
    for server_id in server_ids:
        enqueue(task, server_id)


def enqueue(task: str, server_id: int, **arguments: str) -> None:
    """Put one server's job on the queue, unless it is there. `arguments` are texts and tell jobs apart."""
    connection = current_app.extensions["redis_client"]
    queue_name = QUEUES.get(task, QUEUE)
    job_id = "-".join([task, str(server_id), *arguments.values()])
    known = queues.queue(connection, queue_name).fetch_job(job_id)
    if known is not None and known.get_status() in _UNDER_WAY:
        return
    queues.enqueue(
        connection,
        queue_name,
        "app.jobs.servers.run_task",
        timeout_s=TIMEOUTS_S[task],
        job_id=job_id,
        task=task,
        server_id=server_id,
        **arguments,
    )


def run_task(task: str, server_id: int, **arguments: str) -> None:
    """The job: one of the functions named above, for one server."""
    from app.jobs import tasks

    functions = {name: getattr(tasks, name) for name in TIMEOUTS_S}
    functions[task](db.session(), current_app.extensions["settings"], server_id, **arguments)
