"""Moves of clients, IBs and branches with four eyes, and what the database lets nobody rewrite."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError, InvalidInput, NotFound
from app.core.tables import AuditEntry, Event
from app.ledger.errors import NotYourRequest, OwnRequest, RequestDecided
from app.models.clients import Client
from app.models.partner_moves import PartnerMove
from app.models.partners import Attribution, IBParent, IntroducingBroker
from app.partners import cancelling, directory, links, moves, tree
from app.partners.branches import ClientSpan, PlaceSpan, history_of_client, places_of_ib
from app.partners.errors import (
    CircleOfIBs,
    MoveBuiltUpon,
    MovedMeanwhile,
    MoveNotCancellable,
    MoveTooEarly,
    MoveWaiting,
    NoClientsToMove,
    NothingToMove,
    OwnDownline,
)
from tests.integration.waiting import until_somebody_waits

ONE, OTHER = Actor.staff(1, "10.0.0.1"), Actor.staff(2, "10.0.0.2")
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TODAY = now().replace(minute=0, second=0, microsecond=0)
_numbers = itertools.count(1)


def client(session: Session) -> int:
    row = Client(
        email=f"moved{next(_numbers)}@example.com",
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


def ib(session: Session, client_id: int | None = None) -> int:
    return links.make_ib(session, client_id or client(session), "USD", ONE).id


def brought(session: Session, ib_id: int, since: datetime = NOON, client_id: int | None = None) -> int:
    client_id = client_id or client(session)
    tree.move_client(session, client_id, ib_id, since, "by phone", ONE)
    return client_id


def propose(session: Session, kind: str, subject_id: int, target_id: int | None, at: datetime | None = NOON + DAY) -> int:
    return moves.propose_move(
        session, kind=kind, subject_id=subject_id, target_id=target_id, effective_at=at, reason="agreed", actor=ONE
    ).id


def owners(session: Session, client_id: int) -> list[tuple[int, datetime, datetime | None]]:
    spans = select(Attribution).where(Attribution.client_id == client_id).order_by(Attribution.valid_from)
    return [(span.ib_id, span.valid_from, span.valid_to) for span in session.scalars(spans)]


def test_a_client_moves_when_somebody_else_approves(session: Session) -> None:
    old, new = ib(session), ib(session)
    person = brought(session, old)
    move_id = propose(session, "client", person, new)
    assert owners(session, person) == [(old, NOON, None)]
    with pytest.raises(OwnRequest):
        moves.approve_move(session, move_id, actor=ONE)

    move = moves.approve_move(session, move_id, actor=OTHER)

    assert owners(session, person) == [(old, NOON, NOON + DAY), (new, NOON + DAY, None)]
    assert (move.status, move.from_id, move.moved, move.decided_by) == ("approved", old, 1, str(OTHER))
    assert session.scalars(select(Attribution.client_id).where(Attribution.move_id == move_id)).all() == [person]
    moved = session.scalars(select(AuditEntry).where(AuditEntry.action == "client.moved").order_by(AuditEntry.id)).all()[-1]
    assert moved.after == {"ib_id": new, "at": (NOON + DAY).isoformat(), "move_id": move_id}
    actions = session.scalars(
        select(AuditEntry.action).where(AuditEntry.target == f"partner_move:{move_id}").order_by(AuditEntry.id)
    )
    assert list(actions) == ["partner_move.propose", "partner_move.approve"]
    with pytest.raises(RequestDecided):
        moves.approve_move(session, move_id, actor=OTHER)


def test_a_client_of_nobody_is_assigned_and_one_is_taken_from_its_ib(session: Session) -> None:
    owner, person, other = ib(session), client(session), client(session)
    brought(session, owner, client_id=other)
    moves.approve_move(session, propose(session, "client", person, owner), actor=OTHER)
    moves.approve_move(session, propose(session, "client", other, None), actor=OTHER)

    assert owners(session, person) == [(owner, NOON + DAY, None)]
    assert owners(session, other) == [(owner, NOON, NOON + DAY)]
    with pytest.raises(NothingToMove):
        propose(session, "client", client(session), None)


def test_without_a_moment_a_move_counts_from_its_approval(session: Session) -> None:
    old, new = ib(session), ib(session)
    person = brought(session, old)
    move_id = propose(session, "client", person, new, None)
    before = now()

    move = moves.approve_move(session, move_id, actor=OTHER)

    assert move.effective_at is not None
    assert before <= move.effective_at <= now()
    assert owners(session, person)[-1] == (new, move.effective_at, None)


def test_a_move_can_lie_in_the_future(session: Session) -> None:
    old, new = ib(session), ib(session)
    person, at = brought(session, old), now() + 30 * DAY
    moves.approve_move(session, propose(session, "client", person, new, at), actor=OTHER)

    assert owners(session, person) == [(old, NOON, at), (new, at, None)]
    with pytest.raises(MoveTooEarly):
        propose(session, "client", person, old, None)


def test_a_branch_stays_together(session: Session) -> None:
    low, middle, old, new = (ib(session) for _ in range(4))
    tree.place_ib(session, low, middle, NOON, "agreed", ONE)
    tree.place_ib(session, middle, old, NOON, "agreed", ONE)

    move = moves.approve_move(session, propose(session, "ib", middle, new), actor=OTHER)

    spans = tree.uplines(session, [low])
    assert tree.upline_at(spans, low, NOON) == (low, middle, old)
    assert tree.upline_at(spans, low, NOON + DAY) == (low, middle, new)
    assert (move.from_id, move.moved) == (old, 1)


def test_all_clients_of_an_ib_move_but_those_who_cannot(session: Session) -> None:
    old = ib(session)
    first, second = brought(session, old), brought(session, old)
    later = brought(session, old, NOON + 2 * DAY)
    former = brought(session, old)
    tree.move_client(session, former, ib(session), NOON + DAY / 2, "left", ONE)
    new = ib(session, brought(session, old))  # a client of the old one, and so below it

    move = moves.approve_move(session, propose(session, "clients", old, new), actor=OTHER)

    assert move.moved == 2
    for person in (first, second):
        assert owners(session, person) == [(old, NOON, NOON + DAY), (new, NOON + DAY, None)]
    assert owners(session, later) == [(old, NOON + 2 * DAY, None)]
    assert len(owners(session, former)) == 2
    own = session.scalar(select(IntroducingBroker.client_id).where(IntroducingBroker.id == new))
    assert own is not None
    assert owners(session, own) == [(old, NOON, None)]
    told = session.scalars(
        select(Event.client_id).where(Event.type == "client.moved", Event.payload["ib_id"].as_integer() == new)
    )
    assert sorted(told) == sorted([first, second])


def test_what_cannot_be_is_refused_when_it_is_proposed_and_leaves_no_trace(session: Session) -> None:
    low, high, empty = ib(session), ib(session), ib(session)
    tree.place_ib(session, low, high, NOON, "agreed", ONE)
    own = session.scalar(select(IntroducingBroker.client_id).where(IntroducingBroker.id == high))
    assert own is not None
    person = brought(session, low)
    entries = len(session.scalars(select(AuditEntry.id)).all())
    session.commit()

    for kind, subject, target, at, refused in (
        ("ib", high, low, NOON + DAY, CircleOfIBs),
        ("ib", high, high, NOON + DAY, CircleOfIBs),
        ("ib", low, high, NOON + DAY, NothingToMove),
        ("ib", low, empty, NOON, MoveTooEarly),
        ("client", own, low, NOON + DAY, OwnDownline),
        ("client", person, low, NOON + DAY, NothingToMove),
        ("client", person, high, NOON, MoveTooEarly),
        ("clients", empty, high, NOON + DAY, NoClientsToMove),
        ("clients", low, low, NOON + DAY, NothingToMove),
        ("client", 10**9, low, NOON + DAY, NotFound),
    ):
        with pytest.raises(refused):
            propose(session, kind, subject, target, at)

    assert session.scalars(select(PartnerMove)).all() == []
    assert owners(session, person) == [(low, NOON, None)]
    assert len(session.scalars(select(AuditEntry.id)).all()) == entries


def test_all_mistakes_of_a_proposal_are_told_at_once(session: Session) -> None:
    person, gone = client(session), ib(session)
    row = session.get(IntroducingBroker, gone)
    assert row is not None
    row.is_active = False
    session.flush()

    with pytest.raises(InvalidInput) as refused:
        moves.propose_move(
            session,
            kind="client",
            subject_id=person,
            target_id=gone,
            effective_at=now() + 400 * DAY,
            reason=" ",
            actor=ONE,
        )

    assert set(refused.value.problems) == {"target", "effective_at", "reason"}


def test_a_move_is_judged_again_when_it_is_approved(session: Session) -> None:
    low, high, old, new = (ib(session) for _ in range(4))
    circle = propose(session, "ib", high, low)
    tree.place_ib(session, low, high, NOON, "agreed", ONE)
    person = brought(session, old)
    overtaken = propose(session, "client", person, new)
    tree.move_client(session, person, low, NOON + DAY / 2, "meanwhile", ONE)

    session.commit()
    with pytest.raises(CircleOfIBs):
        moves.approve_move(session, circle, actor=OTHER)
    with pytest.raises(MovedMeanwhile):
        moves.approve_move(session, overtaken, actor=OTHER)

    assert {move.status for move in session.scalars(select(PartnerMove))} == {"proposed"}
    moves.reject_move(session, circle, reason="a circle by now", actor=OTHER)
    with pytest.raises(NotYourRequest):
        moves.withdraw_move(session, overtaken, actor=OTHER)
    moves.withdraw_move(session, overtaken, actor=ONE)


def test_a_subject_has_one_open_proposal(session: Session) -> None:
    old, new = ib(session), ib(session)
    person = brought(session, old)
    first = propose(session, "client", person, new)
    session.commit()
    with pytest.raises(MoveWaiting):
        propose(session, "client", person, None)
    moves.reject_move(session, first, reason="not agreed", actor=OTHER)
    propose(session, "client", person, None)


def _at_once(database, work) -> list[str]:
    """What two sessions, each given its number, end with."""
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def run(number: int) -> None:
        with database.session() as own:
            start.wait(10)
            try:
                work(own, number)
                outcomes.append("done")
            except AppError as error:
                outcomes.append(error.code)

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sorted(outcomes)


def test_two_approvals_at_once_move_once(database) -> None:
    with database.session() as session:
        old, new = ib(session), ib(session)
        person = brought(session, old)
        move_id = propose(session, "client", person, new)
        session.commit()

    outcomes = _at_once(database, lambda own, number: moves.approve_move(own, move_id, actor=Actor.staff(2 + number)))

    assert outcomes == ["done", RequestDecided.code]
    with database.session() as session:
        assert owners(session, person) == [(old, NOON, NOON + DAY), (new, NOON + DAY, None)]


def test_a_client_and_all_clients_of_its_ib_approved_at_once_move_it_once(database) -> None:
    with database.session() as session:
        old, new, other = ib(session), ib(session), ib(session)
        person = brought(session, old)
        brought(session, old)
        both = (propose(session, "client", person, other), propose(session, "clients", old, new))
        session.commit()

    outcomes = _at_once(database, lambda own, number: moves.approve_move(own, both[number], actor=OTHER))

    with database.session() as session:
        found = owners(session, person)
        assert found[0] == (old, NOON, NOON + DAY)
        assert len(found) == 2
        assert outcomes in (["done", "done"], ["done", MovedMeanwhile.code])


def test_moving_all_clients_waits_for_one_that_moves_without_holding_its_span(database) -> None:
    """Else each of the two holds what the other needs."""
    with database.session() as session:
        old, new = ib(session), ib(session)
        person = brought(session, old)
        session.commit()

    def move_all() -> None:
        with database.session() as own:
            tree.move_clients(own, old, new, NOON + DAY, "agreed", OTHER)
            own.commit()

    worker = threading.Thread(target=move_all)
    with database.session() as session:
        session.get(Client, person, with_for_update={"key_share": True})
        worker.start()
        until_somebody_waits(database)
        held = select(Attribution.id).where(Attribution.client_id == person)
        assert session.scalar(held.with_for_update(nowait=True)) is not None
    worker.join(30)
    with database.session() as session:
        assert owners(session, person)[-1] == (new, NOON + DAY, None)


def test_two_ibs_cannot_be_approved_below_each_other_at_once(database) -> None:
    with database.session() as session:
        a, b = ib(session), ib(session)
        both = (propose(session, "ib", a, b), propose(session, "ib", b, a))
        session.commit()

    outcomes = _at_once(database, lambda own, number: moves.approve_move(own, both[number], actor=OTHER))

    assert outcomes == ["done", CircleOfIBs.code]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {table} SET valid_from = valid_from - interval '1 day'",
        "UPDATE {table} SET ib_id = ib_id",
        "UPDATE {table} SET valid_to = NULL",
        "UPDATE {table} SET valid_to = valid_to + interval '1 day' WHERE valid_to IS NOT NULL",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
    ],
)
@pytest.mark.parametrize("table", ["ib_parent", "attribution"])
@pytest.mark.parametrize("role", ["application", "owner"])
def test_history_is_not_rewritten(database, role: str, table: str, statement: str) -> None:
    with database.session() as session:
        old, new, low = ib(session), ib(session), ib(session)
        person = brought(session, old)
        tree.move_client(session, person, new, NOON + DAY, "agreed", ONE)
        tree.place_ib(session, low, old, NOON, "agreed", ONE)
        tree.place_ib(session, low, new, NOON + DAY, "agreed", ONE)
        session.commit()
    with database.session() if role == "application" else database.owner_session() as session:
        with pytest.raises(DBAPIError) as refused:
            session.execute(text(statement.format(table=table)))
        assert refused.value.orig.sqlstate in ("42501", "LW001")


@pytest.mark.parametrize("model", [Attribution, IBParent])
def test_the_end_of_a_span_is_set_once(session: Session, model: type[Attribution | IBParent]) -> None:
    old, low = ib(session), ib(session)
    brought(session, old)
    tree.place_ib(session, low, old, NOON, "agreed", ONE)
    span = session.scalars(select(model)).one()
    span.valid_to = NOON + DAY
    session.flush()
    span.valid_to = NOON + 2 * DAY
    with pytest.raises(DBAPIError):
        session.flush()
    session.rollback()


def test_a_client_s_history_names_who_proposed_and_who_approved_also_that_it_is_nobody_s(session: Session) -> None:
    old, person = ib(session), client(session)
    brought(session, old, client_id=person)
    move_id = propose(session, "client", person, None)
    moves.approve_move(session, move_id, actor=OTHER)
    back = propose(session, "client", person, old, NOON + 2 * DAY)
    moves.approve_move(session, back, actor=OTHER)

    first, gap, last = history_of_client(session, person)

    assert (first.ib_id, first.moved_by, first.proposed_by) == (old, str(ONE), "")
    assert gap == ClientSpan(None, "", "manual", "", NOON + DAY, NOON + 2 * DAY, str(OTHER), "agreed", str(ONE), move_id)
    assert (last.ib_id, last.valid_to, last.move_id) == (old, None, back)
    assert gap.holds(NOON + DAY)
    assert not gap.holds(NOON + 2 * DAY)


def test_an_ib_s_places_name_who_proposed_and_who_approved_also_that_it_stood_under_nobody(session: Session) -> None:
    low, old, new = ib(session), ib(session), ib(session)
    tree.place_ib(session, low, old, NOON, "joined", ONE)
    away = propose(session, "ib", low, None)
    moves.approve_move(session, away, actor=OTHER)
    back = propose(session, "ib", low, new, NOON + 2 * DAY)
    moves.approve_move(session, back, actor=OTHER)

    first, gap, last = places_of_ib(session, low)

    assert first == PlaceSpan(old, "Amira Haddad", NOON, NOON + DAY, str(ONE), "joined")
    assert gap == PlaceSpan(None, "", NOON + DAY, NOON + 2 * DAY, str(OTHER), "agreed", str(ONE), away)
    assert (last.parent_id, last.valid_to, last.proposed_by, last.move_id) == (new, None, str(ONE), back)
    assert places_of_ib(session, old) == []


def test_ibs_and_clients_are_found_by_number_and_by_words_in_any_order(session: Session) -> None:
    top, person = ib(session), client(session)
    row = session.get(Client, person)
    assert row is not None
    row.first_name, row.last_name = "Zo%ra", "Quist"
    low = ib(session, person)
    tree.place_ib(session, low, top, NOON, "agreed", ONE)
    brought(session, low)

    (found,) = directory.find_ibs(session, "quist ZO%", NOON)

    assert (found.ib_id, found.name, found.under, found.clients) == (low, "Zo%ra Quist", "Amira Haddad", 1)
    assert [one.ib_id for one in directory.find_ibs(session, f"#{top}", NOON)] == [top]
    assert directory.find_ibs(session, "Zo_ra", NOON) == []
    assert [one.ib_id for one in directory.find_ibs(session, "", NOON)][:2] == [low, top]
    assert directory.find_ibs(session, "9" * 30, NOON) == []
    (self,) = directory.find_clients(session, "Quist", NOON)
    assert (self.client_id, self.ib_name, self.own_ib_id) == (person, "", low)


def ahead(session: Session, kind: str, subject_id: int, target_id: int | None, days: int = 3) -> int:
    """An approved move so many days from now."""
    move_id = propose(session, kind, subject_id, target_id, TODAY + days * DAY)
    return moves.approve_move(session, move_id, actor=OTHER).id


def cancel(session: Session, move_id: int) -> PartnerMove:
    return cancelling.cancel_move(session, move_id, reason="stays after all", actor=OTHER)


def test_a_move_that_is_ahead_is_cancelled_and_all_goes_on_as_before(session: Session) -> None:
    old, new, low, top = (ib(session) for _ in range(4))
    person, nobodys, leaving = brought(session, old), client(session), brought(session, new)
    tree.place_ib(session, low, old, NOON, "joined", ONE)
    before = [owners(session, one) for one in (person, nobodys, leaving)]
    places = places_of_ib(session, low)
    made = [
        ahead(session, "client", person, new),
        ahead(session, "client", nobodys, old),
        ahead(session, "client", leaving, None),
        ahead(session, "ib", low, top),
    ]
    assert owners(session, person)[-1][0] == new

    for move_id in made:
        move = cancel(session, move_id)

    assert [owners(session, one) for one in (person, nobodys, leaving)] == before
    assert places_of_ib(session, low) == places
    assert (move.status, move.cancelled_by, move.cancel_reason) == ("cancelled", str(OTHER), "stays after all")
    assert (move.decided_by, move.moved) == (str(OTHER), 1)
    audited = select(AuditEntry.reason).where(AuditEntry.action.in_(("partner_move.cancel", "client.move_cancelled")))
    assert session.scalars(audited).all() == ["stays after all"] * 7
    again = ahead(session, "client", person, top)
    assert owners(session, person)[-1] == (top, TODAY + 3 * DAY, None)
    assert history_of_client(session, person)[-1].move_id == again


@pytest.mark.parametrize("to_nobody", [False, True])
def test_a_move_of_all_clients_is_cancelled_for_exactly_those_it_moved(session: Session, to_nobody: bool) -> None:
    old, new = ib(session), ib(session)
    people = [brought(session, old) for _ in range(3)]
    alone = ahead(session, "client", people[0], None)
    target = None if to_nobody else new
    move_id = ahead(session, "clients", old, target)
    assert session.get_one(PartnerMove, move_id).moved == 2

    cancel(session, move_id)

    assert [owners(session, one)[-1] for one in people] == [
        (old, NOON, TODAY + 3 * DAY), (old, NOON, None), (old, NOON, None),
    ]  # fmt: skip
    cancel(session, alone)
    assert owners(session, people[0]) == [(old, NOON, None)]


def test_a_move_that_a_later_one_builds_on_is_cancelled_after_it(session: Session) -> None:
    old, new, last = ib(session), ib(session), ib(session)
    person = brought(session, old)
    brought(session, old)
    first = ahead(session, "clients", old, new, 3)
    second = ahead(session, "client", person, last, 5)
    third = ahead(session, "clients", new, None, 7)
    with pytest.raises(MoveBuiltUpon) as refused:
        cancel(session, first)
    assert str(refused.value) == f"Move {third} builds on this one. Cancel that one first."
    cancel(session, third)
    with pytest.raises(MoveBuiltUpon) as refused:
        cancel(session, first)
    assert refused.value.data == {"later": second}
    cancel(session, second)
    cancel(session, first)
    assert owners(session, person) == [(old, NOON, None)]
    low = ib(session)
    under, further = ahead(session, "ib", low, old, 3), ahead(session, "ib", low, new, 4)
    with pytest.raises(MoveBuiltUpon):
        cancel(session, under)
    cancel(session, further)
    cancel(session, under)
    assert places_of_ib(session, low) == []


def test_what_is_possible_only_by_a_move_keeps_it_from_being_cancelled(session: Session) -> None:
    top, low, other = ib(session), ib(session), ib(session)
    tree.place_ib(session, low, top, NOON, "joined", ONE)
    away = ahead(session, "ib", low, other, 3)
    ahead(session, "ib", top, low, 5)
    session.commit()
    with pytest.raises(CircleOfIBs):
        cancel(session, away)
    assert session.get_one(PartnerMove, away).status == "approved"
    assert tree.last_place(session, low).parent_id == other


def test_only_an_approved_move_ahead_is_cancelled_and_with_a_reason(session: Session) -> None:
    old, new = ib(session), ib(session)
    person = brought(session, old)
    waiting = propose(session, "client", person, new, TODAY + DAY)
    with pytest.raises(MoveNotCancellable):
        cancel(session, waiting)
    moves.approve_move(session, waiting, actor=OTHER)
    with pytest.raises(InvalidInput):
        cancelling.cancel_move(session, waiting, reason=" ", actor=OTHER)
    cancel(session, waiting)
    with pytest.raises(MoveNotCancellable):
        cancel(session, waiting)
    with pytest.raises(RequestDecided):
        moves.approve_move(session, waiting, actor=OTHER)
    begun = propose(session, "client", person, new)
    moves.approve_move(session, begun, actor=OTHER)
    with pytest.raises(MoveNotCancellable):
        cancel(session, begun)
    with pytest.raises(NotFound):
        cancel(session, 10**9)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM attribution WHERE valid_from <= now()",
        "UPDATE attribution SET valid_to = valid_to + interval '1 day' WHERE valid_to > now()",
        "UPDATE attribution SET valid_from = valid_from - interval '1 day' WHERE valid_from > now()",
        "UPDATE attribution SET valid_to = NULL WHERE valid_to <= now()",
    ],
)
def test_only_what_has_not_come_yet_is_taken_back(database, statement: str) -> None:
    with database.session() as session:
        old, new = ib(session), ib(session)
        person = brought(session, old)
        tree.move_client(session, person, new, NOON + DAY, "agreed", ONE)
        ahead(session, "client", person, old)
        session.commit()
    with database.owner_session() as session, pytest.raises(DBAPIError) as refused:
        session.execute(text(statement))
    assert refused.value.orig.sqlstate == "LW001"
