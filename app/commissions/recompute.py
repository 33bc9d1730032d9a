"""A period of deals judged anew, beside what is stored: for replays, and for simulations of plans. Writes nothing.

Deals come in their own order, page by page from one snapshot of the database, so that any number of them takes the same
memory. Each is judged by the same engine as live, under a book of plans that may hold what should have stood.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from app.commissions.engine import WAITING, Accrued, Outcome
from app.commissions.measures import Measures
from app.commissions.overrides import Overrides, given_clients
from app.commissions.plans import PlanSnapshot
from app.commissions.snapshots import DayRates, PlanBook
from app.commissions.standings import cases_of, counters
from app.commissions.stored_deals import StoredDeal, stream_deals
from app.commissions.tally import Case, Counter, Tally, looked_at, waits_for_end
from app.commissions.tiers import end_of, moment, start_of
from app.core.arrays import any_of
from app.models.commissions import Accrual, DealOutcome, PlanVersion
from app.models.metatrader import Deal, TradingAccount
from app.models.partners import Attribution

#: Deals of a page.
PAGE = 2000

#: Deals lie in months by when their first revision was done; a correction may say another time, by this much at most.
_MOVED = timedelta(days=40)

_EVER_BROUGHT = text(
    """
    WITH RECURSIVE branch (ib_id) AS (
        SELECT CAST(:owner AS bigint)
        UNION
        SELECT p.ib_id FROM branch JOIN ib_parent p ON p.parent_id = branch.ib_id
    )
    SELECT DISTINCT client_id FROM attribution WHERE ib_id IN (SELECT ib_id FROM branch)
    """
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Deals done from `since` until before `until`; with the others only those of one plan, one IB's branch, one server."""

    since: datetime
    until: datetime
    plan_id: int | None = None
    branch_id: int | None = None
    server_id: int | None = None


class Key(NamedTuple):
    """What lines are for; all lines with the same key together are what stands. `client_id` is of level 0."""

    deal_id: int
    plan_version_id: int
    rule: str
    level: int
    ib_id: int | None
    client_id: int | None
    currency: str


@dataclass(slots=True)
class Net:
    """All lines of a key together, whatever their kind; `rate` is the last one's."""

    amount: Decimal = Decimal(0)
    lots: Decimal = Decimal(0)
    rate: Decimal = Decimal(0)


@dataclass(slots=True)
class Stored:
    """What is stored of one deal: its nets, from how many lines, and why it pays nothing, or "waits"."""

    nets: dict[Key, Net] = field(default_factory=dict)
    accruals: int = 0
    reason: str | None = None

    @property
    def is_judged(self) -> bool:
        """Whether accrual is done with it; otherwise it is still to come, and nothing may come before it."""
        return self.reason not in WAITING if self.reason is not None else self.accruals > 0


@dataclass(frozen=True, slots=True)
class Compared:
    """One deal of the scope: what it should accrue and what is stored. `is_left_out`: it waits for its first judgement, or for
    what it would be priced by.
    """

    deal: StoredDeal
    case: Case
    outcome: Outcome
    stored: Stored
    is_left_out: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that is not what it should be. `made` is what it should be; None: nothing."""

    key: Key
    deal: StoredDeal
    accruals: int
    stored: Net
    made: Accrued | None


def everybody(session: Session) -> list[int]:
    """The clients whom somebody ever brought: those that a book of plans for all deals needs."""
    return list(session.scalars(select(Attribution.client_id).group_by(Attribution.client_id)))


def ever_brought(session: Session, ib_id: int) -> list[int]:
    """The clients whom an IB, or one that ever stood below it, ever had; the deals say when."""
    return list(session.scalars(_EVER_BROUGHT, {"owner": ib_id}))


def book_for(session: Session, overrides: Overrides | None = None, proposed: PlanSnapshot | None = None) -> PlanBook:
    """A book for all deals there are, with what should have stood, or with rules that are only proposed for a plan."""
    clients = {*everybody(session), *given_clients(session)}
    if overrides:
        clients |= {one.subject for one in overrides.clients}
    return PlanBook(session, clients, overrides=overrides, proposed=proposed)


def count_deals(session: Session, scope: Scope) -> int:
    """About how many deals `recompute` will look at, to tell how far it is."""
    return session.scalar(select(func.count()).select_from(Deal).where(*_done_in(scope.since, scope.until))) or 0


def recompute(session: Session, scope: Scope, book: PlanBook, page: int = PAGE) -> Iterator[tuple[int, list[Compared]]]:
    """All deals of the scope, page by page, each page after how many deals were looked at for it.

    Where plans count volumes or caps, deals outside of the scope are judged too, from the beginning of the period on. The
    session must stay in one transaction; REPEATABLE READ gives one picture of it all.
    """
    versions = _versions_of(session, scope.plan_id)
    spans = {plan.span for plan in book.snapshots if plan.span}
    window = _window(scope, spans)
    of = [*_done_in(*window), *([] if spans else _narrowed(session, scope, book))]
    rates, known = DayRates(session), Measures(session).known
    finals: dict[Counter, Decimal] | None = None
    if any(waits_for_end(plan) for plan in book.snapshots):
        first = _Judge(session, book, rates, Tally(known, {}), window[0])
        for deals in stream_deals(session, *of, page=page):
            first.judge(deals, only_counted=True)
        finals = first.tally.counts
    judge = _Judge(session, book, rates, Tally(known, {}, finals), window[0])
    for deals in stream_deals(session, *of, page=page):
        compared = judge.judge(deals)
        yield len(deals), [one for one in compared if _is_within(one, scope, versions)]


def differences(compared: Compared) -> list[Difference]:
    """The keys of a deal that are not what they should be; of one that is left out none. Pure."""
    if compared.is_left_out:
        return []
    deal, stored = compared.deal, compared.stored
    due = {_key(deal.id, made): made for made in compared.outcome.accruals}
    found = []
    for key, made in due.items():
        net = stored.nets.get(key) or Net()
        if made.amount != net.amount or made.lots != net.lots:
            found.append(Difference(key, deal, stored.accruals, net, made))
    for key, net in stored.nets.items():
        if key not in due and (net.amount or net.lots):
            found.append(Difference(key, deal, stored.accruals, net, None))
    return found


class _Judge:
    """Judges page after page, counting on."""

    def __init__(self, session: Session, book: PlanBook, rates: DayRates, tally: Tally, began_at: datetime) -> None:
        self.tally = tally
        self._session, self._book, self._rates, self._began_at = session, book, rates, began_at
        self._read: set[Counter] = set()

    def judge(self, deals: Sequence[StoredDeal], *, only_counted: bool = False) -> list[Compared]:
        stored = _stored(self._session, [deal.id for deal in deals])
        compared = []
        cases = cases_of(self._session, deals, self._book, self._rates)
        self._look_back(cases)
        for deal, case in zip(deals, cases, strict=True):
            mine = stored.get(deal.id) or Stored()
            if not mine.is_judged:
                compared.append(Compared(deal, case, Outcome(), mine, is_left_out=True))
            elif case.home is not None and moment(case.home.starts_on) < self._began_at:
                continue  # of a period that is read, not counted; none of the scope
            elif not only_counted or case.home is not None:
                outcome = self.tally.judge(case)
                compared.append(Compared(deal, case, outcome, mine, is_left_out=outcome.reason in WAITING))
        return compared

    def _look_back(self, cases: Sequence[Case]) -> None:
        """Read what periods before the first deal of all came to, where tiers ask for it."""
        counted = [case for case in cases if case.home is not None]
        asked: set[Counter] = set().union(*(looked_at(case) for case in counted)) - self._read
        before = {counter for counter in asked if not counter.ib_id and moment(counter.starts_on) < self._began_at}
        for counter, quantity in counters(self._session, before).items():
            if counter in before:
                self.tally.counts[counter] = quantity
        self._read |= asked


def _window(scope: Scope, spans: Collection[str]) -> tuple[datetime, datetime]:
    """The scope, widened to whole periods of all plans that count."""
    if not spans:
        return scope.since, scope.until
    last = scope.until - timedelta(microseconds=1)
    since = min(start_of(span, scope.since) for span in spans)
    return moment(since), moment(max(end_of(span, start_of(span, last)) for span in spans))


def _done_in(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        Deal.filed_at >= since - _MOVED,
        Deal.filed_at < until + _MOVED,
        Deal.done_at >= since,
        Deal.done_at < until,
    )


def _narrowed(session: Session, scope: Scope, book: PlanBook) -> list[ColumnElement[bool]]:
    """What the database can leave out by itself; where plans count, every deal of them matters."""
    narrowed: list[ColumnElement[bool]] = []
    if scope.server_id is not None:
        narrowed.append(Deal.server_id == scope.server_id)
    if scope.branch_id is not None:
        clients = {*ever_brought(session, scope.branch_id), *book.moved}
        accounts = select(TradingAccount.id).where(TradingAccount.client_id == any_of(clients))
        narrowed.append(Deal.trading_account_id.in_(accounts))
    return narrowed


def _versions_of(session: Session, plan_id: int | None) -> set[int]:
    """The versions of a plan; none when no plan is asked for."""
    return set(session.scalars(select(PlanVersion.id).where(PlanVersion.plan_id == plan_id))) if plan_id else set()


def _is_within(one: Compared, scope: Scope, versions: Collection[int]) -> bool:
    """Whether a deal is of the scope, by what is stored of it or by what it should be."""
    if not scope.since <= one.deal.facts.done_at < scope.until:
        return False
    if scope.server_id is not None and one.deal.server_id != scope.server_id:
        return False
    case, keys = one.case, one.stored.nets
    if scope.branch_id is not None and not (
        any(above.ib_id == scope.branch_id for above in case.upline) or any(key.ib_id == scope.branch_id for key in keys)
    ):
        return False
    return scope.plan_id is None or (
        (case.plan is not None and case.plan.plan_id == scope.plan_id) or any(key.plan_version_id in versions for key in keys)
    )


def _stored(session: Session, deal_ids: Sequence[int]) -> dict[int, Stored]:
    """What is stored of these deals; of one that nobody judged yet there is nothing."""
    found: dict[int, Stored] = {}
    rows = session.execute(
        select(*(getattr(Accrual, name) for name in Key._fields), Accrual.amount, Accrual.lots, Accrual.rate)
        .where(Accrual.deal_id == any_of(deal_ids))
        .order_by(Accrual.id)
    )
    for *named, amount, lots, rate in rows:
        key = Key(*named)
        of_deal = found.setdefault(key.deal_id, Stored())
        of_deal.accruals += 1
        net = of_deal.nets.get(key)
        if net is None:
            of_deal.nets[key] = Net(amount, lots, rate)
        else:
            net.amount, net.lots, net.rate = net.amount + amount, net.lots + lots, rate
    reasons = select(DealOutcome.deal_id, DealOutcome.reason).where(DealOutcome.deal_id == any_of(deal_ids))
    for deal_id, reason in session.execute(reasons):
        found.setdefault(deal_id, Stored()).reason = reason
    return found


def _key(deal_id: int, made: Accrued) -> Key:
    return Key(deal_id, made.plan_version_id, made.rule, made.level, made.ib_id, made.client_id, made.currency)
