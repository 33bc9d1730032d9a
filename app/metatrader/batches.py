"""One batch of stream entries of one server: understood one by one, booked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.core.uow import UnitOfWork
from app.metatrader import booking, state
from app.metatrader.booking import DealReport, LifeReport, OrderReport
from app.metatrader.events import (
    CLOCK_AHEAD,
    AccountEvent,
    AnyEvent,
    ControlEvent,
    DealEvent,
    MalformedEvent,
    OrderEvent,
    PositionEvent,
    decode,
)
from app.metatrader.servertime import ServerMoment, ServerZone, server_zone
from app.metatrader.stream import Entry, login_of, server_of
from app.models.metatrader import Server


@dataclass
class Outcome:
    """The clients whose pages have news, the logins among the events that nobody owns, and whether a source came back."""

    client_ids: set[int] = field(default_factory=set)
    unowned: set[int] = field(default_factory=set)
    is_back: bool = False


def read(entry: Entry, servers: Mapping[str, Server], moment: datetime) -> AnyEvent:
    """The event in an entry, read at a moment. Raises MalformedEvent with the reason, also when its stream may not carry it."""
    event = decode(entry.fields)
    if event.server not in servers:
        raise MalformedEvent(f"unknown server {event.server!r}")
    if event.server != server_of(entry.stream):
        raise MalformedEvent(f"server {event.server!r} in the stream of another")
    if event.received_at > moment + CLOCK_AHEAD:
        raise MalformedEvent("impossible time: recv_utc lies more than a day ahead")
    return event


def book_events(unit: UnitOfWork, server: Server, events: Sequence[AnyEvent]) -> Outcome:
    """Book decoded events of one server in their order, and note that it was heard of."""
    session, zone = unit.session, server_zone(server.time_zone)
    sorted_out = _SortedOut()
    for event in events:
        sorted_out.add(event, zone)
    # What takes time without the database is done: from here on others wait for us.
    booking.lock_server(session, server.id)
    logins = {login_of(event) for event in events} - {0}
    owners = booking.accounts_by_login(session, server.id, logins) if logins else {}
    outcome = Outcome(unowned=logins - owners.keys())
    outcome.client_ids |= booking.book_deals(unit, server.id, sorted_out.deals, owners).client_ids
    outcome.client_ids |= booking.book_positions(session, server.id, sorted_out.positions, owners)
    outcome.client_ids |= booking.book_orders(session, server.id, sorted_out.orders, owners)
    outcome.client_ids |= booking.book_lives(unit, server.id, sorted_out.lives)
    outcome.client_ids |= booking.book_accounts(session, server.id, sorted_out.accounts)
    for signal in sorted_out.signals:
        state.note_control(session, server.id, signal)
    outcome.is_back = any(signal.change == "connected" for signal in sorted_out.signals)
    if logins:
        newest_ms = max(event.server_time_ms - event.utc_offset_min * 60_000 for event in events)
        state.note_booked(session, server.id, datetime.fromtimestamp(newest_ms / 1000, UTC))
    return outcome


@dataclass
class _SortedOut:
    """Events by kind, as booking takes them."""

    deals: list[DealReport] = field(default_factory=list)
    positions: list[booking.PositionChange] = field(default_factory=list)
    orders: list[OrderReport] = field(default_factory=list)
    accounts: list[booking.AccountReport] = field(default_factory=list)
    lives: list[LifeReport] = field(default_factory=list)
    signals: list[ControlEvent] = field(default_factory=list)

    def add(self, event: AnyEvent, zone: ServerZone) -> None:
        match event:
            case DealEvent():
                moment = _moment(zone, event.deal.server_time_ms, event)
                is_deleted = event.kind == "deal.delete"
                self.deals.append(DealReport(event.deal, moment.utc, moment.utc_offset_min, is_deleted, event.received_at))
            case PositionEvent():
                opened = _beginning(zone, event.position.created_ms, event)
                self.positions.append((event.position, event.change == "delete", opened.utc))
            case OrderEvent():
                self.orders.append(_order_report(event, zone))
            case AccountEvent():
                if event.change != "state":
                    self.lives.append(LifeReport(event.account, event.change, event.happened_at))
                self.accounts.append((event.account, event.happened_at))
            case ControlEvent():
                self.signals.append(event)


def _moment(zone: ServerZone, wall_ms: int, event: AnyEvent) -> ServerMoment:
    """A server time of something that just happened: in the repeated hour the event tells which pass it was."""
    moment = zone.to_utc(wall_ms)
    return zone.to_utc(wall_ms, near=event.happened_at) if moment.is_ambiguous else moment


def _beginning(zone: ServerZone, wall_ms: int, event: AnyEvent) -> ServerMoment:
    """The moment at which something began: only of what is told as new is it surely just now."""
    return _moment(zone, wall_ms, event) if event.change == "add" else zone.to_utc(wall_ms)


def _order_report(event: OrderEvent, zone: ServerZone) -> OrderReport:
    order = event.order
    set_up = _beginning(zone, order.set_up_ms, event)
    done = _moment(zone, order.done_ms, event) if order.done_ms else None
    return OrderReport(
        order,
        set_up.utc,
        done.utc if done else None,
        (done or set_up).utc_offset_min,
        event.received_at,
        is_deleted=event.change == "delete",
    )
