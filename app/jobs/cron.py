"""The one cron process: puts the planned jobs on their queues, each slot once.

RQ's scheduler keeps its plan in memory and two of them double every run, so a run is named by its slot and the job claims
(job, slot) in PostgreSQL before it does anything.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from redis import Redis
from rq.cron import CronJob, CronScheduler
from rq.job import Job

from app.core.clock import now
from app.jobs import queues
from app.jobs.schedule import PLAN, Planned

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.cron")

DAY_S = 24 * 3600
LOOK_EVERY_S = 600


class SlotJob(CronJob):
    """A planned job that is enqueued our way: JSON, with retries, with the slot it stands for."""

    def __init__(self, planned: Planned) -> None:
        # RQ counts the interval from when this process began. A slot is run once however often it is put on the queue, so
        # a day's job is put there more often, and comes when it is due.
        super().__init__(
            queue_name=planned.queue,
            func_name="app.jobs.schedule.run_planned",
            interval=planned.every_s if planned.every_s < DAY_S else LOOK_EVERY_S,
            name=planned.name,
        )
        self.planned = planned

    def enqueue(self, connection: Redis) -> Job:
        slot = slot_of(now(), self.planned.every_s, self.planned.at_s)
        return queues.enqueue(
            connection,
            self.planned.queue,
            "app.jobs.schedule.run_planned",
            timeout_s=self.planned.timeout_s,
            name=self.planned.name,
            slot=slot.isoformat(),
        )


def slot_of(moment: datetime, every_s: int, at_s: int = 0) -> datetime:
    """The start of the interval that a moment lies in, counted from `at_s` seconds after the epoch."""
    return datetime.fromtimestamp((int(moment.timestamp()) - at_s) // every_s * every_s + at_s, UTC)


def run(settings: Settings) -> None:
    """Run the scheduler until SIGTERM or SIGINT."""
    from app.extensions import redis_client

    scheduler = CronScheduler(redis_client(settings.redis_url), logging_level="WARNING")
    scheduler.get_jobs().extend(SlotJob(planned) for planned in PLAN)
    scheduler.start()
