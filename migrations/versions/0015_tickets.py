"""Tickets: questions of clients and IBs, and their answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

CHECKS = {
    "kind": "kind IN ('commission_line', 'general')",
    "state": "state IN ('open', 'waiting_for_client', 'closed')",
    "about": "num_nulls(accrual_id, about) = CASE kind WHEN 'commission_line' THEN 0 ELSE 2 END",
    "closed": "num_nulls(closed_at, closed_by) = CASE state WHEN 'closed' THEN 0 ELSE 2 END",
}


def upgrade() -> None:
    op.create_table(
        "ticket",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), server_default="open", nullable=False),
        sa.Column("accrual_id", sa.BigInteger(), nullable=True, comment="the commission line that is asked about"),
        sa.Column(
            "about",
            postgresql.JSONB(),
            nullable=True,
            comment="its explanation as it stood when asked: app/commissions/frozen_explanations.py",
        ),
        sa.Column("assigned_to", sa.Text(), nullable=True, comment="the member of staff who sees to it, as an actor"),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column(
            "close_reason",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="of staff, for the client; of a client, empty",
        ),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_ticket_{name}")) for name, rule in CHECKS.items()),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_ticket_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
    )
    op.create_index(
        "uq_ticket_open_line",
        "ticket",
        ["client_id", "accrual_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'closed'"),
    )
    op.create_index("ix_ticket_client_id_id", "ticket", ["client_id", "id"])
    op.create_index("ix_ticket_state_id", "ticket", ["state", "id"])
    op.create_table(
        "ticket_message",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ticket_id", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False, comment="as an actor"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("length(text) BETWEEN 1 AND 4000", name=op.f("ck_ticket_message_text")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_ticket_message_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket_message")),
    )
    op.create_index("ix_ticket_message_ticket_id", "ticket_message", ["ticket_id"])


def downgrade() -> None:
    op.drop_table("ticket_message")
    op.drop_table("ticket")
