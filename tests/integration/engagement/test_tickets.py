"""Questions: asked once about a line, answered, closed, opened again; what was written stays."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.tables import AuditEntry, Event
from app.engagement import tickets
from app.engagement.errors import AskedAgain, TicketClosed, TooManyQuestions
from app.models.clients import Client
from app.models.engagement import Ticket, TicketMessage

STAFF = Actor.staff(7)
ABOUT = {"amount": "7", "steps": []}


@pytest.fixture
def client_id(session: Session) -> int:
    return a_client(session, "ines")


def a_client(session: Session, name: str) -> int:
    made = Client(
        email=f"{name}@example.com",
        password_hash="x",
        first_name=name,
        last_name="100%",
        country="CY",
        terms_version="1",
        terms_accepted_at=now(),
    )
    session.add(made)
    session.commit()
    return made.id


def ask(session: Session, client_id: int, words: str = "Why so little?", accrual_id: int | None = 5) -> Ticket:
    return tickets.open_ticket(
        session,
        client_id=client_id,
        subject="Deal 7",
        text=words,
        accrual_id=accrual_id,
        about=ABOUT if accrual_id else None,
        actor=Actor.client(client_id),
    )


def write(session: Session, client_id: int, ticket_id: int, words: str) -> Ticket:
    return tickets.write_as_client(session, client_id=client_id, ticket_id=ticket_id, text=words, actor=Actor.client(client_id))


def facts(session: Session) -> list[str]:
    return list(session.scalars(select(Event.type).where(Event.type.startswith("ticket.")).order_by(Event.id)))


def test_asked_answered_closed_and_opened_again(session, client_id):
    ticket = ask(session, client_id)
    assert (ticket.kind, ticket.state, ticket.about) == ("commission_line", "open", ABOUT)
    tickets.answer_ticket(session, ticket.id, text="By the rule.\r\nLook here.", actor=STAFF)
    assert (ticket.state, ticket.assigned_to) == ("waiting_for_client", "staff:7")
    tickets.assign_ticket(session, ticket.id, actor=Actor.staff(8))
    assert ticket.assigned_to == "staff:8"
    tickets.close_ticket(session, ticket.id, reason="  Told\nall ", actor=STAFF)
    assert (ticket.state, ticket.closed_by, ticket.close_reason) == ("closed", "staff:7", "Told all")
    with pytest.raises(TicketClosed):
        tickets.answer_ticket(session, ticket.id, text="More", actor=STAFF)
    write(session, client_id, ticket.id, "But no")
    assert (ticket.state, ticket.closed_at, ticket.close_reason) == ("open", None, "")
    tickets.close_as_client(session, client_id=client_id, ticket_id=ticket.id, actor=Actor.client(client_id))
    assert ticket.state == "closed"
    assert [(one.text, one.is_of_client) for one in ticket.messages] == [
        ("Why so little?", True),
        ("By the rule.\nLook here.", False),
        ("But no", True),
    ]
    kinds = ("opened", "answered", "closed", "written", "closed")
    assert facts(session) == [f"ticket.{kind}" for kind in kinds]
    actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["ticket.answer", "ticket.assign", "ticket.close"]


def test_a_line_has_one_open_question(session, client_id):
    first = ask(session, client_id)
    assert ask(session, client_id, "And why late?").id == first.id
    assert len(first.messages) == 2
    tickets.close_ticket(session, first.id, reason="Told", actor=STAFF)
    second = ask(session, client_id)
    assert second.id != first.id
    first_id = first.id
    with pytest.raises(AskedAgain):
        write(session, client_id, first_id, "Here, too")
    assert ask(session, a_client(session, "other")).id not in (first_id, second.id)


def test_a_form_sent_twice_is_one_message(session, client_id):
    ticket = ask(session, client_id)
    assert ask(session, client_id).id == ticket.id
    for _ in range(2):
        tickets.answer_ticket(session, ticket.id, text="So", actor=STAFF)
    assert [one.text for one in ticket.messages] == ["Why so little?", "So"]
    assert facts(session) == ["ticket.opened", "ticket.answered"]


def test_others_questions_are_not_there(session, client_id):
    ticket_id = ask(session, client_id).id
    stranger = a_client(session, "other")
    for act in (
        lambda: write(session, stranger, ticket_id, "Mine"),
        lambda: tickets.close_as_client(session, client_id=stranger, ticket_id=ticket_id, actor=Actor.client(stranger)),
        lambda: tickets.own_ticket(session, stranger, ticket_id),
        lambda: tickets.answer_ticket(session, 987_654, text="x", actor=STAFF),
    ):
        with pytest.raises(NotFound):
            act()


def test_what_is_refused(session, client_id):
    for words in ("", "  \x00 ", "x" * 4001):
        with pytest.raises(InvalidInput) as refused:
            ask(session, client_id, words)
        assert set(refused.value.problems) == {"text"}
    with pytest.raises(InvalidInput) as refused:
        tickets.open_ticket(session, client_id=client_id, subject=" ", text="", actor=Actor.client(client_id))
    assert set(refused.value.problems) == {"subject", "text"}
    ticket_id = ask(session, client_id).id
    for reason in (" ", "x" * 501):
        with pytest.raises(InvalidInput):
            tickets.close_ticket(session, ticket_id, reason=reason, actor=STAFF)
    assert session.get_one(Ticket, ticket_id).state == "open"


def test_so_many_open_questions_and_no_more(session, client_id):
    for _ in range(tickets.MOST_OPEN):
        last = ask(session, client_id, accrual_id=None)
    last_id = last.id
    with pytest.raises(TooManyQuestions):
        ask(session, client_id)
    tickets.close_ticket(session, last_id, reason="Told", actor=STAFF)
    assert ask(session, client_id).id > last_id


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ticket_message SET text = 'other'",
        "DELETE FROM ticket_message",
        "UPDATE ticket SET about = '{}'",
        "DELETE FROM ticket",
    ],
)
def test_what_was_written_and_asked_about_stays(session, client_id, change):
    ask(session, client_id)
    with pytest.raises(DBAPIError):
        session.execute(text(change))
    session.rollback()
    assert session.scalars(select(TicketMessage.text)).one() == "Why so little?"


def test_found_by_state_kind_and_client(session, client_id):
    ticket, general = ask(session, client_id), ask(session, a_client(session, "other"), accrual_id=None)
    tickets.answer_ticket(session, general.id, text="So", actor=STAFF)

    def found(**wanted: str) -> list[int]:
        return [one.id for one in session.scalars(tickets.find_tickets(**wanted).order_by(Ticket.id))]

    assert found() == [ticket.id, general.id]
    assert found(state="open") == found(kind="commission_line") == found(text="INES") == [ticket.id]
    assert found(text="other@") == found(text=str(general.client_id)) == [general.id]
    assert found(text="0%") == [ticket.id, general.id]
    assert found(text="1%%") == []
