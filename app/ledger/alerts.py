"""Alerts: what people must look at until its cause is gone. One is open at a time for a code and subject.

An alert that was acknowledged stays open, quietly, while nothing changes; when it changes it asks for attention again.
Callers hold the unit of work of what they found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger.errors import AlertClosed
from app.models.controls import Alert


def raise_alert(unit: UnitOfWork, code: str, subject: str, data: dict[str, Any]) -> None:
    """Open the alert, or say of the open one that it was found again, with what."""
    new = insert(Alert).values(code=code, subject=subject, data=data)
    same = Alert.data == new.excluded.data
    unit.session.execute(
        new.on_conflict_do_update(
            index_elements=[Alert.code, Alert.subject],
            index_where=Alert.closed_at.is_(None),
            set_={
                "data": new.excluded.data,
                "seen_at": func.now(),
                "acknowledged_by": case((same, Alert.acknowledged_by)),
                "acknowledged_at": case((same, Alert.acknowledged_at)),
            },
        )
    )


def close_others(unit: UnitOfWork, code: str, still_open: Collection[str]) -> None:
    """Close the open alerts of a code whose subject is not among these: their cause is gone."""
    unit.session.execute(
        update(Alert)
        .where(Alert.code == code, Alert.closed_at.is_(None), Alert.subject.not_in(still_open))
        .values(closed_at=func.now())
        .execution_options(synchronize_session=False)
    )


def open_alerts(session: Session, *, code: str | None = None, unacknowledged: bool = False) -> Sequence[Alert]:
    """The open alerts, the oldest first; on request only those of a code, and those that nobody has acknowledged."""
    query = select(Alert).where(Alert.closed_at.is_(None)).order_by(Alert.id)
    if code is not None:
        query = query.where(Alert.code == code)
    return session.scalars(query.where(Alert.acknowledged_at.is_(None)) if unacknowledged else query).all()


def acknowledge(session: Session, alert_id: int, actor: Actor) -> None:
    """Say that somebody looks after it. A second time changes nothing. Raises NotFound, and AlertClosed for what is over."""
    with unit_of_work(session, actor) as unit:
        alert = session.get(Alert, alert_id, with_for_update=True)
        if alert is None:
            raise NotFound()
        if alert.closed_at is not None:
            raise AlertClosed()
        if alert.acknowledged_at is not None:
            return
        alert.acknowledged_by, alert.acknowledged_at = str(actor), now()
        unit.audit("alert.acknowledge", f"alert:{alert.id}", after={"code": alert.code, "subject": alert.subject})
        unit.emit("alert.acknowledged", subject_id=alert.id, code=alert.code, about=alert.subject)
