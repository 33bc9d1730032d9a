"""One server's day of deals beside ours: set against set, in the database.

The server's side is copied into a temporary table as it is read, so that millions of deals pass through in little memory;
one join by ticket then finds what is missing here, what differs and what vanished there. What is compared is what the deal
did: times, prices, amounts, comment; not what only a platform knows of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol, runtime_checkable

import psycopg
from sqlalchemy.orm import Session

from app.core.arrays import in_parts
from app.core.clock import now
from app.core.copying import escaped
from app.metatrader.backfill import BackfillSource
from app.metatrader.platform import Deal
from app.metatrader.servertime import ServerZone

What = Literal["missing", "differs", "vanished"]

DAY_MS = 86_400_000
#: An edit moves a deal within its day at most a little; what moved further is found as missing, by its ticket.
MARGIN = timedelta(hours=2)
LINES_PER_COPY = 20_000
#: So many differences of a kind are kept one by one; more than that nobody looks into one by one.
MOST_KEPT = 10_000

#: Columns of the server's side behind the ticket: those of ours, of the same names.
COMPARED = {
    "login": "bigint",
    "action": "integer",
    "entry": "integer",
    "order_ticket": "bigint",
    "position_ticket": "bigint",
    "volume": "bigint",
    "price": "numeric(20, 8)",
    "profit": "numeric(20, 8)",
    "swap": "numeric(20, 8)",
    "commission": "numeric(20, 8)",
    "fee": "numeric(20, 8)",
    "server_time_ms": "bigint",
    "symbol": "text",
    "comment": "text",
}
_COPIED = ", ".join(("ticket", *COMPARED))

_CREATE = f"CREATE TEMP TABLE deal_there (ticket bigint, {', '.join(f'{name} {kind}' for name, kind in COMPARED.items())})"
_DROP = "DROP TABLE IF EXISTS deal_there"
_ONCE = "DELETE FROM deal_there a USING deal_there b WHERE a.ticket = b.ticket AND a.ctid < b.ctid"
#: A deal that is void because it was deleted is one that the server should not have.
_OURS = f"""
    SELECT ticket, is_void AND action NOT IN (13, 14) AS is_deleted, {", ".join(COMPARED)}
      FROM deal
     WHERE server_id = %(server_id)s AND is_current AND filed_at BETWEEN %(since)s AND %(until)s
       AND server_time_ms BETWEEN %(first_ms)s AND %(last_ms)s AND (%(only)s::bigint IS NULL OR login = %(only)s::bigint)
"""  # noqa: S608  names of our own
_EQUAL = f"({', '.join(f'here.{name}' for name in COMPARED)}) = ({', '.join(f'there.{name}' for name in COMPARED)})"
#: Reads only: a statement that writes would keep the relay from reading events for as long as it runs.
_DIFFERENCES = f"""
    COPY (
        SELECT coalesce(there.ticket, here.ticket), coalesce(there.login, here.login),
               CASE WHEN here.ticket IS NULL THEN 'missing' WHEN there.ticket IS NULL THEN 'vanished' ELSE 'differs' END
          FROM deal_there AS there FULL JOIN ({_OURS}) AS here ON here.ticket = there.ticket
         WHERE here.ticket IS NULL
            OR (there.ticket IS NULL AND NOT here.is_deleted)
            OR (there.ticket IS NOT NULL AND (here.is_deleted OR NOT {_EQUAL}))
    ) TO STDOUT
"""  # noqa: S608  names of our own
#: Filed under another day, because an edit moved it, and the same as at the server.
_FILED_ELSEWHERE = f"""
    SELECT there.ticket
      FROM deal_there AS there
      JOIN deal_head AS head ON head.server_id = %(server_id)s AND head.ticket = there.ticket
      JOIN deal AS here ON here.server_id = %(server_id)s AND here.ticket = head.ticket
                       AND here.revision = head.revision AND here.filed_at = head.filed_at
     WHERE there.ticket = ANY(%(tickets)s) AND NOT here.is_void AND {_EQUAL}
"""  # noqa: S608  names of our own
_COUNT = f"""
    SELECT (SELECT count(*) FROM deal_there), (SELECT count(*) FROM ({_OURS}) AS here WHERE NOT is_deleted)
"""  # noqa: S608  names of our own
_TOTALS = f"""
    SELECT (SELECT count(*) FROM deal_there WHERE login = %(login)s),
           (SELECT coalesce(sum(profit + swap + commission + fee), 0) FROM deal_there WHERE login = %(login)s),
           count(*), coalesce(sum(profit + swap + commission + fee), 0)
      FROM ({_OURS}) AS ours WHERE login = %(login)s AND NOT is_deleted
"""  # noqa: S608  names of our own


Line = bytes | bytearray | memoryview


@runtime_checkable
class DealLines(Protocol):
    """An ability that a backfill source may have: a day's deals as lines of COPY, of the ticket and the columns COMPARED."""

    def deal_lines(self, day: date) -> Iterator[Line] | None:
        """The deals of a day of the server's clock; None where only records can be had."""


@dataclass(frozen=True)
class ServerDay:
    """A day of a server's own clock: in raw server time, and in UTC with some room on both sides."""

    day: date
    first_ms: int
    last_ms: int
    since: datetime
    until: datetime

    @classmethod
    def of(cls, day: date, zone: ServerZone) -> ServerDay:
        first_ms = (day - date(1970, 1, 1)).days * DAY_MS
        last_ms = first_ms + DAY_MS - 1
        return cls(day, first_ms, last_ms, zone.to_utc(first_ms).utc - MARGIN, zone.to_utc(last_ms).utc + MARGIN)

    @property
    def ends_at(self) -> datetime:
        """When the day is over."""
        return self.until - MARGIN

    def holds(self, server_time_ms: int) -> bool:
        return self.first_ms <= server_time_ms <= self.last_ms


@dataclass
class Differences:
    """What two sides differ in. Of each kind the first tickets with their logins, and all of them counted by login."""

    there: int = 0
    here: int = 0
    first: dict[What, dict[int, int]] = field(default_factory=lambda: {"missing": {}, "differs": {}, "vanished": {}})
    by_login: dict[What, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def count(self, what: What) -> int:
        return self.by_login[what].total()

    def add(self, ticket: int, login: int, what: What) -> None:
        if len(self.first[what]) < MOST_KEPT:
            self.first[what][ticket] = login
        self.by_login[what][login] += 1

    def forget(self, what: What) -> None:
        """All of this kind was put right."""
        self.first[what].clear()
        self.by_login[what].clear()

    def drop(self, ticket: int, what: What) -> None:
        """It was looked into, and is none, or none any more."""
        login = self.first[what].pop(ticket)
        self.by_login[what][login] -= 1


@dataclass(frozen=True)
class LoginTotals:
    """Deals of one login on the day and what they did to the account, on both sides."""

    deals_there: int
    sum_there: Decimal
    deals_here: int
    sum_here: Decimal


class DayComparison:
    """The two sides of one day on one connection. Made by `comparing`."""

    def __init__(self, connection: psycopg.Connection, server_id: int, day: ServerDay) -> None:
        self._connection = connection
        self._day = day
        self._values: dict[str, Any] = {
            "server_id": server_id,
            "since": day.since,
            "until": day.until,
            "first_ms": day.first_ms,
            "last_ms": day.last_ms,
            "only": None,
        }

    def read(self, source: BackfillSource) -> None:
        """Copy the server's side in as it is read: in lines, where the source has them, or as records."""
        until = self._values["until"] = min(self._day.until, now())  # what is done while we read is no difference
        lines = source.deal_lines(self._day.day) if isinstance(source, DealLines) else None
        if lines is not None:
            self._copy(lines)
        else:
            self.load(source.deals(self._day.since, until))

    def load(self, deals: Iterable[Deal]) -> None:
        """Copy records in; deals of other days are left out, and what comes twice counts once."""
        day = self._day
        self._copy(_line(deal) for deal in deals if day.holds(deal.server_time_ms))

    def _copy(self, lines: Iterable[Line]) -> None:
        copied = 0
        for part in in_parts(lines, LINES_PER_COPY):
            with self._connection.cursor() as cursor, cursor.copy(f"COPY deal_there ({_COPIED}) FROM STDIN") as copy:
                copy.write(b"".join(part))
            copied += len(part)
        if self._row("SELECT count(DISTINCT ticket) FROM deal_there")[0] != copied:
            self._connection.execute(_ONCE)
        self._connection.execute("ANALYZE deal_there")

    def compare(self, login: int | None = None) -> Differences:
        """All differences, or those of one login when only its deals were loaded."""
        found = Differences()
        self._values["only"] = login
        with self._connection.cursor() as cursor, cursor.copy(_DIFFERENCES, self._values) as copy:
            for line in copy.rows():
                ticket, login, what = line
                found.add(int(ticket), int(login), what)
        for part in in_parts(list(found.first["missing"]), LINES_PER_COPY):
            with self._connection.cursor() as cursor:
                for (ticket,) in cursor.execute(_FILED_ELSEWHERE, {**self._values, "tickets": part}):
                    found.drop(ticket, "missing")
        found.there, found.here = self._row(_COUNT, self._values)
        return found

    def totals_of(self, login: int) -> LoginTotals:
        return LoginTotals(*self._row(_TOTALS, {**self._values, "login": login}))

    def _row(self, statement: str, values: dict[str, Any] | None = None) -> tuple[Any, ...]:
        row = self._connection.execute(statement, values).fetchone()
        assert row is not None
        return row


@contextmanager
def comparing(session: Session, server_id: int, day: ServerDay) -> Iterator[DayComparison]:
    """A comparison on a connection of its own. Its statements commit one by one and are short where they write, so that the
    relay, which waits for older transactions, goes on meanwhile.
    """
    with session.get_bind().engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.execute(_DROP)
        driver.execute(_CREATE)
        driver.execute("SET work_mem = '256MB'")
        try:
            yield DayComparison(driver, server_id, day)
        finally:
            driver.execute("RESET work_mem")
            driver.execute(_DROP)


def _line(deal: Deal) -> bytes:
    """A deal as a line of COPY."""
    return (
        f"{deal.ticket}\t{deal.login}\t{deal.action}\t{deal.entry}\t{deal.order_ticket}\t{deal.position_ticket}"
        f"\t{deal.volume}\t{deal.price!s}\t{deal.profit!s}\t{deal.swap!s}\t{deal.commission!s}\t{deal.fee!s}"
        f"\t{deal.server_time_ms}\t{escaped(deal.symbol)}\t{escaped(deal.comment)}\n"
    ).encode()
