"""The simulator's HTTPS server: real TLS, HTTP/1.1 with kept-alive connections, a Web API session per connection."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.metatrader.platforms import mt5_retcodes
from app.metatrader.simulator.commands import COMMANDS, FORBIDDEN
from app.metatrader.simulator.commands.call import Call, Partial
from app.metatrader.simulator.control import Control, answer
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.faults import Fault, Misread
from app.metatrader.simulator.session import MANAGER_LOGIN, ApiSession

log = logging.getLogger("lotwise.simulator")

BODY_MAX = 1_000_000
IDLE_S = 180.0
HANDSHAKE_S = 10.0


class Cut(Exception):
    """The connection is to be cut without an answer."""


class SimulatorServer(ThreadingHTTPServer):
    """Listens; every connection gets a thread, a TLS handshake and a Web API session of its own."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext, password: str, control: Control) -> None:
        self.tls = tls
        self.password = password
        self.control = control
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept without the handshake, which would let one slow client block all others."""
        connection, address = super().get_request()
        return self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def remember(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is everyday; anything else is a fault of ours and logged with its trace."""
        error = sys.exception()
        if isinstance(error, OSError):
            log.debug("connection from %s broke: %s", client_address, type(error).__name__)
        else:
            log.error("the simulator failed to answer %s", client_address, exc_info=error)

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        self.shutdown()
        self.server_close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _cut(connection)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "LotwiseSimulator"
    sys_version = ""
    disable_nagle_algorithm = True
    server: SimulatorServer
    #: Seconds of silence after which a connection is closed; BaseHTTPRequestHandler sets it on the socket.
    timeout = IDLE_S

    def setup(self) -> None:
        self.request.settimeout(HANDSHAKE_S)
        self.request.do_handshake()
        self.server.remember(self.request)
        self.session = ApiSession(self.server.password, self.server.control.habits.timer)
        super().setup()

    def finish(self) -> None:
        self.server.forget(self.request)
        super().finish()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent names it
        """Paths only: a query may name people."""
        log.debug("%s %s", self.command, urlsplit(self.path).path)

    def _serve(self) -> None:
        url = urlsplit(self.path)
        try:
            body = self._body()
            if url.path.startswith("/api/"):
                self._api(url.path.removeprefix("/api/"), _query(url.query), body)
            elif url.path.startswith("/sim/"):
                self._sim(url.path.removeprefix("/sim/"), body)
            else:
                self._answer(404, {"error": "not found"})
        except Refused as error:
            why = {"error": error.text} if isinstance(error, Misread) else {}
            self._answer(400, {"retcode": f"{error.retcode} {mt5_retcodes.name(error.retcode)}", **why})
        except Cut:
            self.close_connection = True
            _cut(self.connection)

    def _api(self, command: str, query: dict[str, str], body: Any) -> None:
        if self.session.was_idle_for_s() > IDLE_S:  # by the sessions' clock, which may not be that of the socket
            raise Cut
        if command in ("auth/start", "auth/answer"):
            handshake = self.session.start if command == "auth/start" else self.session.answer
            self._reply(lambda: handshake(query), is_envelope=True)
            return
        if not self.session.is_open or command in FORBIDDEN:
            self._answer(403, {"retcode": "8 ERR_PERMISSIONS"})
            return
        if command == "test/access":
            self._answer(200, {"retcode": "0 Done"})
            return
        if command == "quit":
            self.close_connection = True
            self._answer(200, {"retcode": "0 Done"})
            return
        fault = self.server.control.faults.take(f"/api/{command}")
        if self._hit_before(fault):
            return
        known = COMMANDS.get(command)
        if known is None:
            self._answer(404, {"retcode": "13 ERR_NOTFOUND"})
            return
        if not isinstance(body, dict | None):
            raise Refused(3)
        fields = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in (body or {}).items()}
        control = self.server.control
        call = Call(control.exchange, control.users, control.habits, query, fields)
        content = self._carry_out(lambda: known(call))
        if fault and fault.kind == "execute_then_drop":
            raise Cut
        self._answer(200, content, is_garbled=fault is not None and fault.kind == "garble")

    def _hit_before(self, fault: Fault | None) -> bool:
        """Whether a fault has already answered instead of the command."""
        if fault is None or fault.kind in ("execute_then_drop", "garble"):
            return False
        if fault.kind == "drop":
            raise Cut
        if fault.kind == "slow":
            time.sleep(fault.seconds)
            return False
        if fault.kind == "http_503":
            self._answer(503, {"error": "service unavailable"})
        else:
            self._answer(200, {"retcode": f"{fault.code} {mt5_retcodes.name(fault.code)}"})
        return True

    def _reply(self, work: Any, *, is_envelope: bool = False) -> None:
        self._answer(200, self._carry_out(work, is_envelope=is_envelope))

    def _carry_out(self, work: Any, *, is_envelope: bool = False) -> dict[str, Any]:
        """The command's answer with its return code; what a rule refuses is an answer too."""
        try:
            result = work()
        except Refused as error:
            return {"retcode": f"{error.retcode} {mt5_retcodes.name(error.retcode)}"}
        done: dict[str, Any] = {"retcode": "0 Done"}
        if result is None:
            return done
        if isinstance(result, Partial):
            return {"retcode": f"{result.retcode} {mt5_retcodes.name(result.retcode)}", "answer": result.answer}
        is_wrapped = is_envelope or (isinstance(result, dict) and "answer" in result)
        return {**done, **result} if is_wrapped else {**done, "answer": result}

    def _sim(self, name: str, body: Any) -> None:
        """The control interface: basic authentication with the manager's login and password."""
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        wanted = base64.b64encode(f"{MANAGER_LOGIN}:{self.server.password}".encode()).decode()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
            self._answer(401, {"error": "sign in with the manager's login and password"})
            return
        result = answer(self.server.control, self.command, name, body)
        self._answer(404 if result is None else 200, {"error": "not found"} if result is None else result)

    def _body(self) -> Any:
        """The JSON body, or None without one. Refused(3) for what is no JSON; too long a body ends the connection."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > BODY_MAX or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refused(3)
        data = self.rfile.read(int(length))
        if not data:
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(3) from None

    def _answer(self, status: int, content: Any, *, is_garbled: bool = False) -> None:
        data = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        data = data[: len(data) // 2] if is_garbled else data
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _query(text: str) -> dict[str, str]:
    """Query parameters, each once. Refused(3) for repeated ones and for what is not UTF-8."""
    try:
        parsed = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise Refused(3) from None
    if any(len(values) > 1 for values in parsed.values()):
        raise Refused(3)
    return {name: values[0] for name, values in parsed.items()}


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        log.debug("connection was gone already: %s", error)
