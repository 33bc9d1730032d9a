"""Open pages of the portal: clients who are signed in and listen to the live updates of their pages, over real HTTP."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self

from app.security.portal import COOKIE

#: The event after which a page of a trading account fetches its figures again.
TOPIC = b"event: account\n"
SILENCE_S = 30.0
COME_BACK_S = 0.2


class Page:
    """One client's stream. `told_at` are the moments (seconds since the epoch) at which it said that an account has news."""

    def __init__(self, host: str, port: int, client_id: int, secret: str) -> None:
        self.client_id = client_id
        self.told_at: list[float] = []
        self.is_open = threading.Event()
        self._host, self._port, self._secret = host, port, secret
        self._stopping = threading.Event()
        self._connection: HTTPConnection | None = None
        self._thread = threading.Thread(target=self._listen, name=f"page-{client_id}", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        connection = self._connection
        if connection and connection.sock:
            with suppress(OSError):
                connection.sock.shutdown(2)
        self._thread.join(5)

    def told_after(self, moment: float) -> float | None:
        """When it was told for the first time after a moment."""
        at = bisect_left(self.told_at, moment)
        return self.told_at[at] if at < len(self.told_at) else None

    def _listen(self) -> None:
        """A browser comes back when its stream ends, and so does this."""
        headers = {"Cookie": f"{COOKIE}={self._secret}", "Accept": "text/event-stream"}
        while not self._stopping.is_set():
            self._connection = HTTPConnection(self._host, self._port, timeout=SILENCE_S)
            with suppress(OSError, HTTPException):
                self._connection.request("GET", "/portal/live", headers=headers)
                answer = self._connection.getresponse()
                if answer.status == HTTPStatus.OK:
                    self.is_open.set()
                    while line := answer.readline():
                        if line == TOPIC:
                            self.told_at.append(time.time())
            self._connection.close()
            headers["Last-Event-ID"] = "1"
            self._stopping.wait(COME_BACK_S)


class Pages:
    """Several clients' pages, open from `__enter__` to `__exit__`."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.by_client = {page.client_id: page for page in pages}

    def __enter__(self) -> Self:
        for page in self.by_client.values():
            page.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for page in self.by_client.values():
            page.close()

    @property
    def are_open(self) -> bool:
        return all(page.is_open.is_set() for page in self.by_client.values())
