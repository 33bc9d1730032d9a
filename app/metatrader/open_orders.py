"""The set of open orders at a server and ours beside it: what is new or other there is booked, what is not open is closed.

An order that is not shown any more is asked for alone: the server says what became of it, or that it has it no more. Orders
move no money, so none of this is left to people; what cannot be asked for now is asked for by the next sweep.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.arrays import in_parts
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import booking
from app.metatrader.backfill import BackfillSource, Witness, asked_now
from app.metatrader.booking import OrderReport
from app.metatrader.errors import NotKnown
from app.metatrader.platform import Order as Reported
from app.metatrader.servertime import ServerZone
from app.metatrader.sources.held import order_of
from app.models.metatrader import Order

log = logging.getLogger("lotwise.metatrader")

ORDERS_PER_UNIT = 500
#: So many orders are asked for one by one in one sweep.
MOST_ASKED = 200
#: More than this does not leave a server without a trace: then it is our manager account that does not see them.
MOST_BELIEVED_GONE = 100

#: What of an order may change while it is open, and is kept here.
_CHANGING = (
    *("type", "state", "volume_initial", "volume_current", "price_order", "price_trigger", "price_stop_loss"),
    *("price_take_profit", "position_ticket", "comment"),
)


@dataclass
class ReplacedOrders:
    """What was done: orders that were unknown or other here, and those that turned out to be done or gone."""

    changed: int = 0
    closed: int = 0


def replace_orders(
    session: Session, witness: Witness, source: BackfillSource, server_id: int, zone: ServerZone, *, actor: Actor
) -> ReplacedOrders:
    """Make our open orders those that the server has. What was reported in the meantime wins."""
    is_copy, asked_at = asked_now(source) is None, now()
    there = {order.ticket: order for order in source.orders()}
    open_here, known = _ours(session, server_id, there)
    # One that is done does not open again, whatever a list that is late may show.
    differing = [
        order
        for ticket, order in there.items()
        if ticket not in known or (not known[ticket].done_ms and _picture(order) != _picture(known[ticket]))
    ]
    doubtful = sorted(open_here - there.keys())
    if is_copy:  # it may lag: it brings what we never heard of, and the server is asked for the rest
        doubtful += sorted(order.ticket for order in differing if order.ticket in known)
        differing = [order for order in differing if order.ticket not in known]
    if len(doubtful) > MOST_ASKED:
        log.warning("many orders to ask for, the next sweep goes on server=%s orders=%s", server_id, len(doubtful))
        doubtful = random.sample(doubtful, MOST_ASKED)  # so that those which stay doubtful hold up no other
    asked = _asked(witness, [order_of(known[ticket]) for ticket in doubtful], server_id, zone)
    replaced = ReplacedOrders(
        changed=len(differing) + sum(not one.order.done_ms and not one.is_deleted for one in asked),
        closed=sum(bool(one.order.done_ms or one.is_deleted) for one in asked),
    )
    for part in in_parts([*(_report(order, zone, asked_at) for order in differing), *asked], ORDERS_PER_UNIT):
        with unit_of_work(session, actor):
            booking.lock_server(session, server_id)
            booking.book_orders(session, server_id, part)
    return replaced


def _asked(witness: Witness, orders: Iterable[Reported], server_id: int, zone: ServerZone) -> list[OrderReport]:
    """What the server, asked for each of these orders, says of it: its state, or that it is gone."""
    told, gone = [], []
    for order in orders:
        asked_at = now()
        try:
            told.append(_report(witness.order(order.ticket), zone, asked_at))
        except NotKnown:
            gone.append(replace(_report(order, zone, asked_at), is_deleted=True))
    if len(gone) > MOST_BELIEVED_GONE:
        log.error("orders vanished in numbers, they stay as they are server=%s orders=%s", server_id, len(gone))
        return told
    return told + gone


def _ours(session: Session, server_id: int, wanted: Iterable[int]) -> tuple[set[int], dict[int, Order]]:
    """Tickets of the orders that are open here, and by ticket those rows and the rows of the wanted ones."""
    mine = select(Order).where(Order.server_id == server_id)
    rows = {row.ticket: row for row in session.scalars(mine.where(Order.done_ms == 0, Order.is_deleted.is_(False)))}
    open_here = set(rows)
    for part in in_parts(set(wanted) - open_here, ORDERS_PER_UNIT):
        rows |= {row.ticket: row for row in session.scalars(mine.where(Order.ticket.in_(part)))}
    for row in rows.values():  # they are read after their transaction
        session.expunge(row)
    session.rollback()
    return open_here, rows


def _picture(order: Order | Reported) -> tuple[object, ...]:
    is_deleted = isinstance(order, Order) and order.is_deleted
    return (*(getattr(order, name) for name in _CHANGING), is_deleted)


def _report(order: Reported, zone: ServerZone, seen_at: datetime) -> OrderReport:
    """An order as the server had it at a moment, which tells the pass of the repeated hour in which it was done."""
    set_up = zone.to_utc(order.set_up_ms)
    done = zone.to_utc(order.done_ms, near=seen_at) if order.done_ms else None
    return OrderReport(order, set_up.utc, done.utc if done else None, (done or set_up).utc_offset_min, seen_at)
