"""The asker's end of a request to a bridge: a source of backfill that needs no Web API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from app.core.clock import now
from app.metatrader.bridge.requests import GROUPS_LIMIT, Request, What, answer_stream, requests_stream, write_request
from app.metatrader.errors import BadAnswer, NotKnown, Unreachable
from app.metatrader.events import (
    AccountEvent,
    AnyEvent,
    ControlEvent,
    DealEvent,
    MalformedEvent,
    OrderEvent,
    PositionEvent,
    decode,
)
from app.metatrader.platform import AccountState, Deal, Order, Position
from app.metatrader.servertime import ServerZone

TIMEOUT_S = 300
READ_AT_ONCE = 1_000
#: An answer is kept in memory, here and in Redis.
AT_ONCE_S = 3_600

T = TypeVar("T")


class BridgeBackfill:
    """What a server has in some groups, asked of its bridge (a BackfillSource). Errors are those of app.metatrader.errors.

    `timeout_s` is how long the bridge may be silent. Every answer is read whole before its first row comes out, so deals are
    asked for by the hour; what is no whole answer is an error, never a shorter list.
    """

    def __init__(
        self, redis: Redis, server: str, zone: ServerZone, groups: Sequence[str], timeout_s: float = TIMEOUT_S
    ) -> None:
        self._line = _Line(redis, server, timeout_s)
        self._zone = zone
        self._masks = list(_masks(groups))
        self.witness = BridgeWitness(self._line, zone)

    def deals(self, since: datetime, until: datetime) -> Iterator[Deal]:
        """Deals by ticket. The range is UTC, both ends included; around a clock change it may give more."""
        first_s, last_s = self._zone.wall_range_s(since, until)
        before = set[int]()
        for from_s in range(first_s, max(last_s, first_s + 1), AT_ONCE_S):
            to_s = min(from_s + AT_ONCE_S, last_s)  # pieces share a second, as in the bridge
            answers = (self._line.ask("deals", groups=mask, from_s=from_s, to_s=to_s) for mask in self._masks)
            deals = _deals(event for answer in answers for event in answer)
            yield from (deal for deal in deals if deal.ticket not in before)
            before = {deal.ticket for deal in deals}

    def accounts(self) -> Iterator[AccountState]:
        """All logins."""
        return (event.account for event in self._ask("accounts") if isinstance(event, AccountEvent))

    def positions(self) -> Iterator[Position]:
        """All open positions."""
        return (event.position for event in self._ask("positions") if isinstance(event, PositionEvent))

    def orders(self) -> Iterator[Order]:
        """All open orders."""
        return (event.order for event in self._ask("orders") if isinstance(event, OrderEvent))

    def _ask(self, what: What) -> list[AnyEvent]:
        return [event for mask in self._masks for event in self._line.ask(what, groups=mask)]


class BridgeWitness:
    """Single things of a server, asked of its bridge: proof that they are gone, where its Web API cannot be asked
    (backfill.Witness). NotKnown where a whole answer holds none.
    """

    def __init__(self, line: _Line, zone: ServerZone) -> None:
        self._line = line
        self._zone = zone

    def get_account(self, login: int) -> AccountState:
        answer = self._line.ask("accounts", logins=(login,))
        return _only((event.account for event in answer if isinstance(event, AccountEvent)), f"login {login}")

    def deal(self, ticket: int) -> Deal:
        return _only(_deals(self._line.ask("deals", tickets=(ticket,))), f"deal {ticket}")

    def deals(self, login: int, since: datetime, until: datetime) -> list[Deal]:
        """By ticket; none of a login that the server does not have."""
        from_s, to_s = self._zone.wall_range_s(since, until)
        return _deals(self._line.ask("deals", logins=(login,), from_s=from_s, to_s=to_s))

    def positions(self, login: int) -> list[Position]:
        """None of a login that the server does not have."""
        answer = self._line.ask("positions", logins=(login,))
        return [event.position for event in answer if isinstance(event, PositionEvent)]

    def order(self, ticket: int) -> Order:
        answer = self._line.ask("orders", tickets=(ticket,))
        return _only((event.order for event in answer if isinstance(event, OrderEvent)), f"order {ticket}")


class _Line:
    """Requests to one server's bridge, each answered whole or not at all."""

    def __init__(self, redis: Redis, server: str, timeout_s: float) -> None:
        self._redis: Any = redis
        self._server = server
        self._timeout_s = timeout_s

    def ask(
        self,
        what: What,
        *,
        groups: str = "",
        logins: tuple[int, ...] = (),
        tickets: tuple[int, ...] = (),
        from_s: int = 0,
        to_s: int = 0,
    ) -> list[AnyEvent]:
        """The rows of the answer. Raises Unreachable where none comes, BadAnswer where it is not whole."""
        request = Request(
            id=secrets.token_hex(8),
            what=what,
            into="answer",
            asked_at=now(),
            groups=groups,
            logins=logins,
            tickets=tickets,
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


def _deals(events: Iterable[AnyEvent]) -> list[Deal]:
    """The deals among the rows, each once, by ticket."""
    found = {event.deal.ticket: event.deal for event in events if isinstance(event, DealEvent)}
    return [found[ticket] for ticket in sorted(found)]


def _only(found: Iterable[T], what: str) -> T:
    for one in found:
        return one
    raise NotKnown(detail=f"bridge: the server has no {what}")


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
