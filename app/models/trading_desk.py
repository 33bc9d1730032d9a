"""What the trading desk works on: operations of others, daily checks, their breaks, imports of existing logins."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client
from app.models.metatrader import Product, Server, TradingAccount


class ForeignOperation(Model):
    """A balance operation at a server that we did not order: classified by what it says, reviewed by a person."""

    __tablename__ = "foreign_operation"
    __table_args__ = (
        UniqueConstraint("server_id", "deal_ticket"),
        CheckConstraint(
            "class IN ('deposit', 'withdrawal', 'transfer', 'rebate', 'bonus', 'credit', 'correction', 'charge', 'dividend',"
            " 'compensation', 'demo', 'opening', 'unknown')",
            name="class",
        ),
        CheckConstraint("(reviewed_at IS NULL) = (reviewed_by IS NULL)", name="reviewed"),
        Index("ix_foreign_operation_open", "found_at", postgresql_where=text("reviewed_at IS NULL")),
    )

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    deal_ticket: Mapped[int] = mapped_column(BigInteger)
    login: Mapped[int] = mapped_column(BigInteger)
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"), index=True)
    action: Mapped[int] = mapped_column(Integer, comment="MetaTrader's number: 2 balance, 3 credit …")
    amount: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    currency: Mapped[str] = mapped_column(String(8), server_default="")
    comment: Mapped[str] = mapped_column(String(64), server_default="")
    classed_as: Mapped[str] = mapped_column("class", String(20), comment="our first guess; the reviewer may correct it")
    done_at: Mapped[Moment]
    found_at: Mapped[CreatedAt]
    reviewed_by: Mapped[str | None] = mapped_column(Text)
    reviewed_at: Mapped[Moment | None]
    note: Mapped[str] = mapped_column(Text, server_default="")

    server: Mapped[Server] = relationship()
    trading_account: Mapped[TradingAccount | None] = relationship()


class ServerCheck(Model):
    """One comparison of a server's day with what we booked of it."""

    __tablename__ = "mt_check"
    __table_args__ = (
        CheckConstraint("status IN ('running', 'done', 'failed')", name="status"),
        Index("ix_mt_check_server_day", "server_id", "day"),
    )

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    day: Mapped[date] = mapped_column(Date, comment="in the server's own clock")
    source: Mapped[str] = mapped_column(String(20), comment="where the server's side was read")
    status: Mapped[str] = mapped_column(String(10), server_default="running")
    started_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]
    accounts: Mapped[int] = mapped_column(BigInteger, server_default="0")
    deals_here: Mapped[int] = mapped_column(BigInteger, server_default="0")
    deals_there: Mapped[int] = mapped_column(BigInteger, server_default="0")
    booked: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="deals that this check found and booked")
    breaks: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="open after it")
    error: Mapped[str] = mapped_column(Text, server_default="")

    server: Mapped[Server] = relationship()


class ServerBreak(Model):
    """A difference between a server and us that a check found, until it is gone, repaired or explained."""

    __tablename__ = "mt_break"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('deal_vanished', 'deal_differs', 'deal_count', 'balance', 'credit', 'ghost_position',"
            " 'missing_position', 'unknown_login', 'login_vanished', 'login_cleaned', 'negative_balance')",
            name="kind",
        ),
        CheckConstraint("state IN ('open', 'repaired', 'explained', 'gone')", name="state"),
        CheckConstraint("(state = 'open') = (closed_at IS NULL)", name="closed"),
        Index("uq_mt_break_open", "server_id", "kind", "subject", unique=True, postgresql_where=text("closed_at IS NULL")),
    )

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    kind: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(60), comment="ticket or login")
    login: Mapped[int | None] = mapped_column(BigInteger)
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"), index=True)
    here: Mapped[str] = mapped_column(Text, server_default="", comment="what we have, as text")
    there: Mapped[str] = mapped_column(Text, server_default="", comment="what the server has, as text")
    cause: Mapped[str] = mapped_column(String(40), server_default="", comment="code of the cause where it can be told")
    state: Mapped[str] = mapped_column(String(10), server_default="open")
    found_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt] = mapped_column(comment="when it was found last")
    closed_at: Mapped[Moment | None]
    closed_by: Mapped[str] = mapped_column(Text, server_default="")
    note: Mapped[str] = mapped_column(Text, server_default="")
    repair: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"), comment="what the repair made: ids")

    server: Mapped[Server] = relationship()
    trading_account: Mapped[TradingAccount | None] = relationship()


class LoginImport(Model):
    """One import of a server's existing logins, at migration: looked through first, then carried out."""

    __tablename__ = "login_import"
    __table_args__ = (CheckConstraint("status IN ('reading', 'ready', 'importing', 'done', 'failed')", name="status"),)

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    group_mask: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(10), server_default="reading")
    requested_by: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]
    error: Mapped[str] = mapped_column(Text, server_default="")

    server: Mapped[Server] = relationship()


class LoginImportRow(Model):
    """One login of an import and what becomes of it."""

    __tablename__ = "login_import_row"
    __table_args__ = (
        UniqueConstraint("import_id", "login"),
        CheckConstraint(
            "outcome IN ('matched', 'ambiguous', 'unmatched', 'no_product', 'technical', 'known', 'imported', 'left_out')",
            name="outcome",
        ),
    )

    id: Mapped[BigKey]
    import_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("login_import.id", ondelete="CASCADE"))
    login: Mapped[int] = mapped_column(BigInteger)
    group: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(128), server_default="")
    email: Mapped[str] = mapped_column(String(254), server_default="")
    leverage: Mapped[int] = mapped_column(Integer)
    balance: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    outcome: Mapped[str] = mapped_column(String(12))
    client_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("client.id"))
    product_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("product.id"))
    note: Mapped[str] = mapped_column(Text, server_default="")

    client: Mapped[Client | None] = relationship()
    product: Mapped[Product | None] = relationship()
