"""The tree of introducing brokers and the history of their clients."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[2] / "app" / "partners" / "sql" / "tree.sql"


def upgrade() -> None:
    op.create_table(
        "ib_parent",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("set_by", sa.Text(), nullable=False, comment="who placed the IB here"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name=op.f("ck_ib_parent_span")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_ib_parent_ib_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["introducing_broker.id"], name=op.f("fk_ib_parent_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ib_parent")),
    )
    op.create_index("ix_ib_parent_ib_id", "ib_parent", ["ib_id"])
    op.create_index("ix_ib_parent_parent_id", "ib_parent", ["parent_id"])
    op.create_index("uq_ib_parent_current", "ib_parent", ["ib_id"], unique=True, postgresql_where=sa.text("valid_to IS NULL"))
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(SQL.read_text(encoding="utf-8"))
    # Until now an IB stood under the IB whose client it was.
    op.execute(
        "INSERT INTO ib_parent (ib_id, parent_id, valid_from, valid_to, set_by, reason)"
        " SELECT ib.id, a.ib_id, greatest(a.valid_from, ib.created_at), a.valid_to, 'system:migration', 'client of this IB'"
        " FROM introducing_broker ib JOIN attribution a ON a.client_id = ib.client_id"
        " WHERE a.valid_to IS NULL OR a.valid_to > greatest(a.valid_from, ib.created_at)"
    )


def downgrade() -> None:
    for name in ("check", "guard", "no_truncate"):
        op.execute(f"DROP TRIGGER IF EXISTS attribution_{name} ON attribution")
    op.drop_table("ib_parent")
    op.execute("DROP FUNCTION attribution_check(), ib_parent_check(), ib_stands_below(bigint, bigint, tstzrange)")
    op.execute("DROP FUNCTION IF EXISTS partner_span_guard()")
