"""What commission is paid for beside deals: clients who were won, and months."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, SmallInteger, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client
from app.models.commissions import Plan
from app.models.partners import IntroducingBroker


class Occasion(Model):
    """That a rule of a plan paid once for a client, or for a month of an IB, with what made it come true."""

    __tablename__ = "occasion"
    __table_args__ = (
        CheckConstraint("kind IN ('client', 'month')", name="kind"),
        CheckConstraint("(kind = 'client') = (client_id IS NOT NULL) AND (kind = 'month') = (month <> '')", name="subject"),
        Index(
            "uq_occasion_client",
            *("client_id", "plan_id", "rule", "times"),
            unique=True,
            postgresql_where=text("kind = 'client'"),
        ),
        Index(
            "uq_occasion_month",
            *("ib_id", "plan_id", "rule", "month", "times"),
            unique=True,
            postgresql_where=text("kind = 'month'"),
        ),
    )

    id: Mapped[BigKey]
    kind: Mapped[str] = mapped_column(String(8))
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"))
    rule: Mapped[str] = mapped_column(String(40), comment="key of the rule; a later version does not pay it again")
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), comment="level 1")
    client_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("client.id"))
    month: Mapped[str] = mapped_column(String(7), server_default="", comment="such as 2026-11")
    times: Mapped[int] = mapped_column(Integer, server_default="1", comment="2: paid again after it was taken back, and so on")
    happened_at: Mapped[Moment] = mapped_column(comment="when the last condition came true; tree and plan are as of then")
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="what made it come true")
    created_at: Mapped[CreatedAt]

    plan: Mapped[Plan] = relationship()
    ib: Mapped[IntroducingBroker] = relationship()
    client: Mapped[Client | None] = relationship()


class OccasionTakenBack(Model):
    """That what an occasion rested on has gone, and by which facts; its lines are reversed with it."""

    __tablename__ = "occasion_taken_back"

    occasion_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("occasion.id"), primary_key=True, autoincrement=False)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="what there is, and what would be needed")
    taken_back_at: Mapped[CreatedAt]

    occasion: Mapped[Occasion] = relationship()


class OccasionWait(Model):
    """An occasion that came true and cannot be worked out yet. The job tries again and writes these anew each time."""

    __tablename__ = "occasion_wait"
    __table_args__ = (
        CheckConstraint("kind IN ('client', 'month')", name="kind"),
        CheckConstraint("(kind = 'client') = (client_id IS NOT NULL) AND (kind = 'month') = (month <> '')", name="subject"),
    )

    id: Mapped[BigKey]
    kind: Mapped[str] = mapped_column(String(8))
    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plan.id"))
    rule: Mapped[str] = mapped_column(String(40))
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"))
    client_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    month: Mapped[str] = mapped_column(String(7), server_default="")
    reason: Mapped[str] = mapped_column(String(32), comment="see app/commissions/reasons.py")
    happened_at: Mapped[Moment]

    plan: Mapped[Plan] = relationship()
    ib: Mapped[IntroducingBroker] = relationship()
    client: Mapped[Client | None] = relationship()


class OccasionProgress(Model):
    """Until when, and up to which deal, everything was looked at. One row."""

    __tablename__ = "occasion_progress"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    looked_at: Mapped[Moment]
    deal_id: Mapped[int] = mapped_column(BigInteger)
