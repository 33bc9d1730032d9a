"""Sources of events that we read ourselves: what a trading server's broker has instead of a bridge.

A server's row names its source (`mt_server.events`), its options stand in `mt_server.options` under the source's name, its
secrets in MT_SECRETS. running.py runs one thread per server inside the ingest process and publishes what a source reads
into the server's event streams; from there on all servers are alike.

kafka.py       MT5's event streaming
sql_export.py  MT5's SQL export database; sql_tables.py its tables and columns, also for backfill
mt4_report.py  MT4's report database, also for backfill; mt4_report_events.py the source of events
exports.py     what both databases have in common
poll.py        the Web API, asked every few seconds
webhook.py     MT5's automation requests: received by app.api, read whole where they are whole
refetch.py     what only named a login is asked of the server
snapshot.py    changes between two looks; held.py what our own tables hold

How to add one: a file with a class that keeps the promises of `Source`, a line in `load`, its words in `DESCRIPTIONS`, a
teller in tests/contracts/sources.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from app.core.errors import N_
from app.metatrader.errors import PlatformError
from app.metatrader.events import AccountChange, Change
from app.metatrader.platform import AccountState, Deal, Order, Position, TradingPlatform
from app.metatrader.servertime import ServerZone

if TYPE_CHECKING:
    from app.metatrader.sources.held import Held
    from config import ServerSecrets

Record = Deal | Position | Order | AccountState

#: A source that has nothing to tell yields an empty batch at least this often, which is its sign of life.
IDLE_S = 1.0


class SourceError(PlatformError):
    """The source cannot be read, or is set up wrongly. The text is one line for staff and holds no secret."""

    code = "platform.source"


@dataclass(frozen=True)
class Told:
    """One change. `change` is the second half of the event's kind; `at` the moment in UTC where the source knows it better
    than the time of receipt; `rev` its own revision, where it has one.
    """

    change: Change | AccountChange
    record: Record
    at: datetime | None = None
    rev: str = ""


@dataclass(frozen=True)
class Unreadable:
    """What came and cannot be an event. It goes on as it is, so that ingest parks it with the reason, where staff see it."""

    kind: str
    payload: str
    note: str
    key: str = ""
    login: int = 0


@dataclass(frozen=True)
class Batch:
    """What one look at a source gave, in order, and how far it has been read then.

    `lost` says why the source believes that events before these are gone, so that a sweep is due. `notes` go with the
    next heartbeat.
    """

    news: Sequence[Told | Unreadable] = ()
    cursors: Mapping[str, str] = field(default_factory=dict)
    lost: str = ""
    clock_offset_min: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """All that a source may know of its server. `cursors` are those of its batches that reached the streams."""

    code: str
    zone: ServerZone
    options: Mapping[str, Any]
    secrets: ServerSecrets
    groups: Sequence[str]
    cursors: Mapping[str, str]
    held: Held
    connect: Callable[[], TradingPlatform]
    remember: Callable[[Sequence[str]], None]

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """An option that is a number. Raises SourceError."""
        value = self.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise SourceError(f"option {name} must be a number between {low:g} and {high:g}")
        return value

    def texts(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """An option that is a list of texts. Raises SourceError."""
        value = self.options.get(name, list(default))
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise SourceError(f"option {name} must be a list of texts")
        return value


class Source(Protocol):
    """One server's source. Made anew after every failure, from the cursors of what has reached the streams."""

    def __init__(self, place: Place) -> None:
        """Raises SourceError when options or secrets are not what it needs. Connects to nothing yet."""

    def read(self, stop: threading.Event) -> Iterator[Batch]:
        """Batches until `stop`, at least one every few seconds. Any exception ends the reading for now.

        The next batch is asked for only after the last stands in the streams and its cursors are stored. So what a source
        does after a `yield` (such as committing an offset) is never ahead of what is safe, and a restart repeats.
        """

    def close(self) -> None:
        """Let go of all connections."""


@dataclass(frozen=True)
class Description:
    """A source in words for staff; message ids, which the page translates."""

    name: str
    title: str
    needs: str
    misses: str
    found_by: str
    has_heartbeat: bool = True


def load(name: str) -> type[Source] | None:
    """The class of a source that is read by a thread; None for the others. Libraries are imported only when needed."""
    if name == "kafka":
        from app.metatrader.sources.kafka import KafkaSource

        return KafkaSource
    if name == "sql":
        from app.metatrader.sources.sql_export import SQLExportSource

        return SQLExportSource
    if name == "poll":
        from app.metatrader.sources.poll import PollSource

        return PollSource
    if name == "mt4_report":
        from app.metatrader.sources.mt4_report_events import MT4ReportSource

        return MT4ReportSource
    return None


def idle(stop: threading.Event, seconds: float) -> Iterator[Batch]:
    """Wait, with signs of life, until the time is over or a stop is wished."""
    while seconds > 0 and not stop.wait(min(seconds, IDLE_S)):
        seconds -= IDLE_S
        yield Batch()


_SWEEP = N_("The sweep every few minutes finds such deals; the nightly comparison finds the rest.")

DESCRIPTIONS = {
    one.name: one
    for one in (
        Description(
            "stream",
            N_("Bridge beside the server"),
            N_("A Windows host beside the trading server with our bridge on it, or another program that publishes events."),
            N_("What happens while the bridge is disconnected from the server raises no event."),
            N_("After every reconnect a sweep begins before the interruption; the nightly comparison finds the rest."),
        ),
        Description(
            "kafka",
            N_("MT5 event streaming (Kafka)"),
            N_("Event streaming switched on in MT5 Administrator, with topics for trading and accounts, and a login for us."),
            N_("The server drops its oldest messages when Kafka is away for long, and Kafka forgets what is too old."),
            _SWEEP,
        ),
        Description(
            "sql",
            N_("MT5 SQL export"),
            N_("SQL export on the MT5 backup server, a database login for us that may read, and an index on Timestamp."),
            N_("A deal that is deleted at the server vanishes from the database without a trace that we could follow."),
            N_("The nightly comparison finds deleted deals."),
        ),
        Description(
            "mt4_report",
            N_("MT4 report database"),
            N_("A report server that replicates to PostgreSQL, MySQL or MariaDB, and a database login for us that may read."),
            N_("An order that is deleted at the server vanishes from the database without a trace that we could follow."),
            N_("The nightly comparison finds deleted deals."),
        ),
        Description(
            "poll",
            N_("Asking the Web API"),
            N_("Nothing but the Web API that commands use. Events come with a delay of some seconds."),
            N_("An edit or deletion of a deal that is older than the overlap, ten minutes unless it is set otherwise."),
            _SWEEP,
        ),
        Description(
            "webhook",
            N_("MT5 automation requests"),
            N_("Automations in MT5 Administrator that call our address with a secret in a header."),
            N_("MetaTrader promises no repeat of a request that failed, and signs none."),
            _SWEEP,
            has_heartbeat=False,
        ),
    )
}


def describe(name: str) -> Description | None:
    """What a source needs of the broker, what it can miss and how that is found; None for one that is not known."""
    return DESCRIPTIONS.get(name)
