"""Commission without a deal: for clients who were won, and for months."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

KEY = ["deal_id", "plan_version_id", "rule", "level", "ib_id", "kind"]
OLD_KEY = "uq_accrual_deal_id_plan_version_id_rule_level_ib_id_kind"


def upgrade() -> None:
    op.create_table(
        "occasion",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(40), nullable=False, comment="key of the rule; a later version does not pay it again"),
        sa.Column("ib_id", sa.BigInteger(), nullable=False, comment="level 1"),
        sa.Column("client_id", sa.BigInteger(), nullable=True),
        sa.Column("month", sa.String(7), server_default="", nullable=False, comment="such as 2026-11"),
        sa.Column(
            "happened_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when the last condition came true; tree and plan are as of then",
        ),
        sa.Column("facts", postgresql.JSONB(), nullable=False, comment="what made it come true"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('client', 'month')", name=op.f("ck_occasion_kind")),
        sa.CheckConstraint(
            "(kind = 'client') = (client_id IS NOT NULL) AND (kind = 'month') = (month <> '')", name=op.f("ck_occasion_subject")
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_occasion_plan_id")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_occasion_ib_id")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_occasion_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occasion")),
    )
    for name, columns, kind in (
        ("uq_occasion_client", ["client_id", "plan_id", "rule"], "client"),
        ("uq_occasion_month", ["ib_id", "plan_id", "rule", "month"], "month"),
    ):
        op.create_index(name, "occasion", columns, unique=True, postgresql_where=sa.text(f"kind = '{kind}'"))
    for name in ("server_id", "shard"):
        op.alter_column("accrual_unit", name, nullable=True, comment="none: not of deals" if name == "server_id" else None)
    op.alter_column("accrual", "deal_id", nullable=True, existing_comment="deal.id; deals are never removed, and lie in months")
    op.add_column(
        "accrual", sa.Column("occasion_id", sa.BigInteger(), nullable=True, comment="occasion.id, where it is not for a deal")
    )
    op.create_check_constraint(op.f("ck_accrual_cause"), "accrual", "(deal_id IS NULL) <> (occasion_id IS NULL)")
    op.drop_constraint(OLD_KEY, "accrual")
    op.create_index(
        "uq_accrual_of_deal",
        "accrual",
        KEY,
        unique=True,
        postgresql_where=sa.text("deal_id IS NOT NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "uq_accrual_of_occasion",
        "accrual",
        ["occasion_id", "level", "kind"],
        unique=True,
        postgresql_where=sa.text("occasion_id IS NOT NULL"),
    )


def downgrade() -> None:
    """What was paid for occasions cannot go back: then this fails."""
    op.drop_index("uq_accrual_of_occasion", "accrual")
    op.drop_index("uq_accrual_of_deal", "accrual")
    op.create_unique_constraint(OLD_KEY, "accrual", KEY, postgresql_nulls_not_distinct=True)
    op.drop_constraint(op.f("ck_accrual_cause"), "accrual")
    op.drop_column("accrual", "occasion_id")
    op.alter_column(
        "accrual", "deal_id", nullable=False, existing_comment="deal.id; deals are never removed, and lie in months"
    )
    for name in ("server_id", "shard"):
        op.alter_column("accrual_unit", name, nullable=False, comment=None)
    op.drop_table("occasion")
