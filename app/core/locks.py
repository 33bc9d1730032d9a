"""Named locks for work that talks to the outside and must not be done twice at the same time."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def try_lock(session: Session, name: str) -> bool:
    """Take the named lock until the session's transaction ends; False when somebody has it.

    It dies with its holder. It takes no transaction id, so a holder that waits for the outside and has written nothing
    yet does not keep the relay from reading the events behind it.
    """
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 0)))))
