"""Booking what a server reports: deals with their revisions, positions, account states. Used by ingest and by the sweeps.

A deal is keyed (server, ticket). The same content again changes nothing; other content is a new revision; a deletion is
a revision that is void. One advisory lock per server keeps ingest and a sweep from booking the same deal side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.core.ids import TOKEN_LENGTH
from app.core.uow import UnitOfWork
from app.metatrader.codes import DealAction
from app.metatrader.commands import finish_operation
from app.metatrader.platform import AccountState
from app.metatrader.platform import Deal as ReportedDeal
from app.metatrader.platform import Position as ReportedPosition
from app.models.metatrader import BalanceOperation, Deal, Position, TradingAccount

#: Class of advisory locks, beside the server's id.
LOCK_CLASS = 7201
DEALS_PER_EVENT = 500


@dataclass(frozen=True)
class DealReport:
    """A deal as a source told it, with its moment in UTC and the offset of the server's clock then."""

    deal: ReportedDeal
    done_at: datetime
    utc_offset_min: int
    is_deleted: bool = False


@dataclass
class Booked:
    """What a batch changed: ids of new deal rows, and the clients whose pages have news."""

    deal_ids: list[int] = field(default_factory=list)
    client_ids: set[int] = field(default_factory=set)


def lock_server(session: Session, server_id: int) -> None:
    session.execute(select(func.pg_advisory_xact_lock(LOCK_CLASS, server_id)))


def accounts_by_login(session: Session, server_id: int, logins: Iterable[int]) -> dict[int, tuple[int, int]]:
    """By login: (trading account id, client id), for those that are ours."""
    rows = session.execute(
        select(TradingAccount.login, TradingAccount.id, TradingAccount.client_id).where(
            TradingAccount.server_id == server_id, TradingAccount.login.in_(set(logins))
        )
    )
    return {row.login: (row.id, row.client_id) for row in rows if row.login is not None}


def book_deals(unit: UnitOfWork, server_id: int, reports: list[DealReport]) -> Booked:
    """Book a batch in order of arrival; emits deal.booked with the ids of what is new. The server must be locked."""
    booked = Booked()
    if not reports:
        return booked
    session = unit.session
    known = _known_revisions(session, server_id, {report.deal.ticket for report in reports})
    owners = accounts_by_login(session, server_id, (report.deal.login for report in reports))
    operations = _our_operations(session, server_id, reports)
    rows: list[dict[str, Any]] = []
    superseded: list[int] = []
    for report in reports:
        ticket, fingerprint = report.deal.ticket, _fingerprint(report)
        history = known.setdefault(ticket, [])
        seen = {revision.fingerprint for revision in history}
        if fingerprint in seen or _deleted(fingerprint) in seen:
            continue
        if history:
            superseded.append(ticket)
        made = _Revision(
            number=history[-1].number + 1 if history else 1,
            fingerprint=fingerprint,
            is_ours=history[-1].is_ours if history else _is_ours(unit, operations, report),
        )
        history.append(made)
        rows.append(_row(server_id, report, made, owners.get(report.deal.login)))
    if superseded:
        session.execute(
            update(Deal)
            .where(Deal.server_id == server_id, Deal.ticket.in_(superseded), Deal.is_current)
            .values(is_current=False)
        )
    _keep_newest_current(rows)
    if rows:
        booked.deal_ids = list(session.scalars(insert(Deal).returning(Deal.id, sort_by_parameter_order=True), rows))
        _tell(unit, server_id, booked.deal_ids)
    logins = {row["login"] for row in rows}
    booked.client_ids = {client_id for login, (_, client_id) in owners.items() if login in logins}
    return booked


def book_positions(session: Session, server_id: int, changes: list[tuple[ReportedPosition, bool, datetime]]) -> set[int]:
    """Keep open positions current: (position, closed?, opened at). Older reports than the stored one are ignored.

    Returns the clients concerned.
    """
    if not changes:
        return set()
    owners = accounts_by_login(session, server_id, (position.login for position, _, _ in changes))
    newest: dict[int, tuple[ReportedPosition, bool, datetime]] = {}
    for position, closed, opened_at in changes:
        if position.ticket not in newest or position.update_ms >= newest[position.ticket][0].update_ms:
            newest[position.ticket] = (position, closed, opened_at)
    closed_tickets = [ticket for ticket, (_, closed, _) in newest.items() if closed]
    if closed_tickets:
        session.execute(delete(Position).where(Position.server_id == server_id, Position.ticket.in_(closed_tickets)))
    rows = [
        {
            "server_id": server_id,
            "ticket": position.ticket,
            "login": position.login,
            "trading_account_id": owners.get(position.login, (None, None))[0],
            "symbol": position.symbol,
            "action": position.action,
            "volume": position.volume,
            "price_open": position.price_open,
            "price_current": position.price_current,
            "profit": position.profit,
            "swap": position.swap,
            "opened_at": opened_at,
            "update_ms": position.update_ms,
        }
        for position, closed, opened_at in newest.values()
        if not closed
    ]
    if rows:
        statement = upsert(Position)
        changed = ("action", "volume", "price_open", "price_current", "profit", "swap", "update_ms")
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["server_id", "ticket"],
                set_={name: statement.excluded[name] for name in changed},
                where=Position.update_ms <= statement.excluded.update_ms,
            ),
            rows,
        )
    return {client_id for _, client_id in owners.values()}


def book_account(session: Session, server_id: int, state: AccountState, at: datetime) -> int | None:
    """Store a login's balance, credit and equity as of a moment; returns the client concerned, None when nothing changed."""
    return session.execute(
        update(TradingAccount)
        .where(
            TradingAccount.server_id == server_id,
            TradingAccount.login == state.login,
            TradingAccount.state_at.is_(None) | (TradingAccount.state_at <= at),
        )
        .values(balance=state.balance, credit=state.credit, equity=state.equity, leverage=state.leverage, state_at=at)
        .returning(TradingAccount.client_id)
    ).scalar_one_or_none()


def adopt_login(unit: UnitOfWork, server_id: int, login: int, account_id: int) -> None:
    """Give a new account what was booked for its login before we knew it was ours. The server must be locked.

    Tells of the deals once more, because whoever judged them without their owner has to judge again.
    """
    deal_ids, _ = (
        unit.session.scalars(
            update(table)
            .where(table.server_id == server_id, table.login == login, table.trading_account_id.is_(None))
            .values(trading_account_id=account_id)
            .returning(table.id)
        ).all()
        for table in (Deal, Position)
    )
    _tell(unit, server_id, sorted(deal_ids))


def _tell(unit: UnitOfWork, server_id: int, deal_ids: list[int]) -> None:
    for start in range(0, len(deal_ids), DEALS_PER_EVENT):
        unit.emit("deal.booked", subject_id=server_id, deal_ids=deal_ids[start : start + DEALS_PER_EVENT])


@dataclass(frozen=True)
class _Revision:
    number: int
    fingerprint: bytes
    is_ours: bool


@dataclass(frozen=True)
class _Operation:
    id: int
    deal_ticket: int | None


def _fingerprint(report: DealReport) -> bytes:
    """The content's fingerprint; a deletion has one of its own, so that it is a revision too."""
    fingerprint = report.deal.fingerprint()
    return _deleted(fingerprint) if report.is_deleted else fingerprint


def _deleted(fingerprint: bytes) -> bytes:
    """The fingerprint of the deletion of a deal that last stood so. A deal that was deleted does not come back by itself:
    the same content afterwards is a late repeat.
    """
    return b"deleted:" + fingerprint[:24]


def _known_revisions(session: Session, server_id: int, tickets: set[int]) -> dict[int, list[_Revision]]:
    """By ticket: all its revisions, oldest first."""
    known: dict[int, list[_Revision]] = {}
    rows = session.execute(
        select(Deal.ticket, Deal.revision, Deal.fingerprint, Deal.is_ours)
        .where(Deal.server_id == server_id, Deal.ticket.in_(tickets))
        .order_by(Deal.ticket, Deal.revision)
    )
    for row in rows:
        known.setdefault(row.ticket, []).append(_Revision(row.revision, row.fingerprint, row.is_ours))
    return known


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


def _keep_newest_current(rows: list[dict[str, Any]]) -> None:
    """Of several revisions of one ticket in one batch only the last is current."""
    last = {row["ticket"]: index for index, row in enumerate(rows)}
    for index, row in enumerate(rows):
        row["is_current"] = last[row["ticket"]] == index


def _row(server_id: int, report: DealReport, made: _Revision, owner: tuple[int, int] | None) -> dict[str, Any]:
    deal = report.deal
    return {
        "server_id": server_id,
        "ticket": deal.ticket,
        "revision": made.number,
        "fingerprint": made.fingerprint,
        "is_void": report.is_deleted or deal.action in (DealAction.BUY_CANCELED, DealAction.SELL_CANCELED),
        "login": deal.login,
        "trading_account_id": owner[0] if owner else None,
        "action": deal.action,
        "entry": deal.entry,
        "reason": deal.reason,
        "order_ticket": deal.order_ticket,
        "position_ticket": deal.position_ticket,
        "symbol": deal.symbol,
        "volume": deal.volume,
        "volume_closed": deal.volume_closed,
        "price": deal.price,
        "market_bid": deal.market_bid,
        "market_ask": deal.market_ask,
        "contract_size": deal.contract_size,
        "profit": deal.profit,
        "swap": deal.swap,
        "commission": deal.commission,
        "fee": deal.fee,
        "rate_profit": deal.rate_profit,
        "digits_currency": deal.digits_currency,
        "comment": deal.comment,
        "server_time_ms": deal.server_time_ms,
        "utc_offset_min": report.utc_offset_min,
        "done_at": report.done_at,
        "is_ours": made.is_ours,
    }
