"""The audit trail cannot be altered unnoticed: not by the application, not by the owner, not by a superuser."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core import audit
from app.core.actor import Actor
from app.core.uow import unit_of_work

STAFF = Actor.staff(1)

CHANGES = [
    "UPDATE audit_entry SET reason = 'x'",
    "DELETE FROM audit_entry",
    "TRUNCATE audit_entry",
    "UPDATE audit_seal SET hash = 'x'",
    "DELETE FROM audit_seal",
    "TRUNCATE audit_seal",
    "UPDATE event SET payload = '{}'",
    "DELETE FROM event",
    "TRUNCATE event CASCADE",
]


@pytest.fixture
def session(database):
    with database.session() as session:
        yield session


def write(session: Session, count: int = 1, first: int = 0, **changes: object) -> None:
    with unit_of_work(session, STAFF) as unit:
        for number in range(first, first + count):
            unit.audit("test", f"row:{number}", before={"x": "é", "n": [1, None]}, after=changes, reason="why")
        unit.emit("test.done")


def refusals(session: Session) -> set[str]:
    """The codes with which the database refuses every kind of change."""
    codes = set()
    for statement in CHANGES:
        with pytest.raises(DBAPIError) as caught:
            session.execute(text(statement))
        codes.add(caught.value.orig.sqlstate)
        session.rollback()
    return codes


def test_append_only_for_the_application_and_for_the_owner(database, session):
    write(session)
    audit.seal(session)
    assert refusals(session) == {"42501"}  # no right to
    with database.owner_session() as owner:
        assert refusals(owner) == {"LW001"}


def test_seals_cover_every_entry_once(session):
    assert audit.seal(session) == 0
    write(session, 3)
    assert audit.seal(session) == 3
    assert audit.seal(session) == 0
    write(session, 2)
    assert audit.seal(session) == 2
    assert audit.broken_seals(session) == []
    rows = session.execute(text("SELECT entries, hash FROM audit_seal ORDER BY id")).all()
    assert [row.entries for row in rows] == [3, 2]
    assert len({row.hash for row in rows}) == 2


def test_a_long_trail_is_sealed_in_parts(session, monkeypatch):
    monkeypatch.setattr(audit, "LIMIT", 4)
    write(session, 10)
    assert [audit.seal(session) for _ in range(4)] == [4, 4, 2, 0]
    assert audit.broken_seals(session) == []


def test_transaction_ids_are_numbers(session, monkeypatch):
    """As texts 9 comes after 10: a seal that believed so would leave 9 out for ever."""
    monkeypatch.setattr(audit, "LIMIT", 2)
    with unit_of_work(session, STAFF):
        for xact in (9, 10, 11, 100):
            session.execute(
                text("INSERT INTO audit_entry (xact, actor, action, target) VALUES (:x, 'x', 'x', 'x')"), {"x": str(xact)}
            )
    assert [audit.seal(session) for _ in range(3)] == [2, 2, 0]
    assert audit.broken_seals(session) == []
    through = session.execute(text("SELECT through_xact::text FROM audit_seal ORDER BY id")).scalars().all()
    assert through == ["10", "100"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_entry SET reason = 'other' WHERE target = 'row:4'",
        "UPDATE audit_entry SET after = '{\"x\": 2}' WHERE target = 'row:4'",
        "UPDATE audit_entry SET before = NULL WHERE target = 'row:4'",
        "UPDATE audit_entry SET actor = 'staff:2' WHERE target = 'row:4'",
        "UPDATE audit_entry SET at = at + interval '1 second' WHERE target = 'row:4'",
        "DELETE FROM audit_entry WHERE target = 'row:4'",
        (
            "INSERT INTO audit_entry (id, xact, actor, action, target) SELECT -1, xact, actor, action, 'new' FROM audit_entry"
            " WHERE target = 'row:4'"
        ),
        "UPDATE audit_seal SET hash = sha256('x') WHERE id = (SELECT max(id) - 1 FROM audit_seal)",
    ],
)
def test_what_a_superuser_tampered_with_is_found_and_where(session, superuser, change):
    for first in (0, 3, 6):
        write(session, 3, first, x=1)
        audit.seal(session)
    assert audit.broken_seals(session) == []
    ids = session.execute(text("SELECT id FROM audit_seal ORDER BY id")).scalars().all()
    session.rollback()
    superuser.execute(text("SET session_replication_role = replica"))  # no trigger stops a superuser who means it
    superuser.execute(text(change))
    superuser.commit()
    broken = audit.broken_seals(session)
    assert ids[1] in broken
    assert ids[0] not in broken


def test_seals_hold_whatever_time_zone_the_server_shows(session):
    write(session)
    audit.seal(session)
    session.execute(text("SET TIME ZONE 'Asia/Tokyo'"))
    assert audit.broken_seals(session) == []


def test_an_entry_that_commits_late_is_sealed_later_and_none_is_left_out(database, session):
    """It took its id first and commits last: the seal waits for it rather than passing it."""
    with database.session() as slow, unit_of_work(slow, STAFF) as unit:
        unit.audit("test", "slow:1")
        slow.flush()
        write(session, 2)
        assert audit.seal(session) == 0
    assert audit.seal(session) == 3
    assert audit.broken_seals(session) == []


def test_two_sealers_at_once(database, session):
    write(session, 50)
    counts = []

    def run():
        with database.session() as own:
            counts.append(audit.seal(own))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(counts) == [0, 0, 0, 50]
    assert audit.broken_seals(session) == []
