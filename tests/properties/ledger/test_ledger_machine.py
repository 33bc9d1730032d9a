"""Any order of movements, from several connections: the books always add up, and a refusal changes nothing.

The machine keeps a plain model of what should stand on each account. After each step the database must agree with the
model and all proofs must hold. A step that the model says is impossible must be refused with the right error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, close, errors, holds, posting, proofs
from app.ledger.posting import Leg, Posting, credit, debit
from app.models.ledger import Account, Transaction

ACTOR = Actor.system("machine")
CLOSED_UNTIL = datetime(2026, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)

CLIENT = st.integers(0, 2)
CURRENCY = st.sampled_from(["USD", "EUR"])
AMOUNT = st.integers(1, 300)

_numbers = count(1)


@dataclass(frozen=True)
class Done:
    """A transaction that was posted, and the request that made it."""

    id: UUID
    key: str
    legs: tuple[Leg, ...]


@dataclass(frozen=True)
class Held:
    id: UUID
    account: chart.AccountSpec
    amount: int
    is_due: bool


class LedgerMachine(RuleBasedStateMachine):
    """Subclassed once per run, with `open_session` bound to a database that keeps what is committed."""

    open_session: Callable[[], Session]

    done = Bundle("done")
    held = Bundle("held")

    @initialize()
    def open_books(self) -> None:
        self.number = next(_numbers)
        self.posted: defaultdict[str, int] = defaultdict(int)
        self.reserved: defaultdict[str, int] = defaultdict(int)
        self.reversed: set[UUID] = set()
        clients = [self.number * 10 + n for n in range(3)]
        self.wallets = {(n, c): chart.client_wallet(clients[n], c) for n in range(3) for c in ("USD", "EUR")}
        house = [
            make(c)
            for c in ("USD", "EUR")
            for make in (
                lambda c: chart.psp_clearing("stripe", c),
                lambda c: chart.psp_payouts("stripe", c),
                chart.fx_position,
                chart.fx_spread,
            )
        ]
        with self.unit() as session:
            chart.open_accounts(session, *self.wallets.values(), *house)
            close.close_period(session, CLOSED_UNTIL, actor=ACTOR)
            for account in session.scalars(select(Account)):
                self.posted[account.code] = account.balance
            self.transactions = session.scalar(select(func.count()).select_from(Transaction)) or 0

    @contextmanager
    def unit(self) -> Iterator[Session]:
        with type(self).open_session() as session, unit_of_work(session, ACTOR):
            yield session

    def key(self) -> str:
        return f"machine:{next(_numbers)}"

    def can_pay(self, account: chart.AccountSpec, amount: int) -> bool:
        return account.may_go_negative or self.posted[account.code] - self.reserved[account.code] >= amount

    def book(self, legs: tuple[Leg, ...]) -> None:
        """Write legs into the model."""
        self.transactions += 1
        for leg in legs:
            grows = "debit" if leg.account.split(":")[2] == "clearing" else "credit"
            self.posted[leg.account] += leg.money.amount_minor if leg.side == grows else -leg.money.amount_minor

    def send(self, *legs: Leg, at: datetime = NOON, key: str | None = None) -> Done:
        key = key or self.key()
        with self.unit() as session:
            txn_id = posting.post(session, key=key, kind="machine", effective_at=at, actor=ACTOR, legs=legs)
        return Done(txn_id, key, legs)

    def try_to_send(self, allowed: bool, *legs: Leg) -> Any:
        if not allowed:
            with pytest.raises(errors.InsufficientFunds):
                self.send(*legs)
            return multiple()
        done = self.send(*legs)
        self.book(legs)
        return done

    @rule(target=done, client=CLIENT, currency=CURRENCY, amount=AMOUNT)
    def deposit(self, client: int, currency: str, amount: int) -> Any:
        money = Money(amount, currency)
        return self.try_to_send(
            True, debit(chart.psp_clearing("stripe", currency), money), credit(self.wallets[client, currency], money)
        )

    @rule(target=done, giver=CLIENT, taker=CLIENT, currency=CURRENCY, amount=AMOUNT)
    def pay(self, giver: int, taker: int, currency: str, amount: int) -> Any:
        source, target, money = self.wallets[giver, currency], self.wallets[taker, currency], Money(amount, currency)
        if giver == taker:
            with pytest.raises(errors.InvalidPosting):
                self.send(debit(source, money), credit(target, money))
            return multiple()
        return self.try_to_send(self.can_pay(source, amount), debit(source, money), credit(target, money))

    @rule(target=done, client=CLIENT, amount=AMOUNT, rate=st.integers(50, 150))
    def convert(self, client: int, amount: int, rate: int) -> Any:
        dollars, euros = Money(amount, "USD"), Money(max(1, amount * rate // 100), "EUR")
        source = self.wallets[client, "USD"]
        return self.try_to_send(
            self.can_pay(source, amount),
            debit(source, dollars),
            credit(chart.fx_position("USD"), dollars),
            debit(chart.fx_position("EUR"), euros),
            credit(self.wallets[client, "EUR"], euros),
        )

    @rule(moves=st.lists(st.tuples(CLIENT, CLIENT, CURRENCY, AMOUNT).filter(lambda m: m[0] != m[1]), max_size=5))
    def pay_many(self, moves: list[tuple[int, int, str, int]]) -> None:
        postings, after = [], defaultdict(int)
        for giver, taker, currency, amount in moves:
            source, target, money = self.wallets[giver, currency], self.wallets[taker, currency], Money(amount, currency)
            postings.append(Posting(self.key(), "machine", NOON, ACTOR, (debit(source, money), credit(target, money))))
            after[source.code] -= amount
            after[target.code] += amount
        allowed = all(self.posted[code] - self.reserved[code] + change >= 0 for code, change in after.items())
        if allowed:
            with self.unit() as session:
                posting.post_many(session, postings)
            for one in postings:
                self.book(tuple(one.legs))
        else:
            with pytest.raises(errors.InsufficientFunds), self.unit() as session:
                posting.post_many(session, postings)

    @rule(target=held, client=CLIENT, currency=CURRENCY, amount=AMOUNT, is_due=st.booleans())
    def hold(self, client: int, currency: str, amount: int, is_due: bool) -> Any:
        account = self.wallets[client, currency]

        def place() -> UUID:
            with self.unit() as session:
                return holds.place_hold(
                    session,
                    account=account,
                    money=Money(amount, currency),
                    key=self.key(),
                    reason="",
                    actor=ACTOR,
                    expires_at=datetime.now(UTC) + timedelta(hours=-1 if is_due else 1),
                )

        if not self.can_pay(account, amount):
            with pytest.raises(errors.InsufficientFunds):
                place()
            return multiple()
        hold_id = place()
        self.reserved[account.code] += amount
        return Held(hold_id, account, amount, is_due)

    @rule(target=done, hold=consumes(held), part=st.integers(1, 100))
    def capture(self, hold: Held, part: int) -> Any:
        money = Money(max(1, hold.amount * part // 100), hold.account.currency)
        legs = (debit(hold.account, money), credit(chart.psp_payouts("stripe", money.currency), money))
        more = Money(hold.amount + 1, money.currency)

        def take(key: str, *legs: Leg) -> UUID:
            with self.unit() as session:
                return holds.capture_hold(session, hold.id, key=key, kind="machine", effective_at=NOON, actor=ACTOR, legs=legs)

        with pytest.raises((errors.CaptureMismatch, errors.InsufficientFunds)):
            take(self.key(), debit(hold.account, more), credit(chart.psp_payouts("stripe", money.currency), more))
        key = self.key()
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: take(key, *legs), range(2))
        assert first == second
        self.reserved[hold.account.code] -= hold.amount
        self.book(legs)
        with pytest.raises(errors.HoldAlreadyResolved), self.unit() as session:
            holds.release_hold(session, hold.id, actor=ACTOR)
        return Done(first, key, legs)

    @rule(hold=consumes(held))
    def release(self, hold: Held) -> None:
        with self.unit() as session:
            assert holds.release_hold(session, hold.id, actor=ACTOR)
        self.reserved[hold.account.code] -= hold.amount
        with self.unit() as session:
            assert not holds.release_hold(session, hold.id, actor=ACTOR)

    @rule(hold=consumes(held))
    def expire(self, hold: Held) -> None:
        if hold.is_due:
            with self.unit() as session:
                assert hold.id in holds.due_holds(session, limit=10_000)
                assert holds.expire_hold(session, hold.id, actor=ACTOR)
        else:
            with pytest.raises(errors.HoldNotDue), self.unit() as session:
                holds.expire_hold(session, hold.id, actor=ACTOR)
            with self.unit() as session:
                holds.release_hold(session, hold.id, actor=ACTOR)
        self.reserved[hold.account.code] -= hold.amount

    @rule(one=done)
    def reverse(self, one: Done) -> None:
        mirrored = tuple((credit if leg.side == "debit" else debit)(leg.account, leg.money) for leg in one.legs)
        losing = [leg for leg in mirrored if leg.side == "debit" and ":wallet:" in leg.account]

        def undo() -> UUID:
            with self.unit() as session:
                return posting.reverse(session, one.id, key=f"undo:{one.id}:{self.key()}", actor=ACTOR, at=NOON, reason="")

        if one.id in self.reversed:
            with pytest.raises(errors.AlreadyReversed):
                undo()
        elif any(self.posted[leg.account] - self.reserved[leg.account] < leg.money.amount_minor for leg in losing):
            with pytest.raises(errors.InsufficientFunds):
                undo()
        else:
            undo()
            self.reversed.add(one.id)
            self.book(mirrored)

    @rule(one=done)
    def replay(self, one: Done) -> None:
        assert self.send(*one.legs, key=one.key).id == one.id
        other = [Leg(leg.account, leg.money + Money(1, leg.money.currency), leg.side) for leg in one.legs]
        with pytest.raises(errors.IdempotencyConflict):
            self.send(*other, key=one.key)

    @rule(client=CLIENT, currency=CURRENCY, amount=AMOUNT)
    def post_into_the_past(self, client: int, currency: str, amount: int) -> None:
        money = Money(amount, currency)
        legs = (debit(chart.psp_clearing("stripe", currency), money), credit(self.wallets[client, currency], money))
        with pytest.raises(errors.PeriodClosed):
            self.send(*legs, at=CLOSED_UNTIL - timedelta(microseconds=1))

    @invariant()
    def the_database_agrees(self) -> None:
        if not hasattr(self, "wallets"):
            return
        with type(self).open_session() as session:
            broken = [found for proof in proofs.prove(session) for found in proof.breaks]
            accounts = {account.code: account for account in session.scalars(select(Account))}
            transactions = session.scalar(select(func.count()).select_from(Transaction))
        assert broken == []
        assert transactions == self.transactions
        assert {code: account.balance for code, account in accounts.items()} == {code: self.posted[code] for code in accounts}
        for wallet in self.wallets.values():
            assert accounts[wallet.code].held == self.reserved[wallet.code]


@pytest.mark.slow
def test_any_order_of_movements(database):
    machine = type("BoundMachine", (LedgerMachine,), {"open_session": staticmethod(database.session)})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]),
    )
