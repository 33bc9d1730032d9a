"""Proposed rules of a plan over the real deals of its IBs: what they would have cost beside what was paid, and what is earned.

Clients who were won and months are part of it (app/commissions/simulated_occasions.py). Nothing is paid by it. All amounts
are in the plan's currency, at the rates by which deals of that day are converted.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.commissions.deals import EXACT, cut
from app.commissions.plans import PlanSnapshot, parse_rules, rules_document
from app.commissions.recompute import PAGE, Compared, Scope, book_for, count_deals, recompute
from app.commissions.simulated_occasions import Given, occasions_due, occasions_paid
from app.commissions.snapshots import DayRates
from app.commissions.symbol_groups import resolved
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput, NotFound
from app.core.locks import try_lock
from app.core.uow import unit_of_work
from app.models.commissions import Plan
from app.models.replays import PlanSimulation

log = logging.getLogger("lotwise.commissions")

MOST_DAYS = 366
_ACTOR = Actor.system("simulation")
_ZERO = Decimal(0)

#: Pay that goes to traders, in place of an IB's id.
TRADERS = 0


def start_simulation(
    session: Session, plan_id: int, document: object, margin_guard: str, days: int, actor: Actor
) -> PlanSimulation:
    """Have rules run over the deals of the last days by a job. Emits plan_simulation.requested.

    Raises NotFound, InvalidPlan with all problems of the rules, InvalidInput for days.
    """
    with unit_of_work(session, actor) as unit:
        plan = session.get(Plan, plan_id)
        if plan is None:
            raise NotFound
        rules = parse_rules(document, plan.currency)
        if not 1 <= days <= MOST_DAYS:
            raise InvalidInput({"days": N_("Please give 1 to 366 days.")})
        until = now()
        resolved(session, rules, until)
        made = PlanSimulation(
            plan_id=plan_id,
            rules=rules_document(rules),
            margin_guard=margin_guard,
            since=until - timedelta(days=days),
            until=until,
            state="computing",
            created_by=str(actor),
        )
        session.add(made)
        session.flush()
        unit.emit("plan_simulation.requested", subject_id=made.id, plan_id=plan_id)
        return made


def compute_simulation(session: Session, snapshot: Session, simulation_id: int, page: int = PAGE) -> None:
    """Run a simulation that waits for it. Harmless to repeat; call it outside a unit of work. Reads in `snapshot` only."""
    if not try_lock(snapshot, f"simulation:{simulation_id}"):
        return
    asked = session.get(PlanSimulation, simulation_id, populate_existing=True)
    if asked is None or asked.state != "computing":
        session.rollback()
        return
    scope = Scope(asked.since, asked.until, plan_id=asked.plan_id)
    currency = asked.plan.currency
    try:
        rules = resolved(session, parse_rules(asked.rules, currency), asked.until)
        proposed = PlanSnapshot(0, rules, plan_id=asked.plan_id, margin_guard=asked.margin_guard)
        session.rollback()
        _note(session, simulation_id, deals=count_deals(snapshot, scope))
        totals, done = Totals(currency, DayRates(snapshot)), 0
        for looked_at, compared in recompute(snapshot, scope, book_for(snapshot, proposed=proposed), page):
            done += looked_at
            totals.add(compared)
            _note(session, simulation_id, deals_done=done)
        totals.add_occasions(occasions_paid(snapshot, scope), occasions_due(snapshot, scope, proposed))
        values = {"state": "computed", "result": totals.document(), "deals": done, "deals_done": done, "computed_at": now()}
        _note(session, simulation_id, **values)
    except (AppError, SQLAlchemyError) as error:
        session.rollback()
        log.exception("simulation failed simulation=%s", simulation_id)
        _note(session, simulation_id, state="failed", error=getattr(error, "code", type(error).__name__))


@dataclass(slots=True)
class Figures:
    """What deals earned and what they cost now and by the proposed rules; `got` and `would` are what an IB itself is paid."""

    deals: int = 0
    lots: Decimal = _ZERO
    earned: Decimal = _ZERO
    cost: Decimal = _ZERO
    proposed: Decimal = _ZERO
    got: Decimal = _ZERO
    would: Decimal = _ZERO

    def document(self) -> dict[str, Any]:
        """As JSON; amounts as texts, cut to ten decimals."""
        amounts = ("lots", "earned", "cost", "proposed", "got", "would")
        return {"deals": self.deals} | {name: f"{cut(getattr(self, name)):f}" for name in amounts}


class Totals:
    """The sums of a simulation: of all, by symbol, and by IB (whose clients the deals are; and whom lines pay)."""

    def __init__(self, currency: str, rates: DayRates) -> None:
        self._currency, self._rates = currency, rates
        self._all = Figures()
        self._symbols: dict[str, Figures] = defaultdict(Figures)
        self._ibs: dict[int, Figures] = defaultdict(Figures)
        self._occasions = Figures()
        self._left_out = self._no_spread = self._no_rate = 0

    def add(self, compared: Iterable[Compared]) -> None:
        """Count deals; of those that cannot be priced or converted it is only counted how many."""
        for one in compared:
            if one.is_left_out:
                self._left_out += 1
            elif not one.deal.is_dead or one.stored.nets:
                self._add(one)

    def _add(self, one: Compared) -> None:
        deal, at = one.deal.facts, one.deal.facts.done_at
        spread = deal.spread_paid("each")
        earned = self._in_plan(_ZERO if one.deal.is_dead else EXACT.add(spread or _ZERO, deal.charged), deal.currency, at)
        got = [(key.ib_id, self._in_plan(net.amount, key.currency, at)) for key, net in one.stored.nets.items()]
        would = [(made.ib_id, self._in_plan(made.amount, made.currency, at)) for made in one.outcome.accruals]
        if earned is None or any(amount is None for _, amount in (*got, *would)):
            self._no_rate += 1
            return
        self._no_spread += spread is None and not one.deal.is_dead and deal.action in (0, 1)
        cost, proposed = (sum((amount or _ZERO for _, amount in lines), _ZERO) for lines in (got, would))
        own = one.case.upline[0].ib_id if one.case.upline else None
        for figures in (self._all, self._symbols[deal.symbol], *([self._ibs[own]] if own is not None else [])):
            figures.deals += 1
            figures.lots += deal.lots
            figures.earned += earned
            figures.cost += cost
            figures.proposed += proposed
        for ib_id, amount in got:
            self._ibs[TRADERS if ib_id is None else ib_id].got += amount or _ZERO
        for ib_id, amount in would:
            self._ibs[TRADERS if ib_id is None else ib_id].would += amount or _ZERO

    def add_occasions(self, paid: Iterable[Given], due: Iterable[Given]) -> None:
        """Count what clients who were won and months cost, and would cost. They are of no symbol and earn nothing."""
        for name, own, given in (("cost", "got", paid), ("proposed", "would", due)):
            for one in given:
                amount = None if one.amount is None else self._in_plan(one.amount, one.currency, one.at)
                if amount is None:
                    self._no_rate += 1
                    continue
                for figures in (self._all, self._occasions, self._ibs[one.of_ib_id]):
                    setattr(figures, name, getattr(figures, name) + amount)
                paid_to = self._ibs[one.ib_id]
                setattr(paid_to, own, getattr(paid_to, own) + amount)

    def _in_plan(self, amount: Decimal, currency: str, at: datetime) -> Decimal | None:
        """An amount in the plan's currency; None where the day has no rate."""
        if not amount or currency == self._currency:
            return amount
        rate = self._rates.between(at, currency, self._currency)
        return None if rate is None else EXACT.multiply(amount, rate.rate)

    def document(self) -> dict[str, Any]:
        """The result as it is stored."""
        return {
            "currency": self._currency,
            "left_out": self._left_out,
            "no_spread": self._no_spread,
            "no_rate": self._no_rate,
            "all": self._all.document(),
            "occasions": self._occasions.document(),
            "symbols": {name: figures.document() for name, figures in sorted(self._symbols.items()) if name},
            "ibs": {str(ib_id): figures.document() for ib_id, figures in sorted(self._ibs.items())},
        }


def _note(session: Session, simulation_id: int, **values: Any) -> None:
    with unit_of_work(session, _ACTOR) as unit:
        session.execute(
            update(PlanSimulation)
            .where(PlanSimulation.id == simulation_id)
            .values(**values)
            .execution_options(synchronize_session=False)
        )
        if values.get("state") == "computed":
            unit.emit("plan_simulation.computed", subject_id=simulation_id)
