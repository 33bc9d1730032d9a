"""How clients and introducing brokers come to the house: policy, agreements, invitations, applications."""

from __future__ import annotations

from datetime import date

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client


class PartnerPolicy(Model):
    """The policy from `created_at` on; the newest row holds. Never changed: a new policy is a new row."""

    __tablename__ = "partner_policy"
    __table_args__ = (
        CheckConstraint("touch IN ('first', 'last')", name="touch"),
        CheckConstraint("window_days BETWEEN 1 AND 365", name="window_days"),
        CheckConstraint("join_mode IN ('open', 'invited', 'application')", name="join_mode"),
    )

    id: Mapped[BigKey]
    touch: Mapped[str] = mapped_column(String(8), comment="which visit through a link counts: first, last")
    window_days: Mapped[int] = mapped_column(Integer, comment="how long before the registration a visit counts")
    join_mode: Mapped[str] = mapped_column(
        String(12), server_default="application", comment="who becomes an IB: open, invited, application"
    )
    set_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]


class PartnerAgreement(Model):
    """The text that whoever becomes an introducing broker agrees to; the newest one holds. Never changed once published."""

    __tablename__ = "partner_agreement"
    __table_args__ = (CheckConstraint("accept_by IS NOT NULL OR NOT holds_payouts", name="asked"),)

    id: Mapped[BigKey]
    version: Mapped[str] = mapped_column(String(20), unique=True)
    texts: Mapped[dict[str, str]] = mapped_column(JSONB, comment="by language; en is there")
    accept_by: Mapped[date | None] = mapped_column(
        Date, comment="the last UTC day for those who are IBs already to accept it; none: they are not asked"
    )
    holds_payouts: Mapped[bool] = mapped_column(
        Boolean, server_default="false", comment="after that day a payout of who has not accepted is held"
    )
    published_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]


class PartnerAcceptance(Model):
    """That a client agreed to a version of the agreement: by asking to become an IB, or as one. Never changed."""

    __tablename__ = "partner_acceptance"
    __table_args__ = (UniqueConstraint("client_id", "agreement_id"),)

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"))
    agreement_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("partner_agreement.id"), index=True)
    address: Mapped[str] = mapped_column(Text, server_default="", comment="where it was agreed to from")
    created_at: Mapped[CreatedAt]

    agreement: Mapped[PartnerAgreement] = relationship()


class IBInvitation(Model):
    """That an introducing broker invited somebody to stand under it. Only the hash of the link's secret is kept."""

    __tablename__ = "ib_invitation"

    id: Mapped[BigKey]
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    note: Mapped[str] = mapped_column(String(100), server_default="", comment="the IB's own, such as whom it was sent to")
    expires_at: Mapped[Moment]
    revoked_at: Mapped[Moment | None]
    used_by: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("client.id"))
    created_at: Mapped[CreatedAt]


class IBApplication(Model):
    """That a client wants to be an introducing broker: what it said, what it agreed to, and what was decided."""

    __tablename__ = "ib_application"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'approved', 'rejected', 'withdrawn')", name="status"),
        CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name="decided"),
        Index("uq_ib_application_pending", "client_id", unique=True, postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    currency: Mapped[str] = mapped_column(String(8), comment="what the IB wants to be paid in")
    words: Mapped[str] = mapped_column(Text, comment="how it brings clients")
    agreement_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("partner_agreement.id"), comment="agreed to")
    invitation_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("ib_invitation.id"))
    status: Mapped[str] = mapped_column(String(12), server_default="pending", index=True)
    decided_by: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[Moment | None]
    decision_reason: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[CreatedAt]

    client: Mapped[Client] = relationship()
    agreement: Mapped[PartnerAgreement | None] = relationship()
    invitation: Mapped[IBInvitation | None] = relationship()
