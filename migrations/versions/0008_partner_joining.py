"""How clients come to IBs: which visit through a link counts, and what explains an attribution."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

EXPLAINED = "what decided: policy, code, the visits that counted and those that did not"

SOURCE = "why this client is this IB's: link, promo_code, manual …"
SOURCE_BEFORE = "why this client is this IB's: link, manual …"


def upgrade() -> None:
    op.create_table(
        "partner_policy",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("touch", sa.String(8), nullable=False, comment="which visit through a link counts: first, last"),
        sa.Column("window_days", sa.Integer(), nullable=False, comment="how long before the registration a visit counts"),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("touch IN ('first', 'last')", name=op.f("ck_partner_policy_touch")),
        sa.CheckConstraint("window_days BETWEEN 1 AND 365", name=op.f("ck_partner_policy_window_days")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner_policy")),
    )
    op.alter_column("attribution", "source", comment=SOURCE, existing_comment=SOURCE_BEFORE)
    op.add_column("attribution", sa.Column("explained", postgresql.JSONB(), nullable=True, comment=EXPLAINED))


def downgrade() -> None:
    op.drop_column("attribution", "explained")
    op.alter_column("attribution", "source", comment=SOURCE_BEFORE, existing_comment=SOURCE)
    op.drop_table("partner_policy")
