"""What should stand in the ledger, kept in plain Python, and the operations that move both.

An operation knows three things: how to ask the database for it, why the model would refuse it, and what it changes in the
model. It shares no code with app/ledger beyond the call itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import Money
from app.ledger import chart, close, errors, fx, holds, posting
from app.ledger.errors import LedgerError
from app.ledger.posting import Leg, Posting
from app.models.ledger import Transaction

ACTOR = Actor.system("machine")
Refusals = set[type[LedgerError]]


def natural(leg: Leg) -> int:
    """By how much a leg changes the balance of its account. Here, what providers and clients owe us grows by debits."""
    grows = "debit" if ":clearing:" in leg.account or ":receivable:" in leg.account else "credit"
    return leg.money.amount_minor if leg.side == grows else -leg.money.amount_minor


def mirrored(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    return tuple(Leg(leg.account, leg.money, "credit" if leg.side == "debit" else "debit") for leg in legs)


@dataclass(frozen=True)
class Content:
    """What makes two postings under one key the same."""

    kind: str
    legs: frozenset[Leg]
    reverses: UUID | None = None


@dataclass
class Held:
    """A hold as the model knows it. `ended` is its outcome, `by` the key of what captured it."""

    id: UUID
    account: str
    amount: int
    is_due: bool
    ended: str = ""
    by: str = ""


@dataclass
class Model:
    guarded: set[str] = field(default_factory=set)  # accounts that may not go below zero
    closed: set[str] = field(default_factory=set)
    closed_through: datetime = datetime(1900, 1, 1, tzinfo=UTC)
    changes: defaultdict[str, list[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(list))
    held: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    txns: dict[str, tuple[UUID, Content]] = field(default_factory=dict)
    reversed: set[UUID] = field(default_factory=set)
    holds: dict[str, Held] = field(default_factory=dict)

    def copy(self) -> Model:
        return Model(
            guarded=self.guarded,
            closed=set(self.closed),
            closed_through=self.closed_through,
            changes=defaultdict(list, {account: list(changes) for account, changes in self.changes.items()}),
            held=self.held.copy(),
            txns=dict(self.txns),
            reversed=set(self.reversed),
            holds={key: replace(held) for key, held in self.holds.items()},
        )

    def balance(self, account: str, before: datetime | None = None) -> int:
        return sum(change for at, change in self.changes[account] if before is None or at < before)

    def free(self, account: str) -> int:
        return self.balance(account) - self.held[account]

    def hold(self, hold_id: UUID) -> Held:
        return next(one for one in self.holds.values() if one.id == hold_id)

    def refusals(self, contents: Sequence[Content], moments: Sequence[datetime], freed: dict[str, int]) -> Refusals:
        """Why new transactions of these contents, judged together, would be refused; `freed` is held no longer."""
        found: Refusals = set()
        if any(at < self.closed_through for at in moments):
            found.add(errors.PeriodClosed)
        after: defaultdict[str, int] = defaultdict(int)
        for content in contents:
            for leg in content.legs:
                after[leg.account] += natural(leg)
        if self.closed & after.keys():
            found.add(errors.AccountClosed)
        for account, change in after.items():
            if account in self.guarded and self.free(account) + freed.get(account, 0) + change < 0:
                found.add(errors.InsufficientFunds)
        undone = [content.reverses for content in contents if content.reverses]
        if self.reversed & set(undone) or len(set(undone)) < len(undone):
            found.add(errors.AlreadyReversed)
        posted = {txn_id: content.legs for txn_id, content in self.txns.values()}
        if any(content.reverses and content.legs != frozenset(mirrored(posted[content.reverses])) for content in contents):
            found.add(errors.ReversalMismatch)
        return found

    def write(self, key: str, txn_id: UUID, content: Content, at: datetime) -> None:
        assert key not in self.txns
        self.txns[key] = (txn_id, content)
        for leg in content.legs:
            self.changes[leg.account].append((at, natural(leg)))
        if content.reverses:
            self.reversed.add(content.reverses)


class Otherwise(Exception):
    """The answer is not the one that the model expects after the operations so far."""


def expect(is_so: bool) -> None:
    if not is_so:
        raise Otherwise


class Operation(Protocol):
    def ask(self, session: Session) -> Any:
        """Ask the database, inside a unit of work."""

    def refusals(self, model: Model) -> Refusals:
        """The errors that are right; none when it must succeed."""

    def apply(self, model: Model, answer: Any) -> None:
        """Check the answer (Otherwise), and change the model."""


@dataclass(frozen=True)
class Post:
    key: str
    legs: tuple[Leg, ...]
    at: datetime
    many: bool = False
    kind: str = "machine"
    reverses: UUID | None = None

    @property
    def content(self) -> Content:
        return Content(self.kind, frozenset(self.legs), self.reverses)

    def posting(self) -> Posting:
        return Posting(self.key, self.kind, self.at, ACTOR, self.legs, reverses=self.reverses)

    def ask(self, session: Session) -> UUID:
        if self.many:
            return posting.post_many(session, [self.posting()])[0]
        return posting.post(
            session, key=self.key, kind=self.kind, effective_at=self.at, actor=ACTOR, legs=self.legs, reverses=self.reverses
        )

    def refusals(self, model: Model) -> Refusals:
        if self.key in model.txns:
            return set() if model.txns[self.key][1] == self.content else {errors.IdempotencyConflict}
        return model.refusals([self.content], [self.at], {})

    def apply(self, model: Model, answer: UUID) -> None:
        if self.key in model.txns:
            expect(answer == model.txns[self.key][0])
        else:
            model.write(self.key, answer, self.content, self.at)


@dataclass(frozen=True)
class PostMany:
    """Several at once, of which some may have been posted before, or stand in the list twice."""

    posts: tuple[Post, ...]

    def ask(self, session: Session) -> list[UUID]:
        return posting.post_many(session, [post.posting() for post in self.posts])

    def new(self, model: Model) -> dict[str, Post]:
        return {post.key: post for post in reversed(self.posts) if post.key not in model.txns}

    def refusals(self, model: Model) -> Refusals:
        new = self.new(model)
        known = {key: content for key, (_, content) in model.txns.items()} | {key: post.content for key, post in new.items()}
        conflict = any(known[post.key] != post.content for post in self.posts)
        found = model.refusals([post.content for post in new.values()], [post.at for post in new.values()], {})
        return found | {errors.IdempotencyConflict} if conflict else found

    def apply(self, model: Model, answer: list[UUID]) -> None:
        new = self.new(model)
        for post, txn_id in zip(self.posts, answer, strict=True):
            if post.key in model.txns:
                expect(model.txns[post.key][0] == txn_id)
            else:
                model.write(post.key, txn_id, post.content, new[post.key].at)


@dataclass(frozen=True)
class Raw:
    """Straight to the function in the database, past what Python checks; a credit of one minor unit too much."""

    post: Post

    def ask(self, session: Session) -> None:
        legs = posting.leg_arrays(self.post.legs)
        legs["credits"] = [credit + 1 if credit else 0 for credit in legs["credits"]]
        values = {"key": self.post.key, "at": self.post.at, **legs}
        session.execute(text(f"SELECT ledger.post(:key, 'raw', :at, 'machine', {posting.LEGS})"), values)

    def refusals(self, model: Model) -> Refusals:
        return {errors.UnbalancedTransaction} | self.post.refusals(model)

    def apply(self, model: Model, answer: None) -> None:
        expect(False)


@dataclass(frozen=True)
class Reverse:
    key: str
    txn_id: UUID
    legs: tuple[Leg, ...]
    at: datetime

    def as_post(self) -> Post:
        return Post(self.key, mirrored(self.legs), self.at, kind="reversal", reverses=self.txn_id)

    def ask(self, session: Session) -> UUID:
        return posting.reverse(session, self.txn_id, key=self.key, actor=ACTOR, at=self.at, reason="again")

    def refusals(self, model: Model) -> Refusals:
        return self.as_post().refusals(model)

    def apply(self, model: Model, answer: UUID) -> None:
        self.as_post().apply(model, answer)


@dataclass(frozen=True)
class Convert:
    """Carry out a quote; the legs are those of the recipe in docs/ledger.md, the moment is the ledger's own."""

    public_id: UUID
    client_id: int
    legs: tuple[Leg, ...]

    def as_post(self, at: datetime) -> Post:
        return Post(f"conversion:{self.public_id}", self.legs, at, kind="conversion")

    def ask(self, session: Session) -> tuple[UUID, datetime]:
        done = fx.convert(session, quote_public_id=self.public_id, client_id=self.client_id, actor=ACTOR)
        return done.txn_id, session.get_one(Transaction, done.txn_id).effective_at

    def refusals(self, model: Model) -> Refusals:
        return self.as_post(datetime.now(UTC)).refusals(model)

    def apply(self, model: Model, answer: tuple[UUID, datetime]) -> None:
        txn_id, at = answer
        self.as_post(at).apply(model, txn_id)


@dataclass(frozen=True)
class Place:
    key: str
    account: chart.AccountSpec
    amount: int
    is_due: bool

    def ask(self, session: Session) -> UUID:
        return holds.place_hold(
            session,
            account=self.account,
            money=Money(self.amount, self.account.currency),
            key=self.key,
            reason="",
            actor=ACTOR,
            expires_at=datetime.now(UTC) + timedelta(hours=-1 if self.is_due else 1),
        )

    def refusals(self, model: Model) -> Refusals:
        known = model.holds.get(self.key)
        if known:
            same = (known.account, known.amount) == (self.account.code, self.amount)
            return set() if same else {errors.IdempotencyConflict}
        found: Refusals = set()
        if self.account.code in model.closed:
            found.add(errors.AccountClosed)
        if model.free(self.account.code) < self.amount:
            found.add(errors.InsufficientFunds)
        return found

    def apply(self, model: Model, answer: UUID) -> None:
        if self.key in model.holds:
            expect(answer == model.holds[self.key].id)
            return
        model.holds[self.key] = Held(answer, self.account.code, self.amount, self.is_due)
        model.held[self.account.code] += self.amount


@dataclass(frozen=True)
class Capture:
    hold_id: UUID
    post: Post

    def ask(self, session: Session) -> UUID:
        post = self.post
        return holds.capture_hold(
            session, self.hold_id, key=post.key, kind=post.kind, effective_at=post.at, actor=ACTOR, legs=post.legs
        )

    def refusals(self, model: Model) -> Refusals:
        hold = model.hold(self.hold_id)
        if hold.ended:
            return self.post.refusals(model) if hold.by == self.post.key else {errors.HoldAlreadyResolved}
        if self.post.key in model.txns:
            return {errors.IdempotencyConflict}
        found = model.refusals([self.post.content], [self.post.at], {hold.account: hold.amount})
        taken = -sum(natural(leg) for leg in self.post.legs if leg.account == hold.account)
        return found | {errors.CaptureMismatch} if not 1 <= taken <= hold.amount else found

    def apply(self, model: Model, answer: UUID) -> None:
        hold = model.hold(self.hold_id)
        self.post.apply(model, answer)
        if not hold.ended:
            hold.ended, hold.by = "captured", self.post.key
            model.held[hold.account] -= hold.amount


@dataclass(frozen=True)
class End:
    """Release or expire."""

    hold_id: UUID
    outcome: str

    def ask(self, session: Session) -> bool:
        end = holds.release_hold if self.outcome == "released" else holds.expire_hold
        return end(session, self.hold_id, actor=ACTOR)

    def refusals(self, model: Model) -> Refusals:
        hold = model.hold(self.hold_id)
        if hold.ended:
            return set() if hold.ended == self.outcome else {errors.HoldAlreadyResolved}
        return {errors.HoldNotDue} if self.outcome == "expired" and not hold.is_due else set()

    def apply(self, model: Model, answer: bool) -> None:
        hold = model.hold(self.hold_id)
        expect(answer is not bool(hold.ended))
        if not hold.ended:
            hold.ended = self.outcome
            model.held[hold.account] -= hold.amount


@dataclass(frozen=True)
class ClosePeriod:
    through: datetime

    def ask(self, session: Session) -> None:
        close.close_period(session, self.through, actor=ACTOR)

    def refusals(self, model: Model) -> Refusals:
        return set()

    def apply(self, model: Model, answer: None) -> None:
        model.closed_through = max(model.closed_through, self.through)


@dataclass(frozen=True)
class CloseAccount:
    code: str

    def ask(self, session: Session) -> None:
        close.close_account(session, self.code)

    def refusals(self, model: Model) -> Refusals:
        return {errors.AccountNotEmpty} if model.balance(self.code) or model.held[self.code] else set()

    def apply(self, model: Model, answer: None) -> None:
        model.closed.add(self.code)
