"""Starts and stops the mailbox: an SMTP server and a small web server on this machine."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from aiosmtpd.smtp import SMTP
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from app.messaging.mailbox.pages import make_app
from app.messaging.mailbox.store import CAPACITY, Store

_HOST = "127.0.0.1"
_MAX_MESSAGE_BYTES = 10_000_000


class MailboxSettings(Protocol):
    """The settings `run` reads."""

    @property
    def is_production(self) -> bool: ...
    @property
    def var_dir(self) -> Path: ...
    @property
    def port(self) -> int: ...


class Mailbox:
    """A running mailbox. With port 0 it takes a free one; its messages lie in `var_dir`/mailbox."""

    def __init__(self, var_dir: Path, smtp_port: int = 0, http_port: int = 0, *, capacity: int = CAPACITY) -> None:
        self._folder, self._capacity = var_dir / "mailbox", capacity
        self.smtp_port, self.http_port = smtp_port, http_port
        self._pages: BaseWSGIServer | None = None

    @property
    def url(self) -> str:
        """The address of the pages."""
        return f"http://{_HOST}:{self.http_port}"

    def start(self) -> Self:
        """Take both ports and begin to serve. Raises OSError when one is taken or the folder cannot be written."""
        store = Store(self._folder, self._capacity)
        with socket.create_server((_HOST, self.http_port), backlog=128) as listener:
            smtp = socket.create_server((_HOST, self.smtp_port), backlog=128)
            self.smtp_port, self.http_port = smtp.getsockname()[1], listener.getsockname()[1]
            self._pages = make_server(
                _HOST, self.http_port, make_app(store), threaded=True, request_handler=_Quiet, fd=listener.fileno()
            )
        self._sink = _Sink(store, smtp)
        self._thread = threading.Thread(target=self._pages.serve_forever, name="mailbox-http", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving; the messages stay."""
        if self._pages is None:
            return
        self._sink.stop()
        self._pages.shutdown()
        self._thread.join()
        self._pages.server_close()
        self._pages = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def run(settings: MailboxSettings) -> None:
    """Serve until SIGTERM or SIGINT. Ends with one line and exit code 1 where it cannot start."""
    if settings.is_production:
        raise SystemExit("The development mailbox does not run in production.")
    mailbox = Mailbox(settings.var_dir, smtp_port=settings.port + 4, http_port=settings.port + 3)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        mailbox.start()
    except OSError as error:
        raise SystemExit(
            f"The mailbox cannot start on ports {settings.port + 3} and {settings.port + 4}: {error.strerror or error}."
        ) from None
    stopped.wait()
    mailbox.stop()


class _Sink:
    """The SMTP server, in a thread with an event loop of its own. It takes every mail to everybody."""

    def __init__(self, store: Store, listener: socket.socket) -> None:
        self._store = store
        self._loop = asyncio.new_event_loop()
        # Its messages name senders and recipients.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        self._server = self._loop.run_until_complete(self._loop.create_server(self._conversation, sock=listener))
        self._thread = threading.Thread(target=self._loop.run_forever, name="mailbox-smtp", daemon=True)
        self._thread.start()

    def _conversation(self) -> SMTP:
        return SMTP(self, hostname="mailbox", data_size_limit=_MAX_MESSAGE_BYTES, enable_SMTPUTF8=True, loop=self._loop)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """Keep the mail; called by aiosmtpd with the whole message."""
        self._store.add(envelope.content, envelope.mail_from or "", list(envelope.rcpt_tos))
        return "250 OK"

    def stop(self) -> None:
        """Close the port and every conversation."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._server.wait_closed()


class _Quiet(WSGIRequestHandler):
    """Recipients in addresses are not logged, and neither is anything else."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass
