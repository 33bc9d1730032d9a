"""Load on a ledger: transfers per second, from SQL by pgbench and from the product's Python functions."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import posting
from benchmarks.servers import BenchFailed

FOLDER = Path(__file__).parent
FIRST_WALLET, ACCOUNTS = 10_001, 10_000
BATCH = 100
SHARDS = 16
ACTOR = Actor.system("bench")

_TWO_ACCOUNTS = "\\set a random(1, 10000)\n\\set b 1 + (:a + random(0, 9998)) % 10000\n"
_ONE_ACCOUNT = "\\set b random(2, 10000)\n"
#: pgbench takes every colon with a word for a variable, so that account codes come from functions (ours.sql). The numbers
#: have five digits: their order is that of the codes, in which legs are to be given.
_POST = (
    "SELECT ledger.post('bench-' || uuidv7(), 'bench', now(), 'bench', ARRAY[{}, {}], '{{USD,USD}}', '{{100,0}}',"
    " '{{0,100}}');\n"
)
SCRIPTS = {
    "plain, spread": _TWO_ACCOUNTS + "SELECT plain.transfer(:a, :b, 100, 'bench');\n",
    "plain, hot": _ONE_ACCOUNT + "SELECT plain.transfer(1, :b, 100, 'bench');\n",
    "ours, spread": _TWO_ACCOUNTS
    + "\\set low least(:a, :b)\n\\set high greatest(:a, :b)\n"
    + _POST.format("bench.wallet(:low)", "bench.wallet(:high)"),
    "ours, hot": _ONE_ACCOUNT + _POST.format("bench.wallet(:b)", "bench.clearing(0)"),
    "ours, hot in 16 shards": _ONE_ACCOUNT + _POST.format("bench.wallet(:b)", "bench.clearing(:b % 16)"),
}


def pgbench(programs: Path, url: str, script: str, *, connections: int, seconds: int) -> float:
    """Transfers per second of one of SCRIPTS."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(SCRIPTS[script])
        file.flush()
        options = ["-n", "-M", "prepared", "-c", str(connections), "-j", "1", "-T", str(seconds), "-f", file.name]
        done = subprocess.run(
            [programs / "pgbench", *options, url],
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or found is None:
        raise BenchFailed(f"{script}: {done.stderr.strip()[-500:]}")
    return float(found.group(1))


def python(url: str, work: str, *, connections: int, seconds: float) -> float:
    """Transfers per second of one of WORK, over that many connections of a few processes."""
    processes = min(connections, 4)
    threads = connections // processes
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm, range(processes)))
        counts = list(pool.map(partial(_process, url, work, threads, seconds), range(processes)))
    return sum(counts) / seconds


def _warm(number: int) -> int:
    """Let a process start before the clock does."""
    time.sleep(0.2)
    return number


def _process(url: str, work: str, threads: int, seconds: float, number: int) -> int:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), pool_size=threads)
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(partial(_thread, engine, WORK[work], seconds), range(number * 100, number * 100 + threads)))
    engine.dispose()
    return done


def _thread(engine: Engine, work: Callable[[Session, random.Random, str], int], seconds: float, number: int) -> int:
    chance, done, name = random.Random(number), 0, uuid4().hex
    with Session(engine) as session:
        work(session, chance, f"{name}:first")
        end = time.perf_counter() + seconds
        counter = itertools.count()
        while time.perf_counter() < end:
            done += work(session, chance, f"{name}:{next(counter)}")
    return done


def _wallet(number: int) -> str:
    return f"client:{FIRST_WALLET + number}:wallet:USD"


def _legs(source: str, target: str) -> list[posting.Leg]:
    money = Money(100, "USD")
    return [posting.debit(source, money), posting.credit(target, money)]


def _post(session: Session, source: str, target: str, key: str) -> int:
    with unit_of_work(session, ACTOR):
        posting.post(session, key=f"bench:{key}", kind="bench", effective_at=now(), actor=ACTOR, legs=_legs(source, target))
    return 1


def _spread(session: Session, chance: random.Random, key: str) -> int:
    source, target = chance.sample(range(ACCOUNTS), 2)
    return _post(session, _wallet(source), _wallet(target), key)


def _hot(session: Session, chance: random.Random, key: str) -> int:
    return _post(session, "psp:bench-0:clearing:USD", _wallet(chance.randrange(ACCOUNTS)), key)


def _many(session: Session, pairs: list[tuple[str, str]], key: str) -> int:
    moment = now()
    postings = [
        posting.Posting(f"bench:{key}:{number}", "bench", moment, ACTOR, _legs(source, target))
        for number, (source, target) in enumerate(pairs)
    ]
    with unit_of_work(session, ACTOR):
        posting.post_many(session, postings)
    return len(pairs)


def _many_spread(session: Session, chance: random.Random, key: str) -> int:
    numbers = [chance.sample(range(ACCOUNTS), 2) for _ in range(BATCH)]
    return _many(session, [(_wallet(source), _wallet(target)) for source, target in numbers], key)


def _many_hot(session: Session, chance: random.Random, key: str) -> int:
    return _many(session, [("psp:bench-0:clearing:USD", _wallet(chance.randrange(ACCOUNTS))) for _ in range(BATCH)], key)


WORK = {
    "post, spread": _spread,
    "post, hot": _hot,
    "post_many of 100, spread": _many_spread,
    "post_many of 100, hot": _many_hot,
}
