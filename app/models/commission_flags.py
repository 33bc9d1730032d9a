"""What looks wrong about commission and waits for a person: abuse, rates, deals that pay more than they earn."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Integer, Numeric, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.partners import IntroducingBroker

#: What is looked for; app/commissions/flags.py says when each is raised.
KINDS = ("self_referral", "same_device", "same_address", "same_card", "hedged", "margin", "cascade")
_KINDS = ", ".join(f"'{kind}'" for kind in KINDS)


class CommissionFlag(Model):
    """One suspicion about one IB, with its evidence, and what somebody decided about it."""

    __tablename__ = "commission_flag"
    __table_args__ = (
        UniqueConstraint("kind", "key"),
        CheckConstraint(f"kind IN ({_KINDS})", name="kind"),
        CheckConstraint("status IN ('open', 'dismissed', 'confirmed')", name="status"),
        CheckConstraint(
            "(status = 'open') = (decided_by IS NULL) AND (status = 'open') = (decided_at IS NULL)", name="decided"
        ),
        Index("ix_commission_flag_status", "status", "id"),
    )

    id: Mapped[BigKey]
    kind: Mapped[str] = mapped_column(String(16))
    key: Mapped[str] = mapped_column(Text, comment="what makes it the same suspicion when it is found again")
    ib_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("introducing_broker.id"), index=True)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="evidence: clients, accounts, deals, amounts as text")
    found_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]
    status: Mapped[str] = mapped_column(String(12), server_default="open")
    reason: Mapped[str] = mapped_column(Text, server_default="", comment="why it was dismissed or confirmed")
    decided_by: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[Moment | None]

    ib: Mapped[IntroducingBroker] = relationship()


class FlagSetting(Model):
    """Whether and how one kind is looked for; its row is there from the first migration on."""

    __tablename__ = "commission_flag_setting"
    __table_args__ = (
        CheckConstraint(f"kind IN ({_KINDS})", name="kind"),
        CheckConstraint("window_s >= 0 AND tolerance_percent >= 0", name="positive"),
    )

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    is_on: Mapped[bool] = mapped_column(Boolean, server_default="true")
    window_s: Mapped[int] = mapped_column(Integer, server_default="0", comment="hedged: seconds between the openings at most")
    tolerance_percent: Mapped[Decimal] = mapped_column(
        Numeric(5, 2), server_default="0", comment="hedged: how much the volumes may differ"
    )
    deal_id: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="hedged: deals up to here were looked at")
