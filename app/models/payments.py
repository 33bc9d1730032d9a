"""Deposits, withdrawals, transfers to and from trading accounts, and the raw callbacks of providers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client
from app.models.metatrader import BalanceOperation, TradingAccount


class Deposit(Model):
    """One attempt of a client to pay in through one connector. Its public id travels to the provider in every call."""

    __tablename__ = "deposit"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="positive"),
        CheckConstraint("(state = 'settled') <= (settled_minor IS NOT NULL)", name="settled_amount"),
        UniqueConstraint("connector", "provider_reference"),
        UniqueConstraint("client_id", "idempotency_key"),
    )

    id: Mapped[BigKey]
    public_id: Mapped[Any] = mapped_column(UUID, unique=True)
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    connector: Mapped[str] = mapped_column(String(40))
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(20), server_default="created", index=True)
    idempotency_key: Mapped[str] = mapped_column(String(64))
    provider_reference: Mapped[str | None] = mapped_column(Text, comment="checkout session")
    payment_reference: Mapped[str | None] = mapped_column(Text, comment="what a refund names")
    card_fingerprint: Mapped[str | None] = mapped_column(Text, comment="the provider's, the same for the same card")
    redirect_url: Mapped[str | None] = mapped_column(Text)
    settled_minor: Mapped[int | None] = mapped_column(BigInteger, comment="what the provider says it processed")
    fee_minor: Mapped[int | None] = mapped_column(BigInteger)
    refunded_minor: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="refunds under way or done")
    failure: Mapped[str] = mapped_column(Text, server_default="")
    asks: Mapped[int] = mapped_column(Integer, server_default="0", comment="times the janitor asked the provider")
    next_ask_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]
    settled_at: Mapped[Moment | None]
    ledger_txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True)

    client: Mapped[Client] = relationship()

    @property
    def amount(self) -> Money:
        """What the client wanted to pay in."""
        return Money(self.amount_minor, self.currency)


class Withdrawal(Model):
    """A client's request to be paid out, from the reservation of the money to the provider's final word."""

    __tablename__ = "withdrawal"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="positive"),
        CheckConstraint("approved_by IS NULL OR approved_by <> requested_by", name="four_eyes"),
        UniqueConstraint("client_id", "idempotency_key"),
    )

    id: Mapped[BigKey]
    public_id: Mapped[Any] = mapped_column(UUID, unique=True)
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    connector: Mapped[str] = mapped_column(String(40))
    deposit_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("deposit.id"), comment="the payment that is refunded")
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(20), server_default="requested", index=True)
    idempotency_key: Mapped[str] = mapped_column(String(64))
    hold_id: Mapped[Any] = mapped_column(UUID)
    capture_txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True)
    final_txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True)
    provider_reference: Mapped[str | None] = mapped_column(Text, comment="refund")
    requested_by: Mapped[str] = mapped_column(Text)
    approved_by: Mapped[str | None] = mapped_column(Text)
    approved_at: Mapped[Moment | None]
    reason: Mapped[str] = mapped_column(Text, server_default="", comment="why it was rejected or failed, for the client")
    asks: Mapped[int] = mapped_column(Integer, server_default="0")
    next_ask_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]

    client: Mapped[Client] = relationship()
    deposit: Mapped[Deposit] = relationship()

    @property
    def amount(self) -> Money:
        """What is to be paid out."""
        return Money(self.amount_minor, self.currency)


class Transfer(Model):
    """Money between a client's wallet and one of the client's trading accounts."""

    __tablename__ = "transfer"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="positive"),
        CheckConstraint("direction IN ('to_account', 'to_wallet')", name="direction"),
        UniqueConstraint("client_id", "idempotency_key"),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    trading_account_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("trading_account.id"), index=True)
    direction: Mapped[str] = mapped_column(String(12))
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(20), server_default="requested", index=True)
    idempotency_key: Mapped[str] = mapped_column(String(64))
    hold_id: Mapped[Any | None] = mapped_column(UUID)
    operation_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("balance_operation.id"), unique=True)
    ledger_txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True)
    failure: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]

    client: Mapped[Client] = relationship()
    trading_account: Mapped[TradingAccount] = relationship()
    operation: Mapped[BalanceOperation | None] = relationship()

    @property
    def amount(self) -> Money:
        """What is to be moved."""
        return Money(self.amount_minor, self.currency)


class Callback(Model):
    """A provider's callback as it came: stored with its verdict before anything acts on it."""

    __tablename__ = "callback"
    __table_args__ = (UniqueConstraint("connector", "event_id"),)

    id: Mapped[BigKey]
    connector: Mapped[str] = mapped_column(String(40))
    event_id: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the raw body")
    body: Mapped[bytes] = mapped_column(LargeBinary)
    address: Mapped[str] = mapped_column(Text)
    received_at: Mapped[CreatedAt]
    processed_at: Mapped[Moment | None]
    is_ignored: Mapped[bool] = mapped_column(Boolean, server_default="false", comment="a type we have no use for")
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
