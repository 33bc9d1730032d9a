"""Where plans with volume tiers and caps of a period stand; see app/commissions/standings.py."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, Date, ForeignKey, Index, Integer, Numeric, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, Model, Moment
from app.models.commissions import Plan
from app.models.partners import IntroducingBroker


class PlanPeriod(Model):
    """One period of a plan in the branch of the IB that has it. Whoever judges its deals holds this row.

    `dirty_at`: since when it has to be trued up, and why; `closed_at`: when it was, after it had ended.
    """

    __tablename__ = "plan_period"
    __table_args__ = (
        UniqueConstraint("plan_id", "owner_id", "span", "starts_on"),
        CheckConstraint("span IN ('day', 'week', 'month', 'quarter')", name="span"),
        CheckConstraint("(dirty_at IS NULL) = (dirty_why = '')", name="dirty"),
        CheckConstraint(
            "num_nulls(last_done_at, last_server_id, last_ticket) IN (0, 3)",
            name="last",
        ),
        Index(
            "ix_plan_period_due",
            "ends_on",
            postgresql_where=text("dirty_at IS NOT NULL OR closed_at IS NULL"),
        ),
    )

    id: Mapped[BigKey]
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"))
    owner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    span: Mapped[str] = mapped_column(String(8), comment="day, week, month, quarter: the longest that a rule counts in")
    starts_on: Mapped[date] = mapped_column(Date)
    ends_on: Mapped[date] = mapped_column(Date, comment="the first day after it")
    last_done_at: Mapped[Moment | None] = mapped_column(comment="the last deal judged, in the order of deals")
    last_server_id: Mapped[int | None] = mapped_column(BigInteger)
    last_ticket: Mapped[int | None] = mapped_column(BigInteger)
    dirty_at: Mapped[Moment | None]
    dirty_why: Mapped[str] = mapped_column(String(12), server_default="", comment="late, reversed, crossed, previous")
    true_ups: Mapped[int] = mapped_column(Integer, server_default="0", comment="how many of them changed something")
    closed_at: Mapped[Moment | None]

    plan: Mapped[Plan] = relationship()
    owner: Mapped[IntroducingBroker] = relationship()


class PlanCounter(Model):
    """What tiers and caps count: lots that a rule paid for in a period, or what it paid one IB."""

    __tablename__ = "plan_counter"

    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"), primary_key=True, autoincrement=False)
    owner_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("introducing_broker.id"), primary_key=True, autoincrement=False
    )
    period: Mapped[str] = mapped_column(String(8), primary_key=True)
    starts_on: Mapped[date] = mapped_column(Date, primary_key=True)
    rule: Mapped[str] = mapped_column(String(40), primary_key=True)
    ib_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, comment="whom it paid; 0: lots")
    quantity: Mapped[Decimal] = mapped_column(Numeric(24, 10))
