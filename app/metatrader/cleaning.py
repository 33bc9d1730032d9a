"""Logins whose deals a server wiped, all at once and without telling of each, as servers do when a demo account expires.

Play money: the deals become void here, and what followed from them is taken back as after any deletion. Nobody wipes the deals
of a real account in good order, so that is a break for people to look into.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.uow import UnitOfWork
from app.metatrader import booking, findings, sync
from app.metatrader.balances import Look
from app.metatrader.findings import Finding
from app.metatrader.platform import exact_text
from app.models.metatrader import Deal, Product, TradingAccount

KIND = "login_cleaned"


def follow(unit: UnitOfWork, server_id: int, login: int, group: str, at: datetime) -> None:
    """What a wiped login's deals become that were done until then. `group` tells practice from real where nobody owns it."""
    session = unit.session
    booking.lock_server(session, server_id)
    account = _account(session, server_id, login)
    rows = _standing(session, server_id, login, account, at)
    if account.product.is_demo if account else _is_for_practice(session, server_id, group):
        # Said at that moment and repeated for ever, as all messages: deals that came later are left alone.
        reports = [
            booking.DealReport(sync.stored(row), row.done_at, row.utc_offset_min, is_deleted=True, seen_at=at) for row in rows
        ]
        booking.book_deals(unit, server_id, reports)
    elif account and rows:
        total = sum((row.profit + row.swap + row.commission + row.fee for row in rows), Decimal(0))
        found = Finding(KIND, str(login), login, here=f"{len(rows)}: {exact_text(total)}", cause="wiped")
        findings.record(unit, server_id, [found])


def settle(look: Look, login: int) -> int:
    """Make all of a login's deals what the server has, whatever that voids: a person decided so. Returns how many changed.

    Raises NotKnown where the server does not show the login: then nothing is changed.
    """
    session, asked_at = look.session, now()
    look.witness.get_account(login)
    rows = _standing(session, look.server_id, login, _account(session, look.server_id, login), asked_at)
    since, tickets = min((row.done_at for row in rows), default=asked_at), {row.ticket for row in rows}
    session.rollback()
    there = look.witness.deals(login, since, asked_at)
    changed = sync.book(session, look.server_id, there, look.zone, not_before=since, actor=look.actor, asked_at=asked_at)
    gone = tickets - {deal.ticket for deal in there}
    return changed + (len(sync.void(session, look.server_id, gone, actor=look.actor)) if gone else 0)


def _account(session: Session, server_id: int, login: int) -> TradingAccount | None:
    return session.scalars(
        select(TradingAccount).where(TradingAccount.server_id == server_id, TradingAccount.login == login)
    ).one_or_none()


def _standing(session: Session, server_id: int, login: int, account: TradingAccount | None, until: datetime) -> Sequence[Deal]:
    """The login's deals that stand here, done until a moment. Deals are found by their account: logins have no index."""
    return session.scalars(
        select(Deal).where(
            Deal.trading_account_id == account.id if account else Deal.trading_account_id.is_(None),
            Deal.server_id == server_id,
            Deal.login == login,
            Deal.is_current,
            Deal.is_void.is_(False),
            Deal.filed_at <= until,
            Deal.done_at <= until,
        )
    ).all()


def _is_for_practice(session: Session, server_id: int, group: str) -> bool:
    found = select(Product.id).where(Product.server_id == server_id, Product.group == group, Product.is_demo)
    return session.scalars(found.limit(1)).first() is not None
