"""Signed-in sessions of the MT5 Web API, kept for the next caller and kept alive in between.

Commands and reads have a pool each, so that neither has to wait for the other's sessions.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import httpx

from app.metatrader.platform import ServerAccess
from app.metatrader.platforms import mt5_session
from app.metatrader.platforms.mt5_session import Session
from app.metatrader.platforms.pool import Pool, trust


class SessionPool(Pool[Session]):
    """Signed-in sessions. A silent one is kept alive by `ping_idle`."""

    def __init__(self, access: ServerAccess, size: int, timeouts: httpx.Timeout) -> None:
        super().__init__(size)
        self._access = access
        self._timeouts = timeouts

    def open(self) -> Session:
        session = Session(self._access, trust(self._access), self._timeouts)
        try:
            session.sign_in()
        except BaseException:
            session.close()
            raise
        return session


class KeepAlive:
    """The one background thread of an adapter: pings what is idle, so that the first call after a pause finds a session."""

    def __init__(self, pools: Sequence[SessionPool]) -> None:
        self._pools = [weakref.ref(pool) for pool in pools]
        self._stop: threading.Event | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Have the thread running. It ends with `stop`, or with the pools."""
        with self._lock:
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(target=_ping, args=(self._pools, self._stop), name="mt5-keep-alive", daemon=True).start()

    def stop(self) -> None:
        with self._lock:
            if self._stop is not None:
                self._stop.set()
                self._stop = None


def _ping(pools: Sequence[weakref.ref[SessionPool]], stop: threading.Event) -> None:
    while not stop.wait(mt5_session.PING_AFTER_S / 4):
        for reference in pools:
            pool = reference()
            if pool is None:
                return
            pool.ping_idle()
            del pool
