"""MT5's automation requests: an HTTP request per trigger, with a body that the broker composes from macros.

They carry no signature and are not repeated, so a request is a hint: a deal that is whole (`#DEAL_JSON#`) goes on as an
event, and in every case the login is noted, so that the server is asked for its deals, positions and state (refetch.py).
docs/metatrader.md has the body that we recommend; anything with a login in it will do.

Secret: `webhook_secret` in MT_SECRETS, which the request carries in its header. On for a server whose events are "webhook",
and beside any other source where `mt_server.options` has "webhook": {"enabled": true}.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from app.metatrader.events import AccountChange, Change, Origin
from app.metatrader.fields import FieldError, Whole, read_deal
from app.metatrader.platform import AccountState
from app.metatrader.servertime import server_zone
from app.metatrader.sources import Told, Unreadable, refetch
from app.metatrader.sources.feed import Teller, publish_shared
from app.models.metatrader import Server

SOURCE = "webhook"
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105  # a header's name
BODY_LIMIT = 65_536

#: Automation triggers, by MetaTrader's numbers, whose meaning is not "something new".
DEAL_CHANGES: dict[str, Change] = {"12006": "update", "12007": "delete", "12008": "update"}
ACCOUNT_CHANGES: dict[str, AccountChange] = {"2002": "deleted", "2003": "archived", "2004": "restored"}


@dataclass
class Reading:
    """What one request comes to: events, hints for the refetch, and what became of a login, if the trigger says so."""

    news: list[Told | Unreadable] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    login: int = 0
    fate: AccountChange | None = None


@dataclass(frozen=True)
class Received:
    """What a request led to, in numbers."""

    events: int
    hints: int


def is_open(server: Server, secret: str) -> bool:
    """Whether requests for this server are taken at all."""
    options = server.options.get(SOURCE)
    is_wanted = server.events == SOURCE or (isinstance(options, dict) and options.get("enabled") is True)
    return bool(secret) and server.is_active and is_wanted


def is_secret(given: str, secret: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode("utf-8"))


def receive(redis: Redis, server: Server, body: bytes, accounts: Callable[[set[int]], Mapping[int, AccountState]]) -> Received:
    """Put a request's events into the streams and its hints beside them. Raises RedisError when that is not certain.

    While staff have paused the server's events only the hints are kept. `accounts` gives states of logins of ours.
    """
    reading = read(body)
    refetch.remember(redis, server.code, reading.hints)
    if server.events_paused_at is not None:
        return Received(0, len(reading.hints))
    news = list(reading.news)
    if reading.fate is not None and reading.login:
        news += [Told(reading.fate, state) for state in accounts({reading.login}).values()]
    teller = Teller(Origin(server.code, SOURCE, "web"), server_zone(server.time_zone), server.shards)
    publish_shared(redis, teller, news)
    return Received(len(news), len(reading.hints))


def read(body: bytes) -> Reading:
    """What the body of a request says. Whatever names neither a login nor a deal is kept for people to look at."""
    reading = Reading()
    try:
        message = json.loads(body, parse_int=str, parse_float=str, parse_constant=str)
        if not isinstance(message, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        reading.news.append(
            Unreadable("webhook.message", body.decode("utf-8", "backslashreplace"), "the body is no JSON object")
        )
        return reading
    trigger = str(message.get("trigger", ""))
    deal = message.get("deal", message if "Deal" in message else None)
    reading.login = _number(message, "login", "Login") or _nested(message)
    reading.fate = ACCOUNT_CHANGES.get(trigger)
    if reading.login:
        reading.hints.append(f"login:{reading.login}")
    if isinstance(deal, dict):
        _deal(reading, deal, DEAL_CHANGES.get(trigger, "add"))
    elif ticket := _number(message, "deal", "deal_ticket", "Deal"):
        reading.hints.append(f"deal:{ticket}")
    if not reading.hints and not reading.news:
        note = "the body names neither a login nor a deal"
        reading.news.append(Unreadable("webhook.message", json.dumps(message), note))
    return reading


def _deal(reading: Reading, record: dict[str, Any], change: Change) -> None:
    """The deal as an event where it is whole. An edit or a deletion is also asked for: only the server knows the last word."""
    ticket = _number(record, "Deal")
    try:
        reading.news.append(Told(change, read_deal(record)))
        is_whole = True
    except FieldError as error:
        is_whole = False
        if not ticket:
            note = f"the deal of the body: {error.reason}"
            reading.news.append(Unreadable(f"deal.{change}", json.dumps(record), note, login=reading.login))
    if ticket and (change != "add" or not is_whole):
        reading.hints.append(f"deal:{ticket}")


def _nested(message: Mapping[str, Any]) -> int:
    """The login that an object of the body names."""
    objects = (one for one in message.values() if isinstance(one, dict))
    return next((login for one in objects if (login := _number(one, "Login"))), 0)


def _number(fields: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that holds a number above zero; 0 when none does."""
    for name in names:
        try:
            if number := Whole(name, missing=0).read(fields):
                return number
        except FieldError:
            continue
    return 0
