"""Commission plans as versioned data, what was accrued by which deal, and what was settled."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment, Proposal, proposal_checks
from app.models.metatrader import Deal
from app.models.partners import IntroducingBroker


class Plan(Model):
    """How IBs are paid. The rules stand in its versions."""

    __tablename__ = "plan"
    __table_args__ = (
        CheckConstraint("settle_every IN ('minutes', 'hour', 'day', 'week', 'month')", name="settle_every"),
        CheckConstraint("cascade_guard IN ('refuse', 'flag')", name="cascade_guard"),
    )

    id: Mapped[BigKey]
    name: Mapped[str] = mapped_column(String(100), unique=True)
    currency: Mapped[str] = mapped_column(String(8))
    settle_every: Mapped[str] = mapped_column(
        String(8), server_default="minutes", comment="minutes, hour, day, week, month: how long accruals are gathered"
    )
    min_payout_minor: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="in the plan's currency: less is not paid out"
    )
    hold_days: Mapped[int] = mapped_column(
        Integer, server_default="0", comment="days after its settlement before it is paid out"
    )
    cascade_guard: Mapped[str] = mapped_column(
        String(6), server_default="refuse", comment="refuse, flag: a personal rate above that of the IB above"
    )

    def __repr__(self) -> str:
        return self.name


class PlanVersion(Model):
    """The rules of a plan from a moment on; immutable once published."""

    __tablename__ = "plan_version"
    __table_args__ = (
        UniqueConstraint("plan_id", "version"),
        UniqueConstraint("plan_id", "valid_from"),
        CheckConstraint("margin_guard IN ('off', 'flag', 'cap')", name="margin_guard"),
    )

    id: Mapped[BigKey]
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"))
    version: Mapped[int] = mapped_column(Integer)
    valid_from: Mapped[Moment]
    rules: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, comment="see app/commissions/plans.py")
    margin_guard: Mapped[str] = mapped_column(
        String(4), server_default="off", comment="off, flag, cap: when a deal pays out more than it earned"
    )
    created_at: Mapped[CreatedAt]

    plan: Mapped[Plan] = relationship()


class PlanDraft(Proposal, Model):
    """Rules that one member of staff wants a plan to have from a moment on, and what another one decided."""

    __tablename__ = "plan_draft"
    __table_args__ = (
        *proposal_checks(),
        CheckConstraint("(status = 'approved') = (version_id IS NOT NULL)", name="published"),
        CheckConstraint("margin_guard IN ('off', 'flag', 'cap')", name="margin_guard"),
    )

    id: Mapped[BigKey]
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"), index=True)
    rules: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, comment="with all defaults written out")
    margin_guard: Mapped[str] = mapped_column(String(4), server_default="off")
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


class AccrualCursor(Model):
    """How far one shard of a server's deals has been judged: all up to `deal_id` are; see app/commissions/accrual.py."""

    __tablename__ = "accrual_cursor"

    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"), primary_key=True, autoincrement=False)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    deal_id: Mapped[int] = mapped_column(BigInteger)
    moved_at: Mapped[CreatedAt]


class AccrualUnit(Model):
    """Accruals that were written together. Its sums are what settlements take; neither it nor they are ever changed."""

    __tablename__ = "accrual_unit"

    id: Mapped[BigKey]
    server_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("mt_server.id"), comment="none: not of deals")
    shard: Mapped[int | None] = mapped_column(SmallInteger)
    accruals: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[CreatedAt]


class Accrual(Model):
    """What one rule of one plan version gives somebody for one deal or occasion, unrounded, with all that explains it.

    `ib_id` gets it; of level 0, a rebate, `client_id`, the trader. Written by COPY, thousands at a time, and never changed:
    what it names is checked where its unit's sums are.
    """

    __tablename__ = "accrual"
    __table_args__ = (
        Index(
            "uq_accrual_of_deal",
            *("deal_id", "plan_version_id", "rule", "level", "ib_id", "kind"),
            unique=True,
            postgresql_where=text("deal_id IS NOT NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        Index(
            "uq_accrual_of_occasion",
            *("occasion_id", "level", "kind"),
            unique=True,
            postgresql_where=text("occasion_id IS NOT NULL"),
        ),
        CheckConstraint("(deal_id IS NULL) <> (occasion_id IS NULL)", name="cause"),
        CheckConstraint("(level = 0) = (client_id IS NOT NULL) AND (level = 0) = (ib_id IS NULL)", name="beneficiary"),
        Index("ix_accrual_ib_id_id", "ib_id", "id"),
    )

    id: Mapped[BigKey]
    unit_id: Mapped[int] = mapped_column(BigInteger, comment="accrual_unit.id")
    deal_id: Mapped[int | None] = mapped_column(BigInteger, comment="deal.id; deals are never removed, and lie in months")
    occasion_id: Mapped[int | None] = mapped_column(BigInteger, comment="occasion.id, where it is not for a deal")
    plan_version_id: Mapped[int] = mapped_column(BigInteger, comment="plan_version.id")
    rule: Mapped[str] = mapped_column(String(40), comment="key of the rule within the version")
    level: Mapped[int] = mapped_column(Integer)
    ib_id: Mapped[int | None] = mapped_column(BigInteger, comment="introducing_broker.id")
    client_id: Mapped[int | None] = mapped_column(BigInteger, comment="client.id, of a rebate")
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
    multiplier: Mapped[Decimal | None] = mapped_column(Numeric(8, 4), comment="the IB's own at that moment")
    part: Mapped[Decimal | None] = mapped_column(Numeric(8, 6), comment="kept after handing on, or, of level 0, handed on")
    earned: Mapped[Decimal | None] = mapped_column(
        Numeric(24, 10), comment="what the deal earned, where the margin guard cut its payouts to that"
    )
    tier_position: Mapped[Decimal | None] = mapped_column(
        Numeric(24, 10), comment="where the tiers stood: of marginal ones before the deal"
    )
    cap_paid: Mapped[Decimal | None] = mapped_column(
        Numeric(24, 10), comment="what the IB had got before in the period whose cap took something"
    )
    accrued_at: Mapped[CreatedAt]

    deal: Mapped[Deal] = relationship(primaryjoin="foreign(Accrual.deal_id) == Deal.id")
    plan_version: Mapped[PlanVersion] = relationship(primaryjoin="foreign(Accrual.plan_version_id) == PlanVersion.id")
    ib: Mapped[IntroducingBroker | None] = relationship(primaryjoin="foreign(Accrual.ib_id) == IntroducingBroker.id")
    sum: Mapped[AccrualSum] = relationship(
        viewonly=True,
        primaryjoin="and_(foreign(Accrual.unit_id) == AccrualSum.unit_id, Accrual.currency == AccrualSum.currency,"
        " Accrual.plan_version_id == AccrualSum.plan_version_id, Accrual.ib_id.is_not_distinct_from(AccrualSum.ib_id),"
        " Accrual.client_id.is_not_distinct_from(AccrualSum.client_id))",
    )

    @property
    def settlement_id(self) -> int | None:
        """What took the sum that this is part of; none while it waits."""
        return self.sum.settlement_id


class AccrualSum(Model):
    """What one unit gives one IB (of rebates: one client) by one plan version in one currency. A settlement takes it whole."""

    __tablename__ = "accrual_sum"
    __table_args__ = (
        UniqueConstraint(*("unit_id", "ib_id", "client_id", "plan_version_id", "currency"), postgresql_nulls_not_distinct=True),
        CheckConstraint("(ib_id IS NULL) <> (client_id IS NULL)", name="beneficiary"),
        Index("ix_accrual_sum_unsettled_ib", "ib_id", "currency", postgresql_where=text("settlement_id IS NULL")),
        Index(
            "ix_accrual_sum_unsettled_client",
            *("client_id", "currency"),
            postgresql_where=text("settlement_id IS NULL AND client_id IS NOT NULL"),
        ),
    )

    id: Mapped[BigKey]
    unit_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("accrual_unit.id"))
    ib_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"))
    client_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("client.id"))
    plan_version_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan_version.id"))
    currency: Mapped[str] = mapped_column(String(8))
    amount: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    accruals: Mapped[int] = mapped_column(Integer)
    settlement_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("settlement.id"), index=True)


class DealOutcome(Model):
    """Why a deal that was judged pays nothing, or what it waited for until it did; a deal that paid at once has no row."""

    __tablename__ = "deal_outcome"
    __table_args__ = (
        # The reasons that wait for something to be mended: WAITING in app/commissions/engine.py.
        Index(
            "ix_deal_outcome_waiting",
            "judged_at",
            postgresql_where=text(
                "reason IN ('no_account', 'opening_unknown', 'plan_invalid', 'beyond_limits', 'no_spread', 'no_rate',"
                " 'no_symbol_data')"
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
    """What one IB (or, of rebates, one client) got in one currency, converted, rounded down and posted; the rest is carried.

    `accrued` x `fx_rate`, cut to ten places, is `converted`; `converted` + `carried_in` = `amount_minor` + `carried_out`.
    """

    __tablename__ = "settlement"
    __table_args__ = (
        UniqueConstraint("ib_id", "client_id", "currency", "period", postgresql_nulls_not_distinct=True),
        CheckConstraint("(ib_id IS NULL) <> (client_id IS NULL)", name="beneficiary"),
        CheckConstraint("(fx_rate IS NULL) = (currency = paid_currency)", name="fx"),
        Index("ix_settlement_ib_currency", "ib_id", "paid_currency", "id"),
        Index("ix_settlement_client_id", "client_id", "id", postgresql_where=text("client_id IS NOT NULL")),
    )

    id: Mapped[BigKey]
    ib_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"))
    client_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("client.id"))
    currency: Mapped[str] = mapped_column(String(8), comment="of the accruals")
    accrued: Mapped[Decimal] = mapped_column(Numeric(24, 10), comment="sum of its accruals")
    paid_currency: Mapped[str] = mapped_column(String(8), comment="of all that follows")
    fx_rate: Mapped[Decimal | None] = mapped_column(Numeric(40, 32), comment="1 currency in paid_currency, where they differ")
    fx_source: Mapped[str | None] = mapped_column(String(60))
    fx_observed_at: Mapped[Moment | None]
    converted: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    carried_in: Mapped[Decimal] = mapped_column(Numeric(24, 10), comment="remainder of the settlement before")
    amount_minor: Mapped[int] = mapped_column(BigInteger, comment="posted")
    carried_out: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    ledger_txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True, comment="none when nothing was left after rounding")
    settled_at: Mapped[CreatedAt]
    period: Mapped[str] = mapped_column(Text, comment="key of the settlement run")

    ib: Mapped[IntroducingBroker | None] = relationship()

    @property
    def posted(self) -> Money:
        """What the ledger got of it, whole minor units."""
        return Money(self.amount_minor, self.paid_currency)
