"""The job beside ever more that is stored already, and under a very large tree."""

from __future__ import annotations

from benchmarks.commissions import job
from benchmarks.commissions.brokerage import Brokerage, Tree
from benchmarks.form import Limit, Result, Run
from benchmarks.servers import database

#: Deals that are accrued and settled already.
SIZES, SMALL_SIZES = (100_000, 1_000_000, 5_000_000), (1_000, 4_000)
DEALS, SMALL_DEALS = 50_000, 1_000
#: The longest history may cost a deal this much more than the shortest.
GOAL = 1.2

LARGE_TREE, SMALL_LARGE_TREE = Tree(ibs=100_000, depth=50), Tree(ibs=1_000, depth=50)


def measure(run: Run) -> None:
    """Time per deal after each size of history, then the same number of deals in the large tree, without history."""
    deals = run.size or (SMALL_DEALS if run.small else DEALS)
    sizes = SMALL_SIZES if run.small else SIZES
    tree, accounts = (job.SMALL_TREE, job.SMALL_ACCOUNTS) if run.small else (job.TREE, job.ACCOUNTS)
    shortest: Limit | None = None
    stored = 0
    with database() as place:
        brokerage = Brokerage(place, tree, accounts)
        for size in sizes:
            run.tell(f"storing {size:,} deals with their accruals")
            brokerage.remember(brokerage.trade(size - stored))
            done = job.work(place, brokerage.trade(deals))
            stored = size + deals
            microseconds = 1e6 / done.deals_per_s
            goal = GOAL if shortest else None
            run.add(Result(f"job after {size:,} deals", microseconds, "µs/deal", goal, shortest, better="lower"))
            shortest = shortest or Limit(f"after {size:,}", microseconds)
    tree = SMALL_LARGE_TREE if run.small else LARGE_TREE
    with database() as place:
        done = job.work(place, Brokerage(place, tree, accounts).trade(deals))
    name = f"job under {tree.ibs:,} IBs, {tree.depth} deep"
    run.add(Result(name, 1e6 / done.deals_per_s, "µs/deal", None, shortest, better="lower"))
