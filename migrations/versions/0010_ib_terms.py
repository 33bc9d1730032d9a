"""Personal terms of IBs, rebates and guards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

#: New columns of tables that are there: table, name, type, default, comment.
COLUMNS = (
    ("accrual", "multiplier", sa.Numeric(8, 4), None, "the IB's own at that moment"),
    ("accrual", "part", sa.Numeric(8, 6), None, "kept after handing on, or, of level 0, handed on"),
    ("accrual", "earned", sa.Numeric(24, 10), None, "what the deal earned, where the margin guard cut its payouts to that"),
    ("plan", "cascade_guard", sa.String(6), "refuse", "refuse, flag: a personal rate above that of the IB above"),
    ("plan_version", "margin_guard", sa.String(4), "off", "off, flag, cap: when a deal pays out more than it earned"),
    ("plan_draft", "margin_guard", sa.String(4), "off", None),
)
CHECKS = (
    ("plan", "cascade_guard", "cascade_guard IN ('refuse', 'flag')"),
    ("plan_version", "margin_guard", "margin_guard IN ('off', 'flag', 'cap')"),
    ("plan_draft", "margin_guard", "margin_guard IN ('off', 'flag', 'cap')"),
)


def upgrade() -> None:
    for table, name, kind, default, comment in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=default is None, server_default=default, comment=comment))
    for table, name, rule in CHECKS:
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, rule)
    _create_terms()


def downgrade() -> None:
    op.drop_table("ib_terms_proposal")
    op.drop_table("ib_terms")
    for table, name, _ in CHECKS:
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    for table, name, *_ in COLUMNS:
        op.drop_column(table, name)


def _agreed() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("multiplier", sa.Numeric(8, 4), nullable=True, comment="of all that the IB gets; none: 1"),
        sa.Column(
            "rates",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="the IB's own: {plan.id: {key of the rule: rate}}",
        ),
        sa.Column(
            "hand_on_percent",
            sa.Numeric(8, 4),
            nullable=True,
            comment="of the IB's pay as the client's own IB, to the trader",
        ),
    )


def _create_terms() -> None:
    op.create_table(
        "ib_terms",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("set_by", sa.Text(), nullable=False, comment="who agreed to them"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        *_agreed(),
        sa.CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name=op.f("ck_ib_terms_span")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_ib_terms_ib_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ib_terms")),
    )
    op.create_index(op.f("ix_ib_terms_ib_id"), "ib_terms", ["ib_id"])
    op.create_index("uq_ib_terms_current", "ib_terms", ["ib_id"], unique=True, postgresql_where=sa.text("valid_to IS NULL"))
    op.create_table(
        "ib_terms_proposal",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True, comment="none: from the approval on"),
        sa.Column("terms_id", sa.BigInteger(), nullable=True),
        *_agreed(),
        sa.Column("status", sa.String(length=12), server_default="proposed", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "status IN ('proposed', 'approved', 'rejected', 'withdrawn')", name=op.f("ck_ib_terms_proposal_status")
        ),
        sa.CheckConstraint(
            "status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by",
            name=op.f("ck_ib_terms_proposal_four_eyes"),
        ),
        sa.CheckConstraint("(status = 'proposed') = (decided_by IS NULL)", name=op.f("ck_ib_terms_proposal_decided")),
        sa.CheckConstraint("(status = 'approved') = (terms_id IS NOT NULL)", name=op.f("ck_ib_terms_proposal_agreed")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_ib_terms_proposal_ib_id")),
        sa.ForeignKeyConstraint(["terms_id"], ["ib_terms.id"], name=op.f("fk_ib_terms_proposal_terms_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ib_terms_proposal")),
        sa.UniqueConstraint("terms_id", name=op.f("uq_ib_terms_proposal_terms_id")),
    )
    op.create_index(op.f("ix_ib_terms_proposal_ib_id"), "ib_terms_proposal", ["ib_id"])
    op.create_index(op.f("ix_ib_terms_proposal_status"), "ib_terms_proposal", ["status"])
    op.create_index(
        "uq_ib_terms_proposal_open",
        "ib_terms_proposal",
        ["ib_id"],
        unique=True,
        postgresql_where=sa.text("status = 'proposed'"),
    )
