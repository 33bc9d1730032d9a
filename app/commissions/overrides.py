"""What should have stood, where that is not what stood: a version, a plan or an IB that counts from a moment on.

A replay is run with them. Once it is posted they are in force: whatever of that time is judged later (late deals, true-ups,
other replays) is judged by them too, or it would take back what two people agreed. History itself stays as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models.replays import ReplayRun


@dataclass(frozen=True, slots=True)
class Instead:
    """That `value` held for `subject` from `since` on: a plan's version, an IB's plan, or a client's IB (0: nobody)."""

    subject: int
    value: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Overrides:
    """Alternatives for deals done before `until`."""

    until: datetime
    versions: tuple[Instead, ...] = ()
    plans: tuple[Instead, ...] = ()
    clients: tuple[Instead, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON; empty lists are left out."""
        return {
            name: [{"subject": one.subject, "value": one.value, "since": one.since.isoformat()} for one in listed]
            for name in ("versions", "plans", "clients")
            if (listed := getattr(self, name))
        }

    @classmethod
    def of(cls, document: Mapping[str, Any], until: datetime) -> Overrides:
        """The reverse of `document`."""
        listed = {
            name: tuple(
                Instead(one["subject"], one["value"], datetime.fromisoformat(one["since"])) for one in document.get(name, ())
            )
            for name in ("versions", "plans", "clients")
        }
        return cls(until, **listed)


def given_clients(session: Session) -> set[int]:
    """Clients whom posted replays gave to another IB than was written, or to one where nobody was."""
    return {held.subject for one in in_force(session) for held in one.clients}


def in_force(session: Session) -> list[Overrides]:
    """Those of posted replays, the newest first."""
    rows = session.execute(
        select(ReplayRun.overrides, ReplayRun.until)
        .where(ReplayRun.status == "posted", ReplayRun.overrides != {})
        .order_by(ReplayRun.id.desc())
    )
    return [Overrides.of(row.overrides, row.until) for row in rows]
