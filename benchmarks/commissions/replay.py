"""A month recomputed by a replay, and run through the plan simulator: deals per second on one core, and the memory."""

from __future__ import annotations

import resource
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, configure_mappers

from app.commissions import replay, simulation
from app.commissions.overrides import Overrides
from app.commissions.plans import PlanSnapshot, parse_rules
from app.commissions.recompute import Scope, book_for, recompute
from app.commissions.snapshots import DayRates
from app.core.actor import Actor
from app.core.collector import calm_collector
from app.models.replays import ReplayRun
from benchmarks.commissions import job
from benchmarks.commissions.brokerage import MONTH, Brokerage, rules
from benchmarks.form import Result, Run
from benchmarks.servers import BenchFailed, database

DEALS, SMALL_DEALS = 1_000_000, 2_000
#: 5,000,000 deals in ten minutes.
GOAL_DEALS_PER_S = 8_300
_MEBIBYTE_KB = 1024


def measure(run: Run) -> None:
    """Book and accrue, then replay (nothing differs) and simulate the same rules, all of it in this process."""
    deals = run.size or (SMALL_DEALS if run.small else DEALS)
    tree, accounts = (job.SMALL_TREE, job.SMALL_ACCOUNTS) if run.small else (job.TREE, job.ACCOUNTS)
    configure_mappers()
    calm_collector()
    with database() as place:
        brokerage = Brokerage(place, tree, accounts)
        run.tell(f"booking and accruing {deals:,} deals")
        job.work(place, brokerage.trade(deals))
        engine = create_engine(place.application.replace("postgresql://", "postgresql+psycopg://", 1))
        frozen = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        before_kb = _peak_kb()
        with Session(engine) as session, Session(frozen) as snapshot:
            run.add(_result("replay of a month, nothing differs", deals, lambda: _replay(session, snapshot, deals)))
        with Session(frozen) as snapshot:
            run.add(_result("plan simulation of a month", deals, lambda: _simulate(snapshot, deals)))
        run.add(Result("memory both took at most", (_peak_kb() - before_kb) / _MEBIBYTE_KB, "MiB", better="lower"))
        engine.dispose()


def _result(name: str, deals: int, work: Callable[[], None]) -> Result:
    began = perf_counter()
    work()
    return Result(name, deals / (perf_counter() - began), "deals/s", GOAL_DEALS_PER_S)


def _replay(session: Session, snapshot: Session, deals: int) -> None:
    scope = Scope(MONTH, MONTH + timedelta(days=31))
    run_id = replay.start_replay(session, scope, Overrides(scope.until), "benchmark", Actor.staff(1)).id
    replay.compute_replay(session, snapshot, run_id)
    made = session.get_one(ReplayRun, run_id, populate_existing=True)
    if made.status != "computed" or made.sums["deals"] != deals or made.sums["lines"]:
        raise BenchFailed(f"the replay of {deals} deals is {made.status} {made.error} with {made.sums}")


def _simulate(snapshot: Session, deals: int) -> None:
    plan_id = snapshot.scalars(text("SELECT id FROM plan")).one()
    proposed = PlanSnapshot(0, parse_rules(rules(), "USD"), plan_id=plan_id)
    totals = simulation.Totals("USD", DayRates(snapshot))
    scope = Scope(MONTH, MONTH + timedelta(days=31), plan_id=plan_id)
    for _, compared in recompute(snapshot, scope, book_for(snapshot, proposed=proposed)):
        totals.add(compared)
    figures = totals.document()["all"]
    if figures["deals"] != deals or figures["cost"] != figures["proposed"]:
        raise BenchFailed(f"the simulation of {deals} deals found {figures}")


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
