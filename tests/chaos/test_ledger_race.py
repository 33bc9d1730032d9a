"""Eight processes on twenty accounts for half a minute, while connections are cut, a period closes and seals are made.

Afterwards every process's journal is held against the ledger: what it was told is done is there, once, as it was sent; what
it was told is refused is not there; what it was told nothing about is there whole or not at all.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core.money import Money
from app.core.uow import retried, unit_of_work
from app.ledger import chart, close, posting, proofs, queries
from app.ledger.posting import credit, debit
from app.models.ledger import Account, Entry, Hold, HoldResolution, Transaction
from tests.chaos.ledger_racers import ACCOUNTS, ACTOR, CLEARING, START, WALLETS, Request, request

pytestmark = pytest.mark.slow

PROCESSES, ALONE_S, SECONDS = 8, 9, 30
CLOSED = START + timedelta(days=1)

_CUT = text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() AND state <> 'idle'
     ORDER BY random() LIMIT 1
""")
_DEADLOCKS = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")

Legs = frozenset[tuple[str, int, int]]


@dataclass
class Told:
    """What all processes together were told about one key."""

    ids: set[str] = field(default_factory=set)
    done: Counter[bool] = field(default_factory=Counter)  # by whether the request was altered
    is_unknown: bool = False
    is_conflict: bool = False


@dataclass
class Written:
    """What the ledger has: ids and legs of transactions, ids and amounts of holds, holds that were released; by key."""

    txns: dict[str, tuple[str, Legs]]
    reverses: dict[str, str]
    holds: dict[str, tuple[str, str, int]]
    released: set[str]


@pytest.fixture
def racers(database) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.ledger_racers"], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=30)


@pytest.mark.slow
def test_nothing_is_lost_between_eight_processes(database, racers, tmp_path):
    with database.session() as session:
        open_books(session)
        task = {"processes": PROCESSES, "alone_s": ALONE_S, "seconds": SECONDS}
        racers.stdin.write(json.dumps({**task, "database_url": database.settings.database_url, "folder": str(tmp_path)}) + "\n")
        racers.stdin.flush()
        assert racers.stdout.readline() == "ready\n"
        cuts, closed = disturb(session, time.monotonic() + SECONDS)
        assert json.loads(racers.stdout.readline()) == [0] * PROCESSES

        lines = [json.loads(line) for path in sorted(tmp_path.glob("*.jsonl")) for line in path.read_text().splitlines()]
        assert [line for line in lines if line.get("outcome") == "failed"] == []
        told, written = told_by(lines), read(session)
        judge_told(told, written)
        judge_whole(written)
        judge_ledger(session)
        assert in_closed_period(session) == closed

        alone = [line for line in lines if line.get("alone")]
        assert [line["runs_again"] for line in alone] == [0] * PROCESSES, "single calls of the ledger never deadlock"
        counted = Counter((line["outcome"], line.get("error", "")) for line in lines if "outcome" in line)
        again = sum(line["runs_again"] for line in lines if line.get("summary"))
        print(f"\n{counted} run again {again}, cut {cuts}, transactions {len(written.txns)}")  # noqa: T201  seen with -s
        assert deadlocks(session, again) == again, "each deadlock that the server saw was run again"
        judge_variety(counted, written, again)


def open_books(session: Session) -> None:
    with unit_of_work(session, ACTOR):
        chart.open_accounts(session, *ACCOUNTS)
        money = Money(10_000, "USD")
        posting.post_many(
            session,
            [
                posting.Posting(f"start:{wallet}", "start", CLOSED, ACTOR, (debit(CLEARING, money), credit(wallet, money)))
                for wallet in WALLETS
            ],
        )


def disturb(session: Session, until: float) -> tuple[int, int]:
    """Cut connections, seal, prove, and close a day. Returns how many were cut, and what stood in the closed day."""
    choose, cuts, closed, turn = random.Random(1), 0, None, 0
    while time.monotonic() < until - 1:
        time.sleep(choose.uniform(0.2, 0.6))
        turn += 1
        cuts += len(session.scalars(_CUT).all())
        session.rollback()
        if turn % 5 == 0:
            proofs.seal(session)
        if turn % 12 == 0:
            assert [found for proof in proofs.prove(session) for found in proof.breaks] == []
            session.rollback()
        if turn % 12 == 6 and closed is None and time.monotonic() > until - SECONDS + ALONE_S:
            retried(lambda: close_day(session))
            closed = in_closed_period(session)
    assert closed
    return cuts, closed


def close_day(session: Session) -> None:
    with unit_of_work(session, ACTOR):
        close.close_period(session, CLOSED, actor=ACTOR)


def in_closed_period(session: Session) -> int:
    found = session.scalar(select(func.count()).select_from(Transaction).where(Transaction.effective_at < CLOSED)) or 0
    session.rollback()
    return found


# ── journals and ledger ─────────────────────────────────────────────────────────────────────────────────────────────────


def told_by(lines: list[dict[str, Any]]) -> dict[str, Told]:
    told: defaultdict[str, Told] = defaultdict(Told)
    for line in lines:
        for key in line.get("keys", []):
            one = told[key]
            if line["outcome"] == "done":
                one.ids.add(line["ids"][key])
                one.done[line["altered"]] += 1
            one.is_unknown |= line["outcome"] == "unknown"
            one.is_conflict |= line.get("error") == "ledger.idempotency_conflict" and len(line["keys"]) == 1
    return told


def read(session: Session) -> Written:
    legs: defaultdict[str, set[tuple[str, int, int]]] = defaultdict(set)
    ids: dict[str, str] = {}
    reverses: dict[str, str] = {}
    rows = (
        select(Transaction.idempotency_key, Transaction.id, Transaction.reverses, Account.code, Entry.debit, Entry.credit)
        .join(Entry, Entry.txn_id == Transaction.id)
        .join(Account, Account.id == Entry.account_id)
        .where(Transaction.kind != "start")
    )
    for key, txn_id, reversed_id, code, debited, credited in session.execute(rows):
        ids[key] = str(txn_id)
        legs[key].add((code, debited, credited))
        if reversed_id:
            reverses[key] = str(reversed_id)
    holds = {
        f"hold:{key}": (str(hold_id), code, amount)
        for key, hold_id, code, amount in session.execute(
            select(Hold.idempotency_key, Hold.id, Account.code, Hold.amount).join(Account, Account.id == Hold.account_id)
        )
    }
    released = session.scalars(select(HoldResolution.hold_id).where(HoldResolution.outcome == "released"))
    return Written({key: (ids[key], frozenset(legs[key])) for key in ids}, reverses, holds, {str(one) for one in released})


def sent(key: str, *, is_altered: bool) -> Request:
    _, process, number = key.removeprefix("hold:").removeprefix("end:").split(":")[:3]
    return request(int(process), int(number), is_altered=is_altered)


def legs_of(asked: Request, key: str) -> Legs:
    return frozenset(
        (leg.account, *((leg.money.amount_minor, 0) if leg.side == "debit" else (0, leg.money.amount_minor)))
        for leg in dict(asked.postings)[key]
    )


def mirror(legs: Legs) -> Legs:
    return frozenset((code, credited, debited) for code, debited, credited in legs)


def is_as_sent(written: Written, key: str, *, is_altered: bool) -> bool:
    """Whether what stands under a key is what this request says."""
    asked = sent(key, is_altered=is_altered)
    if key.startswith("hold:"):
        wallet, money = asked.held
        return written.holds[key][1:] == (wallet.code, money.amount_minor)
    legs = written.txns[key][1]
    if asked.reverses:
        target_id, target_legs = written.txns[asked.reverses]
        return written.reverses[key] == target_id and legs == mirror(target_legs)
    return legs == legs_of(asked, key)


# ── what must be true ───────────────────────────────────────────────────────────────────────────────────────────────────


def judge_told(told: dict[str, Told], written: Written) -> None:
    ids = {key: txn_id for key, (txn_id, _) in written.txns.items()} | {key: one[0] for key, one in written.holds.items()}
    for key, one in told.items():
        assert len(one.ids) <= 1, f"{key} was answered with several ids"
        if key.startswith("end:"):
            assert one.ids <= written.released, f"{key} was done and is not there"
            continue
        is_there = key in ids
        if one.ids:
            assert is_there, f"{key} was done and is not there"
            assert one.ids == {ids[key]}, f"{key} was answered with the id of another"
            assert all(
                sent(key, is_altered=altered).reverses or is_as_sent(written, key, is_altered=altered) for altered in one.done
            ), f"{key} was done for two different requests"
        if is_there:
            assert one.ids or one.is_unknown, f"{key} was only ever refused and is there"
        if one.is_conflict:
            assert is_there or one.is_unknown, f"{key} was refused for its key, under which nothing stands"
    assert ids.keys() <= told.keys(), "something is there that nobody sent"


def judge_whole(written: Written) -> None:
    """Everything is there whole, and in one of the two forms in which it was sent."""
    for key in [*written.txns, *written.holds]:
        forms = [altered for altered in (False, True) if is_as_sent(written, key, is_altered=altered)]
        assert forms, f"{key} is there as nobody sent it"
        asked = sent(key, is_altered=forms[0])
        if not key.startswith("hold:"):
            for other, _ in asked.postings:
                assert is_as_sent(written, other, is_altered=forms[0]), f"{key} is there without {other}"


def judge_ledger(session: Session) -> None:
    proofs.seal(session)
    found = proofs.prove(session)
    assert [broken for proof in found for broken in proof.breaks] == []
    assert all(proof.compared for proof in found)
    sums = dict(
        session.execute(select(Account.currency, func.sum(Account.debits - Account.credits)).group_by(Account.currency)).all()
    )
    assert sums == {"USD": 0, "EUR": 0}
    for wallet in WALLETS:
        balance = queries.balance(session, wallet)
        assert balance.posted.amount_minor >= balance.held.amount_minor >= 0


def deadlocks(session: Session, wanted: int) -> int:
    """How many the server has seen; it counts with a delay."""
    deadline = time.monotonic() + 10
    while True:
        session.rollback()
        found = int(session.execute(_DEADLOCKS).scalar_one())
        if found >= wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def judge_variety(counted: Counter[tuple[str, str]], written: Written, again: int) -> None:
    """That there was something to lose."""
    outcomes = Counter[str]()
    for (outcome, _), times in counted.items():
        outcomes[outcome] += times
    assert outcomes["done"] > 300
    assert outcomes["unknown"] > 0
    assert again > 0
    for error in ("insufficient_funds", "idempotency_conflict", "period_closed"):
        assert counted["refused", f"ledger.{error}"] > 0, error
    kinds = Counter(sent(key, is_altered=False).kind for key in written.txns)
    assert {"pay", "deposit", "many", "unit", "capture", "convert", "reverse"} <= kinds.keys()
    assert written.released
