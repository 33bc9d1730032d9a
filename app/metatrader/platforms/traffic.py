"""What stands before every exchange with a trading server, so that we neither flood it nor wait for it where others work.

- a rate: so many requests a second to one server from all processes together, commands and reads counted apart;
- places: of the processes that serve many servers, only so many may be in an exchange with this one at a time. While an
  exchange takes long the others are sent away at once; a command that waits goes before reads;
- the breaker: a server that does not answer is left alone for a while.

All three are shared through Redis; without it the rate holds for this process alone and the others do not apply.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis import Redis
from redis.exceptions import RedisError

from app.metatrader.errors import ServerBusy, Unreachable
from app.metatrader.platforms.breaker import Breaker, Verdict

log = logging.getLogger("lotwise.platforms")

Lane = Literal["command", "read"]
#: What an error says about the server: how it failed to answer, "" when it did answer, None when the error says nothing.
Silence = Callable[[BaseException], str | None]

#: The longest wait for our own rate, and for a place.
RATE_PATIENCE_S, RATE_POLL_S = 10.0, 0.05
PLACE_PATIENCE_S, PLACE_POLL_S = 3.0, 0.02

#: A place is a member whose score is when its exchange began. 1: it is yours; 0: not now; -1: an exchange takes long.
_ENTER = """
local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)
local limit, lease, patience, is_command = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == 'command'
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - lease)
if redis.call('ZCARD', KEYS[1]) < limit and (is_command or redis.call('EXISTS', KEYS[2]) == 0) then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], lease)
  if is_command then redis.call('DEL', KEYS[2]) end
  return 1
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if oldest[2] and tonumber(oldest[2]) < now - patience then return -1 end
if is_command then redis.call('SET', KEYS[2], '1', 'PX', 500) end
return 0
"""


@dataclass(frozen=True)
class Limits:
    """How much we ask of one server: `mt_server.options` may say so, within bounds; what it does not say is as here."""

    sessions: Mapping[Lane, int]
    requests_per_second: int = 10
    timeout_s: int = 30
    failures: int = 3
    open_s: int = 15

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Limits:
        """From `sessions` {command, read}, `requests_per_second` (of a session), `timeout_s`, `breaker` {failures, open_s}."""
        sessions, breaker = _group(options, "sessions"), _group(options, "breaker")
        return cls(
            sessions={"command": _whole(sessions, "command", 2, 1, 16), "read": _whole(sessions, "read", 2, 1, 16)},
            requests_per_second=_whole(options, "requests_per_second", 10, 1, 1000),
            timeout_s=_whole(options, "timeout_s", 30, 1, 120),
            failures=_whole(breaker, "failures", 3, 1, 100),
            open_s=_whole(breaker, "open_s", 15, 1, 600),
        )


class Traffic:
    """The gate to one server."""

    def __init__(
        self, code: str, limits: Limits, *, redis: Redis | None = None, places: int | None = None, lease_s: float = 60.0
    ) -> None:
        """`places` for processes that must stay free for other servers; a place is free again after `lease_s` at the latest."""
        self._code = code
        self._limits = limits
        self._redis: Any = redis
        self._places = places
        self._lease_ms = int(lease_s * 1000)
        storage = MemoryStorage() if redis is None else RedisStorage("redis://", connection_pool=redis.connection_pool)
        self._rate = MovingWindowRateLimiter(storage)
        self._breaker = redis and Breaker(redis, code, failures=limits.failures, open_s=limits.open_s, probe_s=lease_s)

    @contextmanager
    def exchange(self, lane: Lane, probe: Callable[[], None], silence: Silence) -> Iterator[None]:
        """The time of one exchange. Raises Unreachable or ServerBusy when it may not begin: then nothing was sent.

        `probe` tries the server harmlessly, for a server that did not answer for a while; `silence` judges what ended the
        exchange.
        """
        verdict = self._breaker.ask() if self._breaker else Verdict.GO
        if verdict is Verdict.SHUT:
            raise Unreachable(detail="it did not answer lately; left alone for a while")
        self._wait_for_turn(lane)
        with self._place(lane):
            if verdict is Verdict.PROBE:
                with self._watched(silence):
                    probe()
            with self._watched(silence):
                yield

    @contextmanager
    def _watched(self, silence: Silence) -> Iterator[None]:
        """Tell the breaker how it ended."""
        if not self._breaker:
            yield
            return
        try:
            yield
        except BaseException as error:
            how = silence(error)
            if how:
                self._breaker.failed(how)
            elif how is not None:
                self._breaker.answered()
            raise
        self._breaker.answered()

    def _wait_for_turn(self, lane: Lane) -> None:
        per_second = self._limits.requests_per_second * self._limits.sessions[lane]
        item = RateLimitItemPerSecond(per_second)
        give_up_at = time.monotonic() + RATE_PATIENCE_S
        try:
            while not self._rate.hit(item, "platform", self._code, lane):
                if time.monotonic() > give_up_at:
                    raise ServerBusy(detail=f"more than {per_second} requests a second wait to go out")
                time.sleep(RATE_POLL_S)
        except RedisError as error:
            log.warning("rate cannot be counted server=%s error=%s", self._code, type(error).__name__)

    @contextmanager
    def _place(self, lane: Lane) -> Iterator[None]:
        if self._redis is None or not self._places:
            yield
            return
        token, key = secrets.token_hex(8), f"platform:{self._code}:places"
        give_up_at = time.monotonic() + PLACE_PATIENCE_S
        while (answer := self._enter(key, token, lane)) != 1:
            if answer < 0 or time.monotonic() > give_up_at:
                raise Unreachable(detail="it is slow to answer others; not waiting for it")
            time.sleep(PLACE_POLL_S)
        try:
            yield
        finally:
            try:
                self._redis.zrem(key, token)
            except RedisError as error:
                log.warning("place not given back server=%s error=%s", self._code, type(error).__name__)

    def _enter(self, key: str, token: str, lane: Lane) -> int:
        patience_ms = int(PLACE_PATIENCE_S * 1000)
        try:
            arguments = (token, self._places, self._lease_ms, patience_ms, lane)
            return int(self._redis.eval(_ENTER, 2, key, key + ":command", *arguments))
        except RedisError as error:
            log.warning("places cannot be counted server=%s error=%s", self._code, type(error).__name__)
            return 1


def _group(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = options.get(name, {})
    return value if isinstance(value, Mapping) else {}


def _whole(options: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number within bounds; for anything else the default, and a line in the log: a slip must not stop a server."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        log.warning("option ignored name=%s value=%r", name, value)
        return default
    return value
