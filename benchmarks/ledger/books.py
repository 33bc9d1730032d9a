"""Books of growing length: storage, the time of the proofs, and what a page asks of an account with all of the history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from app.ledger import queries
from app.ledger.proofs import runs, seals
from benchmarks.form import Limit, Result, Run
from benchmarks.ledger import load
from benchmarks.servers import BenchDatabase, BenchFailed, database

#: Entries in the books.
SIZES = (10_000, 1_000_000, 20_000_000)
READS = 200
CLEARING = "psp:bench:clearing:USD"
#: Reading the longest books may cost this much more than reading the shortest ones.
READING_GOAL = 2.0


def measure(run: Run) -> None:
    """All sizes; small: the shortest books only."""
    shortest: dict[str, float] = {}
    for entries in SIZES[:1] if run.small else SIZES:
        with database() as where:
            run.tell(f"writing books of {entries:,} entries")
            script = (load.FOLDER / "books.sql").read_text().replace(":transactions", str(entries // 2))
            where.psql(where.superuser, script)
            _books(run, where, entries, shortest)


def _books(run: Run, where: BenchDatabase, entries: int, shortest: dict[str, float]) -> None:
    """Storage, proofs and reading for one length of books. `shortest` takes, and then gives, the shortest books' figures."""
    engine = create_engine(where.application.replace("postgresql://", "postgresql+psycopg://", 1))
    with Session(engine) as session:
        for table, what in (("entry", "entry"), ("txn", "transaction")):
            size = session.scalar(
                text(f"SELECT pg_total_relation_size('ledger.{table}') / count(*)::float FROM ledger.{table}")
            )
            run.add(Result(f"storage per {what} with indexes, {entries:,} entries", float(size or 0), "bytes"))
        for name, read in _reads(run, session).items():
            for _ in range(10):
                read()
            milliseconds = median(_timed(read) for _ in range(READS)) * 1000
            limit = Limit(f"{SIZES[0]:,} entries", shortest[name]) if name in shortest else None
            goal = READING_GOAL if limit else None
            run.add(Result(f"{name}, {entries:,} entries", milliseconds, "ms", goal, limit, better="lower"))
            shortest.setdefault(name, milliseconds)
        started = perf_counter()
        seals.seal(session)
        run.add(Result(f"sealing, {entries:,} entries", perf_counter() - started, "s"))
        total = 0.0
        for name, prove in runs.ALL.items():
            run.tell(name)
            proof = prove(session)
            session.rollback()
            if proof.code != "P6" and not proof.holds:
                raise BenchFailed(f"{name}: {proof.breaks[:3]}")
            total += proof.seconds
            run.add(Result(f"proof {proof.code}, {entries:,} entries", proof.seconds, "s"))
        run.add(Result(f"all proofs, {entries:,} entries", total, "s"))
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
