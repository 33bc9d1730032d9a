"""A sign of life of a long-running process, kept in Redis for the health page."""

from __future__ import annotations

import time

from redis import Redis

STALE_AFTER_S = 15.0


def beat(redis: Redis, name: str) -> None:
    """Say that the process `name` is alive. Cheap: call it once a second or so."""
    redis.set(f"heartbeat:{name}", f"{time.time():.3f}", ex=60)


def age_s(redis: Redis, name: str, moment_s: float) -> float | None:
    """Seconds since the last beat, or None when there was none lately."""
    value = redis.get(f"heartbeat:{name}")
    return moment_s - float(value) if isinstance(value, bytes) else None
