"""Trading servers, products, trading accounts and what the servers report: deals, positions, operations."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment
from app.models.clients import Client

#: Where a server's events come from. "stream": somebody else publishes them (a bridge, the simulator); the others we pull or
#: are sent, and publish ourselves (app/metatrader/sources).
EVENT_SOURCES = ("stream", "kafka", "webhook", "sql", "poll", "mt4_report")
#: Where a sweep reads the deals of a time range.
BACKFILLS = ("platform", "bridge", "sql", "mt4_report")
ACCOUNT_STATUSES = ("requested", "opening", "unknown", "active", "failed", "disabled", "archived")
OPERATION_PURPOSES = ("transfer", "negative_balance", "demo_deposit", "repair")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Server(Model):
    """A trading server. Its secrets stand in the environment (MT5_PASSWORD, MT_SECRETS), never here."""

    __tablename__ = "mt_server"
    __table_args__ = (
        CheckConstraint(_one_of("events", EVENT_SOURCES), name="events"),
        CheckConstraint(_one_of("backfill", BACKFILLS), name="backfill"),
        CheckConstraint("shards BETWEEN 1 AND 64", name="shards"),
    )

    id: Mapped[BigKey]
    code: Mapped[str] = mapped_column(String(20), unique=True, comment="short name in streams and ledger codes")
    name: Mapped[str] = mapped_column(String(100))
    platform: Mapped[str] = mapped_column(String(20), comment="registered adapter for commands, such as mt5_web")
    url: Mapped[str] = mapped_column(Text)
    manager_login: Mapped[int] = mapped_column(BigInteger)
    time_zone: Mapped[str] = mapped_column(String(40), comment="IANA zone of the server's wall clock")
    is_active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    events: Mapped[str] = mapped_column(String(20), server_default="stream", comment="where its events come from")
    backfill: Mapped[str] = mapped_column(String(20), server_default="platform", comment="where a sweep reads deals")
    shards: Mapped[int] = mapped_column(
        SmallInteger, server_default="1", comment="event streams; a login's is login mod shards"
    )
    options: Mapped[dict[str, Any]] = mapped_column(
        JSONB, server_default=text("'{}'"), comment="settings of the adapter and the source that are no secrets"
    )
    resend_limit_minor: Mapped[int] = mapped_column(
        BigInteger, server_default="1000000", comment="above it only a person may send a lost balance operation again"
    )
    commands_paused_at: Mapped[Moment | None] = mapped_column(comment="since when staff let nothing out to the server")
    events_paused_at: Mapped[Moment | None] = mapped_column(comment="since when staff let nothing of the server be booked")

    @property
    def platform_name(self) -> str:
        """The brand that a client looks for when installing a terminal."""
        return "MetaTrader 4" if self.is_mt4 else "MetaTrader 5"

    @property
    def is_mt4(self) -> bool:
        return self.platform.startswith("mt4")

    def shown_ticket(self, ticket: int) -> int:
        """The number under which a terminal shows a deal: MT4 knows orders only, and each gives two deals of ours."""
        return ticket // 2 if self.is_mt4 else ticket

    def __repr__(self) -> str:
        return self.name


class ServerState(Model):
    """What we last heard of a server, one row per server: written by ingest and by sweeps, read by the operations page."""

    __tablename__ = "mt_server_state"

    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"), primary_key=True)
    connected_at: Mapped[Moment | None]
    disconnected_at: Mapped[Moment | None]
    heartbeat_at: Mapped[Moment | None]
    event_at: Mapped[Moment | None] = mapped_column(comment="when the newest booked event happened")
    booked_at: Mapped[Moment | None] = mapped_column(comment="when it was booked")
    gaps: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="skipped sequence numbers noticed so far")
    gap_at: Mapped[Moment | None] = mapped_column(comment="when the last was noticed; a sweep from before it is due")
    swept_at: Mapped[Moment | None] = mapped_column(comment="when the last sweep that succeeded began")
    swept_through: Mapped[Moment | None] = mapped_column(comment="deals done up to here are booked, as that sweep saw it")
    swept_new: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="deals that only that sweep found")
    clock_offset_min: Mapped[int | None] = mapped_column(Integer, comment="what the server's clock was ahead of UTC")
    clock_seen_at: Mapped[Moment | None]
    error: Mapped[str] = mapped_column(Text, server_default="", comment="why the last call failed; empty when it did not")
    error_at: Mapped[Moment | None]

    server: Mapped[Server] = relationship()


class SourceCursor(Model):
    """How far a source of events of ours has been read: written after what it read stands in the event stream."""

    __tablename__ = "mt_cursor"
    __table_args__ = (UniqueConstraint("server_id", "source", "name"),)

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    source: Mapped[str] = mapped_column(String(20), comment="as in mt_server.events")
    name: Mapped[str] = mapped_column(String(300), comment="what is read: a table, a partition, the stream's count of events")
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[CreatedAt]


class Product(Model):
    """What a client can open: a template of server, group, currency and leverage choices."""

    __tablename__ = "product"
    __table_args__ = (
        CheckConstraint("margin_mode IN ('hedging', 'netting')", name="margin_mode"),
        CheckConstraint("demo_deposit_minor >= 0 AND (is_demo OR demo_deposit_minor = 0)", name="demo_deposit"),
    )

    id: Mapped[BigKey]
    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str] = mapped_column(Text, server_default="")
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    group: Mapped[str] = mapped_column(String(128))
    currency: Mapped[str] = mapped_column(String(8))
    leverages: Mapped[list[int]] = mapped_column(JSONB, comment="choices, such as [30, 100, 200]")
    is_demo: Mapped[bool] = mapped_column(Boolean, server_default="false")
    is_open: Mapped[bool] = mapped_column(Boolean, server_default="true", comment="offered to clients now")
    margin_mode: Mapped[str] = mapped_column(String(10), server_default="hedging", comment="hedging or netting, as the group's")
    is_swap_free: Mapped[bool] = mapped_column(Boolean, server_default="false")
    is_cent: Mapped[bool] = mapped_column(Boolean, server_default="false", comment="balances in a cent currency such as USC")
    demo_deposit_minor: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="play money on a new demo account, minor units"
    )

    server: Mapped[Server] = relationship()

    @property
    def demo_deposit(self) -> Money:
        """The play money that a new demo account begins with."""
        return Money(self.demo_deposit_minor or 0, self.currency)

    def __repr__(self) -> str:
        return self.name


class TradingRule(Model):
    """What the law of some countries wants of trading accounts, from a day on. The strictest rule that applies holds."""

    __tablename__ = "trading_rule"
    __table_args__ = (
        CheckConstraint("max_leverage BETWEEN 1 AND 5000", name="max_leverage"),
        CheckConstraint("valid_until IS NULL OR valid_until > valid_from", name="validity"),
    )

    id: Mapped[BigKey]
    name: Mapped[str] = mapped_column(String(100), comment="such as ESMA retail")
    countries: Mapped[list[str]] = mapped_column(JSONB, comment="ISO 3166-1 alpha-2 codes of clients; empty: everybody")
    max_leverage: Mapped[int | None] = mapped_column(Integer, comment="highest leverage of a live account; empty: no cap")
    protects_negative_balance: Mapped[bool] = mapped_column(
        Boolean, server_default="false", comment="a balance below zero after a stop-out is restored to zero"
    )
    valid_from: Mapped[date] = mapped_column(Date)
    valid_until: Mapped[date | None] = mapped_column(Date)

    def __repr__(self) -> str:
        return self.name


class TradingAccount(Model):
    """One login at one server, owned by one client. Balance and equity are the server's last word, for display."""

    __tablename__ = "trading_account"
    __table_args__ = (
        CheckConstraint(_one_of("status", ACCOUNT_STATUSES), name="status"),
        CheckConstraint("(status IN ('active', 'disabled', 'archived')) <= (login IS NOT NULL)", name="active_has_login"),
        CheckConstraint("origin IN ('opened', 'bound', 'imported')", name="origin"),
        UniqueConstraint("server_id", "login"),
        Index("ix_trading_account_opening_txn_id", "opening_txn_id", postgresql_where=text("opening_txn_id IS NOT NULL")),
    )

    id: Mapped[BigKey]
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    product_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("product.id"))
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    login: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(8))
    leverage: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(16), server_default="requested")
    token: Mapped[str] = mapped_column(String(16), unique=True, comment="our mark in the server's record")
    error: Mapped[str] = mapped_column(Text, server_default="")
    origin: Mapped[str] = mapped_column(
        String(10), server_default="opened", comment="opened by us, bound by staff, or imported"
    )
    group: Mapped[str] = mapped_column(String(128), server_default="", comment="at the server now; empty before it is known")
    rights: Mapped[int | None] = mapped_column(BigInteger, comment="MetaTrader's bits, as the server last said")
    balance: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    credit: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    equity: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    state_at: Mapped[Moment | None] = mapped_column(comment="server moment of balance, credit and equity")
    password_sealed: Mapped[bytes | None] = mapped_column(LargeBinary, comment="encrypted until the client has seen it once")
    password_shown_at: Mapped[Moment | None]
    requested_at: Mapped[CreatedAt]
    opened_at: Mapped[Moment | None] = mapped_column(
        comment="of a login taken over: the server moment of its opening balance, which holds all deals until then"
    )
    opening_txn_id: Mapped[Any | None] = mapped_column(
        UUID, comment="posted the opening balance of a login taken over; empty where that was zero"
    )

    client: Mapped[Client] = relationship()
    product: Mapped[Product] = relationship()
    server: Mapped[Server] = relationship()

    def __repr__(self) -> str:
        return f"{self.login or '—'}"


class AccountChange(Model):
    """One change of an account that we ask of its server. Setting a value twice changes nothing, so a lost answer is asked
    for again after reading what the server holds.
    """

    __tablename__ = "account_change"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('leverage', 'group', 'main_password', 'investor_password', 'disable', 'enable', 'archive', 'restore')",
            name="kind",
        ),
        CheckConstraint("status IN ('new', 'sending', 'done', 'failed')", name="status"),
        Index(
            "uq_account_change_one_open",
            "trading_account_id",
            unique=True,
            postgresql_where=text("status IN ('new', 'sending')"),
        ),
    )

    id: Mapped[BigKey]
    trading_account_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("trading_account.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    before: Mapped[str] = mapped_column(Text, server_default="", comment="leverage or group it had; never a password")
    after: Mapped[str] = mapped_column(Text, server_default="", comment="leverage or group it gets; never a password")
    product_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("product.id"), comment="whose group it gets; only of a change of group"
    )
    is_forced: Mapped[bool] = mapped_column(
        Boolean, server_default="false", comment="staff archive it although there is money or a position"
    )
    password_sealed: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="encrypted until the server has it; one that we made, until the client has seen it"
    )
    status: Mapped[str] = mapped_column(String(10), server_default="new")
    reason: Mapped[str] = mapped_column(Text, server_default="")
    requested_by: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[CreatedAt]
    sends: Mapped[int] = mapped_column(Integer, server_default="0")
    sent_at: Mapped[Moment | None]
    error: Mapped[str] = mapped_column(Text, server_default="")
    finished_at: Mapped[Moment | None]

    trading_account: Mapped[TradingAccount] = relationship()
    product: Mapped[Product | None] = relationship()


class DealHead(Model):
    """One deal ticket of one server, once, whatever month its rows lie in: what makes doubling a deal impossible.

    `filed_at` is the moment of the first revision; all revisions of the ticket lie in that month's partition. The server is
    checked where the deal is: each check of a key costs a sixth of what booking a deal costs.
    """

    __tablename__ = "deal_head"

    server_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    ticket: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(Integer, comment="the newest")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="of the newest revision")
    filed_at: Mapped[Moment]
    seen_at: Mapped[Moment] = mapped_column(comment="when its source had the newest revision; what is older changes nothing")


def _first_done_at(context: Any) -> Any:
    return context.get_current_parameters()["done_at"]


class Deal(Model):
    """One deal as one server reported it, at one revision. An edit is a new revision; a deletion voids, never deletes.

    Partitioned by month of `filed_at`; app/metatrader/sql makes the months. The key of a ticket is DealHead's.
    """

    __tablename__ = "deal"
    __table_args__ = (
        UniqueConstraint("server_id", "ticket", "revision", "filed_at"),
        Index("ix_deal_account_time", "trading_account_id", "done_at", "id"),
        Index("ix_deal_position", "server_id", "position_ticket"),
        Index("ix_deal_unmirrored", "id", postgresql_where=text("ledger_txn_id IS NULL")),
        Index("ix_deal_ledger_txn_id", "ledger_txn_id", postgresql_where=text("ledger_txn_id IS NOT NULL")),
        # Finds the deals of a day, which lie together, and costs next to nothing to keep.
        Index("ix_deal_filed_at", "filed_at", postgresql_using="brin", postgresql_with={"pages_per_range": 32}),
        {"postgresql_partition_by": "RANGE (filed_at)"},
    )

    id: Mapped[BigKey]
    filed_at: Mapped[Moment] = mapped_column(
        primary_key=True, default=_first_done_at, comment="moment of the ticket's first revision; tells the months apart"
    )
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    ticket: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(Integer, server_default="1")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the business fields")
    is_current: Mapped[bool] = mapped_column(Boolean, server_default="true")
    is_void: Mapped[bool] = mapped_column(Boolean, server_default="false")
    login: Mapped[int] = mapped_column(BigInteger)
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"))
    action: Mapped[int] = mapped_column(Integer, comment="0 buy, 1 sell, 2 balance …")
    entry: Mapped[int] = mapped_column(Integer, comment="0 in, 1 out, 2 in/out, 3 out by")
    reason: Mapped[int] = mapped_column(Integer)
    order_ticket: Mapped[int] = mapped_column(BigInteger)
    position_ticket: Mapped[int] = mapped_column(BigInteger)
    symbol: Mapped[str] = mapped_column(String(32))
    volume: Mapped[int] = mapped_column(BigInteger, comment="1/100000000 lot")
    volume_closed: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="1/100000000 lot")
    price: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    market_bid: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    market_ask: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    contract_size: Mapped[Decimal] = mapped_column(Numeric(20, 4), server_default="0")
    profit: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    swap: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    commission: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    fee: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    rate_profit: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    digits_currency: Mapped[int] = mapped_column(Integer, server_default="2")
    price_position: Mapped[Decimal] = mapped_column(
        Numeric(20, 8), server_default="0", comment="at which the closed position was opened; 0: not reported"
    )
    digits: Mapped[int | None] = mapped_column(Integer, comment="of the symbol's prices; none: of a deal booked before this")
    comment: Mapped[str] = mapped_column(String(64), server_default="")
    server_time_ms: Mapped[int] = mapped_column(BigInteger, comment="raw wall clock of the server")
    utc_offset_min: Mapped[int] = mapped_column(Integer)
    done_at: Mapped[Moment]
    booked_at: Mapped[CreatedAt]
    ledger_txn_id: Mapped[Any | None] = mapped_column(UUID, comment="mirror transaction that carries this deal's result")
    is_ours: Mapped[bool] = mapped_column(Boolean, server_default="false", comment="balance operation we sent")

    trading_account: Mapped[TradingAccount | None] = relationship()

    # One row per id: the month is in the table's key only because PostgreSQL wants it there.
    __mapper_args__ = {"primary_key": ["id"]}


class Position(Model):
    """An open position, as the server last reported it."""

    __tablename__ = "position"
    __table_args__ = (UniqueConstraint("server_id", "ticket"),)

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    ticket: Mapped[int] = mapped_column(BigInteger)
    login: Mapped[int] = mapped_column(BigInteger, index=True)
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"), index=True)
    symbol: Mapped[str] = mapped_column(String(32))
    action: Mapped[int] = mapped_column(Integer)
    volume: Mapped[int] = mapped_column(BigInteger, comment="1/100000000 lot")
    price_open: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    price_current: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    price_stop_loss: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0", comment="0: none")
    price_take_profit: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0", comment="0: none")
    profit: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    swap: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    opened_at: Mapped[Moment]
    created_ms: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="raw wall clock of the server at the opening"
    )
    utc_offset_min: Mapped[int] = mapped_column(Integer, server_default="0", comment="of that clock, at the opening")
    update_ms: Mapped[int] = mapped_column(BigInteger, comment="raw server moment of the last report; older ones are ignored")

    trading_account: Mapped[TradingAccount | None] = relationship()


class Order(Model):
    """One order as the server last reported it: pending, filled, cancelled, expired or rejected."""

    __tablename__ = "mt_order"
    __table_args__ = (
        UniqueConstraint("server_id", "ticket"),
        Index("ix_mt_order_account_time", "trading_account_id", "set_up_at"),
    )

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    ticket: Mapped[int] = mapped_column(BigInteger)
    login: Mapped[int] = mapped_column(BigInteger, index=True)
    trading_account_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("trading_account.id"))
    symbol: Mapped[str] = mapped_column(String(32))
    type: Mapped[int] = mapped_column(Integer, comment="0 buy, 1 sell, 2 buy limit … 8 close by")
    state: Mapped[int] = mapped_column(Integer, comment="1 placed, 2 cancelled, 4 filled, 5 rejected, 6 expired …")
    reason: Mapped[int] = mapped_column(Integer)
    volume_initial: Mapped[int] = mapped_column(BigInteger, comment="1/100000000 lot")
    volume_current: Mapped[int] = mapped_column(BigInteger, comment="1/100000000 lot, what is left")
    price_order: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    price_trigger: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    price_stop_loss: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    price_take_profit: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    position_ticket: Mapped[int] = mapped_column(BigInteger, server_default="0")
    comment: Mapped[str] = mapped_column(String(64), server_default="")
    set_up_ms: Mapped[int] = mapped_column(BigInteger, comment="raw wall clock of the server")
    set_up_at: Mapped[Moment]
    done_ms: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="raw wall clock of the server; 0 while it is open"
    )
    done_at: Mapped[Moment | None]
    utc_offset_min: Mapped[int] = mapped_column(Integer, comment="of the newer of the two moments")
    is_deleted: Mapped[bool] = mapped_column(Boolean, server_default="false", comment="removed at the server; kept here")
    seen_at: Mapped[Moment] = mapped_column(comment="when its source had this state; what is older changes nothing")

    trading_account: Mapped[TradingAccount | None] = relationship()


class BalanceOperation(Model):
    """One balance operation we ask of a server: written before it is sent, found again by its token when the answer is lost."""

    __tablename__ = "balance_operation"
    __table_args__ = (
        CheckConstraint("status IN ('new', 'sending', 'unknown', 'done', 'failed')", name="status"),
        CheckConstraint("(status = 'done') = (deal_ticket IS NOT NULL)", name="done_has_ticket"),
        CheckConstraint(_one_of("purpose", OPERATION_PURPOSES), name="purpose"),
        UniqueConstraint("server_id", "deal_ticket"),
        Index(
            "uq_balance_operation_one_in_flight",
            "server_id",
            "login",
            unique=True,
            postgresql_where=text("status IN ('sending', 'unknown')"),
        ),
    )

    id: Mapped[BigKey]
    server_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("mt_server.id"))
    login: Mapped[int] = mapped_column(BigInteger)
    token: Mapped[str] = mapped_column(String(16), unique=True, comment="first in the deal's comment")
    amount_minor: Mapped[int] = mapped_column(BigInteger, comment="positive puts in, negative takes out")
    currency: Mapped[str] = mapped_column(String(8))
    purpose: Mapped[str] = mapped_column(String(20), server_default="transfer", comment="what it is for, and how it is posted")
    status: Mapped[str] = mapped_column(String(16), server_default="new")
    deal_ticket: Mapped[int | None] = mapped_column(BigInteger)
    sends: Mapped[int] = mapped_column(Integer, server_default="0")
    looks: Mapped[int] = mapped_column(Integer, server_default="0", comment="times the token was looked for and not found")
    looked_at: Mapped[Moment | None]
    sent_at: Mapped[Moment | None]
    error: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]

    server: Mapped[Server] = relationship()

    @property
    def amount(self) -> Money:
        """Positive puts money in, negative takes it out."""
        return Money(self.amount_minor, self.currency)


class DeadLetter(Model):
    """A stream entry that cannot be booked, with the reason; replayable once mended.

    Of a login that nobody owns only the first event stands here: its deals are booked without an owner and wait for one.
    A login that staff dismissed is not told again.
    """

    __tablename__ = "mt_dead_letter"
    __table_args__ = (
        UniqueConstraint("stream", "entry_id"),
        Index("ix_mt_dead_letter_open", "received_at", postgresql_where=text("replayed_at IS NULL AND dismissed_at IS NULL")),
        Index(
            "uq_mt_dead_letter_login",
            "server_id",
            "login",
            unique=True,
            postgresql_where=text("login IS NOT NULL AND replayed_at IS NULL"),
        ),
    )

    id: Mapped[BigKey]
    stream: Mapped[str] = mapped_column(Text)
    entry_id: Mapped[str] = mapped_column(Text)
    server_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("mt_server.id"), comment="empty where it cannot be told"
    )
    login: Mapped[int | None] = mapped_column(BigInteger, comment="only where the reason is that nobody owns it")
    fields: Mapped[dict[str, Any]] = mapped_column(JSONB)
    reason: Mapped[str] = mapped_column(Text)
    received_at: Mapped[CreatedAt]
    replayed_at: Mapped[Moment | None]
    dismissed_at: Mapped[Moment | None] = mapped_column(comment="when staff decided that it need not be booked")
    decided_by: Mapped[str] = mapped_column(Text, server_default="")

    server: Mapped[Server | None] = relationship()
