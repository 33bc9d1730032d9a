"""Commission plans as versioned data, what was accrued by which deal, and what was settled."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Numeric, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment, Proposal, proposal_checks
from app.models.metatrader import Deal
from app.models.partners import IntroducingBroker


class Plan(Model):
    """How IBs are paid. The rules stand in its versions."""

    __tablename__ = "plan"

    id: Mapped[BigKey]
    name: Mapped[str] = mapped_column(String(100), unique=True)
    currency: Mapped[str] = mapped_column(String(8))

    def __repr__(self) -> str:
        return self.name


class PlanVersion(Model):
    """The rules of a plan from a moment on; immutable once published."""

    __tablename__ = "plan_version"
    __table_args__ = (UniqueConstraint("plan_id", "version"), UniqueConstraint("plan_id", "valid_from"))

    id: Mapped[BigKey]
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"))
    version: Mapped[int] = mapped_column(Integer)
    valid_from: Mapped[Moment]
    rules: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, comment="see app/commissions/plans.py")
    created_at: Mapped[CreatedAt]

    plan: Mapped[Plan] = relationship()


class PlanDraft(Proposal, Model):
    """Rules that one member of staff wants a plan to have from a moment on, and what another one decided."""

    __tablename__ = "plan_draft"
    __table_args__ = (
        *proposal_checks(),
        CheckConstraint("(status = 'approved') = (version_id IS NOT NULL)", name="published"),
    )

    id: Mapped[BigKey]
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"), index=True)
    rules: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, comment="with all defaults written out")
    valid_from: Mapped[Moment]
    version_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("plan_version.id"), unique=True)

    plan: Mapped[Plan] = relationship()


class IBPlan(Model):
    """Which plan an IB is paid by, for a span of time."""

    __tablename__ = "ib_plan"
    __table_args__ = (
        CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="span"),
        Index("uq_ib_plan_current", "ib_id", unique=True, postgresql_where=text("valid_to IS NULL")),
    )

    id: Mapped[BigKey]
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"))
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"))
    valid_from: Mapped[Moment]
    valid_to: Mapped[Moment | None]

    ib: Mapped[IntroducingBroker] = relationship()
    plan: Mapped[Plan] = relationship()


class Accrual(Model):
    """What one rule of one plan version gives one IB for one deal, unrounded, with all that explains it."""

    __tablename__ = "accrual"
    __table_args__ = (
        UniqueConstraint("deal_id", "plan_version_id", "rule", "level", "ib_id", "kind"),
        Index("ix_accrual_unsettled", "ib_id", "currency", postgresql_where=text("settlement_id IS NULL")),
        Index("ix_accrual_ib_id_id", "ib_id", "id"),
    )

    id: Mapped[BigKey]
    deal_id: Mapped[int] = mapped_column(BigInteger, comment="deal.id; deals are never removed, and lie in months")
    plan_version_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan_version.id"))
    rule: Mapped[str] = mapped_column(String(40), comment="key of the rule within the version")
    level: Mapped[int] = mapped_column(Integer)
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"))
    kind: Mapped[str] = mapped_column(String(40), comment="accrue, reverse, adjust:<run>")
    amount: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    currency: Mapped[str] = mapped_column(String(8))
    lots: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    rate: Mapped[Decimal] = mapped_column(Numeric(20, 10), comment="of this level: per lot, per deal, or percent of base")
    base: Mapped[Decimal | None] = mapped_column(Numeric(24, 10), comment="what the rate was applied to, where it is not lots")
    base_currency: Mapped[str | None] = mapped_column(String(8), comment="none: a number")
    fx_rate: Mapped[Decimal | None] = mapped_column(Numeric(40, 32), comment="1 base_currency in currency, where they differ")
    fx_source: Mapped[str | None] = mapped_column(String(60))
    fx_observed_at: Mapped[Moment | None]
    uncapped: Mapped[Decimal | None] = mapped_column(Numeric(24, 10), comment="before the rule's cap, where it took something")
    accrued_at: Mapped[CreatedAt]
    settlement_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("settlement.id"), index=True)

    deal: Mapped[Deal] = relationship(primaryjoin="foreign(Accrual.deal_id) == Deal.id")
    plan_version: Mapped[PlanVersion] = relationship()
    ib: Mapped[IntroducingBroker] = relationship()


class DealOutcome(Model):
    """That a deal was judged for commission, and why it paid nothing when it did."""

    __tablename__ = "deal_outcome"
    __table_args__ = (
        # The reasons that wait for something to be mended: WAITING in app/commissions/engine.py.
        Index(
            "ix_deal_outcome_waiting",
            "judged_at",
            postgresql_where=text(
                "reason IN ('no_account', 'opening_unknown', 'plan_invalid', 'beyond_limits', 'no_spread', 'no_rate')"
            ),
        ),
    )

    deal_id: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="deal.id; deals are never removed, and lie in months"
    )
    accruals: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(String(40), server_default="", comment="code of the reason when nothing was paid")
    judged_at: Mapped[CreatedAt]


class Settlement(Model):
    """The unsettled accruals of one IB in one currency, rounded down and posted to the ledger; the rest is carried."""

    __tablename__ = "settlement"
    __table_args__ = (
        UniqueConstraint("ib_id", "currency", "period"),
        Index("ix_settlement_ib_currency", "ib_id", "currency", "id"),
    )

    id: Mapped[BigKey]
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"))
    currency: Mapped[str] = mapped_column(String(8))
    accrued: Mapped[Decimal] = mapped_column(Numeric(24, 10), comment="sum of its accruals")
    carried_in: Mapped[Decimal] = mapped_column(Numeric(24, 10), comment="remainder of the settlement before")
    amount_minor: Mapped[int] = mapped_column(BigInteger, comment="posted")
    carried_out: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    ledger_txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True, comment="none when nothing was left after rounding")
    settled_at: Mapped[CreatedAt]
    period: Mapped[str] = mapped_column(Text, comment="key of the settlement run")

    ib: Mapped[IntroducingBroker] = relationship()

    @property
    def posted(self) -> Money:
        """What the ledger got of it, whole minor units."""
        return Money(self.amount_minor, self.currency)
