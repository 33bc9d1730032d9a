"""Documents that clients hand in and staff judge."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client

DOCUMENT_KINDS = ("identity", "address")


class Document(Model):
    """An uploaded proof. The bytes lie encrypted outside any served folder; this row says what they are."""

    __tablename__ = "document"
    __table_args__ = (
        CheckConstraint("kind IN ('identity', 'address')", name="kind"),
        CheckConstraint("status IN ('pending', 'approved', 'rejected', 'replaced')", name="status"),
        CheckConstraint("status = 'replaced' OR (status = 'pending') = (reviewed_at IS NULL)", name="reviewed"),
        CheckConstraint("status <> 'rejected' OR reason <> ''", name="reason_when_rejected"),
        Index("uq_document_one_waiting", "client_id", "kind", unique=True, postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16), server_default="pending")
    file_name: Mapped[str] = mapped_column(String(200), comment="as the client named it, for display only")
    media_type: Mapped[str] = mapped_column(String(40), comment="found by decoding the content")
    size_bytes: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    storage_key: Mapped[str] = mapped_column(String(64), unique=True)
    reason: Mapped[str] = mapped_column(Text, server_default="", comment="why it was rejected, in words for the client")
    uploaded_at: Mapped[CreatedAt]
    reviewed_at: Mapped[Moment | None]
    reviewed_by: Mapped[str | None] = mapped_column(Text)

    client: Mapped[Client] = relationship()
