"""How introducing brokers join: agreements, invitations, applications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.add_column(
        "partner_policy",
        sa.Column(
            "join_mode",
            sa.String(12),
            server_default="application",
            nullable=False,
            comment="who becomes an IB: open, invited, application",
        ),
    )
    op.create_check_constraint(
        op.f("ck_partner_policy_join_mode"), "partner_policy", "join_mode IN ('open', 'invited', 'application')"
    )
    op.create_table(
        "partner_agreement",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("version", sa.String(20), nullable=False),
        sa.Column("texts", postgresql.JSONB(), nullable=False, comment="by language; en is there"),
        sa.Column("published_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner_agreement")),
        sa.UniqueConstraint("version", name=op.f("uq_partner_agreement_version")),
    )
    op.create_table(
        "ib_invitation",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "note",
            sa.String(100),
            server_default="",
            nullable=False,
            comment="the IB's own, such as whom it was sent to",
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_ib_invitation_ib_id")),
        sa.ForeignKeyConstraint(["used_by"], ["client.id"], name=op.f("fk_ib_invitation_used_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ib_invitation")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_ib_invitation_secret_hash")),
    )
    op.create_index("ix_ib_invitation_ib_id", "ib_invitation", ["ib_id"])
    op.create_table(
        "ib_application",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(8), nullable=False, comment="what the IB wants to be paid in"),
        sa.Column("words", sa.Text(), nullable=False, comment="how it brings clients"),
        sa.Column("agreement_id", sa.BigInteger(), nullable=True, comment="agreed to"),
        sa.Column("invitation_id", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(12), server_default="pending", nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.CheckConstraint("status IN ('pending', 'approved', 'rejected', 'withdrawn')", name=op.f("ck_ib_application_status")),
        sa.CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name=op.f("ck_ib_application_decided")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_ib_application_client_id")),
        sa.ForeignKeyConstraint(["agreement_id"], ["partner_agreement.id"], name=op.f("fk_ib_application_agreement_id")),
        sa.ForeignKeyConstraint(["invitation_id"], ["ib_invitation.id"], name=op.f("fk_ib_application_invitation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ib_application")),
    )
    op.create_index("ix_ib_application_client_id", "ib_application", ["client_id"])
    op.create_index("ix_ib_application_status", "ib_application", ["status"])
    op.create_index(
        "uq_ib_application_pending",
        "ib_application",
        ["client_id"],
        unique=True,
        postgresql_where=sa.text("status = 'pending'"),
    )


def downgrade() -> None:
    for name in ("ib_application", "ib_invitation", "partner_agreement"):
        op.drop_table(name)
    op.drop_constraint(op.f("ck_partner_policy_join_mode"), "partner_policy")
    op.drop_column("partner_policy", "join_mode")
