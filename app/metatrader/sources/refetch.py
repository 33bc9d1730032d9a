"""Logins and deals of which somebody only said that something happened: what the server holds of them is asked for.

A hint is a text, "login:954402" or "deal:1048577", in a Redis set per server. It leaves the set when the answer stands in
the streams; a crash in between asks once more, and what a lost Redis forgets the sweep finds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis

from app.core.clock import now
from app.metatrader.errors import NotKnown
from app.metatrader.events import Origin
from app.metatrader.platform import TradingPlatform
from app.metatrader.servertime import ServerZone
from app.metatrader.sources import Told
from app.metatrader.sources.feed import Teller, publish_shared
from app.metatrader.sources.held import Held
from app.metatrader.sources.snapshot import PositionSnapshot

log = logging.getLogger("lotwise.sources")

SOURCE = "refetch"
#: Deals of a login are asked for since then; a hint that names an older deal names its ticket.
LOOK_BACK = timedelta(hours=1)
HINTS_PER_RUN = 500
#: A run ends after this long, with or without having asked for everything; the rest is next.
ENOUGH_S = 60.0


@dataclass(frozen=True)
class Asked:
    """What one run did: hints that were answered, and events that were published."""

    hints: int
    events: int


def remember(redis: Redis, code: str, hints: Sequence[str]) -> None:
    """Note that the server should be asked for these. Raises RedisError."""
    if hints:
        redis.sadd(_key(code), *hints)


def waiting(redis: Redis, code: str) -> int:
    """How many hints wait for their answer."""
    client: Any = redis
    return int(client.scard(_key(code))) + int(client.scard(_taken(code)))


def refetch(redis: Redis, platform: TradingPlatform, held: Held, *, code: str, zone: ServerZone, shards: int) -> Asked:
    """Ask the server for everything that was hinted at, and publish the answers. Raises PlatformError, RedisError.

    One run per server at a time. What was not answered stays for the next run.
    """
    client: Any = redis
    teller = Teller(Origin(code, SOURCE, "jobs"), zone, shards)
    answered = events = 0
    began = time.monotonic()
    for hint in _take(client, code):
        if time.monotonic() - began > ENOUGH_S:
            break
        news = _answer(platform, held, zone, hint)
        publish_shared(redis, teller, news)
        client.srem(_taken(code), hint)
        answered, events = answered + 1, events + len(news)
    return Asked(answered, events)


def _take(client: Any, code: str) -> list[str]:
    """Hints to answer now, those that an earlier run left first. They move to a set of their own one by one, so that a hint
    which comes again meanwhile is asked for again.
    """
    taken = sorted(client.smembers(_taken(code)))
    for hint in client.srandmember(_key(code), max(HINTS_PER_RUN - len(taken), 0)) or []:
        if client.smove(_key(code), _taken(code), hint) and hint not in taken:
            taken.append(hint)
    return [hint.decode("utf-8", "replace") if isinstance(hint, bytes) else hint for hint in taken]


def _answer(platform: TradingPlatform, held: Held, zone: ServerZone, hint: str) -> list[Told]:
    """What the server says about a login or a deal. A login that it does not know is no news: a comparison judges that."""
    subject, _, text = hint.partition(":")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    if not number or subject not in ("login", "deal"):
        log.warning("a hint that names nothing is dropped hint=%s", hint[:40])
        return []
    return _deal(platform, held, number) if subject == "deal" else _login(platform, held, zone, number)


def _deal(platform: TradingPlatform, held: Held, ticket: int) -> list[Told]:
    known = held.deal(ticket)
    try:
        return [Told("update" if known else "add", platform.deal(ticket))]
    except NotKnown:
        return [Told("delete", known)] if known else []


def _login(platform: TradingPlatform, held: Held, zone: ServerZone, login: int) -> list[Told]:
    moment = now()
    since = moment - LOOK_BACK
    try:
        deals = platform.deals(login, since, moment + timedelta(minutes=5))
        positions = platform.positions(login)
        state = platform.get_account(login)
    except NotKnown:
        return []
    moments = zone.in_order((deal.server_time_ms for deal in deals), not_before=since)
    news = [Told("add", deal, at.utc) for deal, at in zip(deals, moments, strict=True)]
    news += PositionSnapshot(held.positions(login), zone).compare(positions, moment)
    return [*news, Told("state", state, moment)]


def _key(code: str) -> str:
    return f"mt:{code}:hints"


def _taken(code: str) -> str:
    return f"mt:{code}:hints:taken"
