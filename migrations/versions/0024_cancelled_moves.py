"""Moves that were cancelled between their approval and their moment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

STATES = "status IN ('proposed', 'approved', 'rejected', 'withdrawn'{more})"


def upgrade() -> None:
    op.add_column(
        "partner_move",
        sa.Column("cancelled_by", sa.Text(), nullable=True, comment="who cancelled it between its approval and its moment"),
    )
    op.add_column("partner_move", sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("partner_move", sa.Column("cancel_reason", sa.Text(), server_default="", nullable=False))
    op.drop_constraint(op.f("ck_partner_move_status"), "partner_move")
    op.create_check_constraint(op.f("ck_partner_move_status"), "partner_move", STATES.format(more=", 'cancelled'"))
    op.create_check_constraint(
        op.f("ck_partner_move_cancelled"), "partner_move", "(status = 'cancelled') = (cancelled_at IS NOT NULL)"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_partner_move_cancelled"), "partner_move")
    op.drop_constraint(op.f("ck_partner_move_status"), "partner_move")
    op.execute("UPDATE partner_move SET status = 'withdrawn', decision_reason = cancel_reason WHERE status = 'cancelled'")
    op.create_check_constraint(op.f("ck_partner_move_status"), "partner_move", STATES.format(more=""))
    for column in ("cancel_reason", "cancelled_at", "cancelled_by"):
        op.drop_column("partner_move", column)
