"""The ledger's tables: accounts, transactions with their entries, holds, closed periods.

They are mapped to be read. Every change goes through the functions of app/ledger (which call those in app/ledger/sql):
the application's database role may insert currencies and accounts, and nothing else in this schema.

A *transaction* is a header (`txn`) with two or more *entries*; each entry debits or credits one account by whole minor
units of its currency. Per currency the debits of a transaction equal its credits. An account keeps running counters of
its debits and credits; entries keep the counters as they stood after them, so that each balance can be traced and proved.
A *hold* reserves part of an account's balance until it is resolved, once, as captured, released or expired.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.schema import conv

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.core.tables import XID8

SCHEMA = "ledger"

#: The balance of an account grows by debits, or by credits, depending on its kind.
DEBIT_KINDS = ("asset", "expense")
CREDIT_KINDS = ("liability", "equity", "income")
HOLD_OUTCOMES = ("captured", "released", "expired")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Currency(Model):
    """A unit of money. Its exponent (digits after the point) is fixed when the first account in it is opened."""

    __tablename__ = "currency"
    __table_args__ = (CheckConstraint("exponent BETWEEN 0 AND 8", name="exponent"), {"schema": SCHEMA})

    code: Mapped[str] = mapped_column(String(8), primary_key=True)
    exponent: Mapped[int] = mapped_column(SmallInteger)

    def __repr__(self) -> str:
        return self.code


class Account(Model):
    """One place where money of one currency stands. `balance` is positive on the side that is natural for its kind."""

    __tablename__ = "account"
    __table_args__ = (
        # One check only, and a short one: each is read anew for every posting.
        CheckConstraint("available >= 0", name=conv("sufficient_funds")),
        UniqueConstraint("id", "currency"),
        Index("ix_account_client_id", "client_id", postgresql_where=text("client_id IS NOT NULL")),
        # Room on each page lets updates of the counters stay in place, without touching an index.
        {"schema": SCHEMA, "postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[BigKey]
    code: Mapped[str] = mapped_column(String(120), unique=True, comment="owner:id:purpose:currency, see app/ledger/chart.py")
    kind: Mapped[str] = mapped_column(String(10))
    currency: Mapped[str] = mapped_column(String(8), ForeignKey("ledger.currency.code"))
    may_go_negative: Mapped[bool] = mapped_column(Boolean, server_default="false")
    client_id: Mapped[int | None] = mapped_column(BigInteger, comment="whose money it is; empty for the house's own accounts")
    opened_at: Mapped[CreatedAt]
    closed_at: Mapped[Moment | None]
    debits: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="sum of all debits, minor units")
    credits: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="sum of all credits, minor units")
    held: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="sum of unresolved holds, minor units")
    version: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="number of entries")
    effective_through: Mapped[Moment] = mapped_column(
        server_default=text("'1900-01-01 00:00+00'"), comment="the latest effective moment of its entries"
    )
    side: Mapped[int] = mapped_column(SmallInteger, comment="1 where credits raise the balance, -1 where debits do; by kind")
    available: Mapped[int | None] = mapped_column(
        BigInteger, comment="balance less holds, minor units; empty where the account may go below zero"
    )
    balance: Mapped[int] = mapped_column(BigInteger, Computed("(credits - debits) * side", persisted=False), nullable=True)

    @property
    def posted(self) -> Money:
        """What the entries say."""
        return Money(self.balance, self.currency)

    @property
    def set_aside(self) -> Money:
        """The part of it that holds keep."""
        return Money(self.held, self.currency)

    def __repr__(self) -> str:
        return self.code


class Transaction(Model):
    """The header of one balanced set of entries, written once. A correction is another transaction that reverses it."""

    __tablename__ = "txn"
    __table_args__ = (
        Index("uq_txn_reverses", "reverses", unique=True, postgresql_where=text("reverses IS NOT NULL")),
        # For sealing what is new. Written in this order anyway, so ranges of pages are enough and cost postings nothing.
        Index("ix_txn_xact_seq", text("(xact::text::bigint)"), "seq", postgresql_using="brin"),
        {"schema": SCHEMA},
    )

    id: Mapped[UUID] = mapped_column(PGUUID, primary_key=True, server_default=text("uuidv7()"))
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), comment="order within one database transaction")
    idempotency_key: Mapped[str] = mapped_column(Text, unique=True, comment="business key, such as deposit:stripe:pi_1")
    kind: Mapped[str] = mapped_column(String(60), comment="what happened, such as deposit or withdrawal.submitted")
    effective_at: Mapped[Moment] = mapped_column(comment="when it counts, for statements and periods")
    posted_at: Mapped[CreatedAt]
    actor: Mapped[str] = mapped_column(Text)
    reverses: Mapped[UUID | None] = mapped_column(PGUUID, ForeignKey("ledger.txn.id"))
    xact: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    # `metadata` is taken by the declarative base.
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'"))

    entries: Mapped[list[Entry]] = relationship(back_populates="txn", viewonly=True)

    def __repr__(self) -> str:
        return f"{self.kind} {self.id}"


class Entry(Model):
    """One leg: a debit or a credit on one account, with the account's version and counters as they stood after it."""

    __tablename__ = "entry"
    __table_args__ = (
        # The foreign keys are declared NOT ENFORCED: trigger `balanced` judges the same once per transaction, for less.
        ForeignKeyConstraint(["account_id", "currency"], ["ledger.account.id", "ledger.account.currency"]),
        UniqueConstraint("txn_id", "account_id"),
        Index("ix_entry_account_id_effective_at", "account_id", "effective_at", "account_version"),
        Index("ix_entry_late", "account_id", "account_version", postgresql_where=text("lateness = 2")),
        {"schema": SCHEMA},
    )

    account_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    account_version: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="1 for the first entry"
    )
    txn_id: Mapped[UUID] = mapped_column(PGUUID, ForeignKey("ledger.txn.id"))
    effective_at: Mapped[Moment] = mapped_column(comment="copy of the transaction's, so that statements read one index")
    debit: Mapped[int] = mapped_column(BigInteger, comment="minor units")
    credit: Mapped[int] = mapped_column(BigInteger, comment="minor units")
    debits_after: Mapped[int] = mapped_column(BigInteger)
    credits_after: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    lateness: Mapped[int] = mapped_column(
        SmallInteger, server_default="0", comment="0 in order of effective moments, 1 minutes behind, 2 further (queries.py)"
    )

    txn: Mapped[Transaction] = relationship(back_populates="entries", viewonly=True)
    account: Mapped[Account] = relationship(viewonly=True)

    @property
    def debited(self) -> Money | None:
        return Money(self.debit, self.currency) if self.debit else None

    @property
    def credited(self) -> Money | None:
        return Money(self.credit, self.currency) if self.credit else None


class Hold(Model):
    """A reservation on one account: what it names is not available until it is resolved. The posted balance stays."""

    __tablename__ = "hold"
    __table_args__ = (
        CheckConstraint("amount > 0", name="positive"),
        CheckConstraint("length(idempotency_key) BETWEEN 1 AND 200", name="idempotency_key"),
        {"schema": SCHEMA},
    )

    id: Mapped[UUID] = mapped_column(PGUUID, primary_key=True, server_default=text("uuidv7()"))
    account_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ledger.account.id"), index=True)
    amount: Mapped[int] = mapped_column(BigInteger, comment="minor units of the account's currency")
    idempotency_key: Mapped[str] = mapped_column(Text, unique=True)
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    placed_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment | None] = mapped_column(comment="from then on it may be expired; until then it stands")

    account: Mapped[Account] = relationship(viewonly=True)
    resolution: Mapped[HoldResolution | None] = relationship(viewonly=True)


class HoldResolution(Model):
    """How a hold ended. The hold's id is the key: a hold is resolved once, whatever its callers do."""

    __tablename__ = "hold_resolution"
    __table_args__ = (
        CheckConstraint(_one_of("outcome", HOLD_OUTCOMES), name="outcome"),
        CheckConstraint("(outcome = 'captured') = (txn_id IS NOT NULL)", name="captured_has_txn"),
        {"schema": SCHEMA},
    )

    hold_id: Mapped[UUID] = mapped_column(PGUUID, ForeignKey("ledger.hold.id"), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(10))
    txn_id: Mapped[UUID | None] = mapped_column(
        PGUUID, ForeignKey("ledger.txn.id"), unique=True, comment="what the hold became"
    )
    actor: Mapped[str] = mapped_column(Text)
    resolved_at: Mapped[CreatedAt]


class PeriodClose(Model):
    """Nothing may be posted any more with an effective moment before `closed_through`."""

    __tablename__ = "period_close"
    __table_args__ = (CheckConstraint("closed_through <= closed_at", name="past"), {"schema": SCHEMA})

    closed_through: Mapped[Moment] = mapped_column(primary_key=True)
    closed_at: Mapped[CreatedAt]
    actor: Mapped[str] = mapped_column(Text)


class Seal(Model):
    """A hash over transactions with their entries, chained to the seal before it.

    It covers the transactions with database ids above the last seal's and up to `through_xact`, and with `seq` above
    `after_seq`: database ids begin anew in a database that was restored into another server, sequences go on.
    """

    __tablename__ = "seal"
    __table_args__ = (UniqueConstraint("after_seq", "through_xact"), {"schema": SCHEMA})

    id: Mapped[BigKey]
    through_xact: Mapped[int] = mapped_column(XID8)
    through_seq: Mapped[int] = mapped_column(BigInteger, comment="the highest seq so far")
    after_seq: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="through_seq when the database ids began anew"
    )
    txns: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_at: Mapped[CreatedAt]
