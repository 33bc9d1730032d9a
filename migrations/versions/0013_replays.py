"""Periods recomputed, and what differed; plans simulated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

STATES = "'computing', 'computed', 'failed', 'proposed', 'approved', 'rejected', 'withdrawn', 'posted', 'stale'"
DECIDED = "status IN ('approved', 'rejected', 'withdrawn', 'posted', 'stale')"
CHECKS = {
    "status": f"status IN ({STATES})",
    "four_eyes": "status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by",
    "decided": f"({DECIDED}) = (decided_by IS NOT NULL)",
    "period": "until > since",
}
REFERENCES = {"plan_id": "plan", "branch_id": "introducing_broker", "server_id": "mt_server"}

#: As the columns of the same names in accrual.
EXPLAINING = (
    ("rate", sa.Numeric(20, 10), False),
    ("base", sa.Numeric(24, 10), True),
    ("base_currency", sa.String(8), True),
    ("fx_rate", sa.Numeric(40, 32), True),
    ("fx_source", sa.String(60), True),
    ("fx_observed_at", sa.DateTime(timezone=True), True),
    ("uncapped", sa.Numeric(24, 10), True),
    ("multiplier", sa.Numeric(8, 4), True),
    ("part", sa.Numeric(8, 6), True),
    ("earned", sa.Numeric(24, 10), True),
    ("tier_position", sa.Numeric(24, 10), True),
    ("cap_paid", sa.Numeric(24, 10), True),
)


def upgrade() -> None:
    _add_runs()
    _add_lines()
    _add_simulations()


def downgrade() -> None:
    for table in ("plan_simulation", "replay_line", "replay_run"):
        op.drop_table(table)


def _moment(name: str, *, nullable: bool = False, now: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()") if now else None, nullable=nullable)


def _document(name: str, default: str | None = "{}", comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), server_default=default, nullable=False, comment=comment)


def _progress() -> list[sa.Column[object]]:
    return [
        sa.Column("deals", sa.BigInteger(), server_default="0", nullable=False, comment="of the period, about"),
        sa.Column("deals_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        _moment("computed_at", nullable=True),
    ]


def _add_runs() -> None:
    op.create_table(
        "replay_run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        _moment("since"),
        _moment("until"),
        sa.Column("plan_id", sa.BigInteger(), nullable=True, comment="only deals that it paid, or would"),
        sa.Column("branch_id", sa.BigInteger(), nullable=True, comment="only deals below this IB"),
        sa.Column("server_id", sa.BigInteger(), nullable=True),
        _document("overrides"),
        _document("sums", comment="what was compared, and by currency"),
        *_progress(),
        _moment("posted_at", nullable=True),
        sa.Column("status", sa.String(12), server_default="proposed", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        _moment("proposed_at", now=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        _moment("decided_at", nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_replay_run_{name}")) for name, rule in CHECKS.items()),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_replay_run_{column}"))
            for column, table in REFERENCES.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replay_run")),
    )
    op.create_index("ix_replay_run_status", "replay_run", ["status"])
    op.create_index(
        "ix_replay_run_in_force", "replay_run", ["id"], postgresql_where=sa.text("status = 'posted' AND overrides <> '{}'")
    )


def _add_lines() -> None:
    amounts = (("stored", 24, 10), ("recomputed", 24, 10), ("stored_lots", 20, 8), ("recomputed_lots", 20, 8))
    op.create_table(
        "replay_line",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="replay_run.id"),
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column(
            "accruals", sa.Integer(), nullable=False, comment="accruals that the deal had then: others since make the run stale"
        ),
        sa.Column("is_alive", sa.Boolean(), nullable=False, comment="neither replaced nor deleted then"),
        sa.Column("plan_version_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(40), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=True),
        sa.Column("client_id", sa.BigInteger(), nullable=True, comment="the trader; of level 0 who gets it"),
        sa.Column("currency", sa.String(8), nullable=False),
        *(sa.Column(name, sa.Numeric(digits, places), nullable=False) for name, digits, places in amounts),
        *(sa.Column(name, kind, nullable=nullable) for name, kind, nullable in EXPLAINING),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replay_line")),
    )
    op.create_index("ix_replay_line_run", "replay_line", ["run_id", "id"])
    op.create_index("ix_replay_line_run_deal", "replay_line", ["run_id", "deal_id"])


def _add_simulations() -> None:
    op.create_table(
        "plan_simulation",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        _document("rules", None, "with all defaults written out"),
        sa.Column("margin_guard", sa.String(4), server_default="off", nullable=False),
        _moment("since"),
        _moment("until"),
        sa.Column("state", sa.String(12), server_default="computing", nullable=False),
        _document("result", comment="see app/commissions/simulation.py"),
        *_progress(),
        sa.Column("created_by", sa.Text(), nullable=False),
        _moment("created_at", now=True),
        sa.CheckConstraint("state IN ('computing', 'computed', 'failed')", name=op.f("ck_plan_simulation_state")),
        sa.CheckConstraint("until > since", name=op.f("ck_plan_simulation_period")),
        sa.CheckConstraint("margin_guard IN ('off', 'flag', 'cap')", name=op.f("ck_plan_simulation_margin_guard")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_plan_simulation_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_simulation")),
    )
    op.create_index("ix_plan_simulation_plan_id", "plan_simulation", ["plan_id"])
