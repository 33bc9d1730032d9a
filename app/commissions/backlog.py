"""What the commission job has not done yet: deals not judged, deals that cannot be priced, sums that cannot be paid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions.explain import REASONS
from app.commissions.reasons import WAITING, Reason
from app.commissions.units import SHARDS
from app.core.errors import N_
from app.ledger import rates
from app.models.clients import Client
from app.models.commissions import AccrualCursor, AccrualSum, DealOutcome
from app.models.metatrader import Deal, Server, TradingAccount
from app.models.occasions import OccasionWait
from app.models.partners import IntroducingBroker

#: Counting ends here: more is "many".
MOST_COUNTED = 100_000
#: So many clients and months that wait are listed.
MOST_SHOWN = 200

#: What clients who were won and months wait for; of other reasons the words for deals do.
OCCASIONS_WAIT_FOR = {
    Reason.NO_RATE: N_("There is no exchange rate for the day of the first deposit."),
    Reason.BEYOND_LIMITS: N_("The amount is larger than any real commission."),
}


@dataclass(frozen=True)
class ServerBacklog:
    """How many booked deals of a server were not judged yet by its slowest shard, and since when the oldest waits."""

    server_id: int
    name: str
    deals: int
    oldest_booked_at: datetime | None
    moved_at: datetime | None


@dataclass(frozen=True)
class WaitingReason:
    """How many deals wait for the same; `message` is a message id."""

    reason: Reason
    message: str
    deals: int
    since: datetime


@dataclass(frozen=True)
class WaitingDeal:
    """A deal that cannot be priced yet. `ticket` is what a terminal shows; a login may still be nobody's account."""

    deal_id: int
    server: str
    ticket: int
    login: int
    symbol: str
    client_id: int | None
    client_name: str
    done_at: datetime
    reason: Reason
    message: str


@dataclass(frozen=True)
class Unpayable:
    """What an IB has accrued in a currency from which no rate leads to its own."""

    ib_id: int
    name: str
    amount: Decimal
    currency: str
    paid_currency: str


def servers(session: Session) -> list[ServerBacklog]:
    """Every active server's backlog, by name."""
    cursors: dict[int, list[AccrualCursor]] = {}
    for cursor in session.scalars(select(AccrualCursor)):
        cursors.setdefault(cursor.server_id, []).append(cursor)
    found = []
    for server in session.scalars(select(Server).where(Server.is_active).order_by(Server.name)):
        own = cursors.get(server.id, [])
        behind = min((cursor.deal_id for cursor in own), default=0) if len(own) == SHARDS else 0
        waiting = select(Deal.id, Deal.booked_at).where(Deal.server_id == server.id, Deal.id > behind)
        some = waiting.order_by(Deal.id).limit(MOST_COUNTED).subquery()
        deals, oldest = session.execute(select(func.count(), func.min(some.c.booked_at)).select_from(some)).one()
        moved_at = max((cursor.moved_at for cursor in own), default=None)
        found.append(ServerBacklog(server.id, server.name, deals, oldest, moved_at))
    return found


def reasons(session: Session) -> list[WaitingReason]:
    """Why deals wait, the most frequent first."""
    rows = session.execute(
        select(DealOutcome.reason, func.count(), func.min(DealOutcome.judged_at))
        .where(DealOutcome.reason.in_(sorted(WAITING)))
        .group_by(DealOutcome.reason)
        .order_by(func.count().desc(), DealOutcome.reason)
    )
    return [WaitingReason(Reason(code), REASONS[Reason(code)], deals, since) for code, deals, since in rows]


def waiting_deals(session: Session, reason: str = "", after_id: int = 0, limit: int = 50) -> list[WaitingDeal]:
    """Deals that cannot be priced yet, of one reason or all, in order of id after `after_id`."""
    wanted: Collection[str] = [reason] if reason in WAITING else sorted(WAITING)
    rows = session.execute(
        select(DealOutcome.reason, Deal, Server, Client)
        .join(Deal, Deal.id == DealOutcome.deal_id)
        .join(Server, Server.id == Deal.server_id)
        .outerjoin(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .outerjoin(Client, Client.id == TradingAccount.client_id)
        .where(DealOutcome.reason.in_(wanted), DealOutcome.deal_id > after_id)
        .order_by(DealOutcome.deal_id)
        .limit(limit)
    )
    return [
        WaitingDeal(
            deal_id=deal.id,
            server=server.name,
            ticket=server.shown_ticket(deal.ticket),
            login=deal.login,
            symbol=deal.symbol,
            client_id=client.id if deal.trading_account_id else None,
            client_name=client.full_name if deal.trading_account_id else "",
            done_at=deal.done_at,
            reason=Reason(code),
            message=REASONS[Reason(code)],
        )
        for code, deal, server, client in rows
    ]


def unpayable(session: Session) -> list[Unpayable]:
    """Sums that no settlement can convert at present, by IB."""
    known = rates.known(session)
    rows = session.execute(
        select(IntroducingBroker, AccrualSum.currency, func.sum(AccrualSum.amount))
        .join(AccrualSum, AccrualSum.ib_id == IntroducingBroker.id)
        .where(AccrualSum.settlement_id.is_(None), AccrualSum.currency != IntroducingBroker.currency)
        .group_by(IntroducingBroker.id, AccrualSum.currency)
        .order_by(IntroducingBroker.id, AccrualSum.currency)
    )
    return [
        Unpayable(ib.id, ib.client.full_name, amount, currency, ib.currency)
        for ib, currency, amount in rows
        if known.find(currency, ib.currency) is None
    ]


def waiting_occasions(session: Session) -> list[tuple[OccasionWait, str]]:
    """Clients won and months that cannot be worked out yet, the oldest first, each with the message of what it waits for."""
    rows = session.scalars(select(OccasionWait).order_by(OccasionWait.happened_at, OccasionWait.id).limit(MOST_SHOWN))
    words = REASONS | OCCASIONS_WAIT_FOR
    return [(row, words[Reason(row.reason)]) for row in rows]
