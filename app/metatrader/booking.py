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
    """login → (trading account id, client id) for those that are ours."""
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
        if any(fingerprint == seen for _, _, seen in history):
            continue
        if history:
            superseded.append(ticket)
        revision = history[-1][1] + 1 if history else 1
        history.append((0, revision, fingerprint))
        operation = operations.get(report.deal.comment[:15])
        rows.append(_row(server_id, report, revision, fingerprint, owners.get(report.deal.login), operation is not None))
        if operation is not None and not report.is_deleted:
            finish_operation(unit, operation, ticket)
    if superseded:
        session.execute(
            update(Deal).where(Deal.server_id == server_id, Deal.ticket.in_(superseded), Deal.is_current).values(is_current=False)
        )
    _keep_newest_current(rows)
    if rows:
        booked.deal_ids = list(session.scalars(insert(Deal).returning(Deal.id, sort_by_parameter_order=True), rows))
        for start in range(0, len(booked.deal_ids), DEALS_PER_EVENT):
            unit.emit("deal.booked", subject_id=server_id, deal_ids=booked.deal_ids[start : start + DEALS_PER_EVENT])
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
    newest = {position.ticket: (position, closed, opened_at) for position, closed, opened_at in changes}
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
        changed = ("volume", "price_open", "price_current", "profit", "swap", "update_ms")
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


def adopt_login(session: Session, server_id: int, login: int, account_id: int) -> None:
    """Give a new account what was booked for its login before we knew it was ours."""
    for table in (Deal, Position):
        session.execute(
            update(table)
            .where(table.server_id == server_id, table.login == login, table.trading_account_id.is_(None))
            .values(trading_account_id=account_id)
        )


def _fingerprint(report: DealReport) -> bytes:
    """The content's fingerprint; a deletion has one of its own, so that it is a revision too."""
    return report.deal.fingerprint() if not report.is_deleted else b"deleted:" + report.deal.fingerprint()[:24]


def _known_revisions(session: Session, server_id: int, tickets: set[int]) -> dict[int, list[tuple[int, int, bytes]]]:
    """ticket → (id, revision, fingerprint) of all its revisions, oldest first."""
    known: dict[int, list[tuple[int, int, bytes]]] = {}
    rows = session.execute(
        select(Deal.ticket, Deal.id, Deal.revision, Deal.fingerprint)
        .where(Deal.server_id == server_id, Deal.ticket.in_(tickets))
        .order_by(Deal.ticket, Deal.revision)
    )
    for row in rows:
        known.setdefault(row.ticket, []).append((row.id, row.revision, row.fingerprint))
    return known


def _our_operations(session: Session, server_id: int, reports: list[DealReport]) -> dict[str, int]:
    """token → operation id, for balance deals whose comment begins with a token of ours."""
    tokens = {report.deal.comment[:15] for report in reports if report.deal.action == DealAction.BALANCE and report.deal.comment}
    if not tokens:
        return {}
    rows = session.execute(
        select(BalanceOperation.token, BalanceOperation.id).where(
            BalanceOperation.server_id == server_id, BalanceOperation.token.in_(tokens)
        )
    )
    return {row.token: row.id for row in rows}


def _keep_newest_current(rows: list[dict[str, Any]]) -> None:
    """Of several revisions of one ticket in one batch only the last is current."""
    last = {row["ticket"]: index for index, row in enumerate(rows)}
    for index, row in enumerate(rows):
        row["is_current"] = last[row["ticket"]] == index


def _row(
    server_id: int, report: DealReport, revision: int, fingerprint: bytes, owner: tuple[int, int] | None, is_ours: bool
) -> dict[str, Any]:
    deal = report.deal
    return {
        "server_id": server_id,
        "ticket": deal.ticket,
        "revision": revision,
        "fingerprint": fingerprint,
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
        "is_ours": is_ours,
    }
