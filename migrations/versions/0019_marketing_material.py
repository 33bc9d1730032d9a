"""What introducing brokers may advertise with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "marketing_material",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("public_id", postgresql.UUID(), nullable=False, comment="in the address under which anybody loads a banner"),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
        sa.Column("title", sa.String(100), nullable=False),
        sa.Column(
            "words",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="the text with {link} in it, or the address of the page",
        ),
        sa.Column("content", sa.LargeBinary(), nullable=True, comment="of a banner"),
        sa.Column("media_type", sa.String(40), server_default="", nullable=False, comment="found by decoding the content"),
        sa.Column("width", sa.Integer(), server_default="0", nullable=False),
        sa.Column("height", sa.Integer(), server_default="0", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('image', 'text', 'link')", name=op.f("ck_marketing_material_kind")),
        sa.CheckConstraint("(kind = 'image') = (content IS NOT NULL)", name=op.f("ck_marketing_material_content")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_marketing_material")),
        sa.UniqueConstraint("public_id", name=op.f("uq_marketing_material_public_id")),
    )


def downgrade() -> None:
    op.drop_table("marketing_material")
