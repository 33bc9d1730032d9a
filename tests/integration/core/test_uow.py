"""The unit of work: together or not at all, nested ones join, and what is locked is read as it stands."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from app.core import errors
from app.core.actor import Actor
from app.core.errors import AppError
from app.core.locks import try_lock
from app.core.tables import AuditEntry, CronSlot, Event, JobFailure
from app.core.uow import unit_of_work

STAFF = Actor.staff(7, "10.0.0.9")


class Doubled(AppError):
    code = "test.doubled"


class Unbalanced(AppError):
    code = "test.unbalanced"


def failure(job_id: str = "a") -> JobFailure:
    return JobFailure(job_id=job_id, queue="money", function="f", arguments={}, error="E")


def committed(database, table=JobFailure) -> list:
    """What another connection sees."""
    with database.session() as other:
        return list(other.scalars(select(table)))


@pytest.fixture
def session(database):
    with database.session() as session:
        yield session


def test_changes_facts_and_trail_commit_together(database, session):
    with unit_of_work(session, STAFF) as unit:
        session.add(failure())
        unit.emit("test.done", subject_id=3, client_id=None, amount_minor=5)
        unit.audit("test.change", "job_failure:1", before=None, after={"x": 1}, reason="because")
        session.flush()
        assert committed(database) == []
    (row,) = committed(database)
    (fact,) = committed(database, Event)
    (entry,) = committed(database, AuditEntry)
    assert row.job_id == "a"
    assert (fact.type, fact.subject_id, fact.actor, fact.payload) == ("test.done", 3, "staff:7", {"amount_minor": 5})
    assert (entry.actor, entry.address, entry.target, entry.after, entry.reason) == (
        "staff:7", "10.0.0.9", "job_failure:1", {"x": 1}, "because",
    )  # fmt: skip
    assert int(fact.xact) == int(entry.xact)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, AppError])
def test_an_error_leaves_nothing(database, session, error):
    with pytest.raises(error), unit_of_work(session, STAFF) as unit:  # noqa: PT012  # the error comes last
        session.add(failure())
        unit.emit("test.done")
        session.flush()
        raise error
    assert committed(database) == committed(database, Event) == []
    with unit_of_work(session, STAFF):
        session.add(failure())
    assert len(committed(database)) == 1


def test_an_inner_unit_joins_the_outer(database, session):
    with unit_of_work(session, STAFF) as outer:
        with unit_of_work(session, Actor.system("inner")) as inner:
            assert inner is outer
            session.add(failure())
        assert committed(database) == []
    assert len(committed(database)) == 1


def test_an_outer_failure_takes_the_inner_back(database, session):
    with pytest.raises(RuntimeError), unit_of_work(session, STAFF):  # noqa: PT012
        with unit_of_work(session, STAFF):
            session.add(failure())
        raise RuntimeError
    assert committed(database) == []


def test_two_sessions_are_two_units(database, session):
    with unit_of_work(session, STAFF) as first, database.session() as other:
        with unit_of_work(other, STAFF) as second:
            assert second is not first
            other.add(failure("b"))
        assert len(committed(database)) == 1


def test_database_errors_become_typed_ones(session, monkeypatch):
    monkeypatch.setattr(errors, "_BY_CONSTRAINT", {"uq_job_failure_job_id": Doubled})
    with pytest.raises(Doubled) as caught, unit_of_work(session, STAFF):
        session.add_all([failure(), failure()])
    assert isinstance(caught.value.__cause__, IntegrityError)
    with unit_of_work(session, STAFF):
        session.add(failure())


def test_errors_of_the_commit_itself_become_typed_ones(database, session, monkeypatch):
    with database.owner_session() as owner:
        owner.execute(text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                           " RAISE EXCEPTION 'x' USING ERRCODE = 'XX999'; END $$"))  # fmt: skip
        owner.execute(text("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON job_failure DEFERRABLE INITIALLY DEFERRED"
                           " FOR EACH ROW EXECUTE FUNCTION refuse()"))  # fmt: skip
        owner.commit()
    monkeypatch.setattr(errors, "_BY_SQLSTATE", {"XX999": Unbalanced})
    with pytest.raises(Unbalanced), unit_of_work(session, STAFF):  # noqa: PT012  # the commit raises
        session.add(failure())
        session.flush()
    assert committed(database) == []


def test_a_database_error_that_nobody_mapped_stays_itself(session):
    with pytest.raises(IntegrityError), unit_of_work(session, STAFF):
        session.add_all([failure(), failure()])


def test_a_row_that_is_locked_is_read_as_it_stands_then(database, session):
    """The page's guard loaded it; somebody changed it; the use case locks it and must see the change."""
    with unit_of_work(session, STAFF):
        session.add(failure())
    loaded = session.scalars(select(JobFailure)).one()
    assert loaded.error == "E"
    with database.session() as other, unit_of_work(other, STAFF):
        other.scalars(select(JobFailure).with_for_update()).one().error = "changed"
    with unit_of_work(session, STAFF):
        assert session.get_one(JobFailure, loaded.id).error == "E"
        assert session.get_one(JobFailure, loaded.id, with_for_update=True).error == "changed"
    with database.session() as other, unit_of_work(other, STAFF):
        other.scalars(select(JobFailure)).one().error = "again"
    assert session.scalars(select(JobFailure).with_for_update()).one().error == "again"


def test_a_lock_on_a_row_keeps_what_was_changed_before(session):
    with unit_of_work(session, STAFF):
        session.add(failure())
    with unit_of_work(session, STAFF):
        row = session.scalars(select(JobFailure)).one()
        row.error = "mine"
        session.get_one(JobFailure, row.id, with_for_update=True)
        assert row.error == "mine"
    assert session.scalars(select(JobFailure)).one().error == "mine"


def test_named_locks_exclude_each_other_and_end_with_the_transaction(database, session):
    with database.session() as other:
        with unit_of_work(session, STAFF):
            assert try_lock(session, "operation:1")
            assert not try_lock(other, "operation:1")
            assert try_lock(other, "operation:2")
        assert try_lock(other, "operation:1")


def test_holding_a_named_lock_holds_nobody_up(database, session):
    """Events committed behind it are readable below the oldest running transaction, so the relay goes on."""
    behind = text("SELECT count(*) FROM event WHERE xact < pg_snapshot_xmin(pg_current_snapshot())")
    with unit_of_work(session, STAFF), database.session() as other:
        try_lock(session, "operation:1")
        with unit_of_work(other, STAFF) as unit:
            unit.emit("test.done")
        assert other.execute(behind).scalar() == 1


def test_a_lock_dies_with_its_holder(database, session, superuser):
    with database.session() as holder:
        assert try_lock(holder, "operation:1")
        assert not try_lock(session, "operation:1")
        pid = holder.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert superuser.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}).scalar()
        assert try_lock(session, "operation:1")
        holder.invalidate()


def test_slots_are_unique(session):
    with unit_of_work(session, STAFF):
        session.execute(text("INSERT INTO cron_slot (job, slot) VALUES ('a', '2026-01-01Z')"))
    with pytest.raises(IntegrityError), unit_of_work(session, STAFF):
        session.execute(text("INSERT INTO cron_slot (job, slot) VALUES ('a', '2026-01-01Z')"))
    assert len(session.scalars(select(CronSlot)).all()) == 1
