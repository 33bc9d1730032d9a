"""What introducing brokers may see of their clients."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.orm import BigKey, CreatedAt, Model


class PartnerPrivacy(Model):
    """The policy from `created_at` on; the newest row holds. Never changed: a new policy is a new row."""

    __tablename__ = "partner_privacy"
    __table_args__ = (CheckConstraint("names IN ('full', 'short', 'number')", name="names"),)

    id: Mapped[BigKey]
    names: Mapped[str] = mapped_column(String(8), comment="full; short: the last name's initial; number: no name")
    shows_email: Mapped[bool] = mapped_column(Boolean)
    shows_balance: Mapped[bool] = mapped_column(Boolean, comment="what the trading accounts hold")
    shows_lots: Mapped[bool] = mapped_column(Boolean, comment="how much each client traded")
    shows_sub_clients: Mapped[bool] = mapped_column(Boolean, comment="clients of the IBs below, in the same way as own ones")
    set_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
