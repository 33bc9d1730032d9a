"""The unit of work: the only place in the product that commits.

Business code opens one, changes rows, says what happened (`emit`) and who changed what (`audit`); at the end all of it
commits together or not at all. A unit opened inside another on the same session joins it.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import ORMExecuteState, Session

from app.core.actor import Actor
from app.core.copying import NULL, copy, escaped
from app.core.errors import typed
from app.core.tables import AuditEntry, Event

log = logging.getLogger("lotwise.uow")

_KEY = "unit_of_work"

#: What PostgreSQL ends when two transactions wait for each other, or could not both have happened: nothing of it was kept.
_LOST_OUT = ("40P01", "40001")
#: What it says to whoever goes on in such a transaction.
_LOST_BEFORE = "25P02"
ATTEMPTS = 5

T = TypeVar("T")


@event.listens_for(Session, "do_orm_execute")
def read_locked_rows_anew(state: ORMExecuteState) -> None:
    """A row that is read FOR UPDATE is judged as it stands once it is locked.

    SQLAlchemy hands back what it loaded earlier in the transaction, such as by the page's guard, before others changed it.
    """
    if state.is_select and getattr(state.statement, "_for_update_arg", None) is not None:
        state.update_execution_options(populate_existing=True)


class UnitOfWork:
    """What business code may do beside changing rows: tell facts and leave an audit trail."""

    def __init__(self, session: Session, actor: Actor) -> None:
        self.session = session
        self.actor = actor

    def emit(self, type_: str, *, subject_id: int | None = None, client_id: int | None = None, **payload: Any) -> None:
        """Write one business fact. `payload` holds JSON values only: ids, texts, integers; amounts as minor units."""
        self.session.add(Event(type=type_, subject_id=subject_id, client_id=client_id, actor=str(self.actor), payload=payload))

    def emit_many(self, type_: str, facts: Iterable[tuple[int, int | None, dict[str, Any]]]) -> None:
        """Write facts of one type at once: the id of the subject, whose timeline shows it, and the payload of each."""
        actor = escaped(str(self.actor))
        lines = (
            f"{type_}\t{subject_id}\t{NULL if client_id is None else client_id}\t{actor}\t{escaped(json.dumps(payload))}\n"
            for subject_id, client_id, payload in facts
        )
        copy(self.session, "event", ("type", "subject_id", "client_id", "actor", "payload"), lines)

    def audit(
        self,
        action: str,
        target: str,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Write one entry of the audit trail; `target` is "table:id"."""
        self.session.add(
            AuditEntry(
                actor=str(self.actor),
                address=self.actor.address,
                action=action,
                target=target,
                before=before,
                after=after,
                reason=reason,
            )
        )


@contextmanager
def unit_of_work(session: Session, actor: Actor) -> Iterator[UnitOfWork]:
    """Commit when the block ends, roll back when it raises. Database errors that stand for a typed error become it."""
    outer = session.info.get(_KEY)
    if outer is not None:
        yield outer
        return
    unit = UnitOfWork(session, actor)
    session.info[_KEY] = unit
    try:
        yield unit
        session.commit()
    except DBAPIError as error:
        session.rollback()
        meant = typed(error)
        if meant is None:
            raise
        raise meant from error
    except BaseException:
        session.rollback()
        raise
    finally:
        session.info.pop(_KEY, None)


def retried(work: Callable[[], T]) -> T:
    """Run work that opens its own unit of work, again when the database ended it in favour of another one.

    The order in which accounts are locked leaves few deadlocks; a unit with several postings can still meet one. `work` is
    run from its beginning, up to ATTEMPTS times; what is wrong with the request itself is not tried again. Where the work
    joins an outer unit, the error leaves as it is: all of the outer unit is lost, and only its owner can run it again.
    """
    lost: DBAPIError | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except (DBAPIError, PendingRollbackError) as error:
            state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else _LOST_BEFORE
            if lost is not None and state == _LOST_BEFORE:
                raise lost from None
            if not isinstance(error, DBAPIError) or state not in _LOST_OUT or attempt == ATTEMPTS:
                raise
            lost = error
            log.info("unit of work is run again sqlstate=%s attempt=%s", state, attempt)
            time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  two that met must not meet again at once
    raise AssertionError("the last attempt returns or raises")
