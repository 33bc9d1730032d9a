"""The event stream on Redis: publishing, and reading in a consumer group without losing anything.

There is one stream per server and login shard, with all kinds of events in it, so that what happens to one account stays
in order. A consumer acknowledges after its database commit. What a dead consumer left is claimed; what is acknowledged by
every group may be trimmed, nothing else ever is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from app.metatrader.events import AccountEvent, AnyEvent, ControlEvent, DealEvent, OrderEvent, PositionEvent, encode

log = logging.getLogger("lotwise.stream")

GROUP = "ingest"

#: Looking for what dead consumers left costs a round trip per stream, so it is done at most this often.
CLAIM_EVERY_S = 5.0


def stream_name(server: str, login: int, shards: int = 1) -> str:
    """The stream that carries this login's events."""
    return f"mt:{server}:{login % shards}"


def stream_names(server: str, shards: int = 1) -> list[str]:
    """All streams of a server."""
    return [f"mt:{server}:{shard}" for shard in range(shards)]


def server_of(stream: str) -> str:
    """The code of the server whose events a stream carries."""
    return stream.split(":")[1]


def publish(redis: Redis, entries: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Append encoded events to their streams, in order; each stream's part whole or not at all.

    Raises RedisError when it is not certain that all arrived. The caller then publishes the same entries again: readers
    recognise repeats by their keys.
    """
    by_stream: dict[str, list[Mapping[str, str]]] = {}
    for stream, fields in entries:
        by_stream.setdefault(stream, []).append(fields)
    for stream, rows in by_stream.items():
        pipeline: Any = redis.pipeline(transaction=True)
        for fields in rows:
            pipeline.xadd(stream, dict(fields))
        pipeline.execute()


def publish_events(redis: Redis, events: Iterable[AnyEvent], shards: int = 1) -> None:
    """Append events to the streams of their logins; control events go to every shard of their server."""
    entries: list[tuple[str, Mapping[str, str]]] = []
    for event in events:
        names = (
            stream_names(event.server, shards)
            if isinstance(event, ControlEvent)
            else [stream_name(event.server, login_of(event), shards)]
        )
        entries += [(name, encode(event)) for name in names]
    publish(redis, entries)


def login_of(event: AnyEvent) -> int:
    """The login that an event is about; 0 for control events."""
    match event:
        case DealEvent():
            return event.deal.login
        case PositionEvent():
            return event.position.login
        case OrderEvent():
            return event.order.login
        case AccountEvent():
            return event.account.login
    return 0


class Entry(NamedTuple):
    """One raw stream entry. `deliveries` counts how often it was handed out, this time included."""

    stream: str
    id: str
    fields: dict[bytes, bytes]
    deliveries: int = 1


@dataclass(frozen=True)
class Batch:
    """What one read gave. `lost` are entries whose bodies were gone before anyone acknowledged them: backfill at once."""

    entries: list[Entry]
    lost: list[tuple[str, str]]

    def __bool__(self) -> bool:
        return bool(self.entries or self.lost)


@dataclass(frozen=True)
class StreamLag:
    """How far a group is behind on one stream: handed out but not acknowledged, not yet handed out, age of the oldest."""

    stream: str
    length: int
    pending: int
    waiting: int
    oldest_age_ms: int


class StreamConsumer:
    """One consumer of a group over some streams. Not thread-safe; one per process.

    `name` stays the same over restarts of one process, so that it finds its own unacknowledged entries first.
    """

    def __init__(
        self,
        redis: Redis,
        streams: Sequence[str],
        *,
        name: str,
        group: str = GROUP,
        batch: int = 500,
        claim_idle_ms: int = 60_000,
    ) -> None:
        self._redis: Any = redis
        self.streams = list(streams)
        self.name = name
        self.group = group
        self.batch = batch
        self.claim_idle_ms = claim_idle_ms
        self._claim_every_s = min(claim_idle_ms / 2_000, CLAIM_EVERY_S)
        self._next_claim = 0.0
        self._own_done = dict.fromkeys(streams, "0-0")

    def ensure_group(self) -> None:
        """Make the group on every stream, from the stream's very beginning; harmless when it exists."""
        for stream in self.streams:
            try:
                self._redis.xgroup_create(stream, self.group, id="0-0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def read(self, block_ms: int = 1_000) -> Batch:
        """The next entries: first those that this consumer got before a restart, then those of dead consumers, then new ones.

        Blocks up to `block_ms` for new entries; an empty batch when none came.
        """
        own = self._read_own()
        if own:
            return own
        claimed = self._claim()
        if claimed:
            return claimed
        answer = self._redis.xreadgroup(
            self.group, self.name, dict.fromkeys(self.streams, ">"), count=self.batch, block=max(block_ms, 1)
        )
        return Batch([Entry(stream, id_, fields) for stream, id_, fields in _rows(answer)], [])

    def ack(self, entries: Iterable[Entry], marks: Callable[[str], Mapping[str, str]] | None = None) -> None:
        """Acknowledge; call it after the commit that holds their effect. `marks` gives what `kept_marks` shall return."""
        by_stream: dict[str, list[str]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry.id)
        pipeline = self._redis.pipeline(transaction=False)
        for stream, ids in by_stream.items():
            pipeline.xack(stream, self.group, *ids)
            kept = marks(stream) if marks else None
            if kept:
                pipeline.hset(_marks_key(stream), mapping=dict(kept))
        pipeline.execute()

    def kept_marks(self, stream: str) -> dict[str, str]:
        """What was kept with the last acknowledgements; of a Redis that lost its data nothing."""
        return {_text(src): value.decode() for src, value in self._redis.hgetall(_marks_key(stream)).items()}

    def reread(self) -> None:
        """Hand out all unacknowledged entries of this consumer again, such as after a rolled-back commit."""
        self._own_done = dict.fromkeys(self.streams, "0-0")

    def _read_own(self) -> Batch:
        """Entries handed to this name before, in order, each once per start (or per `reread`)."""
        for stream, after in list(self._own_done.items()):
            answer = self._redis.xreadgroup(self.group, self.name, {stream: after}, count=self.batch)
            rows = _rows(answer)
            if not rows:
                del self._own_done[stream]
                continue
            self._own_done[stream] = rows[-1][1]
            return self._sorted_out(stream, [(id_, fields) for _, id_, fields in rows], [])
        return Batch([], [])

    def _claim(self) -> Batch:
        if time.monotonic() < self._next_claim:
            return Batch([], [])
        for stream in self.streams:
            _, rows, deleted = self._redis.xautoclaim(
                stream, self.group, self.name, min_idle_time=self.claim_idle_ms, start_id="0-0", count=self.batch
            )
            batch = self._sorted_out(stream, [(_text(id_), fields) for id_, fields in rows], [_text(id_) for id_ in deleted])
            if batch:
                return batch
        self._next_claim = time.monotonic() + self._claim_every_s
        return Batch([], [])

    def _sorted_out(self, stream: str, rows: list[tuple[str, dict[bytes, bytes]]], deleted: list[str]) -> Batch:
        """Entries with their delivery counts; ids without a body are reported as lost and taken off the list."""
        gone = deleted + [id_ for id_, fields in rows if not fields]
        if gone:
            log.error("%s: %d entries were trimmed before they were acknowledged; backfill is needed", stream, len(gone))
            self._redis.xack(stream, self.group, *gone)
        alive = [(id_, fields) for id_, fields in rows if fields]
        if not alive:
            return Batch([], [(stream, id_) for id_ in gone])
        pending = self._redis.xpending_range(
            stream, self.group, min=alive[0][0], max=alive[-1][0], count=len(alive) + len(gone), consumername=self.name
        )
        counts = {_text(row["message_id"]): int(row["times_delivered"]) for row in pending}
        return Batch([Entry(stream, id_, fields, counts.get(id_, 1)) for id_, fields in alive], [(stream, id_) for id_ in gone])


def lag(redis: Redis, stream: str, group: str = GROUP) -> StreamLag:
    """How far the group is behind. A missing stream or group counts as nothing waiting."""
    client: Any = redis
    state = _group_state(client, stream, group)
    if state is None:
        return StreamLag(stream, int(client.xlen(stream)), 0, 0, 0)
    length = int(client.xlen(stream))
    waiting = state["lag"]
    oldest = _oldest_open(client, stream, group, state)
    seconds, micros = client.time()
    age_ms = max(0, seconds * 1000 + micros // 1000 - int(oldest.partition("-")[0])) if oldest else 0
    return StreamLag(stream, length, int(state["pending"]), length if waiting is None else int(waiting), age_ms)


def trim(redis: Redis, stream: str) -> int:
    """Remove what every group has acknowledged, exactly that; returns how many entries went. Nothing without a group.

    The last acknowledged entry stays, so that a stream never looks as if it had always been empty.
    """
    client: Any = redis
    floors = []
    for state in client.xinfo_groups(stream) if client.exists(stream) else []:
        pending = client.xpending(stream, state["name"])
        lowest = _text(pending["min"]) if pending["pending"] else _text(state["last-delivered-id"])
        floors.append(lowest)
    if not floors:
        return 0
    return int(client.xtrim(stream, minid=min(floors, key=_order), approximate=False))


def _group_state(client: Any, stream: str, group: str) -> dict[str, Any] | None:
    if not client.exists(stream):
        return None
    for state in client.xinfo_groups(stream):
        if _text(state["name"]) == group:
            return dict(state)
    return None


def _oldest_open(client: Any, stream: str, group: str, state: Mapping[str, Any]) -> str:
    """The id of the oldest entry that is not acknowledged, or nothing."""
    pending = client.xpending(stream, group)
    if pending["pending"]:
        return _text(pending["min"])
    after = client.xrange(stream, min=f"({_text(state['last-delivered-id'])}", count=1)
    return _text(after[0][0]) if after else ""


def _rows(answer: Any) -> list[tuple[str, str, dict[bytes, bytes]]]:
    """XREADGROUP's answer flattened, in whichever of the two protocols it came."""
    parts = answer.items() if isinstance(answer, dict) else answer or []
    rows: list[tuple[str, str, dict[bytes, bytes]]] = []
    for stream, chunks in parts:
        listed = chunks[0] if isinstance(answer, dict) and chunks and isinstance(chunks[0], list) else chunks
        rows += [(_text(stream), _text(id_), fields or {}) for id_, fields in listed]
    return rows


def _marks_key(stream: str) -> str:
    return f"{stream}:marks"


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _order(id_: str) -> tuple[int, int]:
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds), int(number or 0)
