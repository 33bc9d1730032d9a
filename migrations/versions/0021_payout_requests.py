"""One request of an IB at a time, until it is paid: approved ones count, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _one_at_a_time("'requested', 'proposed', 'held', 'approved'")


def downgrade() -> None:
    _one_at_a_time("'requested', 'proposed', 'held'")


def _one_at_a_time(states: str) -> None:
    op.drop_index("uq_payout_requested", table_name="payout")
    op.create_index(
        "uq_payout_requested",
        "payout",
        ["ib_id"],
        unique=True,
        postgresql_where=sa.text(f"idempotency_key IS NOT NULL AND state IN ({states})"),
    )
