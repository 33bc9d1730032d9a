"""What rules may ask: symbol groups, client categories, how far a price moved and what a point is worth."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

WAITING_BEFORE = "'no_account', 'opening_unknown', 'plan_invalid', 'beyond_limits', 'no_spread', 'no_rate'"
WAITING = f"{WAITING_BEFORE}, 'no_symbol_data'"


def upgrade() -> None:
    op.add_column(
        "deal",
        sa.Column(
            "price_position",
            sa.Numeric(20, 8),
            server_default="0",
            nullable=False,
            comment="at which the closed position was opened; 0: not reported",
        ),
    )
    op.add_column(
        "deal",
        sa.Column("digits", sa.Integer(), nullable=True, comment="of the symbol's prices; none: of a deal booked before this"),
    )
    _index_waiting(WAITING)
    _create_groups()
    op.create_table(
        "client_category",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.String(24), nullable=False),
        *_said(),
        sa.CheckConstraint(
            "category IN ('retail', 'professional', 'eligible_counterparty')", name=op.f("ck_client_category_category")
        ),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_client_category_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_category")),
    )
    op.create_index("ix_client_category_client_id_id", "client_category", ["client_id", "id"])


def downgrade() -> None:
    op.drop_table("client_category")
    op.drop_table("symbol_group_version")
    op.drop_table("symbol_group")
    _index_waiting(WAITING_BEFORE)
    op.drop_column("deal", "digits")
    op.drop_column("deal", "price_position")


def _said() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )


def _create_groups() -> None:
    op.create_table(
        "symbol_group",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_symbol_group")),
        sa.UniqueConstraint("code", name=op.f("uq_symbol_group_code")),
    )
    op.create_table(
        "symbol_group_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "symbols",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="names in which * stands for any characters",
        ),
        *_said(),
        sa.ForeignKeyConstraint(["group_id"], ["symbol_group.id"], name=op.f("fk_symbol_group_version_group_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_symbol_group_version")),
        sa.UniqueConstraint("group_id", "valid_from", name=op.f("uq_symbol_group_version_group_id_valid_from")),
    )


def _index_waiting(reasons: str) -> None:
    op.execute("DROP INDEX ix_deal_outcome_waiting")
    op.execute(f"CREATE INDEX ix_deal_outcome_waiting ON deal_outcome (judged_at) WHERE reason IN ({reasons})")
