"""The clock: a slot runs once, a failed one is given back, and every planned job can run on an empty house."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rq.cron import CronScheduler
from sqlalchemy import text

from app.core.tables import CronSlot
from app.jobs import cron, queues, schedule, tasks
from app.jobs.cron import SlotJob, slot_of
from app.jobs.schedule import PLAN, Planned, run_planned
from tests.integration.trading.house import in_threads

SLOT = "2026-01-05T10:00:00+00:00"


@pytest.fixture
def planned(app, monkeypatch):
    """A planned job that counts its runs; run it as a worker does."""
    runs: list[str] = []

    def function(session, settings):
        runs.append("run")
        session.execute(text("SELECT 1"))
        if len(runs) in failing:
            raise ConnectionError

    failing: set[int] = set()
    monkeypatch.setitem(schedule._BY_NAME, "counted", Planned("counted", "bulk", 60, function))

    def run(slot: str = SLOT) -> None:
        with app.app_context():
            run_planned("counted", slot)

    run.runs, run.failing = runs, failing
    return run


def test_a_slot_runs_once(planned):
    planned()
    planned()
    assert planned.runs == ["run"]
    planned("2026-01-05T10:01:00+00:00")
    assert planned.runs == ["run"] * 2


def test_workers_at_once_run_a_slot_once(planned):
    in_threads(*[planned] * 5)
    assert planned.runs == ["run"]


def test_a_failed_slot_is_given_back(planned, database):
    planned.failing.add(1)
    with pytest.raises(ConnectionError):
        planned()
    with database.session() as session:
        assert session.query(CronSlot).count() == 0
    planned()
    planned()
    assert planned.runs == ["run"] * 2


def test_two_schedulers_name_the_same_slot(redis, monkeypatch):
    moment = datetime(2026, 1, 5, 10, 0, 59, tzinfo=UTC)
    monkeypatch.setattr(cron, "now", lambda: moment)
    for _ in range(2):
        scheduler = CronScheduler(redis, logging_level="WARNING")
        scheduler.get_jobs().extend(SlotJob(planned) for planned in PLAN)
        assert len(scheduler.enqueue_jobs()) == len(PLAN)
        assert scheduler.enqueue_jobs() == []  # none is due again
    for planned in PLAN:
        found = [job for job in queues.queue(redis, planned.queue).jobs if job.kwargs["name"] == planned.name]
        assert [job.kwargs["slot"] for job in found] == [slot_of(moment, planned.every_s, planned.at_s).isoformat()] * 2
        assert {job.timeout for job in found} == {planned.timeout_s}


@pytest.mark.parametrize(
    ("every_s", "slot"), [(15, "10:00:45"), (60, "10:00:00"), (300, "10:00:00"), (3600, "10:00:00"), (86_400, "00:00:00")]
)
def test_slots_count_from_the_epoch(every_s, slot):
    moment = datetime(2026, 1, 5, 10, 0, 59, 999_999, tzinfo=UTC)
    assert slot_of(moment, every_s).strftime("%H:%M:%S") == slot
    assert slot_of(slot_of(moment, every_s), every_s) == slot_of(moment, every_s)


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        ("2026-01-05 01:59", "2026-01-04 02:00"),
        ("2026-01-05 02:00", "2026-01-05 02:00"),
        ("2026-01-05 23:59", "2026-01-05 02:00"),
    ],
)
def test_a_days_job_has_its_hour(now, slot):
    moment, begins = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (now, slot))
    assert slot_of(moment, 86_400, 2 * 3600) == begins


def test_every_planned_job_runs_on_an_empty_house(app, database):
    assert len({planned.name for planned in PLAN}) == len(PLAN)
    for planned in PLAN:
        with app.app_context():
            run_planned(planned.name, datetime.now(UTC).isoformat())
    with database.session() as session:
        slots = session.execute(text("SELECT job FROM cron_slot")).scalars().all()
    assert sorted(slots) == sorted(planned.name for planned in PLAN)


def test_what_is_old_is_forgotten(app, database):
    with database.session() as session:
        session.execute(
            text(
                "INSERT INTO cron_slot (job, slot) VALUES ('mirror_deals', now() - interval '8 days'), ('mirror_deals', now())"
            )
        )
        session.commit()
        with app.app_context():
            tasks.clean_up(session, app.extensions["settings"])
        kept = session.execute(text("SELECT job, now() - slot > interval '1 day' FROM cron_slot ORDER BY 1, 2")).all()
    assert [tuple(row) for row in kept] == [("mirror_deals", False)]
