"""Starts and stops the sandbox: a small Flask app in a threaded HTTP server, and its clock."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, redirect, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response as AnyResponse

from app.payments.sandbox import api, checkout, panel
from app.payments.sandbox.house import House
from app.payments.sandbox.payments import Delays
from app.payments.sandbox.store import Store
from app.payments.sandbox.webhooks import Clock

_HOST = "127.0.0.1"
_MAX_REQUEST_BYTES = 1_000_000


class SandboxSettings(Protocol):
    """The settings `run` reads."""

    @property
    def is_production(self) -> bool: ...
    @property
    def var_dir(self) -> Path: ...
    @property
    def port(self) -> int: ...
    @property
    def base_url(self) -> str: ...
    @property
    def stripe_secret_key(self) -> str: ...
    @property
    def stripe_webhook_secret(self) -> str: ...


class Sandbox:
    """A running sandbox on this machine. With port 0 it takes a free one; its data lives in `var_dir`."""

    def __init__(
        self,
        var_dir: Path,
        secret_key: str,
        webhook_secret: str,
        webhook_url: str,
        port: int = 0,
        *,
        merchant: str = "Lotwise Demo",
        delays: Delays | None = None,
    ) -> None:
        self._var_dir = var_dir
        self._secret_key = secret_key
        self._webhook_secret = webhook_secret
        self._webhook_url = webhook_url
        self._port = port
        self._merchant = merchant
        self._delays = delays or Delays()
        self._server: BaseWSGIServer | None = None

    @property
    def url(self) -> str:
        """The address, for the SDK's API base and the browser."""
        return f"http://{_HOST}:{self._port}"

    def start(self) -> Self:
        """Take the port and begin to serve. Raises OSError when the port is taken or the folder cannot be written."""
        with socket.create_server((_HOST, self._port), backlog=128) as listener:
            self._port = listener.getsockname()[1]
            self._store = Store(self._var_dir / "sandbox.db")
            self._clock = Clock(self._store, self._delays, self._webhook_url, self._webhook_secret)
            house = House(self._store, self._delays, self._secret_key, self._merchant, self.url, self._clock.wake)
            self._server = make_server(
                _HOST, self._port, make_app(house), threaded=True, request_handler=_Quiet, fd=listener.fileno()
            )
        self._thread = threading.Thread(target=self._server.serve_forever, name="sandbox-http", daemon=True)
        self._clock.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving; undelivered events wait in the file for the next start."""
        if self._server is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._clock.stop()
        self._store.close()
        self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def run(settings: SandboxSettings) -> None:
    """Serve until SIGTERM or SIGINT. Ends with one line and exit code 1 where it cannot start."""
    if settings.is_production:
        raise SystemExit("The Stripe sandbox does not run in production.")
    sandbox = Sandbox(
        settings.var_dir / "sandbox",
        settings.stripe_secret_key,
        settings.stripe_webhook_secret.split(",")[0].strip(),
        f"{settings.base_url}/callbacks/stripe",
        port=settings.port + 2,
    )
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        sandbox.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SystemExit(f"The Stripe sandbox cannot start at {sandbox.url}: {reason}.") from None
    stopped.wait()
    sandbox.stop()


def make_app(house: House) -> Flask:
    """The sandbox's web application."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_REQUEST_BYTES
    for part in (api, checkout, panel):
        app.register_blueprint(part.blueprint(house))

    @app.get("/")
    def index() -> AnyResponse:
        return redirect("/sandbox/")

    @app.before_request
    def same_site_only() -> None:
        """Pages of other sites may not press this one's buttons."""
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin and urlsplit(origin).netloc != request.host:
            abort(403)

    @app.after_request
    def protect(response: Response) -> Response:
        form_targets = getattr(g, "form_targets", "")
        policy = f"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {form_targets}".strip()
        response.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'; base-uri 'none'"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        if not request.path.startswith("/static/"):
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


class _Quiet(WSGIRequestHandler):
    """Card numbers of a form are not logged, and neither is anything else."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass
