"""Canonical events as rows of the outbox: into which stream, and stamped by what clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from app.metatrader.bridge.outbox import Row
from app.metatrader.events import (
    AccountChange,
    AnyEvent,
    Change,
    Origin,
    Signal,
    Stamp,
    account_event,
    control_event,
    deal_event,
    encode,
    order_event,
    position_event,
)
from app.metatrader.platform import AccountState, Deal, Order, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.stream import stream_name, stream_names


class Teller:
    """Makes rows in one bridge's name. `at` is when the bridge had it."""

    def __init__(self, origin: Origin, zone: ServerZone, shards: int) -> None:
        self.origin = origin
        self.zone = zone
        self._shards = shards

    def deal(self, at: datetime, change: Change, deal: Deal) -> Row:
        return self._about(deal.login, at, lambda stamp: deal_event(self.origin, stamp, change, deal))

    def position(self, at: datetime, change: Change, position: Position) -> Row:
        return self._about(position.login, at, lambda stamp: position_event(self.origin, stamp, change, position))

    def order(self, at: datetime, change: Change, order: Order) -> Row:
        return self._about(order.login, at, lambda stamp: order_event(self.origin, stamp, change, order))

    def account(self, at: datetime, change: AccountChange, account: AccountState) -> Row:
        return self._about(account.login, at, lambda stamp: account_event(self.origin, stamp, account, change))

    def control(self, at: datetime, signal: Signal, notes: Mapping[str, str]) -> list[Row]:
        """A signal of the bridge itself, to every shard."""
        make = self._stamped(at, lambda stamp: control_event(self.origin, stamp, signal, notes))
        return [(stream, make) for stream in stream_names(self.origin.server, self._shards)]

    def _about(self, login: int, at: datetime, make: Callable[[Stamp], AnyEvent]) -> Row:
        return stream_name(self.origin.server, login, self._shards), self._stamped(at, make)

    def _stamped(self, at: datetime, make: Callable[[Stamp], AnyEvent]) -> Callable[[int], Mapping[str, str]]:
        wall_ms, offset_min = self.zone.wall_ms(at), self.zone.offset_min(at)
        return lambda seq: encode(make(Stamp(seq=seq, server_time_ms=wall_ms, utc_offset_min=offset_min, received_at=at)))
