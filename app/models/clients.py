"""Clients, their one-time links, their portal sessions."""

from __future__ import annotations

from datetime import date

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Date, ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment

#: Steps of a client's way in, in order.
CLIENT_STATUSES = ("registered", "verified", "approved", "blocked")

#: As rules of protection see clients; one of whom nothing else was said is retail.
CLIENT_CATEGORIES = ("retail", "professional", "eligible_counterparty")


class Client(Model):
    """A person who has, or wants, money with the broker. Not a Flask-AppBuilder user."""

    __tablename__ = "client"
    __table_args__ = (
        CheckConstraint("status IN ('registered', 'verified', 'approved', 'blocked')", name="status"),
        Index("uq_client_email_lower", text("lower(email)"), unique=True),
    )

    id: Mapped[BigKey]
    email: Mapped[str] = mapped_column(String(254))
    password_hash: Mapped[str] = mapped_column(Text, comment="argon2id")
    first_name: Mapped[str] = mapped_column(String(100))
    last_name: Mapped[str] = mapped_column(String(100))
    country: Mapped[str] = mapped_column(String(2), comment="ISO 3166-1 alpha-2")
    birth_date: Mapped[date | None] = mapped_column(Date)
    phone: Mapped[str] = mapped_column(String(32), server_default="")
    address: Mapped[str] = mapped_column(String(300), server_default="")
    language: Mapped[str] = mapped_column(String(8), server_default="en")
    status: Mapped[str] = mapped_column(String(16), server_default="registered")
    terms_version: Mapped[str] = mapped_column(String(32), comment="version of the terms agreed to at registration")
    terms_accepted_at: Mapped[Moment]
    email_verified_at: Mapped[Moment | None]
    approved_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()

    def __repr__(self) -> str:
        return f"{self.full_name} (#{self.id})"


class ClientToken(Model):
    """A one-time link sent by mail. Only the hash of its secret is kept."""

    __tablename__ = "client_token"
    __table_args__ = (CheckConstraint("purpose IN ('verify_email', 'reset_password')", name="purpose"),)

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id", ondelete="CASCADE"), index=True)
    purpose: Mapped[str] = mapped_column(String(20))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    expires_at: Mapped[Moment]
    used_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]


class PortalSession(Model):
    """One signed-in browser of one client. The cookie holds the secret; the row only its hash."""

    __tablename__ = "portal_session"

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id", ondelete="CASCADE"), index=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    address: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[Moment]
    expires_at: Mapped[Moment]
    revoked: Mapped[bool] = mapped_column(Boolean, server_default="false")

    client: Mapped[Client] = relationship()


class ClientCategory(Model):
    """Of which category a client is from a moment on, until the next row of the client. Before the first one: retail."""

    __tablename__ = "client_category"
    __table_args__ = (
        CheckConstraint("category IN ('retail', 'professional', 'eligible_counterparty')", name="category"),
        Index("ix_client_category_client_id_id", "client_id", "id"),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"))
    category: Mapped[str] = mapped_column(String(24))
    valid_from: Mapped[Moment]
    set_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
