"""How each trading server's link is: what is wrong, since when, and what to do about it; and pausing one of its directions.

`findings` is pure: the page shows what it says, the test asks it about every red line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.metatrader.platforms.breaker import Health, health
from app.metatrader.servertime import server_zone
from app.metatrader.stream import lag, stream_names
from app.models.metatrader import AccountChange, BalanceOperation, DeadLetter, Server, ServerState, TradingAccount
from app.models.trading_desk import ForeignOperation, ServerBreak

Direction = Literal["commands", "events"]
DIRECTIONS: tuple[Direction, ...] = ("commands", "events")
Level = Literal["danger", "warning", "info"]

#: A source says something at least every 5 seconds.
SILENT_AFTER = timedelta(seconds=30)
LATE_AFTER, STUCK_AFTER = timedelta(seconds=10), timedelta(minutes=1)
#: A sweep is planned every 5 minutes.
UNSWEPT_AFTER = timedelta(minutes=15)
#: An operation whose answer was lost is looked for twice, a minute apart.
UNKNOWN_FOR = timedelta(minutes=5)


class AlreadySo(Conflict):
    code = "servers.already_so"
    message = N_("Somebody else did this a moment ago. Nothing was changed.")


@dataclass(frozen=True)
class Waiting:
    """How many of something wait at a server, and since when the oldest of them does."""

    count: int = 0
    since: datetime | None = None


@dataclass(frozen=True)
class Link:
    """All that is known of one server's link at one moment. `state` is None when nothing was ever heard."""

    server: Server
    state: ServerState | None
    health: Health
    queued: int
    oldest_age: timedelta
    unknown_operations: Waiting
    changes: Waiting
    dead_letters: Waiting
    breaks: Waiting
    foreign_operations: Waiting
    at: datetime
    is_redis_away: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, by its code in WORDS, with the values of its words."""

    level: Level
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)


def links(session: Session, redis: Redis) -> list[Link]:
    """Every server's link as of now, active servers first."""
    servers = session.scalars(select(Server).order_by(Server.is_active.desc(), Server.code)).all()
    states = {state.server_id: state for state in session.scalars(select(ServerState))}
    unknown = _waiting(
        session, BalanceOperation.server_id, BalanceOperation.sent_at, BalanceOperation.status.in_(("sending", "unknown"))
    )
    open_changes = AccountChange.status.in_(("new", "sending")) & (AccountChange.trading_account_id == TradingAccount.id)
    changes = _waiting(session, TradingAccount.server_id, AccountChange.requested_at, open_changes)
    letters = _waiting(
        session,
        DeadLetter.server_id,
        DeadLetter.received_at,
        DeadLetter.replayed_at.is_(None) & DeadLetter.dismissed_at.is_(None),
    )
    breaks = _waiting(session, ServerBreak.server_id, ServerBreak.found_at, ServerBreak.closed_at.is_(None))
    foreign = _waiting(session, ForeignOperation.server_id, ForeignOperation.found_at, ForeignOperation.reviewed_at.is_(None))
    nothing, at = Waiting(), now()
    found = []
    for server in servers:
        well, queued, oldest, is_away = _carried(redis, server)
        found.append(
            Link(
                server=server,
                state=states.get(server.id),
                health=well,
                queued=queued,
                oldest_age=oldest,
                unknown_operations=unknown.get(server.id, nothing),
                changes=changes.get(server.id, nothing),
                dead_letters=letters.get(server.id, nothing),
                breaks=breaks.get(server.id, nothing),
                foreign_operations=foreign.get(server.id, nothing),
                at=at,
                is_redis_away=is_away,
            )
        )
    return found


def _waiting(session: Session, server_id: Any, since: Any, condition: ColumnElement[bool]) -> dict[int, Waiting]:
    rows = session.execute(select(server_id, func.count(), func.min(since)).where(condition).group_by(server_id))
    return {row[0]: Waiting(row[1], row[2]) for row in rows if row[0] is not None}


def _carried(redis: Redis, server: Server) -> tuple[Health, int, timedelta, bool]:
    """What Redis knows of a server: how it answers, how much waits in its streams, and whether Redis is away itself."""
    try:
        lags = [lag(redis, stream) for stream in stream_names(server.code, server.shards)]
        well = health(redis, server.code)
    except RedisError:
        return Health(), 0, timedelta(0), True
    oldest = max((one.oldest_age_ms for one in lags), default=0)
    return well, sum(one.pending + one.waiting for one in lags), timedelta(milliseconds=oldest), False


def findings(link: Link) -> list[Finding]:
    """What is wrong with a link, the worst first; nothing for one that is well. A server that is not active is left alone."""
    if not link.server.is_active:
        return []
    found = [*_of_roads(link), *_of_events(link), *_of_sweeps(link), *_of_work(link)]
    return sorted(found, key=lambda one: ("danger", "warning", "info").index(one.level))


def _of_roads(link: Link) -> Iterator[Finding]:
    """Whether anything can pass at all."""
    if link.is_redis_away:
        yield Finding("danger", "redis_away")
    if link.server.commands_paused_at:
        yield Finding("warning", "commands_paused")
    if link.server.events_paused_at:
        yield Finding("warning", "events_paused")
    if link.health.state != "closed":
        yield Finding("danger", "no_answer", {"error": link.health.last_error or "?"})
    elif link.state and link.state.error:
        yield Finding("warning", "call_failed", {"error": link.state.error})


def _of_events(link: Link) -> Iterator[Finding]:
    if link.server.events_paused_at or link.is_redis_away:
        return
    heard = link.state.heartbeat_at if link.state else None
    if heard is None:
        yield Finding("warning", "never_heard")
    elif link.at - heard > SILENT_AFTER:
        yield Finding("danger", "silent")
    if link.oldest_age > LATE_AFTER:
        level: Level = "danger" if link.oldest_age > STUCK_AFTER else "warning"
        yield Finding(level, "late", {"count": link.queued, "seconds": int(link.oldest_age.total_seconds())})
    seen = link.state.clock_offset_min if link.state else None
    if link.state and seen is not None:
        # Compared for the moment of the look: since then the clocks may have changed.
        expected = server_zone(link.server.time_zone).offset_min(link.state.clock_seen_at or link.at)
        if seen != expected:
            yield Finding("danger", "clock", {"seen": seen, "expected": expected})


def _of_sweeps(link: Link) -> Iterator[Finding]:
    swept = link.state.swept_at if link.state else None
    if link.server.events_paused_at:
        return
    if swept is None:
        yield Finding("warning", "never_swept")
    elif link.at - swept > UNSWEPT_AFTER:
        yield Finding("warning", "unswept")


def _of_work(link: Link) -> Iterator[Finding]:
    """What waits for a person."""
    unknown = link.unknown_operations
    if unknown.since and link.at - unknown.since > UNKNOWN_FOR:
        yield Finding("danger", "unknown_operations", {"count": unknown.count})
    for code in ("breaks", "dead_letters", "foreign_operations"):
        count = getattr(link, code).count
        if count:
            yield Finding("warning", code, {"count": count})


#: Each finding in words: what is wrong, and what to do about it.
WORDS: dict[str, tuple[str, str]] = {
    "redis_away": (
        N_("The event streams cannot be reached."),
        N_("Start Redis again. Nothing is lost: sources keep their events, and sweeps fetch what the streams do not bring."),
    ),
    "commands_paused": (
        N_("Staff let nothing out to this server."),
        N_("Transfers and changes of accounts wait. Resume commands when the server may be asked again."),
    ),
    "events_paused": (
        N_("Staff let nothing of this server be booked."),
        N_("Deals wait in the stream, clients see old balances. Resume events; what waited is booked in its order."),
    ),
    "no_answer": (
        N_("The server does not answer. It is tried again by itself."),
        N_(
            "Look whether the server runs, and whether its address, its certificate and our manager account still hold."
            " Nothing is sent twice; what was asked for waits. What it came to last: %(error)s"
        ),
    ),
    "call_failed": (
        N_("The last call failed: %(error)s"),
        N_("It is tried again by itself. If it stays, look at the server's log and at the rights of our manager account."),
    ),
    "never_heard": (
        N_("Nothing was ever heard of this server's events."),
        N_("Start its bridge, or choose where its events come from. Until then only sweeps bring its deals."),
    ),
    "silent": (
        N_("Its events have been silent for more than half a minute."),
        N_(
            "Look whether the bridge, or whatever tells its events, still runs and reaches Redis."
            " Meanwhile sweeps bring its deals every five minutes."
        ),
    ),
    "late": (
        N_("Events wait to be booked: %(count)s, the oldest for %(seconds)s seconds."),
        N_("Look whether ingest runs: /healthz says so. It goes on where it stopped; nothing is lost."),
    ),
    "clock": (
        N_("Its clock is %(seen)s minutes ahead of UTC; by its time zone it should be %(expected)s."),
        N_("Correct the time zone under Servers. Until then moments of its deals are wrong by the difference."),
    ),
    "never_swept": (
        N_("It was never swept."),
        N_("Sweep it now. If nothing happens, look whether worker and cron run."),
    ),
    "unswept": (
        N_("The last sweep that succeeded is more than a quarter of an hour ago."),
        N_("Sweep it now. If that fails, the reason stands here; if nothing happens, look whether worker and cron run."),
    ),
    "unknown_operations": (
        N_("Balance operations without a known outcome for more than five minutes: %(count)s."),
        N_(
            "They are looked for by themselves. Those that were looked for twice and not found stand below:"
            " look at the server, then decide."
        ),
    ),
    "breaks": (
        N_("Open differences between the server and us: %(count)s."),
        N_("Open them: each says what differs, why where that can be told, and what repairs it."),
    ),
    "dead_letters": (
        N_("Events that could not be booked: %(count)s."),
        N_("Their reasons stand below. Mend the cause, then book them again, or dismiss them."),
    ),
    "foreign_operations": (
        N_("Balance operations of others that wait for a review: %(count)s."),
        N_("Say of each what it was. Until then its amount stands in suspense."),
    ),
}


def pause(session: Session, server_id: int, direction: Direction, *, actor: Actor, reason: str) -> None:
    """Let nothing out to a server, or nothing of it be booked, until `resume`. Raises InvalidInput without a reason."""
    if not reason.strip():
        raise InvalidInput({"reason": N_("Please say why.")})
    _switch(session, server_id, direction, now(), actor, reason.strip()[:500])


def resume(session: Session, server_id: int, direction: Direction, *, actor: Actor) -> None:
    """What waited goes on within seconds, in its order."""
    _switch(session, server_id, direction, None, actor, "")


def _switch(session: Session, server_id: int, direction: Direction, at: datetime | None, actor: Actor, reason: str) -> None:
    column = f"{direction}_paused_at"
    with unit_of_work(session, actor) as unit:
        server = session.get(Server, server_id, with_for_update=True)
        if server is None:
            raise NotFound()
        before = getattr(server, column)
        if (before is None) == (at is None):
            raise AlreadySo()
        setattr(server, column, at)
        verb = "resumed" if at is None else "paused"
        unit.audit(
            f"server.{direction}_{verb}",
            f"mt_server:{server.id}",
            before={column: before.isoformat() if before else None},
            after={column: at.isoformat() if at else None},
            reason=reason,
        )
        unit.emit(f"server.{direction}_{verb}", subject_id=server.id)
