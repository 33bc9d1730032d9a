"""The canonical event: what any source (bridge, Kafka, SQL export, polling, sweep) tells about a trading server.

One event is a flat set of text fields, as Redis streams carry them; docs/metatrader.md is its contract. Encoding and
decoding are pure. Decoding is strict: whatever is not a possible event raises MalformedEvent with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Literal

from app.metatrader import canonical
from app.metatrader.fields import (
    CLOCK_AHEAD_S,
    OFFSET_MAX,
    OFFSET_MIN,
    TIME_MS_MAX,
    TIME_MS_MIN,
    FieldError,
    Whole,
    Words,
    read_account,
    read_deal,
    read_order,
    read_position,
    write_account,
    write_deal,
    write_order,
    write_position,
)
from app.metatrader.platform import AccountState, Deal, Order, Position

VERSION = "1"
PAYLOAD_LIMIT = 32_768
CLOCK_AHEAD = timedelta(seconds=CLOCK_AHEAD_S)

Change = Literal["add", "update", "delete"]
AccountChange = Literal["state", "archived", "restored", "deleted", "cleaned"]
Signal = Literal["connected", "disconnected", "sync_done", "heartbeat"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class MalformedEvent(ValueError):
    """Not a possible event. `reason` is one line for the dead letter table."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Origin:
    """Who tells: the server's code, the kind of source, and the start of that source's process."""

    server: str
    src: str
    boot: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all events have. `seq` counts without gaps within one stream and boot of a source."""

    server: str
    src: str
    boot: str
    kind: str
    key: str
    rev: str
    seq: int
    server_time_ms: int
    utc_offset_min: int
    received_at: datetime

    @property
    def happened_at(self) -> datetime:
        """The event's moment in UTC, by the offset that its source saw."""
        return datetime.fromtimestamp(self.server_time_ms / 1000, UTC) - timedelta(minutes=self.utc_offset_min)

    @property
    def change(self) -> str:
        """The second half of the kind: add, update, delete, state, or a signal."""
        return self.kind.partition(".")[2]


@dataclass(frozen=True, kw_only=True)
class DealEvent(Event):
    """deal.add, deal.update, deal.delete: the deal as it stands now (on delete, as it last stood)."""

    deal: Deal


@dataclass(frozen=True, kw_only=True)
class PositionEvent(Event):
    """position.add, position.update, position.delete."""

    position: Position


@dataclass(frozen=True, kw_only=True)
class OrderEvent(Event):
    """order.add, order.update, order.delete. A filled, cancelled or expired order is an update with that state."""

    order: Order


@dataclass(frozen=True, kw_only=True)
class AccountEvent(Event):
    """account.state: balance, equity and settings of a login at one moment. account.archived, account.restored,
    account.deleted, account.cleaned (all its deals were wiped): what became of the login, with its state at that moment.
    """

    account: AccountState


@dataclass(frozen=True, kw_only=True)
class ControlEvent(Event):
    """control.connected, .disconnected, .sync_done, .heartbeat: the source's own state, with notes for people."""

    notes: Mapping[str, str] = field(default_factory=dict)


AnyEvent = DealEvent | PositionEvent | OrderEvent | AccountEvent | ControlEvent


@dataclass(frozen=True)
class Stamp:
    """When and in which place of the sequence: what a source adds to every event."""

    seq: int
    server_time_ms: int
    utc_offset_min: int
    received_at: datetime


def deal_event(origin: Origin, stamp: Stamp, change: Change, deal: Deal) -> DealEvent:
    """An event about a deal; its revision is the fingerprint of the business fields."""
    return DealEvent(
        **vars(origin), **vars(stamp), kind=f"deal.{change}", key=str(deal.ticket), rev=deal.fingerprint().hex(), deal=deal
    )


def position_event(origin: Origin, stamp: Stamp, change: Change, position: Position) -> PositionEvent:
    """An event about a position; its revision is the moment of the last change and a hash."""
    rev = f"{position.update_ms}-{_hash(write_position(position))}"
    return PositionEvent(
        **vars(origin), **vars(stamp), kind=f"position.{change}", key=str(position.ticket), rev=rev, position=position
    )


def order_event(origin: Origin, stamp: Stamp, change: Change, order: Order) -> OrderEvent:
    """An event about an order; its revision is the state, the moment it was done, and a hash."""
    rev = f"{order.state}-{order.done_ms}-{_hash(write_order(order))}"
    return OrderEvent(**vars(origin), **vars(stamp), kind=f"order.{change}", key=str(order.ticket), rev=rev, order=order)


def account_event(origin: Origin, stamp: Stamp, account: AccountState, change: AccountChange = "state") -> AccountEvent:
    """An event about a login's state, or about what became of it; its revision is a hash of the state."""
    return AccountEvent(
        **vars(origin),
        **vars(stamp),
        kind=f"account.{change}",
        key=str(account.login),
        rev=_hash(write_account(account)),
        account=account,
    )


def control_event(origin: Origin, stamp: Stamp, signal: Signal, notes: Mapping[str, str] | None = None) -> ControlEvent:
    """An event about the source itself."""
    return ControlEvent(
        **vars(origin), **vars(stamp), kind=f"control.{signal}", key=origin.boot, rev=str(stamp.seq), notes=notes or {}
    )


def encode(event: AnyEvent) -> dict[str, str]:
    """The event as stream fields."""
    match event:
        case DealEvent():
            payload: Mapping[str, str] = write_deal(event.deal)
        case PositionEvent():
            payload = write_position(event.position)
        case OrderEvent():
            payload = write_order(event.order)
        case AccountEvent():
            payload = write_account(event.account)
        case ControlEvent():
            payload = event.notes
    return {
        "v": VERSION,
        "server": event.server,
        "src": event.src,
        "boot": event.boot,
        "kind": event.kind,
        "key": event.key,
        "rev": event.rev,
        "seq": str(event.seq),
        "srv_time_msc": str(event.server_time_ms),
        "utc_offset_min": str(event.utc_offset_min),
        "recv_utc": event.received_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "payload": json.dumps(payload, ensure_ascii=False, separators=(",", ":")),
    }


_EVENTS: dict[type, tuple[type[DealEvent | PositionEvent | OrderEvent | AccountEvent], str]] = {
    Deal: (DealEvent, "deal"),
    Position: (PositionEvent, "position"),
    Order: (OrderEvent, "order"),
    AccountState: (AccountEvent, "account"),
}


def decode(fields: Mapping[bytes, bytes]) -> AnyEvent:
    """The event in a stream entry's raw fields. Raises MalformedEvent for anything that is not a possible event."""
    quickly = canonical.read(fields)
    if quickly is None:
        return decode_strictly(fields)
    head, record = quickly
    event, attribute = _EVENTS[type(record)]
    head[attribute] = record
    return canonical.made(event, head)


def decode_strictly(fields: Mapping[bytes, bytes]) -> AnyEvent:
    """As `decode`, field by field, with the reason where it is refused."""
    try:
        texts = {name.decode("utf-8"): value.decode("utf-8") for name, value in fields.items()}
    except UnicodeDecodeError:
        raise MalformedEvent("wrong encoding: not UTF-8") from None
    if texts.get("v") != VERSION:
        raise MalformedEvent(f"unknown version {texts.get('v', '')[:12]!r}")
    build = _BUILDERS.get(texts.get("kind", ""))
    if build is None:
        raise MalformedEvent(f"unknown kind {texts.get('kind', '')[:40]!r}")
    try:
        head = _head(texts)
        payload = _payload(texts)
        return build(head, payload)
    except FieldError as error:
        raise MalformedEvent(error.reason) from None


def _head(texts: Mapping[str, str]) -> dict[str, Any]:
    for name in ("server", "src", "boot"):
        if not _NAME.fullmatch(texts.get(name, "")):
            raise MalformedEvent(f"{name} is not a name: {texts.get(name, '')[:24]!r}")
    moment = texts.get("recv_utc", "")
    try:
        received_at = (
            datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) if _MOMENT.fullmatch(moment) else None
        )
    except ValueError:
        received_at = None
    if received_at is None:
        raise MalformedEvent(f"recv_utc is not a moment: {moment[:32]!r}")
    head: dict[str, Any] = {
        "server": texts["server"],
        "src": texts["src"],
        "boot": texts["boot"],
        "kind": texts["kind"],
        "key": Words("key", 64, missing=None).read(texts),
        "rev": Words("rev", 96, missing=None).read(texts),
        "seq": Whole("seq").read(texts),
        "server_time_ms": Whole("srv_time_msc", TIME_MS_MIN, TIME_MS_MAX).read(texts),
        "utc_offset_min": Whole("utc_offset_min", OFFSET_MIN, OFFSET_MAX).read(texts),
        "received_at": received_at,
    }
    _possible(head["server_time_ms"], head, "srv_time_msc")
    return head


def _possible(server_time_ms: int, head: Mapping[str, Any], name: str) -> None:
    happened_at = datetime.fromtimestamp(server_time_ms / 1000, UTC) - timedelta(minutes=head["utc_offset_min"])
    if happened_at > head["received_at"] + CLOCK_AHEAD:
        raise MalformedEvent(f"impossible time: {name} lies more than a day after its receipt")


def _payload(texts: Mapping[str, str]) -> dict[str, Any]:
    text = texts.get("payload", "")
    if len(text) > PAYLOAD_LIMIT:
        raise MalformedEvent(f"payload is longer than {PAYLOAD_LIMIT} characters")
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedEvent("payload is not JSON") from None
    if not isinstance(payload, dict):
        raise MalformedEvent("payload is not a JSON object")
    return payload


def _deal(head: dict[str, Any], payload: dict[str, Any]) -> DealEvent:
    deal = read_deal(payload)
    _same_key(head, deal.ticket)
    _possible(deal.server_time_ms, head, "TimeMsc")
    return DealEvent(**head, deal=deal)


def _position(head: dict[str, Any], payload: dict[str, Any]) -> PositionEvent:
    position = read_position(payload)
    _same_key(head, position.ticket)
    _possible(position.update_ms, head, "TimeUpdateMsc")
    return PositionEvent(**head, position=position)


def _order(head: dict[str, Any], payload: dict[str, Any]) -> OrderEvent:
    order = read_order(payload)
    _same_key(head, order.ticket)
    _possible(order.set_up_ms, head, "TimeSetupMsc")
    if order.done_ms:
        _possible(order.done_ms, head, "TimeDoneMsc")
    return OrderEvent(**head, order=order)


def _account(head: dict[str, Any], payload: dict[str, Any]) -> AccountEvent:
    account = read_account(payload)
    _same_key(head, account.login)
    return AccountEvent(**head, account=account)


def _control(head: dict[str, Any], payload: dict[str, Any]) -> ControlEvent:
    return ControlEvent(**head, notes={name: Words(name, 500).read(payload) for name in payload})


def _same_key(head: Mapping[str, Any], number: int) -> None:
    if head["key"] != str(number):
        raise MalformedEvent(f"key {head['key'][:24]!r} is not the payload's {number}")


_BUILDERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], AnyEvent]] = {
    "deal.add": _deal,
    "deal.update": _deal,
    "deal.delete": _deal,
    "position.add": _position,
    "position.update": _position,
    "position.delete": _position,
    "order.add": _order,
    "order.update": _order,
    "order.delete": _order,
    "account.state": _account,
    "account.archived": _account,
    "account.restored": _account,
    "account.deleted": _account,
    "account.cleaned": _account,
    "control.connected": _control,
    "control.disconnected": _control,
    "control.sync_done": _control,
    "control.heartbeat": _control,
}


def _hash(fields: Mapping[str, str]) -> str:
    return sha256(json.dumps(fields, sort_keys=True).encode("utf-8")).hexdigest()[:16]


class SequenceWatch:
    """Notices missing events: `gap` is true when numbers were skipped, so that a backfill is due.

    Repeats and late redeliveries are no gap. The first event of a stream sets the mark; a new boot goes on counting where
    the old one ended, or it is a gap, because nobody can tell what was lost between the two.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[str, int]] = {}
        self._past_boots: set[tuple[str, str, str]] = set()

    def gap(self, stream: str, event: Event) -> bool:
        return len(self.skipped(stream, event)) > 0

    def skipped(self, stream: str, event: Event) -> range:
        """The numbers that this event leaves out. After another boot nobody can tell which: then one stands for them."""
        source = (stream, event.src)
        boot, seq = self._last.get(source, (event.boot, event.seq - 1))
        if (*source, event.boot) in self._past_boots or (event.boot == boot and event.seq <= seq):
            return range(0)
        if event.boot != boot:
            self._past_boots.add((*source, boot))
        self._last[source] = (event.boot, event.seq)
        if event.boot == boot or event.seq == seq + 1:
            return range(seq + 1, event.seq)
        return range(event.seq - 1, event.seq)

    def marks(self, stream: str) -> dict[str, str]:
        """Where each source of a stream stands, as texts to keep over a restart."""
        return {src: f"{boot} {seq}" for (of, src), (boot, seq) in self._last.items() if of == stream}

    def restore(self, stream: str, marks: Mapping[str, str]) -> None:
        """Go on from kept marks."""
        for src, mark in marks.items():
            boot, _, seq = mark.rpartition(" ")
            self._last[(stream, src)] = (boot, int(seq))
