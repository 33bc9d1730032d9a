"""Questions and answers: a client asks, about a commission line or anything; staff answer; either closes.

What a question about a line was asked of is frozen with it: the caller hands over the explanation as it stands then. A
client's message makes a question wait for the house, also one that was closed; an answer makes it wait for the client.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, joinedload

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.engagement.errors import TicketClosed, TooManyQuestions
from app.models.clients import Client
from app.models.engagement import LONGEST_MESSAGE, LONGEST_SUBJECT, Ticket, TicketMessage

#: That messages and what was asked about are never changed; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "tickets.sql"

#: Questions of one client that are not closed.
MOST_OPEN = 10

LONGEST_REASON = 500

OPEN, WAITING, CLOSED = "open", "waiting_for_client", "closed"


def open_ticket(
    session: Session,
    *,
    client_id: int,
    subject: str,
    text: str,
    actor: Actor,
    accrual_id: int | None = None,
    about: dict[str, Any] | None = None,
) -> Ticket:
    """A client asks. About a line that an open question is about already, the text goes there.

    `accrual_id` and `about`, its explanation as JSON, come together or not at all. Raises InvalidInput (subject, text),
    TooManyQuestions.
    """
    with unit_of_work(session, actor) as unit:
        session.execute(select(Client.id).where(Client.id == client_id).with_for_update()).one()  # one count at a time
        asked = open_about(session, client_id, accrual_id) if accrual_id is not None else None
        if asked is not None:
            return _write_as_client(unit, _locked(session, asked.id), text)
        subject = " ".join(subject.split())
        problems = _text_problems(text)
        if not subject:
            problems["subject"] = N_("Please write in a few words what it is about.")
        elif len(subject) > LONGEST_SUBJECT:
            problems["subject"] = N_("Please use 200 characters at most.")
        if problems:
            raise InvalidInput(problems)
        if session.execute(_count_open(client_id)).scalar_one() >= MOST_OPEN:
            raise TooManyQuestions(most=MOST_OPEN)
        kind = "general" if accrual_id is None else "commission_line"
        ticket = Ticket(client_id=client_id, subject=subject, kind=kind, state=OPEN, accrual_id=accrual_id, about=about)
        session.add(ticket)
        session.flush()
        _add_message(unit, ticket, text)
        unit.emit("ticket.opened", subject_id=ticket.id, client_id=client_id)
        return ticket


def write_as_client(session: Session, *, client_id: int, ticket_id: int, text: str, actor: Actor) -> Ticket:
    """The client writes on; a closed question is open again. Raises NotFound, InvalidInput (text), AskedAgain."""
    with unit_of_work(session, actor) as unit:
        return _write_as_client(unit, _locked(session, ticket_id, client_id), text)


def answer_ticket(session: Session, ticket_id: int, *, text: str, actor: Actor) -> Ticket:
    """Staff answer; what nobody sees to yet is theirs. The client gets a mail.

    Raises NotFound, InvalidInput (text), TicketClosed.
    """
    with unit_of_work(session, actor) as unit:
        ticket = _not_closed(session, ticket_id)
        if problems := _text_problems(text):
            raise InvalidInput(problems)
        message = _add_message(unit, ticket, text)
        if message is not None:
            ticket.state, ticket.assigned_to = WAITING, ticket.assigned_to or str(actor)
            unit.audit("ticket.answer", f"ticket:{ticket.id}", after={"text": message.text})
            unit.emit("ticket.answered", subject_id=ticket.id, client_id=ticket.client_id, message_id=message.id)
        return ticket


def assign_ticket(session: Session, ticket_id: int, *, actor: Actor) -> Ticket:
    """A member of staff takes the question over. Raises NotFound, TicketClosed."""
    with unit_of_work(session, actor) as unit:
        ticket = _not_closed(session, ticket_id)
        before, ticket.assigned_to = ticket.assigned_to, str(actor)
        if before != ticket.assigned_to:
            values = ({"assigned_to": one} for one in (before, ticket.assigned_to))
            unit.audit("ticket.assign", f"ticket:{ticket.id}", before=next(values), after=next(values))
        return ticket


def close_ticket(session: Session, ticket_id: int, *, reason: str, actor: Actor) -> Ticket:
    """Staff close the question, for a reason that the client reads. Raises NotFound, TicketClosed, InvalidInput (reason)."""
    with unit_of_work(session, actor) as unit:
        ticket, reason = _not_closed(session, ticket_id), " ".join(reason.split())
        if not reason:
            raise InvalidInput({"reason": N_("Please give a reason.")})
        if len(reason) > LONGEST_REASON:
            raise InvalidInput({"reason": N_("Please use 500 characters at most.")})
        unit.audit(
            "ticket.close", f"ticket:{ticket.id}", before={"state": ticket.state}, after={"state": CLOSED}, reason=reason
        )
        return _close(unit, ticket, reason)


def close_as_client(session: Session, *, client_id: int, ticket_id: int, actor: Actor) -> Ticket:
    """The client needs no answer any more; closing again changes nothing. Raises NotFound."""
    with unit_of_work(session, actor) as unit:
        ticket = _locked(session, ticket_id, client_id)
        return ticket if ticket.state == CLOSED else _close(unit, ticket, "")


def own_ticket(session: Session, client_id: int, ticket_id: int) -> Ticket:
    """A question of this client. Raises NotFound for another's."""
    ticket = session.get(Ticket, ticket_id)
    if ticket is None or ticket.client_id != client_id:
        raise NotFound
    return ticket


def open_about(session: Session, client_id: int, accrual_id: int) -> Ticket | None:
    """The client's question about a line that is not closed."""
    return session.scalars(
        select(Ticket).where(Ticket.client_id == client_id, Ticket.accrual_id == accrual_id, Ticket.state != CLOSED)
    ).one_or_none()


def tickets_of(client_id: int) -> Select[Ticket]:
    """All questions of a client, newest first."""
    return select(Ticket).where(Ticket.client_id == client_id).order_by(Ticket.id.desc())


def find_tickets(*, state: str = "", kind: str = "", text: str = "") -> Select[Ticket]:
    """Questions with their clients; what is empty does not matter. `text` is part of a name or mail address, or a number."""
    query = select(Ticket).join(Ticket.client).options(joinedload(Ticket.client))
    if state:
        query = query.where(Ticket.state == state)
    if kind:
        query = query.where(Ticket.kind == kind)
    if text:
        named = func.concat(Client.first_name, " ", Client.last_name).icontains(text, autoescape=True)
        by_number = [Client.id == int(text)] if text.isascii() and text.isdecimal() and len(text) < 19 else []
        query = query.where(or_(named, Client.email.icontains(text, autoescape=True), *by_number))
    return query


def _count_open(client_id: int) -> Select[int]:
    return select(func.count()).select_from(Ticket).where(Ticket.client_id == client_id, Ticket.state != CLOSED)


def _locked(session: Session, ticket_id: int, client_id: int | None = None) -> Ticket:
    ticket = session.scalars(select(Ticket).where(Ticket.id == ticket_id).with_for_update()).one_or_none()
    if ticket is None or client_id not in (None, ticket.client_id):
        raise NotFound
    return ticket


def _not_closed(session: Session, ticket_id: int) -> Ticket:
    ticket = _locked(session, ticket_id)
    if ticket.state == CLOSED:
        raise TicketClosed
    return ticket


def _write_as_client(unit: UnitOfWork, ticket: Ticket, text: str) -> Ticket:
    if problems := _text_problems(text):
        raise InvalidInput(problems)
    if _add_message(unit, ticket, text) is not None:
        ticket.state, ticket.closed_at, ticket.closed_by, ticket.close_reason = OPEN, None, None, ""
        unit.emit("ticket.written", subject_id=ticket.id, client_id=ticket.client_id)
    return ticket


def _close(unit: UnitOfWork, ticket: Ticket, reason: str) -> Ticket:
    ticket.state, ticket.closed_at, ticket.closed_by, ticket.close_reason = CLOSED, now(), str(unit.actor), reason
    unit.emit("ticket.closed", subject_id=ticket.id, client_id=ticket.client_id, reason=reason)
    return ticket


def _add_message(unit: UnitOfWork, ticket: Ticket, text: str) -> TicketMessage | None:
    """The new message; None where the last one says the same: the form was sent twice."""
    author, text = str(unit.actor), _cleaned(text)
    last = unit.session.scalars(
        select(TicketMessage).where(TicketMessage.ticket_id == ticket.id).order_by(TicketMessage.id.desc()).limit(1)
    ).one_or_none()
    if last is not None and ticket.state != CLOSED and (last.author, last.text) == (author, text):
        return None
    message = TicketMessage(ticket_id=ticket.id, author=author, text=text)
    unit.session.add(message)
    unit.session.flush()
    return message


def _cleaned(text: str) -> str:
    """Lines as they were typed, without what no database text can hold."""
    return text.replace("\r\n", "\n").replace("\x00", "").strip()


def _text_problems(text: str) -> dict[str, str]:
    text = _cleaned(text)
    if not text:
        return {"text": N_("Please write your message.")}
    return {"text": N_("Please use 4,000 characters at most.")} if len(text) > LONGEST_MESSAGE else {}
