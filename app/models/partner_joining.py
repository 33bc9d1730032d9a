"""How clients and introducing brokers come to the house: the policy."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.orm import BigKey, CreatedAt, Model


class PartnerPolicy(Model):
    """The policy from `created_at` on; the newest row holds. Never changed: a new policy is a new row."""

    __tablename__ = "partner_policy"
    __table_args__ = (
        CheckConstraint("touch IN ('first', 'last')", name="touch"),
        CheckConstraint("window_days BETWEEN 1 AND 365", name="window_days"),
    )

    id: Mapped[BigKey]
    touch: Mapped[str] = mapped_column(String(8), comment="which visit through a link counts: first, last")
    window_days: Mapped[int] = mapped_column(Integer, comment="how long before the registration a visit counts")
    set_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
