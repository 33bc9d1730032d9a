"""Processes that move money on the same few accounts as fast as they can; run by test_ledger_race.py.

Started once, it imports everything and forks one child per racer before any connection is made. What a request says follows
from its number alone, so every process can send every request: its own next one, or one of any other, before or after it.
Each child writes a journal: one JSON line per request, with what it sent and what it was told.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from sqlalchemy import create_engine, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, configure_mappers

from app.core.actor import Actor
from app.core.errors import AppError
from app.core.money import Money
from app.core.uow import retried, unit_of_work
from app.ledger import chart, holds, posting
from app.ledger.posting import Leg, Posting, credit, debit
from app.models.ledger import Transaction

ACTOR = Actor.system("racer")
START = datetime(2026, 3, 2, tzinfo=UTC)

WALLETS = [chart.client_wallet(n, "USD") for n in range(1, 9)]
EURO_WALLETS = [chart.client_wallet(n, "EUR") for n in range(1, 6)]
CLEARING, PAYOUTS = chart.psp_clearing("race", "USD"), chart.psp_payouts("race", "USD")
POSITION, EURO_POSITION = chart.fx_position("USD"), chart.fx_position("EUR")
SPREAD, SUSPENSE, FEES = chart.fx_spread("USD"), chart.suspense("race", "USD"), chart.fees("USD")
#: All twenty.
ACCOUNTS = [*WALLETS, *EURO_WALLETS, CLEARING, PAYOUTS, POSITION, EURO_POSITION, SPREAD, SUSPENSE, FEES]

#: Between the last unit of the first part and the first one of the second, so that they do not meet.
GAP_S = 3

#: How often each kind of request is made.
KINDS = {"pay": 6, "deposit": 4, "many": 4, "unit": 1, "capture": 4, "release": 2, "convert": 3, "reverse": 3}


@dataclass(frozen=True)
class Request:
    """What the request of a number says. `postings` are (key, legs); a hold comes before what captures it."""

    kind: str
    key: str
    at: datetime
    postings: tuple[tuple[str, tuple[Leg, ...]], ...] = ()
    held: tuple[chart.AccountSpec, Money] | None = None
    reverses: str = ""


def request(process: int, number: int, *, is_altered: bool = False) -> Request:
    """The request with this number; `is_altered`: under the same keys, but with twice the amounts."""
    key, choose = f"race:{process}:{number}", random.Random(f"{process}:{number}")
    (kind,) = choose.choices(list(KINDS), KINDS.values())
    at = START + timedelta(seconds=choose.randint(0, 7 * 86_400))
    factor = 2 if is_altered else 1

    def usd(most: int) -> Money:
        return Money(choose.randint(1, most) * factor, "USD")

    def payment() -> tuple[Leg, ...]:
        (giver, taker), money = choose.sample(WALLETS, 2), usd(3_000)
        return debit(giver, money), credit(taker, money)

    match kind:
        case "pay" if choose.random() < 0.3:  # many legs: one wallet gives to all others
            giver, *takers = choose.sample(WALLETS, len(WALLETS))
            each = usd(300)
            legs = (debit(giver, Money(each.amount_minor * len(takers), "USD")), *(credit(taker, each) for taker in takers))
            return Request(kind, key, at, ((key, legs),))
        case "pay":
            return Request(kind, key, at, ((key, payment()),))
        case "deposit":
            money = usd(2_000)
            return Request(kind, key, at, ((key, (debit(CLEARING, money), credit(choose.choice(WALLETS), money))),))
        case "many" | "unit":
            return Request(kind, key, at, tuple((f"{key}:{n}", payment()) for n in range(choose.randint(2, 4))))
        case "capture" | "release":
            wallet, money = choose.choice(WALLETS), usd(2_000)
            part = Money(max(1, money.amount_minor // choose.randint(1, 3)), "USD")
            to = choose.choice([PAYOUTS, SUSPENSE, *(other for other in WALLETS if other != wallet)])
            taken = ((key, (debit(wallet, part), credit(to, part))),)
            return Request(kind, key, at, taken if kind == "capture" else (), (wallet, money))
        case "convert":
            sold, spread = usd(1_500), Money(factor, "USD")
            bought = Money(max(1, sold.amount_minor * 9 // 10), "EUR")
            legs = (
                debit(choose.choice(WALLETS), sold + spread), credit(POSITION, sold), credit(SPREAD, spread),
                debit(EURO_POSITION, bought), credit(choose.choice(EURO_WALLETS), bought),
            )  # fmt: skip
            return Request(kind, key, at, ((key, legs),))
    return Request(kind, key, at, reverses=f"race:{choose.randrange(8)}:{choose.randrange(max(1, number))}")


class Racer:
    """One process with one connection at a time."""

    def __init__(self, number: int, url: str, journal: TextIO) -> None:
        self.number, self.journal = number, journal
        self.engine = create_engine(url, pool_size=1, max_overflow=0)
        self.session = Session(self.engine)
        self.choose = random.Random(f"racer {number}")
        self.runs_again = 0
        self.waits = logging.getLogger("lotwise.uow")
        self.waits.setLevel(logging.INFO)
        self.waits.addFilter(self.count)

    def count(self, record: logging.LogRecord) -> bool:
        self.runs_again += record.args[0] == "40P01"  # type: ignore[index]  # what retried() logs
        return False

    def run(self, alone_until: float, units_from: float, until: float) -> None:
        """First only units with one call of the ledger, which must never deadlock; then also units with several."""
        number, alone = 0, True
        while time.monotonic() < until:
            if alone and time.monotonic() > alone_until:
                alone = False
                self.note(alone=True, runs_again=self.runs_again, sent=number)
            if self.choose.random() < 0.7:
                process, chosen, number = self.number, number, number + 1
            else:  # somebody else's, or an own one again: before, while or after they send it
                process, chosen = self.choose.randrange(8), self.choose.randrange(number + 2)
            is_altered = self.choose.random() < 0.1
            asked = request(process, chosen, is_altered=is_altered)
            if asked.kind == "unit" and time.monotonic() < units_from:
                continue
            self.send(asked, is_altered=is_altered)
        self.note(summary=True, runs_again=self.runs_again, sent=number)

    def note(self, **words: Any) -> None:
        self.journal.write(json.dumps(words) + "\n")
        self.journal.flush()

    def send(self, asked: Request, *, is_altered: bool) -> None:
        """The units of work of a request; what needs a hold comes only when the hold went through."""
        hold_id: UUID | None = None
        if asked.held:
            placed = self.attempt([f"hold:{asked.key}"], is_altered, lambda: self.place(asked))
            if placed is None:
                return
            hold_id = UUID(placed[f"hold:{asked.key}"])
        if asked.reverses:
            target = self.found(asked.reverses)
            if target is not None:
                self.attempt([asked.key], is_altered, lambda: self.reverse(asked, target))
        elif hold_id and (asked.kind == "release" or self.choose.random() < 0.2):  # some think otherwise
            self.attempt([f"end:{asked.key}"], is_altered, lambda: self.release(asked, hold_id))
        elif hold_id:
            self.attempt([asked.key], is_altered, lambda: self.capture(asked, hold_id))
        else:
            self.attempt([key for key, _ in asked.postings], is_altered, lambda: self.post(asked))

    def attempt(self, keys: list[str], is_altered: bool, work: Callable[[], dict[str, str]]) -> dict[str, str] | None:
        """One unit of work, run again after deadlocks, with its outcome in the journal: ids by key, or an error's code."""

        def unit() -> dict[str, str]:
            with unit_of_work(self.session, ACTOR):
                return work()

        self.note(keys=keys, altered=is_altered, outcome="sent")
        try:
            done = retried(unit)
        except AppError as error:
            self.note(keys=keys, altered=is_altered, outcome="refused", error=error.code)
            return None
        except DBAPIError as error:
            outcome, state = "unknown" if error.connection_invalidated else "failed", getattr(error.orig, "sqlstate", None)
            self.note(keys=keys, altered=is_altered, outcome=outcome, error=state or "", words=str(error.orig))
            self.session.invalidate()
            return None
        self.note(keys=keys, altered=is_altered, outcome="done", ids=done)
        return done

    def found(self, key: str) -> UUID | None:
        """The transaction with a key, if there is one to be seen."""
        try:
            found = self.session.scalar(select(Transaction.id).where(Transaction.idempotency_key == key))
            self.session.rollback()
        except DBAPIError:
            self.session.invalidate()
            return None
        return found

    def reverse(self, asked: Request, target: UUID) -> dict[str, str]:
        made = posting.reverse(self.session, target, key=asked.key, actor=ACTOR, at=asked.at, reason="race")
        return {asked.key: str(made)}

    def place(self, asked: Request) -> dict[str, str]:
        assert asked.held
        account, money = asked.held
        made = holds.place_hold(self.session, account=account, money=money, key=asked.key, reason="", actor=ACTOR)
        return {f"hold:{asked.key}": str(made)}

    def release(self, asked: Request, hold_id: UUID) -> dict[str, str]:
        holds.release_hold(self.session, hold_id, actor=ACTOR)
        return {f"end:{asked.key}": str(hold_id)}

    def capture(self, asked: Request, hold_id: UUID) -> dict[str, str]:
        ((key, legs),) = asked.postings
        made = holds.capture_hold(self.session, hold_id, key=key, kind="race", effective_at=asked.at, actor=ACTOR, legs=legs)
        return {key: str(made)}

    def post(self, asked: Request) -> dict[str, str]:
        """Through either function, so that who comes second is often answered by the other one than the first."""
        made = [Posting(key, "race", asked.at, ACTOR, legs) for key, legs in asked.postings]
        if asked.kind == "many" or (asked.kind != "unit" and self.choose.random() < 0.3):
            return dict(zip((one.key for one in made), map(str, posting.post_many(self.session, made)), strict=True))
        return {
            one.key: str(
                posting.post(
                    self.session, key=one.key, kind=one.kind, effective_at=one.effective_at, actor=ACTOR, legs=one.legs
                )
            )
            for one in made
        }


def race(number: int, task: dict[str, Any], start: float) -> int:
    """The life of one child; returns its exit code."""
    try:
        with (Path(task["folder"]) / f"{number}.jsonl").open("w") as journal:
            alone, until = start + task["alone_s"], start + task["seconds"]
            Racer(number, task["database_url"], journal).run(alone, alone + GAP_S, until)
    except BaseException:  # noqa: BLE001  a child must not go on as its parent
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Reads one JSON task: database_url, processes, alone_s, seconds, folder. Says "ready" when it starts them."""
    configure_mappers()
    task = json.loads(sys.stdin.readline())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    start = time.monotonic()
    children = []
    for number in range(task["processes"]):
        child = os.fork()
        if child == 0:
            os._exit(race(number, task, start))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.stdout.write(json.dumps(codes) + "\n")


if __name__ == "__main__":
    main()
