"""How one command to an MT4 bridge goes out and what may follow: reads may be repeated, a change is sent once.

A change carries an id of its own. Where its answer does not come, the bridge is asked what became of that id; what the bridge
has not seen until then it will never carry out. So a broken connection rarely leaves anything open. A change that its caller
may send again after looking for its trace (money) has an id made of the caller's token: what is still under way at the bridge
is then not begun a second time, and what was done is not done again.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from redis import Redis

from app.metatrader.errors import (
    AccessDenied,
    BadAnswer,
    BusinessError,
    NotSent,
    PlatformError,
    ServerBusy,
    UnknownOutcome,
    Unreachable,
)
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms import mt4_retcodes
from app.metatrader.platforms.answers import is_broken, silence
from app.metatrader.platforms.pool import Pool, trust
from app.metatrader.platforms.traffic import Lane, Limits, Traffic

log = logging.getLogger("lotwise.mt4_bridge")

TIMEOUTS = httpx.Timeout(connect=5.0, read=30.0, write=10.0, pool=5.0)
#: A connection that was silent for so long is opened anew: something in between may have forgotten it.
STALE_AFTER_S = 60.0
#: A bridge that works answers these at once, without asking MT4.
PROBE_TIMEOUT_S = OUTCOME_TIMEOUT_S = 5.0
#: How often a bridge is asked what became of a change, and the pause in between.
OUTCOME_ASKS, OUTCOME_PAUSE_S = 2, 1.0

#: Ids that may be made of one token: each is used up by a sending of which nothing is known, or that came too late.
IDS_OF_TOKEN = 50

#: With these nothing was done, or the answer tells the outcome (409).
_REFUSED_UNREAD = frozenset({400, 401, 403, 404, 409})
#: The request never left us.
_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Reply:
    """An answer of the bridge: its HTTP status, and the JSON object, with numbers as text, where there is one."""

    status: int
    body: Mapping[str, Any] | None

    @property
    def code(self) -> int | None:
        """MT4's return code, where the answer has one."""
        text = self.body.get("code") if self.body else None
        return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10 else None

    @property
    def is_clear(self) -> bool:
        """Whether it surely is the bridge's own word on a change, or came from before anything could have been done."""
        if self.status == httpx.codes.SERVICE_UNAVAILABLE:
            return self.code in mt4_retcodes.LATER
        return self.status in _REFUSED_UNREAD or (self.status == httpx.codes.OK and self.code is not None)

    @property
    def is_repeated(self) -> bool:
        """Whether the bridge knew the id from an earlier sending."""
        return self.body is not None and self.body.get("repeated") == "1"

    @property
    def outcome(self) -> str:
        return str(self.body.get("outcome", "")) if self.body else ""


class _UsedUp(NotSent):
    """An id under which nothing more will happen: the bridge was asked about it before it came, or has lost its trace."""


class Connection:
    """One kept-alive TLS connection. Not thread-safe: whoever took it from the pool has it alone. Repeats nothing."""

    def __init__(self, access: ServerAccess, authority: ssl.SSLContext, timeouts: httpx.Timeout) -> None:
        self._timeouts = timeouts
        self._client = httpx.Client(
            base_url=access.url.rstrip("/") + "/v1/",
            headers={"Authorization": f"Bearer {access.password}"},
            verify=authority,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=STALE_AFTER_S),
            timeout=timeouts,
            trust_env=False,
        )
        self._used_at = time.monotonic()

    def ask(self, command: str, body: Mapping[str, str], *, request_id: str = "", read_s: float | None = None) -> Reply:
        """Send one command. `read_s`: another patience than usual. Raises httpx.TransportError when the connection fails."""
        usual = self._timeouts
        read = usual.read if read_s is None else read_s
        timeout = httpx.Timeout(connect=usual.connect, read=read, write=usual.write, pool=usual.pool)
        headers = {"X-Request-Id": request_id} if request_id else {}
        try:
            response = self._client.post(command, json=dict(body), headers=headers, timeout=timeout)
        except httpx.DecodingError as error:  # half of something packed, which says as little as half of a line
            raise httpx.RemoteProtocolError(str(error)) from error
        self._used_at = time.monotonic()
        return Reply(response.status_code, _object(response.content))

    def is_fresh(self) -> bool:
        return time.monotonic() - self._used_at < STALE_AFTER_S

    def quit(self) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()


class _Connections(Pool[Connection]):
    def __init__(self, access: ServerAccess, size: int, timeouts: httpx.Timeout) -> None:
        super().__init__(size)
        self._access = access
        self._timeouts = timeouts

    def open(self) -> Connection:
        return Connection(self._access, trust(self._access), self._timeouts)


class Exchanges:
    """The exchanges with one bridge. Thread-safe."""

    def __init__(
        self, access: ServerAccess, *, redis: Redis | None, places: int | None, timeouts: httpx.Timeout | None
    ) -> None:
        limits = Limits.of(access.options)
        usual = httpx.Timeout(connect=TIMEOUTS.connect, read=limits.timeout_s, write=TIMEOUTS.write, pool=TIMEOUTS.pool)
        timeouts = timeouts or usual
        self._access = access
        self._pools = {lane: _Connections(access, size, timeouts) for lane, size in limits.sessions.items()}
        connect_s = timeouts.connect or 0
        lease_s = connect_s + (timeouts.read or 0) + OUTCOME_ASKS * (connect_s + OUTCOME_TIMEOUT_S + OUTCOME_PAUSE_S)
        self._traffic = Traffic(access.code, limits, redis=redis, places=places, lease_s=lease_s + PROBE_TIMEOUT_S)

    def close(self) -> None:
        """Close every idle connection."""
        for pool in self._pools.values():
            pool.close()

    def read(self, command: str, body: Mapping[str, str]) -> Mapping[str, Any]:
        """A command that changes nothing: after a broken connection it is tried once more on a fresh one."""
        try:
            reply = self._read_once(command, body, fresh=False)
        except Unreachable as error:
            if not is_broken(error):
                raise
            log.info("read again server=%s command=%s after=%s", self._access.code, command, type(error.__cause__).__name__)
            reply = self._read_once(command, body, fresh=True)
        return _answer(command, reply, mutation=False)

    def change(self, command: str, body: Mapping[str, str], *, login: int, token: str = "") -> Mapping[str, Any]:
        """A command that changes something: sent once, whatever happens.

        NotSent when it certainly had no effect and will have none; UnknownOutcome when it went out, and neither an answer
        came back nor a word about what became of it. With a `token` of the caller's, the same change under it is carried out
        again only after its earlier sendings have ended with no trace that the bridge knows of.
        """
        if not token:
            return self._change(command, body, uuid.uuid4().hex, login)
        for number in range(1, IDS_OF_TOKEN + 1):
            try:
                return self._change(command, body, f"{token}-{number}", login)
            except _UsedUp:
                continue
        raise UnknownOutcome(detail=f"{command}: {IDS_OF_TOKEN} sendings have ended without a trace")

    def _change(self, command: str, body: Mapping[str, str], request_id: str, login: int) -> Mapping[str, Any]:
        started = time.monotonic()
        said = "?"
        try:
            answer = _answer(command, self._sent(command, body, request_id), mutation=True)
            said = "OK"
            return answer
        except PlatformError as error:
            said = f"{type(error).__name__}: {error.detail}"
            raise
        finally:
            log.info(
                "command server=%s command=%s login=%s id=%s outcome=%s ms=%d",
                self._access.code,
                command,
                login,
                request_id,
                said,
                (time.monotonic() - started) * 1000,
            )

    def _sent(self, command: str, body: Mapping[str, str], request_id: str) -> Reply:
        """The clear reply to a change that was sent once; where none came, the one that the bridge wrote down for it."""
        try:
            with self._connection("command") as connection:
                try:
                    reply = connection.ask(command, body, request_id=request_id)
                except _NEVER_LEFT:
                    raise
                except httpx.TransportError as error:
                    return self._written_down(command, request_id, error)
                if reply.is_clear:
                    return reply
                return self._written_down(command, request_id, BadAnswer(detail=f"status {reply.status}, not understood"))
        except httpx.TransportError as error:
            raise NotSent(detail=f"{command}: {type(error).__name__}") from error
        except NotSent:
            raise
        except Unreachable as error:
            raise NotSent(retcode=error.retcode, detail=error.detail) from error

    def _written_down(self, command: str, request_id: str, lost: Exception) -> Reply:
        """The reply to a change of which none came. Raises NotSent where the bridge has not seen it, and never will."""
        pool = self._pools["command"]
        for turn in range(OUTCOME_ASKS):
            if turn:
                time.sleep(OUTCOME_PAUSE_S)
            try:
                with closing(pool.open()) as fresh:
                    told = fresh.ask("outcome", {"id": request_id}, read_s=OUTCOME_TIMEOUT_S)
            except (httpx.TransportError, Unreachable) as error:
                log.info("outcome not told server=%s id=%s error=%s", self._access.code, request_id, type(error).__name__)
                continue
            log.info("outcome told server=%s id=%s outcome=%.20s", self._access.code, request_id, told.outcome or told.status)
            if told.status != httpx.codes.OK or told.outcome == "running":
                continue
            if told.outcome == "never":
                raise NotSent(detail=f"{command}: it did not arrive, {type(lost).__name__}")
            reply = _recorded(told)
            if told.outcome in ("done", "refused") and reply.is_clear:
                return reply
            raise UnknownOutcome(detail=f"{command}: the bridge does not know how it ended")
        raise UnknownOutcome(detail=f"{command}: {type(lost).__name__}") from lost

    def _read_once(self, command: str, body: Mapping[str, str], *, fresh: bool) -> Reply:
        try:
            with self._connection("read", fresh=fresh) as connection:
                return connection.ask(command, body)
        except httpx.TransportError as error:
            raise Unreachable(detail=f"{command}: {type(error).__name__}") from error

    @contextmanager
    def _connection(self, lane: Lane, *, fresh: bool = False) -> Iterator[Connection]:
        """A connection for one exchange, when the bridge may be asked. Raises Unreachable or ServerBusy."""
        pool = self._pools[lane]

        def probe() -> None:
            with pool.session(fresh=True) as anew:
                anew.ask("time", {}, read_s=PROBE_TIMEOUT_S)

        with self._traffic.exchange(lane, probe, silence), pool.session(fresh=fresh) as connection:
            yield connection


def _answer(command: str, reply: Reply, *, mutation: bool) -> Mapping[str, Any]:
    """The JSON object of a reply, when the command went well. Of a change the reply must be clear."""
    code, detail = reply.code, f"{command}: status {reply.status}"
    if code is not None:
        detail = f"{command}: {mt4_retcodes.name(code)}"
    if reply.body is not None and code in mt4_retcodes.SUCCESS and reply.status == httpx.codes.OK:
        return reply.body
    if code is not None and reply.status == httpx.codes.OK:
        raise mt4_retcodes.error_of(code, mutation=mutation, detail=detail)
    match reply.status:
        case httpx.codes.BAD_REQUEST:
            raise BusinessError(mt4_retcodes.INVALID_DATA, detail)
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN | httpx.codes.NOT_FOUND:
            raise AccessDenied(retcode=code, detail=detail)
        case httpx.codes.CONFLICT if reply.outcome == "never" or (reply.outcome == "unknown" and reply.is_repeated):
            raise _UsedUp(detail=f"{command}: this id is used up, {reply.outcome}")
        case httpx.codes.CONFLICT if mutation:
            raise UnknownOutcome(retcode=code, detail=f"{detail}, the bridge does not know how it ended")
        case httpx.codes.SERVICE_UNAVAILABLE if code == mt4_retcodes.NO_CONNECTION:
            raise (NotSent if mutation else Unreachable)(retcode=code, detail=detail)
        case httpx.codes.SERVICE_UNAVAILABLE | httpx.codes.TOO_MANY_REQUESTS:
            raise ServerBusy(retcode=code, detail=detail)
    raise BadAnswer(detail=detail)


def _recorded(told: Reply) -> Reply:
    """The reply that an answer about an outcome carries; one that only says "busy" with the status that it had."""
    answer = told.body.get("answer") if told.body else None
    reply = Reply(httpx.codes.OK, answer if isinstance(answer, dict) else None)
    has_waited = told.outcome == "refused" and reply.code in mt4_retcodes.BUSY
    return Reply(httpx.codes.SERVICE_UNAVAILABLE, reply.body) if has_waited else reply


def _object(content: bytes) -> Mapping[str, Any] | None:
    """The JSON object that an answer is, numbers as text; None for anything else."""
    try:
        found = json.loads(content, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
