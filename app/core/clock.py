"""The one place that asks the time: aware UTC, always."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment as an aware datetime in UTC."""
    return datetime.now(UTC)
