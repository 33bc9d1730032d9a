"""Sessions of the MT5 Web API: one signed-in session is one kept-alive TLS connection, and a small pool of them.

The server forgets a session with its connection, so a session never reconnects silently: it is thrown away and a new one
signs in. Nothing in here repeats a request.
"""

from __future__ import annotations

import json
import logging
import queue
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from app.metatrader.errors import AccessDenied, BadAnswer, NotSent, ServerBusy, Unreachable
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms import mt5_auth, mt5_retcodes
from app.metatrader.platforms.mt5_records import retcode_of

log = logging.getLogger("lotwise.mt5_web")

#: The client build we claim; servers send newer fields only to newer clients.
CLIENT_BUILD = "4000"
AGENT = "Lotwise"

TIMEOUTS = httpx.Timeout(connect=5.0, read=30.0, write=10.0, pool=5.0)
#: After this silence a session is tried with a ping before it is used. The server closes after 180 s.
PING_AFTER_S = 20.0
STALE_AFTER_S = 170.0


class SessionLost(Exception):
    """The server no longer knows this session: the request was refused unread."""


class Session:
    """One signed-in connection. Not thread-safe: whoever took it from the pool has it alone."""

    def __init__(self, access: ServerAccess, trust: ssl.SSLContext, timeouts: httpx.Timeout = TIMEOUTS) -> None:
        self._access = access
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=STALE_AFTER_S)
        self._client = httpx.Client(
            base_url=access.url.rstrip("/") + "/api/", verify=trust, limits=limits, timeout=timeouts, trust_env=False
        )
        self._used_at = time.monotonic()

    def sign_in(self) -> None:
        """The challenge-response handshake, both ways: the server has to prove that it knows the password too.

        Raises AccessDenied when either side fails, Unreachable, ServerBusy or BadAnswer.
        """
        login = self._access.manager_login
        start = self._handshake("auth/start", {"version": CLIENT_BUILD, "agent": AGENT, "login": str(login), "type": "manager"})
        try:
            challenge = bytes.fromhex(start["srv_rand"])
        except (KeyError, TypeError, ValueError):
            raise BadAnswer(detail="auth/start without srv_rand") from None
        if len(challenge) != mt5_auth.RANDOM_BYTES:
            raise BadAnswer(detail="auth/start with a srv_rand of another length")
        ours = mt5_auth.new_challenge()
        proof = mt5_auth.answer(self._access.password, challenge)
        finish = self._handshake("auth/answer", {"srv_rand_answer": proof, "cli_rand": ours.hex()})
        if not mt5_auth.is_answer(self._access.password, ours, str(finish.get("cli_rand_answer", ""))):
            raise AccessDenied(retcode=1008, detail="the server could not prove that it knows the password")
        log.info("signed in server=%s manager=%s", self._access.code, login)

    def request(self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Send one command and return its whole answer, numbers as text.

        Raises httpx.TransportError when the connection fails, SessionLost when the server refused unread, AccessDenied for
        a command that our manager may not use, ServerBusy (503), BadAnswer.
        """
        response = self._send(command, query, body)
        if response.status_code == httpx.codes.FORBIDDEN:
            if self._is_alive():
                raise AccessDenied(detail=f"{command}: 403")
            raise SessionLost(command)
        return _answer(command, response)

    def is_fresh(self) -> bool:
        """Whether the session may be used: recently used, or alive when asked. Changes nothing at the server."""
        silence_s = time.monotonic() - self._used_at
        return silence_s < PING_AFTER_S or (silence_s < STALE_AFTER_S and self._is_alive())

    def quit(self) -> None:
        """Sign out, as far as the server still listens, and close the connection."""
        try:
            self._client.get("quit", timeout=2.0)
        except httpx.HTTPError as error:
            log.debug("quit server=%s error=%s", self._access.code, error)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection at once."""
        self._client.close()

    def _is_alive(self) -> bool:
        try:
            return self._send("test/access", {}, None).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _send(self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None) -> httpx.Response:
        if body is None:
            response = self._client.get(command, params=dict(query))
        else:
            response = self._client.post(command, params=dict(query), json=dict(body))
        self._used_at = time.monotonic()
        return response

    def _handshake(self, command: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            response = self._send(command, query, None)
        except httpx.TransportError as error:
            raise Unreachable(detail=f"{command}: {type(error).__name__}") from error
        if response.status_code == httpx.codes.FORBIDDEN:
            raise AccessDenied(detail=f"{command}: 403")
        answer = _answer(command, response)
        code = retcode_of(answer)
        if code not in mt5_retcodes.SUCCESS:
            raise mt5_retcodes.error_of(code, mutation=False, detail=f"{command}: {mt5_retcodes.name(code)}")
        return answer


class SessionPool:
    """At most `size` signed-in sessions, opened when needed; a thread that finds all in use waits for one."""

    def __init__(self, access: ServerAccess, size: int, timeouts: httpx.Timeout = TIMEOUTS) -> None:
        self._access = access
        self._timeouts = timeouts
        self._idle: queue.LifoQueue[Session] = queue.LifoQueue()
        self._places = threading.Semaphore(size)
        self._wait_s = (timeouts.read or 30.0) * 2

    @contextmanager
    def session(self, *, fresh: bool = False) -> Iterator[Session]:
        """A session for one exchange, newly signed in when `fresh`. It goes back to the pool unless the exchange failed.

        Raises NotSent when no session could be had in time, and what `Session.sign_in` raises.
        """
        if not self._places.acquire(timeout=self._wait_s):
            raise NotSent(detail="all sessions are in use")
        try:
            session = (None if fresh else self._take()) or self._open()
            try:
                yield session
            except AccessDenied:
                self._idle.put(session)
                raise
            except BaseException:
                session.close()
                raise
            self._idle.put(session)
        finally:
            self._places.release()

    def close(self) -> None:
        """Sign out and close every idle session."""
        while session := self._pop():
            session.quit()

    def _take(self) -> Session | None:
        while session := self._pop():
            if session.is_fresh():
                return session
            session.close()
        return None

    def _pop(self) -> Session | None:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return None

    def _trust(self) -> ssl.SSLContext:
        """The pinned authority, or the system's where none is pinned. Read anew each time: it may be replaced, or come late."""
        try:
            return ssl.create_default_context(cafile=self._access.ca_file or None)
        except OSError as error:
            raise Unreachable(detail=f"CA file {self._access.ca_file}: {error.strerror or error}") from error

    def _open(self) -> Session:
        session = Session(self._access, self._trust(), self._timeouts)
        try:
            session.sign_in()
        except BaseException:
            session.close()
            raise
        return session


def _answer(command: str, response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a response. A status of 400 is an ordinary command error when it carries a retcode."""
    if response.status_code in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
        raise ServerBusy(detail=f"{command}: {response.status_code}")
    try:
        answer = json.loads(response.content, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        answer = None
    if response.status_code not in (httpx.codes.OK, httpx.codes.BAD_REQUEST) or not isinstance(answer, dict):
        raise BadAnswer(detail=f"{command}: status {response.status_code}, {len(response.content)} bytes")
    return answer
