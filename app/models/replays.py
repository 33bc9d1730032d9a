"""Periods of commission recomputed: what was found, decided and posted; and simulations of plans, which post nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Integer, Numeric, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment, Proposal
from app.models.commissions import Plan
from app.models.metatrader import Server
from app.models.partners import IntroducingBroker

#: A run is computing until it is computed or failed. What differs is proposed by one person and approved or rejected by another
#: one; approved, it is posted, or it is stale: something changed since, and nothing was posted.
REPLAY_STATES = (*("computing", "computed", "failed", "proposed", "approved", "rejected", "withdrawn", "posted", "stale"),)
#: States in which somebody has said yes, no or never mind.
_DECIDED = "status IN ('approved', 'rejected', 'withdrawn', 'posted', 'stale')"


class ReplayRun(Proposal, Model):
    """A period by deal time judged anew, and the difference to what is stored.

    `overrides` say what should have stood (app/commissions/overrides.py). Posted, they hold for whatever is judged later of
    that time too. The run keeps them as its explanation; history is not rewritten.
    """

    __tablename__ = "replay_run"
    __table_args__ = (
        CheckConstraint(f"status IN {REPLAY_STATES}", name="status"),
        CheckConstraint("status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by", name="four_eyes"),
        CheckConstraint(f"({_DECIDED}) = (decided_by IS NOT NULL)", name="decided"),
        CheckConstraint("until > since", name="period"),
        Index("ix_replay_run_in_force", "id", postgresql_where=text("status = 'posted' AND overrides <> '{}'")),
    )

    id: Mapped[BigKey]
    since: Mapped[Moment]
    until: Mapped[Moment]
    plan_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("plan.id"), comment="only deals that it paid, or would")
    branch_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("introducing_broker.id"), comment="only deals below this IB"
    )
    server_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    overrides: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    deals: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="of the period, about")
    deals_done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    sums: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}", comment="what was compared, and by currency")
    error: Mapped[str] = mapped_column(Text, server_default="")
    computed_at: Mapped[Moment | None]
    posted_at: Mapped[Moment | None]

    plan: Mapped[Plan | None] = relationship()
    branch: Mapped[IntroducingBroker | None] = relationship()
    server: Mapped[Server | None] = relationship()


class ReplayLine(Model):
    """One line of one deal that is not what it should be. Lines that are right are not kept."""

    __tablename__ = "replay_line"
    __table_args__ = (
        Index("ix_replay_line_run", "run_id", "id"),
        Index("ix_replay_line_run_deal", "run_id", "deal_id"),
    )

    id: Mapped[BigKey]
    run_id: Mapped[int] = mapped_column(BigInteger, comment="replay_run.id")
    deal_id: Mapped[int] = mapped_column(BigInteger)
    server_id: Mapped[int] = mapped_column(BigInteger)
    shard: Mapped[int] = mapped_column(Integer)
    accruals: Mapped[int] = mapped_column(Integer, comment="accruals that the deal had then: others since make the run stale")
    is_alive: Mapped[bool] = mapped_column(Boolean, comment="neither replaced nor deleted then")
    plan_version_id: Mapped[int] = mapped_column(BigInteger)
    rule: Mapped[str] = mapped_column(String(40))
    level: Mapped[int] = mapped_column(Integer)
    ib_id: Mapped[int | None] = mapped_column(BigInteger)
    client_id: Mapped[int | None] = mapped_column(BigInteger, comment="the trader; of level 0 who gets it")
    currency: Mapped[str] = mapped_column(String(8))
    stored: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    recomputed: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    stored_lots: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    recomputed_lots: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    # What follows explains the recomputed amount, as the columns of the same names do in an accrual.
    rate: Mapped[Decimal] = mapped_column(Numeric(20, 10))
    base: Mapped[Decimal | None] = mapped_column(Numeric(24, 10))
    base_currency: Mapped[str | None] = mapped_column(String(8))
    fx_rate: Mapped[Decimal | None] = mapped_column(Numeric(40, 32))
    fx_source: Mapped[str | None] = mapped_column(String(60))
    fx_observed_at: Mapped[Moment | None]
    uncapped: Mapped[Decimal | None] = mapped_column(Numeric(24, 10))
    multiplier: Mapped[Decimal | None] = mapped_column(Numeric(8, 4))
    part: Mapped[Decimal | None] = mapped_column(Numeric(8, 6))
    earned: Mapped[Decimal | None] = mapped_column(Numeric(24, 10))
    tier_position: Mapped[Decimal | None] = mapped_column(Numeric(24, 10))
    cap_paid: Mapped[Decimal | None] = mapped_column(Numeric(24, 10))

    @property
    def difference(self) -> Decimal:
        """What has to be added to what is stored."""
        return self.recomputed - self.stored


class PlanSimulation(Model):
    """Proposed rules of a plan run over the real deals of its IBs. Nothing is paid by it."""

    __tablename__ = "plan_simulation"
    __table_args__ = (
        CheckConstraint("state IN ('computing', 'computed', 'failed')", name="state"),
        CheckConstraint("until > since", name="period"),
        CheckConstraint("margin_guard IN ('off', 'flag', 'cap')", name="margin_guard"),
    )

    id: Mapped[BigKey]
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"), index=True)
    rules: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, comment="with all defaults written out")
    margin_guard: Mapped[str] = mapped_column(String(4), server_default="off")
    since: Mapped[Moment]
    until: Mapped[Moment]
    state: Mapped[str] = mapped_column(String(12), server_default="computing")
    deals: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="of the period, about")
    deals_done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    result: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}", comment="see app/commissions/simulation.py")
    error: Mapped[str] = mapped_column(Text, server_default="")
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    computed_at: Mapped[Moment | None]

    plan: Mapped[Plan] = relationship()
