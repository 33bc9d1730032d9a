"""Commission without a deal: taken back where what it rested on has gone, and waiting where it cannot be worked out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SUBJECT = "(kind = 'client') = (client_id IS NOT NULL) AND (kind = 'month') = (month <> '')"
KEYS = (
    ("uq_occasion_client", ["client_id", "plan_id", "rule"], "client"),
    ("uq_occasion_month", ["ib_id", "plan_id", "rule", "month"], "month"),
)


def upgrade() -> None:
    op.add_column(
        "occasion",
        sa.Column(
            "times",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="2: paid again after it was taken back, and so on",
        ),
    )
    for name, columns, kind in KEYS:
        op.drop_index(name, "occasion")
        op.create_index(name, "occasion", [*columns, "times"], unique=True, postgresql_where=sa.text(f"kind = '{kind}'"))
    op.create_table(
        "occasion_taken_back",
        sa.Column("occasion_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("facts", postgresql.JSONB(), nullable=False, comment="what there is, and what would be needed"),
        sa.Column("taken_back_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["occasion_id"], ["occasion.id"], name=op.f("fk_occasion_taken_back_occasion_id")),
        sa.PrimaryKeyConstraint("occasion_id", name=op.f("pk_occasion_taken_back")),
    )
    op.create_table(
        "occasion_wait",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(40), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=True),
        sa.Column("month", sa.String(7), server_default="", nullable=False),
        sa.Column("reason", sa.String(32), nullable=False, comment="see app/commissions/reasons.py"),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('client', 'month')", name=op.f("ck_occasion_wait_kind")),
        sa.CheckConstraint(SUBJECT, name=op.f("ck_occasion_wait_subject")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_occasion_wait_plan_id")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_occasion_wait_ib_id")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_occasion_wait_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occasion_wait")),
    )
    op.create_index(op.f("ix_occasion_wait_client_id"), "occasion_wait", ["client_id"])
    op.create_table(
        "occasion_progress",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_occasion_progress_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occasion_progress")),
    )


def downgrade() -> None:
    """What was taken back cannot go back: then this fails."""
    op.drop_table("occasion_progress")
    op.drop_table("occasion_wait")
    op.drop_table("occasion_taken_back")
    for name, columns, kind in KEYS:
        op.drop_index(name, "occasion")
        op.create_index(name, "occasion", columns, unique=True, postgresql_where=sa.text(f"kind = '{kind}'"))
    op.drop_column("occasion", "times")
