"""How one command of the MT5 Web API goes out and what may follow: reads may be repeated, a change is sent once.

Some commands change state through GET; therefore nothing here goes by the HTTP method.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from redis import Redis

from app.metatrader.errors import BadAnswer, NotSent, ServerBusy, UnknownOutcome, Unreachable
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms import mt5_retcodes
from app.metatrader.platforms.answers import is_broken, silence
from app.metatrader.platforms.mt5_pool import KeepAlive, SessionPool
from app.metatrader.platforms.mt5_records import retcode_of
from app.metatrader.platforms.mt5_session import HANDSHAKE_TIMEOUT_S, PING_TIMEOUT_S, TIMEOUTS, Session, SessionLost
from app.metatrader.platforms.traffic import Lane, Limits, Traffic

log = logging.getLogger("lotwise.mt5_web")


class Exchanges:
    """The exchanges with one server. Thread-safe."""

    def __init__(
        self, access: ServerAccess, *, redis: Redis | None, places: int | None, timeouts: httpx.Timeout | None
    ) -> None:
        limits = Limits.of(access.options)
        usual = httpx.Timeout(connect=TIMEOUTS.connect, read=limits.timeout_s, write=TIMEOUTS.write, pool=TIMEOUTS.pool)
        timeouts = timeouts or usual
        self._access = access
        self._pools = {lane: SessionPool(access, size, timeouts) for lane, size in limits.sessions.items()}
        self._keep_alive = KeepAlive(list(self._pools.values()))
        lease_s = 2 * HANDSHAKE_TIMEOUT_S + 2 * (timeouts.connect or 0) + (timeouts.read or 0)
        self._traffic = Traffic(access.code, limits, redis=redis, places=places, lease_s=lease_s)

    def close(self) -> None:
        """Sign out of every idle session and end the keep-alive thread."""
        self._keep_alive.stop()
        for pool in self._pools.values():
            pool.close()

    def read(self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A command that changes nothing: after a broken connection it is tried once more on a fresh session."""
        try:
            return self._read_once(command, query, body, fresh=False)
        except (Unreachable, SessionLost) as error:
            if not _may_help_to_repeat(error):
                raise
            log.info("read again server=%s command=%s after=%s", self._access.code, command, type(error).__name__)
        try:
            return self._read_once(command, query, body, fresh=True)
        except SessionLost:
            raise Unreachable(detail=f"{command}: the session is lost again at once") from None

    def change(self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None, *, login: int) -> dict[str, Any]:
        """A command that changes something: sent once, whatever happens.

        NotSent when it certainly had no effect; UnknownOutcome when it went out and no clear answer came back.
        """
        started = time.monotonic()
        sent = False
        outcome = "?"
        try:
            with self._session("command") as session:
                sent = True
                answer = session.request(command, query, body)
                code = retcode_of(answer)
            outcome = mt5_retcodes.name(code)
            if code not in mt5_retcodes.SUCCESS:
                raise mt5_retcodes.error_of(code, mutation=True, detail=f"{command}: {outcome}")
            return answer
        except (SessionLost, httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            outcome = f"not sent: {type(error).__name__}"
            raise NotSent(detail=f"{command}: {type(error).__name__}") from error
        except (httpx.TransportError, BadAnswer) as error:
            outcome = f"{'unknown' if sent else 'not sent'}: {type(error).__name__}"
            raise (UnknownOutcome if sent else NotSent)(detail=f"{command}: {type(error).__name__}") from error
        except Unreachable as error:
            outcome = f"not sent: {error.detail}"
            raise NotSent(retcode=error.retcode, detail=error.detail) from error
        except ServerBusy as error:
            outcome = "busy"
            if sent and error.retcode is None:
                raise UnknownOutcome(detail=f"{command}: refused with an HTTP status, not by the server's own word") from error
            raise
        finally:
            log.info(
                "command server=%s command=%s login=%s outcome=%s ms=%d",
                self._access.code,
                command,
                login,
                outcome,
                (time.monotonic() - started) * 1000,
            )

    def _read_once(
        self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None, *, fresh: bool
    ) -> dict[str, Any]:
        try:
            with self._session("read", fresh=fresh) as session:
                answer = session.request(command, query, body)
                code = retcode_of(answer)
        except httpx.TransportError as error:
            raise Unreachable(detail=f"{command}: {type(error).__name__}") from error
        if code not in mt5_retcodes.SUCCESS:
            raise mt5_retcodes.error_of(code, mutation=False, detail=f"{command}: {mt5_retcodes.name(code)}")
        return answer

    @contextmanager
    def _session(self, lane: Lane, *, fresh: bool = False) -> Iterator[Session]:
        """A session for one exchange, when the server may be asked. Raises Unreachable, ServerBusy, AccessDenied, BadAnswer."""
        self._keep_alive.start()
        pool = self._pools[lane]

        def probe() -> None:
            with pool.session(fresh=True) as anew:
                anew.request("time/server", {}, read_s=PING_TIMEOUT_S)

        with self._traffic.exchange(lane, probe, _silence), pool.session(fresh=fresh) as session:
            yield session


def _may_help_to_repeat(error: Unreachable | SessionLost) -> bool:
    """Whether a fresh session may bring the answer: after a broken connection, a lost session, or a code that is not clear."""
    return is_broken(error) or isinstance(error, SessionLost) or error.retcode is not None


def _silence(error: BaseException) -> str | None:
    """A server that no longer knows a session has answered."""
    return "" if isinstance(error, SessionLost) else silence(error)
