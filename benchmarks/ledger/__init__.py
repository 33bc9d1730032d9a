"""The ledger's speed and size: posting beside a plain ledger, storage, proofs and reading for books of growing length."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from app.ledger import queries
from app.ledger.proofs import runs, seals
from benchmarks.form import Limit, Result, Run
from benchmarks.ledger import load
from benchmarks.servers import BenchDatabase, database

FOLDER = Path(__file__).parent
CONNECTIONS = (1, 8, 32)
ROUNDS, ROUND_SECONDS = 5, 3
#: Entries in the books that are read and proved.
SIZES = (10_000, 1_000_000, 20_000_000)
READS = 200
CLEARING = "psp:bench:clearing:USD"

SPREAD_GOAL, HOT_GOAL, MANY_GOAL = 0.6, 1.5, 10_000
#: Reading the longest books may cost this much more than reading the shortest ones.
READING_GOAL = 2.0


def measure(run: Run) -> None:
    """All figures; small: one short round each, and the shortest books only."""
    with database() as where:
        _posting(run, where)
    shortest: dict[str, float] = {}
    for entries in SIZES[:1] if run.small else SIZES:
        with database() as where:
            run.tell(f"writing books of {entries:,} entries")
            _psql(where, where.superuser, (FOLDER / "books.sql").read_text().replace(":transactions", str(entries // 2)))
            _books(run, where, entries, shortest)


def _posting(run: Run, where: BenchDatabase) -> None:
    for file in ("plain.sql", "ours.sql"):
        _psql(where, where.owner, (FOLDER / file).read_text())
    seconds = 1 if run.small else ROUND_SECONDS
    sides: dict[str, Callable[[], float]] = {}
    for connections in CONNECTIONS:
        for script in ("plain, spread", "ours, spread"):
            sides[f"{script}, {connections}"] = _sql(where, script, connections, seconds)
    for script in ("plain, hot", "ours, hot", "ours, hot in 16 shards"):
        sides[f"{script}, 8"] = _sql(where, script, 8, seconds)
    for connections in CONNECTIONS:
        for work in ("post, spread", "post, hot"):
            sides[f"{work}, {connections}"] = _python(where, work, connections, seconds)
    for connections in (1, 4):
        for work in ("post_many of 100, spread", "post_many of 100, hot"):
            sides[f"{work}, {connections}"] = _python(where, work, connections, seconds)
    found = run.rounds(sides, rounds=1 if run.small else ROUNDS)

    rate = "transfers/s"
    for connections in CONNECTIONS:
        beside = Limit("plain ledger", found[f"plain, spread, {connections}"])
        name = f"SQL, spread over 10,000 accounts, {connections} connections"
        run.add(Result(name, found[f"ours, spread, {connections}"], rate, SPREAD_GOAL, beside))
    hot = Limit("plain ledger, hot", found["plain, hot, 8"])
    run.add(Result("SQL, one hot account, 8 connections", found["ours, hot, 8"], rate, None, hot))
    run.add(Result("SQL, the same in 16 shards", found["ours, hot in 16 shards, 8"], rate, None, hot))
    run.add(Result("hot account with its remedy (post_many of 100)", found["post_many of 100, hot, 4"], rate, HOT_GOAL, hot))
    for connections in CONNECTIONS:
        run.add(Result(f"Python post, spread, {connections} connections", found[f"post, spread, {connections}"], rate))
        run.add(Result(f"Python post, hot, {connections} connections", found[f"post, hot, {connections}"], rate))
    for connections in (1, 4):
        name = f"Python post_many of 100, spread, {connections} connections"
        run.add(Result(name, found[f"post_many of 100, spread, {connections}"], rate, MANY_GOAL if connections > 1 else None))
    run.add(Result("Python post_many of 100, hot, 1 connection", found["post_many of 100, hot, 1"], rate))


def _sql(where: BenchDatabase, script: str, connections: int, seconds: int) -> Callable[[], float]:
    return partial(load.pgbench, where.programs, where.owner, script, connections=connections, seconds=seconds)


def _python(where: BenchDatabase, work: str, connections: int, seconds: float) -> Callable[[], float]:
    return partial(load.python, where.application, work, connections=connections, seconds=seconds)


def _books(run: Run, where: BenchDatabase, entries: int, shortest: dict[str, float]) -> None:
    """Storage, proofs and reading for one length of books. `shortest` takes, and then gives, the shortest books' figures."""
    engine = create_engine(where.application.replace("postgresql://", "postgresql+psycopg://", 1))
    with Session(engine) as session:
        for table, what in (("entry", "entry"), ("txn", "transaction")):
            size = session.scalar(
                text(f"SELECT pg_total_relation_size('ledger.{table}') / count(*)::float FROM ledger.{table}")
            )
            run.add(Result(f"storage per {what} with indexes, {entries:,} entries", float(size or 0), "bytes"))
        started = perf_counter()
        seals.seal(session)
        run.add(Result(f"sealing, {entries:,} entries", perf_counter() - started, "s"))
        total = 0.0
        for name, prove in runs.ALL.items():
            run.tell(name)
            proof = prove(session)
            session.rollback()
            if proof.code != "P6" and not proof.holds:
                raise load.LoadFailed(f"{name}: {proof.breaks[:3]}")
            total += proof.seconds
            run.add(Result(f"proof {proof.code}, {entries:,} entries", proof.seconds, "s"))
        run.add(Result(f"all proofs, {entries:,} entries", total, "s"))
        for name, read in _reads(run, session).items():
            for _ in range(10):
                read()
            milliseconds = median(_timed(read) for _ in range(READS)) * 1000
            limit = Limit(f"{SIZES[0]:,} entries", shortest[name]) if name in shortest else None
            goal = READING_GOAL if limit else None
            run.add(Result(f"{name}, {entries:,} entries", milliseconds, "ms", goal, limit, better="lower"))
            shortest.setdefault(name, milliseconds)
    engine.dispose()


def _reads(run: Run, session: Session) -> dict[str, Callable[[], object]]:
    """What a page asks of the account that took part in every transaction, at random moments of its year."""

    def moment() -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=run.random.randrange(350 * 86_400))

    def statement() -> object:
        begin = moment()
        return queries.statement_page(session, CLEARING, begin, begin + timedelta(days=30))

    return {
        "balance as of a moment": lambda: queries.balance_as_of(session, CLEARING, moment()),
        "statement page of 50": statement,
        "newest 50 entries": lambda: queries.entries(session, CLEARING),
        "balance now": lambda: queries.balance(session, CLEARING),
    }


def _timed(read: Callable[[], object]) -> float:
    started = perf_counter()
    read()
    return perf_counter() - started


def _psql(where: BenchDatabase, url: str, script: str) -> None:
    done = subprocess.run(
        [where.programs / "psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", url],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise load.LoadFailed(done.stderr.strip()[-1000:])
