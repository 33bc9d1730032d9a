"""Moves of clients and IBs are asked for by one person and decided by another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

CHECKS = {
    "status": "status IN ('proposed', 'approved', 'rejected', 'withdrawn')",
    "four_eyes": "status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by",
    "decided": "(status = 'proposed') = (decided_by IS NULL)",
    "kind": "kind IN ('client', 'clients', 'ib')",
    "subject": "(kind = 'client') = (client_id IS NOT NULL) AND (kind = 'ib') = (ib_id IS NOT NULL)",
    "clients_of_whom": "kind <> 'clients' OR from_id IS NOT NULL",
    "somewhere_else": "from_id IS DISTINCT FROM target_id",
    "carried_out": "status <> 'approved' OR (effective_at IS NOT NULL AND moved IS NOT NULL)",
}
REFERENCES = {
    "client_id": "client",
    "ib_id": "introducing_broker",
    "from_id": "introducing_broker",
    "target_id": "introducing_broker",
}
#: One open proposal for each subject.
OPEN = {
    "client": ("client_id", "status = 'proposed'"),
    "ib": ("ib_id", "status = 'proposed'"),
    "clients": ("from_id", "status = 'proposed' AND kind = 'clients'"),
}


def upgrade() -> None:
    op.create_table(
        "partner_move",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False, comment="client; clients: all of from_id; ib: with all below it"),
        sa.Column("client_id", sa.BigInteger(), nullable=True),
        sa.Column("ib_id", sa.BigInteger(), nullable=True),
        sa.Column("from_id", sa.BigInteger(), nullable=True, comment="whose it was when proposed; none: nobody's"),
        sa.Column("target_id", sa.BigInteger(), nullable=True, comment="none: nobody's"),
        sa.Column(
            "effective_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="none while proposed: the moment of the approval",
        ),
        sa.Column("moved", sa.Integer(), nullable=True, comment="how many clients, or 1 for an IB, once approved"),
        sa.Column("status", sa.String(12), server_default="proposed", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_partner_move_{name}")) for name, rule in CHECKS.items()),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_partner_move_{column}"))
            for column, table in REFERENCES.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner_move")),
    )
    for column in (*REFERENCES, "status"):
        op.create_index(f"ix_partner_move_{column}", "partner_move", [column])
    for name, (column, where) in OPEN.items():
        op.create_index(f"uq_partner_move_open_{name}", "partner_move", [column], unique=True, postgresql_where=sa.text(where))
    op.add_column("attribution", sa.Column("move_id", sa.BigInteger(), nullable=True, comment="the move by which it began"))
    op.create_foreign_key(op.f("fk_attribution_move_id"), "attribution", "partner_move", ["move_id"], ["id"])
    op.create_index("ix_attribution_move_id", "attribution", ["move_id"])


def downgrade() -> None:
    op.drop_column("attribution", "move_id")
    op.drop_table("partner_move")
