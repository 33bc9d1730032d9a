"""Rows of deals on their way into the database: thousands at a time, by COPY.

A deal's rows lie in the month of its first revision; its head (table deal_head) makes its ticket unique.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from app.core.copying import copy, escaped
from app.metatrader import months
from app.metatrader.codes import DealAction
from app.metatrader.platform import Deal as ReportedDeal
from app.models.metatrader import DealHead

#: What becomes known when a revision is booked, and what its source said.
DEAL_COLUMNS = (
    *("id", "server_id", "revision", "is_current", "is_ours", "trading_account_id", "filed_at"),
    *("fingerprint", "is_void", "done_at", "utc_offset_min", "ticket", "login", "action", "entry", "reason"),
    *("order_ticket", "position_ticket", "symbol", "volume", "volume_closed", "price", "market_bid", "market_ask"),
    *("contract_size", "profit", "swap", "commission", "fee", "rate_profit", "digits_currency"),
    *("price_position", "digits", "comment", "server_time_ms"),
)
_HEAD_COLUMNS = ("server_id", "ticket", "revision", "fingerprint", "filed_at", "seen_at")

_NEXT_IDS = text("SELECT array_agg(nextval(pg_get_serial_sequence('deal', 'id'))) FROM generate_series(1, :n)")
#: Begins the fingerprint of a deletion.
_DELETION = b"deleted:"
_VOID_ACTIONS = (int(DealAction.BUY_CANCELED), int(DealAction.SELL_CANCELED))


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
class DealReport:
    """A deal as a source told it, with its moment in UTC and the offset of the server's clock then.

    `seen_at` is when the source had it so: of a message, when it was received; of an answer, when the server was asked.
    A message that is older than what we have changes nothing, and neither does one whose content we had before, because
    messages repeat. An answer (`is_answer`) is the server's word: content that is back is back. Without `seen_at` it counts
    as seen now, and never brings back old content.
    """

    deal: ReportedDeal
    done_at: datetime
    utc_offset_min: int
    is_deleted: bool = False
    seen_at: datetime | None = None
    is_answer: bool = False

    #: The content's fingerprint; a deletion has one of its own, so that it is a revision too.
    fingerprint: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        fingerprint = self.deal.fingerprint()
        self.fingerprint = deleted(fingerprint) if self.is_deleted else fingerprint

    def said(self, done: str) -> str:
        """The part of the row that the source said, as COPY wants it; `done` is its moment as text."""
        deal = self.deal
        is_void = self.is_deleted or deal.action in _VOID_ACTIONS
        return (
            f"\\\\x{self.fingerprint.hex()}\t{is_void}\t{done}\t{self.utc_offset_min}\t{deal.ticket}\t{deal.login}"
            f"\t{deal.action}\t{deal.entry}\t{deal.reason}\t{deal.order_ticket}\t{deal.position_ticket}"
            f"\t{escaped(deal.symbol)}\t{deal.volume}\t{deal.volume_closed}\t{deal.price!s}\t{deal.market_bid!s}"
            f"\t{deal.market_ask!s}\t{deal.contract_size!s}\t{deal.profit!s}\t{deal.swap!s}\t{deal.commission!s}"
            f"\t{deal.fee!s}\t{deal.rate_profit!s}\t{deal.digits_currency}\t{deal.price_position!s}\t{deal.digits}"
            f"\t{escaped(deal.comment)}\t{deal.server_time_ms}\n"
        )


@dataclass(slots=True)
class Row:
    """One new revision of a deal."""

    report: DealReport
    head: Head
    revision: int
    trading_account_id: int | None
    is_current: bool = True

    def line(self, id_: int, server_id: int) -> str:
        """The row as a line of COPY."""
        report, head = self.report, self.head
        account = r"\N" if self.trading_account_id is None else self.trading_account_id
        done = report.done_at.isoformat()
        filed = done if head.filed_at is report.done_at else head.filed_at.isoformat()
        return (
            f"{id_}\t{server_id}\t{self.revision}\t{self.is_current}\t{head.is_ours}\t{account}\t{filed}\t{report.said(done)}"
        )

    def head_line(self, server_id: int) -> str:
        head = self.head
        return (
            f"{server_id}\t{self.report.deal.ticket}\t{head.revision}\t\\\\x{head.fingerprint.hex()}\t{head.filed_at.isoformat()}"
            f"\t{head.seen_at.isoformat()}\n"
        )


def write(session: Session, server_id: int, rows: Sequence[Row]) -> list[int]:
    """Write new revisions and the heads of their tickets; returns the ids of the rows, in their order."""
    months.ensure_months(session, {row.head.filed_at for row in rows})
    ids: list[int] = session.execute(_NEXT_IDS, {"n": len(rows)}).scalar_one()
    copy(session, "deal", DEAL_COLUMNS, (row.line(id_, server_id) for id_, row in zip(ids, rows, strict=True)))
    newest = [row for row in rows if row.is_current]
    copy(session, "deal_head", _HEAD_COLUMNS, (row.head_line(server_id) for row in newest if row.head.is_new))
    revised = [
        {
            "server_id": server_id,
            "ticket": row.report.deal.ticket,
            "revision": row.head.revision,
            "fingerprint": row.head.fingerprint,
            "seen_at": row.head.seen_at,
        }
        for row in newest
        if not row.head.is_new
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


def deleted(fingerprint: bytes) -> bytes:
    """The fingerprint of the deletion of a deal that last stood so. A deal that was deleted does not come back by itself:
    the same content afterwards is a late repeat, unless the server itself says so when it is asked.
    """
    return _DELETION + fingerprint[:24]


def is_deletion(fingerprint: bytes) -> bool:
    return fingerprint.startswith(_DELETION)
