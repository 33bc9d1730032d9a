"""The commission engine: what a percentage was taken of, by which rate it was converted, what a cap took."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RATE = "of this level: per lot, per deal, or percent of base"
COLUMNS = (
    ("base", sa.Numeric(24, 10), "what the rate was applied to, where it is not lots"),
    ("base_currency", sa.String(8), "none: a number"),
    ("fx_rate", sa.Numeric(40, 32), "1 base_currency in currency, where they differ"),
    ("fx_source", sa.String(60), None),
    ("fx_observed_at", sa.DateTime(timezone=True), None),
    ("uncapped", sa.Numeric(24, 10), "before the rule's cap, where it took something"),
)
WAITING_BEFORE = "'no_account', 'opening_unknown', 'plan_invalid', 'beyond_limits'"
WAITING = f"{WAITING_BEFORE}, 'no_spread', 'no_rate'"


def upgrade() -> None:
    for name, kind, comment in COLUMNS:
        op.add_column("accrual", sa.Column(name, kind, nullable=True, comment=comment))
    op.alter_column("accrual", "rate", comment=RATE, existing_comment="per lot")
    _index_waiting(WAITING)
    op.create_table(
        "plan_draft",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "rules",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="with all defaults written out",
        ),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=12), server_default="proposed", nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("status IN ('proposed', 'approved', 'rejected', 'withdrawn')", name=op.f("ck_plan_draft_status")),
        sa.CheckConstraint(
            "status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by", name=op.f("ck_plan_draft_four_eyes")
        ),
        sa.CheckConstraint("(status = 'proposed') = (decided_by IS NULL)", name=op.f("ck_plan_draft_decided")),
        sa.CheckConstraint("(status = 'approved') = (version_id IS NOT NULL)", name=op.f("ck_plan_draft_published")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_plan_draft_plan_id")),
        sa.ForeignKeyConstraint(["version_id"], ["plan_version.id"], name=op.f("fk_plan_draft_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_draft")),
        sa.UniqueConstraint("version_id", name=op.f("uq_plan_draft_version_id")),
    )
    op.create_index(op.f("ix_plan_draft_plan_id"), "plan_draft", ["plan_id"])
    op.create_index(op.f("ix_plan_draft_status"), "plan_draft", ["status"])


def downgrade() -> None:
    op.drop_table("plan_draft")
    _index_waiting(WAITING_BEFORE)
    op.alter_column("accrual", "rate", comment="per lot", existing_comment=RATE)
    for name, _, _ in COLUMNS:
        op.drop_column("accrual", name)


def _index_waiting(reasons: str) -> None:
    op.execute("DROP INDEX ix_deal_outcome_waiting")
    op.execute(f"CREATE INDEX ix_deal_outcome_waiting ON deal_outcome (judged_at) WHERE reason IN ({reasons})")
