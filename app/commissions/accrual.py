"""From booked deals to accruals: each deal judged once, each number kept with what explains it.

A deal is judged when it is booked: a cursor follows the ids of each server's deals, shard by shard. A later revision, or a
deletion at the server, adds the reverse of what the revision before it accrued; nothing is ever changed or removed.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.commissions import flags
from app.commissions.engine import WAITING, Accrued, Outcome, Rate, Reason, compute
from app.commissions.measures import Measures
from app.commissions.snapshots import PlanBook
from app.commissions.standings import Standings, cases_of
from app.commissions.stored_deals import StoredDeal, load_deals
from app.commissions.tally import recount
from app.commissions.units import SHARDS, Line, Sum, lock_shard, write_unit
from app.core.actor import Actor
from app.core.arrays import any_of
from app.core.copying import copy
from app.core.uow import UnitOfWork, unit_of_work
from app.models.commissions import Accrual, AccrualCursor, DealOutcome
from app.models.metatrader import Deal
from app.models.partners import IntroducingBroker

log = logging.getLogger("lotwise.commissions")

ACCRUE, REVERSE = "accrue", "reverse"

#: Deals of one unit, about: enough that its fixed cost is little, few enough that what it locks is soon free.
UNIT = 2500

#: Deals that wait are tried again so many at a time.
WAITING_AT_ONCE = 1000

_ACTOR = Actor.system("commissions")

#: The id up to which a unit reads. Ids of one server become visible in their order, because whoever books holds its lock;
#: so everything up to here is there. The deals of all shards count: no shard's cursor is left far behind.
_WINDOW_END = text(
    "SELECT max(id) FROM (SELECT id FROM deal WHERE server_id = :server AND id > :after ORDER BY id LIMIT :most) AS next"
)

#: Of these deals, those that have accruals: one look at the index for each.
_ACCRUED = text(
    "SELECT wanted.id FROM unnest(CAST(:ids AS bigint[])) AS wanted (id)"
    " WHERE EXISTS (SELECT FROM accrual WHERE accrual.deal_id = wanted.id)"
)


def accrue_server(session: Session, server_id: int, first_shard: int = 0) -> int:
    """Judge all deals of a server that were booked since the last time; returns how many accruals were written.

    Harmless to repeat, also at the same time: workers that begin at different shards do not wait for each other. Emits one
    commission.accrued per IB and unit, on the timeline of the IB's own client id.
    """
    return sum(accrue_shard(session, server_id, (first_shard + step) % SHARDS) for step in range(SHARDS))


def accrue_shard(session: Session, server_id: int, shard: int) -> int:
    """As `accrue_server`, for one shard: unit by unit, the cursor moving in the transaction that judges."""
    accruals = 0
    while (written := _next_unit(session, server_id, shard)) is not None:
        accruals += written
    return accruals


def accrue_deals(session: Session, deal_ids: Collection[int]) -> int:
    """Judge deals given by their ids, wherever the cursors are; returns how many accruals were written.

    For deals that are to be looked at again: whose owner became known, or that waited. Harmless to repeat.
    """
    written = 0
    with unit_of_work(session, _ACTOR) as unit:
        ids = sorted(set(deal_ids))
        shard = Deal.ticket % SHARDS
        rows = session.execute(select(Deal.server_id, shard.label("shard"), Deal.id).where(Deal.id == any_of(ids)))
        parts: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row in rows:
            parts[row.server_id, row.shard].append(row.id)
        # All of them first: whoever judges then holds periods of plans too, and nobody waits for a shard while holding one.
        for server_id, number in sorted(parts):
            lock_shard(session, server_id, number)
        for (server_id, number), part in sorted(parts.items()):
            for start in range(0, len(part), UNIT):
                some = part[start : start + UNIT]
                written += _accrue(unit, server_id, number, load_deals(session, Deal.id == any_of(some)))
    return written


def accrue_waiting(session: Session, limit: int = WAITING_AT_ONCE) -> int:
    """Judge again deals that could not be priced, those that waited longest first; returns how many accruals were written.

    Deals of logins that are still nobody's account are left alone: a trading server may hold many of them.
    """
    waiting = session.scalars(
        select(DealOutcome.deal_id)
        .join(Deal, Deal.id == DealOutcome.deal_id)
        .where(DealOutcome.reason.in_(sorted(WAITING)))
        .where((DealOutcome.reason != Reason.NO_ACCOUNT) | Deal.trading_account_id.is_not(None))
        .order_by(DealOutcome.judged_at)
        .limit(limit)
    ).all()
    return accrue_deals(session, waiting) if waiting else 0


def stored(deal_id: int, made: Accrued) -> dict[str, Any]:
    """The columns of the row that an accrual becomes, without its unit."""
    return {
        "deal_id": deal_id,
        "plan_version_id": made.plan_version_id,
        "rule": made.rule,
        "level": made.level,
        "ib_id": made.ib_id,
        "client_id": made.client_id,
        "kind": ACCRUE,
        "amount": made.amount,
        "currency": made.currency,
        "lots": made.lots,
        "rate": made.rate,
        "base": made.base,
        "base_currency": made.base_currency,
        "fx_rate": made.fx.rate if made.fx else None,
        "fx_source": made.fx.source if made.fx else None,
        "fx_observed_at": made.fx.observed_at if made.fx else None,
        "uncapped": made.uncapped,
        "multiplier": made.multiplier,
        "part": made.part,
        "earned": made.earned,
        "tier_position": made.tier_position,
        "cap_paid": made.cap_paid,
    }


def _next_unit(session: Session, server_id: int, shard: int) -> int | None:
    """Judge the shard's next deals and move its cursor past them; None when there are none."""
    with unit_of_work(session, _ACTOR) as unit:
        lock_shard(session, server_id, shard)
        after = session.scalar(
            select(AccrualCursor.deal_id).where(AccrualCursor.server_id == server_id, AccrualCursor.shard == shard)
        )
        window = {"server": server_id, "after": after or 0, "most": UNIT * SHARDS}
        last = session.scalar(_WINDOW_END, window)
        if last is None:
            return None
        first = (after or 0) + 1
        ours = (Deal.server_id == server_id, Deal.id.between(first, last), Deal.ticket % SHARDS == shard)
        deals = load_deals(session, *ours)
        written = _accrue(unit, server_id, shard, deals)
        moved = insert(AccrualCursor).values(server_id=server_id, shard=shard, deal_id=last)
        session.execute(
            moved.on_conflict_do_update(
                index_elements=["server_id", "shard"], set_={"deal_id": moved.excluded.deal_id, "moved_at": func.now()}
            )
        )
        return written


def _judged(session: Session, deals: Sequence[StoredDeal]) -> dict[int, str]:
    """Which of these deals were judged before, with the reason of those that have one."""
    judged = dict.fromkeys(session.scalars(_ACCRUED, {"ids": [deal.id for deal in deals]}), "")
    said = select(DealOutcome.deal_id, DealOutcome.reason).where(DealOutcome.deal_id == any_of([deal.id for deal in deals]))
    return judged | {row.deal_id: row.reason for row in session.execute(said)}


def _accrue(unit: UnitOfWork, server_id: int, shard: int, deals: Sequence[StoredDeal]) -> int:
    """Judge what is due, reverse what is dead, and write both as one unit; returns how many accruals that were."""
    session, judged = unit.session, _judged(unit.session, deals)
    dead = [deal for deal in deals if deal.is_dead]
    # What was judged stays judged: plans and attributions entered later belong to a replay, not to a repeated delivery.
    due = [deal for deal in deals if not deal.is_dead and (deal.id not in judged or judged[deal.id] in WAITING)]
    book = PlanBook(session, {deal.client_id for deal in deals if deal.client_id is not None})
    reversals = _reversals(session, [deal.id for deal in dead])
    live, gone = cases_of(session, due, book), cases_of(session, dead, book)
    standings = Standings(session, [*live, *gone])
    outcomes = standings.judge(live)
    for case in gone:
        standings.take_back(case, [line.made for line in reversals if line.deal_id == case.deal.deal_id])
    standings.save()
    lines = [Line(deal_id, ACCRUE, made) for deal_id, outcome in outcomes.items() for made in outcome.accruals] + reversals
    tell(unit, write_unit(session, server_id, shard, lines))
    outcomes.update({deal.id: compute(deal.facts, None, ()) for deal in dead})
    _write_outcomes(session, outcomes, judged)
    excesses = {deal_id: outcome.excess for deal_id, outcome in outcomes.items() if outcome.excess}
    if excesses:
        flags.raise_margin(session, excesses)
    return len(lines)


def judge(session: Session, deals: Sequence[StoredDeal], book: PlanBook | None = None) -> dict[int, Outcome]:
    """What each deal accrues, by deal id, under the attribution and plan that held when it was done, or under another book.

    Tiers and caps stand where these deals take them, in the deals' own order: give whole periods.
    """
    book = book or PlanBook(session, {deal.client_id for deal in deals if deal.client_id is not None})
    return recount(cases_of(session, deals, book), Measures(session).known)[0]


def _reversals(session: Session, deal_ids: Sequence[int]) -> list[Line]:
    """The reverse of everything that dead revisions still have, adjustments included."""
    if not deal_ids:
        return []
    accrued: dict[tuple[Any, ...], list[Accrual]] = defaultdict(list)
    rows = session.scalars(select(Accrual).where(Accrual.deal_id == any_of(deal_ids)).order_by(Accrual.id))
    for row in rows:
        key = (row.deal_id, row.plan_version_id, row.rule, row.level, row.ib_id, row.client_id, row.currency)
        accrued[key].append(row)
    lines = []
    for of_one in accrued.values():
        net = sum((row.amount for row in of_one), Decimal(0))
        lots = sum((row.lots for row in of_one), Decimal(0))
        # A line that a cap left nothing of has lots all the same.
        if net or lots:
            lines.append(Line(of_one[0].deal_id, REVERSE, replace(opposite(of_one[0]), amount=-net, lots=-lots)))
    return lines


def opposite(row: Accrual) -> Accrued:
    """The reverse of a stored accrual: what is counted is negative, rates stay."""
    return Accrued(
        plan_version_id=row.plan_version_id,
        rule=row.rule,
        level=row.level,
        ib_id=row.ib_id,
        client_id=row.client_id,
        lots=-row.lots,
        rate=row.rate,
        share=Decimal(1),
        amount=-row.amount,
        currency=row.currency,
        base=None if row.base is None else -row.base,
        base_currency=row.base_currency,
        fx=None if row.fx_rate is None else Rate(row.fx_rate, row.fx_source or "", row.fx_observed_at),
        uncapped=None if row.uncapped is None else -row.uncapped,
        multiplier=row.multiplier,
        part=row.part,
        earned=None if row.earned is None else -row.earned,
        tier_position=row.tier_position,
        cap_paid=row.cap_paid,
    )


def _write_outcomes(session: Session, outcomes: dict[int, Outcome], judged: dict[int, str]) -> None:
    """Keep why deals pay nothing; of one that waited and is paid now, that it does not wait any more."""
    for reason, deals in Counter(outcome.reason for outcome in outcomes.values() if outcome.reason in WAITING).items():
        log.warning("deals cannot be priced yet reason=%s deals=%d", reason, deals)
    new = ((deal_id, outcome) for deal_id, outcome in outcomes.items() if outcome.reason and deal_id not in judged)
    copy(
        session,
        "deal_outcome",
        ("deal_id", "accruals", "reason"),
        (f"{deal_id}\t0\t{outcome.reason}\n" for deal_id, outcome in new),
    )
    again = [
        {"deal_id": deal_id, "accruals": len(outcome.accruals), "reason": outcome.reason or ""}
        for deal_id, outcome in sorted(outcomes.items())
        if deal_id in judged
    ]
    if again:
        statement = insert(DealOutcome.__table__)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["deal_id"],
                set_={"accruals": statement.excluded.accruals, "reason": statement.excluded.reason, "judged_at": func.now()},
            ),
            again,
        )


def tell(unit: UnitOfWork, sums: Iterable[Sum]) -> None:
    """One fact per IB: how many accruals the unit added, and their unrounded sum per currency as text."""
    amounts: dict[int, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    counts: dict[int, int] = defaultdict(int)
    for one in sums:
        if one.ib_id is not None:
            amounts[one.ib_id][one.currency] += one.amount
            counts[one.ib_id] += one.accruals
    found = select(IntroducingBroker.id, IntroducingBroker.client_id).where(IntroducingBroker.id == any_of(list(amounts)))
    clients = {row.id: row.client_id for row in unit.session.execute(found)} if amounts else {}
    unit.emit_many(
        "commission.accrued",
        (
            (ib_id, clients[ib_id], {"accruals": counts[ib_id], "amounts": {code: f"{sums:f}" for code, sums in of.items()}})
            for ib_id, of in amounts.items()
        ),
    )
