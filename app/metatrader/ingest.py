"""Ingest: the consumers of all servers' event streams, booking in batches, acknowledging after the commit.

An entry that cannot be understood becomes a dead letter with its reason; the rest of the batch is booked. An entry that
fails again and again on its own is parked there too, so that it never blocks the others. Several processes share the
streams: each reads its own, so that an account's events stay in order.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.core import heartbeat, live
from app.core.actor import Actor
from app.core.clock import now
from app.core.collector import calm_collector
from app.core.uow import unit_of_work
from app.metatrader import batches, dead_letters, state
from app.metatrader.events import AnyEvent, MalformedEvent
from app.metatrader.gaps import GapWatch
from app.metatrader.sources import running as sources
from app.metatrader.stream import Batch, Entry, StreamConsumer, login_of, server_of, stream_name, stream_names, trim
from app.models.metatrader import Server

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.ingest")

#: How often the list of servers, and who of them is paused, is looked at.
RELOAD_EVERY_S = 2.0
TRIM_EVERY_S = 10.0
#: Entries per stream and read. Larger batches cost less each and hold the server's lock longer.
BATCH = 5_000
MOST_SHARDS = 64
FEW_CLIENTS = 20
NEWS = json.dumps({"type": "trading.changed"})

ACTOR = Actor.system("ingest")


@dataclass(frozen=True)
class Share:
    """Which of the streams are this process's: one of `of` processes that share them."""

    index: int = 0
    of: int = 1

    @property
    def name(self) -> str:
        """The consumer's name, the same over restarts."""
        return f"ingest-{self.index}" if self.index else "ingest"

    def owns(self, server_id: int, shard: int) -> bool:
        return (server_id + shard) % self.of == self.index


class Stop(threading.Event):
    """Set by SIGTERM or SIGINT, and once one of the processes that belong together has ended."""

    def __init__(self, others: Sequence[BaseProcess] = (), parent: int | None = None) -> None:
        super().__init__()
        self._others, self._parent = others, parent
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.set())

    def is_set(self) -> bool:
        return (
            super().is_set()
            or any(not process.is_alive() for process in self._others)
            or self._parent not in (None, os.getppid())
        )


def run(settings: Settings) -> None:
    """Consume until SIGTERM or SIGINT, in INGEST_PROCESSES processes; the first one also runs our own sources of events.

    When one of them dies, all end, and whoever keeps this part running starts them again.
    """
    shares = [Share(index, settings.ingest_processes) for index in range(settings.ingest_processes)]
    others = [_fork(settings, share) for share in shares[1:]]
    stop = Stop(others)
    own_sources = sources.run_all(settings, stop)
    try:
        _work(settings, shares[0], stop)
    finally:
        stop.set()
        for process in others:
            process.terminate()
        for process in others:
            process.join(timeout=10)
    own_sources.join()
    if any(process.exitcode for process in others):
        sys.exit(1)


def _fork(settings: Settings, share: Share) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_be_other, args=(settings, share, os.getpid()), daemon=True)
    process.start()
    return process


def _be_other(settings: Settings, share: Share, parent: int) -> None:
    _work(settings, share, Stop(parent=parent))


def _work(settings: Settings, share: Share, stop: threading.Event) -> None:
    """Consume this share until told to stop. Lost connections are waited for."""
    calm_collector()
    engine = create_engine(settings.database_url, pool_pre_ping=True, hide_parameters=True)
    redis = Redis.from_url(settings.redis_url, socket_timeout=30)
    while not stop.is_set():
        try:
            with Session(engine) as session:
                consume(session, redis, stop, share)
        except (OperationalError, RedisError) as error:
            log.warning("ingest waits for its servers error=%s", type(error).__name__)
            stop.wait(1)


def consume(session: Session, redis: Redis, stop: threading.Event, share: Share = Share()) -> None:
    """Read and book until told to stop, or until the connection to a database is lost."""
    consumer, gaps = _consumer(redis, [], share), GapWatch()
    trim_at = 0.0
    while not stop.is_set():
        servers = {server.code: server for server in session.scalars(select(Server).where(Server.is_active))}
        session.expunge_all()
        session.rollback()
        heartbeat.beat(redis, share.name)
        streams = _streams(redis, servers, share)
        if streams != consumer.streams:
            consumer, gaps = _consumer(redis, streams, share), GapWatch()
            for stream in streams:
                gaps.restore(stream, consumer.kept_marks(stream))
        if not streams:
            stop.wait(1)
            return
        if time.monotonic() >= trim_at:
            trim_at = time.monotonic() + TRIM_EVERY_S
            for stream in streams:
                trim(redis, stream)
        reload_at = time.monotonic() + RELOAD_EVERY_S
        while not stop.is_set() and (left_s := reload_at - time.monotonic()) > 0:
            batch = consumer.read(block_ms=int(min(left_s, 1.0) * 1_000))
            heartbeat.beat(redis, share.name)
            _book_batch(session, redis, servers, consumer, batch, gaps)


def _consumer(redis: Redis, streams: list[str], share: Share) -> StreamConsumer:
    consumer = StreamConsumer(redis, streams, name=share.name, batch=BATCH)
    consumer.ensure_group()
    return consumer


def _streams(redis: Redis, servers: Mapping[str, Server], share: Share) -> list[str]:
    """The streams to read now: those of shards that are ours, and what is left of shards that a server had before."""
    names = []
    for server in servers.values():
        if server.events_paused_at is not None:
            continue
        names += [name for shard, name in enumerate(stream_names(server.code, server.shards)) if share.owns(server.id, shard)]
        former = [shard for shard in range(server.shards, MOST_SHARDS) if share.owns(server.id, shard)]
        pipeline = redis.pipeline(transaction=False)
        for shard in former:
            pipeline.exists(stream_name(server.code, shard, MOST_SHARDS))
        names += [
            stream_name(server.code, shard, MOST_SHARDS)
            for shard, found in zip(former, pipeline.execute(), strict=True)
            if found
        ]
    return names


def _book_batch(
    session: Session, redis: Redis, servers: dict[str, Server], consumer: StreamConsumer, batch: Batch, gaps: GapWatch
) -> None:
    """Book what was read, acknowledge it, and tell the clients' pages."""
    for stream, _ in batch.lost:
        gaps.lost(server_of(stream), 1)
    client_ids = book_entries(session, servers, batch.entries, gaps)
    if batch.entries:
        consumer.ack(batch.entries, gaps.marks)
    _tell_pages(redis, client_ids)


def _tell_pages(redis: Redis, client_ids: set[int]) -> None:
    """Tell the open pages of these clients that they have news. Of many clients few have a page open."""
    channels = {live.channel(client_id) for client_id in client_ids}
    if len(channels) > FEW_CLIENTS:
        listened = redis.pubsub_channels(live.channel("*"))
        channels &= {str(channel, "utf-8") for channel in listened if isinstance(channel, bytes)}
    pipeline = redis.pipeline(transaction=False)
    for channel in channels:
        pipeline.publish(channel, NEWS)
    pipeline.execute()


Told = tuple[Entry, AnyEvent]


def book_entries(
    session: Session, servers: dict[str, Server], entries: Sequence[Entry], gaps: GapWatch | None = None
) -> set[int]:
    """Book a batch; when it fails as a whole, entry by entry, so that only the guilty one is parked. Returns the clients."""
    told: list[Told] = []
    refused: list[tuple[Entry, str]] = []
    moment = now()
    for entry in entries:
        try:
            event = batches.read(entry, servers, moment)
        except MalformedEvent as error:
            refused.append((entry, error.reason))
        else:
            told.append((entry, event))
            if gaps is not None:
                gaps.see(entry.stream, event)
    lost = {code: count for code, count in (gaps.found() if gaps else {}).items() if code in servers}
    if not told and not refused and not lost:
        return set()
    try:
        return _book(session, servers, told, refused, lost)
    except OperationalError:
        raise  # the database is away or busy: the whole batch comes again
    except Exception:
        log.exception("batch refused, booking its %d entries one by one", len(entries))
    clients = _book(session, servers, [], refused, lost)
    for entry, event in told:
        try:
            clients |= _book(session, servers, [(entry, event)])
        except OperationalError:
            raise
        except Exception as error:
            log.exception("entry refused stream=%s entry=%s", entry.stream, entry.id)
            with unit_of_work(session, ACTOR) as unit:
                server_id = servers[event.server].id
                dead_letters.park(unit, entry, f"cannot be booked: {type(error).__name__}", server_id)
    return clients


def _book(
    session: Session,
    servers: dict[str, Server],
    told: Sequence[Told],
    refused: Sequence[tuple[Entry, str]] = (),
    lost: Mapping[str, int] | None = None,
) -> set[int]:
    """One unit of work: everything of some entries. Servers are locked in one order, whoever does so."""
    by_server: dict[str, list[Told]] = defaultdict(list, {code: [] for code in lost or {}})
    for entry, event in told:
        by_server[event.server].append((entry, event))
    clients: set[int] = set()
    with unit_of_work(session, ACTOR) as unit:
        for entry, reason in refused:
            server = servers.get(server_of(entry.stream))
            dead_letters.park(unit, entry, reason, server.id if server else None)
        for code, its in sorted(by_server.items()):
            server = servers[code]
            outcome = batches.book_events(unit, server, [event for _, event in its])
            clients |= outcome.client_ids
            if outcome.unowned:
                first = {login_of(event): entry for entry, event in reversed(its)}
                dead_letters.note_unknown_logins(unit, server.id, {login: first[login] for login in outcome.unowned})
            count = (lost or {}).get(code, 0)
            if (count or outcome.is_back) and state.note_gap(session, server.id, count):
                unit.emit("server.gap", subject_id=server.id, server_id=server.id, lost=count)
    return clients
