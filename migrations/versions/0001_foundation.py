"""The foundation: clients, trading accounts, payments, partners, commissions, the ledger and the spine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.core.tables import XID8

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SCHEMA ledger")
    op.create_table(
        "ab_group",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("label", sa.String(length=150), nullable=True),
        sa.Column("description", sa.String(length=512), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_group")),
        sa.UniqueConstraint("name", name=op.f("uq_ab_group_name")),
    )
    op.create_table(
        "ab_permission",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_permission")),
        sa.UniqueConstraint("name", name=op.f("uq_ab_permission_name")),
    )
    op.create_table(
        "ab_register_user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("first_name", sa.String(length=64), nullable=False),
        sa.Column("last_name", sa.String(length=64), nullable=False),
        sa.Column("username", sa.String(length=128), nullable=False),
        sa.Column("password", sa.String(length=256), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("registration_date", sa.DateTime(), nullable=True),
        sa.Column("registration_hash", sa.String(length=256), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_register_user")),
        sa.UniqueConstraint("email", name=op.f("uq_ab_register_user_email")),
        sa.UniqueConstraint("username", name=op.f("uq_ab_register_user_username")),
    )
    op.create_table(
        "ab_role",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_role")),
        sa.UniqueConstraint("name", name=op.f("uq_ab_role_name")),
    )
    op.create_table(
        "ab_user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("first_name", sa.String(length=64), nullable=False),
        sa.Column("last_name", sa.String(length=64), nullable=False),
        sa.Column("username", sa.String(length=128), nullable=False),
        sa.Column("password", sa.String(length=256), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("last_login", sa.DateTime(), nullable=True),
        sa.Column("login_count", sa.Integer(), nullable=True),
        sa.Column("fail_login_count", sa.Integer(), nullable=True),
        sa.Column("created_on", sa.DateTime(), nullable=True),
        sa.Column("changed_on", sa.DateTime(), nullable=True),
        sa.Column("created_by_fk", sa.Integer(), nullable=True),
        sa.Column("changed_by_fk", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["changed_by_fk"], ["ab_user.id"], name=op.f("fk_ab_user_changed_by_fk")),
        sa.ForeignKeyConstraint(["created_by_fk"], ["ab_user.id"], name=op.f("fk_ab_user_created_by_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_user")),
        sa.UniqueConstraint("email", name=op.f("uq_ab_user_email")),
        sa.UniqueConstraint("username", name=op.f("uq_ab_user_username")),
    )
    op.create_table(
        "ab_view_menu",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_view_menu")),
        sa.UniqueConstraint("name", name=op.f("uq_ab_view_menu_name")),
    )
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("xact", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="table:id"),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
    )
    op.create_index(op.f("ix_audit_entry_actor"), "audit_entry", ["actor"], unique=False)
    op.create_index(op.f("ix_audit_entry_target"), "audit_entry", ["target"], unique=False)
    op.create_table(
        "audit_seal",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("through_xact", XID8(), nullable=False),
        sa.Column("through_id", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_seal")),
    )
    op.create_table(
        "callback",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("connector", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="SHA-256 of the raw body"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_ignored", sa.Boolean(), server_default="false", nullable=False, comment="a type we have no use for"),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callback")),
        sa.UniqueConstraint("connector", "event_id", name=op.f("uq_callback_connector_event_id")),
    )
    op.create_table(
        "client",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False, comment="argon2id"),
        sa.Column("first_name", sa.String(length=100), nullable=False),
        sa.Column("last_name", sa.String(length=100), nullable=False),
        sa.Column("country", sa.String(length=2), nullable=False, comment="ISO 3166-1 alpha-2"),
        sa.Column("birth_date", sa.Date(), nullable=True),
        sa.Column("phone", sa.String(length=32), server_default="", nullable=False),
        sa.Column("address", sa.String(length=300), server_default="", nullable=False),
        sa.Column("language", sa.String(length=8), server_default="en", nullable=False),
        sa.Column("status", sa.String(length=16), server_default="registered", nullable=False),
        sa.Column(
            "terms_version", sa.String(length=32), nullable=False, comment="version of the terms agreed to at registration"
        ),
        sa.Column("terms_accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('registered', 'verified', 'approved', 'blocked')", name=op.f("ck_client_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client")),
    )
    op.create_index("uq_client_email_lower", "client", [sa.literal_column("lower(email)")], unique=True)
    op.create_table(
        "cron_slot",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("job", "slot", name=op.f("pk_cron_slot")),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("xact", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.BigInteger(), nullable=True, comment="id of the row the fact is about"),
        sa.Column("client_id", sa.BigInteger(), nullable=True, comment="whose timeline shows it"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_client_id_id", "event", ["client_id", "id"], unique=False)
    op.create_index("ix_event_xact_id", "event", ["xact", "id"], unique=False)
    op.create_table(
        "job_failure",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("function", sa.Text(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retried_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_failure")),
        sa.UniqueConstraint("job_id", name=op.f("uq_job_failure_job_id")),
    )
    op.create_table(
        "currency",
        sa.Column("code", sa.String(length=8), nullable=False),
        sa.Column("exponent", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("exponent BETWEEN 0 AND 8", name=op.f("ck_currency_exponent")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_currency")),
        schema="ledger",
    )
    op.create_table(
        "period_close",
        sa.Column("closed_through", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.CheckConstraint("closed_through <= closed_at", name=op.f("ck_period_close_past")),
        sa.PrimaryKeyConstraint("closed_through", name=op.f("pk_period_close")),
        schema="ledger",
    )
    op.create_table(
        "txn",
        sa.Column("id", sa.UUID(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column(
            "seq", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order within one database transaction"
        ),
        sa.Column("idempotency_key", sa.Text(), nullable=False, comment="business key, such as deposit:stripe:pi_1"),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of kind, legs and reversed transaction"),
        sa.Column(
            "kind", sa.String(length=60), nullable=False, comment="what happened, such as deposit or withdrawal.submitted"
        ),
        sa.Column(
            "effective_at", sa.DateTime(timezone=True), nullable=False, comment="when it counts, for statements and periods"
        ),
        sa.Column("posted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reverses", sa.UUID(), nullable=True),
        sa.Column("xact", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.CheckConstraint("length(idempotency_key) BETWEEN 1 AND 200", name=op.f("ck_txn_idempotency_key")),
        sa.ForeignKeyConstraint(["reverses"], ["ledger.txn.id"], name=op.f("fk_txn_reverses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_txn")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_txn_idempotency_key")),
        schema="ledger",
    )
    op.create_index(
        "uq_txn_reverses", "txn", ["reverses"], unique=True, schema="ledger", postgresql_where=sa.text("reverses IS NOT NULL")
    )
    op.create_table(
        "mt_dead_letter",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("fields", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mt_dead_letter")),
        sa.UniqueConstraint("stream", "entry_id", name=op.f("uq_mt_dead_letter_stream_entry_id")),
    )
    op.create_table(
        "mt_server",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("code", sa.String(length=20), nullable=False, comment="short name in streams and ledger codes"),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("platform", sa.String(length=20), nullable=False, comment="registered adapter, such as mt5_web"),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("manager_login", sa.BigInteger(), nullable=False),
        sa.Column("time_zone", sa.String(length=40), nullable=False, comment="IANA zone of the server's wall clock"),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mt_server")),
        sa.UniqueConstraint("code", name=op.f("uq_mt_server_code")),
    )
    op.create_table(
        "plan",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan")),
        sa.UniqueConstraint("name", name=op.f("uq_plan_name")),
    )
    op.create_table(
        "relay_cursor",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("xact", XID8(), server_default=sa.text("'0'"), nullable=False),
        sa.Column("event_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_relay_cursor")),
    )
    op.create_table(
        "ab_api_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("key_hash", sa.String(length=256), nullable=False),
        sa.Column("lookup_hash", sa.String(length=256), nullable=True),
        sa.Column("key_prefix", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_on", sa.DateTime(), nullable=True),
        sa.Column("expires_on", sa.DateTime(), nullable=True),
        sa.Column("revoked_on", sa.DateTime(), nullable=True),
        sa.Column("last_used_on", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["ab_user.id"], name=op.f("fk_ab_api_key_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_api_key")),
        sa.UniqueConstraint("lookup_hash", name=op.f("uq_ab_api_key_lookup_hash")),
        sa.UniqueConstraint("uuid", name=op.f("uq_ab_api_key_uuid")),
    )
    op.create_index("idx_api_key_lookup_hash", "ab_api_key", ["lookup_hash"], unique=True)
    op.create_index("idx_api_key_prefix", "ab_api_key", ["key_prefix"], unique=False)
    op.create_index("idx_api_key_user_id", "ab_api_key", ["user_id"], unique=False)
    op.create_table(
        "ab_group_role",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=True),
        sa.Column("role_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["group_id"], ["ab_group.id"], name=op.f("fk_ab_group_role_group_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["role_id"], ["ab_role.id"], name=op.f("fk_ab_group_role_role_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_group_role")),
        sa.UniqueConstraint("group_id", "role_id", name=op.f("uq_ab_group_role_group_id_role_id")),
    )
    op.create_index("idx_group_id", "ab_group_role", ["group_id"], unique=False)
    op.create_index("idx_group_role_id", "ab_group_role", ["role_id"], unique=False)
    op.create_table(
        "ab_permission_view",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("permission_id", sa.Integer(), nullable=False),
        sa.Column("view_menu_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["permission_id"], ["ab_permission.id"], name=op.f("fk_ab_permission_view_permission_id")),
        sa.ForeignKeyConstraint(["view_menu_id"], ["ab_view_menu.id"], name=op.f("fk_ab_permission_view_view_menu_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_permission_view")),
        sa.UniqueConstraint("permission_id", "view_menu_id", name=op.f("uq_ab_permission_view_permission_id_view_menu_id")),
    )
    op.create_index("idx_permission_id", "ab_permission_view", ["permission_id"], unique=False)
    op.create_index("idx_view_menu_id", "ab_permission_view", ["view_menu_id"], unique=False)
    op.create_table(
        "ab_user_group",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("group_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["group_id"], ["ab_group.id"], name=op.f("fk_ab_user_group_group_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["ab_user.id"], name=op.f("fk_ab_user_group_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_user_group")),
        sa.UniqueConstraint("user_id", "group_id", name=op.f("uq_ab_user_group_user_id_group_id")),
    )
    op.create_index("idx_user_group_id", "ab_user_group", ["group_id"], unique=False)
    op.create_index("idx_user_id", "ab_user_group", ["user_id"], unique=False)
    op.create_table(
        "ab_user_role",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("role_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["role_id"], ["ab_role.id"], name=op.f("fk_ab_user_role_role_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["ab_user.id"], name=op.f("fk_ab_user_role_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_user_role")),
        sa.UniqueConstraint("user_id", "role_id", name=op.f("uq_ab_user_role_user_id_role_id")),
    )
    op.create_table(
        "balance_operation",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("login", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.String(length=16), nullable=False, comment="first in the deal's comment"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="positive puts in, negative takes out"),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="new", nullable=False),
        sa.Column("deal_ticket", sa.BigInteger(), nullable=True),
        sa.Column("sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "looks", sa.Integer(), server_default="0", nullable=False, comment="times the token was looked for and not found"
        ),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'done') = (deal_ticket IS NOT NULL)", name=op.f("ck_balance_operation_done_has_ticket")),
        sa.CheckConstraint(
            "status IN ('new', 'sending', 'unknown', 'done', 'failed')", name=op.f("ck_balance_operation_status")
        ),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_balance_operation_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_balance_operation")),
        sa.UniqueConstraint("server_id", "deal_ticket", name=op.f("uq_balance_operation_server_id_deal_ticket")),
        sa.UniqueConstraint("token", name=op.f("uq_balance_operation_token")),
    )
    op.create_index(
        "uq_balance_operation_one_in_flight",
        "balance_operation",
        ["server_id", "login"],
        unique=True,
        postgresql_where=sa.text("status IN ('sending', 'unknown')"),
    )
    op.create_table(
        "client_token",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("purpose IN ('verify_email', 'reset_password')", name=op.f("ck_client_token_purpose")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_client_token_client_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_token")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_client_token_secret_hash")),
    )
    op.create_index(op.f("ix_client_token_client_id"), "client_token", ["client_id"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("enqueued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True, comment="type of the last error, without personal data"),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name=op.f("fk_delivery_event_id")),
        sa.PrimaryKeyConstraint("event_id", "handler", name=op.f("pk_delivery")),
    )
    op.create_index(
        "ix_delivery_waiting",
        "delivery",
        ["handler", "enqueued_at"],
        unique=False,
        postgresql_where=sa.text("delivered_at IS NULL"),
    )
    op.create_table(
        "deposit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("public_id", sa.UUID(), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("connector", sa.String(length=40), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="created", nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=True, comment="checkout session"),
        sa.Column("payment_reference", sa.Text(), nullable=True, comment="what a refund names"),
        sa.Column("redirect_url", sa.Text(), nullable=True),
        sa.Column("settled_minor", sa.BigInteger(), nullable=True, comment="what the provider says it processed"),
        sa.Column("fee_minor", sa.BigInteger(), nullable=True),
        sa.Column("refunded_minor", sa.BigInteger(), server_default="0", nullable=False, comment="refunds under way or done"),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("asks", sa.Integer(), server_default="0", nullable=False, comment="times the janitor asked the provider"),
        sa.Column("next_ask_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ledger_txn_id", sa.UUID(), nullable=True),
        sa.CheckConstraint("(state = 'settled') <= (settled_minor IS NOT NULL)", name=op.f("ck_deposit_settled_amount")),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_deposit_positive")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_deposit_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deposit")),
        sa.UniqueConstraint("client_id", "idempotency_key", name=op.f("uq_deposit_client_id_idempotency_key")),
        sa.UniqueConstraint("connector", "provider_reference", name=op.f("uq_deposit_connector_provider_reference")),
        sa.UniqueConstraint("public_id", name=op.f("uq_deposit_public_id")),
    )
    op.create_index(op.f("ix_deposit_client_id"), "deposit", ["client_id"], unique=False)
    op.create_index(op.f("ix_deposit_state"), "deposit", ["state"], unique=False)
    op.create_table(
        "document",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=False, comment="as the client named it, for display only"),
        sa.Column("media_type", sa.String(length=40), nullable=False, comment="found by decoding the content"),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("storage_key", sa.String(length=64), nullable=False),
        sa.Column(
            "reason", sa.Text(), server_default="", nullable=False, comment="why it was rejected, in words for the client"
        ),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reviewed_by", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('identity', 'address')", name=op.f("ck_document_kind")),
        sa.CheckConstraint("status <> 'rejected' OR reason <> ''", name=op.f("ck_document_reason_when_rejected")),
        sa.CheckConstraint(
            "status = 'replaced' OR (status = 'pending') = (reviewed_at IS NULL)", name=op.f("ck_document_reviewed")
        ),
        sa.CheckConstraint("status IN ('pending', 'approved', 'rejected', 'replaced')", name=op.f("ck_document_status")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_document_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document")),
        sa.UniqueConstraint("storage_key", name=op.f("uq_document_storage_key")),
    )
    op.create_index(op.f("ix_document_client_id"), "document", ["client_id"], unique=False)
    op.create_index(
        "uq_document_one_waiting",
        "document",
        ["client_id", "kind"],
        unique=True,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "introducing_broker",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False, comment="what the IB is paid in"),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_introducing_broker_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_introducing_broker")),
        sa.UniqueConstraint("client_id", name=op.f("uq_introducing_broker_client_id")),
    )
    op.create_table(
        "account",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("code", sa.String(length=120), nullable=False, comment="owner:id:purpose:currency, see app/ledger/chart.py"),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("may_go_negative", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=True, comment="whose money it is; empty for the house's own accounts"),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("debits", sa.BigInteger(), server_default="0", nullable=False, comment="sum of all debits, minor units"),
        sa.Column("credits", sa.BigInteger(), server_default="0", nullable=False, comment="sum of all credits, minor units"),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False, comment="sum of unresolved holds, minor units"),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False, comment="number of entries"),
        sa.Column(
            "balance",
            sa.BigInteger(),
            sa.Computed(
                "CASE WHEN kind IN ('asset', 'expense') THEN debits - credits WHEN kind IN ('liability', 'equity', 'income') THEN credits - debits END",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.CheckConstraint("held >= 0 AND (may_go_negative OR balance - held >= 0)", name=op.f("sufficient_funds")),
        sa.ForeignKeyConstraint(["currency"], ["ledger.currency.code"], name=op.f("fk_account_currency")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("code", name=op.f("uq_account_code")),
        sa.UniqueConstraint("id", "currency", name=op.f("uq_account_id_currency")),
        schema="ledger",
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_account_client_id",
        "account",
        ["client_id"],
        unique=False,
        schema="ledger",
        postgresql_where=sa.text("client_id IS NOT NULL"),
    )
    op.create_table(
        "mail",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True, comment="the fact it tells of"),
        sa.Column("template", sa.String(length=40), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("values", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("status", sa.String(length=12), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True, comment="until then somebody is sending it"),
        sa.Column("error", sa.Text(), server_default="", nullable=False, comment="what went wrong last, without personal data"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('waiting', 'sent', 'failed')", name=op.f("ck_mail_status")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_mail_client_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name=op.f("fk_mail_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail")),
        sa.UniqueConstraint("event_id", name=op.f("uq_mail_event_id")),
    )
    op.create_index(op.f("ix_mail_client_id"), "mail", ["client_id"], unique=False)
    op.create_index(op.f("ix_mail_status"), "mail", ["status"], unique=False)
    op.create_table(
        "plan_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="see app/commissions/plans.py"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_plan_version_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_version")),
        sa.UniqueConstraint("plan_id", "valid_from", name=op.f("uq_plan_version_plan_id_valid_from")),
        sa.UniqueConstraint("plan_id", "version", name=op.f("uq_plan_version_plan_id_version")),
    )
    op.create_table(
        "portal_session",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked", sa.Boolean(), server_default="false", nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_portal_session_client_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portal_session")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_portal_session_secret_hash")),
    )
    op.create_index(op.f("ix_portal_session_client_id"), "portal_session", ["client_id"], unique=False)
    op.create_table(
        "product",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("group", sa.String(length=128), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column(
            "leverages", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="choices, such as [30, 100, 200]"
        ),
        sa.Column("is_demo", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_open", sa.Boolean(), server_default="true", nullable=False, comment="offered to clients now"),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_product_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_product")),
        sa.UniqueConstraint("code", name=op.f("uq_product_code")),
    )
    op.create_table(
        "ab_permission_view_role",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("permission_view_id", sa.Integer(), nullable=True),
        sa.Column("role_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["permission_view_id"],
            ["ab_permission_view.id"],
            name=op.f("fk_ab_permission_view_role_permission_view_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["role_id"], ["ab_role.id"], name=op.f("fk_ab_permission_view_role_role_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ab_permission_view_role")),
        sa.UniqueConstraint(
            "permission_view_id", "role_id", name=op.f("uq_ab_permission_view_role_permission_view_id_role_id")
        ),
    )
    op.create_index("idx_permission_view_id", "ab_permission_view_role", ["permission_view_id"], unique=False)
    op.create_index("idx_role_id", "ab_permission_view_role", ["role_id"], unique=False)
    op.create_table(
        "ib_link",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(length=24), nullable=False),
        sa.Column("name", sa.String(length=60), server_default="", nullable=False),
        sa.Column("visits", sa.Integer(), server_default="0", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_ib_link_ib_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ib_link")),
        sa.UniqueConstraint("code", name=op.f("uq_ib_link_code")),
    )
    op.create_index(op.f("ix_ib_link_ib_id"), "ib_link", ["ib_id"], unique=False)
    op.create_table(
        "ib_plan",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name=op.f("ck_ib_plan_span")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_ib_plan_ib_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_ib_plan_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ib_plan")),
    )
    op.create_index("uq_ib_plan_current", "ib_plan", ["ib_id"], unique=True, postgresql_where=sa.text("valid_to IS NULL"))
    op.create_table(
        "entry",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account_version", sa.BigInteger(), autoincrement=False, nullable=False, comment="1 for the first entry"),
        sa.Column("txn_id", sa.UUID(), nullable=False),
        sa.Column(
            "effective_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="copy of the transaction's, so that statements read one index",
        ),
        sa.Column("debit", sa.BigInteger(), nullable=False, comment="minor units"),
        sa.Column("credit", sa.BigInteger(), nullable=False, comment="minor units"),
        sa.Column("debits_after", sa.BigInteger(), nullable=False),
        sa.Column("credits_after", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.CheckConstraint("(debit > 0 AND credit = 0) OR (credit > 0 AND debit = 0)", name=op.f("ck_entry_one_side")),
        sa.ForeignKeyConstraint(
            ["account_id", "currency"], ["ledger.account.id", "ledger.account.currency"], name=op.f("fk_entry_account_id")
        ),
        sa.ForeignKeyConstraint(["txn_id"], ["ledger.txn.id"], name=op.f("fk_entry_txn_id")),
        sa.PrimaryKeyConstraint("account_id", "account_version", name=op.f("pk_entry")),
        sa.UniqueConstraint("txn_id", "account_id", name=op.f("uq_entry_txn_id_account_id")),
        schema="ledger",
    )
    op.create_index(
        "ix_entry_account_id_effective_at",
        "entry",
        ["account_id", "effective_at", "account_version"],
        unique=False,
        schema="ledger",
    )
    op.create_table(
        "hold",
        sa.Column("id", sa.UUID(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False, comment="minor units of the account's currency"),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of account and amount"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="from then on it may be expired; until then it stands",
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_hold_positive")),
        sa.CheckConstraint("length(idempotency_key) BETWEEN 1 AND 200", name=op.f("ck_hold_idempotency_key")),
        sa.ForeignKeyConstraint(["account_id"], ["ledger.account.id"], name=op.f("fk_hold_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hold")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_hold_idempotency_key")),
        schema="ledger",
    )
    op.create_index(op.f("ix_hold_account_id"), "hold", ["account_id"], unique=False, schema="ledger")
    op.create_table(
        "settlement",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("accrued", sa.Numeric(precision=24, scale=10), nullable=False, comment="sum of its accruals"),
        sa.Column(
            "carried_in", sa.Numeric(precision=24, scale=10), nullable=False, comment="remainder of the settlement before"
        ),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="posted"),
        sa.Column("carried_out", sa.Numeric(precision=24, scale=10), nullable=False),
        sa.Column("ledger_txn_id", sa.UUID(), nullable=True, comment="none when nothing was left after rounding"),
        sa.Column("settled_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("period", sa.Text(), nullable=False, comment="key of the settlement run"),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_settlement_ib_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement")),
        sa.UniqueConstraint("ib_id", "currency", "period", name=op.f("uq_settlement_ib_id_currency_period")),
    )
    op.create_index("ix_settlement_ib_currency", "settlement", ["ib_id", "currency", "id"], unique=False)
    op.create_table(
        "trading_account",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("login", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("leverage", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="requested", nullable=False),
        sa.Column("token", sa.String(length=16), nullable=False, comment="our mark in the server's record"),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("balance", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("credit", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("equity", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("state_at", sa.DateTime(timezone=True), nullable=True, comment="server moment of balance, credit and equity"),
        sa.Column("password_sealed", sa.LargeBinary(), nullable=True, comment="encrypted until the client has seen it once"),
        sa.Column("password_shown_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'active') <= (login IS NOT NULL)", name=op.f("ck_trading_account_active_has_login")),
        sa.CheckConstraint(
            "status IN ('requested', 'opening', 'unknown', 'active', 'failed')", name=op.f("ck_trading_account_status")
        ),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_trading_account_client_id")),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_trading_account_product_id")),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_trading_account_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trading_account")),
        sa.UniqueConstraint("server_id", "login", name=op.f("uq_trading_account_server_id_login")),
        sa.UniqueConstraint("token", name=op.f("uq_trading_account_token")),
    )
    op.create_index(op.f("ix_trading_account_client_id"), "trading_account", ["client_id"], unique=False)
    op.create_table(
        "withdrawal",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("public_id", sa.UUID(), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("connector", sa.String(length=40), nullable=False),
        sa.Column("deposit_id", sa.BigInteger(), nullable=False, comment="the payment that is refunded"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="requested", nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("hold_id", sa.UUID(), nullable=False),
        sa.Column("capture_txn_id", sa.UUID(), nullable=True),
        sa.Column("final_txn_id", sa.UUID(), nullable=True),
        sa.Column("provider_reference", sa.Text(), nullable=True, comment="refund"),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "reason", sa.Text(), server_default="", nullable=False, comment="why it was rejected or failed, for the client"
        ),
        sa.Column("asks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_ask_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_withdrawal_positive")),
        sa.CheckConstraint("approved_by IS NULL OR approved_by <> requested_by", name=op.f("ck_withdrawal_four_eyes")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_withdrawal_client_id")),
        sa.ForeignKeyConstraint(["deposit_id"], ["deposit.id"], name=op.f("fk_withdrawal_deposit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawal")),
        sa.UniqueConstraint("client_id", "idempotency_key", name=op.f("uq_withdrawal_client_id_idempotency_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_withdrawal_public_id")),
    )
    op.create_index(op.f("ix_withdrawal_client_id"), "withdrawal", ["client_id"], unique=False)
    op.create_index(op.f("ix_withdrawal_state"), "withdrawal", ["state"], unique=False)
    op.create_table(
        "attribution",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False, comment="why this client is this IB's: link, manual …"),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name=op.f("ck_attribution_span")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_attribution_client_id")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_attribution_ib_id")),
        sa.ForeignKeyConstraint(["link_id"], ["ib_link.id"], name=op.f("fk_attribution_link_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attribution")),
    )
    op.create_index(op.f("ix_attribution_ib_id"), "attribution", ["ib_id"], unique=False)
    op.create_index(
        "uq_attribution_current", "attribution", ["client_id"], unique=True, postgresql_where=sa.text("valid_to IS NULL")
    )
    op.create_table(
        "deal",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("ticket", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="SHA-256 of the business fields"),
        sa.Column("is_current", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("is_void", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("login", sa.BigInteger(), nullable=False),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Integer(), nullable=False, comment="0 buy, 1 sell, 2 balance …"),
        sa.Column("entry", sa.Integer(), nullable=False, comment="0 in, 1 out, 2 in/out, 3 out by"),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("order_ticket", sa.BigInteger(), nullable=False),
        sa.Column("position_ticket", sa.BigInteger(), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("volume", sa.BigInteger(), nullable=False, comment="1/100000000 lot"),
        sa.Column("volume_closed", sa.BigInteger(), server_default="0", nullable=False, comment="1/100000000 lot"),
        sa.Column("price", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("market_bid", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("market_ask", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("contract_size", sa.Numeric(precision=20, scale=4), server_default="0", nullable=False),
        sa.Column("profit", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("swap", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("commission", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("fee", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("rate_profit", sa.Numeric(precision=20, scale=10), server_default="0", nullable=False),
        sa.Column("digits_currency", sa.Integer(), server_default="2", nullable=False),
        sa.Column("comment", sa.String(length=64), server_default="", nullable=False),
        sa.Column("server_time_ms", sa.BigInteger(), nullable=False, comment="raw wall clock of the server"),
        sa.Column("utc_offset_min", sa.Integer(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("booked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ledger_txn_id", sa.UUID(), nullable=True, comment="mirror transaction that carries this deal's result"),
        sa.Column("is_ours", sa.Boolean(), server_default="false", nullable=False, comment="balance operation we sent"),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_deal_server_id")),
        sa.ForeignKeyConstraint(["trading_account_id"], ["trading_account.id"], name=op.f("fk_deal_trading_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deal")),
        sa.UniqueConstraint("server_id", "ticket", "revision", name=op.f("uq_deal_server_id_ticket_revision")),
    )
    op.create_index("ix_deal_account_time", "deal", ["trading_account_id", "done_at", "id"], unique=False)
    op.create_index("ix_deal_current", "deal", ["server_id", "ticket"], unique=True, postgresql_where=sa.text("is_current"))
    op.create_index("ix_deal_position", "deal", ["server_id", "position_ticket"], unique=False)
    op.create_index("ix_deal_unmirrored", "deal", ["id"], unique=False, postgresql_where=sa.text("ledger_txn_id IS NULL"))
    op.create_table(
        "hold_resolution",
        sa.Column("hold_id", sa.UUID(), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("txn_id", sa.UUID(), nullable=True, comment="what the hold became"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(outcome = 'captured') = (txn_id IS NOT NULL)", name=op.f("ck_hold_resolution_captured_has_txn")),
        sa.CheckConstraint("outcome IN ('captured', 'released', 'expired')", name=op.f("ck_hold_resolution_outcome")),
        sa.ForeignKeyConstraint(["hold_id"], ["ledger.hold.id"], name=op.f("fk_hold_resolution_hold_id")),
        sa.ForeignKeyConstraint(["txn_id"], ["ledger.txn.id"], name=op.f("fk_hold_resolution_txn_id")),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_hold_resolution")),
        sa.UniqueConstraint("txn_id", name=op.f("uq_hold_resolution_txn_id")),
        schema="ledger",
    )
    op.create_table(
        "position",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("ticket", sa.BigInteger(), nullable=False),
        sa.Column("login", sa.BigInteger(), nullable=False),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=True),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("action", sa.Integer(), nullable=False),
        sa.Column("volume", sa.BigInteger(), nullable=False, comment="1/100000000 lot"),
        sa.Column("price_open", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("price_current", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("profit", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("swap", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "update_ms", sa.BigInteger(), nullable=False, comment="raw server moment of the last report; older ones are ignored"
        ),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_position_server_id")),
        sa.ForeignKeyConstraint(["trading_account_id"], ["trading_account.id"], name=op.f("fk_position_trading_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_position")),
        sa.UniqueConstraint("server_id", "ticket", name=op.f("uq_position_server_id_ticket")),
    )
    op.create_index(op.f("ix_position_login"), "position", ["login"], unique=False)
    op.create_index(op.f("ix_position_trading_account_id"), "position", ["trading_account_id"], unique=False)
    op.create_table(
        "transfer",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=False),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=False),
        sa.Column("direction", sa.String(length=12), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="requested", nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("hold_id", sa.UUID(), nullable=True),
        sa.Column("operation_id", sa.BigInteger(), nullable=True),
        sa.Column("ledger_txn_id", sa.UUID(), nullable=True),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("direction IN ('to_account', 'to_wallet')", name=op.f("ck_transfer_direction")),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_transfer_positive")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_transfer_client_id")),
        sa.ForeignKeyConstraint(["operation_id"], ["balance_operation.id"], name=op.f("fk_transfer_operation_id")),
        sa.ForeignKeyConstraint(["trading_account_id"], ["trading_account.id"], name=op.f("fk_transfer_trading_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfer")),
        sa.UniqueConstraint("client_id", "idempotency_key", name=op.f("uq_transfer_client_id_idempotency_key")),
        sa.UniqueConstraint("operation_id", name=op.f("uq_transfer_operation_id")),
    )
    op.create_index(op.f("ix_transfer_client_id"), "transfer", ["client_id"], unique=False)
    op.create_index(op.f("ix_transfer_state"), "transfer", ["state"], unique=False)
    op.create_index(op.f("ix_transfer_trading_account_id"), "transfer", ["trading_account_id"], unique=False)
    op.create_table(
        "accrual",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_version_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(length=40), nullable=False, comment="key of the rule within the version"),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("ib_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False, comment="accrue, reverse, adjust:<run>"),
        sa.Column("amount", sa.Numeric(precision=24, scale=10), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("lots", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("rate", sa.Numeric(precision=20, scale=10), nullable=False, comment="per lot"),
        sa.Column("accrued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("settlement_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["deal_id"], ["deal.id"], name=op.f("fk_accrual_deal_id")),
        sa.ForeignKeyConstraint(["ib_id"], ["introducing_broker.id"], name=op.f("fk_accrual_ib_id")),
        sa.ForeignKeyConstraint(["plan_version_id"], ["plan_version.id"], name=op.f("fk_accrual_plan_version_id")),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlement.id"], name=op.f("fk_accrual_settlement_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accrual")),
        sa.UniqueConstraint(
            "deal_id",
            "plan_version_id",
            "rule",
            "level",
            "ib_id",
            "kind",
            name=op.f("uq_accrual_deal_id_plan_version_id_rule_level_ib_id_kind"),
        ),
    )
    op.create_index("ix_accrual_ib_id_id", "accrual", ["ib_id", "id"], unique=False)
    op.create_index(op.f("ix_accrual_settlement_id"), "accrual", ["settlement_id"], unique=False)
    op.create_index(
        "ix_accrual_unsettled",
        "accrual",
        ["ib_id", "currency"],
        unique=False,
        postgresql_where=sa.text("settlement_id IS NULL"),
    )
    op.create_table(
        "deal_outcome",
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("accruals", sa.Integer(), nullable=False),
        sa.Column(
            "reason",
            sa.String(length=40),
            server_default="",
            nullable=False,
            comment="code of the reason when nothing was paid",
        ),
        sa.Column("judged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["deal_id"], ["deal.id"], name=op.f("fk_deal_outcome_deal_id")),
        sa.PrimaryKeyConstraint("deal_id", name=op.f("pk_deal_outcome")),
    )
    op.create_index(
        "ix_deal_outcome_waiting",
        "deal_outcome",
        ["judged_at"],
        unique=False,
        postgresql_where=sa.text("reason IN ('no_account', 'opening_unknown', 'plan_invalid', 'beyond_limits')"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_deal_outcome_waiting",
        table_name="deal_outcome",
        postgresql_where=sa.text("reason IN ('no_account', 'opening_unknown', 'plan_invalid', 'beyond_limits')"),
    )
    op.drop_table("deal_outcome")
    op.drop_index("ix_accrual_unsettled", table_name="accrual", postgresql_where=sa.text("settlement_id IS NULL"))
    op.drop_index(op.f("ix_accrual_settlement_id"), table_name="accrual")
    op.drop_index("ix_accrual_ib_id_id", table_name="accrual")
    op.drop_table("accrual")
    op.drop_index(op.f("ix_transfer_trading_account_id"), table_name="transfer")
    op.drop_index(op.f("ix_transfer_state"), table_name="transfer")
    op.drop_index(op.f("ix_transfer_client_id"), table_name="transfer")
    op.drop_table("transfer")
    op.drop_index(op.f("ix_position_trading_account_id"), table_name="position")
    op.drop_index(op.f("ix_position_login"), table_name="position")
    op.drop_table("position")
    op.drop_table("hold_resolution", schema="ledger")
    op.drop_index("ix_deal_unmirrored", table_name="deal", postgresql_where=sa.text("ledger_txn_id IS NULL"))
    op.drop_index("ix_deal_position", table_name="deal")
    op.drop_index("ix_deal_current", table_name="deal", postgresql_where=sa.text("is_current"))
    op.drop_index("ix_deal_account_time", table_name="deal")
    op.drop_table("deal")
    op.drop_index("uq_attribution_current", table_name="attribution", postgresql_where=sa.text("valid_to IS NULL"))
    op.drop_index(op.f("ix_attribution_ib_id"), table_name="attribution")
    op.drop_table("attribution")
    op.drop_index(op.f("ix_withdrawal_state"), table_name="withdrawal")
    op.drop_index(op.f("ix_withdrawal_client_id"), table_name="withdrawal")
    op.drop_table("withdrawal")
    op.drop_index(op.f("ix_trading_account_client_id"), table_name="trading_account")
    op.drop_table("trading_account")
    op.drop_index("ix_settlement_ib_currency", table_name="settlement")
    op.drop_table("settlement")
    op.drop_index(op.f("ix_hold_account_id"), table_name="hold", schema="ledger")
    op.drop_table("hold", schema="ledger")
    op.drop_index("ix_entry_account_id_effective_at", table_name="entry", schema="ledger")
    op.drop_table("entry", schema="ledger")
    op.drop_index("uq_ib_plan_current", table_name="ib_plan", postgresql_where=sa.text("valid_to IS NULL"))
    op.drop_table("ib_plan")
    op.drop_index(op.f("ix_ib_link_ib_id"), table_name="ib_link")
    op.drop_table("ib_link")
    op.drop_index("idx_role_id", table_name="ab_permission_view_role")
    op.drop_index("idx_permission_view_id", table_name="ab_permission_view_role")
    op.drop_table("ab_permission_view_role")
    op.drop_table("product")
    op.drop_index(op.f("ix_portal_session_client_id"), table_name="portal_session")
    op.drop_table("portal_session")
    op.drop_table("plan_version")
    op.drop_index(op.f("ix_mail_status"), table_name="mail")
    op.drop_index(op.f("ix_mail_client_id"), table_name="mail")
    op.drop_table("mail")
    op.drop_index(
        "ix_account_client_id", table_name="account", schema="ledger", postgresql_where=sa.text("client_id IS NOT NULL")
    )
    op.drop_table("account", schema="ledger")
    op.drop_table("introducing_broker")
    op.drop_index("uq_document_one_waiting", table_name="document", postgresql_where=sa.text("status = 'pending'"))
    op.drop_index(op.f("ix_document_client_id"), table_name="document")
    op.drop_table("document")
    op.drop_index(op.f("ix_deposit_state"), table_name="deposit")
    op.drop_index(op.f("ix_deposit_client_id"), table_name="deposit")
    op.drop_table("deposit")
    op.drop_index("ix_delivery_waiting", table_name="delivery", postgresql_where=sa.text("delivered_at IS NULL"))
    op.drop_table("delivery")
    op.drop_index(op.f("ix_client_token_client_id"), table_name="client_token")
    op.drop_table("client_token")
    op.drop_index(
        "uq_balance_operation_one_in_flight",
        table_name="balance_operation",
        postgresql_where=sa.text("status IN ('sending', 'unknown')"),
    )
    op.drop_table("balance_operation")
    op.drop_table("ab_user_role")
    op.drop_index("idx_user_id", table_name="ab_user_group")
    op.drop_index("idx_user_group_id", table_name="ab_user_group")
    op.drop_table("ab_user_group")
    op.drop_index("idx_view_menu_id", table_name="ab_permission_view")
    op.drop_index("idx_permission_id", table_name="ab_permission_view")
    op.drop_table("ab_permission_view")
    op.drop_index("idx_group_role_id", table_name="ab_group_role")
    op.drop_index("idx_group_id", table_name="ab_group_role")
    op.drop_table("ab_group_role")
    op.drop_index("idx_api_key_user_id", table_name="ab_api_key")
    op.drop_index("idx_api_key_prefix", table_name="ab_api_key")
    op.drop_index("idx_api_key_lookup_hash", table_name="ab_api_key")
    op.drop_table("ab_api_key")
    op.drop_table("relay_cursor")
    op.drop_table("plan")
    op.drop_table("mt_server")
    op.drop_table("mt_dead_letter")
    op.drop_index("uq_txn_reverses", table_name="txn", schema="ledger", postgresql_where=sa.text("reverses IS NOT NULL"))
    op.drop_table("txn", schema="ledger")
    op.drop_table("period_close", schema="ledger")
    op.drop_table("currency", schema="ledger")
    op.drop_table("job_failure")
    op.drop_index("ix_event_xact_id", table_name="event")
    op.drop_index("ix_event_client_id_id", table_name="event")
    op.drop_table("event")
    op.drop_table("cron_slot")
    op.drop_index("uq_client_email_lower", table_name="client")
    op.drop_table("client")
    op.drop_table("callback")
    op.drop_table("audit_seal")
    op.drop_index(op.f("ix_audit_entry_target"), table_name="audit_entry")
    op.drop_index(op.f("ix_audit_entry_actor"), table_name="audit_entry")
    op.drop_table("audit_entry")
    op.drop_table("ab_view_menu")
    op.drop_table("ab_user")
    op.drop_table("ab_role")
    op.drop_table("ab_register_user")
    op.drop_table("ab_permission")
    op.drop_table("ab_group")
    op.execute("DROP SCHEMA ledger")
    op.execute("DROP FUNCTION refuse_change()")
