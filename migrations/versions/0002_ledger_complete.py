"""The ledger complete: rates and quotes, four-eyes requests, proofs and alerts, seals, statements of the outside world."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.core.tables import XID8

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


#: Columns that name the transaction of a row: no two rows name the same one.
TXN_OF_A_ROW = (
    ("deposit", "ledger_txn_id"),
    ("withdrawal", "capture_txn_id"),
    ("withdrawal", "final_txn_id"),
    ("transfer", "ledger_txn_id"),
    ("settlement", "ledger_txn_id"),
)

ENTRY_KEYS = {
    "fk_entry_account_id": "FOREIGN KEY (account_id, currency) REFERENCES ledger.account (id, currency)",
    "fk_entry_txn_id": "FOREIGN KEY (txn_id) REFERENCES ledger.txn (id)",
}


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("code", sa.String(length=60), nullable=False, comment="what is wrong, such as ledger.proof_failed"),
        sa.Column("subject", sa.String(length=200), nullable=False, comment="with what, such as P6"),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was found last",
        ),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(acknowledged_by IS NULL) = (acknowledged_at IS NULL)", name=op.f("ck_alert_acknowledged")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
    )
    op.create_index("uq_alert_open", "alert", ["code", "subject"], unique=True, postgresql_where=sa.text("closed_at IS NULL"))
    op.create_table(
        "external_statement",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "account_code", sa.String(length=120), nullable=False, comment="the account of ours that it is compared with"
        ),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("imported_by", sa.Text(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external_statement")),
        sa.UniqueConstraint("sha256", name=op.f("uq_external_statement_sha256")),
    )
    op.create_index(op.f("ix_external_statement_account_code"), "external_statement", ["account_code"], unique=False)
    op.create_table(
        "fx_pair",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("base", sa.String(length=8), nullable=False, comment="the currency that comes first in the alphabet"),
        sa.Column("quote", sa.String(length=8), nullable=False),
        sa.Column("spread_bp", sa.Integer(), nullable=False, comment="hundredths of a percent of the amount given"),
        sa.CheckConstraint("base < quote", name=op.f("ck_fx_pair_order")),
        sa.CheckConstraint("spread_bp BETWEEN 0 AND 2000", name=op.f("ck_fx_pair_spread")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fx_pair")),
        sa.UniqueConstraint("base", "quote", name=op.f("uq_fx_pair_base_quote")),
    )
    op.create_table(
        "fx_source",
        sa.Column("code", sa.String(length=20), nullable=False, comment="manual, mt or ecb"),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("max_age_s", sa.Integer(), nullable=False, comment="an older rate is stale and converts nothing"),
        sa.CheckConstraint("max_age_s > 0", name=op.f("ck_fx_source_age")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_fx_source")),
        sa.UniqueConstraint("rank", name=op.f("uq_fx_source_rank")),
    )
    op.create_table(
        "seal",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("through_xact", XID8(), nullable=False),
        sa.Column("through_seq", sa.BigInteger(), nullable=False, comment="the highest seq so far"),
        sa.Column(
            "after_seq",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="through_seq when the database ids began anew",
        ),
        sa.Column("txns", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_seal")),
        sa.UniqueConstraint("after_seq", "through_xact", name=op.f("uq_seal_after_seq_through_xact")),
        schema="ledger",
    )
    op.create_table(
        "ledger_request",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=12), server_default="proposed", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("legs", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("reverses", sa.UUID(), nullable=True),
        sa.Column("closed_through", sa.DateTime(timezone=True), nullable=True),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("evidence_key", sa.String(length=64), nullable=True, comment="the sealed file in the document storage"),
        sa.Column("evidence_name", sa.Text(), server_default="", nullable=False),
        sa.Column("evidence_type", sa.Text(), server_default="", nullable=False, comment="media type"),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("txn_id", sa.UUID(), nullable=True, comment="the transaction it became"),
        sa.CheckConstraint("(status = 'proposed') = (decided_by IS NULL)", name=op.f("ck_ledger_request_decided")),
        sa.CheckConstraint(
            "CASE kind WHEN 'adjustment' THEN legs IS NOT NULL AND effective_at IS NOT NULL WHEN 'reversal' THEN reverses IS NOT NULL AND effective_at IS NOT NULL ELSE closed_through IS NOT NULL END",
            name=op.f("ck_ledger_request_content"),
        ),
        sa.CheckConstraint("kind IN ('adjustment', 'reversal', 'period_close')", name=op.f("ck_ledger_request_kind")),
        sa.CheckConstraint(
            "status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by", name=op.f("ck_ledger_request_four_eyes")
        ),
        sa.CheckConstraint(
            "status IN ('proposed', 'approved', 'rejected', 'withdrawn')", name=op.f("ck_ledger_request_status")
        ),
        sa.CheckConstraint("length(reason) > 0", name=op.f("ck_ledger_request_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_request")),
        sa.UniqueConstraint("proposed_by", "idempotency_key", name=op.f("uq_ledger_request_proposed_by_idempotency_key")),
        sa.UniqueConstraint("txn_id", name=op.f("uq_ledger_request_txn_id")),
    )
    op.create_index(op.f("ix_ledger_request_reverses"), "ledger_request", ["reverses"], unique=False)
    op.create_index(op.f("ix_ledger_request_status"), "ledger_request", ["status"], unique=False)
    op.create_index(
        "uq_ledger_request_reverses_open",
        "ledger_request",
        ["reverses"],
        unique=True,
        postgresql_where=sa.text("status = 'proposed'"),
    )
    op.create_table(
        "proof_run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("holds", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proof_run")),
    )
    op.create_table(
        "external_line",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("statement_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("booked_on", sa.Date(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False, comment="the provider's, such as the payment's id"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True, comment="with account_version: the entry it was matched with"),
        sa.Column("account_version", sa.BigInteger(), nullable=True),
        sa.Column("matched_by", sa.Text(), server_default="", nullable=False),
        sa.Column("matched_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(account_id IS NULL) = (account_version IS NULL)", name=op.f("ck_external_line_entry")),
        sa.CheckConstraint("(matched_at IS NULL) = (account_id IS NULL)", name=op.f("ck_external_line_matched")),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("ck_external_line_amount")),
        sa.ForeignKeyConstraint(["statement_id"], ["external_statement.id"], name=op.f("fk_external_line_statement_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external_line")),
        sa.UniqueConstraint("account_id", "account_version", name=op.f("uq_external_line_account_id_account_version")),
        sa.UniqueConstraint("statement_id", "line", name=op.f("uq_external_line_statement_id_line")),
    )
    op.create_index(
        "ix_external_line_open", "external_line", ["booked_on"], unique=False, postgresql_where=sa.text("matched_at IS NULL")
    )
    op.create_table(
        "fx_quote",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("public_id", sa.UUID(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("sell_currency", sa.String(length=8), nullable=False),
        sa.Column("sell_minor", sa.BigInteger(), nullable=False, comment="what leaves the wallet, spread included"),
        sa.Column("spread_minor", sa.BigInteger(), nullable=False, comment="of it, in the same currency"),
        sa.Column("buy_currency", sa.String(length=8), nullable=False),
        sa.Column("buy_minor", sa.BigInteger(), nullable=False),
        sa.Column(
            "rate",
            sa.Numeric(precision=45, scale=32),
            nullable=False,
            comment="1 unit of the sold currency in the bought one, without spread",
        ),
        sa.Column("sources", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the rates it was made of"),
        sa.Column("quoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("converted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("txn_id", sa.UUID(), nullable=True),
        sa.CheckConstraint("(txn_id IS NULL) = (converted_at IS NULL)", name=op.f("ck_fx_quote_converted")),
        sa.CheckConstraint("sell_currency <> buy_currency", name=op.f("ck_fx_quote_two_currencies")),
        sa.CheckConstraint(
            "sell_minor > spread_minor AND spread_minor >= 0 AND buy_minor > 0", name=op.f("ck_fx_quote_positive")
        ),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_fx_quote_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fx_quote")),
        sa.UniqueConstraint("public_id", name=op.f("uq_fx_quote_public_id")),
        sa.UniqueConstraint("txn_id", name=op.f("uq_fx_quote_txn_id")),
    )
    op.create_index(op.f("ix_fx_quote_client_id"), "fx_quote", ["client_id"], unique=False)
    op.create_table(
        "fx_rate",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("base", sa.String(length=8), nullable=False),
        sa.Column("quote", sa.String(length=8), nullable=False),
        sa.Column("rate", sa.Numeric(precision=20, scale=10), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False, comment="from when on it is the rate"),
        sa.Column(
            "reference", sa.Text(), server_default="", nullable=False, comment="the file, deal or proposal it comes from"
        ),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("base <> quote", name=op.f("ck_fx_rate_two_currencies")),
        sa.CheckConstraint("rate > 0", name=op.f("ck_fx_rate_positive")),
        sa.ForeignKeyConstraint(["source"], ["fx_source.code"], name=op.f("fk_fx_rate_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fx_rate")),
        sa.UniqueConstraint("source", "base", "quote", "observed_at", name=op.f("uq_fx_rate_source_base_quote_observed_at")),
    )
    op.create_index("ix_fx_rate_newest", "fx_rate", ["base", "quote", sa.literal_column("observed_at DESC")], unique=False)
    op.create_table(
        "proof_result",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=8), nullable=False, comment="P1 to P9"),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("break_count", sa.BigInteger(), nullable=False),
        sa.Column("breaks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["proof_run.id"], name=op.f("fk_proof_result_run_id")),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_proof_result")),
    )
    op.create_table(
        "fx_rate_proposal",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("base", sa.String(length=8), nullable=False),
        sa.Column("quote", sa.String(length=8), nullable=False),
        sa.Column("rate", sa.Numeric(precision=20, scale=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=12), server_default="proposed", nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("rate_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(status = 'proposed') = (decided_by IS NULL)", name=op.f("ck_fx_rate_proposal_decided")),
        sa.CheckConstraint(
            "status = 'withdrawn' OR decided_by IS NULL OR decided_by <> proposed_by",
            name=op.f("ck_fx_rate_proposal_four_eyes"),
        ),
        sa.CheckConstraint(
            "status IN ('proposed', 'approved', 'rejected', 'withdrawn')", name=op.f("ck_fx_rate_proposal_status")
        ),
        sa.CheckConstraint("base <> quote", name=op.f("ck_fx_rate_proposal_two_currencies")),
        sa.CheckConstraint("rate > 0", name=op.f("ck_fx_rate_proposal_positive")),
        sa.ForeignKeyConstraint(["rate_id"], ["fx_rate.id"], name=op.f("fk_fx_rate_proposal_rate_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fx_rate_proposal")),
    )
    op.create_index(op.f("ix_fx_rate_proposal_status"), "fx_rate_proposal", ["status"], unique=False)
    op.add_column(
        "account",
        sa.Column(
            "effective_through",
            sa.DateTime(timezone=True),
            server_default=sa.text("'1900-01-01 00:00+00'"),
            nullable=False,
            comment="the latest effective moment of its entries",
        ),
        schema="ledger",
    )
    op.add_column(
        "entry",
        sa.Column(
            "lateness",
            sa.SmallInteger(),
            server_default="0",
            nullable=False,
            comment="0 in order of effective moments, 1 minutes behind, 2 further (queries.py)",
        ),
        schema="ledger",
    )
    op.create_index(
        "ix_entry_late", "entry", ["account_id", "account_version"], schema="ledger", postgresql_where=sa.text("lateness = 2")
    )
    order_what_is_there()
    lighten_postings()
    op.create_index(
        "ix_txn_xact_seq",
        "txn",
        [sa.literal_column("(xact::text::bigint)"), "seq"],
        schema="ledger",
        postgresql_using="brin",
    )
    for table, column in TXN_OF_A_ROW:
        op.create_unique_constraint(op.f(f"uq_{table}_{column}"), table, [column])
    op.create_index("ix_deal_ledger_txn_id", "deal", ["ledger_txn_id"], postgresql_where=sa.text("ledger_txn_id IS NOT NULL"))
    op.bulk_insert(
        sa.table("fx_source", sa.column("code"), sa.column("rank"), sa.column("max_age_s")),
        [
            # What two people decided counts for a day; a deal's rate for an hour; a reference rate over the longest pause
            # of the central bank, Thursday before Easter to Tuesday, and a day more until it is published and fetched.
            {"code": "manual", "rank": 1, "max_age_s": 24 * 3600},
            {"code": "mt", "rank": 2, "max_age_s": 3600},
            {"code": "ecb", "rank": 3, "max_age_s": 6 * 24 * 3600},
        ],
    )


def lighten_postings() -> None:
    """What a posting no longer pays for: checks that are read anew each time, a stored balance, foreign keys row by row."""
    op.execute("ALTER TABLE ledger.account DROP CONSTRAINT sufficient_funds")
    op.drop_column("account", "balance", schema="ledger")
    op.add_column(
        "account",
        sa.Column(
            "side",
            sa.SmallInteger(),
            nullable=True,
            comment="1 where credits raise the balance, -1 where debits do; by kind",
        ),
        schema="ledger",
    )
    op.add_column(
        "account",
        sa.Column(
            "available",
            sa.BigInteger(),
            nullable=True,
            comment="balance less holds, minor units; empty where the account may go below zero",
        ),
        schema="ledger",
    )
    op.execute("UPDATE ledger.account SET side = CASE WHEN kind IN ('asset', 'expense') THEN -1 ELSE 1 END")
    op.execute("UPDATE ledger.account SET available = (credits - debits) * side - held WHERE NOT may_go_negative")
    op.alter_column("account", "side", nullable=False, schema="ledger")
    op.add_column(
        "account",
        sa.Column("balance", sa.BigInteger(), sa.Computed("(credits - debits) * side", persisted=False), nullable=True),
        schema="ledger",
    )
    op.create_check_constraint(op.f("sufficient_funds"), "account", "available >= 0", schema="ledger")
    op.execute("ALTER TABLE ledger.entry DROP CONSTRAINT ck_entry_one_side")
    op.execute("ALTER TABLE ledger.txn DROP CONSTRAINT ck_txn_idempotency_key")
    for name, declaration in ENTRY_KEYS.items():
        op.execute(f"ALTER TABLE ledger.entry DROP CONSTRAINT {name}")
        op.execute(f"ALTER TABLE ledger.entry ADD CONSTRAINT {name} {declaration} NOT ENFORCED")
    # What was written is compared itself.
    op.drop_column("txn", "request_hash", schema="ledger")
    op.drop_column("hold", "request_hash", schema="ledger")


def burden_postings() -> None:
    """The way back of `lighten_postings`. The hashes cannot be made anew: no key written before is known afterwards."""
    for table in ("txn", "hold"):
        op.add_column(table, sa.Column("request_hash", sa.LargeBinary(), server_default="", nullable=False), schema="ledger")
        op.alter_column(table, "request_hash", server_default=None, schema="ledger")
    for name, declaration in ENTRY_KEYS.items():
        op.execute(f"ALTER TABLE ledger.entry DROP CONSTRAINT {name}")
        op.execute(f"ALTER TABLE ledger.entry ADD CONSTRAINT {name} {declaration}")
    op.create_check_constraint(
        op.f("ck_txn_idempotency_key"), "txn", "length(idempotency_key) BETWEEN 1 AND 200", schema="ledger"
    )
    op.create_check_constraint(
        op.f("ck_entry_one_side"), "entry", "(debit > 0 AND credit = 0) OR (credit > 0 AND debit = 0)", schema="ledger"
    )
    op.execute("ALTER TABLE ledger.account DROP CONSTRAINT sufficient_funds")
    for column in ("balance", "available", "side"):
        op.drop_column("account", column, schema="ledger")
    op.add_column(
        "account",
        sa.Column(
            "balance",
            sa.BigInteger(),
            sa.Computed(
                "CASE WHEN kind IN ('asset', 'expense') THEN debits - credits"
                " WHEN kind IN ('liability', 'equity', 'income') THEN credits - debits END",
                persisted=True,
            ),
            nullable=False,
        ),
        schema="ledger",
    )
    op.create_check_constraint(
        op.f("sufficient_funds"), "account", "held >= 0 AND (may_go_negative OR balance - held >= 0)", schema="ledger"
    )


def order_what_is_there() -> None:
    """Give the entries written before this revision their lateness, and accounts their latest moment."""
    op.execute("ALTER TABLE ledger.entry DISABLE TRIGGER USER")
    op.execute(
        """
        UPDATE ledger.entry e
           SET lateness = CASE WHEN e.effective_at >= o.before THEN 0
                               WHEN e.effective_at >= o.before - interval '5 minutes' THEN 1 ELSE 2 END
          FROM (SELECT account_id, account_version,
                       coalesce(max(effective_at) OVER (PARTITION BY account_id ORDER BY account_version
                                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), '-infinity') AS before
                  FROM ledger.entry) AS o
         WHERE o.account_id = e.account_id AND o.account_version = e.account_version AND e.effective_at < o.before
        """
    )
    op.execute("ALTER TABLE ledger.entry ENABLE TRIGGER USER")
    op.execute(
        """
        UPDATE ledger.account a SET effective_through = e.latest
          FROM (SELECT account_id, max(effective_at) AS latest FROM ledger.entry GROUP BY account_id) AS e
         WHERE e.account_id = a.id
        """
    )


def downgrade() -> None:
    burden_postings()
    op.drop_index("ix_entry_late", table_name="entry", schema="ledger")
    op.drop_index("ix_deal_ledger_txn_id", table_name="deal", postgresql_where=sa.text("ledger_txn_id IS NOT NULL"))
    for table, column in TXN_OF_A_ROW:
        op.drop_constraint(op.f(f"uq_{table}_{column}"), table)
    op.drop_index("ix_txn_xact_seq", table_name="txn", schema="ledger")
    op.drop_column("entry", "lateness", schema="ledger")
    op.drop_column("account", "effective_through", schema="ledger")
    op.drop_index(op.f("ix_fx_rate_proposal_status"), table_name="fx_rate_proposal")
    op.drop_table("fx_rate_proposal")
    op.drop_table("proof_result")
    op.drop_index("ix_fx_rate_newest", table_name="fx_rate")
    op.drop_table("fx_rate")
    op.drop_index(op.f("ix_fx_quote_client_id"), table_name="fx_quote")
    op.drop_table("fx_quote")
    op.drop_index("ix_external_line_open", table_name="external_line", postgresql_where=sa.text("matched_at IS NULL"))
    op.drop_table("external_line")
    op.drop_table("proof_run")
    op.drop_index(
        "uq_ledger_request_reverses_open", table_name="ledger_request", postgresql_where=sa.text("status = 'proposed'")
    )
    op.drop_index(op.f("ix_ledger_request_status"), table_name="ledger_request")
    op.drop_index(op.f("ix_ledger_request_reverses"), table_name="ledger_request")
    op.drop_table("ledger_request")
    op.drop_table("seal", schema="ledger")
    op.drop_table("fx_source")
    op.drop_table("fx_pair")
    op.drop_index(op.f("ix_external_statement_account_code"), table_name="external_statement")
    op.drop_table("external_statement")
    op.drop_index("uq_alert_open", table_name="alert", postgresql_where=sa.text("closed_at IS NULL"))
    op.drop_table("alert")
