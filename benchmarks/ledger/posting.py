"""Transfers per second, from SQL and from Python, beside a plain ledger measured in the same rounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.form import Limit, Result, Run
from benchmarks.ledger import load
from benchmarks.servers import BenchDatabase, database

CONNECTIONS = (1, 8, 32)
#: In its first second a connection loads what it needs to know of the tables, which is no posting: rounds are longer than that.
ROUNDS, SQL_SECONDS, PYTHON_SECONDS = 5, 8, 3
SPREAD_GOAL, HOT_GOAL, MANY_GOAL = 0.6, 1.5, 10_000


def measure(run: Run) -> None:
    """All sides, five rounds; small: one short round."""
    with database() as where:
        _posting(run, where)


def _posting(run: Run, where: BenchDatabase) -> None:
    for file in ("plain.sql", "ours.sql"):
        where.psql(where.owner, (load.FOLDER / file).read_text())
    sql_seconds, python_seconds = (1, 1) if run.small else (SQL_SECONDS, PYTHON_SECONDS)
    sides: dict[str, Callable[[], float]] = {}
    for connections in CONNECTIONS:
        for script in ("plain, spread", "ours, spread"):
            sides[f"{script}, {connections}"] = _sql(where, script, connections, sql_seconds)
    for script in ("plain, hot", "ours, hot", "ours, hot in 16 shards"):
        sides[f"{script}, 8"] = _sql(where, script, 8, sql_seconds)
    for connections in CONNECTIONS:
        for work in ("post, spread", "post, hot"):
            sides[f"{work}, {connections}"] = _python(where, work, connections, python_seconds)
    for connections in (1, 4):
        for work in ("post_many of 100, spread", "post_many of 100, hot"):
            sides[f"{work}, {connections}"] = _python(where, work, connections, python_seconds)
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
