"""From what a source read to entries of the event streams: numbered, published, and only then remembered as read."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader.events import (
    PAYLOAD_LIMIT,
    VERSION,
    AccountChange,
    AnyEvent,
    Change,
    Origin,
    Signal,
    Stamp,
    account_event,
    control_event,
    deal_event,
    encode,
    order_event,
    position_event,
)
from app.metatrader.platform import Deal, Order, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.sources import Told, Unreadable
from app.metatrader.stream import lag, publish, stream_name, stream_names
from app.models.metatrader import SourceCursor

log = logging.getLogger("lotwise.sources")

RETRY_S = 1.0
#: A source waits while this many of its entries are not booked: what Redis holds must fit into its memory.
ROOM = 50_000
ENTRIES_PER_CALL = 500

Entry = tuple[str, Mapping[str, str]]


@dataclass(frozen=True)
class Teller:
    """Makes events of one server and source. Pure."""

    origin: Origin
    zone: ServerZone
    shards: int

    def event(self, told: Told, seq: int, received_at: datetime) -> AnyEvent:
        """The canonical event. `told.at` decides which pass of a repeated hour is meant."""
        stamp, record = self.stamp(seq, told.at or received_at, received_at), told.record
        change = cast("Change", told.change)
        event: AnyEvent
        match record:
            case Deal():
                event = deal_event(self.origin, stamp, change, record)
            case Position():
                event = position_event(self.origin, stamp, change, record)
            case Order():
                event = order_event(self.origin, stamp, change, record)
            case _:
                event = account_event(self.origin, stamp, record, cast("AccountChange", told.change))
        return replace(event, rev=told.rev) if told.rev else event

    def raw(self, unreadable: Unreadable, seq: int, received_at: datetime) -> dict[str, str]:
        """An entry that no reader can decode: what came, and where, for people to look at."""
        return {
            "v": VERSION,
            "server": self.origin.server,
            "src": self.origin.src,
            "boot": self.origin.boot,
            "kind": unreadable.kind,
            "key": unreadable.key,
            "rev": "",
            "seq": str(seq),
            "srv_time_msc": str(self.zone.wall_ms(received_at)),
            "utc_offset_min": str(self.zone.offset_min(received_at)),
            "recv_utc": received_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "payload": unreadable.payload[:PAYLOAD_LIMIT],
            "note": unreadable.note[:500],
        }

    def entry(self, one: Told | Unreadable, number: Numbers, received_at: datetime) -> Entry:
        """One piece of news as a stream entry, under the next number of its stream."""
        stream = self.stream(one)
        if isinstance(one, Unreadable):
            return stream, self.raw(one, number.next(stream), received_at)
        return stream, encode(self.event(one, number.next(stream), received_at))

    def stream(self, one: Told | Unreadable) -> str:
        """The stream that carries its login's events."""
        login = one.login if isinstance(one, Unreadable) else one.record.login
        return stream_name(self.origin.server, login, self.shards)

    def stamp(self, seq: int, at: datetime, received_at: datetime) -> Stamp:
        return Stamp(seq, self.zone.wall_ms(at), self.zone.offset_min(at), received_at)


@dataclass
class Numbers:
    """The last number of each stream. They go on over restarts, so that a restart does not look like a loss."""

    last: dict[str, int]

    def next(self, stream: str) -> int:
        self.last[stream] = self.last.get(stream, 0) + 1
        return self.last[stream]


def publish_shared(redis: Redis, teller: Teller, news: Sequence[Told | Unreadable]) -> None:
    """Publish what several processes may tell of under one name. Raises RedisError.

    Numbers are drawn from Redis; drawn and not published, they show as the loss that they are.
    """
    counts = Counter(teller.stream(one) for one in news)
    client: Any = redis
    drawn = {stream: int(client.incrby(f"{stream}:{teller.origin.src}:seq", count)) for stream, count in counts.items()}
    numbers, received_at = Numbers({stream: last - counts[stream] for stream, last in drawn.items()}), now()
    publish(redis, [teller.entry(one, numbers, received_at) for one in news])


class Feed:
    """The way of one server's source into its streams. Not thread-safe.

    The numbers and the name under which they are counted are kept with the cursors: numbers that repeat after a crash are
    known repeats to a reader, and nothing is skipped.
    """

    def __init__(self, session: Session, redis: Redis, *, server_id: int, source: str, origin: Origin, zone: ServerZone,
                 shards: int) -> None:  # fmt: skip
        self._session, self._redis = session, redis
        self._server_id, self._source = server_id, source
        rows = session.execute(
            select(SourceCursor.name, SourceCursor.value).where(
                SourceCursor.server_id == server_id, SourceCursor.source == source
            )
        )
        kept = {row.name: row.value for row in rows}
        session.rollback()
        boot = kept.pop("boot", "") or secrets.token_hex(6)
        self._numbers = Numbers({name[4:]: int(value) for name, value in kept.items() if name.startswith("seq:")})
        self.cursors = {name: value for name, value in kept.items() if not name.startswith("seq:")}
        self._teller = Teller(replace(origin, boot=boot), zone, shards)

    def publish(self, news: Sequence[Told | Unreadable], stop: threading.Event) -> bool:
        """Put news into the streams, for as long as it takes; False when a stop was wished before Redis had it all."""
        received_at = now()
        entries = [self._teller.entry(one, self._numbers, received_at) for one in news]
        for start in range(0, len(entries), ENTRIES_PER_CALL):
            while not self._publish(entries[start : start + ENTRIES_PER_CALL]):
                if stop.wait(RETRY_S):
                    return False
        return True

    def signal(self, signal: Signal, notes: Mapping[str, str] | None = None) -> bool:
        """Tell of the source's own state, to every shard. False when Redis is away: it is not worth waiting for."""
        teller, moment, before = self._teller, now(), dict(self._numbers.last)
        entries = []
        for stream in stream_names(teller.origin.server, teller.shards):
            stamp = teller.stamp(self._numbers.next(stream), moment, moment)
            entries.append((stream, encode(control_event(teller.origin, stamp, signal, notes))))
        if self._publish(entries):
            return True
        self._numbers.last = before  # nobody is to miss a heartbeat
        return False

    def save(self, cursors: Mapping[str, str]) -> None:
        """Remember how far the source was read: only for what stands in the streams. Raises OperationalError."""
        self.cursors |= cursors
        values = {**cursors, "boot": self._teller.origin.boot} | {
            f"seq:{stream}": str(number) for stream, number in self._numbers.last.items()
        }
        statement = insert(SourceCursor).values(
            [
                {"server_id": self._server_id, "source": self._source, "name": name, "value": value}
                for name, value in sorted(values.items())
            ]
        )
        with unit_of_work(self._session, Actor.system("sources")) as unit:
            unit.session.execute(
                statement.on_conflict_do_update(
                    index_elements=["server_id", "source", "name"],
                    set_={"value": statement.excluded.value, "updated_at": func.now()},
                    where=SourceCursor.value != statement.excluded.value,
                )
            )

    def has_room(self) -> bool:
        """Whether ingest keeps up, so that more may be read. Redis being away counts as no room."""
        origin = self._teller.origin
        try:
            states = [lag(self._redis, stream) for stream in stream_names(origin.server, self._teller.shards)]
        except RedisError:
            return False
        return sum(state.pending + state.waiting for state in states) < ROOM

    def _publish(self, entries: Sequence[Entry]) -> bool:
        try:
            publish(self._redis, entries)
        except RedisError as error:
            log.warning("events wait, Redis is away server=%s error=%s", self._teller.origin.server, type(error).__name__)
            return False
        return True
