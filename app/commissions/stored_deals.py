"""Deals as the engine takes them, read from their table, with what their account and position say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, text, tuple_
from sqlalchemy.orm import Session

from app.commissions.deals import CLOSING_ENTRIES, ENTRY_INOUT, OPENING_ENTRIES, DealFacts
from app.models.clients import Client
from app.models.metatrader import Deal, Product, TradingAccount

#: Credit is what deals of these actions moved (credit, and what a stop-out took of it); all others moved the balance.
_CREDIT = text(
    """
    SELECT wanted.id, credit.held, own.held
    FROM unnest(CAST(:ids AS bigint[])) AS wanted (id)
    JOIN deal ON deal.id = wanted.id AND deal.trading_account_id IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(earlier.profit), 0) AS held FROM deal earlier
        WHERE earlier.trading_account_id = deal.trading_account_id AND earlier.done_at <= deal.done_at
          AND earlier.action IN (3, 20) AND earlier.is_current AND NOT earlier.is_void
    ) credit
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(earlier.profit + earlier.swap + earlier.commission + earlier.fee), 0) AS held FROM deal earlier
        WHERE earlier.trading_account_id = deal.trading_account_id AND (earlier.done_at, earlier.id) < (deal.done_at, deal.id)
          AND earlier.action NOT IN (3, 20) AND earlier.is_current AND NOT earlier.is_void
    ) own
    WHERE credit.held > 0
    """
)


@dataclass(frozen=True, slots=True)
class StoredDeal:
    """One revision of a deal as it stands in the table, with its account's client."""

    id: int
    server_id: int
    ticket: int
    position_ticket: int
    client_id: int | None
    facts: DealFacts

    @property
    def is_dead(self) -> bool:
        """Replaced by a later revision, or deleted at the server: it earns nothing, and what it earned is reversed."""
        return self.facts.is_void or self.facts.is_superseded


def load_deals(session: Session, *of: ColumnElement[bool]) -> list[StoredDeal]:
    """The deals that fit, and of those that are revisions the earlier ones too, in order of id."""
    rows = list(session.execute(_deals().where(*of)))
    revised = {(row.server_id, row.ticket, row.filed_at): row.revision for row in rows if row.revision > 1}
    if revised:
        known = {row.id for row in rows}
        # All revisions of a ticket lie in the same month, which the key tells.
        same = tuple_(Deal.server_id, Deal.ticket, Deal.filed_at).in_(revised)
        siblings = session.execute(_deals().where(same))
        rows += [
            row for row in siblings if row.id not in known and row.revision < revised[row.server_id, row.ticket, row.filed_at]
        ]
    return [_stored(row) for row in sorted(rows, key=lambda row: row.id)]


def stream_deals(session: Session, *of: ColumnElement[bool], page: int) -> Iterator[list[StoredDeal]]:
    """All revisions that fit, by time, server, ticket and revision; never more than a page at once."""
    ordered = _deals().where(*of).order_by(Deal.done_at, Deal.server_id, Deal.ticket, Deal.revision)
    for rows in session.execute(ordered.execution_options(yield_per=page)).partitions():
        yield [_stored(row) for row in rows]


def _deals() -> Select[*tuple[Any, ...]]:
    return (
        select(
            Deal.id,
            Deal.filed_at,
            Deal.revision,
            Deal.server_id,
            Deal.ticket,
            Deal.position_ticket,
            Deal.action,
            Deal.entry,
            Deal.reason,
            Deal.symbol,
            Deal.volume,
            Deal.volume_closed,
            Deal.done_at,
            Deal.is_void,
            Deal.is_current,
            Deal.profit,
            Deal.swap,
            Deal.commission,
            Deal.fee,
            Deal.market_bid,
            Deal.market_ask,
            Deal.contract_size,
            Deal.rate_profit,
            Deal.price,
            Deal.price_position,
            Deal.digits,
            TradingAccount.client_id,
            TradingAccount.currency,
            Client.country,
            Product.code.label("product"),
            func.coalesce(Product.is_demo, False).label("is_demo"),
        )
        .outerjoin(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .outerjoin(Product, Product.id == TradingAccount.product_id)
        .outerjoin(Client, Client.id == TradingAccount.client_id)
    )


def _stored(row: Row[*tuple[Any, ...]]) -> StoredDeal:
    return StoredDeal(
        id=row.id,
        server_id=row.server_id,
        ticket=row.ticket,
        position_ticket=row.position_ticket,
        client_id=row.client_id,
        facts=DealFacts(
            deal_id=row.id,
            action=row.action,
            entry=row.entry,
            reason=row.reason,
            symbol=row.symbol,
            volume=row.volume,
            volume_closed=row.volume_closed,
            done_at=row.done_at,
            client_id=row.client_id,
            has_account=row.client_id is not None,
            is_demo=row.is_demo,
            is_void=row.is_void,
            is_superseded=not row.is_current,
            product=row.product or "",
            country=row.country or "",
            currency=row.currency or "",
            profit=row.profit,
            swap=row.swap,
            commission=row.commission,
            fee=row.fee,
            bid=row.market_bid,
            ask=row.market_ask,
            contract_size=row.contract_size,
            rate_profit=row.rate_profit,
            price=row.price,
            price_position=row.price_position,
            digits=row.digits,
        ),
    )


def opened_at(session: Session, deals: Sequence[StoredDeal]) -> dict[int, datetime]:
    """When the positions closed by these deals began, by deal id; deals whose opening is not known are left out.

    A reversal (INOUT) begins a new position under the same ticket; adding to a position does not.
    """
    closing = [deal for deal in deals if deal.facts.entry in CLOSING_ENTRIES]
    if not closing:
        return {}
    openings: dict[tuple[int, int], list[Row[int, int, int, int, datetime]]] = defaultdict(list)
    rows = session.execute(
        select(Deal.server_id, Deal.position_ticket, Deal.ticket, Deal.entry, Deal.done_at)
        .where(
            tuple_(Deal.server_id, Deal.position_ticket).in_({(deal.server_id, deal.position_ticket) for deal in closing}),
            Deal.entry.in_(OPENING_ENTRIES),
            Deal.is_current,
            ~Deal.is_void,
        )
        .order_by(Deal.done_at, Deal.ticket)
    )
    for row in rows:
        openings[row.server_id, row.position_ticket].append(row)
    found: dict[int, datetime] = {}
    for deal in closing:
        for row in openings[deal.server_id, deal.position_ticket]:
            if (row.done_at, row.ticket) >= (deal.facts.done_at, deal.ticket):
                break
            if row.entry == ENTRY_INOUT or deal.id not in found:
                found[deal.id] = row.done_at
    return found


def credit_percent_at(session: Session, deal_ids: Sequence[int]) -> dict[int, Decimal]:
    """How much of the account's money, of balance and credit, was credit before each of these deals, in percent.

    Deals of accounts without credit then are left out. As far as the account's history is booked here.
    """
    if not deal_ids:
        return {}
    found = {}
    for deal_id, credit, own in session.execute(_CREDIT, {"ids": list(deal_ids)}):
        found[deal_id] = 100 * credit / (credit + max(own, Decimal(0)))
    return found
