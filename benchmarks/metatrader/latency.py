"""From an event at the trading server to our tables, and on to an open page of the portal; then all faults at once.

A whole house runs: the simulator with its crowd at a steady rate of deals, ingest, relay, workers, scheduler and web part,
each as `run.py` runs it, with its defaults. Two times are measured for every deal of the window:

- to *committed*: from the deal's moment at the server (its time in milliseconds, which is that of the event's recv_utc or up
  to one earlier) to PostgreSQL's own stamp of the transaction that booked it. The stamp is taken when the commit is about to
  be written; the write itself, some milliseconds, is not in it;
- to the *live update*: to the moment at which the client's page, which listens to /portal/live over HTTP as a browser does,
  reads the first "account" event after that commit. What the page then fetches is not in it.

Memory is resident memory of each process, from a fifth of the window to its end; what a process had before, while the crowd
opened its first positions, is the run-up. PostgreSQL is left out: its processes come and go, and share their memory.

`python run.py bench latency` takes about a quarter of an hour, `--small` less than a minute.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from sqlalchemy import text

from app.metatrader.simulator.machine import SERVER_CODE
from app.metatrader.stream import lag, stream_names
from benchmarks.form import Limit, Result, Run
from benchmarks.metatrader import faulty
from benchmarks.metatrader.house import PARTS, SIMULATOR, House
from benchmarks.metatrader.pages import Page, Pages
from benchmarks.servers import BenchFailed, database
from benchmarks.usage import Growth, Usage

GOAL_COMMITTED_S, GOAL_LIVE_S = 1.0, 1.5
#: With less than this part of the deals that were asked for, the load was another one.
GOAL_OF_LOAD = 0.95
#: Memory is flat when it grows by less than this part, or by what an allocator takes at once.
GOAL_GROWTH, FLAT_MB = 0.05, 10.0
#: Until the last live update of the window is there at the latest; what is late is measured all the same.
AFTERWARDS_S = 120.0


@dataclass(frozen=True)
class Size:
    """How much and how long. `run_up_s`: until the crowd closes as many positions as it opens."""

    accounts: int
    deals_per_s: int
    run_up_s: float
    steady_s: float
    pages: int


LARGE = Size(accounts=10_000, deals_per_s=200, run_up_s=120, steady_s=300, pages=40)
SMALL = Size(accounts=200, deals_per_s=20, run_up_s=2, steady_s=5, pages=4)


@dataclass(frozen=True)
class Booked:
    """When a deal happened and when the transaction that booked it was committed, in seconds since the epoch."""

    client_id: int
    done_at: float
    committed_at: float


_BOOKED = text("""
    SELECT account.client_id, extract(epoch FROM deal.done_at)::float8,
           extract(epoch FROM pg_xact_commit_timestamp(head.xmin))::float8
      FROM deal_head AS head
      JOIN deal ON (deal.server_id, deal.ticket, deal.revision, deal.filed_at)
                 = (head.server_id, head.ticket, head.revision, head.filed_at)
      JOIN trading_account AS account ON account.id = deal.trading_account_id
     WHERE head.revision = 1 AND deal.done_at >= to_timestamp(:since) AND deal.done_at < to_timestamp(:until)
""")


def measure(run: Run) -> None:
    """The steady load, then the same load with all faults on."""
    size = SMALL if run.small else LARGE
    with (
        tempfile.TemporaryDirectory(prefix="lotwise-bench-") as folder,
        database(redis=True, commit_times=True) as place,
        House(place, Path(folder)) as house,
    ):
        run.tell(f"opening {size.accounts:,} accounts")
        house.furnish(size.accounts)
        house.trade(size.deals_per_s)
        house.open_doors()
        with Pages(house.pages(size.pages)) as pages:
            _steady(run, house, size, pages)
        house.stop(SIMULATOR)
        faulty.measure(run, house, deals_per_s=size.deals_per_s)


def _steady(run: Run, house: House, size: Size, pages: Pages) -> None:
    house.wait_until(lambda: pages.are_open, 60, "not all pages are open")
    house.wait_until(lambda: _is_caught_up(house, size), 300, "the opening of the accounts is not booked")
    run.tell(f"running up for {size.run_up_s:.0f} s")
    house.wait(size.run_up_s)
    run.tell(f"measuring for {size.steady_s:.0f} s")
    since = time.time()
    with Usage(house.process_ids()) as usage:
        house.wait(size.steady_s)
        until = time.time()
    house.wait_until(
        lambda: _is_told(house, pages, since, until), AFTERWARDS_S, "not every page was told of its client's deals"
    )
    booked = _booked(house, since, until)
    _report(run, size, booked, pages.by_client, until - since)
    for part in (SIMULATOR, *PARTS, "valkey"):
        for growth in usage.growth(part):
            run.add(_memory(growth))
    with house.session() as session:
        waiting = session.scalar(text("SELECT count(*) FROM delivery WHERE delivered_at IS NULL"))
    run.tell(f"{waiting} facts wait for their jobs")
    run.tell("shares of a core: " + ", ".join(f"{name} {cores:.0%}" for name, cores in usage.cores().items()))


def _is_caught_up(house: House, size: Size) -> bool:
    """Whether all first deposits are booked, and no more waits in the stream than came just now."""
    with house.session() as session:
        deposits = session.scalar(text("SELECT count(*) FROM foreign_operation"))
    stream = stream_names(SERVER_CODE)[0]
    return deposits == size.accounts and lag(house.redis, stream).waiting < 10 * size.deals_per_s


def _is_told(house: House, pages: Pages, since: float, until: float) -> bool:
    """Whether everything of the window is booked, and every page was told of its client's deals."""
    is_past = bool(_booked(house, until, time.time()))
    times = [_told_at(one, pages.by_client) for one in _booked(house, since, until) if one.client_id in pages.by_client]
    return is_past and None not in times


def _booked(house: House, since: float, until: float) -> list[Booked]:
    with house.session() as session:
        return [Booked(*row) for row in session.execute(_BOOKED, {"since": since, "until": until})]


def _report(run: Run, size: Size, booked: Sequence[Booked], pages: Mapping[int, Page], took_s: float) -> None:
    load = Limit("asked for", size.deals_per_s)
    run.add(Result("deals", len(booked) / took_s, "deals/s", GOAL_OF_LOAD, load))
    committed = [one.committed_at - one.done_at for one in booked]
    told = [at - one.done_at for one in booked if (at := _told_at(one, pages))]
    for name, times, goal in (("committed", committed, GOAL_COMMITTED_S), ("live update", told, GOAL_LIVE_S)):
        if len(times) < 2:
            raise BenchFailed(f"{len(times)} deals to {name} are too few to measure")
        parts = quantiles(times, n=100, method="inclusive")
        run.tell(f"{len(times):,} deals to {name}, the slowest {max(times):.3f} s")
        run.add(Result(f"from event to {name}, p50", parts[49], "s", better="lower"))
        run.add(Result(f"from event to {name}, p99", parts[98], "s", goal, better="lower"))


def _told_at(one: Booked, pages: Mapping[int, Page]) -> float | None:
    """When the client's page was told; None while it was not, or has none."""
    page = pages.get(one.client_id)
    return page.told_after(one.committed_at) if page else None


def _memory(growth: Growth) -> Result:
    """At the end, beside what it was at a fifth of the time."""
    flat = 1 + max(GOAL_GROWTH, FLAT_MB / growth.early_mb)
    early = Limit("at a fifth", growth.early_mb)
    return Result(f"memory of {growth.name}", growth.last_mb, "MB", round(flat, 3), early, better="lower")
