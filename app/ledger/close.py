"""Closing: accounts that are empty, periods that are over."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.ledger.chart import AccountSpec
from app.ledger.errors import typed_errors
from app.ledger.posting import check_moment


def close_account(session: Session, account: AccountSpec | str) -> None:
    """Refuse all later postings and holds on an account. Raises AccountNotEmpty, UnknownAccount."""
    with typed_errors():
        session.execute(text("SELECT ledger.close_account(:code)"), {"code": str(account)})


def close_period(session: Session, through: datetime, *, actor: Actor) -> None:
    """Refuse all later postings that are effective before `through`. Raises PeriodNotOver for a moment to come.

    Waits for the postings under way, and holds up new ones until the unit of work ends.
    """
    with typed_errors():
        session.execute(
            text("SELECT ledger.close_period(:through, :actor)"), {"through": check_moment(through), "actor": str(actor)}
        )


def hold_up_postings(session: Session) -> None:
    """Let nobody post until the unit of work ends. To be called before the first posting of a unit that closes a period."""
    session.execute(text("SELECT ledger.hold_up_postings()"))
