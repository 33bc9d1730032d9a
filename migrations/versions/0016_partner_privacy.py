"""What introducing brokers may see of their clients is a setting, each change of it a row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "partner_privacy",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("names", sa.String(8), nullable=False, comment="full; short: the last name's initial; number: no name"),
        sa.Column("shows_email", sa.Boolean(), nullable=False),
        sa.Column("shows_balance", sa.Boolean(), nullable=False, comment="what the trading accounts hold"),
        sa.Column("shows_lots", sa.Boolean(), nullable=False, comment="how much each client traded"),
        sa.Column(
            "shows_sub_clients", sa.Boolean(), nullable=False, comment="clients of the IBs below, in the same way as own ones"
        ),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("names IN ('full', 'short', 'number')", name=op.f("ck_partner_privacy_names")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner_privacy")),
    )


def downgrade() -> None:
    op.drop_table("partner_privacy")
