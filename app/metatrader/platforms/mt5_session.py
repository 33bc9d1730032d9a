"""A session of the MT5 Web API: signed in on one kept-alive TLS connection, and gone with it.

The server forgets a session with its connection, so a session never reconnects silently: it is thrown away and a new one
signs in. Nothing in here repeats a request.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Mapping
from typing import Any

import httpx

from app.metatrader.errors import AccessDenied, BadAnswer, ServerBusy, Unreachable
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms import mt5_auth, mt5_retcodes
from app.metatrader.platforms.mt5_records import retcode_of

log = logging.getLogger("lotwise.mt5_web")

#: The client build we claim; servers send newer fields only to newer clients.
CLIENT_BUILD = "4000"
AGENT = "Lotwise"

TIMEOUTS = httpx.Timeout(connect=5.0, read=30.0, write=10.0, pool=5.0)
#: After this silence a session is kept alive with a ping, or tried with one before it is used. The server closes after 180 s.
PING_AFTER_S = 20.0
STALE_AFTER_S = 170.0
#: A server that works answers these at once; it forgets a sign-in that takes longer.
HANDSHAKE_TIMEOUT_S = 10.0
PING_TIMEOUT_S = 5.0


class SessionLost(Exception):
    """The server no longer knows this session: the request was refused unread."""


class Session:
    """One signed-in connection. Not thread-safe: whoever took it from the pool has it alone."""

    def __init__(self, access: ServerAccess, trust: ssl.SSLContext, timeouts: httpx.Timeout = TIMEOUTS) -> None:
        self._access = access
        self._timeouts = timeouts
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

    def request(
        self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None = None, *, read_s: float | None = None
    ) -> dict[str, Any]:
        """Send one command and return its whole answer, numbers as text. `read_s`: less patience than usual.

        Raises httpx.TransportError when the connection fails, SessionLost when the server refused unread, AccessDenied for
        a command that our manager may not use, ServerBusy (503), BadAnswer.
        """
        response = self._send(command, query, body, read_s=read_s)
        if response.status_code == httpx.codes.FORBIDDEN:
            if self._is_alive():
                raise AccessDenied(detail=f"{command}: 403")
            raise SessionLost(command)
        return _answer(command, response)

    @property
    def is_due(self) -> bool:
        """Whether it was silent for so long that it needs a ping."""
        return time.monotonic() - self._used_at >= PING_AFTER_S

    def is_fresh(self) -> bool:
        """Whether the session may be used: recently used, or alive when asked. Changes nothing at the server."""
        return not self.is_due or (time.monotonic() - self._used_at < STALE_AFTER_S and self._is_alive())

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
            return self._send("test/access", {}, None, read_s=PING_TIMEOUT_S).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _send(
        self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None, *, read_s: float | None = None
    ) -> httpx.Response:
        usual = self._timeouts
        timeout = usual
        if read_s is not None:
            timeout = httpx.Timeout(
                connect=usual.connect, read=min(read_s, usual.read or read_s), write=usual.write, pool=usual.pool
            )
        if body is None:
            response = self._client.get(command, params=dict(query), timeout=timeout)
        else:
            response = self._client.post(command, params=dict(query), json=dict(body), timeout=timeout)
        self._used_at = time.monotonic()
        return response

    def _handshake(self, command: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            response = self._send(command, query, None, read_s=HANDSHAKE_TIMEOUT_S)
        except httpx.TransportError as error:
            raise Unreachable(detail=f"{command}: {type(error).__name__}") from error
        if response.status_code == httpx.codes.FORBIDDEN:
            raise AccessDenied(detail=f"{command}: 403")
        answer = _answer(command, response)
        code = retcode_of(answer)
        if code not in mt5_retcodes.SUCCESS:
            raise mt5_retcodes.error_of(code, mutation=False, detail=f"{command}: {mt5_retcodes.name(code)}")
        return answer


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
