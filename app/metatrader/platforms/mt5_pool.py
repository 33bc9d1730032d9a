"""Signed-in sessions of the MT5 Web API, kept for the next caller and kept alive in between.

Commands and reads have a pool each, so that neither has to wait for the other's sessions.
"""

from __future__ import annotations

import ssl
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from app.metatrader.errors import AccessDenied, NotSent, Unreachable
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms import mt5_session
from app.metatrader.platforms.mt5_session import Session

#: The longest wait of a thread for another's session.
SESSION_PATIENCE_S = 10.0


class SessionPool:
    """At most `size` signed-in sessions, opened when needed; a thread that finds all in use waits for one."""

    def __init__(self, access: ServerAccess, size: int, timeouts: httpx.Timeout) -> None:
        self._access = access
        self._timeouts = timeouts
        #: The one used last stands last, and is used again first.
        self._idle: deque[Session] = deque()
        self._places = threading.Semaphore(size)

    @contextmanager
    def session(self, *, fresh: bool = False) -> Iterator[Session]:
        """A session for one exchange. It goes back to the pool unless the exchange failed.

        `fresh` signs in anew and gives up what is idle: asked for where the last one broke, which the others will have as well.
        Raises NotSent when no session could be had in time, and what `Session.sign_in` raises.
        """
        if not self._places.acquire(timeout=SESSION_PATIENCE_S):
            raise NotSent(detail="all sessions are in use")
        try:
            if fresh:
                self._drop_idle()
            session = (None if fresh else self._take()) or self._open()
            try:
                yield session
            except AccessDenied:
                self._idle.append(session)
                raise
            except BaseException:
                session.close()
                raise
            self._idle.append(session)
        finally:
            self._places.release()

    def ping_idle(self) -> None:
        """Keep alive every idle session that was silent for long; what does not answer is dropped."""
        for _ in range(len(self._idle)):
            if not self._places.acquire(blocking=False):  # a session being tried counts, as one in use does
                return
            try:
                session = self._pop(oldest=True)
                if session is None:
                    return
                if session.is_fresh():
                    self._idle.append(session)
                else:
                    session.close()
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

    def _pop(self, *, oldest: bool = False) -> Session | None:
        try:
            return self._idle.popleft() if oldest else self._idle.pop()
        except IndexError:
            return None

    def _drop_idle(self) -> None:
        while session := self._pop():
            session.close()

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
