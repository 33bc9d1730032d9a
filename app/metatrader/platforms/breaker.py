"""The circuit breaker of a trading server, shared by all processes through Redis.

After several exchanges in a row that got no answer at all the server counts as down: calls fail at once instead of each
waiting for its time-out. After a while one caller, and only one, tries whether it is back. What the server refuses is an
answer like any other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Literal

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger("lotwise.platforms")

State = Literal["closed", "open", "half_open"]


class Verdict(IntEnum):
    """GO: as usual. SHUT: nothing goes out. PROBE: whoever asked is to try whether the server is back, and to tell."""

    GO = 0
    SHUT = 1
    PROBE = 2


@dataclass(frozen=True)
class Health:
    """How a server answers. `state`: closed is well; open lets nothing out; half_open is being tried again.

    `since` is when the state began, `failures` how many exchanges in a row got no answer, `last_error` the last of them.
    """

    state: State = "closed"
    since: datetime | None = None
    failures: int = 0
    last_error: str = ""
    last_error_at: datetime | None = None


_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

_ASK = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'open' then return 0 end
if now < tonumber(redis.call('HGET', KEYS[1], 'retry_at')) then return 1 end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return 2 end
return 1
"""
)

_FAILED = (
    _NOW
    + """
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('HSET', KEYS[1], 'error', ARGV[3], 'error_at', now)
if redis.call('HGET', KEYS[1], 'state') == 'open' then
  redis.call('HSET', KEYS[1], 'retry_at', now + ARGV[2])
  redis.call('DEL', KEYS[2])
elseif failures >= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'state', 'open', 'since', now, 'retry_at', now + ARGV[2])
  return 1
end
return 0
"""
)

_ANSWERED = (
    _NOW
    + """
local was_open = redis.call('HGET', KEYS[1], 'state') == 'open'
if was_open then redis.call('HSET', KEYS[1], 'state', 'closed', 'since', now) end
if redis.call('HGET', KEYS[1], 'failures') then redis.call('HSET', KEYS[1], 'failures', 0) end
redis.call('DEL', KEYS[2])
return was_open and 1 or 0
"""
)


class Breaker:
    """One server's breaker. Without Redis, or while Redis is away, everything goes out."""

    def __init__(self, redis: Redis, code: str, *, failures: int, open_s: float, probe_s: float) -> None:
        """Open after `failures` in a row, for `open_s`; a probe that tells nothing for `probe_s` is given up."""
        self._redis: Any = redis
        self._code = code
        self._keys = [_key(code), _key(code) + ":probe"]
        self._failures, self._open_ms, self._probe_ms = failures, int(open_s * 1000), int(probe_s * 1000)

    def ask(self) -> Verdict:
        """Whether an exchange may begin."""
        return Verdict(self._run(_ASK, self._probe_ms))

    def failed(self, error: str) -> None:
        """An exchange got no answer."""
        if self._run(_FAILED, self._failures, self._open_ms, error[:200]):
            log.error("server does not answer, calls to it fail at once server=%s error=%s", self._code, error[:200])

    def answered(self) -> None:
        """The server answered, whatever it said."""
        if self._run(_ANSWERED):
            log.info("server answers again server=%s", self._code)

    def _run(self, script: str, *arguments: object) -> int:
        try:
            return int(self._redis.eval(script, len(self._keys), *self._keys, *arguments))
        except RedisError as error:
            log.warning("breaker cannot be asked server=%s error=%s", self._code, type(error).__name__)
            return 0


def health(redis: Redis, code: str) -> Health:
    """How the server with this code answers, as all processes saw it. Raises RedisError."""
    client: Any = redis
    raw = {name.decode(): value.decode() for name, value in client.hgetall(_key(code)).items()}
    if not raw:
        return Health()
    state: State = "open" if raw.get("state") == "open" else "closed"
    if state == "open" and client.exists(_key(code) + ":probe"):
        state = "half_open"
    return Health(
        state=state,
        since=_moment(raw.get("since")),
        failures=int(raw.get("failures", 0)),
        last_error=raw.get("error", ""),
        last_error_at=_moment(raw.get("error_at")),
    )


def _key(code: str) -> str:
    return f"platform:{code}:breaker"


def _moment(milliseconds: str | None) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None
