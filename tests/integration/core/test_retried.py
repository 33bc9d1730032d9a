"""Work that loses a real deadlock is run again, once is enough, and nothing is posted twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import Money
from app.core.tables import Event
from app.core.uow import retried, unit_of_work
from app.ledger import chart, posting, proofs, queries
from app.ledger.errors import InsufficientFunds
from app.models.ledger import Transaction

ACTOR = Actor.system("test")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WALLETS = [chart.client_wallet(client_id, "USD") for client_id in (1, 2)]
CLEARING = [chart.psp_clearing(name, "USD") for name in ("first", "second")]


@pytest.fixture
def books(database):
    with database.session() as session, unit_of_work(session, ACTOR):
        chart.open_accounts(session, *WALLETS, *CLEARING)
    return database


def deposit(session: Session, number: int, key: str) -> None:
    money = Money(100, "USD")
    legs = [posting.debit(CLEARING[number], money), posting.credit(WALLETS[number], money)]
    posting.post(session, key=key, kind="deposit", effective_at=NOON, actor=ACTOR, legs=legs)


def meet(database, wrap):
    """Two units, each of two postings, on the same accounts in opposite order; they meet in the middle, the first time.

    Returns the number of times that each was run, or the error it ended with.
    """
    in_the_middle = Barrier(2, timeout=30)

    def run(number: int):
        runs = 0

        def work() -> None:
            nonlocal runs
            runs += 1
            with database.session() as session, unit_of_work(session, ACTOR) as unit:
                deposit(session, number, f"{number}:first")
                if runs == 1:
                    in_the_middle.wait()
                deposit(session, 1 - number, f"{number}:second")
                unit.emit("test.done", subject_id=number)

        try:
            wrap(work)
        except DBAPIError as error:
            return error
        return runs

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, range(2)))


def posted(database) -> tuple[int, int, list[int]]:
    """Transactions, events, and what stands in the wallets; the proofs hold."""
    with database.session() as session:
        assert [found for proof in proofs.prove(session) for found in proof.breaks] == []
        return (
            session.scalar(select(func.count()).select_from(Transaction)),
            session.scalar(select(func.count()).select_from(Event)),
            [queries.balance(session, wallet).posted.amount_minor for wallet in WALLETS],
        )


def test_a_deadlock_is_real_and_leaves_nothing_of_the_one_that_lost(books):
    outcomes = meet(books, lambda work: work())
    errors = [one for one in outcomes if isinstance(one, DBAPIError)]
    assert [error.orig.sqlstate for error in errors] == ["40P01"]
    assert posted(books) == (2, 1, [100, 100])


def test_the_one_that_lost_a_deadlock_is_run_again(books, caplog):
    caplog.set_level("INFO", logger="lotwise.uow")
    assert sorted(meet(books, retried)) == [1, 2]
    assert posted(books) == (4, 2, [200, 200])
    assert [record.getMessage() for record in caplog.records] == ["unit of work is run again sqlstate=40P01 attempt=1"]


def test_a_deadlock_inside_an_outer_unit_is_for_the_outer_one_to_run_again(books):
    """What has joined a unit cannot be repeated alone: the whole transaction is lost, and who opened it must hear why."""

    def wrap(work):
        def outer() -> None:
            with books.session() as session:
                retried(lambda: joined(session, work))

        retried(outer)

    def joined(session: Session, work) -> None:
        with unit_of_work(session, ACTOR):
            retried(lambda: work(session))

    in_the_middle = Barrier(2, timeout=30)

    def run(number: int) -> int:
        runs = 0

        def work(session: Session) -> None:
            nonlocal runs
            with unit_of_work(session, ACTOR):
                runs += 1
                deposit(session, number, f"{number}:first")
                if runs == 1:
                    in_the_middle.wait()
                deposit(session, 1 - number, f"{number}:second")

        wrap(work)
        return runs

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(run, range(2)))
    assert posted(books)[0] == 4
    assert min(runs) == 1


def test_a_refusal_is_not_run_again(books):
    runs = 0

    def overdraw() -> None:
        nonlocal runs
        runs += 1
        money = Money(1, "USD")
        with books.session() as session, unit_of_work(session, ACTOR):
            legs = [posting.debit(WALLETS[0], money), posting.credit(WALLETS[1], money)]
            posting.post(session, key="overdraw", kind="test", effective_at=NOON, actor=ACTOR, legs=legs)

    with pytest.raises(InsufficientFunds):
        retried(overdraw)
    assert runs == 1
    assert posted(books) == (0, 0, [0, 0])
