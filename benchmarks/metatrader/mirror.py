"""The ledger's mirror of trading accounts: how many logins a second, and how far behind at a steady 200 deals a second."""

from __future__ import annotations

import threading
import time
from multiprocessing import get_context
from statistics import quantiles

from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from app.jobs.schedule import PLAN
from app.metatrader import ingest, mirror
from benchmarks.form import Result, Run
from benchmarks.metatrader import flow
from benchmarks.servers import BenchDatabase, BenchFailed, database

DEALS_PER_S = 200
GOAL_LAG_S = 60.0

#: Seconds from the booking of a deal to the booking of the transaction that carries it.
_LAGS = text(
    "SELECT extract(epoch FROM t.posted_at - d.booked_at) FROM deal d JOIN ledger.txn t ON t.id = d.ledger_txn_id"
    " WHERE d.booked_at >= :since"
)


def measure(run: Run) -> None:
    """A backlog first, then the steady flow."""
    accounts, trades, flow_s = (500, 2_000, 5.0) if run.small else (10_000, 20_000, 100.0)
    with database(redis=True) as place:
        flow.build_house(place, accounts)
        deals = flow.Flow(run.random, accounts)
        engine = create_engine(place.application.replace("postgresql://", "postgresql+psycopg://", 1))
        redis = Redis.from_url(place.redis)
        with Session(engine) as session:
            flow.publish(redis, deals.trades(trades, positions=False))
            ingest.consume(session, redis, flow.Drained(redis))
            logins = session.scalars(text("SELECT count(DISTINCT login) FROM deal")).one()
            session.rollback()
            began = time.perf_counter()
            mirrored = mirror.mirror_deals(session)
            took = time.perf_counter() - began
            if mirrored != 2 * trades:
                raise BenchFailed(f"{mirrored} of {2 * trades} deals are mirrored")
            run.add(Result("mirror of a backlog", logins / took, "logins/s"))
            run.add(Result("mirror of a backlog, deals", mirrored / took, "deals/s"))
            lags = _steady(place, redis, session, deals, flow_s)
    run.add(Result(f"mirror behind at {DEALS_PER_S} deals/s, half", quantiles(lags, n=100)[49], "s"))
    run.add(Result(f"mirror behind at {DEALS_PER_S} deals/s, longest", max(lags), "s", GOAL_LAG_S, better="lower"))


def _steady(place: BenchDatabase, redis: Redis, session: Session, deals: flow.Flow, flow_s: float) -> list[float]:
    """Lags of all deals while ingest runs beside, and the mirror comes as often as it is planned."""
    every_s = min(next(planned.every_s for planned in PLAN if planned.name == "mirror_deals"), flow_s)
    since = session.scalars(text("SELECT clock_timestamp()")).one()
    session.rollback()
    context = get_context("spawn")
    stop = context.Event()
    consumer = context.Process(target=_consume, args=(place.application, place.redis, stop))
    redis.delete("heartbeat:ingest")
    consumer.start()
    while not redis.exists("heartbeat:ingest"):
        threading.Event().wait(0.05)
    publisher = threading.Thread(target=_publish, args=(redis, deals, flow_s))
    publisher.start()
    try:
        ends = time.monotonic() + flow_s
        while time.monotonic() < ends or publisher.is_alive():
            mirror.mirror_deals(session)
            threading.Event().wait(max(0.0, min(every_s, ends - time.monotonic())))
        drained = flow.Drained(redis)
        while not drained.is_set():
            threading.Event().wait(0.1)
        mirror.mirror_deals(session)
    finally:
        stop.set()
        publisher.join()
        consumer.join(10)
        consumer.kill()
    lags = [float(lag) for lag in session.scalars(_LAGS, {"since": since})]
    if not lags:
        raise BenchFailed("no deal of the steady flow is mirrored")
    return lags


def _consume(url: str, redis_url: str, stop: threading.Event) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with Session(engine) as session:
        ingest.consume(session, Redis.from_url(redis_url), stop)


def _publish(redis: Redis, deals: flow.Flow, flow_s: float) -> None:
    """A tenth of a second's deals every tenth of a second."""
    trades = deals.trades(int(DEALS_PER_S * flow_s / 2), positions=False)
    began, sent = time.monotonic(), 0
    while (elapsed_s := time.monotonic() - began) < flow_s:
        due = int(elapsed_s * DEALS_PER_S) - sent
        sent += flow.publish(redis, flow.some(trades, due))[1] if due else 0
        threading.Event().wait(0.1)
