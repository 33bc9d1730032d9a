"""Many at once, with real commits: nothing lost, nothing twice, nobody stuck."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.core.uow import unit_of_work
from app.ledger import chart, close, errors, holds, posting, queries
from app.ledger.posting import Posting, credit, debit
from app.models.ledger import Transaction

THREADS = 8


@pytest.fixture
def at_once(database, book_of):
    """Run a function in several threads that start together, each in sessions of its own; returns what each returned."""

    def run(work: Callable[[Any, int], Any], threads: int = THREADS) -> list[Any]:
        start = Barrier(threads)

        def one(number: int) -> Any:
            with database.session() as session:
                start.wait(timeout=30)
                return work(book_of(session), number)

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, range(threads)))

    return run


@pytest.fixture
def prepared(database, book_of):
    """Prepare books in a unit of work; returns what the preparation returns."""

    def prepare(work: Callable[[Any], Any]) -> Any:
        with database.session() as session:
            book = book_of(session)
            with unit_of_work(session, book.actor):
                return work(book)

    return prepare


@pytest.fixture
def settled(database, book_of):
    """What must hold when all is over: the proofs, and the money in the wallets equals the money that came in."""

    def check(*accounts: chart.AccountSpec) -> int:
        with database.session() as session:
            book = book_of(session)
            assert book.broken_proofs() == []
            return sum(queries.balance(session, account).posted.amount_minor for account in accounts)

    return check


def test_six_captures_of_one_hold_move_the_money_once(at_once, prepared, settled):
    def prepare(book):
        wallet, (payouts,) = book.wallet(1, "100"), book.open(chart.psp_payouts("stripe", "USD"))
        hold_id = holds.place_hold(
            book.session, account=wallet, money=book.money("100"), key="hold", reason="", actor=book.actor
        )
        return wallet, payouts, hold_id

    wallet, payouts, hold_id = prepared(prepare)

    def capture(book, number):
        with unit_of_work(book.session, book.actor):
            return holds.capture_hold(
                book.session,
                hold_id,
                key="capture",
                kind="withdrawal",
                effective_at=book.noon,
                actor=book.actor,
                legs=[debit(wallet, book.money("100")), credit(payouts, book.money("100"))],
            )

    assert len(set(at_once(capture, threads=6))) == 1
    assert settled(wallet) == 0
    assert settled(payouts) == 10_000


def test_captures_under_different_keys_and_releases_agree_on_one_end(at_once, prepared, settled):
    def prepare(book):
        wallet, (payouts,) = book.wallet(1, "100"), book.open(chart.psp_payouts("stripe", "USD"))
        made = [
            holds.place_hold(book.session, account=wallet, money=book.money("10"), key=f"h{n}", reason="", actor=book.actor)
            for n in range(10)
        ]
        return wallet, payouts, made

    wallet, payouts, made = prepared(prepare)

    def end(book, number):
        outcomes = []
        for hold_id in made:
            try:
                with unit_of_work(book.session, book.actor):
                    if number % 2:
                        outcomes.append(holds.release_hold(book.session, hold_id, actor=book.actor))
                    else:
                        holds.capture_hold(
                            book.session,
                            hold_id,
                            key=f"capture:{hold_id}:{number}",
                            kind="withdrawal",
                            effective_at=book.noon,
                            actor=book.actor,
                            legs=[debit(wallet, book.money("10")), credit(payouts, book.money("10"))],
                        )
                        outcomes.append(True)
            except errors.HoldAlreadyResolved:
                outcomes.append(False)
        return outcomes

    results = at_once(end)
    assert [sum(ends) for ends in zip(*results, strict=True)] == [1] * 10
    assert settled(wallet, payouts) == 10_000


def test_twins_under_one_key_are_posted_once(at_once, prepared, settled, database):
    giver, taker = prepared(lambda book: (book.wallet(1, "100"), book.wallet(2)))

    def pay(book, number):
        with unit_of_work(book.session, book.actor):
            legs = [debit(giver, book.money("100")), credit(taker, book.money("100"))]
            if number % 2:
                return posting.post_many(book.session, [Posting("twin", "t", book.noon, book.actor, legs)])[0]
            return book.post(*legs, key="twin", kind="t")

    assert len(set(at_once(pay))) == 1
    assert settled(taker) == 10_000


def test_holds_compete_for_one_balance(at_once, prepared, settled):
    wallet = prepared(lambda book: book.wallet(1, "100"))

    def place(book, number):
        try:
            with unit_of_work(book.session, book.actor):
                holds.place_hold(
                    book.session, account=wallet, money=book.money("30"), key=f"h{number}", reason="", actor=book.actor
                )
        except errors.InsufficientFunds:
            return False
        return True

    assert sum(at_once(place)) == 3
    settled()


def test_hold_cycles(at_once, prepared, settled):
    """Place, then capture or release, over few accounts: refused for funds at times, never stuck."""

    def prepare(book):
        payouts = book.open(chart.psp_payouts("stripe", "USD"))[0]
        return [book.wallet(n, "60") for n in range(1, 5)], payouts

    wallets, payouts = prepared(prepare)

    def cycle(book, number):
        choose, seen = random.Random(number), Counter()
        for turn in range(40):
            wallet, money = choose.choice(wallets), book.money(str(choose.randint(1, 30)))
            try:
                with unit_of_work(book.session, book.actor):
                    hold_id = holds.place_hold(
                        book.session, account=wallet, money=money, key=f"{number}:{turn}", reason="", actor=book.actor
                    )
                with unit_of_work(book.session, book.actor):
                    if choose.random() < 0.5:
                        holds.release_hold(book.session, hold_id, actor=book.actor)
                        continue
                    txn_id = holds.capture_hold(
                        book.session,
                        hold_id,
                        key=f"capture:{hold_id}",
                        kind="withdrawal",
                        effective_at=book.noon,
                        actor=book.actor,
                        legs=[debit(wallet, money), credit(payouts, money)],
                    )
                with unit_of_work(book.session, book.actor):
                    posting.reverse(
                        book.session, txn_id, key=f"undo:{txn_id}", actor=book.actor, at=book.noon, reason="provider refused"
                    )
                seen["done"] += 1
            except errors.InsufficientFunds:
                seen["refused"] += 1
        return seen

    seen = sum(at_once(cycle), Counter())
    assert seen["done"] > 20
    assert seen["refused"] > 0
    assert settled(*wallets) == 4 * 6000


def test_opposing_payments_do_not_wait_for_each_other(at_once, prepared, settled):
    accounts = prepared(lambda book: [book.wallet(n, "100") for n in range(1, 5)])

    def pay(book, number):
        choose = random.Random(number)
        for turn in range(30):
            legs = []
            for giver, taker in (choose.sample(accounts, 2) for _ in range(3)):
                legs.append([debit(giver, book.money("1")), credit(taker, book.money("1"))])
            try:
                with unit_of_work(book.session, book.actor):
                    if turn % 2:
                        posting.post_many(
                            book.session,
                            [Posting(f"{number}:{turn}:{n}", "t", book.noon, book.actor, pair) for n, pair in enumerate(legs)],
                        )
                    else:
                        book.post(*legs[0], key=f"{number}:{turn}")
            except errors.InsufficientFunds:
                pass

    at_once(pay)
    assert settled(*accounts) == 4 * 10_000


@pytest.mark.slow
def test_anything_goes(at_once, prepared, settled):
    """Colliding keys, overdrafts, single and many, from eight threads."""
    accounts = prepared(lambda book: [book.wallet(n, "100") for n in range(1, 9)])

    def post_something(book, number):
        choose, seen = random.Random(100 + number), Counter()
        for _ in range(100):
            giver, taker = choose.sample(accounts, 2)
            money, key = book.money(str(choose.choice([1, 5, 80]))), f"fuzz:{choose.randint(1, 400)}"
            legs = [debit(giver, money), credit(taker, money)]
            try:
                with unit_of_work(book.session, book.actor):
                    if choose.random() < 0.3:
                        posting.post_many(book.session, [Posting(key, "fuzz", book.noon, book.actor, legs)])
                    else:
                        book.post(*legs, key=key, kind="fuzz")
                seen["posted or replayed"] += 1
            except errors.InsufficientFunds:
                seen["refused for funds"] += 1
            except errors.IdempotencyConflict:
                seen["refused for the key"] += 1
        return seen

    seen = sum(at_once(post_something), Counter())
    assert sum(seen.values()) == 800
    assert min(seen[word] for word in ("posted or replayed", "refused for funds", "refused for the key")) > 20
    assert settled(*accounts) == 8 * 10_000


def test_a_period_closes_behind_the_postings_under_way(database, book_of, prepared):
    """A posting that began before the close either is in the closed period's books, or is refused."""
    giver, taker = prepared(lambda book: (book.wallet(1, "100"), book.wallet(2)))
    end = datetime.now(UTC) - timedelta(days=1)
    posted, closed = Event(), Event()

    def close_it():
        with database.session() as session, unit_of_work(session, book_of(session).actor):
            assert posted.wait(timeout=30)
            close.close_period(session, end, actor=book_of(session).actor)
        closed.set()

    with ThreadPoolExecutor(1) as pool, database.session() as session:
        book = book_of(session)
        closing = pool.submit(close_it)
        with unit_of_work(session, book.actor):
            book.pay(giver, taker, "1", at=end - timedelta(hours=1))
            posted.set()
            waiting = text("SELECT count(*) FROM pg_locks WHERE relation = 'ledger.period_close'::regclass AND NOT granted")
            deadline = datetime.now(UTC) + timedelta(seconds=30)
            while not session.scalar(waiting):
                assert datetime.now(UTC) < deadline
            assert not closed.is_set()
        closing.result(timeout=30)
        with pytest.raises(errors.PeriodClosed), unit_of_work(session, book.actor):
            book.pay(giver, taker, "1", at=end - timedelta(hours=1))
        assert session.scalar(select(func.count()).where(Transaction.kind == "test")) == 1


def test_the_same_reversal_asked_for_at_once_is_one_reversal(at_once, prepared):
    """A form that was sent twice gets the same answer twice, not a refusal for the slower one."""

    def prepare(book):
        giver, taker = book.wallet(1, "1000"), book.wallet(2)
        return [book.pay(giver, taker, "1", key=f"payment:{number}") for number in range(200)]

    payments = prepared(prepare)
    begin = Barrier(4)

    def reverse(book, _number):
        made = []
        for number, payment in enumerate(payments):
            begin.wait(timeout=30)
            with unit_of_work(book.session, book.actor):
                made.append(
                    posting.reverse(
                        book.session, payment, key=f"reverse:{number}", at=book.noon, actor=book.actor, reason="sent twice"
                    )
                )
        return made

    first, *others = at_once(reverse, threads=4)
    assert all(other == first for other in others)
    assert len(set(first)) == len(payments)
