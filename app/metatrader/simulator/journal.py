"""The simulator's event source: writes canonical events into the outbox; publisher.py carries them out.

An event is written in the transaction of the change that it tells of. It leaves the outbox when it has been taken; until
then it is sent again, also after a restart, so readers may see it twice, but never not at all, unless a gap is switched on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

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
from app.metatrader.simulator.event_faults import EventFaults
from app.metatrader.stream import stream_name

#: Outbox rows of this name are user records: MetaTrader's own outputs carry them, the stream has no such event.
USERS = "user"
#: Outbox rows of this name are nothing that a source tells, because it was away or is told less: only exports, which have a
#: way of their own, see them.
LOST = "lost"


Record = Deal | Position | Order | AccountState


class Outbox(Protocol):
    """What keeps events until they are sent. `changed` is set after every commit."""

    changed: threading.Event

    def transaction(self) -> AbstractContextManager[None]: ...

    def next_number(self, name: str, start: int) -> int: ...

    def put_in_outbox(self, stream: str, fields: Mapping[str, str]) -> None: ...

    def outbox(self, limit: int, *, after_id: int = 0) -> list[tuple[int, str, dict[str, str]]]:
        """The oldest unsent events beyond an id: id, stream, fields."""

    def outbox_size(self) -> int: ...

    def remove_sent(self, up_to_id: int) -> None: ...


class Journal:
    """Turns what happens into outbox rows. Call it inside the store's transaction."""

    def __init__(
        self,
        store: Outbox,
        origin: Origin,
        zone: ServerZone,
        clock: Callable[[], datetime],
        shards: int = 1,
        faults: EventFaults | None = None,
    ) -> None:
        self.store = store
        self.origin = origin
        self.clock = clock
        self.faults = faults or EventFaults()
        #: Whether somebody wants user records: on when there are outputs beside the stream.
        self.tells_users = False
        #: Called with every new deal; the dealer listens here.
        self.on_deal: Callable[[Deal], None] | None = None
        self._zone = zone
        self._shards = shards
        self._is_away = False

    def deal(self, change: Change, deal: Deal) -> None:
        self._put(lambda stamp: deal_event(self.origin, stamp, change, deal), deal.login)
        if change == "add" and self.on_deal:
            self.on_deal(deal)

    def position(self, change: Change, position: Position) -> None:
        self._put(lambda stamp: position_event(self.origin, stamp, change, position), position.login)

    def order(self, change: Change, order: Order) -> None:
        self._put(lambda stamp: order_event(self.origin, stamp, change, order), order.login)

    def account(self, account: AccountState, change: AccountChange = "state") -> None:
        """A login's state, or that it was archived, restored or deleted."""
        self._put(lambda stamp: account_event(self.origin, stamp, account, change), account.login)

    def cleaned(self, account: AccountState, deals: Iterable[Deal]) -> None:
        """All deals of a login were wiped. A source is told of the login only; an export shows what is gone."""
        moment = self.clock()
        stamp = Stamp(0, self._zone.wall_ms(moment), self._zone.offset_min(moment), moment)
        for deal in deals:
            self.store.put_in_outbox(LOST, encode(deal_event(self.origin, stamp, "delete", deal)))
        self.account(account, "cleaned")

    def again(self, record: Record) -> None:
        """Tell a record as it stands now, because somebody asked for it."""
        self._put(lambda stamp: standing(self.origin, stamp, record), record.login)

    def user(self, change: Change, record: Mapping[str, str]) -> None:
        """A login's record as it stands now, for the outputs that tell of records."""
        if self.tells_users and not self._away(self.clock()):
            self.store.put_in_outbox(USERS, {"kind": f"user.{change}", "payload": json.dumps(record)})

    def control(self, signal: Signal, **notes: str) -> None:
        """A signal of the source itself, to every shard."""
        with self.store.transaction():
            self._away(self.clock())
            self._signal(signal, notes)

    def _put(self, make: Callable[[Stamp], AnyEvent], login: int) -> None:
        if self._away(self.clock()):
            self.store.put_in_outbox(LOST, encode(make(self.stamp(0))))
        else:
            self._write(make, stream_name(self.origin.server, login, self._shards))

    def _signal(self, signal: Signal, notes: Mapping[str, str]) -> None:
        for shard in range(self._shards):
            stream = stream_name(self.origin.server, shard, self._shards)
            self._write(lambda stamp: control_event(self.origin, stamp, signal, notes), stream)

    def stamp(self, seq: int) -> Stamp:
        """Now, in some place of a sequence."""
        moment = self.clock()
        return Stamp(seq, self._zone.wall_ms(moment), self._zone.offset_min(moment), moment)

    def _write(self, make: Callable[[Stamp], AnyEvent], stream: str) -> None:
        stamp = self.stamp(self.store.next_number(f"seq:{stream}", 1))
        self.store.put_in_outbox(stream, encode(make(stamp)))

    def _away(self, moment: datetime) -> bool:
        """Whether the source has lost its server; when that begins or ends it says so."""
        is_away = self.faults.is_away(moment)
        if is_away != self._is_away:
            self._is_away = is_away
            if is_away:
                self._signal("disconnected", {"note": "the connection to the server is lost"})
            else:
                self._signal("connected", {"note": "the connection to the server is back"})
                self._signal("sync_done", {})
        return is_away


def standing(origin: Origin, stamp: Stamp, record: Record) -> AnyEvent:
    """The event that tells how a record stands."""
    match record:
        case Deal():
            return deal_event(origin, stamp, "add", record)
        case Position():
            return position_event(origin, stamp, "update", record)
        case Order():
            return order_event(origin, stamp, "update", record)
    return account_event(origin, stamp, record)
