"""Trading servers, products, trading accounts and what the servers report: deals, positions, operations."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client


class Server(Model):
    """A trading server. Its password stands in the environment (MT5_PASSWORD), never here."""

    __tablename__ = "mt_server"

    id: Mapped[BigKey]
    code: Mapped[str] = mapped_column(String(20), unique=True, comment="short name in streams and ledger codes")
    name: Mapped[str] = mapped_column(String(100))
    platform: Mapped[str] = mapped_column(String(20), comment="registered adapter, such as mt5_web")
    url: Mapped[str] = mapped_column(Text)
    manager_login: Mapped[int] = mapped_column(BigInteger)
    time_zone: Mapped[str] = mapped_column(String(40), comment="IANA zone of the server's wall clock")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default="true")

    def __repr__(self) -> str:
        return self.name


class Product(Model):
    """What a client can open: a template of server, group, currency and leverage choices."""

    __tablename__ = "product"

    id: Mapped[BigKey]
    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str] = mapped_column(Text, server_default="")
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    group: Mapped[str] = mapped_column(String(128))
    currency: Mapped[str] = mapped_column(String(8))
    leverages: Mapped[list[int]] = mapped_column(JSONB, comment="choices, such as [30, 100, 200]")
    is_demo: Mapped[bool] = mapped_column(Boolean, server_default="false")
    is_open: Mapped[bool] = mapped_column(Boolean, server_default="true", comment="offered to clients now")

    server: Mapped[Server] = relationship()

    def __repr__(self) -> str:
        return self.name


class TradingAccount(Model):
    """One login at one server, owned by one client. Balance and equity are the server's last word, for display."""

    __tablename__ = "trading_account"
    __table_args__ = (
        CheckConstraint("status IN ('requested', 'opening', 'unknown', 'active', 'failed')", name="status"),
        CheckConstraint("(status = 'active') <= (login IS NOT NULL)", name="active_has_login"),
        UniqueConstraint("server_id", "login"),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    product_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("product.id"))
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    login: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    leverage: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(16), server_default="requested")
    token: Mapped[str] = mapped_column(String(16), unique=True, comment="our mark in the server's record")
    error: Mapped[str] = mapped_column(Text, server_default="")
    balance: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    credit: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    equity: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    state_at: Mapped[Moment | None] = mapped_column(comment="server moment of balance, credit and equity")
    password_sealed: Mapped[bytes | None] = mapped_column(LargeBinary, comment="encrypted until the client has seen it once")
    password_shown_at: Mapped[Moment | None]
    requested_at: Mapped[CreatedAt]
    opened_at: Mapped[Moment | None]

    client: Mapped[Client] = relationship()
    product: Mapped[Product] = relationship()
    server: Mapped[Server] = relationship()

    def __repr__(self) -> str:
        return f"{self.login or '—'}"


class Deal(Model):
    """One deal as one server reported it, at one revision. An edit is a new revision; a deletion voids, never deletes."""

    __tablename__ = "deal"
    __table_args__ = (
        UniqueConstraint("server_id", "ticket", "revision"),
        Index("ix_deal_current", "server_id", "ticket", unique=True, postgresql_where=text("is_current")),
        Index("ix_deal_account_time", "trading_account_id", "done_at", "id"),
        Index("ix_deal_position", "server_id", "position_ticket"),
        Index("ix_deal_unmirrored", "id", postgresql_where=text("ledger_txn_id IS NULL")),
        Index("ix_deal_ledger_txn_id", "ledger_txn_id", postgresql_where=text("ledger_txn_id IS NOT NULL")),
    )

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    ticket: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(Integer, server_default="1")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the business fields")
    is_current: Mapped[bool] = mapped_column(Boolean, server_default="true")
    is_void: Mapped[bool] = mapped_column(Boolean, server_default="false")
    login: Mapped[int] = mapped_column(BigInteger)
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"))
    action: Mapped[int] = mapped_column(Integer, comment="0 buy, 1 sell, 2 balance …")
    entry: Mapped[int] = mapped_column(Integer, comment="0 in, 1 out, 2 in/out, 3 out by")
    reason: Mapped[int] = mapped_column(Integer)
    order_ticket: Mapped[int] = mapped_column(BigInteger)
    position_ticket: Mapped[int] = mapped_column(BigInteger)
    symbol: Mapped[str] = mapped_column(String(32))
    volume: Mapped[int] = mapped_column(BigInteger, comment="1/100000000 lot")
    volume_closed: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="1/100000000 lot")
    price: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    market_bid: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    market_ask: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    contract_size: Mapped[Decimal] = mapped_column(Numeric(20, 4), server_default="0")
    profit: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    swap: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    commission: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    fee: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    rate_profit: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    digits_currency: Mapped[int] = mapped_column(Integer, server_default="2")
    comment: Mapped[str] = mapped_column(String(64), server_default="")
    server_time_ms: Mapped[int] = mapped_column(BigInteger, comment="raw wall clock of the server")
    utc_offset_min: Mapped[int] = mapped_column(Integer)
    done_at: Mapped[Moment]
    booked_at: Mapped[CreatedAt]
    ledger_txn_id: Mapped[Any | None] = mapped_column(UUID, comment="mirror transaction that carries this deal's result")
    is_ours: Mapped[bool] = mapped_column(Boolean, server_default="false", comment="balance operation we sent")

    trading_account: Mapped[TradingAccount | None] = relationship()


class Position(Model):
    """An open position, as the server last reported it."""

    __tablename__ = "position"
    __table_args__ = (UniqueConstraint("server_id", "ticket"),)

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    ticket: Mapped[int] = mapped_column(BigInteger)
    login: Mapped[int] = mapped_column(BigInteger, index=True)
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"), index=True)
    symbol: Mapped[str] = mapped_column(String(32))
    action: Mapped[int] = mapped_column(Integer)
    volume: Mapped[int] = mapped_column(BigInteger, comment="1/100000000 lot")
    price_open: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    price_current: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    profit: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    swap: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    opened_at: Mapped[Moment]
    update_ms: Mapped[int] = mapped_column(BigInteger, comment="raw server moment of the last report; older ones are ignored")


class BalanceOperation(Model):
    """One balance operation we ask of a server: written before it is sent, found again by its token when the answer is lost."""

    __tablename__ = "balance_operation"
    __table_args__ = (
        CheckConstraint("status IN ('new', 'sending', 'unknown', 'done', 'failed')", name="status"),
        CheckConstraint("(status = 'done') = (deal_ticket IS NOT NULL)", name="done_has_ticket"),
        UniqueConstraint("server_id", "deal_ticket"),
        Index(
            "uq_balance_operation_one_in_flight",
            "server_id",
            "login",
            unique=True,
            postgresql_where=text("status IN ('sending', 'unknown')"),
        ),
    )

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    login: Mapped[int] = mapped_column(BigInteger)
    token: Mapped[str] = mapped_column(String(16), unique=True, comment="first in the deal's comment")
    amount_minor: Mapped[int] = mapped_column(BigInteger, comment="positive puts in, negative takes out")
    currency: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(16), server_default="new")
    deal_ticket: Mapped[int | None] = mapped_column(BigInteger)
    sends: Mapped[int] = mapped_column(Integer, server_default="0")
    looks: Mapped[int] = mapped_column(Integer, server_default="0", comment="times the token was looked for and not found")
    looked_at: Mapped[Moment | None]
    sent_at: Mapped[Moment | None]
    error: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]

    server: Mapped[Server] = relationship()

    @property
    def amount(self) -> Money:
        """Positive puts money in, negative takes it out."""
        return Money(self.amount_minor, self.currency)


class DeadLetter(Model):
    """A stream entry that cannot be booked, with the reason; replayable once mended."""

    __tablename__ = "mt_dead_letter"
    __table_args__ = (UniqueConstraint("stream", "entry_id"),)

    id: Mapped[BigKey]
    stream: Mapped[str] = mapped_column(Text)
    entry_id: Mapped[str] = mapped_column(Text)
    fields: Mapped[dict[str, Any]] = mapped_column(JSONB)
    reason: Mapped[str] = mapped_column(Text)
    received_at: Mapped[CreatedAt]
    replayed_at: Mapped[Moment | None]
