"""Clients who were won: what each did, and which rules pay for it at which moment. Reads, and writes nothing.

Tree, plan and version are taken as they stood when the last condition came true, as for a deal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session, aliased

from app.commissions.conditions import ClientFacts, won_at
from app.commissions.deals import BUY, CLOSING_ENTRIES, SELL, DealFacts
from app.commissions.due import Due, rules_on
from app.commissions.engine import grant
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.reasons import Reason
from app.commissions.snapshots import DayRates, PlanBook
from app.core.arrays import any_of
from app.core.money import Money
from app.models.clients import Client
from app.models.ledger import Transaction
from app.models.metatrader import Deal, Product, TradingAccount
from app.models.payments import Deposit

#: Deposits that arrived. What a client withdraws is refunded to the payment, which was paid in all the same.
_ARRIVED = ("settled", "refunded_part", "refunded")

_reversal = aliased(Transaction)
#: That a deposit is gone again: charged back, or its posting reversed by staff.
IS_GONE = or_(Deposit.state == "charged_back", exists().where(_reversal.reverses == Deposit.ledger_txn_id))


@dataclass(frozen=True)
class Story:
    """What a client did. `deposits` arrived and are not gone, in their order; their worth depends on the rule's currency."""

    client_id: int
    facts: ClientFacts
    deposits: Sequence[Deposit]

    @property
    def deposit(self) -> Deposit | None:
        """The first of them."""
        return self.deposits[0] if self.deposits else None


#: What a client was paid for: by plan, the rules, and the moment of the first.
Paid = Mapping[int, tuple[frozenset[str], datetime]]


def stories(session: Session, clients: Sequence[Client]) -> list[Story]:
    """What these clients did, as it is known now."""
    ids = [client.id for client in clients]
    deposits, closed = _deposits(session, ids), _closed_lots(session, ids)
    return [
        Story(
            client.id,
            ClientFacts(
                country=client.country,
                registered_at=client.created_at,
                approved_at=client.approved_at,
                deposited_at=deposits[client.id][0].settled_at if client.id in deposits else None,
                first_deposit=None,
                closed=closed.get(client.id, ()),
            ),
            deposits.get(client.id, ()),
        )
        for client in clients
    ]


def won(story: Story, book: PlanBook, rates: DayRates, paid: Paid) -> Iterator[Due]:
    """What rules pay for a client beyond what was `paid`, in order of time.

    A client is won once: no other plan pays for it again, and a later version of the plan only by rules that the version
    had by which it was paid first. Where the deposit's worth is not known, what is due waits for a rate.
    """
    facts, done = story.facts, dict(paid)
    given = (facts.approved_at, facts.deposited_at, *(moment for moment, _ in facts.closed))
    for moment in sorted({facts.registered_at, *(one for one in given if one is not None)}):
        upline = book.upline(story.client_id, moment)
        plan = book.plan(upline, moment)
        if plan is None or any(plan_id != plan.plan_id for plan_id in done):
            continue
        for rule in rules_on(plan, "client"):
            if not _is_open(rule, plan, story.client_id, book, done):
                continue
            known, reason = _holds(rule, story, rates, moment)
            if known is None:
                continue
            lines = reason or grant(rule, plan, upline, moment)
            # Also what waits: until it is known, nobody who got the client later is paid in its place.
            keys, first = done.get(plan.plan_id, (frozenset(), moment))
            done[plan.plan_id] = (keys | {rule.key}, first)
            yield Due("client", plan, rule, upline, moment, _said(known, story.deposit, rule), lines, story.client_id)


def worth(deposit: Deposit | None, currency: str, rates: DayRates) -> Decimal | None:
    """A deposit in another currency, by the rate known when its day began."""
    if deposit is None or deposit.settled_minor is None or deposit.settled_at is None:
        return None
    amount = Money(deposit.settled_minor, deposit.currency).decimal
    if deposit.currency == currency:
        return amount
    rate = rates.between(deposit.settled_at, deposit.currency, currency)
    return amount * rate.rate if rate else None


def _closed_lots(session: Session, client_ids: Sequence[int]) -> dict[int, list[tuple[datetime, Decimal]]]:
    """The lots of each closing deal of live accounts, by client, in their order."""
    rows = session.execute(
        select(TradingAccount.client_id, Deal.entry, Deal.volume, Deal.volume_closed, Deal.done_at)
        .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .join(Product, Product.id == TradingAccount.product_id)
        .where(
            TradingAccount.client_id == any_of(client_ids),
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


def _is_open(
    rule: Rule, plan: PlanSnapshot, client_id: int, book: PlanBook, done: dict[int, tuple[frozenset[str], datetime]]
) -> bool:
    """Whether a rule may still pay for this client."""
    if plan.plan_id not in done:
        return True
    keys, first = done[plan.plan_id]
    began = book.plan(book.upline(client_id, first), first)
    return rule.key not in keys and (began is None or rule.key in {one.key for one in began.rules})


def _holds(rule: Rule, story: Story, rates: DayRates, moment: datetime) -> tuple[ClientFacts | None, Reason | None]:
    """The facts by which a rule's last condition came true at this moment, or would have with a rate for the deposit."""
    conditions, countries = rule.conditions, rule.filter.countries
    if conditions is None:
        return None, None
    known = replace(story.facts, first_deposit=worth(story.deposit, rule.currency, rates))
    if won_at(conditions, countries, known) == moment:
        return known, None
    if story.deposit is not None and known.first_deposit is None:
        enough = replace(known, first_deposit=conditions.first_deposit)
        if won_at(conditions, countries, enough) == moment:
            return known, Reason.NO_RATE
    return None, None


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


def _deposits(session: Session, ids: Sequence[int]) -> dict[int, list[Deposit]]:
    arrived = select(Deposit).where(
        Deposit.client_id == any_of(ids), Deposit.state.in_(_ARRIVED), Deposit.settled_at.is_not(None), ~IS_GONE
    )
    found: dict[int, list[Deposit]] = defaultdict(list)
    for deposit in session.scalars(arrived.order_by(Deposit.settled_at, Deposit.id)):
        found[deposit.client_id].append(deposit)
    return dict(found)
