"""Who agreed to which partner agreement, and versions that IBs are asked to accept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "partner_agreement",
        sa.Column(
            "accept_by",
            sa.Date(),
            nullable=True,
            comment="the last UTC day for those who are IBs already to accept it; none: they are not asked",
        ),
    )
    op.add_column(
        "partner_agreement",
        sa.Column(
            "holds_payouts",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="after that day a payout of who has not accepted is held",
        ),
    )
    op.create_check_constraint(
        op.f("ck_partner_agreement_asked"), "partner_agreement", "accept_by IS NOT NULL OR NOT holds_payouts"
    )
    op.create_table(
        "partner_acceptance",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("agreement_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False, comment="where it was agreed to from"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_partner_acceptance_client_id")),
        sa.ForeignKeyConstraint(["agreement_id"], ["partner_agreement.id"], name=op.f("fk_partner_acceptance_agreement_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner_acceptance")),
        sa.UniqueConstraint("client_id", "agreement_id", name=op.f("uq_partner_acceptance_client_id_agreement_id")),
    )
    op.create_index(op.f("ix_partner_acceptance_agreement_id"), "partner_acceptance", ["agreement_id"])
    # Until now the applications alone told it, without the address.
    op.execute(
        "INSERT INTO partner_acceptance (client_id, agreement_id, created_at) "
        "SELECT client_id, agreement_id, min(created_at) FROM ib_application WHERE agreement_id IS NOT NULL "
        "GROUP BY client_id, agreement_id ORDER BY min(created_at)"
    )


def downgrade() -> None:
    op.drop_table("partner_acceptance")
    op.drop_constraint(op.f("ck_partner_agreement_asked"), "partner_agreement")
    op.drop_column("partner_agreement", "holds_payouts")
    op.drop_column("partner_agreement", "accept_by")
