"""What introducing brokers may advertise with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Integer, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from app.core.orm import BigKey, CreatedAt, Model

MATERIAL_KINDS = ("image", "text", "link")


class MarketingMaterial(Model):
    """One banner, text or page of ours, in one language. It is never changed but for being switched off."""

    __tablename__ = "marketing_material"
    __table_args__ = (
        CheckConstraint(f"kind IN {MATERIAL_KINDS}", name="kind"),
        CheckConstraint("(kind = 'image') = (content IS NOT NULL)", name="content"),
    )

    id: Mapped[BigKey]
    public_id: Mapped[Any] = mapped_column(UUID, unique=True, comment="in the address under which anybody loads a banner")
    kind: Mapped[str] = mapped_column(String(8))
    language: Mapped[str] = mapped_column(String(8))
    title: Mapped[str] = mapped_column(String(100))
    words: Mapped[str] = mapped_column(
        Text, server_default="", comment="the text with {link} in it, or the address of the page"
    )
    content: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True, comment="of a banner")
    media_type: Mapped[str] = mapped_column(String(40), server_default="", comment="found by decoding the content")
    width: Mapped[int] = mapped_column(Integer, server_default="0")
    height: Mapped[int] = mapped_column(Integer, server_default="0")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    added_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
