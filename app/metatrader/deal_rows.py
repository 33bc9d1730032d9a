"""Rows of deals on their way into the database: thousands at a time, by COPY.

A deal's rows lie in the month of its first revision; its head (table deal_head) makes its ticket unique.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.metatrader import months
from app.metatrader.codes import DealAction
from app.metatrader.platform import Deal as ReportedDeal
from app.models.metatrader import DealHead

DEAL_COLUMNS = (
    *("id", "server_id", "ticket", "revision", "fingerprint", "is_current", "is_void", "login", "trading_account_id"),
    *("action", "entry", "reason", "order_ticket", "position_ticket", "symbol", "volume", "volume_closed", "price"),
    *("market_bid", "market_ask", "contract_size", "profit", "swap", "commission", "fee", "rate_profit"),
    *("digits_currency", "comment", "server_time_ms", "utc_offset_min", "done_at", "filed_at", "is_ours"),
)
_HEAD_COLUMNS = ("server_id", "ticket", "revision", "fingerprint", "filed_at", "seen_at")

_VOID_ACTIONS = (int(DealAction.BUY_CANCELED), int(DealAction.SELL_CANCELED))
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


@dataclass(slots=True)
class Head:
    """What is known of a ticket: its newest revision, and when its source had it."""

    revision: int
    fingerprint: bytes
    filed_at: datetime
    seen_at: datetime
    is_ours: bool = False
    is_new: bool = False


@dataclass(slots=True)
class Row:
    """One new revision of a deal."""

    deal: ReportedDeal
    revision: int
    fingerprint: bytes
    is_deleted: bool
    is_ours: bool
    done_at: datetime
    utc_offset_min: int
    filed_at: datetime
    trading_account_id: int | None
    is_current: bool = True

    def line(self, id_: int, server_id: int) -> str:
        """The row as a line of COPY."""
        deal = self.deal
        is_void = self.is_deleted or deal.action in _VOID_ACTIONS
        account = r"\N" if self.trading_account_id is None else self.trading_account_id
        return (
            f"{id_}\t{server_id}\t{deal.ticket}\t{self.revision}\t\\\\x{self.fingerprint.hex()}\t{self.is_current}\t{is_void}"
            f"\t{deal.login}\t{account}\t{deal.action}\t{deal.entry}\t{deal.reason}\t{deal.order_ticket}"
            f"\t{deal.position_ticket}\t{_escaped(deal.symbol)}\t{deal.volume}\t{deal.volume_closed}\t{deal.price!s}"
            f"\t{deal.market_bid!s}\t{deal.market_ask!s}\t{deal.contract_size!s}\t{deal.profit!s}\t{deal.swap!s}"
            f"\t{deal.commission!s}\t{deal.fee!s}\t{deal.rate_profit!s}\t{deal.digits_currency}\t{_escaped(deal.comment)}"
            f"\t{deal.server_time_ms}\t{self.utc_offset_min}\t{self.done_at}\t{self.filed_at}\t{self.is_ours}\n"
        )


def write(session: Session, server_id: int, rows: Sequence[Row], heads: dict[int, Head]) -> list[int]:
    """Write new revisions and the heads of their tickets; returns the ids of the rows, in their order."""
    months.ensure_months(session, {row.filed_at for row in rows})
    ids = list(
        session.scalars(
            text("SELECT nextval(pg_get_serial_sequence('deal', 'id')) FROM generate_series(1, :n)"), {"n": len(rows)}
        )
    )
    copy(session, "deal", DEAL_COLUMNS, (row.line(id_, server_id) for id_, row in zip(ids, rows, strict=True)))
    changed = {row.deal.ticket: heads[row.deal.ticket] for row in rows}
    copy(
        session,
        "deal_head",
        _HEAD_COLUMNS,
        (
            f"{server_id}\t{ticket}\t{head.revision}\t\\\\x{head.fingerprint.hex()}\t{head.filed_at}\t{head.seen_at}\n"
            for ticket, head in changed.items()
            if head.is_new
        ),
    )
    revised = [
        {
            "server_id": server_id,
            "ticket": ticket,
            "revision": head.revision,
            "fingerprint": head.fingerprint,
            "seen_at": head.seen_at,
        }
        for ticket, head in changed.items()
        if not head.is_new
    ]
    if revised:
        session.execute(update(DealHead), revised)
    return ids


def known_heads(session: Session, server_id: int, tickets: Iterable[int]) -> dict[int, Head]:
    """The heads of those tickets that have rows."""
    found = session.execute(
        text(
            "SELECT ticket, revision, fingerprint, filed_at, seen_at FROM deal_head"
            " WHERE server_id = :server_id AND ticket = ANY(CAST(:tickets AS bigint[]))"
        ),
        {"server_id": server_id, "tickets": list(tickets)},
    )
    return {row.ticket: Head(row.revision, bytes(row.fingerprint), row.filed_at, row.seen_at) for row in found}


def copy(session: Session, table: str, columns: Sequence[str], lines: Iterable[str]) -> None:
    """Append lines to a table in the session's transaction. Errors are SQLAlchemy's, as those of its own statements."""
    data = "".join(lines)
    if not data:
        return
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(data)
    except psycopg.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg.Error) from error


def _escaped(words: str) -> str:
    return words.translate(_ESCAPES) if _SPECIAL.search(words) else words
