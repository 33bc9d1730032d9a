"""Booking what stands now at a server: open positions, orders, states of logins. One statement per batch for each.

What is older than the stored row is ignored, so that repeats and late arrivals change nothing. The server must be locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from app.core.uow import UnitOfWork
from app.metatrader.codes import DealEntry
from app.metatrader.platform import AccountState, Order
from app.metatrader.platform import Position as ReportedPosition
from app.models.metatrader import Position

#: By login: (trading account id, client id), for those that are ours.
Owners = Mapping[int, tuple[int, int]]
#: (position, closed?, opened at).
PositionChange = tuple[ReportedPosition, bool, datetime]
AccountReport = tuple[AccountState, datetime]


@dataclass(frozen=True)
class OrderReport:
    """An order as a source told it, with its moments in UTC, the offset of the newer of the two, and when it was so."""

    order: Order
    set_up_at: datetime
    done_at: datetime | None
    utc_offset_min: int
    seen_at: datetime
    is_deleted: bool = False


@dataclass(frozen=True)
class LifeReport:
    """What became of a login at the server: "archived", "restored", "deleted", or "cleaned": all its deals were wiped."""

    account: AccountState
    change: str
    at: datetime


_POSITION_COLUMNS = {
    "ticket": "bigint",
    "login": "bigint",
    "trading_account_id": "bigint",
    "symbol": "text",
    "action": "integer",
    "volume": "bigint",
    "price_open": "numeric",
    "price_current": "numeric",
    "price_stop_loss": "numeric",
    "price_take_profit": "numeric",
    "profit": "numeric",
    "swap": "numeric",
    "opened_at": "timestamptz",
    "created_ms": "bigint",
    "utc_offset_min": "integer",
    "update_ms": "bigint",
}
_POSITION_FIXED = ("ticket", "login", "trading_account_id", "symbol", "opened_at", "created_ms", "utc_offset_min")

_ORDER_COLUMNS = {
    "ticket": "bigint",
    "login": "bigint",
    "trading_account_id": "bigint",
    "symbol": "text",
    "type": "integer",
    "state": "integer",
    "reason": "integer",
    "volume_initial": "bigint",
    "volume_current": "bigint",
    "price_order": "numeric",
    "price_trigger": "numeric",
    "price_stop_loss": "numeric",
    "price_take_profit": "numeric",
    "position_ticket": "bigint",
    "comment": "text",
    "set_up_ms": "bigint",
    "set_up_at": "timestamptz",
    "done_ms": "bigint",
    "done_at": "timestamptz",
    "utc_offset_min": "integer",
    "is_deleted": "boolean",
    "seen_at": "timestamptz",
}
_ORDER_FIXED = ("ticket", "login", "trading_account_id", "symbol", "set_up_ms", "set_up_at")


def _upsert(table: str, columns: Mapping[str, str], fixed: Sequence[str], is_newer: str) -> str:
    """Insert rows given as one array per column, or change those that are older; `fixed` columns stay as they were."""
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in columns.items())
    names = ", ".join(columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in fixed)
    return (
        f"INSERT INTO {table} AS old (server_id, {names})"  # noqa: S608  names of our own
        f" SELECT :server_id, * FROM unnest({arrays}) ON CONFLICT (server_id, ticket) DO UPDATE SET {changes} WHERE {is_newer}"
    )


_PUT_POSITIONS = text(_upsert("position", _POSITION_COLUMNS, _POSITION_FIXED, "old.update_ms <= excluded.update_ms"))
#: An order that is done does not open again; of two states of the same moment the one that was seen later holds.
_PUT_ORDERS = text(
    _upsert("mt_order", _ORDER_COLUMNS, _ORDER_FIXED, "(old.done_ms, old.seen_at) <= (excluded.done_ms, excluded.seen_at)")
)


def accounts_by_login(session: Session, server_id: int, logins: Iterable[int]) -> dict[int, tuple[int, int]]:
    """By login: (trading account id, client id), for those that are ours."""
    rows = session.execute(
        text(
            "SELECT login, id, client_id FROM trading_account"
            " WHERE server_id = :server_id AND login = ANY(CAST(:logins AS bigint[]))"
        ),
        {"server_id": server_id, "logins": list(set(logins))},
    )
    return {login: (id_, client_id) for login, id_, client_id in rows}


def book_positions(session: Session, server_id: int, changes: list[PositionChange], owners: Owners | None = None) -> set[int]:
    """Keep open positions current: (position, closed?, opened at). Older reports than the stored one are ignored, and so
    are those of positions that deals have closed. Returns the clients concerned.
    """
    if not changes:
        return set()
    if owners is None:
        owners = accounts_by_login(session, server_id, (position.login for position, _, _ in changes))
    newest: dict[int, PositionChange] = {}
    for change in changes:
        position, is_closed, _ = change
        before = newest.get(position.ticket)
        if before is None or is_closed or (not before[1] and position.update_ms >= before[0].update_ms):
            newest[position.ticket] = change
    closed = [ticket for ticket, (_, is_closed, _) in newest.items() if is_closed]
    if closed:
        session.execute(delete(Position).where(Position.server_id == server_id, Position.ticket.in_(closed)))
    still_open = [change for change in newest.values() if not change[1]]
    gone = _closed_by_deals(session, server_id, still_open)
    kept = [(position, opened_at) for position, _, opened_at in still_open if position.ticket not in gone]
    if kept:
        positions = [position for position, _ in kept]
        values = _columns(positions, [name for name in _POSITION_COLUMNS if hasattr(positions[0], name)]) | {
            "trading_account_id": [_account_of(owners, position.login) for position in positions],
            "opened_at": [opened_at for _, opened_at in kept],
            "utc_offset_min": [round((position.created_ms / 1000 - at.timestamp()) / 60) for position, at in kept],
        }
        session.execute(_PUT_POSITIONS, {"server_id": server_id, **values})
    concerned = {position.login for position, _, _ in changes}
    return {client_id for login, (_, client_id) in owners.items() if login in concerned}


def book_orders(session: Session, server_id: int, reports: list[OrderReport], owners: Owners | None = None) -> set[int]:
    """Keep orders current; one that is removed at the server stays here, marked so. Returns the clients concerned."""
    if not reports:
        return set()
    if owners is None:
        owners = accounts_by_login(session, server_id, (report.order.login for report in reports))
    newest: dict[int, OrderReport] = {}
    for report in reports:
        before = newest.get(report.order.ticket)
        if before is None or (before.order.done_ms, before.seen_at) <= (report.order.done_ms, report.seen_at):
            newest[report.order.ticket] = report
    kept = list(newest.values())
    orders = [report.order for report in kept]
    values = (
        _columns(orders, [name for name in _ORDER_COLUMNS if hasattr(orders[0], name)])
        | _columns(kept, ["set_up_at", "done_at", "utc_offset_min", "is_deleted", "seen_at"])
        | {"trading_account_id": [_account_of(owners, order.login) for order in orders]}
    )
    session.execute(_PUT_ORDERS, {"server_id": server_id, **values})
    concerned = {report.order.login for report in reports}
    return {client_id for login, (_, client_id) in owners.items() if login in concerned}


def book_account(session: Session, server_id: int, state: AccountState, at: datetime) -> int | None:
    """Store a login's state as of a moment; returns the client concerned, None when nothing changed."""
    return next(iter(book_accounts(session, server_id, [(state, at)])), None)


def book_accounts(session: Session, server_id: int, states: Iterable[AccountReport]) -> set[int]:
    """Store money, leverage, group and rights of logins that are ours, each as of its moment. Returns the clients."""
    newest: dict[int, AccountReport] = {}
    for state, at in states:
        if state.login not in newest or newest[state.login][1] <= at:
            newest[state.login] = (state, at)
    if not newest:
        return set()
    names = ["login", "balance", "credit", "equity", "leverage", "group", "rights"]
    values = _columns([state for state, _ in newest.values()], names) | {"state_at": [at for _, at in newest.values()]}
    return set(session.scalars(_SET_ACCOUNTS, {"server_id": server_id, **values}))


_SET_ACCOUNTS = text(
    "UPDATE trading_account AS old SET balance = new.balance, credit = new.credit, equity = new.equity,"
    ' leverage = new.leverage, "group" = new."group", rights = new.rights, state_at = new.state_at'
    " FROM unnest(CAST(:login AS bigint[]), CAST(:balance AS numeric[]), CAST(:credit AS numeric[]),"
    " CAST(:equity AS numeric[]), CAST(:leverage AS integer[]), CAST(:group AS text[]),"
    " CAST(:rights AS bigint[]), CAST(:state_at AS timestamptz[]))"
    ' AS new (login, balance, credit, equity, leverage, "group", rights, state_at)'
    " WHERE old.server_id = :server_id AND old.login = new.login AND (old.state_at IS NULL OR old.state_at <= new.state_at)"
    " RETURNING old.client_id"
)


def book_lives(unit: UnitOfWork, server_id: int, reports: Iterable[LifeReport]) -> set[int]:
    """Follow what became of logins that are ours at the server; call it before their states are booked.

    A login that is archived or deleted there is archived here; a restored one is active, or disabled where it may not sign
    in. Tells of each change as account.archived or account.restored. Of a cleaned one only account.cleaned tells: what it
    means for its deals is decided by a job (cleaning.py).
    """
    clients: set[int] = set()
    moves: dict[int, LifeReport] = {}
    for report in reports:
        if report.change == "cleaned":
            unit.emit(
                "account.cleaned",
                subject_id=server_id,
                server_id=server_id,
                login=report.account.login,
                group=report.account.group,
                at=report.at.isoformat(),
            )
        else:
            moves[report.account.login] = report
    for report in moves.values():
        is_back = report.change == "restored"
        status = ("active" if report.account.is_enabled else "disabled") if is_back else "archived"
        changed = unit.session.execute(
            _SET_STATUS, {"server_id": server_id, "login": report.account.login, "status": status, "at": report.at}
        ).one_or_none()
        if changed is not None:
            unit.emit(
                "account.restored" if is_back else "account.archived",
                subject_id=changed.id,
                client_id=changed.client_id,
                login=report.account.login,
                at_server=report.change,
            )
            clients.add(changed.client_id)
    return clients


_SET_STATUS = text(
    "UPDATE trading_account SET status = :status WHERE server_id = :server_id AND login = :login AND status <> :status"
    " AND status IN ('active', 'disabled', 'archived') AND (state_at IS NULL OR state_at <= :at) RETURNING id, client_id"
)


def _closed_by_deals(session: Session, server_id: int, changes: list[PositionChange]) -> set[int]:
    """Of these positions, those that are not open here and whose deals have closed all that was opened.

    So a late report does not bring back a position. Reversed ones (netting) are left to the server's word.
    """
    opened = {position.ticket: opened_at for position, _, opened_at in changes}
    if not opened:
        return set()
    return set(session.scalars(_CLOSED, _asked_for(server_id, opened)))


def remove_closed(session: Session, server_id: int, opened: Mapping[int, datetime]) -> set[int]:
    """Of these positions (by ticket when they were opened) remove those whose deals have closed all that was opened, and
    return them: what is left after their end was lost on its way to us.
    """
    return set(session.scalars(_DELETE_CLOSED, _asked_for(server_id, opened))) if opened else set()


def _asked_for(server_id: int, opened: Mapping[int, datetime]) -> dict[str, Any]:
    return {
        "server_id": server_id,
        "tickets": list(opened),
        "since": min(opened.values()) - timedelta(days=1),
        "opening": int(DealEntry.IN),
        "reversing": int(DealEntry.INOUT),
    }


#: Of some positions those whose deals have closed all that was opened.
_DONE = (
    "SELECT deal.position_ticket FROM deal"
    " WHERE deal.server_id = :server_id AND deal.filed_at >= :since AND deal.is_current AND NOT deal.is_void"
    " AND deal.action IN (0, 1) AND deal.position_ticket = ANY({tickets})"
    " GROUP BY deal.position_ticket"
    " HAVING sum(deal.volume) FILTER (WHERE deal.entry = :opening)"
    "   <= sum(deal.volume) FILTER (WHERE deal.entry <> :opening)"
    " AND NOT bool_or(deal.entry = :reversing)"
)
_CLOSED = text(
    _DONE.format(
        tickets="ARRAY(SELECT new.ticket FROM unnest(CAST(:tickets AS bigint[])) AS new (ticket)"
        " WHERE NOT EXISTS (SELECT FROM position WHERE position.server_id = :server_id AND position.ticket = new.ticket))"
    )
)
_DELETE_DONE = f"DELETE FROM position WHERE server_id = :server_id AND ticket = ANY(ARRAY({_DONE})) RETURNING ticket"  # noqa: S608  ours
_DELETE_CLOSED = text(_DELETE_DONE.format(tickets="CAST(:tickets AS bigint[])"))


def _columns(records: Sequence[object], names: Sequence[str]) -> dict[str, list[Any]]:
    """The named attributes (two at least) of records, each as one list."""
    return dict(zip(names, map(list, zip(*map(attrgetter(*names), records), strict=True)), strict=True))


def _account_of(owners: Owners, login: int) -> int | None:
    return owners[login][0] if login in owners else None
