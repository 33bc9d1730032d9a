"""The tree of IBs: uplines as they stood, moves with their history, and what the database refuses."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app import migrate
from app.core.actor import Actor
from app.core.errors import AppError, InvalidInput
from app.core.tables import AuditEntry, Event
from app.models.clients import Client
from app.models.partners import Attribution, IBParent
from app.partners import links
from app.partners.attribution import attribute_client
from app.partners.branches import BranchIB, ClientSpan, branch, history_of_client
from app.partners.errors import CircleOfIBs, MoveTooEarly, NothingToMove, OwnDownline
from app.partners.tree import move_client, place_ib, upline_at, uplines

STAFF = Actor.staff(1, "10.0.0.1")
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
_numbers = itertools.count(1)


def client(session: Session) -> int:
    row = Client(
        email=f"tree{next(_numbers)}@example.com",
        password_hash="x",
        first_name="Amira",
        last_name="Haddad",
        country="AE",
        terms_version="1",
        terms_accepted_at=NOON,
    )
    session.add(row)
    session.flush()
    return row.id


def ib(session: Session) -> int:
    return links.make_ib(session, client(session), "USD", STAFF).id


def place(session: Session, ib_id: int, parent_id: int | None, at: datetime = NOON) -> None:
    place_ib(session, ib_id, parent_id, at, "agreed", STAFF)


def test_a_move_takes_the_branch_along_and_the_past_stays(session: Session) -> None:
    low, middle, old, new = (ib(session) for _ in range(4))
    place(session, low, middle)
    place(session, middle, old)
    place(session, middle, new, NOON + DAY)

    spans = uplines(session, [low])

    assert upline_at(spans, low, NOON) == (low, middle, old)
    assert upline_at(spans, low, NOON + DAY) == (low, middle, new)
    assert session.scalars(select(Event.payload["parent_id"]).where(Event.type == "ib.placed").order_by(Event.id)).all() == [
        middle,
        old,
        new,
    ]
    after = session.scalars(select(AuditEntry.after).where(AuditEntry.action == "ib.placed").order_by(AuditEntry.id)).all()
    assert after[-1] == {"parent_id": new, "at": (NOON + DAY).isoformat()}
    assert set(session.scalars(select(AuditEntry.reason).where(AuditEntry.action == "ib.placed"))) == {"agreed"}


def test_an_ib_can_stand_under_nobody_again(session: Session) -> None:
    low, high = ib(session), ib(session)
    place(session, low, high)
    place(session, low, None, NOON + DAY)
    assert upline_at(uplines(session, [low]), low, NOON + DAY) == (low,)
    with pytest.raises(NothingToMove):
        place(session, low, None, NOON + 2 * DAY)
    with pytest.raises(MoveTooEarly):
        place(session, low, high, NOON + DAY / 2)


def test_a_move_before_the_present_place_began_and_one_without_a_reason_are_refused(session: Session) -> None:
    low, old, new = (ib(session) for _ in range(3))
    place(session, low, old)
    with pytest.raises(MoveTooEarly):
        place(session, low, new, NOON)
    with pytest.raises(InvalidInput):
        place_ib(session, low, new, NOON + DAY, "  ", STAFF)


def test_circles_are_refused_also_when_they_close_in_the_past_only(session: Session) -> None:
    a, b, c = (ib(session) for _ in range(3))
    place(session, a, b)
    place(session, b, c)
    for ib_id in (a, b, c):
        with pytest.raises(CircleOfIBs):
            place(session, c, ib_id)
    place(session, a, None, NOON + DAY)
    with pytest.raises(CircleOfIBs):
        place(session, c, a, NOON + DAY / 2)
    place(session, c, a, NOON + DAY)
    assert upline_at(uplines(session, [b]), b, NOON + DAY) == (b, c, a)


def test_two_sessions_cannot_close_a_circle_together(database) -> None:
    with database.session() as session:
        a, b = ib(session), ib(session)
        session.commit()
    outcomes: list[object] = []
    start = threading.Barrier(2)

    def move(ib_id: int, parent_id: int) -> None:
        with database.session() as own:
            start.wait(10)
            try:
                place(own, ib_id, parent_id)
                outcomes.append("placed")
            except AppError as error:
                outcomes.append(error.code)

    threads = [threading.Thread(target=move, args=pair) for pair in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(str, outcomes)) == ["partners.circle", "placed"]


def test_a_client_is_moved_with_its_history_but_never_into_its_own_branch(session: Session) -> None:
    person = client(session)
    old, new = ib(session), ib(session)
    move_client(session, person, old, NOON, "brought by phone", STAFF)
    move_client(session, person, new, NOON + DAY, "asked for it", STAFF)
    spans = session.execute(
        select(Attribution.ib_id, Attribution.source, Attribution.valid_from, Attribution.valid_to)
        .where(Attribution.client_id == person)
        .order_by(Attribution.id)
    ).all()
    assert [tuple(span) for span in spans] == [
        (old, "manual", NOON, NOON + DAY),
        (new, "manual", NOON + DAY, None),
    ]
    own = links.make_ib(session, person, "USD", STAFF).id
    assert session.scalar(select(IBParent.parent_id).where(IBParent.ib_id == own)) == new
    below = ib(session)
    place(session, below, own)
    for ib_id in (own, below):
        with pytest.raises(OwnDownline):
            move_client(session, person, ib_id, NOON + 2 * DAY, "a trick", STAFF)


def test_an_ib_whose_client_the_own_upline_is_cannot_be_placed_below_it(session: Session) -> None:
    person = client(session)
    own, other = links.make_ib(session, person, "USD", STAFF).id, ib(session)
    move_client(session, person, other, NOON, "agreed", STAFF)
    with pytest.raises(OwnDownline):
        place(session, other, own)


def test_the_migration_places_ibs_under_those_who_brought_them(database) -> None:
    with database.session() as session:
        high = ib(session)
        link = links.create_link(session, high, "Website", STAFF)
        person = client(session)
        attribute_client(session, client_id=person, link_code=link.code, at=NOON, source="link")
        low = links.make_ib(session, person, "USD", STAFF).id
        session.commit()
    database.dispose()
    migrate.downgrade(database.settings, "0003")
    migrate.upgrade(database.settings)
    with database.owner_session() as session:
        found = session.execute(text("SELECT ib_id, parent_id, valid_to, set_by FROM ib_parent")).all()
        assert [tuple(row) for row in found] == [(low, high, None, "system:migration")]


def test_the_branch_is_that_of_the_moment_with_its_clients(session: Session) -> None:
    top, middle, low = (ib(session) for _ in range(3))
    place(session, middle, top)
    place(session, low, middle)
    place(session, middle, None, NOON + 2 * DAY)
    move_client(session, client(session), low, NOON + DAY, "by phone", STAFF)

    assert branch(session, top, NOON + DAY) == [
        BranchIB(middle, top, 1, "Amira H.", 0, NOON),
        BranchIB(low, middle, 2, "Amira H.", 1, NOON),
    ]
    assert [(below.ib_id, below.clients) for below in branch(session, top, NOON)] == [(middle, 0), (low, 0)]
    assert [below.ib_id for below in branch(session, top, NOON + DAY, limit=1)] == [middle]
    assert branch(session, top, NOON + 2 * DAY) == []


def test_the_history_of_a_client_tells_the_link_and_the_moves(session: Session) -> None:
    old, new, person = ib(session), ib(session), client(session)
    code = links.create_link(session, old, "Website", STAFF).code
    attribute_client(session, client_id=person, link_code=code, at=NOON, source="link")
    move_client(session, person, new, NOON + DAY, "asked for it", STAFF)

    assert history_of_client(session, person) == [
        ClientSpan(old, "Amira Haddad", "link", code, NOON, NOON + DAY),
        ClientSpan(new, "Amira Haddad", "manual", "", NOON + DAY, None, str(STAFF), "asked for it"),
    ]
