"""Commission is written in units with sums that settlements take.

Accruals are never changed any more: what a settlement takes are the sums of units. Rebates have the client as their
beneficiary, and a settlement keeps the rate by which it was converted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EVERY = "settle_every IN ('minutes', 'hour', 'day', 'week', 'month')"
BENEFICIARY = "(ib_id IS NULL) <> (client_id IS NULL)"
OF_ACCRUAL = "(level = 0) = (client_id IS NOT NULL) AND (level = 0) = (ib_id IS NULL)"
UNSETTLED = sa.text("settlement_id IS NULL")
KEY = ["deal_id", "plan_version_id", "rule", "level", "ib_id", "kind"]

#: What was accrued until now becomes units after the fact: one for each settlement and server, and one for what is open.
FILL = (
    """
    CREATE TEMPORARY TABLE unit_of ON COMMIT DROP AS
    SELECT nextval(pg_get_serial_sequence('accrual_unit', 'id')) AS unit_id, server_id, settlement_id, accruals
    FROM (
        SELECT d.server_id, a.settlement_id, count(*) AS accruals
        FROM accrual a JOIN deal d ON d.id = a.deal_id GROUP BY d.server_id, a.settlement_id
    ) grouped
    """,
    """
    INSERT INTO accrual_unit (id, server_id, shard, accruals) SELECT unit_id, server_id, 0, accruals FROM unit_of
    """,
    """
    UPDATE accrual a SET unit_id = u.unit_id
    FROM deal d, unit_of u
    WHERE d.id = a.deal_id AND u.server_id = d.server_id AND u.settlement_id IS NOT DISTINCT FROM a.settlement_id
    """,
    """
    INSERT INTO accrual_sum (unit_id, ib_id, plan_version_id, currency, amount, accruals, settlement_id)
    SELECT unit_id, ib_id, plan_version_id, currency, sum(amount), count(*), settlement_id
    FROM accrual GROUP BY unit_id, ib_id, plan_version_id, currency, settlement_id
    """,
)

UNFILL = """
    UPDATE accrual a SET settlement_id = s.settlement_id
    FROM accrual_sum s
    WHERE s.unit_id = a.unit_id AND s.ib_id = a.ib_id AND s.plan_version_id = a.plan_version_id AND s.currency = a.currency
"""


def upgrade() -> None:
    op.add_column(
        "plan",
        sa.Column(
            "settle_every",
            sa.String(8),
            server_default="minutes",
            nullable=False,
            comment="minutes, hour, day, week, month: how long accruals are gathered",
        ),
    )
    op.create_check_constraint(op.f("ck_plan_settle_every"), "plan", EVERY)
    _create_tables()
    op.add_column("accrual", sa.Column("unit_id", sa.BigInteger(), nullable=True, comment="accrual_unit.id"))
    for statement in FILL:
        op.execute(statement)
    op.alter_column("accrual", "unit_id", nullable=False, existing_comment="accrual_unit.id")
    _change_accrual()
    _change_settlement()


def downgrade() -> None:
    """Rebates, and settlements in another currency than their accruals', cannot go back: then this fails."""
    op.drop_index("ix_settlement_client_id", "settlement")
    op.drop_index("ix_settlement_ib_currency", "settlement")
    op.drop_constraint(op.f("ck_settlement_fx"), "settlement")
    op.drop_constraint(op.f("ck_settlement_beneficiary"), "settlement")
    op.drop_constraint(op.f("uq_settlement_ib_id_client_id_currency_period"), "settlement")
    op.create_check_constraint("one_currency", "settlement", "currency = paid_currency")
    for name in ("client_id", "paid_currency", "fx_rate", "fx_source", "fx_observed_at", "converted"):
        op.drop_column("settlement", name)
    op.alter_column("settlement", "currency", comment=None, existing_comment="of the accruals")
    op.alter_column("settlement", "ib_id", nullable=False)
    op.create_unique_constraint(op.f("uq_settlement_ib_id_currency_period"), "settlement", ["ib_id", "currency", "period"])
    op.create_index("ix_settlement_ib_currency", "settlement", ["ib_id", "currency", "id"])

    op.drop_constraint(op.f("ck_accrual_beneficiary"), "accrual")
    op.drop_constraint(op.f("uq_accrual_deal_id_plan_version_id_rule_level_ib_id_kind"), "accrual")
    op.add_column("accrual", sa.Column("settlement_id", sa.BigInteger(), nullable=True))
    op.execute(UNFILL)
    for name in ("unit_id", "client_id"):
        op.drop_column("accrual", name)
    op.alter_column("accrual", "ib_id", nullable=False, comment=None, existing_comment="introducing_broker.id")
    op.alter_column("accrual", "plan_version_id", comment=None, existing_comment="plan_version.id")
    op.create_unique_constraint(op.f("uq_accrual_deal_id_plan_version_id_rule_level_ib_id_kind"), "accrual", KEY)
    for column, table in (
        ("ib_id", "introducing_broker"),
        ("plan_version_id", "plan_version"),
        ("settlement_id", "settlement"),
    ):
        op.create_foreign_key(op.f(f"fk_accrual_{column}"), "accrual", table, [column], ["id"])
    op.create_index("ix_accrual_settlement_id", "accrual", ["settlement_id"])
    op.create_index("ix_accrual_unsettled", "accrual", ["ib_id", "currency"], postgresql_where=UNSETTLED)

    for name in ("accrual_sum", "accrual_unit", "accrual_cursor"):
        op.drop_table(name)
    op.drop_constraint(op.f("ck_plan_settle_every"), "plan")
    op.drop_column("plan", "settle_every")


def _create_tables() -> None:
    op.create_table(
        "accrual_cursor",
        sa.Column("server_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_accrual_cursor_server_id")),
        sa.PrimaryKeyConstraint("server_id", "shard", name=op.f("pk_accrual_cursor")),
    )
    op.create_table(
        "accrual_unit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("accruals", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_accrual_unit_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accrual_unit")),
    )
    op.create_table(
        "accrual_sum",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=True),
        sa.Column("client_id", sa.BigInteger(), nullable=True),
        sa.Column("plan_version_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(8), nullable=False),
        sa.Column("amount", sa.Numeric(24, 10), nullable=False),
        sa.Column("accruals", sa.Integer(), nullable=False),
        sa.Column("settlement_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(BENEFICIARY, name=op.f("ck_accrual_sum_beneficiary")),
        sa.ForeignKeyConstraint(["unit_id"], ["accrual_unit.id"], name=op.f("fk_accrual_sum_unit_id")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_accrual_sum_ib_id")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_accrual_sum_client_id")),
        sa.ForeignKeyConstraint(["plan_version_id"], ["plan_version.id"], name=op.f("fk_accrual_sum_plan_version_id")),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlement.id"], name=op.f("fk_accrual_sum_settlement_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accrual_sum")),
        sa.UniqueConstraint(
            *("unit_id", "ib_id", "client_id", "plan_version_id", "currency"),
            name=op.f("uq_accrual_sum_unit_id_ib_id_client_id_plan_version_id_currency"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index("ix_accrual_sum_settlement_id", "accrual_sum", ["settlement_id"])
    op.create_index("ix_accrual_sum_unsettled_ib", "accrual_sum", ["ib_id", "currency"], postgresql_where=UNSETTLED)
    op.create_index(
        "ix_accrual_sum_unsettled_client",
        "accrual_sum",
        ["client_id", "currency"],
        postgresql_where=sa.text("settlement_id IS NULL AND client_id IS NOT NULL"),
    )


def _change_accrual() -> None:
    """No keys to other tables: COPY would check each of them for each row, and the sums have them."""
    op.drop_column("accrual", "settlement_id")
    for column in ("ib_id", "plan_version_id"):
        op.drop_constraint(op.f(f"fk_accrual_{column}"), "accrual")
    op.alter_column("accrual", "plan_version_id", comment="plan_version.id")
    op.alter_column("accrual", "ib_id", nullable=True, comment="introducing_broker.id")
    op.add_column("accrual", sa.Column("client_id", sa.BigInteger(), nullable=True, comment="client.id, of a rebate"))
    op.create_check_constraint(op.f("ck_accrual_beneficiary"), "accrual", OF_ACCRUAL)
    op.drop_constraint(op.f("uq_accrual_deal_id_plan_version_id_rule_level_ib_id_kind"), "accrual")
    op.create_unique_constraint(
        op.f("uq_accrual_deal_id_plan_version_id_rule_level_ib_id_kind"), "accrual", KEY, postgresql_nulls_not_distinct=True
    )


def _change_settlement() -> None:
    op.alter_column("settlement", "ib_id", nullable=True)
    op.alter_column("settlement", "currency", comment="of the accruals")
    op.add_column("settlement", sa.Column("client_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_settlement_client_id"), "settlement", "client", ["client_id"], ["id"])
    op.add_column("settlement", sa.Column("paid_currency", sa.String(8), nullable=True, comment="of all that follows"))
    rate = "1 currency in paid_currency, where they differ"
    op.add_column("settlement", sa.Column("fx_rate", sa.Numeric(40, 32), nullable=True, comment=rate))
    op.add_column("settlement", sa.Column("fx_source", sa.String(60), nullable=True))
    op.add_column("settlement", sa.Column("fx_observed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("settlement", sa.Column("converted", sa.Numeric(24, 10), nullable=True))
    op.execute("UPDATE settlement SET paid_currency = currency, converted = accrued")
    op.alter_column("settlement", "paid_currency", nullable=False, existing_comment="of all that follows")
    op.alter_column("settlement", "converted", nullable=False)
    op.create_check_constraint(op.f("ck_settlement_beneficiary"), "settlement", BENEFICIARY)
    op.create_check_constraint(op.f("ck_settlement_fx"), "settlement", "(fx_rate IS NULL) = (currency = paid_currency)")
    op.drop_constraint(op.f("uq_settlement_ib_id_currency_period"), "settlement")
    op.create_unique_constraint(
        op.f("uq_settlement_ib_id_client_id_currency_period"),
        "settlement",
        ["ib_id", "client_id", "currency", "period"],
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index("ix_settlement_ib_currency", "settlement")
    op.create_index("ix_settlement_ib_currency", "settlement", ["ib_id", "paid_currency", "id"])
    op.create_index(
        "ix_settlement_client_id", "settlement", ["client_id", "id"], postgresql_where=sa.text("client_id IS NOT NULL")
    )
