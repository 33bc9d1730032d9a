"""What the bridge does with a command: the rule of three steps for those that change something, and their outcome.

1. The id is written down and synced. 2. MT4 is called once, and its answer written down. 3. Never a second time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.faults import Fault
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.commands import CHANGES, READS, Answer, Body, Meaningless
from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.request_log import RUNNING, Entry, RequestLog

_ID = re.compile(r"[A-Za-z0-9-]{1,60}")


@dataclass(frozen=True)
class Reply:
    """An answer with its HTTP status."""

    status: int
    content: Answer


class Bridge:
    """Thread-safe. Knows nothing of HTTP but the status."""

    def __init__(self, engine: MT4Engine, log: RequestLog) -> None:
        self._engine = engine
        self._log = log
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def answer(self, command: str, raw: Any, id_: str, fault: Fault | None = None) -> Reply:
        """Carry out a command. A `retcode` fault is what MT4 answers instead of doing it; by 142 and 143 it does it all
        the same.
        """
        if command not in READS and command not in CHANGES and command != "outcome":
            return _reply(404, codes.ERROR, reason="there is no such command")
        code = fault.code if fault and fault.kind == "retcode" else codes.OK
        try:
            body = _body(raw)
            if command == "outcome":
                return self._outcome(body)
            if command in READS:
                return self._read(command, body, code)
            if not _ID.fullmatch(id_):
                raise Meaningless("X-Request-Id is missing, or no id")
            with self._marked(id_) as is_running:
                return _again(is_running) if is_running else self._change(command, body, id_, code)
        except Meaningless as error:
            return _reply(400, codes.INVALID_DATA, reason=error.reason)

    def _read(self, command: str, body: Body, code: int) -> Reply:
        if code:
            return _reply(503 if code in codes.BUSY else 200, code)
        try:
            return _reply(200, codes.OK, **READS[command](self._engine, body))
        except Refused as error:
            return _reply(200, error.retcode)

    @contextmanager
    def _marked(self, id_: str) -> Iterator[Entry | None]:
        """The time of one command, in which it counts as running; for one that comes in the meantime, what is to be said."""
        with self._lock:
            is_first = id_ not in self._running
            self._running.add(id_)
        try:
            yield None if is_first else RUNNING
        finally:
            if is_first:
                with self._lock:
                    self._running.discard(id_)

    def _change(self, command: str, body: Body, id_: str, code: int) -> Reply:
        digest = self._log.digest(command, body.fields)
        before = self._log.begin(id_, command, digest)
        if before:
            return _again(before, digest)
        if code in codes.BUSY:
            self._log.forget(id_)
            return _reply(503, code)
        try:
            reply = _reply(200, code) if code and code not in codes.UNCERTAIN else self._call(command, body, code)
        except Meaningless:
            self._log.forget(id_)
            raise
        if code in codes.UNCERTAIN:
            return _reply(409, code, outcome="unknown")
        self._log.finish(id_, "refused" if reply.content["code"] != "0" else "done", reply.content)
        return reply

    def _call(self, command: str, body: Body, code: int) -> Reply:
        """What reaches MT4: all but what times out before."""
        if code == codes.TRADE_TIMEOUT:
            return _reply(200, code)
        try:
            return _reply(200, codes.OK, **CHANGES[command](self._engine, body))
        except Refused as error:
            return _reply(200, error.retcode)

    def _outcome(self, body: Body) -> Reply:
        id_ = body.text("id")
        if not _ID.fullmatch(id_):
            raise Meaningless("id is no id")
        with self._lock:
            is_running = id_ in self._running
        entry = RUNNING if is_running else self._log.outcome(id_)
        known = {"answer": dict(entry.answer)} if entry.outcome in ("done", "refused") else {}
        return _reply(200, codes.OK, outcome=entry.outcome, **known)


def _again(entry: Entry, digest: str = "") -> Reply:
    """The answer to an id that was there before."""
    if entry.outcome in ("never", "running"):
        return _reply(409, codes.ERROR, outcome=entry.outcome, repeated="1")
    if entry.digest != digest:
        return _reply(409, codes.INVALID_DATA, reason="another command had this id")
    if entry.outcome == "unknown":
        return _reply(409, codes.ERROR, outcome="unknown", repeated="1")
    return Reply(200, {**entry.answer, "repeated": "1"})


def _reply(status: int, code: int, **content: Any) -> Reply:
    return Reply(status, {"code": str(code), "name": codes.name(code), **content})


def _body(raw: Any) -> Body:
    fields = {} if raw is None else raw
    if not isinstance(fields, Mapping) or not all(isinstance(value, str) for value in fields.values()):
        raise Meaningless("the body is no object of texts")
    return Body(fields)
