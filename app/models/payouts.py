"""Payouts of what IBs earned: runs with four eyes, a line per IB, frozen statements, and reversals."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment, Proposal, proposal_checks
from app.models.clients import Client
from app.models.metatrader import TradingAccount
from app.models.partners import IntroducingBroker
from app.models.payments import Transfer, Withdrawal

#: Where an IB's money may go. All of it goes through the wallet.
DESTINATIONS = ("wallet", "account", "withdrawal")

#: requested: by the IB, not in a run yet; proposed: in a run that waits; held: kept back by the approver; approved: to be paid;
#: paying: in the wallet, on its way on; failed: in the wallet, because the way on from there failed.
PAYOUT_STATES = (
    *("requested", "proposed", "held", "approved", "paying", "paid", "failed", "reversed", "rejected", "cancelled"),
)

#: One request of an IB at a time, until it is paid or turned down.
ASKED_FOR = "idempotency_key IS NOT NULL AND state IN ('requested', 'proposed', 'held', 'approved')"


class PayoutRun(Proposal, Model):
    """Payouts for all that was settled before `until`, proposed by one member of staff and decided by another."""

    __tablename__ = "payout_run"
    __table_args__ = proposal_checks()

    id: Mapped[BigKey]
    until: Mapped[Moment] = mapped_column(comment="what was settled from here on is left to the next run")

    payouts: Mapped[list[Payout]] = relationship(back_populates="run", order_by="Payout.id")


class Payout(Model):
    """What one IB gets at once, in one currency. While it waits, the amount is held on the commission account."""

    __tablename__ = "payout"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="positive"),
        CheckConstraint(f"destination IN {DESTINATIONS}", name="destination"),
        CheckConstraint("(destination = 'account') = (trading_account_id IS NOT NULL)", name="account"),
        CheckConstraint(f"state IN {PAYOUT_STATES}", name="state"),
        CheckConstraint("(ledger_txn_id IS NOT NULL) = (state IN ('paying', 'paid', 'failed', 'reversed'))", name="moved"),
        UniqueConstraint("ib_id", "idempotency_key"),
        Index("uq_payout_requested", "ib_id", unique=True, postgresql_where=text(ASKED_FOR)),
        Index("ix_payout_ib_id_id", "ib_id", "id"),
    )

    id: Mapped[BigKey]
    run_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("payout_run.id"), index=True)
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"))
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True, comment="the IB's own record")
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    destination: Mapped[str] = mapped_column(String(12))
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"))
    state: Mapped[str] = mapped_column(String(12), index=True)
    figures: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="how the amount came about: app/commissions/payables.py")
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")
    requested_by: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(64), comment="of the IB's own request; none: a run found it")
    hold_id: Mapped[Any] = mapped_column(UUID, unique=True)
    decided_by: Mapped[str | None] = mapped_column(Text, comment="who said what becomes of this line")
    decided_at: Mapped[Moment | None]
    decision_reason: Mapped[str] = mapped_column(Text, server_default="")
    ledger_txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True)
    transfer_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("transfer.id"), unique=True)
    withdrawal_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("withdrawal.id"), unique=True)
    failure: Mapped[str] = mapped_column(Text, server_default="", comment="why it is only in the wallet, for the IB")
    created_at: Mapped[CreatedAt]
    moved_at: Mapped[Moment | None] = mapped_column(comment="when it left the commission account")
    finished_at: Mapped[Moment | None]

    run: Mapped[PayoutRun | None] = relationship(back_populates="payouts")
    ib: Mapped[IntroducingBroker] = relationship()
    client: Mapped[Client] = relationship()
    trading_account: Mapped[TradingAccount | None] = relationship()
    transfer: Mapped[Transfer | None] = relationship()
    withdrawal: Mapped[Withdrawal | None] = relationship()

    @property
    def amount(self) -> Money:
        """What is paid."""
        return Money(self.amount_minor, self.currency)

    @property
    def is_asked_for(self) -> bool:
        """Whether the IB asked for it, rather than a run found it."""
        return self.idempotency_key is not None


class PayoutStatement(Model):
    """What a payout was made of, frozen in the transaction that moved the money; the PDF is made of it once."""

    __tablename__ = "payout_statement"

    payout_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("payout.id"), primary_key=True, autoincrement=False)
    last_version: Mapped[int] = mapped_column(BigInteger, comment="of the commission account: its entry of this payout")
    language: Mapped[str] = mapped_column(String(8))
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    content_sha256: Mapped[str] = mapped_column(String(64))
    pdf: Mapped[bytes | None] = mapped_column(LargeBinary)
    pdf_sha256: Mapped[str | None] = mapped_column(String(64))
    frozen_at: Mapped[CreatedAt]


class PayoutReversal(Proposal, Model):
    """That a paid payout be taken back from the wallet to the commission account; approved, it was."""

    __tablename__ = "payout_reversal"
    __table_args__ = (
        *proposal_checks(),
        Index("uq_payout_reversal_open", "payout_id", unique=True, postgresql_where=text("status = 'proposed'")),
    )

    id: Mapped[BigKey]
    payout_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("payout.id"), index=True)

    payout: Mapped[Payout] = relationship()
