"""Who gains and who loses by a move of a client, of an IB's clients or of a branch, by the deals of the last 90 days.

The deals that were done while the clients stood where they still stand are priced again as if the move had counted then, by
the same code that accrues; beside it stands what they really accrued.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import ARRAY, BigInteger, ColumnElement, all_, and_, func, literal, or_, select
from sqlalchemy.orm import Session

from app.commissions.accrual import judge
from app.commissions.deals import BUY, SELL
from app.commissions.engine import WAITING, Outcome, Upline
from app.commissions.plans import MAX_LEVELS
from app.commissions.snapshots import PlanBook
from app.commissions.stored_deals import load_deals
from app.core.arrays import any_of
from app.models.commissions import Accrual
from app.models.metatrader import Deal, TradingAccount
from app.models.partner_moves import PartnerMove
from app.models.partners import Attribution
from app.partners import branches, tree

DAYS = timedelta(days=90)

#: Of more deals the newest count: a page waits for them.
MOST_DEALS = 10_000

#: The IBs of a branch, far above what a house has.
_MOST_IBS = 100_000

#: By IB (none: rebates to clients) and currency.
Sums = Mapping[tuple[int | None, str], Decimal]


@dataclass(frozen=True)
class Amounts:
    """What the deals gave in one currency, and what they would have given after the move; unrounded."""

    currency: str
    got: Decimal
    would: Decimal

    @property
    def difference(self) -> Decimal:
        return self.would - self.got


@dataclass(frozen=True)
class Effect:
    """What a move means for one IB: `clients` more (or fewer) in its network, and the amounts of the deals."""

    ib_id: int
    clients: int
    amounts: tuple[Amounts, ...]


@dataclass(frozen=True)
class MovePreview:
    """`effects` for the IB that moves, those above it now, those above afterwards, and others whose pay differs.

    `house` has the sums of all, also of those whose pay stays the same.

    `clients` move, `staying` of the same IB do not. `deals` counted since `since`; `is_cut` when there were more of them.
    `waiting` of them could not be priced after the move. `accrued` tells per currency what the clients' deals done since the
    move's moment, where it is past, have accrued already: a move leaves it as it is.
    """

    clients: int
    staying: int
    since: datetime
    deals: int
    is_cut: bool
    waiting: int
    effects: tuple[Effect, ...]
    house: tuple[Amounts, ...]
    accrued: tuple[tuple[str, Decimal], ...]
    accrued_deals: int


class MovedBook(PlanBook):
    """The tree as if the move had always counted: who stood as they stand now stood where they go."""

    def __init__(self, session: Session, client_ids: Iterable[int], move: PartnerMove) -> None:
        super().__init__(session, client_ids, ibs=() if move.target_id is None else (move.target_id,))
        self._move = move

    def upline(self, client_id: int | None, at: datetime) -> tuple[Upline, ...]:
        present = [above.ib_id for above in super().upline(client_id, at)]
        kept = kept_below(present, self._move)
        if kept is None:
            return self.levels(present, at)
        above = () if self._move.target_id is None else self.chain(self._move.target_id, at)
        return self.levels([*kept, *above][:MAX_LEVELS], at)


def preview_move(session: Session, move: PartnerMove, at: datetime) -> MovePreview:
    """What a proposed or a typed move would change, as of `at`, the present moment. Reads only."""
    counts_from = move.effective_at or at
    clients, staying = _clients(session, move, counts_from)
    since = at - DAYS
    ids = _deal_ids(session, clients, since, at)
    is_cut = len(ids) > MOST_DEALS
    deals = load_deals(session, Deal.id == any_of(ids[:MOST_DEALS]))
    concerned = {deal.client_id for deal in deals if deal.client_id is not None}
    book = PlanBook(session, concerned)
    deals = [
        deal
        for deal in deals
        if not deal.is_dead
        and kept_below([above.ib_id for above in book.upline(deal.client_id, deal.facts.done_at)], move) is not None
    ]
    outcomes = judge(session, deals, MovedBook(session, concerned, move))
    got = _got(session, [deal.id for deal in deals])
    accrued_deals, accrued = _accrued_since(session, clients, counts_from, at) if counts_from < at else (0, ())
    effects, house = weigh(
        got,
        summed(outcomes.values()),
        _chain(session, move.from_id, counts_from),
        _chain(session, move.target_id, counts_from),
        len(clients),
        move.ib_id,
    )
    return MovePreview(
        clients=len(clients),
        staying=staying,
        since=min(deal.facts.done_at for deal in deals) if is_cut and deals else since,
        deals=len(deals),
        is_cut=is_cut,
        waiting=sum(outcome.reason in WAITING for outcome in outcomes.values()),
        effects=effects,
        house=house,
        accrued=accrued,
        accrued_deals=accrued_deals,
    )


def kept_below(present: Sequence[int], move: PartnerMove) -> list[int] | None:
    """Of a client's upline, nearest first, what the move takes along; None where the client does not stand as it does now."""
    if move.ib_id is None:
        stands = present[0] if present else None
        return [] if stands == move.from_id else None
    if move.ib_id not in present:
        return None
    place = present.index(move.ib_id) + 1
    above = present[place] if place < len(present) else None
    return list(present[:place]) if above == move.from_id else None


def summed(outcomes: Iterable[Outcome]) -> Sums:
    """What outcomes accrue, by IB and currency."""
    sums: dict[tuple[int | None, str], Decimal] = defaultdict(Decimal)
    for outcome in outcomes:
        for made in outcome.accruals:
            sums[made.ib_id, made.currency] += made.amount
    return sums


def weigh(
    got: Sums, would: Sums, old: Sequence[int], new: Sequence[int], clients: int, moved: int | None = None
) -> tuple[tuple[Effect, ...], tuple[Amounts, ...]]:
    """Per IB what changes, and what changes for the house; `old` and `new` are the IBs above before and after the move of
    `clients`, or of the IB `moved`.
    """
    keys = {*got, *would}
    others = {ib_id for ib_id, currency in keys if got.get((ib_id, currency)) != would.get((ib_id, currency))}
    effects = []
    first = [] if moved is None else [moved]
    for ib_id in dict.fromkeys([*first, *old, *new, *sorted(one for one in others if one is not None)]):
        amounts = tuple(
            Amounts(currency, got.get((ib_id, currency), Decimal(0)), would.get((ib_id, currency), Decimal(0)))
            for currency in sorted({currency for one, currency in keys if one == ib_id})
        )
        effects.append(Effect(ib_id, clients * ((ib_id in new) - (ib_id in old)), amounts))
    house = tuple(
        Amounts(
            currency,
            sum((amount for (_, one), amount in got.items() if one == currency), Decimal(0)),
            sum((amount for (_, one), amount in would.items() if one == currency), Decimal(0)),
        )
        for currency in sorted({currency for _, currency in keys})
    )
    return tuple(effects), house


def _clients(session: Session, move: PartnerMove, at: datetime) -> tuple[list[int], int]:
    """Whose deals the move concerns, and how many clients of the same IB stay."""
    if move.client_id is not None:
        return [move.client_id], 0
    if move.ib_id is not None:
        ibs = [move.ib_id, *(below.ib_id for below in branches.branch(session, move.ib_id, at, _MOST_IBS))]
        held = and_(Attribution.valid_from <= at, or_(Attribution.valid_to.is_(None), Attribution.valid_to > at))
        return list(session.scalars(select(Attribution.client_id).where(Attribution.ib_id == any_of(ibs), held))), 0
    assert move.from_id is not None  # a check of the table
    going = session.scalars(select(Attribution.client_id).where(tree.moves_with(move.from_id, move.target_id, at))).all()
    staying = session.scalar(
        select(func.count(Attribution.client_id.distinct())).where(
            Attribution.ib_id == move.from_id,
            or_(Attribution.valid_to.is_(None), Attribution.valid_to > at),
            Attribution.client_id != all_(literal(going, ARRAY(BigInteger))),
        )
    )
    return list(going), staying or 0


def _deal_ids(session: Session, clients: list[int], since: datetime, until: datetime) -> list[int]:
    """The newest trades of clients, one more than count at most."""
    query = (
        select(Deal.id)
        .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .where(_trades(clients, since, until))
        .order_by(Deal.done_at.desc(), Deal.id.desc())
        .limit(MOST_DEALS + 1)
    )
    return list(session.scalars(query))


def _trades(clients: list[int], since: datetime, until: datetime) -> ColumnElement[bool]:
    return and_(
        TradingAccount.client_id == any_of(clients),
        Deal.done_at >= since,
        Deal.done_at < until,
        Deal.action.in_((BUY, SELL)),
        Deal.is_current,
        ~Deal.is_void,
    )


def _got(session: Session, deal_ids: list[int]) -> Sums:
    rows = session.execute(
        select(Accrual.ib_id, Accrual.currency, func.sum(Accrual.amount).label("amount"))
        .where(Accrual.deal_id == any_of(deal_ids))
        .group_by(Accrual.ib_id, Accrual.currency)
    )
    return {(row.ib_id, row.currency): row.amount for row in rows}


def _accrued_since(
    session: Session, clients: list[int], since: datetime, until: datetime
) -> tuple[int, tuple[tuple[str, Decimal], ...]]:
    """How many deals of clients that were done from a moment on have accruals, and their sums by currency."""
    accrued = (
        select(Accrual.deal_id, Accrual.currency, Accrual.amount)
        .join(Deal, Deal.id == Accrual.deal_id)
        .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .where(_trades(clients, since, until))
        .cte()
    )
    sums = select(accrued.c.currency, func.sum(accrued.c.amount)).group_by(accrued.c.currency).order_by(accrued.c.currency)
    deals = session.scalar(select(func.count(accrued.c.deal_id.distinct())))
    return deals or 0, tuple((currency, amount) for currency, amount in session.execute(sums))


def _chain(session: Session, ib_id: int | None, at: datetime) -> tuple[int, ...]:
    return () if ib_id is None else tree.upline_at(tree.uplines(session, [ib_id], MAX_LEVELS), ib_id, at, MAX_LEVELS)
