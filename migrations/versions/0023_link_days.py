"""Visits of links by day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ib_link_day",
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("visits", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["link_id"], ["ib_link.id"], name=op.f("fk_ib_link_day_link_id")),
        sa.PrimaryKeyConstraint("link_id", "day", name=op.f("pk_ib_link_day")),
    )


def downgrade() -> None:
    op.drop_table("ib_link_day")
