"""The three queues and the one way to put a job on them.

Jobs carry ids only, as JSON. Every job has a time-out and a retry policy: RQ starts a job again after a crash only when
it has one.

Who enqueues: the relay what follows from facts (relay.py), cron what is due by the clock (cron.py), a job of theirs the same
work for each trading server (servers.py), and the Connections page a sweep that staff want now, or a failed job once more
(failures.py). What must not be lost is a fact first: Redis may forget a queue, and only the relay and the clock come back.
"""

from __future__ import annotations

from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job, Retry
from rq.serializers import JSONSerializer

#: Order is priority: a worker empties `money` first.
NAMES = ("money", "default", "bulk")

RETRY_INTERVALS_S = [1, 5, 30, 120, 600]


class JSONQueue(Queue):
    """A queue of JSON jobs, also where RQ itself makes one and names no serializer, as its worker pool does: the worker
    that finds the jobs of a dead one would stumble over them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "serializer": JSONSerializer})


def queue(connection: Redis, name: str) -> Queue:
    return JSONQueue(name, connection=connection)


def enqueue(
    connection: Redis,
    queue_name: str,
    function: str,
    /,
    *,
    timeout_s: int = 120,
    job_id: str | None = None,
    **arguments: object,
) -> Job:
    """Put a job on a queue. `function` is its dotted path; `arguments` are JSON values, ids by convention."""
    return queue(connection, queue_name).enqueue_call(
        func=function,
        kwargs=arguments,
        timeout=timeout_s,
        retry=Retry(max=len(RETRY_INTERVALS_S), interval=RETRY_INTERVALS_S),
        job_id=job_id,
        result_ttl=300,
        failure_ttl=7 * 24 * 3600,
    )
