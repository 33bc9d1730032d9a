"""What a replay found, summed up: by introducing broker, client or rule, and line by line."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Select, func, null, select, text
from sqlalchemy.orm import Session

from app.commissions.accrual import ACCRUE
from app.commissions.explain import arithmetic
from app.commissions.plans import parse_rules
from app.commissions.replay import EXPLAINING
from app.commissions.tier_steps import Step
from app.core.errors import NotFound
from app.models.clients import Client
from app.models.commissions import Accrual, Plan, PlanVersion
from app.models.metatrader import Deal, Server
from app.models.partners import IntroducingBroker
from app.models.replays import ReplayLine

#: What a difference can be summed up by.
SIDES = ("ib", "client", "rule")


@dataclass(frozen=True)
class Sum:
    """What the lines that differ give now and should give, for one IB, client or rule in one currency; unrounded.

    `id` is the IB's or the client's; None for rebates, which go to traders, and for rules.
    """

    id: int | None
    name: str
    lines: int
    currency: str
    stored: Decimal
    recomputed: Decimal

    @property
    def difference(self) -> Decimal:
        return self.recomputed - self.stored


@dataclass(frozen=True)
class Shown:
    """One line with the names it needs."""

    line: ReplayLine
    ticket: int
    symbol: str
    plan: str
    version: int
    ib: str
    client: str


def sums(session: Session, run_id: int, side: str, limit: int | None = None) -> list[Sum]:
    """The sums of a run, the largest differences first."""
    figures = (func.count(), ReplayLine.currency, func.sum(ReplayLine.stored), func.sum(ReplayLine.recomputed))
    if side == "rule":
        named = func.concat(Plan.name, " ", PlanVersion.version, " · ", ReplayLine.rule)
        query = select(null(), named, *figures).join(PlanVersion, PlanVersion.id == ReplayLine.plan_version_id)
        query = query.join(Plan, Plan.id == PlanVersion.plan_id).group_by(named, ReplayLine.currency)
    else:
        key = ReplayLine.ib_id if side == "ib" else ReplayLine.client_id
        name = func.concat_ws(" ", Client.first_name, Client.last_name)
        query = select(key, name, *figures)
        if side == "ib":
            query = query.outerjoin(IntroducingBroker, IntroducingBroker.id == key)
            query = query.outerjoin(Client, Client.id == IntroducingBroker.client_id)
        else:
            query = query.outerjoin(Client, Client.id == key)
        query = query.group_by(key, name, ReplayLine.currency)
    size = func.abs(func.sum(ReplayLine.recomputed - ReplayLine.stored))
    rows = session.execute(query.where(ReplayLine.run_id == run_id).order_by(size.desc(), text("2")).limit(limit))
    return [Sum(*row) for row in rows]


def lines(
    session: Session, run_id: int, *, ib_id: int | None = None, client_id: int | None = None, after_id: int = 0, limit: int = 50
) -> list[Shown]:
    """Lines of a run, page by page, of all or of one IB or client."""
    query = _shown().where(ReplayLine.run_id == run_id, ReplayLine.id > after_id)
    if ib_id is not None:
        query = query.where(ReplayLine.ib_id == ib_id)
    if client_id is not None:
        query = query.where(ReplayLine.client_id == client_id)
    return [_named(*row) for row in session.execute(query.order_by(ReplayLine.id).limit(limit))]


def explain_line(session: Session, run_id: int, line_id: int) -> tuple[Shown, tuple[Step, ...]]:
    """A line and the steps to its recomputed amount; without steps where nothing should be paid. Raises NotFound."""
    row = session.execute(_shown().where(ReplayLine.run_id == run_id, ReplayLine.id == line_id)).one_or_none()
    if row is None:
        raise NotFound
    shown = _named(*row)
    line = shown.line
    if not line.recomputed and not line.recomputed_lots:
        return shown, ()
    version = session.get_one(PlanVersion, line.plan_version_id)
    rule = next(rule for rule in parse_rules(version.rules, version.plan.currency) if rule.key == line.rule)
    paid = Accrual(
        kind=ACCRUE,
        deal_id=line.deal_id,
        level=line.level,
        rule=line.rule,
        amount=line.recomputed,
        lots=line.recomputed_lots,
        currency=line.currency,
        **{name: getattr(line, name) for name in EXPLAINING},
    )
    return shown, arithmetic(paid, rule)


def _shown() -> Select[ReplayLine, Deal, Server, PlanVersion, Client, IntroducingBroker]:
    return (
        select(ReplayLine, Deal, Server, PlanVersion, Client, IntroducingBroker)
        .join(Deal, Deal.id == ReplayLine.deal_id)
        .join(Server, Server.id == ReplayLine.server_id)
        .join(PlanVersion, PlanVersion.id == ReplayLine.plan_version_id)
        .outerjoin(Client, Client.id == ReplayLine.client_id)
        .outerjoin(IntroducingBroker, IntroducingBroker.id == ReplayLine.ib_id)
    )


def _named(
    line: ReplayLine,
    deal: Deal,
    server: Server,
    version: PlanVersion,
    client: Client | None,
    ib: IntroducingBroker | None,
) -> Shown:
    return Shown(
        line=line,
        ticket=server.shown_ticket(deal.ticket),
        symbol=deal.symbol,
        plan=version.plan.name,
        version=version.version,
        ib=ib.client.full_name if ib is not None else "",
        client=client.full_name if client is not None else "",
    )
