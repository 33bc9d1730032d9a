"""Mails to clients: what was to be said, and whether it went out."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.orm import BigKey, CreatedAt, Model, Moment


class Mail(Model):
    """One mail. Only its template and plain values are kept; one-time links are made when it is sent."""

    __tablename__ = "mail"
    __table_args__ = (CheckConstraint("status IN ('waiting', 'sent', 'failed')", name="status"),)

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id", ondelete="CASCADE"), index=True)
    template: Mapped[str] = mapped_column(String(40))
    language: Mapped[str] = mapped_column(String(8))
    values: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    status: Mapped[str] = mapped_column(String(12), server_default="waiting", index=True)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    error: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[CreatedAt]
    sent_at: Mapped[Moment | None]
