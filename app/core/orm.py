"""The declarative base of all tables and the few column shapes they share.

Flask-AppBuilder's Model is the base, so that its generated screens and our tables live in one metadata. The naming
convention must stand before any table is declared, which is why every model imports `Model` from here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from flask_appbuilder import Model
from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, String, Text, func
from sqlalchemy.orm import Mapped, mapped_column

__all__ = ["BigKey", "CreatedAt", "Model", "Moment", "Proposal", "Stamped", "Words", "proposal_checks"]

Model.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

BigKey = Annotated[int, mapped_column(BigInteger, Identity(always=False), primary_key=True)]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Words = Annotated[str, mapped_column(Text)]


class Stamped:
    """When the row was made, and by whom (an actor's text form, see core.actor). Works in jobs and the portal alike."""

    created_at: Mapped[CreatedAt]
    created_by: Mapped[str] = mapped_column(Text, server_default="system")


class Proposal:
    """What one member of staff wants, and what another one decided. The table's checks come from `proposal_checks`."""

    status: Mapped[str] = mapped_column(String(12), server_default="proposed", index=True)
    reason: Mapped[str] = mapped_column(Text)
    proposed_by: Mapped[str] = mapped_column(Text)
    proposed_at: Mapped[CreatedAt]
    decided_by: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[Moment | None]
    decision_reason: Mapped[str] = mapped_column(Text, server_default="")


def proposal_checks(*further_states: str) -> tuple[CheckConstraint, ...]:
    """Its states; that nobody decides what they proposed; that what is open has no decision, and only that."""
    states = ", ".join(f"'{state}'" for state in ("proposed", "approved", "rejected", "withdrawn", *further_states))
    return (
        CheckConstraint(f"status IN ({states})", name="status"),
        CheckConstraint("status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by", name="four_eyes"),
        CheckConstraint("(status = 'proposed') = (decided_by IS NULL)", name="decided"),
    )
