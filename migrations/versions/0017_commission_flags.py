"""What looks wrong about commission, and how it is looked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

KINDS = "kind IN ('self_referral', 'same_device', 'same_address', 'hedged', 'margin', 'cascade')"
DECIDED = "(status = 'open') = (decided_by IS NULL) AND (status = 'open') = (decided_at IS NULL)"

#: Accounts that open against each other within ten seconds, with volumes that differ by a twentieth at most, are a hedge.
SETTINGS = (
    ("self_referral", 0, 0),
    ("same_device", 0, 0),
    ("same_address", 0, 0),
    ("hedged", 10, 5),
    ("margin", 0, 0),
    ("cascade", 0, 0),
)


def upgrade() -> None:
    op.create_table(
        "commission_flag",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="what makes it the same suspicion when it is found again"),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="evidence: clients, accounts, deals, amounts as text",
        ),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.String(12), server_default="open", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False, comment="why it was dismissed or confirmed"),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(KINDS, name=op.f("ck_commission_flag_kind")),
        sa.CheckConstraint("status IN ('open', 'dismissed', 'confirmed')", name=op.f("ck_commission_flag_status")),
        sa.CheckConstraint(DECIDED, name=op.f("ck_commission_flag_decided")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_commission_flag_ib_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commission_flag")),
        sa.UniqueConstraint("kind", "key", name=op.f("uq_commission_flag_kind_key")),
    )
    op.create_index(op.f("ix_commission_flag_ib_id"), "commission_flag", ["ib_id"])
    op.create_index("ix_commission_flag_status", "commission_flag", ["status", "id"])
    settings = op.create_table(
        "commission_flag_setting",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("is_on", sa.Boolean(), server_default="true", nullable=False),
        sa.Column(
            "window_s",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="hedged: seconds between the openings at most",
        ),
        sa.Column(
            "tolerance_percent",
            sa.Numeric(5, 2),
            server_default="0",
            nullable=False,
            comment="hedged: how much the volumes may differ",
        ),
        sa.Column(
            "deal_id",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="hedged: deals up to here were looked at",
        ),
        sa.CheckConstraint(KINDS, name=op.f("ck_commission_flag_setting_kind")),
        sa.CheckConstraint("window_s >= 0 AND tolerance_percent >= 0", name=op.f("ck_commission_flag_setting_positive")),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_commission_flag_setting")),
    )
    op.bulk_insert(
        settings, [{"kind": kind, "window_s": window, "tolerance_percent": percent} for kind, window, percent in SETTINGS]
    )


def downgrade() -> None:
    op.drop_table("commission_flag_setting")
    op.drop_table("commission_flag")
