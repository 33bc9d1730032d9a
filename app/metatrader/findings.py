"""Differences between a server and us as rows of mt_break: one open row for each, for as long as it is found.

What staff explained stays explained while it does not change. What is not found any more is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from app.core.arrays import in_parts
from app.core.uow import UnitOfWork
from app.models.metatrader import TradingAccount
from app.models.trading_desk import ServerBreak

ROWS_PER_STATEMENT = 1_000


@dataclass(frozen=True)
class Finding:
    """A difference: its kind, the ticket or login, and both sides in words. `difference`: what stays the same while both
    sides move, such as the amount by which two balances differ.
    """

    kind: str
    subject: str
    login: int | None = None
    here: str = ""
    there: str = ""
    cause: str = ""
    difference: str = ""


def record(unit: UnitOfWork, server_id: int, findings: Sequence[Finding]) -> None:
    """Open a break for each, or say of the open one that it was found again, and how both sides are now."""
    session = unit.session
    for part in in_parts(findings, ROWS_PER_STATEMENT):
        accounts = _accounts(session, server_id, {one.login for one in part if one.login is not None})
        explained = _explained(session, server_id, part)
        rows = [
            {
                "server_id": server_id,
                "kind": one.kind,
                "subject": one.subject,
                "login": one.login,
                "trading_account_id": accounts.get(one.login or 0),
                "here": one.here,
                "there": one.there,
                "cause": one.cause,
                "repair": {"difference": one.difference} if one.difference else {},
            }
            for one in part
            if (one.kind, one.subject, _picture(one.here, one.there, one.difference)) not in explained
        ]
        if not rows:
            continue
        new = insert(ServerBreak)
        session.execute(
            new.on_conflict_do_update(
                index_elements=["server_id", "kind", "subject"],
                index_where=ServerBreak.closed_at.is_(None),
                set_={
                    **{name: new.excluded[name] for name in ("here", "there", "cause", "trading_account_id")},
                    "seen_at": func.now(),
                    "repair": ServerBreak.repair.op("||")(new.excluded.repair),
                },
            ),
            rows,
        )


def close_gone(unit: UnitOfWork, server_id: int, kinds: Collection[str], found: Collection[tuple[str, str]]) -> None:
    """Close the open breaks of these kinds that are not among what was found (kind, subject)."""
    breaks = select(ServerBreak.id, ServerBreak.kind, ServerBreak.subject).where(
        ServerBreak.server_id == server_id, ServerBreak.closed_at.is_(None), ServerBreak.kind.in_(kinds)
    )
    still = set(found)
    gone = [row.id for row in unit.session.execute(breaks) if (row.kind, row.subject) not in still]
    close(unit, gone)


def close(unit: UnitOfWork, ids: Collection[int]) -> None:
    """These open breaks are gone by themselves."""
    if ids:
        unit.session.execute(
            update(ServerBreak)
            .where(ServerBreak.id.in_(ids), ServerBreak.closed_at.is_(None))
            .values(state="gone", closed_at=func.now(), closed_by=str(unit.actor))
            .execution_options(synchronize_session=False)
        )


def count_open(session: Session, server_id: int) -> int:
    statement = select(func.count()).where(ServerBreak.server_id == server_id, ServerBreak.closed_at.is_(None))
    return session.scalar(statement.select_from(ServerBreak)) or 0


def left_to_people(session: Session, server_id: int) -> set[int]:
    """Real logins whose deals the server wiped: until somebody has looked, none of their deals is void by itself."""
    wiped = select(ServerBreak.login).where(
        ServerBreak.server_id == server_id, ServerBreak.kind == "login_cleaned", ServerBreak.state == "open"
    )
    return {login for login in session.scalars(wiped) if login is not None}


def _picture(here: str, there: str, difference: str) -> str:
    """What must stay the same for an explanation to hold."""
    return difference or f"{here}\n{there}"


def _explained(session: Session, server_id: int, findings: Sequence[Finding]) -> set[tuple[str, str, str]]:
    """Of what is found now: that which was explained the last time it was closed, as it was then."""
    wanted = [(one.kind, one.subject) for one in findings]
    rows = session.execute(
        select(
            ServerBreak.kind, ServerBreak.subject, ServerBreak.state, ServerBreak.here, ServerBreak.there, ServerBreak.repair
        )
        .where(
            ServerBreak.server_id == server_id,
            ServerBreak.closed_at.is_not(None),
            tuple_(ServerBreak.kind, ServerBreak.subject).in_(wanted),
        )
        .ext(distinct_on(ServerBreak.kind, ServerBreak.subject))
        .order_by(ServerBreak.kind, ServerBreak.subject, ServerBreak.closed_at.desc(), ServerBreak.id.desc())
    )
    return {
        (row.kind, row.subject, _picture(row.here, row.there, row.repair.get("difference", "")))
        for row in rows
        if row.state == "explained"
    }


def _accounts(session: Session, server_id: int, logins: Collection[int]) -> dict[int, int]:
    rows = session.execute(
        select(TradingAccount.login, TradingAccount.id).where(
            TradingAccount.server_id == server_id, TradingAccount.login.in_(logins)
        )
    )
    return {row.login: row.id for row in rows if row.login is not None}
