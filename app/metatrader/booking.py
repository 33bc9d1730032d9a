"""Booking what a server reports about deals, with their revisions. Used by ingest, by sweeps and by repairs.

A deal is keyed (server, ticket). The same content again changes nothing; other content is a new revision; a deletion is a
revision that is void. One advisory lock per server keeps ingest and a sweep from booking the same deal side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.ids import TOKEN_LENGTH
from app.core.uow import UnitOfWork
from app.metatrader import deal_rows, foreign
from app.metatrader.booking_states import (
    AccountReport,
    LifeReport,
    OrderReport,
    Owners,
    PositionChange,
    accounts_by_login,
    book_account,
    book_accounts,
    book_lives,
    book_orders,
    book_positions,
    remove_closed,
)
from app.metatrader.codes import DealAction
from app.metatrader.commands import finish_operation
from app.metatrader.deal_rows import DealReport, Head, Row, deleted, is_deletion
from app.metatrader.platform import Deal as ReportedDeal
from app.models.metatrader import BalanceOperation, DeadLetter, Deal, Order, Position

__all__ = [
    "AccountReport",
    "Booked",
    "DealReport",
    "LifeReport",
    "OrderReport",
    "Owners",
    "PositionChange",
    "accounts_by_login",
    "adopt_login",
    "book_account",
    "book_accounts",
    "book_deals",
    "book_lives",
    "book_orders",
    "book_positions",
    "lock_server",
    "remove_closed",
]

#: Class of advisory locks, beside the server's id.
LOCK_CLASS = 7201
DEALS_PER_EVENT = 500


@dataclass
class Booked:
    """What a batch changed: ids of new deal rows, and the clients whose pages have news. `disputed` are tickets of messages
    that contradict what we have and are not surely older: their deals have to be asked for.
    """

    deal_ids: list[int] = field(default_factory=list)
    client_ids: set[int] = field(default_factory=set)
    disputed: set[int] = field(default_factory=set)


def lock_server(session: Session, server_id: int) -> None:
    session.execute(select(func.pg_advisory_xact_lock(LOCK_CLASS, server_id)))


def book_deals(unit: UnitOfWork, server_id: int, reports: list[DealReport], owners: Owners | None = None) -> Booked:
    """Book a batch in order of arrival; emits deal.booked with the ids of what is new. The server must be locked.

    `owners` are those of the reports' logins, where the caller has them already.
    """
    booked = Booked()
    if not reports:
        return booked
    session = unit.session
    heads = deal_rows.known_heads(session, server_id, {report.deal.ticket for report in reports})
    if owners is None:
        owners = accounts_by_login(session, server_id, (report.deal.login for report in reports))
    rows = _new_rows(unit, server_id, reports, heads, owners, booked)
    if rows:
        booked.deal_ids = deal_rows.write(session, server_id, rows)
        _tell(unit, server_id, booked.deal_ids)
        foreign.note(unit, server_id, [(row.report.deal, row.report.done_at) for row in rows if _is_foreign(row)])
        logins = {row.report.deal.login for row in rows}
        booked.client_ids = {client_id for login, (_, client_id) in owners.items() if login in logins}
    if booked.disputed:
        unit.emit("deal.disputed", subject_id=server_id, server_id=server_id, tickets=sorted(booked.disputed))
    return booked


def _new_rows(
    unit: UnitOfWork, server_id: int, reports: list[DealReport], heads: dict[int, Head], owners: Owners, booked: Booked
) -> list[Row]:
    """The revisions that the reports make. Heads of new tickets are added to `heads`, those of revised ones moved on."""
    moment = now()
    contents = _Contents(unit.session, server_id, heads)
    contents.load(
        report.deal.ticket
        for report in reports
        if report.deal.ticket in heads and heads[report.deal.ticket].fingerprint != report.fingerprint
    )
    operations = _our_operations(unit.session, server_id, reports)
    rows: list[Row] = []
    newest: dict[int, Row] = {}
    for report in reports:
        ticket, fingerprint = report.deal.ticket, report.fingerprint
        seen_at = moment if report.seen_at is None else min(report.seen_at, moment)
        head = heads.get(ticket)
        if head is None:
            is_ours = _is_ours(unit, operations, report)
            head = heads[ticket] = Head(1, fingerprint, report.done_at, seen_at, is_ours, is_new=True)
        else:
            if fingerprint == head.fingerprint or not contents.is_news(report, head, seen_at, booked):
                continue
            head.revision, head.fingerprint, head.seen_at = head.revision + 1, fingerprint, max(seen_at, head.seen_at)
            if ticket in newest:
                newest[ticket].is_current = False
        contents.add(ticket, fingerprint)
        owner = owners.get(report.deal.login)
        row = newest[ticket] = Row(report, head, head.revision, owner[0] if owner else None)
        rows.append(row)
    contents.supersede(ticket for ticket in newest if not heads[ticket].is_new)
    return rows


class _Contents:
    """The contents that tickets had before, by fingerprint, and what follows from them."""

    def __init__(self, session: Session, server_id: int, heads: Mapping[int, Head]) -> None:
        self._session, self._server_id, self._heads = session, server_id, heads
        self._had: dict[int, set[bytes]] = {}

    def load(self, tickets: Iterable[int]) -> None:
        """Read what known tickets had."""
        wanted = set(tickets)
        if not wanted:
            return
        rows = self._session.execute(
            select(Deal.ticket, Deal.fingerprint, Deal.is_ours).where(*self._rows_of(wanted)).order_by(Deal.revision)
        )
        for row in rows:
            self._had.setdefault(row.ticket, set()).add(bytes(row.fingerprint))
            self._heads[row.ticket].is_ours = row.is_ours

    def add(self, ticket: int, fingerprint: bytes) -> None:
        self._had.setdefault(ticket, set()).add(fingerprint)

    def is_news(self, report: DealReport, head: Head, seen_at: datetime, booked: Booked) -> bool:
        """Whether a report with other content than the head's is a new revision. Doubtful ones are disputed."""
        if report.is_deleted and is_deletion(head.fingerprint):
            return False
        if report.is_answer:
            return seen_at >= head.seen_at
        had = self._had.get(report.deal.ticket, set())
        is_known = report.fingerprint in had or deleted(report.fingerprint) in had
        is_older = seen_at < head.seen_at
        if is_known != is_older:
            # Old content that was told later, or unknown content that was told earlier: only the server can say.
            booked.disputed.add(report.deal.ticket)
        return not is_known and not is_older

    def supersede(self, tickets: Iterable[int]) -> None:
        """Rows of known tickets that got a newer revision are not current any more."""
        revised = set(tickets)
        if revised:
            self._session.execute(update(Deal).where(*self._rows_of(revised), Deal.is_current).values(is_current=False))

    def _rows_of(self, tickets: set[int]) -> list[ColumnElement[bool]]:
        filed = [self._heads[ticket].filed_at for ticket in tickets]
        # The range keeps the search in the months concerned.
        return [Deal.server_id == self._server_id, Deal.ticket.in_(tickets), Deal.filed_at.between(min(filed), max(filed))]


def adopt_login(unit: UnitOfWork, server_id: int, login: int, account_id: int) -> None:
    """Give a new account what was booked for its login before we knew it was ours. The server must be locked.

    Tells of the deals once more, because whoever judged them without their owner has to judge again.
    """
    deal_ids, *_ = (
        unit.session.scalars(
            update(table)
            .where(table.server_id == server_id, table.login == login, table.trading_account_id.is_(None))
            .values(trading_account_id=account_id)
            .returning(table.id)
        ).all()
        for table in (Deal, Position, Order)
    )
    unit.session.execute(
        update(DeadLetter)
        .where(
            DeadLetter.server_id == server_id,
            DeadLetter.login == login,
            DeadLetter.replayed_at.is_(None),
            DeadLetter.dismissed_at.is_(None),
        )
        .values(replayed_at=now(), decided_by=str(unit.actor))
    )
    _tell(unit, server_id, sorted(deal_ids), again=True)


def _tell(unit: UnitOfWork, server_id: int, deal_ids: list[int], *, again: bool = False) -> None:
    """`again`: they were told of before."""
    said = {"again": True} if again else {}
    for start in range(0, len(deal_ids), DEALS_PER_EVENT):
        unit.emit("deal.booked", subject_id=server_id, deal_ids=deal_ids[start : start + DEALS_PER_EVENT], **said)


@dataclass(frozen=True)
class _Operation:
    id: int
    deal_ticket: int | None


def _is_foreign(row: Row) -> bool:
    """Whether it is a deal that moved money without a trade, and not at our order."""
    report = row.report
    return not report.deal.is_trade and row.is_current and not row.head.is_ours and not report.is_deleted


def _our_operations(session: Session, server_id: int, reports: list[DealReport]) -> dict[tuple[int, str], _Operation]:
    """By (login, token): operations whose token begins the comment of a balance deal here."""
    tokens = {_token(report.deal) for report in reports if report.deal.action == DealAction.BALANCE and report.deal.comment}
    if not tokens:
        return {}
    rows = session.execute(
        select(BalanceOperation.login, BalanceOperation.token, BalanceOperation.id, BalanceOperation.deal_ticket).where(
            BalanceOperation.server_id == server_id, BalanceOperation.token.in_(tokens)
        )
    )
    return {(row.login, row.token): _Operation(row.id, row.deal_ticket) for row in rows}


def _is_ours(unit: UnitOfWork, operations: dict[tuple[int, str], _Operation], report: DealReport) -> bool:
    """Whether this is the one deal that a balance operation of ours made; then the operation is done.

    A trade never is, whatever the client wrote as its comment; and a deal that is gone proves nothing.
    """
    deal = report.deal
    operation = operations.get((deal.login, _token(deal)))
    if operation is None or deal.action != DealAction.BALANCE:
        return False
    if report.is_deleted:
        return operation.deal_ticket == deal.ticket
    return finish_operation(unit, operation.id, deal.ticket)


def _token(deal: ReportedDeal) -> str:
    return deal.comment[:TOKEN_LENGTH]
