"""Personal terms of IBs, from when to when, and what staff proposed of them."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment, Proposal, proposal_checks
from app.models.partners import IntroducingBroker


class _Agreed:
    """What is agreed with an IB."""

    multiplier: Mapped[Decimal | None] = mapped_column(Numeric(8, 4), comment="of all that the IB gets; none: 1")
    rates: Mapped[dict[str, dict[str, str]]] = mapped_column(
        JSONB, server_default="{}", comment="the IB's own: {plan.id: {key of the rule: rate}}"
    )
    hand_on_percent: Mapped[Decimal | None] = mapped_column(
        Numeric(8, 4), comment="of the IB's pay as the client's own IB, to the trader"
    )


class IBTerms(_Agreed, Model):
    """What is agreed with one IB, for a span of time. Never overwritten: new terms close one span and open the next."""

    __tablename__ = "ib_terms"
    __table_args__ = (
        CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="span"),
        Index("uq_ib_terms_current", "ib_id", unique=True, postgresql_where=text("valid_to IS NULL")),
    )

    id: Mapped[BigKey]
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    set_by: Mapped[str] = mapped_column(Text, comment="who agreed to them")
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]

    ib: Mapped[IntroducingBroker] = relationship()


class IBTermsProposal(_Agreed, Proposal, Model):
    """Terms that one member of staff wants an IB to have from a moment on, and what another one decided."""

    __tablename__ = "ib_terms_proposal"
    __table_args__ = (
        *proposal_checks(),
        CheckConstraint("(status = 'approved') = (terms_id IS NOT NULL)", name="agreed"),
        Index("uq_ib_terms_proposal_open", "ib_id", unique=True, postgresql_where=text("status = 'proposed'")),
    )

    id: Mapped[BigKey]
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    valid_from: Mapped[Moment | None] = mapped_column(comment="none: from the approval on")
    terms_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("ib_terms.id"), unique=True)

    ib: Mapped[IntroducingBroker] = relationship()
