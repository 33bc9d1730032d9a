"""The asker's end of a request to a bridge: a source of backfill that needs no Web API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.core.clock import now
from app.metatrader.bridge.requests import GROUPS_LIMIT, Request, What, answer_stream, requests_stream, write_request
from app.metatrader.errors import BadAnswer, Unreachable
from app.metatrader.events import (
    AccountEvent,
    AnyEvent,
    ControlEvent,
    DealEvent,
    MalformedEvent,
    PositionEvent,
    decode,
)
from app.metatrader.platform import AccountState, Deal, Position
from app.metatrader.servertime import ServerZone

TIMEOUT_S = 300
READ_AT_ONCE = 1_000


class BridgeBackfill:
    """What a server has in some groups, asked of its bridge (a BackfillSource). Errors are those of app.metatrader.errors.

    `timeout_s` is how long the bridge may be silent. Every answer is read whole before its first row comes out.
    """

    def __init__(
        self, redis: Redis, server: str, zone: ServerZone, groups: Sequence[str], timeout_s: float = TIMEOUT_S
    ) -> None:
        self._redis: Any = redis
        self._server = server
        self._zone = zone
        self._masks = list(_masks(groups))
        self._timeout_s = timeout_s

    def deals(self, since: datetime, until: datetime) -> Iterator[Deal]:
        """Deals by ticket. The range is UTC, both ends included; around a clock change it may give more."""
        from_s, to_s = self._zone.wall_range_s(since, until)
        found = {event.deal.ticket: event.deal for event in self._ask("deals", from_s, to_s) if isinstance(event, DealEvent)}
        return (found[ticket] for ticket in sorted(found))

    def accounts(self) -> Iterator[AccountState]:
        """All logins."""
        return (event.account for event in self._ask("accounts") if isinstance(event, AccountEvent))

    def positions(self) -> Iterator[Position]:
        """All open positions."""
        return (event.position for event in self._ask("positions") if isinstance(event, PositionEvent))

    def _ask(self, what: What, from_s: int = 0, to_s: int = 0) -> list[AnyEvent]:
        return [event for mask in self._masks for event in self._ask_one(what, mask, from_s, to_s)]

    def _ask_one(self, what: What, mask: str, from_s: int, to_s: int) -> list[AnyEvent]:
        request = Request(
            id=secrets.token_hex(8),
            what=what,
            into="answer",
            asked_at=now(),
            groups=mask,
            from_s=from_s,
            to_s=to_s,
            valid_s=max(1, int(self._timeout_s)),
        )
        stream = answer_stream(self._server, request.id)
        try:
            self._redis.xadd(requests_stream(self._server), write_request(request))
            try:
                return self._answer(stream)
            finally:
                self._redis.delete(stream)
        except RedisError as error:
            raise Unreachable(detail=f"redis: {type(error).__name__}") from error

    def _answer(self, stream: str) -> list[AnyEvent]:
        """All rows up to the entry that ends the answer. Raises Unreachable after a long silence, BadAnswer on a refusal."""
        rows: list[AnyEvent] = []
        after, deadline = "0-0", time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            entries = self._redis.xread({stream: after}, count=READ_AT_ONCE, block=200)
            for id_, fields in _flat(entries):
                after, deadline = id_, time.monotonic() + self._timeout_s
                event = _decoded(fields)
                if not isinstance(event, ControlEvent):
                    rows.append(event)
                elif event.change == "connected":
                    rows = []  # the answer begins anew; an earlier try was cut off
                elif event.change == "sync_done":
                    return self._complete(event, rows)
        raise Unreachable(detail=f"the bridge of {self._server} did not answer within {self._timeout_s:.0f} s")

    @staticmethod
    def _complete(end: ControlEvent, rows: list[AnyEvent]) -> list[AnyEvent]:
        if end.notes.get("error"):
            raise BadAnswer(detail=f"bridge: {end.notes['error']}")
        if end.notes.get("rows") != str(len(rows)) or end.notes.get("unreadable") != "0":
            raise BadAnswer(detail=f"bridge: {len(rows)} rows came of {end.notes.get('rows')}")
        return rows


def _masks(groups: Sequence[str]) -> Iterator[str]:
    """Groups joined to masks, each of bearable length."""
    mask = ""
    for group in groups:
        if mask and len(mask) + 1 + len(group) > GROUPS_LIMIT:
            yield mask
            mask = ""
        mask = f"{mask},{group}" if mask else group
    if mask:
        yield mask


def _decoded(fields: dict[bytes, bytes]) -> AnyEvent:
    try:
        return decode(fields)
    except MalformedEvent as error:
        raise BadAnswer(detail=f"bridge: {error.reason}") from error


def _flat(answer: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """XREAD's entries of one stream, in whichever of the two protocols they came."""
    parts = answer.values() if isinstance(answer, dict) else [chunk for _, chunk in answer or []]
    rows: list[tuple[str, dict[bytes, bytes]]] = []
    for chunk in parts:
        listed = chunk[0] if isinstance(answer, dict) and chunk and isinstance(chunk[0], list) else chunk
        rows += [(id_.decode("ascii"), fields) for id_, fields in listed]
    return rows
