"""Kept-alive connections to one server, for the next caller; what each adapter opens is its own."""

from __future__ import annotations

import ssl
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from app.metatrader.errors import AccessDenied, NotSent, Unreachable
from app.metatrader.platform import ServerAccess

#: The longest wait of a thread for another's session.
SESSION_PATIENCE_S = 10.0


class Poolable(Protocol):
    """One connection, ready for use. Whoever took it from the pool has it alone."""

    def is_fresh(self) -> bool:
        """Whether it may be used again, as well as can be told without changing anything at the server."""

    def quit(self) -> None:
        """Take leave of the server, and close."""

    def close(self) -> None:
        """Close at once."""


S = TypeVar("S", bound=Poolable)


class Pool(ABC, Generic[S]):
    """At most `size` sessions, opened when needed; a thread that finds all in use waits for one."""

    def __init__(self, size: int) -> None:
        #: The one used last stands last, and is used again first.
        self._idle: deque[S] = deque()
        self._places = threading.Semaphore(size)

    @abstractmethod
    def open(self) -> S:
        """A new session that the pool does not know. Raises the PlatformError for which there is none."""

    @contextmanager
    def session(self, *, fresh: bool = False) -> Iterator[S]:
        """A session for one exchange. It goes back to the pool unless the exchange failed.

        `fresh` opens anew and gives up what is idle: asked for where the last one broke, which the others will have as well.
        Raises NotSent when no session could be had in time, and what `open` raises.
        """
        if not self._places.acquire(timeout=SESSION_PATIENCE_S):
            raise NotSent(detail="all sessions are in use")
        try:
            if fresh:
                self._drop_idle()
            session = (None if fresh else self._take()) or self.open()
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
        """Look whether the idle sessions are alive; what is not is dropped."""
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

    def _take(self) -> S | None:
        while session := self._pop():
            if session.is_fresh():
                return session
            session.close()
        return None

    def _pop(self, *, oldest: bool = False) -> S | None:
        try:
            return self._idle.popleft() if oldest else self._idle.pop()
        except IndexError:
            return None

    def _drop_idle(self) -> None:
        while session := self._pop():
            session.close()


def trust(access: ServerAccess) -> ssl.SSLContext:
    """The pinned authority, or the system's where none is pinned. Read anew each time: it may be replaced, or come late."""
    try:
        return ssl.create_default_context(cafile=access.ca_file or None)
    except OSError as error:
        raise Unreachable(detail=f"CA file {access.ca_file}: {error.strerror or error}") from error
