"""Waiting until a session waits for the lock of another."""

from __future__ import annotations

import time

from sqlalchemy import text


def until_somebody_waits(database) -> None:
    """Returns as soon as any session waits for a lock; fails after 20 seconds."""
    deadline = time.monotonic() + 20
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    while time.monotonic() < deadline:
        with database.session() as session:
            if session.scalar(waiting):
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits for the lock")
