"""Negative balance after a stop-out: where the law protects the client, the house gives back what is missing to zero, once.

A fall is known by its stop-out deal, and stands as a break of kind negative_balance whose subject names that deal: repaired
where the house has given back, open where staff must look. The balance operation has the purpose negative_balance, which the
mirror writes off.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.metatrader import commands, findings, rules
from app.metatrader.codes import DealReason
from app.metatrader.errors import NotKnown
from app.metatrader.findings import Finding
from app.metatrader.platform import AccountState, TradingPlatform, exact_text
from app.models.metatrader import BalanceOperation, Deal, Position, Product, TradingAccount
from app.models.trading_desk import ServerBreak

log = logging.getLogger("lotwise.metatrader")

KIND = "negative_balance"
ACTOR = Actor.system("restore_balances")
#: A server may give back by itself; it is left so much time.
GRACE = timedelta(minutes=1)
#: A fall is the newest stop-out of this time; below zero without one is for people.
LOOK_BACK = timedelta(days=7)


@dataclass(frozen=True)
class Restored:
    """What one round did: operations ordered, falls left to people."""

    ordered: int = 0
    left: int = 0


def restore_balances(session: Session, platform: TradingPlatform, server_id: int) -> Restored:
    """Look after every live account of a server that stands below zero with nothing open. Safe to repeat."""
    ordered, found, below = 0, list[Finding](), set[int]()
    for account_id, login in _below_zero(session, server_id):
        state = _still_below(platform, login)
        if state is None:
            continue
        outcome = _look_after(session, account_id, state)
        if isinstance(outcome, Finding):
            found.append(outcome)
        if outcome is True:
            ordered += 1
        else:  # what is restored just now is over, whatever was missing before
            below.add(login)
    with unit_of_work(session, ACTOR) as unit:
        findings.record(unit, server_id, found)
        findings.close(unit, _over(session, server_id, below, {one.subject for one in found}))
    return Restored(ordered, len(found))


def _below_zero(session: Session, server_id: int) -> list[tuple[int, int]]:
    """(account, login) of live accounts below zero by what we last heard, with no open position and nothing in flight."""
    rows = session.execute(
        select(TradingAccount.id, TradingAccount.login)
        .join(Product, Product.id == TradingAccount.product_id)
        .where(
            TradingAccount.server_id == server_id,
            TradingAccount.balance < 0,
            TradingAccount.status.in_(("active", "disabled")),
            TradingAccount.login.is_not(None),
            Product.is_demo.is_(False),
            ~select(Position.id).where(Position.server_id == server_id, Position.login == TradingAccount.login).exists(),
        )
        .order_by(TradingAccount.id)
    )
    found = [(row.id, row.login) for row in rows]
    session.rollback()
    return found


def _over(session: Session, server_id: int, below: set[int], found: set[str]) -> list[int]:
    """Open breaks of accounts that are not below zero any more, or whose newer fall has a break of its own."""
    rows = session.execute(
        select(ServerBreak.id, ServerBreak.login, ServerBreak.subject).where(
            ServerBreak.server_id == server_id, ServerBreak.kind == KIND, ServerBreak.closed_at.is_(None)
        )
    ).all()
    newer = {int(subject.partition("#")[0]) for subject in found}
    return [row.id for row in rows if row.login not in below or (row.login in newer and row.subject not in found)]


def _still_below(platform: TradingPlatform, login: int) -> AccountState | None:
    """The login as the server has it now, if it is below zero and nothing is open on it."""
    try:
        if platform.positions(login):
            return None
        state = platform.get_account(login)
    except NotKnown:
        return None
    return state if state.balance < 0 else None


def _look_after(session: Session, account_id: int, state: AccountState) -> bool | Finding:
    """Order what is missing to zero, or say why people must look. Whether something was ordered; nothing may be due yet."""
    with unit_of_work(session, ACTOR) as unit:
        account = session.get_one(TradingAccount, account_id, with_for_update=True)
        if _is_in_flight(session, account):
            return False
        fall = _fall(session, account)
        missing = f"{exact_text(state.balance)} {account.currency}"
        if fall is None:
            return Finding(KIND, str(state.login), state.login, there=missing, cause="no_stop_out")
        subject = f"{state.login}#{fall.ticket}"
        if now() - fall.done_at < GRACE:
            return False
        if not rules.protects_negative_balance(session, account.client, fall.done_at.date()):
            return Finding(KIND, subject, state.login, there=missing, cause="not_protected")
        before = _restored(session, account.server_id, subject)
        if before is not None:
            return Finding(KIND, subject, state.login, there=missing, cause=before)
        try:
            amount = Money.parse(-state.balance, account.currency)
        except AppError:
            return Finding(KIND, subject, state.login, there=missing, cause="odd_amount")
        _order(unit, account, fall, subject, amount)
        return True


def _order(unit: UnitOfWork, account: TradingAccount, fall: Deal, subject: str, amount: Money) -> None:
    """Write down the operation and the fall that it is for, together; the account is locked."""
    session = unit.session
    assert account.login is not None
    operation = commands.create_operation(
        unit, server_id=account.server_id, login=account.login, amount=amount, prefix="N", purpose=KIND
    )
    open_one = session.scalars(
        select(ServerBreak).where(
            ServerBreak.server_id == account.server_id,
            ServerBreak.kind == KIND,
            ServerBreak.subject == subject,
            ServerBreak.closed_at.is_(None),
        )
    ).one_or_none()
    row = open_one or ServerBreak(server_id=account.server_id, kind=KIND, subject=subject)
    row.login, row.trading_account_id, row.there = account.login, account.id, str(-amount)
    row.cause, row.state, row.closed_at, row.closed_by = "stop_out", "repaired", now(), str(ACTOR)
    row.repair = {"operation_id": operation.id, "deal_ticket": fall.ticket}
    session.add(row)
    session.flush()
    unit.audit(
        "negative_balance.restore",
        f"trading_account:{account.id}",
        after={"operation_id": operation.id, "amount_minor": amount.amount_minor, "stop_out": fall.ticket},
    )
    unit.emit(
        "account.balance_restored",
        subject_id=account.id,
        client_id=account.client_id,
        operation_id=operation.id,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
    )
    log.info("balance restored account=%s operation=%s", account.id, operation.id)


def _is_in_flight(session: Session, account: TradingAccount) -> bool:
    statement = select(BalanceOperation.id).where(
        BalanceOperation.server_id == account.server_id,
        BalanceOperation.login == account.login,
        BalanceOperation.status.in_(("new", "sending", "unknown")),
    )
    return session.scalars(statement).first() is not None


def _fall(session: Session, account: TradingAccount) -> Deal | None:
    """The newest deal that the server closed by stop-out. None on MT4: only a comment tells it there, and clients may write
    one.
    """
    if account.server.is_mt4:
        return None
    since = now() - LOOK_BACK
    return session.scalars(
        select(Deal)
        .where(
            Deal.trading_account_id == account.id,
            Deal.done_at >= since,
            Deal.filed_at >= since - timedelta(days=1),
            Deal.reason == DealReason.STOP_OUT,
            Deal.is_current,
            Deal.is_void.is_(False),
        )
        .order_by(Deal.done_at.desc(), Deal.ticket.desc())
        .limit(1)
    ).one_or_none()


def _restored(session: Session, server_id: int, subject: str) -> str | None:
    """Why this fall is not restored again: it was, or the server refused it. None when nothing was ordered for it."""
    statement = (
        select(BalanceOperation.status)
        .join(ServerBreak, ServerBreak.repair["operation_id"].as_integer() == BalanceOperation.id)
        .where(ServerBreak.server_id == server_id, ServerBreak.kind == KIND, ServerBreak.subject == subject)
        .order_by(BalanceOperation.id.desc())
        .limit(1)
    )
    status = session.scalar(statement)
    if status is None:
        return None
    return "operation_failed" if status == "failed" else "fell_again"
