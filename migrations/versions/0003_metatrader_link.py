"""The MetaTrader link: deals by month, orders, sources and states of servers, changes, checks, breaks, imports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: Table, name, condition now, condition before.
CHECKS = (
    ("mt_server", "events", "events IN ('stream', 'kafka', 'webhook', 'sql', 'poll', 'mt4_report')", ""),
    ("mt_server", "backfill", "backfill IN ('platform', 'bridge', 'sql', 'mt4_report')", ""),
    ("mt_server", "shards", "shards BETWEEN 1 AND 64", ""),
    ("product", "margin_mode", "margin_mode IN ('hedging', 'netting')", ""),
    ("product", "demo_deposit", "demo_deposit_minor >= 0 AND (is_demo OR demo_deposit_minor = 0)", ""),
    (
        "trading_account",
        "status",
        "status IN ('requested', 'opening', 'unknown', 'active', 'failed', 'disabled', 'archived')",
        "status IN ('requested', 'opening', 'unknown', 'active', 'failed')",
    ),
    (
        "trading_account",
        "active_has_login",
        "(status IN ('active', 'disabled', 'archived')) <= (login IS NOT NULL)",
        "(status = 'active') <= (login IS NOT NULL)",
    ),
    ("trading_account", "origin", "origin IN ('opened', 'bound', 'imported')", ""),
    ("balance_operation", "purpose", "purpose IN ('transfer', 'negative_balance', 'demo_deposit', 'repair')", ""),
)

#: They name a deal by its id, which a partitioned table cannot be the target of.
POINTING = ("accrual", "deal_outcome")

INDEXES = (
    "CREATE INDEX ix_deal_account_time ON deal (trading_account_id, done_at, id)",
    "CREATE INDEX ix_deal_position ON deal (server_id, position_ticket)",
    "CREATE INDEX ix_deal_unmirrored ON deal (id) WHERE ledger_txn_id IS NULL",
    "CREATE INDEX ix_deal_ledger_txn_id ON deal (ledger_txn_id) WHERE ledger_txn_id IS NOT NULL",
)
BY_DAY = "CREATE INDEX ix_deal_filed_at ON deal USING brin (filed_at) WITH (pages_per_range = 32)"


def upgrade() -> None:
    op.create_table(
        "trading_rule",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False, comment="such as ESMA retail"),
        sa.Column(
            "countries",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="ISO 3166-1 alpha-2 codes of clients; empty: everybody",
        ),
        sa.Column("max_leverage", sa.Integer(), nullable=True, comment="highest leverage of a live account; empty: no cap"),
        sa.Column(
            "protects_negative_balance",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="a balance below zero after a stop-out is restored to zero",
        ),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.CheckConstraint("max_leverage BETWEEN 1 AND 5000", name=op.f("ck_trading_rule_max_leverage")),
        sa.CheckConstraint("valid_until IS NULL OR valid_until > valid_from", name=op.f("ck_trading_rule_validity")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trading_rule")),
    )
    op.create_table(
        "deal_head",
        sa.Column("server_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ticket", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="the newest"),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="of the newest revision"),
        sa.Column("filed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when its source had the newest revision; what is older changes nothing",
        ),
        sa.PrimaryKeyConstraint("server_id", "ticket", name=op.f("pk_deal_head")),
    )
    op.create_table(
        "login_import",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("group_mask", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=10), server_default="reading", nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "status IN ('reading', 'ready', 'importing', 'done', 'failed')", name=op.f("ck_login_import_status")
        ),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_login_import_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_import")),
    )
    op.create_table(
        "mt_check",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="in the server's own clock"),
        sa.Column("source", sa.String(length=20), nullable=False, comment="where the server's side was read"),
        sa.Column("status", sa.String(length=10), server_default="running", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accounts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deals_here", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deals_there", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "booked", sa.BigInteger(), server_default="0", nullable=False, comment="deals that this check found and booked"
        ),
        sa.Column("breaks", sa.BigInteger(), server_default="0", nullable=False, comment="open after it"),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("status IN ('running', 'done', 'failed')", name=op.f("ck_mt_check_status")),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_mt_check_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mt_check")),
    )
    op.create_index("ix_mt_check_server_day", "mt_check", ["server_id", "day"], unique=False)
    op.create_table(
        "mt_server_state",
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("connected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disconnected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_at", sa.DateTime(timezone=True), nullable=True, comment="when the newest booked event happened"),
        sa.Column("booked_at", sa.DateTime(timezone=True), nullable=True, comment="when it was booked"),
        sa.Column(
            "gaps", sa.BigInteger(), server_default="0", nullable=False, comment="skipped sequence numbers noticed so far"
        ),
        sa.Column(
            "gap_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the last was noticed; a sweep from before it is due",
        ),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True, comment="when the last sweep that succeeded began"),
        sa.Column(
            "swept_through",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="deals done up to here are booked, as that sweep saw it",
        ),
        sa.Column("swept_new", sa.BigInteger(), server_default="0", nullable=False, comment="deals that only that sweep found"),
        sa.Column("clock_offset_min", sa.Integer(), nullable=True, comment="what the server's clock was ahead of UTC"),
        sa.Column("clock_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "error", sa.Text(), server_default="", nullable=False, comment="why the last call failed; empty when it did not"
        ),
        sa.Column("error_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_mt_server_state_server_id")),
        sa.PrimaryKeyConstraint("server_id", name=op.f("pk_mt_server_state")),
    )
    op.create_table(
        "mt_cursor",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False, comment="as in mt_server.events"),
        sa.Column(
            "name",
            sa.String(length=300),
            nullable=False,
            comment="what is read: a table, a partition, the stream's count of events",
        ),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_mt_cursor_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mt_cursor")),
        sa.UniqueConstraint("server_id", "source", "name", name=op.f("uq_mt_cursor_server_id_source_name")),
    )
    op.create_table(
        "login_import_row",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("import_id", sa.BigInteger(), nullable=False),
        sa.Column("login", sa.BigInteger(), nullable=False),
        sa.Column("group", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), server_default="", nullable=False),
        sa.Column("email", sa.String(length=254), server_default="", nullable=False),
        sa.Column("leverage", sa.Integer(), nullable=False),
        sa.Column("balance", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("outcome", sa.String(length=12), nullable=False),
        sa.Column("client_id", sa.BigInteger(), nullable=True),
        sa.Column("product_id", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "outcome IN ('matched', 'ambiguous', 'unmatched', 'no_product', 'technical', 'known', 'imported', 'left_out')",
            name=op.f("ck_login_import_row_outcome"),
        ),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_login_import_row_client_id")),
        sa.ForeignKeyConstraint(
            ["import_id"], ["login_import.id"], name=op.f("fk_login_import_row_import_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_login_import_row_product_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_import_row")),
        sa.UniqueConstraint("import_id", "login", name=op.f("uq_login_import_row_import_id_login")),
    )
    op.create_table(
        "account_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("before", sa.Text(), server_default="", nullable=False, comment="leverage or group it had; never a password"),
        sa.Column("after", sa.Text(), server_default="", nullable=False, comment="leverage or group it gets; never a password"),
        sa.Column("product_id", sa.BigInteger(), nullable=True, comment="whose group it gets; only of a change of group"),
        sa.Column(
            "is_forced",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="staff archive it although there is money or a position",
        ),
        sa.Column(
            "password_sealed",
            sa.LargeBinary(),
            nullable=True,
            comment="encrypted until the server has it; one that we made, until the client has seen it",
        ),
        sa.Column("status", sa.String(length=10), server_default="new", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('leverage', 'group', 'main_password', 'investor_password', 'disable', 'enable', 'archive', 'restore')",
            name=op.f("ck_account_change_kind"),
        ),
        sa.CheckConstraint("status IN ('new', 'sending', 'done', 'failed')", name=op.f("ck_account_change_status")),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_account_change_product_id")),
        sa.ForeignKeyConstraint(
            ["trading_account_id"], ["trading_account.id"], name=op.f("fk_account_change_trading_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_change")),
    )
    op.create_index(op.f("ix_account_change_trading_account_id"), "account_change", ["trading_account_id"], unique=False)
    op.create_index(
        "uq_account_change_one_open",
        "account_change",
        ["trading_account_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('new', 'sending')"),
    )
    op.create_table(
        "foreign_operation",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("deal_ticket", sa.BigInteger(), nullable=False),
        sa.Column("login", sa.BigInteger(), nullable=False),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Integer(), nullable=False, comment="MetaTrader's number: 2 balance, 3 credit …"),
        sa.Column("amount", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("currency", sa.String(length=8), server_default="", nullable=False),
        sa.Column("comment", sa.String(length=64), server_default="", nullable=False),
        sa.Column("class", sa.String(length=20), nullable=False, comment="our first guess; the reviewer may correct it"),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reviewed_by", sa.Text(), nullable=True),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "class IN ('deposit', 'withdrawal', 'transfer', 'rebate', 'bonus', 'credit', 'correction', 'charge', 'dividend', 'compensation', 'demo', 'opening', 'unknown')",
            name=op.f("ck_foreign_operation_class"),
        ),
        sa.CheckConstraint("(reviewed_at IS NULL) = (reviewed_by IS NULL)", name=op.f("ck_foreign_operation_reviewed")),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_foreign_operation_server_id")),
        sa.ForeignKeyConstraint(
            ["trading_account_id"], ["trading_account.id"], name=op.f("fk_foreign_operation_trading_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_foreign_operation")),
        sa.UniqueConstraint("server_id", "deal_ticket", name=op.f("uq_foreign_operation_server_id_deal_ticket")),
    )
    op.create_index(
        "ix_foreign_operation_open",
        "foreign_operation",
        ["found_at"],
        unique=False,
        postgresql_where=sa.text("reviewed_at IS NULL"),
    )
    op.create_index(op.f("ix_foreign_operation_trading_account_id"), "foreign_operation", ["trading_account_id"], unique=False)
    op.create_table(
        "mt_break",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("subject", sa.String(length=60), nullable=False, comment="ticket or login"),
        sa.Column("login", sa.BigInteger(), nullable=True),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=True),
        sa.Column("here", sa.Text(), server_default="", nullable=False, comment="what we have, as text"),
        sa.Column("there", sa.Text(), server_default="", nullable=False, comment="what the server has, as text"),
        sa.Column(
            "cause", sa.String(length=40), server_default="", nullable=False, comment="code of the cause where it can be told"
        ),
        sa.Column("state", sa.String(length=10), server_default="open", nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was found last",
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "repair",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="what the repair made: ids",
        ),
        sa.CheckConstraint("(state = 'open') = (closed_at IS NULL)", name=op.f("ck_mt_break_closed")),
        sa.CheckConstraint(
            "kind IN ('deal_vanished', 'deal_differs', 'deal_count', 'balance', 'credit', 'ghost_position', 'missing_position', 'unknown_login', 'login_vanished', 'login_cleaned', 'negative_balance')",
            name=op.f("ck_mt_break_kind"),
        ),
        sa.CheckConstraint("state IN ('open', 'repaired', 'explained', 'gone')", name=op.f("ck_mt_break_state")),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_mt_break_server_id")),
        sa.ForeignKeyConstraint(["trading_account_id"], ["trading_account.id"], name=op.f("fk_mt_break_trading_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mt_break")),
    )
    op.create_index(op.f("ix_mt_break_trading_account_id"), "mt_break", ["trading_account_id"], unique=False)
    op.create_index(
        "uq_mt_break_open",
        "mt_break",
        ["server_id", "kind", "subject"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "mt_order",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("server_id", sa.BigInteger(), nullable=False),
        sa.Column("ticket", sa.BigInteger(), nullable=False),
        sa.Column("login", sa.BigInteger(), nullable=False),
        sa.Column("trading_account_id", sa.BigInteger(), nullable=True),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False, comment="0 buy, 1 sell, 2 buy limit … 8 close by"),
        sa.Column("state", sa.Integer(), nullable=False, comment="1 placed, 2 cancelled, 4 filled, 5 rejected, 6 expired …"),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("volume_initial", sa.BigInteger(), nullable=False, comment="1/100000000 lot"),
        sa.Column("volume_current", sa.BigInteger(), nullable=False, comment="1/100000000 lot, what is left"),
        sa.Column("price_order", sa.Numeric(precision=20, scale=8), nullable=False),
        sa.Column("price_trigger", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("price_stop_loss", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("price_take_profit", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False),
        sa.Column("position_ticket", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("comment", sa.String(length=64), server_default="", nullable=False),
        sa.Column("set_up_ms", sa.BigInteger(), nullable=False, comment="raw wall clock of the server"),
        sa.Column("set_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "done_ms",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="raw wall clock of the server; 0 while it is open",
        ),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("utc_offset_min", sa.Integer(), nullable=False, comment="of the newer of the two moments"),
        sa.Column(
            "is_deleted", sa.Boolean(), server_default="false", nullable=False, comment="removed at the server; kept here"
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when its source had this state; what is older changes nothing",
        ),
        sa.ForeignKeyConstraint(["server_id"], ["mt_server.id"], name=op.f("fk_mt_order_server_id")),
        sa.ForeignKeyConstraint(["trading_account_id"], ["trading_account.id"], name=op.f("fk_mt_order_trading_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mt_order")),
        sa.UniqueConstraint("server_id", "ticket", name=op.f("uq_mt_order_server_id_ticket")),
    )
    op.create_index("ix_mt_order_account_time", "mt_order", ["trading_account_id", "set_up_at"], unique=False)
    op.create_index(op.f("ix_mt_order_login"), "mt_order", ["login"], unique=False)
    op.add_column(
        "balance_operation",
        sa.Column(
            "purpose",
            sa.String(length=20),
            server_default="transfer",
            nullable=False,
            comment="what it is for, and how it is posted",
        ),
    )
    op.add_column(
        "mt_dead_letter", sa.Column("server_id", sa.BigInteger(), nullable=True, comment="empty where it cannot be told")
    )
    op.add_column(
        "mt_dead_letter",
        sa.Column("login", sa.BigInteger(), nullable=True, comment="only where the reason is that nobody owns it"),
    )
    op.add_column(
        "mt_dead_letter",
        sa.Column(
            "dismissed_at", sa.DateTime(timezone=True), nullable=True, comment="when staff decided that it need not be booked"
        ),
    )
    op.add_column("mt_dead_letter", sa.Column("decided_by", sa.Text(), server_default="", nullable=False))
    op.create_index(
        "ix_mt_dead_letter_open",
        "mt_dead_letter",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("replayed_at IS NULL AND dismissed_at IS NULL"),
    )
    op.create_index(
        "uq_mt_dead_letter_login",
        "mt_dead_letter",
        ["server_id", "login"],
        unique=True,
        postgresql_where=sa.text("login IS NOT NULL AND replayed_at IS NULL"),
    )
    op.create_foreign_key(op.f("fk_mt_dead_letter_server_id"), "mt_dead_letter", "mt_server", ["server_id"], ["id"])
    op.add_column(
        "mt_server",
        sa.Column(
            "events", sa.String(length=20), server_default="stream", nullable=False, comment="where its events come from"
        ),
    )
    op.add_column(
        "mt_server",
        sa.Column(
            "backfill", sa.String(length=20), server_default="platform", nullable=False, comment="where a sweep reads deals"
        ),
    )
    op.add_column(
        "mt_server",
        sa.Column(
            "shards",
            sa.SmallInteger(),
            server_default="1",
            nullable=False,
            comment="event streams; a login's is login mod shards",
        ),
    )
    op.add_column(
        "mt_server",
        sa.Column(
            "options",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="settings of the adapter and the source that are no secrets",
        ),
    )
    op.add_column(
        "mt_server",
        sa.Column(
            "resend_limit_minor",
            sa.BigInteger(),
            server_default="1000000",
            nullable=False,
            comment="above it only a person may send a lost balance operation again",
        ),
    )
    op.add_column(
        "mt_server",
        sa.Column(
            "commands_paused_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when staff let nothing out to the server",
        ),
    )
    op.add_column(
        "mt_server",
        sa.Column(
            "events_paused_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when staff let nothing of the server be booked",
        ),
    )
    op.alter_column(
        "mt_server",
        "platform",
        existing_type=sa.VARCHAR(length=20),
        comment="registered adapter for commands, such as mt5_web",
        existing_comment="registered adapter, such as mt5_web",
        existing_nullable=False,
    )
    op.add_column(
        "position",
        sa.Column("price_stop_loss", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False, comment="0: none"),
    )
    op.add_column(
        "position",
        sa.Column(
            "price_take_profit", sa.Numeric(precision=20, scale=8), server_default="0", nullable=False, comment="0: none"
        ),
    )
    op.add_column(
        "position",
        sa.Column(
            "created_ms",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="raw wall clock of the server at the opening",
        ),
    )
    op.add_column(
        "position",
        sa.Column("utc_offset_min", sa.Integer(), server_default="0", nullable=False, comment="of that clock, at the opening"),
    )
    op.add_column(
        "product",
        sa.Column(
            "margin_mode",
            sa.String(length=10),
            server_default="hedging",
            nullable=False,
            comment="hedging or netting, as the group's",
        ),
    )
    op.add_column("product", sa.Column("is_swap_free", sa.Boolean(), server_default="false", nullable=False))
    op.add_column(
        "product",
        sa.Column(
            "is_cent", sa.Boolean(), server_default="false", nullable=False, comment="balances in a cent currency such as USC"
        ),
    )
    op.add_column(
        "product",
        sa.Column(
            "demo_deposit_minor",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="play money on a new demo account, minor units",
        ),
    )
    op.add_column(
        "trading_account",
        sa.Column(
            "origin",
            sa.String(length=10),
            server_default="opened",
            nullable=False,
            comment="opened by us, bound by staff, or imported",
        ),
    )
    op.add_column(
        "trading_account",
        sa.Column(
            "group",
            sa.String(length=128),
            server_default="",
            nullable=False,
            comment="at the server now; empty before it is known",
        ),
    )
    op.add_column(
        "trading_account",
        sa.Column("rights", sa.BigInteger(), nullable=True, comment="MetaTrader's bits, as the server last said"),
    )
    op.add_column(
        "trading_account",
        sa.Column(
            "opening_txn_id",
            postgresql.UUID(),
            nullable=True,
            comment="posted the opening balance of a login taken over; empty where that was zero",
        ),
    )
    op.create_index(
        "ix_trading_account_opening_txn_id",
        "trading_account",
        ["opening_txn_id"],
        unique=False,
        postgresql_where=sa.text("opening_txn_id IS NOT NULL"),
    )
    op.alter_column(
        "trading_account",
        "opened_at",
        existing_type=sa.DateTime(timezone=True),
        comment="of a login taken over: the server moment of its opening balance, which holds all deals until then",
        existing_nullable=True,
    )
    _file_deals_by_month()
    for table, name, condition, before in CHECKS:
        if before:
            op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)


def _file_deals_by_month() -> None:
    """The same rows in a partitioned table; a ticket's rows are filed by the moment of its first revision."""
    for table in POINTING:
        op.drop_constraint(op.f(f"fk_{table}_deal_id"), table, type_="foreignkey")
        op.alter_column(
            table, "deal_id", existing_type=sa.BigInteger(), comment="deal.id; deals are never removed, and lie in months"
        )
    _rename_away()
    op.execute(
        "CREATE TABLE deal (LIKE deal_before INCLUDING DEFAULTS INCLUDING COMMENTS, filed_at timestamptz NOT NULL) PARTITION BY RANGE (filed_at)"
    )
    op.execute("COMMENT ON COLUMN deal.filed_at IS 'moment of the ticket''s first revision; tells the months apart'")
    op.execute("CREATE TABLE deal_other PARTITION OF deal DEFAULT")
    op.execute(
        """
        DO $$
        DECLARE v_month timestamptz;
        BEGIN
            FOR v_month IN SELECT DISTINCT date_trunc('month', done_at, 'UTC') FROM deal_before WHERE revision = 1 LOOP
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF deal FOR VALUES FROM (%L) TO (%L)',
                    to_char(v_month AT TIME ZONE 'UTC', '"deal_"YYYY"_"MM'), v_month,
                    ((v_month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
            END LOOP;
        END $$
        """
    )
    op.execute(
        "INSERT INTO deal SELECT d.*, coalesce(f.done_at, d.done_at) FROM deal_before d"
        " LEFT JOIN deal_before f ON f.server_id = d.server_id AND f.ticket = d.ticket AND f.revision = 1"
    )
    op.execute(
        "INSERT INTO deal_head (server_id, ticket, revision, fingerprint, filed_at, seen_at)"
        " SELECT DISTINCT ON (server_id, ticket) server_id, ticket, revision, fingerprint, filed_at, booked_at FROM deal"
        " ORDER BY server_id, ticket, revision DESC"
    )
    op.execute("ALTER TABLE deal ADD CONSTRAINT pk_deal PRIMARY KEY (id, filed_at)")
    op.execute(
        "ALTER TABLE deal ADD CONSTRAINT uq_deal_server_id_ticket_revision_filed_at UNIQUE (server_id, ticket, revision, filed_at)"
    )
    _finish_deals((*INDEXES, BY_DAY))


def _file_deals_in_one_table() -> None:
    _rename_away()
    op.execute("CREATE TABLE deal (LIKE deal_before INCLUDING DEFAULTS INCLUDING COMMENTS)")
    op.execute("ALTER TABLE deal DROP COLUMN filed_at")
    names = "(SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'deal'::regclass AND attnum > 0 AND NOT attisdropped)"
    op.execute(f"DO $$ BEGIN EXECUTE format('INSERT INTO deal (%1$s) SELECT %1$s FROM deal_before', {names}); END $$")
    op.execute("ALTER TABLE deal ADD CONSTRAINT pk_deal PRIMARY KEY (id)")
    op.execute("ALTER TABLE deal ADD CONSTRAINT uq_deal_server_id_ticket_revision UNIQUE (server_id, ticket, revision)")
    _finish_deals((*INDEXES, "CREATE UNIQUE INDEX ix_deal_current ON deal (server_id, ticket) WHERE is_current"))
    for table in POINTING:
        op.alter_column(table, "deal_id", existing_type=sa.BigInteger(), comment=None)
        op.create_foreign_key(op.f(f"fk_{table}_deal_id"), table, "deal", ["deal_id"], ["id"])


def _rename_away() -> None:
    """The table as it was, under another name; its indexes and keys give their names free."""
    op.execute("ALTER TABLE deal RENAME TO deal_before")
    op.execute(
        """
        DO $$
        DECLARE v_index regclass;
        BEGIN
            FOR v_index IN SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'deal_before'::regclass LOOP
                EXECUTE format('ALTER INDEX %s RENAME TO %I', v_index, 'before_' || v_index::text);
            END LOOP;
        END $$
        """
    )


def _finish_deals(indexes: tuple[str, ...]) -> None:
    """Keys, indexes and the counter of ids of the new table; the old one goes."""
    op.execute("ALTER TABLE deal ADD CONSTRAINT fk_deal_server_id FOREIGN KEY (server_id) REFERENCES mt_server (id)")
    op.execute(
        "ALTER TABLE deal ADD CONSTRAINT fk_deal_trading_account_id FOREIGN KEY (trading_account_id) REFERENCES trading_account (id)"
    )
    for index in indexes:
        op.execute(index)
    op.execute("DROP TABLE deal_before")
    op.execute("ALTER TABLE deal ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY")
    op.execute("SELECT setval(pg_get_serial_sequence('deal', 'id'), coalesce(max(id), 0) + 1, false) FROM deal")


def downgrade() -> None:
    for table, name, _condition, before in CHECKS:
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
        if before:
            op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, before)
    _file_deals_in_one_table()
    op.execute("DROP FUNCTION IF EXISTS deal_month(timestamptz), tidy_deal_months()")
    op.alter_column(
        "trading_account",
        "opened_at",
        existing_type=sa.DateTime(timezone=True),
        comment=None,
        existing_comment="of a login taken over: the server moment of its opening balance, which holds all deals until then",
        existing_nullable=True,
    )
    op.drop_index(
        "ix_trading_account_opening_txn_id",
        table_name="trading_account",
        postgresql_where=sa.text("opening_txn_id IS NOT NULL"),
    )
    op.drop_column("trading_account", "opening_txn_id")
    op.drop_column("trading_account", "rights")
    op.drop_column("trading_account", "group")
    op.drop_column("trading_account", "origin")
    op.drop_column("product", "demo_deposit_minor")
    op.drop_column("product", "is_cent")
    op.drop_column("product", "is_swap_free")
    op.drop_column("product", "margin_mode")
    op.drop_column("position", "utc_offset_min")
    op.drop_column("position", "created_ms")
    op.drop_column("position", "price_take_profit")
    op.drop_column("position", "price_stop_loss")
    op.alter_column(
        "mt_server",
        "platform",
        existing_type=sa.VARCHAR(length=20),
        comment="registered adapter, such as mt5_web",
        existing_comment="registered adapter for commands, such as mt5_web",
        existing_nullable=False,
    )
    op.drop_column("mt_server", "events_paused_at")
    op.drop_column("mt_server", "commands_paused_at")
    op.drop_column("mt_server", "resend_limit_minor")
    op.drop_column("mt_server", "options")
    op.drop_column("mt_server", "shards")
    op.drop_column("mt_server", "backfill")
    op.drop_column("mt_server", "events")
    op.drop_constraint(op.f("fk_mt_dead_letter_server_id"), "mt_dead_letter", type_="foreignkey")
    op.drop_index(
        "uq_mt_dead_letter_login",
        table_name="mt_dead_letter",
        postgresql_where=sa.text("login IS NOT NULL AND replayed_at IS NULL"),
    )
    op.drop_index(
        "ix_mt_dead_letter_open",
        table_name="mt_dead_letter",
        postgresql_where=sa.text("replayed_at IS NULL AND dismissed_at IS NULL"),
    )
    op.drop_column("mt_dead_letter", "decided_by")
    op.drop_column("mt_dead_letter", "dismissed_at")
    op.drop_column("mt_dead_letter", "login")
    op.drop_column("mt_dead_letter", "server_id")
    op.drop_column("balance_operation", "purpose")
    op.drop_index(op.f("ix_mt_order_login"), table_name="mt_order")
    op.drop_index("ix_mt_order_account_time", table_name="mt_order")
    op.drop_table("mt_order")
    op.drop_index("uq_mt_break_open", table_name="mt_break", postgresql_where=sa.text("closed_at IS NULL"))
    op.drop_index(op.f("ix_mt_break_trading_account_id"), table_name="mt_break")
    op.drop_table("mt_break")
    op.drop_index(op.f("ix_foreign_operation_trading_account_id"), table_name="foreign_operation")
    op.drop_index("ix_foreign_operation_open", table_name="foreign_operation", postgresql_where=sa.text("reviewed_at IS NULL"))
    op.drop_table("foreign_operation")
    op.drop_index(
        "uq_account_change_one_open", table_name="account_change", postgresql_where=sa.text("status IN ('new', 'sending')")
    )
    op.drop_index(op.f("ix_account_change_trading_account_id"), table_name="account_change")
    op.drop_table("account_change")
    op.drop_table("login_import_row")
    op.drop_table("mt_cursor")
    op.drop_table("mt_server_state")
    op.drop_index("ix_mt_check_server_day", table_name="mt_check")
    op.drop_table("mt_check")
    op.drop_table("login_import")
    op.drop_table("deal_head")
    op.drop_table("trading_rule")
