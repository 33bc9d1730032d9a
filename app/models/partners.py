"""Introducing brokers, their links, and which client is whose from when to when."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Date, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client


class IntroducingBroker(Model):
    """A client who brings clients and is paid for their trading."""

    __tablename__ = "introducing_broker"

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), unique=True)
    currency: Mapped[str] = mapped_column(String(8), comment="what the IB is paid in")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    created_at: Mapped[CreatedAt]

    client: Mapped[Client] = relationship()

    def __repr__(self) -> str:
        return f"IB {self.client.full_name}"


class IBLink(Model):
    """A link an IB hands out; who registers through it becomes the IB's client."""

    __tablename__ = "ib_link"

    id: Mapped[BigKey]
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    code: Mapped[str] = mapped_column(String(24), unique=True)
    name: Mapped[str] = mapped_column(String(60), server_default="")
    visits: Mapped[int] = mapped_column(Integer, server_default="0")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    created_at: Mapped[CreatedAt]

    ib: Mapped[IntroducingBroker] = relationship()


class IBLinkDay(Model):
    """How many visits came through a link on a UTC day; of a day without visits there is none."""

    __tablename__ = "ib_link_day"

    link_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ib_link.id"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    visits: Mapped[int] = mapped_column(Integer)


class Attribution(Model):
    """Which IB a client belongs to, for a span of time. Never overwritten: a move closes one span and opens the next.

    The triggers of app/partners/sql/tree.sql refuse every change of a span but its end, and clients of their own downline.
    """

    __tablename__ = "attribution"
    __table_args__ = (
        CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="span"),
        Index("uq_attribution_current", "client_id", unique=True, postgresql_where=text("valid_to IS NULL")),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"))
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    link_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("ib_link.id"))
    source: Mapped[str] = mapped_column(Text, comment="why this client is this IB's: link, promo_code, manual …")
    explained: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, comment="what decided: policy, code, the visits that counted and those that did not"
    )
    move_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("partner_move.id"), index=True, comment="the move by which it began"
    )
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]

    ib: Mapped[IntroducingBroker] = relationship()
    client: Mapped[Client] = relationship()


class IBParent(Model):
    """Which IB stands above an IB, for a span of time. Never overwritten: a move closes one span and opens the next.

    The triggers of app/partners/sql/tree.sql refuse every change of a span but its end, spans that overlap, and circles.
    """

    __tablename__ = "ib_parent"
    __table_args__ = (
        CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="span"),
        Index("uq_ib_parent_current", "ib_id", unique=True, postgresql_where=text("valid_to IS NULL")),
    )

    id: Mapped[BigKey]
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    parent_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]
    set_by: Mapped[str] = mapped_column(Text, comment="who placed the IB here")
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
