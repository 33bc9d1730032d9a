"""The whole job, from booked deals to the ledger, beside a raw COPY of the very accrual rows that it wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from time import perf_counter
from typing import IO

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, configure_mappers

from app.commissions import accrual, settlement, units
from app.core.clock import now
from app.core.collector import calm_collector
from benchmarks.commissions import engine
from benchmarks.commissions.brokerage import SHARES, Brokerage, Tree
from benchmarks.form import Limit, Result, Run
from benchmarks.servers import BenchDatabase, BenchFailed, database

DEALS, SMALL_DEALS = 1_000_000, 3_000
ACCOUNTS, SMALL_ACCOUNTS = 10_000, 500
TREE, SMALL_TREE = Tree(ibs=2_000, depth=5), Tree(ibs=100, depth=5)

GOAL_DEALS_PER_S = 10_000
GOAL_OF_COPY = 0.25

#: As many as cores: each takes its part of the shards.
WORKERS = 2
TIMEOUT_S = 3600

#: What accrual writes; ids and the moment are the table's own defaults.
_COLUMNS = ", ".join(units.COLUMNS)
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Done:
    """How long the parts of the job took for how many deals, and what they left."""

    deals: int
    accruals: int
    settlements: int
    accruing_s: float
    settling_s: float

    @property
    def deals_per_s(self) -> float:
        return self.deals / (self.accruing_s + self.settling_s)

    @property
    def accruals_per_s(self) -> float:
        return self.accruals / (self.accruing_s + self.settling_s)


def measure(run: Run) -> None:
    """The pure engine first, then the job."""
    deals = run.size or (SMALL_DEALS if run.small else DEALS)
    tree, accounts = (SMALL_TREE, SMALL_ACCOUNTS) if run.small else (TREE, ACCOUNTS)
    engine.measure(run, deals, tree)
    with database() as place:
        brokerage = Brokerage(place, tree, accounts)
        run.tell(f"booking {deals:,} deals")
        tickets = brokerage.trade(deals)
        run.tell("accruing and settling")
        done = work(place, tickets)
        run.add(Result("accruals per deal", done.accruals / done.deals, ""))
        run.add(Result("accrual", done.deals / done.accruing_s, "deals/s"))
        run.add(Result("accrual", done.accruals / done.accruing_s, "accruals/s"))
        run.add(Result("settlement of all IBs", done.accruals / done.settling_s, "accruals/s"))
        run.add(Result("settlement of all IBs", done.settlements / done.settling_s, "settlements/s"))
        run.add(Result("whole job", done.deals_per_s, "deals/s", GOAL_DEALS_PER_S))
        copied = _copied(place)
    run.add(Result("COPY of the same accruals", copied, "accruals/s"))
    run.add(Result("whole job", done.accruals_per_s, "accruals/s", GOAL_OF_COPY, Limit("COPY", copied)))


def work(place: BenchDatabase, tickets: Sequence[int]) -> Done:
    """Accrue these deals, in as many processes as there are workers, and settle all IBs. Raises BenchFailed when anything of
    it is missing at the end.
    """
    accruing_s = _accrue(place)
    sessions = create_engine(_url(place))
    with Session(sessions) as session:
        configure_mappers()
        between = {"first": tickets[0], "last": tickets[-1]}
        accruals = session.scalar(
            text(
                "SELECT count(*) FROM accrual WHERE deal_id BETWEEN (SELECT id FROM deal WHERE ticket = :first)"
                " AND (SELECT id FROM deal WHERE ticket = :last)"
            ),
            between,
        )
        session.rollback()
        began = perf_counter()
        settled = settlement.settle_all(session, now() + timedelta(seconds=1))
        settling_s = perf_counter() - began
        _check(session, len(tickets), accruals or 0, settled)
    sessions.dispose()
    return Done(len(tickets), accruals or 0, len(settled), accruing_s, settling_s)


def _accrue(place: BenchDatabase) -> float:
    """Seconds until all shards are done, from when all workers have started."""
    context = get_context("spawn")
    barrier = context.Barrier(WORKERS + 1)
    workers = [context.Process(target=_worker, args=(_url(place), index, barrier)) for index in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        barrier.wait(TIMEOUT_S)
        began = perf_counter()
        barrier.wait(TIMEOUT_S)
        return perf_counter() - began
    except BrokenBarrierError:
        raise BenchFailed("a worker stopped with an error; its messages stand above") from None
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _worker(url: str, index: int, barrier: Barrier) -> None:
    configure_mappers()
    calm_collector()
    with Session(create_engine(url)) as session:
        server_id = session.scalars(text("SELECT id FROM mt_server")).one()
        session.rollback()
        barrier.wait(TIMEOUT_S)
        try:
            for shard in range(index, units.SHARDS, WORKERS):
                accrual.accrue_shard(session, server_id, shard)
        except BaseException:
            barrier.abort()
            raise
        barrier.wait(TIMEOUT_S)


def _url(place: BenchDatabase) -> str:
    return place.application.replace("postgresql://", "postgresql+psycopg://", 1)


def _check(session: Session, deals: int, accruals: int, settled: Sequence[settlement.Settled]) -> None:
    """All deals paid on as many levels as the product reads, all of it settled, and what was settled is in the ledger."""
    if not deals or accruals % deals or not 0 < accruals <= deals * len(SHARES):
        raise BenchFailed(f"{deals} deals made {accruals} accruals")
    left = session.scalar(text("SELECT count(*) FROM accrual_sum WHERE settlement_id IS NULL"))
    if left or not settled:
        raise BenchFailed(f"{left} sums are not settled after {len(settled)} settlements")
    posted = text("SELECT count(*) FROM settlement s JOIN ledger.txn t ON t.id = s.ledger_txn_id WHERE s.period = :period")
    if session.scalar(posted, {"period": settled[0].period}) != len(settled):
        raise BenchFailed("a settlement is not in the ledger")


def _copied(place: BenchDatabase) -> float:
    """Rows per second of one COPY of all accruals into a table of the same columns, defaults, checks and indexes."""
    with psycopg.connect(place.superuser, autocommit=True) as connection, tempfile.TemporaryFile() as lines:
        cursor = connection.cursor()
        with cursor.copy(f"COPY (SELECT {_COLUMNS} FROM accrual ORDER BY id) TO STDOUT") as out:
            for block in out:
                lines.write(block)
        cursor.execute("CREATE TABLE accrual_copy (LIKE accrual INCLUDING ALL)")
        cursor.execute("CHECKPOINT")
        lines.seek(0)
        began = perf_counter()
        _copy(cursor, lines)
        took = perf_counter() - began
        return cursor.rowcount / took


def _copy(cursor: psycopg.Cursor, lines: IO[bytes]) -> None:
    with cursor.copy(f"COPY accrual_copy ({_COLUMNS}) FROM STDIN") as into:
        while block := lines.read(_BLOCK):
            into.write(block)
