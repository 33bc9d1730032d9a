"""Mails to clients: what was to be said, and whether it went out."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.orm import BigKey, CreatedAt, Model, Moment


class Mail(Model):
    """One mail. Only its template and plain values are kept; one-time links are made when it is sent.

    A fact makes one mail (`event_id`), however often it is delivered. Whoever sends claims the row first, for a minute or
    so, so that two workers do not send it at the same time.
    """

    __tablename__ = "mail"
    __table_args__ = (CheckConstraint("status IN ('waiting', 'sent', 'failed')", name="status"),)

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id", ondelete="CASCADE"), index=True)
    event_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("event.id"), unique=True, comment="the fact it tells of"
    )
    template: Mapped[str] = mapped_column(String(40))
    language: Mapped[str] = mapped_column(String(8))
    values: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    status: Mapped[str] = mapped_column(String(12), server_default="waiting", index=True)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    claimed_until: Mapped[Moment | None] = mapped_column(comment="until then somebody is sending it")
    error: Mapped[str] = mapped_column(Text, server_default="", comment="what went wrong last, without personal data")
    created_at: Mapped[CreatedAt]
    sent_at: Mapped[Moment | None]
