"""Any order of movements, from several connections: the books always add up, and a refusal changes nothing.

The machine keeps a plain model of what should stand on each account (model.py). After each step the database must agree
with the model and all proofs must hold. A step that the model says is impossible must be refused with a right error; of two
steps at once, the outcomes must be those of one order or the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import wraps
from itertools import count, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.errors import AppError
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, fx, proofs, queries, rates
from app.ledger.posting import Leg, credit, debit
from app.models.clients import Client
from app.models.fx import FXPair
from app.models.ledger import Account, Entry, PeriodClose, Transaction
from tests.integration.ledger.tables import dump
from tests.properties.ledger.model import (
    ACTOR,
    Capture,
    CloseAccount,
    ClosePeriod,
    Convert,
    End,
    Model,
    Operation,
    Otherwise,
    Place,
    Post,
    PostMany,
    Raw,
    Reverse,
    mirrored,
)

#: Each run has a day of its own, and closes no period beyond it: closes stay for all runs after it.
FIRST_DAY = datetime(2010, 1, 1, tzinfo=UTC)
CURRENCIES = ("USD", "EUR")
CONNECTIONS = 3
SPREAD_BP = 50
#: Some accounts stay open, so that there is something to move.
MOST_CLOSED = 3
INSTANT = timedelta(microseconds=1)

CONNECTION = st.integers(0, CONNECTIONS - 1)
CLIENT = st.integers(0, 3)
CURRENCY = st.sampled_from(CURRENCIES)
AMOUNT = st.integers(1, 300)
#: Seconds of the day: in order for the most part, minutes behind, hours behind, the same moment.
MOMENT = st.one_of(st.integers(40_000, 40_600), st.integers(0, 86_399), st.just(40_000))
MANY = st.booleans()
#: Which of the things that stand in a list by then.
WHICH = st.integers(0, 999)

_numbers = count(1)


def standing(**lists: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A step about things in these lists of the machine: the drawn numbers say which. Without any, the step is left out.

    Bundles would not do: how a race between two connections ended would decide what can be drawn, and that must be the same
    whenever the same steps are taken again.
    """

    def decorate(step: Callable[..., None]) -> Callable[..., None]:
        @wraps(step)
        def run(self: LedgerMachine, **drawn: Any) -> None:
            for name, kept in lists.items():
                things = getattr(self, kept)
                if not things:
                    return
                drawn[name] = things[drawn[name] % len(things)]
            step(self, **drawn)

        return run

    return decorate


class LedgerMachine(RuleBasedStateMachine):
    """Subclassed once per run, with `open_session` bound to a database that keeps what is committed."""

    open_session: Callable[[], Session]

    @initialize(rate=st.integers(5_000, 20_000), amounts=st.lists(st.integers(0, 500), min_size=8, max_size=8))
    def open_books(self, rate: int, amounts: list[int]) -> None:
        self.posts: list[Post] = []
        self.placed: list[Place] = []
        self.number = next(_numbers)
        self.day = FIRST_DAY + timedelta(days=self.number)
        self.sessions = [type(self).open_session() for _ in range(CONNECTIONS)]
        self.model = Model()
        self.choose = random.Random(rate)
        session = self.sessions[0]
        with unit_of_work(session, ACTOR):
            self.clients = [add_client(session) for _ in range(4)]
            self.wallets = {(n, c): chart.client_wallet(self.clients[n], c) for n in range(4) for c in CURRENCIES}
            self.owed = {(n, c): chart.client_receivable(self.clients[n], c) for n in range(4) for c in CURRENCIES}
            house = [make(c) for c in CURRENCIES for make in (clearing, payouts, chart.fx_position, chart.fx_spread)]
            chart.open_accounts(session, *self.wallets.values(), *self.owed.values(), *house)
            rates.record(session, [rates.Observation("ecb", "EUR", "USD", Decimal(rate).scaleb(-4), now())])
        self.accounts = [*self.wallets.values(), *self.owed.values(), *house]
        self.model.guarded |= {account.code for account in self.accounts if not account.may_go_negative}
        # What earlier runs have left in the house's accounts: before this run's day, and by conversions, which are of today.
        change = func.sum(Entry.credit - Entry.debit) * Account.side
        is_later = Entry.effective_at >= self.day
        self.start = now()
        for code, later, left in session.execute(
            select(Account.code, is_later, change).join(Entry.account).group_by(Account.code, Account.side, is_later)
        ):
            self.model.changes[code].append((self.start if later else FIRST_DAY, int(left)))
        self.model.closed_through = session.scalar(select(func.max(PeriodClose.closed_through))) or FIRST_DAY
        self.transactions = session.scalar(select(func.count()).select_from(Transaction)) or 0
        session.rollback()
        start = self.model.closed_through
        funds = zip(self.wallets, amounts, strict=True)
        made = [self.deposit_of(*wallet, amount, max(start, self.day)) for wallet, amount in funds if amount]
        assert self.do(PostMany(tuple(made)))
        self.posts += made

    def teardown(self) -> None:
        for session in getattr(self, "sessions", []):
            session.close()

    # ── one after the other, two at once ────────────────────────────────────────────────────────────────────────────────

    def key(self) -> str:
        return f"machine:{next(_numbers)}"

    def moment(self, second: int) -> datetime:
        return self.day + timedelta(seconds=second)

    def ask(self, operation: Operation, session: Session) -> Any:
        """The answer, or the error."""
        try:
            with unit_of_work(session, ACTOR):
                return operation.ask(session)
        except AppError as error:
            return error

    def do(self, operation: Operation, connection: int = 0) -> bool:
        """Ask for it and judge the outcome; whether it was done."""
        before = self.dump() if operation.refusals(self.model) else None
        outcome = self.ask(operation, self.sessions[connection])
        after = self.explained(self.model, (operation,), (outcome,))
        assert after is not None, (operation, outcome, operation.refusals(self.model))
        if isinstance(outcome, AppError):
            assert self.dump() == before
            assert str(outcome)
        self.model = after
        return not isinstance(outcome, AppError)

    def do_both(self, *operations: Operation) -> list[bool]:
        """Two at once, on two connections: as if one had come after the other, whichever."""
        before = self.dump() if all(operation.refusals(self.model) for operation in operations) else None
        with ThreadPoolExecutor(len(operations)) as pool:
            outcomes = list(pool.map(self.ask, operations, self.sessions))
        orders = [
            self.explained(self.model, [operations[n] for n in order], [outcomes[n] for n in order])
            for order in permutations(range(len(operations)))
        ]
        after = next((model for model in orders if model is not None), None)
        assert after is not None, list(zip(operations, outcomes, strict=True))
        if all(isinstance(outcome, AppError) for outcome in outcomes):
            assert self.dump() == before
        self.model = after
        return [not isinstance(outcome, AppError) for outcome in outcomes]

    @staticmethod
    def explained(model: Model, operations: Any, outcomes: Any) -> Model | None:
        """The model after these outcomes in this order, or None when it would have been otherwise."""
        after = model.copy()
        for operation, outcome in zip(operations, outcomes, strict=True):
            refusals = operation.refusals(after)
            if isinstance(outcome, AppError):
                if type(outcome) not in refusals:
                    return None
            elif refusals:
                return None
            else:
                try:
                    operation.apply(after, outcome)
                except Otherwise:
                    return None
        return after

    def dump(self) -> Any:
        with type(self).open_session() as session:
            return dump(session)

    def deposit_of(self, client: int, currency: str, amount: int, at: datetime, *, many: bool = False) -> Post:
        money = Money(amount, currency)
        legs = (debit(clearing(currency), money), credit(self.wallets[client, currency], money))
        return Post(self.key(), legs, at, many)

    def payment(self, giver: int, taker: int, currency: str, amount: int, at: datetime, *, many: bool = False) -> Post:
        money = Money(amount, currency)
        legs = (debit(self.wallets[giver, currency], money), credit(self.wallets[taker, currency], money))
        return Post(self.key(), legs, at, many)

    def both_or_one(self, operation: Operation, connection: int, is_doubled: bool) -> bool:
        """Once, or twice at once."""
        return all(self.do_both(operation, operation)) if is_doubled else self.do(operation, connection)

    # ── movements ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(connection=CONNECTION, client=CLIENT, currency=CURRENCY, amount=AMOUNT, at=MOMENT, many=MANY)
    def deposit(self, connection: int, client: int, currency: str, amount: int, at: int, many: bool) -> None:
        post = self.deposit_of(client, currency, amount, self.moment(at), many=many)
        if self.do(post, connection):
            self.posts.append(post)

    @rule(
        connection=CONNECTION, giver=CLIENT, by=st.integers(1, 3), currency=CURRENCY, amount=AMOUNT, at=MOMENT,
        many=MANY,
    )  # fmt: skip
    def pay(self, connection: int, giver: int, by: int, currency: str, amount: int, at: int, many: bool) -> None:
        post = self.payment(giver, (giver + by) % 4, currency, amount, self.moment(at), many=many)
        if self.do(post, connection):
            self.posts.append(post)

    @rule(
        connection=CONNECTION, client=CLIENT, currency=CURRENCY, amount=AMOUNT, at=MOMENT, many=MANY,
        is_repaid=st.booleans(),
    )  # fmt: skip
    def charge_back(
        self, connection: int, client: int, currency: str, amount: int, at: int, many: bool, is_repaid: bool
    ) -> None:
        """What a client owes us, or repays from the wallet: an account that grows by debits and does not go below zero."""
        owed, money = self.owed[client, currency], Money(amount, currency)
        other = self.wallets[client, currency] if is_repaid else clearing(currency)
        legs = (credit(owed, money), debit(other, money)) if is_repaid else (debit(owed, money), credit(other, money))
        post = Post(self.key(), legs, self.moment(at), many)
        if self.do(post, connection):
            self.posts.append(post)

    @rule(connection=CONNECTION, client=CLIENT, amount=AMOUNT, rate=st.integers(50, 150), at=MOMENT)
    def convert_by_legs(self, connection: int, client: int, amount: int, rate: int, at: int) -> None:
        dollars, euros = Money(amount, "USD"), Money(max(1, amount * rate // 100), "EUR")
        legs = (
            debit(self.wallets[client, "USD"], dollars),
            credit(chart.fx_position("USD"), dollars),
            debit(chart.fx_position("EUR"), euros),
            credit(self.wallets[client, "EUR"], euros),
        )
        post = Post(self.key(), legs, self.moment(at))
        if self.do(post, connection):
            self.posts.append(post)

    @rule(client=CLIENT, sold=CURRENCY, amount=st.integers(3, 300), is_doubled=st.booleans())
    def convert_by_quote(self, client: int, sold: str, amount: int, is_doubled: bool) -> None:
        bought = "EUR" if sold == "USD" else "USD"
        with unit_of_work(self.sessions[0], ACTOR):
            quote = fx.quote(
                self.sessions[0], client_id=self.clients[client], sell=Money(amount, sold), buy_currency=bought, actor=ACTOR
            )
        spread = -(-amount * SPREAD_BP // 10_000)
        got = int((amount - spread) * Fraction(quote.rate))
        assert (quote.spread.amount_minor, quote.bought.amount_minor) == (spread, got)
        legs = (
            debit(self.wallets[client, sold], Money(amount, sold)),
            credit(chart.fx_position(sold), Money(amount - spread, sold)),
            credit(chart.fx_spread(sold), Money(spread, sold)),
            debit(chart.fx_position(bought), Money(got, bought)),
            credit(self.wallets[client, bought], Money(got, bought)),
        )
        operation = Convert(quote.public_id, self.clients[client], legs)
        if self.both_or_one(operation, 0, is_doubled):
            assert self.do(operation, 1), "a conversion is answered as the first time"
            self.posts.append(operation.as_post(now()))

    @rule(connection=CONNECTION, moves=st.lists(st.tuples(CLIENT, st.integers(1, 3), CURRENCY, AMOUNT, MOMENT), max_size=5))
    def pay_many(self, connection: int, moves: list[tuple[int, int, str, int, int]]) -> None:
        made = [self.payment(giver, (giver + by) % 4, c, amount, self.moment(at)) for giver, by, c, amount, at in moves]
        self.do(PostMany(tuple(made)), connection)

    @rule(
        connection=CONNECTION, known=st.lists(WHICH, max_size=2), amount=AMOUNT, at=MOMENT,
        other=st.sampled_from(["", "known", "twin", "kind"]),
    )  # fmt: skip
    def post_many_with_known_ones(self, connection: int, known: list[int], amount: int, at: int, other: str) -> None:
        """Among new ones, some that were posted before, and one that stands there twice; or one of them with other content."""
        new = self.deposit_of(0, "USD", amount, max(self.moment(at), self.model.closed_through))
        twin = {"twin": grown(new), "kind": replace(new, kind="another")}.get(other, new)
        before = [self.posts[which % len(self.posts)] for which in known if self.posts]
        self.do(PostMany((new, *([grown(one) for one in before] if other == "known" else before), twin)), connection)

    @rule(connection=CONNECTION, one=WHICH, at=MOMENT, is_doubled=st.booleans())
    @standing(one="posts")
    def reverse(self, connection: int, one: Post, at: int, is_doubled: bool) -> None:
        txn_id = self.model.txns[one.key][0]
        self.both_or_one(Reverse(self.key(), txn_id, one.legs, self.moment(at)), connection, is_doubled)

    @rule(one=WHICH, at=MOMENT)
    @standing(one="posts")
    def reverse_the_reversal(self, one: Post, at: int) -> None:
        undo = Reverse(self.key(), self.model.txns[one.key][0], one.legs, self.moment(at))
        if self.do(undo):
            undone = self.model.txns[undo.key][0]
            self.do(Reverse(self.key(), undone, mirrored(one.legs), self.moment(at)))
            self.do(undo)  # still the answer of the first time

    @rule(connection=CONNECTION, one=WHICH, at=MOMENT, many=MANY)
    @standing(one="posts")
    def reverse_something_else(self, connection: int, one: Post, at: int, many: bool) -> None:
        """What calls itself a reversal and is none, is refused when the unit of work ends."""
        undo = Post(self.key(), mirrored(one.legs), self.moment(at), many, "reversal", self.model.txns[one.key][0])
        for wrong in (grown(undo), turned(undo)):
            assert not self.do(wrong, connection)

    @rule(connection=CONNECTION, client=CLIENT, currency=CURRENCY, amount=AMOUNT, at=MOMENT)
    def post_unbalanced(self, connection: int, client: int, currency: str, amount: int, at: int) -> None:
        assert not self.do(Raw(self.deposit_of(client, currency, amount, self.moment(at))), connection)

    @rule(connection=CONNECTION, one=WHICH, many=MANY, at=MOMENT, is_doubled=st.booleans())
    @standing(one="posts")
    def replay(self, connection: int, one: Post, many: bool, at: int, is_doubled: bool) -> None:
        """The same through either function, at any moment, even of a closed period; and never with other content."""
        again = replace(one, legs=one.legs[::-1], at=self.moment(at), many=many)
        assert self.both_or_one(again, connection, is_doubled)
        for other in (grown(again), replace(again, many=not many, kind="another"), turned(again)):
            assert not self.do(other, connection)

    # ── holds ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        connection=CONNECTION, client=CLIENT, currency=CURRENCY, amount=AMOUNT, is_due=st.booleans(),
        then=st.sampled_from(["", "capture", "released", "expired"]), part=st.integers(1, 110), at=MOMENT,
    )  # fmt: skip
    def hold(
        self, connection: int, client: int, currency: str, amount: int, is_due: bool, then: str, part: int, at: int
    ) -> None:
        """Placed, and what may become of it soon."""
        place = Place(f"hold:{self.key()}", self.wallets[client, currency], amount, is_due)
        if not self.do(place, connection):
            return
        hold_id = self.model.holds[place.key].id
        if then == "capture":
            self.do(Capture(hold_id, self.capture_of(place, part, at)), connection)
        elif then:
            self.do(End(hold_id, then), connection)
        self.placed.append(place)

    @rule(connection=CONNECTION, place=WHICH, more=st.integers(0, 1), is_doubled=st.booleans())
    @standing(place="placed")
    def replay_the_hold(self, connection: int, place: Place, more: int, is_doubled: bool) -> None:
        """Whatever became of it, the same request has the same answer."""
        again = Place(place.key, place.account, place.amount + more, place.is_due)
        assert self.both_or_one(again, connection, is_doubled) is not bool(more)

    @rule(connection=CONNECTION, place=WHICH, part=st.integers(1, 110), at=MOMENT, is_doubled=st.booleans())
    @standing(place="placed")
    def capture(self, connection: int, place: Place, part: int, at: int, is_doubled: bool) -> None:
        post = self.capture_of(place, part, at)
        operation = Capture(self.model.holds[place.key].id, post)
        if self.both_or_one(operation, connection, is_doubled):
            assert self.do(operation, connection), "a capture is answered as the first time"
            assert not self.do(Capture(operation.hold_id, grown(post)), connection)
            self.posts.append(post)

    @rule(connection=CONNECTION, place=WHICH, one=WHICH)
    @standing(one="posts", place="placed")
    def capture_under_a_used_key(self, connection: int, place: Place, one: Post) -> None:
        hold = self.model.holds[place.key]
        if hold.by != one.key:
            assert not self.do(Capture(hold.id, one), connection)

    @rule(connection=CONNECTION, place=WHICH, outcome=st.sampled_from(["released", "expired"]), is_doubled=st.booleans())
    @standing(place="placed")
    def end(self, connection: int, place: Place, outcome: str, is_doubled: bool) -> None:
        self.both_or_one(End(self.model.holds[place.key].id, outcome), connection, is_doubled)

    @rule(place=WHICH, part=st.integers(1, 110), at=MOMENT, outcome=st.sampled_from(["released", "expired"]))
    @standing(place="placed")
    def capture_and_end(self, place: Place, part: int, at: int, outcome: str) -> None:
        hold_id = self.model.holds[place.key].id
        self.do_both(Capture(hold_id, self.capture_of(place, part, at)), End(hold_id, outcome))

    def capture_of(self, place: Place, part: int, at: int) -> Post:
        """To the provider for the most part, and sometimes to another client, whose account may be locked before or after."""
        money = Money(max(1, place.amount * part // 100), place.account.currency)
        others = [wallet for wallet in self.wallets.values() if wallet.currency == money.currency and wallet != place.account]
        to = [payouts(money.currency), payouts(money.currency), *others][at % 5]
        return Post(self.key(), (debit(place.account, money), credit(to, money)), self.moment(at))

    @rule(place=WHICH, part=st.integers(1, 110), at=MOMENT, payer=CLIENT, amount=AMOUNT)
    @standing(place="placed")
    def capture_and_pay(self, place: Place, part: int, at: int, payer: int, amount: int) -> None:
        capture = Capture(self.model.holds[place.key].id, self.capture_of(place, part, at))
        self.do_both(capture, self.payment(payer, (payer + 1) % 4, place.account.currency, amount, self.moment(at)))

    # ── two different ones at once ──────────────────────────────────────────────────────────────────────────────────────

    @rule(giver=CLIENT, currency=CURRENCY, amounts=st.tuples(AMOUNT, AMOUNT), at=MOMENT, many=st.tuples(MANY, MANY))
    def pay_there_and_back(self, giver: int, currency: str, amounts: tuple[int, int], at: int, many: tuple[bool, bool]) -> None:
        one, other = giver, (giver + 1) % 4
        self.do_both(
            self.payment(one, other, currency, amounts[0], self.moment(at), many=many[0]),
            self.payment(other, one, currency, amounts[1], self.moment(at), many=many[1]),
        )

    @rule(client=CLIENT, currency=CURRENCY, amount=AMOUNT, more=st.integers(0, 1), at=MOMENT, many=st.tuples(MANY, MANY))
    def two_under_one_key(self, client: int, currency: str, amount: int, more: int, at: int, many: tuple[bool, bool]) -> None:
        one = self.deposit_of(client, currency, amount, self.moment(at), many=many[0])
        other = grown(one) if more else one
        self.do_both(one, replace(other, many=many[1]))

    @rule(client=CLIENT, currency=CURRENCY, amounts=st.tuples(AMOUNT, AMOUNT), at=MOMENT)
    def hold_and_pay(self, client: int, currency: str, amounts: tuple[int, int], at: int) -> None:
        self.do_both(
            Place(f"hold:{self.key()}", self.wallets[client, currency], amounts[0], False),
            self.payment(client, (client + 1) % 4, currency, amounts[1], self.moment(at)),
        )

    @rule(one=WHICH, at=MOMENT)
    @standing(one="posts")
    def two_reversals(self, one: Post, at: int) -> None:
        txn_id = self.model.txns[one.key][0]
        self.do_both(*(Reverse(self.key(), txn_id, one.legs, self.moment(at)) for _ in range(2)))

    @rule(client=CLIENT, currency=CURRENCY, amount=AMOUNT, second=st.integers(0, 43_200), many=MANY)
    def close_and_post(self, client: int, currency: str, amount: int, second: int, many: bool) -> None:
        """Into the period that is being closed: it is in its books, or refused."""
        end = self.moment(second)
        self.do_both(ClosePeriod(end), self.deposit_of(client, currency, amount, end - INSTANT, many=many))

    @rule(client=CLIENT, currency=CURRENCY, amount=AMOUNT, at=MOMENT, many=MANY)
    def close_and_deposit(self, client: int, currency: str, amount: int, at: int, many: bool) -> None:
        """Money comes to an account that is being closed: it stays open with the money, or closed without."""
        wallet = self.wallets[client, currency]
        if len(self.model.closed) < MOST_CLOSED:
            self.do_both(CloseAccount(wallet.code), self.deposit_of(client, currency, amount, self.moment(at), many=many))

    # ── closing and sealing ─────────────────────────────────────────────────────────────────────────────────────────────

    @rule(connection=CONNECTION, second=st.integers(0, 43_200), client=CLIENT, currency=CURRENCY, amount=AMOUNT, many=MANY)
    def close_period(self, connection: int, second: int, client: int, currency: str, amount: int, many: bool) -> None:
        """Forward, or back to where it was closed before, which opens nothing."""
        assert self.do(ClosePeriod(self.moment(second)), connection)
        last = self.model.closed_through - INSTANT
        assert not self.do(self.deposit_of(client, currency, amount, last, many=many), connection)
        if self.wallets[client, currency].code not in self.model.closed:
            assert self.do(self.deposit_of(client, currency, amount, self.model.closed_through, many=many), connection)

    @rule(connection=CONNECTION, client=CLIENT, currency=CURRENCY)
    def close_account(self, connection: int, client: int, currency: str) -> None:
        if len(self.model.closed) < MOST_CLOSED:
            self.do(CloseAccount(self.wallets[client, currency].code), connection)

    @rule(currency=CURRENCY, amounts=st.tuples(AMOUNT, AMOUNT), at=MOMENT, is_kept=st.booleans())
    def seal_beside_open_work(self, currency: str, amounts: tuple[int, int], at: int, is_kept: bool) -> None:
        """A seal is made while one transaction is under way and a later one is through; what comes late is in the next."""
        slow = self.payment(0, 1, currency, amounts[0], self.moment(at))
        if slow.refusals(self.model):
            return
        with suppress(Changed), unit_of_work(self.sessions[0], ACTOR):
            txn_id = slow.ask(self.sessions[0])
            self.do(self.payment(2, 3, currency, amounts[1], self.moment(at)), 1)
            proofs.seal(self.sessions[2])
            if not is_kept:
                raise Changed
        if is_kept:
            slow.apply(self.model, txn_id)

    @rule()
    def seal(self) -> None:
        proofs.seal(self.sessions[2])

    # ── what must hold after each step ──────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_database_agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        with type(self).open_session() as session:
            broken = [found for proof in proofs.prove(session) for found in proof.breaks]
            accounts = {account.code: account for account in session.scalars(select(Account))}
            transactions = session.scalar(select(func.count()).select_from(Transaction))
            sums = session.execute(text("SELECT sum(debits - credits) FROM ledger.account GROUP BY currency")).scalars().all()
            for account, at in self.places():
                assert queries.balance_as_of(session, account, at).amount_minor == self.model.balance(account.code, at)
        assert broken == []
        assert set(sums) <= {0}
        assert transactions == self.transactions + len(self.model.txns)
        for code in (account.code for account in self.accounts):
            account, model = accounts[code], self.model
            assert (account.balance, account.held) == (model.balance(code), model.held[code]), code
            assert account.available == (model.free(code) if code in model.guarded else None), code
            assert (account.closed_at is not None) == (code in model.closed), code

    def places(self) -> list[tuple[chart.AccountSpec, datetime]]:
        """Some accounts, each with some moments just before, at and after which something of it is effective."""
        own = {
            account: [at for at, _ in self.model.changes[account.code] if at not in {FIRST_DAY, self.start}]
            for account in self.choose.sample(self.accounts, 6)
        }
        return [
            (account, self.choose.choice(moments) + self.choose.randint(-1, 1) * INSTANT)
            for account, moments in own.items()
            if moments
            for _ in range(3)
        ]

    @rule(connection=CONNECTION, seconds=st.lists(MOMENT, min_size=1, max_size=3), client=CLIENT, currency=CURRENCY)
    def read_back(self, connection: int, seconds: list[int], client: int, currency: str) -> None:
        """Balances at any moment are the sums of what was effective before it."""
        session = self.sessions[connection]
        for second in seconds:
            at = self.moment(second)
            for account in (self.wallets[client, currency], clearing(currency), chart.fx_position(currency)):
                wanted = Money(self.model.balance(account.code, at), currency)
                assert queries.balance_as_of(session, account, at) == wanted
        wallet = self.wallets[client, currency]
        from_, to = (self.moment(second) for second in (min(seconds), max(seconds) + 1))
        statement = queries.statement(session, wallet, from_, to)
        assert statement.opening.amount_minor == self.model.balance(wallet.code, from_)
        assert statement.closing.amount_minor == self.model.balance(wallet.code, to)
        assert queries.balance(session, wallet).available.amount_minor == self.model.free(wallet.code)
        session.rollback()


class Changed(Exception):
    """Somebody thinks otherwise in the middle of a unit of work."""


def clearing(currency: str) -> chart.AccountSpec:
    return chart.psp_clearing("stripe", currency)


def payouts(currency: str) -> chart.AccountSpec:
    return chart.psp_payouts("stripe", currency)


def grown(post: Post) -> Post:
    """The same with twice as much on each leg."""
    legs = tuple(Leg(leg.account, leg.money + leg.money, leg.side) for leg in post.legs)
    return replace(post, legs=legs)


def turned(post: Post) -> Post:
    """The same the other way round."""
    return replace(post, legs=mirrored(post.legs))


def add_client(session: Session) -> int:
    client = Client(
        email=f"machine{next(_numbers)}@example.com", password_hash="x", first_name="Fay", last_name="Xu", country="DE",
        terms_version="1", terms_accepted_at=now(), status="approved",
    )  # fmt: skip
    session.add(client)
    session.flush()
    return client.id


@pytest.mark.slow
def test_any_order_of_movements(database):
    with database.session() as session, unit_of_work(session, ACTOR):
        session.add(FXPair(base="EUR", quote="USD", spread_bp=SPREAD_BP))
    machine = type("BoundMachine", (LedgerMachine,), {"open_session": staticmethod(database.session)})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]),
    )
