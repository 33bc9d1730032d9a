"""Payouts of what IBs earned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

PROPOSAL = {
    "status": "status IN ('proposed', 'approved', 'rejected', 'withdrawn')",
    "four_eyes": "status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by",
    "decided": "(status = 'proposed') = (decided_by IS NULL)",
}
DESTINATIONS = "('wallet', 'account', 'withdrawal')"
STATES = "('requested', 'proposed', 'held', 'approved', 'paying', 'paid', 'failed', 'reversed', 'rejected', 'cancelled')"
CHECKS = {
    "positive": "amount_minor > 0",
    "destination": f"destination IN {DESTINATIONS}",
    "account": "(destination = 'account') = (trading_account_id IS NOT NULL)",
    "state": f"state IN {STATES}",
    "moved": "(ledger_txn_id IS NOT NULL) = (state IN ('paying', 'paid', 'failed', 'reversed'))",
}
REFERENCES = {
    "run_id": "payout_run",
    "ib_id": "introducing_broker",
    "client_id": "client",
    "trading_account_id": "trading_account",
    "transfer_id": "transfer",
    "withdrawal_id": "withdrawal",
}


def upgrade() -> None:
    op.add_column(
        "plan",
        sa.Column(
            "min_payout_minor",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="in the plan's currency: less is not paid out",
        ),
    )
    op.add_column(
        "plan",
        sa.Column(
            "hold_days",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="days after its settlement before it is paid out",
        ),
    )
    op.create_table(
        "payout_run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "until", sa.DateTime(timezone=True), nullable=False, comment="what was settled from here on is left to the next run"
        ),
        *_proposal("payout_run"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout_run")),
    )
    op.create_index("ix_payout_run_status", "payout_run", ["status"])
    _create_payout()
    op.create_table(
        "payout_statement",
        sa.Column("payout_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "last_version",
            sa.BigInteger(),
            nullable=False,
            comment="of the commission account: its entry of this payout",
        ),
        sa.Column("language", sa.String(8), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("pdf", sa.LargeBinary(), nullable=True),
        sa.Column("pdf_sha256", sa.String(64), nullable=True),
        sa.Column("frozen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["payout_id"], ["payout.id"], name=op.f("fk_payout_statement_payout_id")),
        sa.PrimaryKeyConstraint("payout_id", name=op.f("pk_payout_statement")),
    )
    op.create_table(
        "payout_reversal",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("payout_id", sa.BigInteger(), nullable=False),
        *_proposal("payout_reversal"),
        sa.ForeignKeyConstraint(["payout_id"], ["payout.id"], name=op.f("fk_payout_reversal_payout_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout_reversal")),
    )
    op.create_index("ix_payout_reversal_status", "payout_reversal", ["status"])
    op.create_index("ix_payout_reversal_payout_id", "payout_reversal", ["payout_id"])
    op.create_index(
        "uq_payout_reversal_open",
        "payout_reversal",
        ["payout_id"],
        unique=True,
        postgresql_where=sa.text("status = 'proposed'"),
    )


def _proposal(table: str) -> list[sa.Column | sa.CheckConstraint]:
    return [
        sa.Column("status", sa.String(12), server_default="proposed", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}")) for name, rule in PROPOSAL.items()),
    ]


def _create_payout() -> None:
    op.create_table(
        "payout",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False, comment="the IB's own record"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(8), nullable=False),
        sa.Column("destination", sa.String(12), nullable=False),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column(
            "figures",
            postgresql.JSONB(),
            nullable=False,
            comment="how the amount came about: app/commissions/payables.py",
        ),
        sa.Column("warnings", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.String(64), nullable=True, comment="of the IB's own request; none: a run found it"),
        sa.Column("hold_id", sa.UUID(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True, comment="who said what becomes of this line"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("ledger_txn_id", sa.UUID(), nullable=True),
        sa.Column("transfer_id", sa.BigInteger(), nullable=True),
        sa.Column("withdrawal_id", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), server_default="", nullable=False, comment="why it is only in the wallet, for the IB"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=True, comment="when it left the commission account"),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_payout_{name}")) for name, rule in CHECKS.items()),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_payout_{column}"))
            for column, table in REFERENCES.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout")),
        sa.UniqueConstraint("ib_id", "idempotency_key", name=op.f("uq_payout_ib_id_idempotency_key")),
        *(
            sa.UniqueConstraint(column, name=op.f(f"uq_payout_{column}"))
            for column in ("hold_id", "ledger_txn_id", "transfer_id", "withdrawal_id")
        ),
    )
    op.create_index(
        "uq_payout_requested",
        "payout",
        ["ib_id"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL AND state IN ('requested', 'proposed', 'held')"),
    )
    op.create_index("ix_payout_ib_id_id", "payout", ["ib_id", "id"])
    for column in ("run_id", "client_id", "state"):
        op.create_index(f"ix_payout_{column}", "payout", [column])


def downgrade() -> None:
    for table in ("payout_reversal", "payout_statement", "payout", "payout_run"):
        op.drop_table(table)
    op.drop_column("plan", "hold_days")
    op.drop_column("plan", "min_payout_minor")
