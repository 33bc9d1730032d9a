"""Moves of clients and IBs: what one member of staff asked for, and what another one decided."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, Model, Moment, Proposal, proposal_checks
from app.models.clients import Client
from app.models.partners import IntroducingBroker


class PartnerMove(Proposal, Model):
    """A client, all clients of an IB, or an IB with its branch, to belong to another IB, or to nobody, from a moment on.

    Approved, it began the spans of `attribution` that name it, or one of `ib_parent`; cancelled, they are gone.
    """

    __tablename__ = "partner_move"
    __table_args__ = (
        *proposal_checks("cancelled"),
        CheckConstraint("kind IN ('client', 'clients', 'ib')", name="kind"),
        CheckConstraint("(kind = 'client') = (client_id IS NOT NULL) AND (kind = 'ib') = (ib_id IS NOT NULL)", name="subject"),
        CheckConstraint("kind <> 'clients' OR from_id IS NOT NULL", name="clients_of_whom"),
        CheckConstraint("from_id IS DISTINCT FROM target_id", name="somewhere_else"),
        CheckConstraint("status <> 'approved' OR (effective_at IS NOT NULL AND moved IS NOT NULL)", name="carried_out"),
        CheckConstraint("(status = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled"),
        *(
            Index(f"uq_partner_move_open_{name}", column, unique=True, postgresql_where=text(f"status = 'proposed'{more}"))
            for name, column, more in (
                ("client", "client_id", ""),
                ("ib", "ib_id", ""),
                ("clients", "from_id", " AND kind = 'clients'"),
            )
        ),
    )

    id: Mapped[BigKey]
    kind: Mapped[str] = mapped_column(String(12), comment="client; clients: all of from_id; ib: with all below it")
    client_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    ib_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    from_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("introducing_broker.id"), index=True, comment="whose it was when proposed; none: nobody's"
    )
    target_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("introducing_broker.id"), index=True, comment="none: nobody's"
    )
    effective_at: Mapped[Moment | None] = mapped_column(comment="none while proposed: the moment of the approval")
    moved: Mapped[int | None] = mapped_column(Integer, comment="how many clients, or 1 for an IB, once approved")
    cancelled_by: Mapped[str | None] = mapped_column(Text, comment="who cancelled it between its approval and its moment")
    cancelled_at: Mapped[Moment | None]
    cancel_reason: Mapped[str] = mapped_column(Text, server_default="")

    client: Mapped[Client | None] = relationship()
    ib: Mapped[IntroducingBroker | None] = relationship(foreign_keys=[ib_id])
    source: Mapped[IntroducingBroker | None] = relationship(foreign_keys=[from_id])
    target: Mapped[IntroducingBroker | None] = relationship(foreign_keys=[target_id])

    @property
    def subject_id(self) -> int:
        """The number of what is moved: a client's or an IB's, by its kind."""
        return next(key for key in (self.client_id, self.ib_id, self.from_id) if key is not None)
