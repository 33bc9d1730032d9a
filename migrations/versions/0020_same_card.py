"""The fingerprint of the card that paid a deposit, and a suspicion about clients who pay with one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

BEFORE = "kind IN ('self_referral', 'same_device', 'same_address', 'hedged', 'margin', 'cascade')"
KINDS = "kind IN ('self_referral', 'same_device', 'same_address', 'same_card', 'hedged', 'margin', 'cascade')"
TABLES = ("commission_flag", "commission_flag_setting")


def upgrade() -> None:
    op.add_column(
        "deposit",
        sa.Column("card_fingerprint", sa.Text(), nullable=True, comment="the provider's, the same for the same card"),
    )
    _allow(KINDS)
    op.execute("INSERT INTO commission_flag_setting (kind) VALUES ('same_card')")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DELETE FROM {table} WHERE kind = 'same_card'")
    _allow(BEFORE)
    op.drop_column("deposit", "card_fingerprint")


def _allow(kinds: str) -> None:
    for table in TABLES:
        op.drop_constraint(op.f(f"ck_{table}_kind"), table, type_="check")
        op.create_check_constraint(op.f(f"ck_{table}_kind"), table, kinds)
