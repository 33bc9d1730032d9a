"""From the stream to committed deals and positions: ingest as it runs, beside COPY alone and beside reading alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, configure_mappers

from app.core import copying
from app.core.collector import calm_collector
from app.metatrader import deal_rows, ingest
from app.metatrader.events import DealEvent, decode
from app.metatrader.servertime import server_zone
from app.metatrader.stream import StreamConsumer, stream_names
from benchmarks.form import Limit, Result, Run
from benchmarks.metatrader import flow, mirror
from benchmarks.servers import BenchDatabase, BenchFailed, database

ROUNDS = 3
TIMEOUT_S = 300.0

GOAL_DEALS_PER_S = 20_000
GOAL_OF_READING = 0.3


def measure(run: Run) -> None:
    """Deals alone, and deals with their positions, with one and two processes; then the mirror."""
    accounts, trades = (500, 4_000) if run.small else (10_000, 40_000)
    with database(redis=True) as place:
        flow.build_house(place, accounts)
        bench = _Bench(place, flow.Flow(run.random, accounts), trades)
        found = run.rounds(
            {
                "COPY of the same rows": bench.copied,
                "reading, 1 process": partial(bench.read, 1),
                "reading, 2 processes": partial(bench.read, 2),
                "deals, 1 process": partial(bench.booked, 1, positions=False),
                "deals, 2 processes": partial(bench.booked, 2, positions=False),
                "deals and positions, 1 process": partial(bench.booked, 1, positions=True),
                "deals and positions, 2 processes": partial(bench.booked, 2, positions=True),
            },
            rounds=1 if run.small else ROUNDS,
        )
    copied = found["COPY of the same rows"]
    run.add(Result("COPY of the same rows", copied, "deals/s"))
    for number in ("1 process", "2 processes"):
        reading = found[f"reading, {number}"]
        run.add(Result(f"XREADGROUP and decoding, {number}", reading, "deals/s"))
        deals = found[f"deals, {number}"]
        run.add(Result(f"deals, {number}", deals, "deals/s", GOAL_DEALS_PER_S if number == "2 processes" else None))
        run.add(Result(f"deals, {number}", deals, "deals/s", GOAL_OF_READING, Limit("reading", reading)))
        run.add(Result(f"deals, {number}", deals, "deals/s", None, Limit("COPY", copied)))
        both = found[f"deals and positions, {number}"]
        run.add(Result(f"deals and positions, {number}", both, "events/s"))
    mirror.measure(run)


class _Bench:
    """One house; every measurement starts with empty tables and full streams."""

    def __init__(self, place: BenchDatabase, trades: flow.Flow, number: int) -> None:
        self._place, self._flow, self._number = place, trades, number
        self._url = place.application.replace("postgresql://", "postgresql+psycopg://", 1)
        self._engine: Engine = create_engine(self._url)
        self._redis = Redis.from_url(place.redis)

    def copied(self) -> float:
        """Deals per second of COPY alone, into the same table, a batch per transaction, the lines made before."""
        entries = self._fill(positions=False)
        zone, parts = server_zone(flow.ZONE), list[str]()
        with Session(self._engine) as session:
            server_id = session.scalar(text("SELECT id FROM mt_server"))
            owners: dict[int, int] = dict(session.execute(text("SELECT login, id FROM trading_account")).all())
            consumer = StreamConsumer(self._redis, stream_names(flow.SERVER, flow.SHARDS), name="copy", batch=2_500)
            consumer.ensure_group()
            ids = iter(range(1, entries + 1))
            while batch := consumer.read(1):
                lines = []
                for entry in batch.entries:
                    event = decode(entry.fields)
                    assert isinstance(event, DealEvent)
                    moment = zone.to_utc(event.deal.server_time_ms)
                    report = deal_rows.DealReport(event.deal, moment.utc, moment.utc_offset_min)
                    head = deal_rows.Head(1, report.fingerprint, report.done_at, report.done_at, is_new=True)
                    row = deal_rows.Row(report, head, 1, owners[event.deal.login])
                    lines.append(row.line(next(ids), server_id))
                parts.append("".join(lines))
            session.rollback()
            began = time.perf_counter()
            for part in parts:
                copying.copy(session, "deal", deal_rows.DEAL_COLUMNS, iter([part]))
                session.commit()
            took = time.perf_counter() - began
        return entries / took

    def read(self, processes: int) -> float:
        """Events per second of XREADGROUP and decoding, nothing else."""
        self._fill(positions=False)
        return self._timed(_read, processes)

    def booked(self, processes: int, *, positions: bool) -> float:
        """Events per second from the stream to the commit and the acknowledgement."""
        deals = self._fill(positions=positions)
        rate = self._timed(_consume, processes)
        with Session(self._engine) as session:
            booked = session.scalar(text("SELECT count(*) FROM deal WHERE is_current AND trading_account_id IS NOT NULL"))
            parked = session.scalar(text("SELECT count(*) FROM mt_dead_letter"))
        if (booked, parked) != (deals, 0):
            raise BenchFailed(f"{booked} of {deals} deals are booked, {parked} events parked")
        return rate

    def _fill(self, *, positions: bool) -> int:
        flow.empty(self._place, self._redis, self._engine)
        self._events, deals = flow.publish(self._redis, self._flow.trades(self._number, positions=positions))
        for stream in stream_names(flow.SERVER, flow.SHARDS):
            self._redis.xgroup_create(stream, "ingest", id="0-0", mkstream=True)
        return deals

    def _timed(self, work: Callable[..., None], processes: int) -> float:
        """Events per second of a number of processes that begin at once, when all have started."""
        context = get_context("spawn")
        barrier = context.Barrier(processes + 1)
        running = [
            context.Process(target=_begin, args=(work, self._url, self._place.redis, ingest.Share(index, processes), barrier))
            for index in range(processes)
        ]
        for process in running:
            process.start()
        try:
            barrier.wait(TIMEOUT_S)
            began = time.perf_counter()
            barrier.wait(TIMEOUT_S)
            took = time.perf_counter() - began
        except BrokenBarrierError:
            raise BenchFailed("a process stopped with an error; its messages stand above") from None
        finally:
            for process in running:
                process.kill()
        return self._events / took


def _begin(work: Callable[..., None], url: str, redis_url: str, share: ingest.Share, barrier: Barrier) -> None:
    """Prepare everything, wait for the others, work."""
    configure_mappers()
    calm_collector()
    engine, redis = create_engine(url, pool_pre_ping=True, hide_parameters=True), Redis.from_url(redis_url)
    with Session(engine) as session:
        server_id = session.scalars(text("SELECT id FROM mt_server")).one()
        session.rollback()
        streams = [name for shard, name in enumerate(stream_names(flow.SERVER, flow.SHARDS)) if share.owns(server_id, shard)]
        barrier.wait(TIMEOUT_S)
        try:
            work(session, redis, share, streams)
        except BaseException:
            barrier.abort()
            raise
        barrier.wait(TIMEOUT_S)


def _consume(session: Session, redis: Redis, share: ingest.Share, streams: list[str]) -> None:
    ingest.consume(session, redis, flow.Drained(redis, streams), share)


def _read(session: Session, redis: Redis, share: ingest.Share, streams: list[str]) -> None:
    consumer = StreamConsumer(redis, streams, name=share.name, batch=ingest.BATCH)
    consumer.read(1)
    while batch := consumer.read(1):
        for entry in batch.entries:
            decode(entry.fields)
