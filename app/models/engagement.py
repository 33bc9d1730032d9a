"""Tickets: what a client asked, with what it was about as it stood then, and what was answered."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client

#: About one commission line, or about anything.
TICKET_KINDS = ("commission_line", "general")

#: open: the house is to answer; waiting_for_client: it did.
TICKET_STATES = ("open", "waiting_for_client", "closed")

LONGEST_SUBJECT = 200
LONGEST_MESSAGE = 4_000


class Ticket(Model):
    """A question of a client. A commission line has one at a time that is not closed."""

    __tablename__ = "ticket"
    __table_args__ = (
        CheckConstraint(f"kind IN {TICKET_KINDS}", name="kind"),
        CheckConstraint(f"state IN {TICKET_STATES}", name="state"),
        CheckConstraint("num_nulls(accrual_id, about) = CASE kind WHEN 'commission_line' THEN 0 ELSE 2 END", name="about"),
        CheckConstraint("num_nulls(closed_at, closed_by) = CASE state WHEN 'closed' THEN 0 ELSE 2 END", name="closed"),
        Index(*("uq_ticket_open_line", "client_id", "accrual_id"), unique=True, postgresql_where=text("state <> 'closed'")),
        Index("ix_ticket_client_id_id", "client_id", "id"),
        Index("ix_ticket_state_id", "state", "id"),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"))
    subject: Mapped[str] = mapped_column(String(LONGEST_SUBJECT))
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), server_default="open")
    accrual_id: Mapped[int | None] = mapped_column(BigInteger, comment="the commission line that is asked about")
    about: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="its explanation as it stood when asked: app/commissions/frozen_explanations.py"
    )
    assigned_to: Mapped[str | None] = mapped_column(Text, comment="the member of staff who sees to it, as an actor")
    opened_at: Mapped[CreatedAt]
    closed_at: Mapped[Moment | None]
    closed_by: Mapped[str | None] = mapped_column(Text)
    close_reason: Mapped[str] = mapped_column(Text, server_default="", comment="of staff, for the client; of a client, empty")

    client: Mapped[Client] = relationship()
    messages: Mapped[list[TicketMessage]] = relationship(back_populates="ticket", order_by="TicketMessage.id")


class TicketMessage(Model):
    """What was written, by the client or by staff. Never changed."""

    __tablename__ = "ticket_message"
    __table_args__ = (CheckConstraint("length(text) BETWEEN 1 AND 4000", name="text"),)

    id: Mapped[BigKey]
    ticket_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ticket.id"), index=True)
    author: Mapped[str] = mapped_column(Text, comment="as an actor")
    text: Mapped[str] = mapped_column(Text)
    written_at: Mapped[CreatedAt]

    ticket: Mapped[Ticket] = relationship(back_populates="messages")

    @property
    def is_of_client(self) -> bool:
        """Whether the client wrote it, rather than staff."""
        return self.author.startswith("client:")
