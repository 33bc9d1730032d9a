"""One thread per server whose events we read ourselves, inside the ingest process: started, watched, restarted, stopped.

A thread that fails begins anew after a pause that grows; the others do not notice. A server that staff paused, switched off
or set up differently loses its thread within seconds.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis import Redis
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.metatrader import state
from app.metatrader.backfill import our_groups
from app.metatrader.events import Origin
from app.metatrader.platforms import connect
from app.metatrader.servertime import server_zone
from app.metatrader.sources import Batch, Place, Source, SourceError, load, refetch
from app.metatrader.sources.feed import Feed
from app.metatrader.sources.held import Held
from app.models.metatrader import Server

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.sources")

LOOK_EVERY_S = 3.0
HEARTBEAT_S = 5.0
PAUSES_S = (1.0, 2.0, 5.0, 15.0, 30.0)
#: A run of this length ended the trouble: the next failure begins with the shortest pause again.
CALM_S = 60.0
STOP_WITHIN_S = 5.0
#: Class of advisory locks, beside the server's id: only one process reads a server's source.
LOCK_CLASS = 7202


@dataclass(frozen=True)
class Assignment:
    """What one thread is to read. Whatever of it changes makes another assignment, and so another thread."""

    server_id: int
    code: str
    source: str
    options: str
    zone: str
    shards: int
    groups: tuple[str, ...]
    access: tuple[str, str, int]
    server: Server = field(compare=False, repr=False)


@dataclass
class Running:
    thread: threading.Thread
    stop: threading.Event


def run_all(settings: Settings, stop: threading.Event) -> threading.Thread:
    """Start the threads of all servers that need one, and keep them as staff configure them, until `stop` is set.

    Returns the thread that does so; it ends a few seconds after `stop` at the latest.
    """
    keeper = threading.Thread(target=_keep_all, args=(settings, stop), name="sources", daemon=True)
    keeper.start()
    return keeper


def _keep_all(settings: Settings, stop: threading.Event) -> None:
    engine = create_engine(settings.database_url, pool_pre_ping=True, hide_parameters=True, pool_size=2, max_overflow=60)
    running: dict[Assignment, Running] = {}
    try:
        while not stop.is_set():
            try:
                wanted = assignments(engine)
            except SQLAlchemyError as error:
                log.warning("sources keep running, the database is away error=%s", type(error).__name__)
                wanted = list(running)
            for assignment in running.keys() - set(wanted):
                _end(running.pop(assignment))
            for assignment in wanted:
                if assignment not in running or not running[assignment].thread.is_alive():
                    running[assignment] = _start(settings, engine, assignment)
            stop.wait(LOOK_EVERY_S)
    finally:
        for one in running.values():
            one.stop.set()
        deadline = time.monotonic() + STOP_WITHIN_S
        for one in running.values():
            one.thread.join(timeout=max(0.0, deadline - time.monotonic()))
        engine.dispose()


def assignments(engine: Engine) -> list[Assignment]:
    """The servers whose events we read now: active, not paused, with a source that needs a thread."""
    with Session(engine) as session:
        servers = session.scalars(select(Server).where(Server.is_active, Server.events_paused_at.is_(None)).order_by(Server.id))
        chosen = [server for server in servers if load(server.events) is not None]
        groups = {server.id: our_groups(session, server.id) for server in chosen}
        session.expunge_all()
    return [
        Assignment(
            server_id=server.id,
            code=server.code,
            source=server.events,
            options=json.dumps(server.options, sort_keys=True),
            zone=server.time_zone,
            shards=server.shards,
            groups=tuple(groups[server.id]),
            access=(server.platform, server.url, server.manager_login),
            server=server,
        )
        for server in chosen
    ]


def _start(settings: Settings, engine: Engine, assignment: Assignment) -> Running:
    stop = threading.Event()
    thread = threading.Thread(
        target=keep, args=(settings, engine, assignment, stop), name=f"source-{assignment.code}", daemon=True
    )
    thread.start()
    return Running(thread, stop)


def _end(one: Running) -> None:
    one.stop.set()
    one.thread.join(timeout=STOP_WITHIN_S)


def keep(settings: Settings, engine: Engine, assignment: Assignment, stop: threading.Event) -> None:
    """Read one server's source until told to stop, beginning anew after every failure."""
    failures = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            run_once(settings, engine, assignment, stop)
            failures = 0
        except SourceError as error:
            reason = str(error)
        except Exception as error:  # whatever a library throws concerns this server alone
            log.exception("source failed server=%s source=%s", assignment.code, assignment.source)
            reason = f"{assignment.source}: {type(error).__name__}"
        else:
            continue
        failures = 1 if time.monotonic() - began > CALM_S else failures + 1
        log.warning("source begins anew server=%s source=%s reason=%s", assignment.code, assignment.source, reason)
        with suppress(SQLAlchemyError), Session(engine) as session, unit_of_work(session, Actor.system("sources")):
            state.note_error(session, assignment.server_id, reason)
        stop.wait(PAUSES_S[min(failures, len(PAUSES_S)) - 1])


def run_once(settings: Settings, engine: Engine, assignment: Assignment, stop: threading.Event) -> None:
    """Read until told to stop. Waits for its turn while another process reads this server. Any failure is raised."""
    redis = Redis.from_url(settings.redis_url, socket_timeout=30, socket_connect_timeout=5)
    with redis, turn(engine, assignment.server_id, stop) as lock, Session(engine) as session:
        if lock is None:
            return
        zone = server_zone(assignment.zone)
        feed = Feed(
            session,
            redis,
            server_id=assignment.server_id,
            source=assignment.source,
            origin=Origin(assignment.code, assignment.source, "first"),
            zone=zone,
            shards=assignment.shards,
        )
        secrets = settings.server_secrets(assignment.code)
        make = load(assignment.source)
        if make is None:
            raise SourceError(f"there is no source {assignment.source}")
        source = make(
            Place(
                code=assignment.code,
                zone=zone,
                options=_options(assignment.server),
                secrets=secrets,
                groups=assignment.groups,
                cursors=feed.cursors,
                held=Held(engine, assignment.server_id, zone),
                connect=lambda: connect(assignment.server, password=secrets.password, ca_file=secrets.ca_file, redis=redis),
                remember=lambda subjects: refetch.remember(redis, assignment.code, subjects),
            )
        )
        try:
            _carry(source, feed, session, assignment, lock, stop)
        finally:
            source.close()
            feed.signal("disconnected")


def _carry(
    source: Source, feed: Feed, session: Session, assignment: Assignment, lock: Connection, stop: threading.Event
) -> None:
    """Batch after batch: into the streams, then the cursors, then the next."""
    next_beat, notes, is_connected = 0.0, dict[str, str](), False
    for batch in source.read(stop):
        if not is_connected:
            is_connected = feed.signal("connected") and feed.signal("sync_done")
            _note(session, assignment.server_id, error="")
        _note(session, assignment.server_id, batch=batch)
        if not feed.publish(batch.news, stop):
            return
        notes |= batch.notes
        if time.monotonic() >= next_beat:
            next_beat = time.monotonic() + HEARTBEAT_S
            lock.execute(text("SELECT 1"))  # without this connection another process may read the same
            feed.signal("heartbeat", notes)
            feed.save(batch.cursors)
        elif batch.news or batch.cursors:
            feed.save(batch.cursors)
        while batch.news and not feed.has_room() and not stop.wait(LOOK_EVERY_S / 6):
            pass


def _note(session: Session, server_id: int, *, batch: Batch | None = None, error: str | None = None) -> None:
    """Leave what the operations page shows: a loss that needs a sweep, the server's clock, the end of a trouble."""
    if batch is not None and not batch.lost and batch.clock_offset_min is None:
        return
    with unit_of_work(session, Actor.system("sources")):
        if error is not None:
            state.note_error(session, server_id, error)
        if batch is not None and batch.lost:
            log.warning("events were lost, a sweep is due server=%s reason=%s", server_id, batch.lost)
            state.note_gap(session, server_id)
        if batch is not None and batch.clock_offset_min is not None:
            state.note_clock(session, server_id, batch.clock_offset_min)


@contextmanager
def turn(engine: Engine, server_id: int, stop: threading.Event) -> Iterator[Connection | None]:
    """The right to read this server's source, for as long as the connection lives; None when a stop came first."""
    key = {"class": LOCK_CLASS, "server": server_id}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(text("SELECT pg_try_advisory_lock(:class, :server)"), key).scalar():
            if stop.wait(LOOK_EVERY_S):
                yield None
                return
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):
                connection.execute(text("SELECT pg_advisory_unlock(:class, :server)"), key)


def _options(server: Server) -> dict[str, Any]:
    """The source's own part of the server's options."""
    options = server.options.get(server.events, {})
    return dict(options) if isinstance(options, dict) else {}
