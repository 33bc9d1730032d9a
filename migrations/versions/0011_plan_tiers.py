"""Volume tiers and caps of a period: where each plan stands, and what each accrual was given by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CHECKS = {
    "span": "span IN ('day', 'week', 'month', 'quarter')",
    "dirty": "(dirty_at IS NULL) = (dirty_why = '')",
    "last": "num_nulls(last_done_at, last_server_id, last_ticket) IN (0, 3)",
}
REFERENCES = {"plan_id": "plan", "owner_id": "introducing_broker"}


def upgrade() -> None:
    position = "where the tiers stood: of marginal ones before the deal"
    op.add_column("accrual", sa.Column("tier_position", sa.Numeric(24, 10), nullable=True, comment=position))
    before = "what the IB had got before in the period whose cap took something"
    op.add_column("accrual", sa.Column("cap_paid", sa.Numeric(24, 10), nullable=True, comment=before))
    op.create_table(
        "plan_period",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("span", sa.String(8), nullable=False, comment="day, week, month, quarter: the longest that a rule counts in"),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False, comment="the first day after it"),
        sa.Column(
            "last_done_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="the last deal judged, in the order of deals",
        ),
        sa.Column("last_server_id", sa.BigInteger(), nullable=True),
        sa.Column("last_ticket", sa.BigInteger(), nullable=True),
        sa.Column("dirty_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dirty_why", sa.String(12), server_default="", nullable=False, comment="late, reversed, crossed, previous"),
        sa.Column("true_ups", sa.Integer(), server_default="0", nullable=False, comment="how many of them changed something"),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_plan_period_{name}")) for name, rule in CHECKS.items()),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_plan_period_{column}"))
            for column, table in REFERENCES.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_period")),
        sa.UniqueConstraint(
            *("plan_id", "owner_id", "span", "starts_on"), name=op.f("uq_plan_period_plan_id_owner_id_span_starts_on")
        ),
    )
    op.create_index("ix_plan_period_owner_id", "plan_period", ["owner_id"])
    due = sa.text("dirty_at IS NOT NULL OR closed_at IS NULL")
    op.create_index("ix_plan_period_due", "plan_period", ["ends_on"], postgresql_where=due)
    op.create_table(
        "plan_counter",
        sa.Column("plan_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("rule", sa.String(40), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="whom it paid; 0: lots"),
        sa.Column("quantity", sa.Numeric(24, 10), nullable=False),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_plan_counter_{column}"))
            for column, table in REFERENCES.items()
        ),
        sa.PrimaryKeyConstraint(*("plan_id", "owner_id", "period", "starts_on", "rule", "ib_id"), name=op.f("pk_plan_counter")),
    )


def downgrade() -> None:
    op.drop_table("plan_counter")
    op.drop_table("plan_period")
    op.drop_column("accrual", "cap_paid")
    op.drop_column("accrual", "tier_position")
