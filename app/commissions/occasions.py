"""Commission that no deal causes: for a client who was won, and for a month. Each is paid once, with what made it come true.

Tree, plan and version are taken as they stood at the moment when the last condition came true, as for a deal.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.commissions.accrual import ACCRUE
from app.commissions.components import COMPONENTS
from app.commissions.conditions import MAX_DAYS, ClientFacts, month_counts, won_at
from app.commissions.deals import BUY, CLOSING_ENTRIES, SELL, DealFacts
from app.commissions.engine import Accrued, Upline, grant
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.snapshots import DayRates, PlanBook
from app.commissions.units import Line, lock_shard, write_unit
from app.core.actor import Actor
from app.core.money import Money
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.commissions import IBPlan, PlanVersion
from app.models.metatrader import Deal, Product, TradingAccount
from app.models.occasions import Occasion
from app.models.partners import Attribution, IntroducingBroker
from app.models.payments import Deposit

log = logging.getLogger("lotwise.commissions")

#: Clients looked at in one transaction.
CHUNK = 500
#: Months that ended and may still be paid, such as after the job stood still.
MONTHS_BACK = 3

_ACTOR = Actor.system("commissions")

_ACTIVE = text(
    """
    WITH RECURSIVE below (ib_id) AS (
        SELECT CAST(:ib_id AS bigint)
        UNION
        SELECT p.ib_id FROM below
        JOIN ib_parent p ON p.parent_id = below.ib_id AND tstzrange(p.valid_from, p.valid_to) @> CAST(:at AS timestamptz)
    )
    SELECT count(DISTINCT a.client_id)
    FROM below
    JOIN attribution a ON a.ib_id = below.ib_id AND tstzrange(a.valid_from, a.valid_to) @> CAST(:at AS timestamptz)
    JOIN trading_account t ON t.client_id = a.client_id
    JOIN product ON product.id = t.product_id AND NOT product.is_demo
    WHERE EXISTS (
        SELECT FROM deal d
        WHERE d.trading_account_id = t.id AND d.done_at >= :since AND d.done_at < :until AND d.entry IN (1, 2, 3)
          AND d.action IN (0, 1) AND d.is_current AND NOT d.is_void
    )
    """
)


@dataclass(frozen=True)
class _Paid:
    """One occasion to be written, with what it gives."""

    row: dict[str, Any]
    lines: Sequence[Accrued]


def accrue_occasions(session: Session, at: datetime) -> int:
    """Pay all clients won and months ended until `at` that were not paid yet; returns how many occasions were written.

    Harmless to repeat, also at the same time. Call it outside a unit of work.
    """
    plans = _plans_with(session, "client")
    written, after = 0, 0
    while plans and (clients := _candidates(session, at, after)):
        written += _write(session, partial(_clients, session, clients))
        after = clients[-1].id
    plans = _plans_with(session, "month")
    for end in _month_ends(at) if plans else ():
        written += _write(session, partial(_months, session, end, plans))
    return written


def _write(session: Session, found: Callable[[], Iterator[_Paid]]) -> int:
    """Write what is found under the lock that keeps two runs apart, in one transaction."""
    with unit_of_work(session, _ACTOR) as unit:
        lock_shard(session, 0, 0)
        lines: list[Line] = []
        written = 0
        for paid in found():
            made = insert(Occasion).values(**paid.row).on_conflict_do_nothing().returning(Occasion.id)
            occasion_id = session.scalar(made)
            if occasion_id is None:
                continue
            written += 1
            lines += [Line(None, ACCRUE, one, occasion_id) for one in paid.lines]
            unit.emit("commission.occasion", subject_id=occasion_id, ib_id=paid.row["ib_id"], rule=paid.row["rule"])
        write_unit(session, None, None, lines)
    return written


def _plans_with(session: Session, on: str) -> set[int]:
    """The plans of which a version has a rule for this kind of occasion."""
    names = [name for name, one in COMPONENTS.items() if one.on == on]
    wanted = or_(*(PlanVersion.rules.contains([{"component": name}]) for name in names))
    found = set(session.scalars(select(PlanVersion.plan_id).where(wanted)))
    session.rollback()
    return found


# ── Clients ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _candidates(session: Session, at: datetime, after: int) -> list[Client]:
    """Clients of IBs who registered so lately that they can still be won, or were and have not been looked at."""
    brought = select(Attribution.client_id)
    since = at - timedelta(days=MAX_DAYS + 31)
    query = select(Client).where(Client.id > after, Client.created_at > since, Client.id.in_(brought))
    return list(session.scalars(query.order_by(Client.id).limit(CHUNK)))


def _clients(session: Session, clients: Sequence[Client]) -> Iterator[_Paid]:
    ids = [client.id for client in clients]
    book, rates = PlanBook(session, ids), DayRates(session)
    deposits, closed = _first_deposits(session, ids), _closed(session, ids)
    paid: dict[int, set[tuple[int, str]]] = defaultdict(set)
    for row in session.execute(select(Occasion.client_id, Occasion.plan_id, Occasion.rule).where(Occasion.client_id.in_(ids))):
        paid[row.client_id or 0].add((row.plan_id, row.rule))
    for client in clients:
        deposit = deposits.get(client.id)
        facts = ClientFacts(
            country=client.country,
            registered_at=client.created_at,
            approved_at=client.approved_at,
            deposited_at=deposit.settled_at if deposit else None,
            first_deposit=None,
            closed=closed.get(client.id, ()),
        )
        yield from _won(client, facts, deposit, book, rates, paid[client.id])


def _won(
    client: Client, facts: ClientFacts, deposit: Deposit | None, book: PlanBook, rates: DayRates, paid: set[tuple[int, str]]
) -> Iterator[_Paid]:
    """The rules whose last condition came true at a moment when they held for this client."""
    given = (facts.approved_at, facts.deposited_at, *(moment for moment, _ in facts.closed))
    for moment in sorted({facts.registered_at, *(one for one in given if one is not None)}):
        upline = book.upline(client.id, moment)
        plan = book.plan(upline, moment)
        # A client is won once: whoever is paid by another plan later did not bring it.
        if plan is None or any(plan_id != plan.plan_id for plan_id, _ in paid):
            continue
        for rule in _rules(plan, "client"):
            known = replace(facts, first_deposit=_worth(deposit, rule.currency, rates))
            if (plan.plan_id, rule.key) in paid or rule.conditions is None:
                continue
            if won_at(rule.conditions, rule.filter.countries, known) != moment:
                continue
            lines = grant(rule, plan, upline, moment)
            if not isinstance(lines, list):
                log.warning("a client won cannot be paid reason=%s client=%s rule=%s", lines, client.id, rule.key)
                continue
            paid.add((plan.plan_id, rule.key))
            yield _Paid(
                _row(plan, rule, upline, moment, "client", _said(known, deposit, rule)) | {"client_id": client.id}, lines
            )


def _said(facts: ClientFacts, deposit: Deposit | None, rule: Rule) -> dict[str, Any]:
    """What explains it: the moments, the deposit and what it was worth."""
    return {
        "registered_at": facts.registered_at.isoformat(),
        "approved_at": facts.approved_at.isoformat() if facts.approved_at else None,
        "deposit_id": deposit.id if deposit else None,
        "deposited_at": facts.deposited_at.isoformat() if facts.deposited_at else None,
        "first_deposit": f"{facts.first_deposit:f}" if facts.first_deposit is not None else None,
        "currency": rule.currency,
    }


def _first_deposits(session: Session, ids: Sequence[int]) -> dict[int, Deposit]:
    settled = select(Deposit).where(Deposit.client_id.in_(ids), Deposit.state == "settled", Deposit.settled_at.is_not(None))
    found: dict[int, Deposit] = {}
    for deposit in session.scalars(settled.order_by(Deposit.settled_at, Deposit.id)):
        found.setdefault(deposit.client_id, deposit)
    return found


def _worth(deposit: Deposit | None, currency: str, rates: DayRates) -> Decimal | None:
    """A deposit in another currency, by the rate known when its day began."""
    if deposit is None or deposit.settled_minor is None or deposit.settled_at is None:
        return None
    amount = Money(deposit.settled_minor, deposit.currency).decimal
    rate = rates.between(deposit.settled_at, deposit.currency, currency)
    return amount * rate.rate if rate else None


def _closed(session: Session, ids: Sequence[int]) -> dict[int, list[tuple[datetime, Decimal]]]:
    """The lots of each closing deal of live accounts, by client, in their order."""
    rows = session.execute(
        select(TradingAccount.client_id, Deal.entry, Deal.volume, Deal.volume_closed, Deal.done_at)
        .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .join(Product, Product.id == TradingAccount.product_id)
        .where(
            TradingAccount.client_id.in_(ids),
            ~Product.is_demo,
            Deal.entry.in_(CLOSING_ENTRIES),
            Deal.action.in_((BUY, SELL)),
            Deal.is_current,
            ~Deal.is_void,
        )
        .order_by(Deal.done_at, Deal.id)
    )
    found: dict[int, list[tuple[datetime, Decimal]]] = defaultdict(list)
    for row in rows:
        facts = DealFacts(0, BUY, row.entry, 0, "", row.volume, row.volume_closed, row.done_at)
        found[row.client_id].append((row.done_at, facts.lots_closed))
    return found


# ── Months ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _month_ends(at: datetime) -> list[datetime]:
    """The ends of the last months that are over, the oldest first."""
    ends = [at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    while len(ends) < MONTHS_BACK:
        ends.append((ends[-1] - timedelta(days=1)).replace(day=1))
    return ends[::-1]


def _months(session: Session, end: datetime, plans: set[int]) -> Iterator[_Paid]:
    """What a month gives the IBs who had one of these plans of their own when it ended."""
    last = end - timedelta(microseconds=1)
    begin = last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    spans = session.scalars(
        select(IBPlan)
        .join(IntroducingBroker, IntroducingBroker.id == IBPlan.ib_id)
        .where(
            IBPlan.plan_id.in_(plans),
            IBPlan.valid_from <= last,
            or_(IBPlan.valid_to.is_(None), IBPlan.valid_to > last),
            IntroducingBroker.is_active,
        )
        .order_by(IBPlan.ib_id)
    ).all()
    book = PlanBook(session, (), ibs=[span.ib_id for span in spans])
    for span in spans:
        upline = tuple(Upline(level, ib_id) for level, ib_id in enumerate(book.chain(span.ib_id, last), start=1))
        plan = book.plan(upline, last)
        for rule in _rules(plan, "month") if plan else ():
            moments = {"ib_id": span.ib_id, "at": last, "since": begin, "until": end}
            active = session.scalar(_ACTIVE, moments) or 0
            if plan is None or rule.conditions is None or not month_counts(rule.conditions, active):
                continue
            lines = grant(rule, plan, upline, last)
            if isinstance(lines, list):
                said = {"active_clients": active, "from": begin.isoformat(), "until": end.isoformat()}
                yield _Paid(_row(plan, rule, upline, last, "month", said) | {"month": f"{begin:%Y-%m}"}, lines)


def _rules(plan: PlanSnapshot, on: str) -> list[Rule]:
    return [rule for rule in plan.rules if COMPONENTS[rule.component].on == on]


def _row(
    plan: PlanSnapshot, rule: Rule, upline: Sequence[Upline], at: datetime, kind: str, said: dict[str, Any]
) -> dict[str, Any]:
    return {
        "kind": kind,
        "plan_id": plan.plan_id,
        "rule": rule.key,
        "ib_id": upline[0].ib_id,
        "happened_at": at,
        "facts": said,
    }
