"""The ingest process: one consumer of all servers' event streams, booking in batches, acknowledging after the commit.

An entry that cannot be understood goes to mt_dead_letter with its reason; the rest of the batch is booked. An entry that
fails again and again on its own is parked there too, so that it never blocks the others.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.core import heartbeat, live
from app.core.actor import Actor
from app.core.uow import UnitOfWork, unit_of_work
from app.metatrader import booking
from app.metatrader.events import AccountEvent, AnyEvent, DealEvent, MalformedEvent, PositionEvent, decode
from app.metatrader.servertime import server_zone
from app.metatrader.sources import running as sources
from app.metatrader.stream import Entry, StreamConsumer, stream_names, trim
from app.models.metatrader import DeadLetter, Server

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.ingest")

RELOAD_EVERY_S = 30.0


def run(settings: Settings) -> None:
    """Consume until SIGTERM or SIGINT. Lost connections are waited for; servers added meanwhile are picked up."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    engine = create_engine(settings.database_url, pool_pre_ping=True, hide_parameters=True)
    redis = Redis.from_url(settings.redis_url, socket_timeout=30)
    own_sources = sources.run_all(settings, stop)
    while not stop.is_set():
        try:
            with Session(engine) as session:
                consume(session, redis, stop)
        except (OperationalError, RedisError) as error:
            log.warning("ingest waits for its servers error=%s", type(error).__name__)
            stop.wait(1)
    own_sources.join()


def consume(session: Session, redis: Redis, stop: threading.Event) -> None:
    """Read and book until told to stop, or until the list of servers should be looked at again."""
    servers = {server.code: server for server in session.scalars(select(Server).where(Server.is_active))}
    session.expunge_all()
    session.rollback()
    heartbeat.beat(redis, "ingest")
    if not servers:
        stop.wait(1)
        return
    streams = [name for code in servers for name in stream_names(code)]
    consumer = StreamConsumer(redis, streams, name="ingest")
    consumer.ensure_group()
    for number in range(int(RELOAD_EVERY_S)):
        if stop.is_set():
            return
        batch = consumer.read(block_ms=1_000)
        heartbeat.beat(redis, "ingest")
        if batch.entries:
            client_ids = book_entries(session, servers, batch.entries)
            consumer.ack(batch.entries)
            for client_id in client_ids:
                redis.publish(live.channel(client_id), json.dumps({"type": "trading.changed"}))
        if number == 0:
            for stream in streams:
                trim(redis, stream)


def book_entries(session: Session, servers: dict[str, Server], entries: list[Entry]) -> set[int]:
    """Book a batch; when it fails as a whole, entry by entry, so that only the guilty one is parked."""
    try:
        return _book(session, servers, entries)
    except OperationalError:
        raise  # the database is away or busy: the whole batch comes again
    except Exception:
        log.exception("batch refused, booking its %d entries one by one", len(entries))
    clients: set[int] = set()
    for entry in entries:
        try:
            clients |= _book(session, servers, [entry])
        except OperationalError:
            raise
        except Exception as error:
            log.exception("entry refused stream=%s entry=%s", entry.stream, entry.id)
            with unit_of_work(session, Actor.system("ingest")) as unit:
                park(unit, entry, f"cannot be booked: {type(error).__name__}")
    return clients


def _book(session: Session, servers: dict[str, Server], entries: list[Entry]) -> set[int]:
    clients: set[int] = set()
    with unit_of_work(session, Actor.system("ingest")) as unit:
        by_server: dict[str, list[AnyEvent]] = defaultdict(list)
        for entry in entries:
            try:
                event = decode(entry.fields)
                if event.server not in servers:
                    raise MalformedEvent(f"unknown server {event.server!r}")
            except MalformedEvent as error:
                park(unit, entry, error.reason)
                continue
            by_server[event.server].append(event)
        for code, events in sorted(by_server.items()):
            clients |= book_events(unit, servers[code], events)
    return clients


def book_events(unit: UnitOfWork, server: Server, events: list[AnyEvent]) -> set[int]:
    """Book decoded events of one server in their order; returns the clients whose pages have news."""
    booking.lock_server(unit.session, server.id)
    zone = server_zone(server.time_zone)
    deals, positions = [], []
    for event in events:
        if isinstance(event, DealEvent):
            moment = zone.to_utc(event.deal.server_time_ms, near=event.happened_at)
            deals.append(booking.DealReport(event.deal, moment.utc, moment.utc_offset_min, is_deleted=event.change == "delete"))
        elif isinstance(event, PositionEvent):
            opened = zone.to_utc(event.position.created_ms)
            positions.append((event.position, event.change == "delete", opened.utc))
    clients = booking.book_deals(unit, server.id, deals).client_ids
    clients |= booking.book_positions(unit.session, server.id, positions)
    for event in {event.account.login: event for event in events if isinstance(event, AccountEvent)}.values():
        client_id = booking.book_account(unit.session, server.id, event.account, event.happened_at)
        if client_id is not None:
            clients.add(client_id)
    return clients


def park(unit: UnitOfWork, entry: Entry, reason: str) -> None:
    """Keep an entry that cannot be booked where staff see it, with the reason. Parking twice keeps one row."""
    fields = {_legible(name): _legible(value) for name, value in entry.fields.items()}
    unit.session.execute(
        insert(DeadLetter)
        .values(stream=entry.stream, entry_id=entry.id, fields=fields, reason=reason[:300])
        .on_conflict_do_nothing(index_elements=["stream", "entry_id"])
    )
    log.warning("parked stream=%s entry=%s reason=%s", entry.stream, entry.id, reason[:120])


def _legible(raw: bytes) -> str:
    """Any bytes as a text that the database can hold."""
    return raw.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
