"""What the simulators' HTTPS servers share: real TLS, HTTP/1.1 with kept-alive connections, JSON in and out."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from app.metatrader.simulator.books import Refused

log = logging.getLogger("lotwise.simulator")

BODY_MAX = 1_000_000
IDLE_S = 180.0
HANDSHAKE_S = 10.0


class Cut(Exception):
    """The connection is to be cut without an answer."""


class Listener(ThreadingHTTPServer):
    """Listens; every connection gets a thread and a TLS handshake of its own."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext, handler: type[Connection]) -> None:
        self.tls = tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

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
            cut(connection)


class Connection(BaseHTTPRequestHandler):
    """One connection. Whoever derives from it says how requests are served."""

    protocol_version = "HTTP/1.1"
    server_version = "LotwiseSimulator"
    sys_version = ""
    disable_nagle_algorithm = True
    server: Listener
    #: Seconds of silence after which a connection is closed; BaseHTTPRequestHandler sets it on the socket.
    timeout = IDLE_S

    def setup(self) -> None:
        self.request.settimeout(HANDSHAKE_S)
        self.request.do_handshake()
        self.server.remember(self.request)
        super().setup()

    def finish(self) -> None:
        self.server.forget(self.request)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent names it
        """Paths only: a query may name people."""
        log.debug("%s %s", self.command, urlsplit(self.path).path)

    def body(self) -> Any:
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

    def answer(self, status: int, content: Any, *, is_garbled: bool = False) -> None:
        """Send a JSON answer, or the first half of one."""
        data = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        data = data[: len(data) // 2] if is_garbled else data
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def is_signed(self, login: int, password: str) -> bool:
        """Whether the request carries basic authentication with these."""
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        wanted = base64.b64encode(f"{login}:{password}".encode()).decode()
        return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        log.debug("connection was gone already: %s", error)
