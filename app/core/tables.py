"""Tables of the spine: events and their deliveries, the audit trail, cron slots, failed jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Connection, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from app.core.orm import BigKey, CreatedAt, Model, Moment


class XID8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        return "xid8"


#: What stands beside the tables of the public schema: append-only guards, and the application's rights.
GUARDS = Path(__file__).parent / "sql" / "spine.sql"


def install_guards(connection: Connection) -> None:
    """Run GUARDS as the owner; running it again brings new tables under the same rules."""
    connection.execution_options(no_parameters=True).exec_driver_sql(GUARDS.read_text(encoding="utf-8"))


# So that Alembic, when it compares models with a database, knows the type it reads back.
ischema_names["xid8"] = XID8


class Event(Model):
    """One business fact, written in the transaction of the change it tells of; never changed afterwards."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_xact_id", "xact", "id"), Index("ix_event_client_id_id", "client_id", "id"))

    id: Mapped[BigKey]
    xact: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    type: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[int | None] = mapped_column(BigInteger, comment="id of the row the fact is about")
    client_id: Mapped[int | None] = mapped_column(BigInteger, comment="whose timeline shows it")
    actor: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    occurred_at: Mapped[CreatedAt]


class Delivery(Model):
    """One event for one handler. `delivered_at` is set in the transaction of the handler's effect, so it happens once."""

    __tablename__ = "delivery"
    __table_args__ = (Index("ix_delivery_waiting", "handler", "enqueued_at", postgresql_where=text("delivered_at IS NULL")),)

    event_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("event.id"), primary_key=True)
    handler: Mapped[str] = mapped_column(Text, primary_key=True)
    enqueued_at: Mapped[Moment | None]
    delivered_at: Mapped[Moment | None]
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    error: Mapped[str | None] = mapped_column(Text, comment="type of the last error, without personal data")


class RelayCursor(Model):
    """How far the relay has read the events: everything before (xact, event_id) has its deliveries."""

    __tablename__ = "relay_cursor"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    xact: Mapped[int] = mapped_column(XID8, server_default=text("'0'"))
    event_id: Mapped[int] = mapped_column(BigInteger, server_default="0")


class AuditEntry(Model):
    """Who did what, when, from where and why, with before and after. Append-only; sealed into a hash chain by a job."""

    __tablename__ = "audit_entry"

    id: Mapped[BigKey]
    xact: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    at: Mapped[CreatedAt]
    actor: Mapped[str] = mapped_column(Text, index=True)
    address: Mapped[str] = mapped_column(Text, server_default="")
    action: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text, index=True, comment="table:id")
    reason: Mapped[str] = mapped_column(Text, server_default="")
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class AuditSeal(Model):
    """The hash over all audit entries up to and including `through_id`, chained to the seal before it."""

    __tablename__ = "audit_seal"

    id: Mapped[BigKey]
    through_xact: Mapped[int] = mapped_column(XID8)
    through_id: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[int] = mapped_column(Integer)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_at: Mapped[CreatedAt]


class CronSlot(Model):
    """One planned run of one job. The job that inserts the row owns the run; a second scheduler changes nothing."""

    __tablename__ = "cron_slot"

    job: Mapped[str] = mapped_column(Text, primary_key=True)
    slot: Mapped[Moment] = mapped_column(primary_key=True)
    claimed_at: Mapped[CreatedAt]


class JobFailure(Model):
    """A job that used up its retries. Ids only; the arguments are ids by convention."""

    __tablename__ = "job_failure"

    id: Mapped[BigKey]
    job_id: Mapped[str] = mapped_column(Text, unique=True)
    queue: Mapped[str] = mapped_column(Text)
    function: Mapped[str] = mapped_column(Text)
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB)
    error: Mapped[str] = mapped_column(Text)
    failed_at: Mapped[CreatedAt]
    retried_at: Mapped[Moment | None]
