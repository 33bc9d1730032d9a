"""Jobs that used up their retries: tried again when a person says so."""

from __future__ import annotations

from redis import Redis
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict, NotFound
from app.core.tables import JobFailure
from app.core.uow import unit_of_work
from app.jobs import queues


class AlreadyRetried(Conflict):
    code = "jobs.already_retried"
    message = N_("This job was put on its queue again a moment ago.")


def retry(session: Session, redis: Redis, failure_id: int, actor: Actor) -> None:
    """Put the job on its queue again, with the same arguments and all its tries. Raises NotFound, AlreadyRetried.

    The row says so first: a job that fails again gets a row of its own.
    """
    with unit_of_work(session, actor) as unit:
        failure = session.get(JobFailure, failure_id, with_for_update=True)
        if failure is None:
            raise NotFound()
        if failure.retried_at is not None:
            raise AlreadyRetried()
        failure.retried_at = now()
        unit.audit("job.retried", f"job_failure:{failure.id}", after={"function": failure.function})
        queue, function, arguments = failure.queue, failure.function, dict(failure.arguments)
    queues.enqueue(redis, queue, function, **arguments)
