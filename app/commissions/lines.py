"""An IB's accrual lines: found by filters, a page after the other, with the sums of all that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, cast

from sqlalchemy import Row, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from app.models.clients import Client
from app.models.commissions import Accrual, AccrualSum, Settlement
from app.models.metatrader import Deal, Server, TradingAccount
from app.models.occasions import Occasion
from app.partners.privacy import Privacy, current_privacy

_CHUNK = 1_000

#: Who traded, or was won.
_owner_id = func.coalesce(TradingAccount.client_id, Occasion.client_id)

#: What a line is made of; a deal with its server, or an occasion.
Shown = tuple[Accrual, Deal | None, Client | None, Server | None, Occasion | None, int | None]


@dataclass(frozen=True)
class AccrualLine:
    """One line of a commission list. A reversal has negative lots and amount. `ticket` is what a terminal shows.

    `ib_id` gets it; without one it is a rebate for the client. `client_id` traded; `client_name` is empty where the
    house's policy shows no name. What is not for a deal has its `occasion` ("client": a client was won, "month"), no ticket,
    and of a month no client.
    """

    id: int
    kind: str
    accrued_at: datetime
    done_at: datetime
    ticket: int | None
    symbol: str
    client_id: int | None
    client_name: str
    rule: str
    level: int
    lots: Decimal
    rate: Decimal
    amount: Decimal
    currency: str
    settlement_id: int | None
    ib_id: int | None
    occasion: str = ""
    month: str = ""


@dataclass(frozen=True)
class LineFilter:
    """Which lines are wanted; what is empty does not matter. Accrued from `since` until before `until`."""

    since: datetime | None = None
    until: datetime | None = None
    rule: str = ""
    symbol: str = ""
    client_id: int | None = None
    level: int | None = None
    state: Literal["", "settled", "unsettled"] = ""
    settlement_id: int | None = None

    @property
    def is_by_settlement(self) -> bool:
        """Whether only settlements tell the lines apart: their sums are known without looking at lines."""
        return self == LineFilter(state=self.state, settlement_id=self.settlement_id)


@dataclass(frozen=True)
class LineSum:
    """What lines in one currency come to."""

    currency: str
    amount: Decimal


def accrual_lines(
    session: Session, ib_id: int, before_id: int | None = None, limit: int = 50, *, wanted: LineFilter | None = None
) -> list[AccrualLine]:
    """An IB's lines, newest first; `before_id` is the last id of the page before. `limit` is held to 1 to 200."""
    query = _filtered(session, lines_of(ib_id), ib_id, wanted or LineFilter(), before_id)
    privacy = current_privacy(session)
    rows = session.execute(query.order_by(Accrual.id.desc()).limit(max(1, min(limit, 200)))).all()
    return [line_of(row, privacy) for row in rows]


def each_line(session: Session, ib_id: int, wanted: LineFilter) -> Iterator[AccrualLine]:
    """All lines that fit, newest first, read as they are used."""
    privacy, before_id = current_privacy(session), None
    while True:
        query = _filtered(session, lines_of(ib_id), ib_id, wanted, before_id)
        rows = session.execute(query.order_by(Accrual.id.desc()).limit(_CHUNK)).all()
        for row in rows:
            yield line_of(row, privacy)
        if len(rows) < _CHUNK:
            return
        before_id = rows[-1][0].id
        session.expire_all()


def line_sums(session: Session, ib_id: int, wanted: LineFilter) -> list[LineSum]:
    """The sums of all lines that fit, by currency, exact."""
    if wanted.is_by_settlement:
        return _sums_by_settlement(session, ib_id, wanted)
    query = _filtered(session, select(Accrual.currency, func.sum(Accrual.amount)), ib_id, wanted, None)
    if wanted.state or wanted.settlement_id is not None:
        query = query.join(AccrualSum, _same_sum()).where(AccrualSum.ib_id == ib_id)
    if wanted.symbol or wanted.client_id is not None:
        query = query.outerjoin(Deal, Deal.id == Accrual.deal_id)
        query = query.outerjoin(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        query = query.outerjoin(Occasion, Occasion.id == Accrual.occasion_id)
    rows = session.execute(query.group_by(Accrual.currency).order_by(Accrual.currency))
    return [LineSum(currency, amount) for currency, amount in rows]


def lines_of(ib_id: int) -> Select[*Shown]:
    """An IB's accruals, each with what its line shows."""
    return stored_lines().where(Accrual.ib_id == ib_id, AccrualSum.ib_id == ib_id)


def stored_lines() -> Select[*Shown]:
    """Each accrual with what its line shows: deal and server, or occasion; client, and the settlement that took it."""
    query = (
        select(Accrual, Deal, Client, Server, Occasion, AccrualSum.settlement_id)
        .join(AccrualSum, _same_sum())
        .outerjoin(Deal, Deal.id == Accrual.deal_id)
        .outerjoin(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .outerjoin(Server, Server.id == Deal.server_id)
        .outerjoin(Occasion, Occasion.id == Accrual.occasion_id)
        .outerjoin(Client, Client.id == _owner_id)
    )
    return cast("Select[*Shown]", query)


def line_of(stored: Row[*Shown], privacy: Privacy) -> AccrualLine:
    """A stored line as it is shown under a policy. Of level 1 is what the IB's own clients did."""
    accrual, deal, client, server, occasion, settlement_id = stored
    return AccrualLine(
        id=accrual.id,
        kind=accrual.kind,
        accrued_at=accrual.accrued_at,
        done_at=deal.done_at if deal else occasion.happened_at if occasion else accrual.accrued_at,
        ticket=server.shown_ticket(deal.ticket) if deal and server else None,
        symbol=deal.symbol if deal else "",
        client_id=client.id if client else None,
        client_name=privacy.name(client, is_own=accrual.level <= 1) if client else "",
        rule=accrual.rule,
        level=accrual.level,
        lots=accrual.lots,
        rate=accrual.rate,
        amount=accrual.amount,
        currency=accrual.currency,
        settlement_id=settlement_id,
        ib_id=accrual.ib_id,
        occasion=occasion.kind if occasion else "",
        month=occasion.month if occasion else "",
    )


def first_id_since(session: Session, ib_id: int, since: datetime) -> int:
    """A bound for the ids of what an IB accrued since a moment, so that not all it ever accrued is read.

    Ids grow with time, but for units written side by side: the bound is an hour early. Found by halving, each step one
    look at the index of an IB's lines.
    """
    early = since - timedelta(hours=1)
    newest = select(func.max(Accrual.id)).where(Accrual.ib_id == ib_id).scalar_subquery()
    low, high = session.execute(select(func.min(Accrual.id), newest).where(Accrual.ib_id == ib_id)).one()
    while low is not None and low < high:
        middle = (low + high) // 2
        next_one = select(Accrual.id, Accrual.accrued_at).where(Accrual.ib_id == ib_id, Accrual.id > middle)
        found = session.execute(next_one.order_by(Accrual.id).limit(1)).one()
        if found.accrued_at < early:
            low = found.id
        else:
            high = middle
    return low or 0


def _same_sum() -> Any:
    """The sum that an accrual is part of. Of an IB's lines say so too: then the index of sums serves."""
    return and_(
        AccrualSum.unit_id == Accrual.unit_id,
        AccrualSum.plan_version_id == Accrual.plan_version_id,
        AccrualSum.currency == Accrual.currency,
        or_(AccrualSum.ib_id == Accrual.ib_id, AccrualSum.client_id == Accrual.client_id),
    )


def _filtered(session: Session, query: Any, ib_id: int, wanted: LineFilter, before_id: int | None) -> Any:
    query = query.where(Accrual.ib_id == ib_id)
    conditions = {
        "before": Accrual.id < before_id if before_id is not None else None,
        "rule": Accrual.rule == wanted.rule if wanted.rule else None,
        "level": Accrual.level == wanted.level if wanted.level is not None else None,
        "symbol": Deal.symbol == wanted.symbol if wanted.symbol else None,
        "client": _owner_id == wanted.client_id if wanted.client_id is not None else None,
        "settlement": AccrualSum.settlement_id == wanted.settlement_id if wanted.settlement_id is not None else None,
        "settled": AccrualSum.settlement_id.is_not(None) if wanted.state == "settled" else None,
        "unsettled": AccrualSum.settlement_id.is_(None) if wanted.state == "unsettled" else None,
    }
    query = query.where(*(condition for condition in conditions.values() if condition is not None))
    if wanted.since is not None:
        query = query.where(Accrual.id >= first_id_since(session, ib_id, wanted.since), Accrual.accrued_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(Accrual.accrued_at < wanted.until)
    return query


def _sums_by_settlement(session: Session, ib_id: int, wanted: LineFilter) -> list[LineSum]:
    sums: dict[str, Decimal] = {}
    if wanted.state != "unsettled":
        accrued = func.sum(Settlement.accrued).label("amount")
        settled = select(Settlement.currency, accrued).where(Settlement.ib_id == ib_id)
        if wanted.settlement_id is not None:
            settled = settled.where(Settlement.id == wanted.settlement_id)
        sums = {row.currency: row.amount for row in session.execute(settled.group_by(Settlement.currency))}
    if wanted.state != "settled" and wanted.settlement_id is None:
        waiting = select(AccrualSum.currency, func.sum(AccrualSum.amount)).where(
            AccrualSum.ib_id == ib_id, AccrualSum.settlement_id.is_(None)
        )
        for currency, amount in session.execute(waiting.group_by(AccrualSum.currency)):
            sums[currency] = sums.get(currency, Decimal(0)) + amount
    return [LineSum(currency, amount) for currency, amount in sorted(sums.items())]
