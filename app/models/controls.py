"""The controls over the ledger: requests that need four eyes, proofs and what they found, lines of the outside world."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment, Proposal, proposal_checks

REQUEST_KINDS = ("adjustment", "reversal", "period_close")


class LedgerRequest(Proposal, Model):
    """What one member of staff wants done in the ledger, and what another one decided. Nothing is posted before that.

    An adjustment has `legs` (a list of account, side, amount_minor, currency), a reversal `reverses`, a period's close
    `closed_through`.
    """

    __tablename__ = "ledger_request"
    __table_args__ = (
        UniqueConstraint("proposed_by", "idempotency_key"),
        CheckConstraint("kind IN ('adjustment', 'reversal', 'period_close')", name="kind"),
        *proposal_checks(),
        CheckConstraint("length(reason) > 0", name="reason"),
        CheckConstraint(
            "CASE kind WHEN 'adjustment' THEN legs IS NOT NULL AND effective_at IS NOT NULL"
            " WHEN 'reversal' THEN reverses IS NOT NULL AND effective_at IS NOT NULL"
            " ELSE closed_through IS NOT NULL END",
            name="content",
        ),
        Index("uq_ledger_request_reverses_open", "reverses", unique=True, postgresql_where=text("status = 'proposed'")),
    )

    id: Mapped[BigKey]
    kind: Mapped[str] = mapped_column(String(16))
    legs: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    reverses: Mapped[Any | None] = mapped_column(UUID, index=True)
    closed_through: Mapped[Moment | None]
    effective_at: Mapped[Moment | None]
    evidence_key: Mapped[str | None] = mapped_column(String(64), comment="the sealed file in the document storage")
    evidence_name: Mapped[str] = mapped_column(Text, server_default="")
    evidence_type: Mapped[str] = mapped_column(Text, server_default="", comment="media type")
    idempotency_key: Mapped[str] = mapped_column(String(64))
    txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True, comment="the transaction it became")


class ProofRun(Model):
    """One run of all proofs. `holds` is empty while it runs, or when it was cut short."""

    __tablename__ = "proof_run"

    id: Mapped[BigKey]
    started_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]
    started_by: Mapped[str] = mapped_column(Text)
    holds: Mapped[bool | None] = mapped_column(Boolean)

    results: Mapped[list[ProofResult]] = relationship(order_by="ProofResult.name", viewonly=True)


class ProofResult(Model):
    """What one proof of a run compared and found. Of many breaks the first ones are kept, and all are counted."""

    __tablename__ = "proof_result"

    run_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("proof_run.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(8), primary_key=True, comment="P1 to P9")
    compared: Mapped[int] = mapped_column(BigInteger)
    break_count: Mapped[int] = mapped_column(BigInteger)
    breaks: Mapped[list[str]] = mapped_column(JSONB)
    seconds: Mapped[float] = mapped_column(Double)


class Alert(Model):
    """Something that people must look at. One is open at a time for a code and subject; it closes when its cause is gone."""

    __tablename__ = "alert"
    __table_args__ = (
        Index("uq_alert_open", "code", "subject", unique=True, postgresql_where=text("closed_at IS NULL")),
        CheckConstraint("(acknowledged_by IS NULL) = (acknowledged_at IS NULL)", name="acknowledged"),
    )

    id: Mapped[BigKey]
    code: Mapped[str] = mapped_column(String(60), comment="what is wrong, such as ledger.proof_failed")
    subject: Mapped[str] = mapped_column(String(200), comment="with what, such as P6")
    data: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    raised_at: Mapped[CreatedAt]
    seen_at: Mapped[Moment] = mapped_column(server_default=text("now()"), comment="when it was found last")
    acknowledged_by: Mapped[str | None] = mapped_column(Text)
    acknowledged_at: Mapped[Moment | None]
    closed_at: Mapped[Moment | None]


class ExternalStatement(Model):
    """A file from a bank or payment provider: what they say moved on an account that we have with them."""

    __tablename__ = "external_statement"

    id: Mapped[BigKey]
    account_code: Mapped[str] = mapped_column(String(120), index=True, comment="the account of ours that it is compared with")
    file_name: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    imported_by: Mapped[str] = mapped_column(Text)
    imported_at: Mapped[CreatedAt]

    lines: Mapped[list[ExternalLine]] = relationship(order_by="ExternalLine.line", viewonly=True)


class ExternalLine(Model):
    """One movement as the outside sees it; positive is money that came to us. Matched to one entry, or explained by one."""

    __tablename__ = "external_line"
    __table_args__ = (
        UniqueConstraint("statement_id", "line"),
        UniqueConstraint("account_id", "account_version"),
        CheckConstraint("amount_minor <> 0", name="amount"),
        CheckConstraint("(account_id IS NULL) = (account_version IS NULL)", name="entry"),
        CheckConstraint("(matched_at IS NULL) = (account_id IS NULL)", name="matched"),
        Index("ix_external_line_open", "booked_on", postgresql_where=text("matched_at IS NULL")),
    )

    id: Mapped[BigKey]
    statement_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("external_statement.id"))
    line: Mapped[int] = mapped_column(Integer)
    booked_on: Mapped[date] = mapped_column(Date)
    reference: Mapped[str] = mapped_column(Text, comment="the provider's, such as the payment's id")
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    description: Mapped[str] = mapped_column(Text, server_default="")
    account_id: Mapped[int | None] = mapped_column(BigInteger, comment="with account_version: the entry it was matched with")
    account_version: Mapped[int | None] = mapped_column(BigInteger)
    matched_by: Mapped[str] = mapped_column(Text, server_default="")
    matched_at: Mapped[Moment | None]

    statement: Mapped[ExternalStatement] = relationship(viewonly=True)

    @property
    def amount(self) -> Money:
        """What came (or, negative, went)."""
        return Money(self.amount_minor, self.currency)
