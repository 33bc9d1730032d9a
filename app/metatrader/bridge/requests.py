"""What may be asked of a bridge: the request side of its contract, version 1. Pure.

A request is an entry of the stream `mt:{code}:requests`. Its rows come as canonical events, either into the server's event
streams, for ingest to book, or into a stream of the asker's own; a control.sync_done that names the request ends them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

from app.metatrader.fields import TIME_MS_MAX, TIME_MS_MIN

VERSION = "1"

T = TypeVar("T")

What = Literal["deals", "positions", "orders", "accounts"]
Into = Literal["events", "answer"]
WHATS: dict[str, What] = {"deals": "deals", "positions": "positions", "orders": "orders", "accounts": "accounts"}
INTOS: dict[str, Into] = {"events": "events", "answer": "answer"}

#: How long a request is worth answering when it does not say.
VALID_S = 900
LOGINS_LIMIT = 1_000
TICKETS_LIMIT = 100
GROUPS_LIMIT = 1_000
#: What has tickets to be asked for by.
TICKETED = ("deals", "orders")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")


class MalformedRequest(ValueError):
    """Not a possible request. `id` names it where that much could be read."""

    def __init__(self, reason: str, id_: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = id_


@dataclass(frozen=True)
class Request:
    """Rows of the groups of a mask, or of some logins, or of some tickets: deals, or orders whether open or done. `from_s`
    and `to_s`, for deals of groups and logins only, are seconds of the server's clock, both included.
    """

    id: str
    what: What
    into: Into
    asked_at: datetime
    groups: str = ""
    logins: tuple[int, ...] = ()
    tickets: tuple[int, ...] = ()
    from_s: int = 0
    to_s: int = 0
    valid_s: int = VALID_S

    def is_stale(self, moment: datetime) -> bool:
        """Whether nobody waits for the answer any more."""
        return moment > self.asked_at + timedelta(seconds=self.valid_s)


def requests_stream(server: str) -> str:
    """The stream of requests to a server's bridge."""
    return f"mt:{server}:requests"


def answer_stream(server: str, request_id: str) -> str:
    """The stream that carries the answer to a request that asked for one of its own."""
    return f"mt:{server}:answer:{request_id}"


def write_request(request: Request) -> dict[str, str]:
    """The request as stream fields."""
    return {
        "v": VERSION,
        "id": request.id,
        "what": request.what,
        "into": request.into,
        "asked_utc": request.asked_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "valid_s": str(request.valid_s),
        "groups": request.groups,
        "logins": ",".join(map(str, request.logins)),
        "tickets": ",".join(map(str, request.tickets)),
        "from_s": str(request.from_s),
        "to_s": str(request.to_s),
    }


def read_request(fields: Mapping[bytes, bytes]) -> Request:
    """The request in a stream entry's raw fields. Raises MalformedRequest."""
    try:
        texts = {name.decode("utf-8"): value.decode("utf-8") for name, value in fields.items()}
    except UnicodeDecodeError:
        raise MalformedRequest("wrong encoding: not UTF-8") from None
    id_ = texts.get("id", "")
    if not _NAME.fullmatch(id_):
        raise MalformedRequest(f"id is not a name: {id_[:24]!r}")
    try:
        return _read(id_, texts)
    except MalformedRequest as error:
        error.id = id_
        raise


def _read(id_: str, texts: Mapping[str, str]) -> Request:
    if texts.get("v") != VERSION:
        raise MalformedRequest(f"unknown version {texts.get('v', '')[:12]!r}")
    what, into = _choice("what", texts, WHATS), _choice("into", texts, INTOS)
    try:
        asked_at = datetime.strptime(texts.get("asked_utc", ""), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise MalformedRequest("asked_utc is not a moment") from None
    logins, tickets = _numbers("logins", texts, LOGINS_LIMIT), _numbers("tickets", texts, TICKETS_LIMIT)
    groups = texts.get("groups", "")
    if len(groups) > GROUPS_LIMIT or sum(map(bool, (groups, logins, tickets))) != 1:
        raise MalformedRequest("groups, logins or tickets must be given, one of the three")
    if tickets and what not in TICKETED:
        raise MalformedRequest(f"{what} cannot be asked for by ticket")
    request = Request(
        id_,
        what,
        into,
        asked_at,
        groups=groups,
        logins=logins,
        tickets=tickets,
        valid_s=_whole("valid_s", texts.get("valid_s") or str(VALID_S), 1, 86_400),
    )
    if what != "deals" or tickets:
        return request
    low, high = TIME_MS_MIN // 1000, TIME_MS_MAX // 1000
    request = replace(
        request,
        from_s=_whole("from_s", texts.get("from_s", ""), low, high),
        to_s=_whole("to_s", texts.get("to_s", ""), low, high),
    )
    if request.to_s < request.from_s:
        raise MalformedRequest("to_s lies before from_s")
    return request


def _numbers(name: str, texts: Mapping[str, str], limit: int) -> tuple[int, ...]:
    numbers = tuple(_whole(name, part, 1, 2**63 - 1) for part in texts.get(name, "").split(",") if part)
    if len(numbers) > limit:
        raise MalformedRequest(f"more than {limit} {name}")
    return numbers


def _choice(name: str, texts: Mapping[str, str], choices: Mapping[str, T]) -> T:
    choice = choices.get(texts.get(name, ""))
    if choice is None:
        raise MalformedRequest(f"unknown {name} {texts.get(name, '')[:24]!r}")
    return choice


def _whole(name: str, text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise MalformedRequest(f"{name} is not a whole number from {low} to {high}: {text[:24]!r}")
    return int(text)
