"""The commission engine: what a percentage was taken of, by which rate it was converted, what a cap took."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RATE = "of this level: per lot, per deal, or percent of base"
COLUMNS = (
    ("base", sa.Numeric(24, 10), "what the rate was applied to, where it is not lots"),
    ("base_currency", sa.String(8), "none: a number"),
    ("fx_rate", sa.Numeric(40, 32), "1 base_currency in currency, where they differ"),
    ("fx_source", sa.String(60), None),
    ("fx_observed_at", sa.DateTime(timezone=True), None),
    ("uncapped", sa.Numeric(24, 10), "before the rule's cap, where it took something"),
)
WAITING_BEFORE = "'no_account', 'opening_unknown', 'plan_invalid', 'beyond_limits'"
WAITING = f"{WAITING_BEFORE}, 'no_spread', 'no_rate'"


def upgrade() -> None:
    for name, kind, comment in COLUMNS:
        op.add_column("accrual", sa.Column(name, kind, nullable=True, comment=comment))
    op.alter_column("accrual", "rate", comment=RATE, existing_comment="per lot")
    _index_waiting(WAITING)


def downgrade() -> None:
    _index_waiting(WAITING_BEFORE)
    op.alter_column("accrual", "rate", comment="per lot", existing_comment=RATE)
    for name, _, _ in COLUMNS:
        op.drop_column("accrual", name)


def _index_waiting(reasons: str) -> None:
    op.execute("DROP INDEX ix_deal_outcome_waiting")
    op.execute(f"CREATE INDEX ix_deal_outcome_waiting ON deal_outcome (judged_at) WHERE reason IN ({reasons})")
