"""A whole day of deals out of an SQL export on PostgreSQL, as lines of COPY: no object is made for a deal.

For the daily check, which compares millions of deals of which a few differ. Other database servers give records.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import psycopg

from app.metatrader.sources import SourceError
from app.metatrader.sources import sql_tables as tables
from app.metatrader.sources.sql_export import SQLExport

#: The columns that a check compares, in its order (compare.COMPARED, behind the ticket).
_FIELDS: tables.Wanted = (
    ("whole", "Deal"),
    ("whole", "Login"),
    ("whole", "Action"),
    ("whole", "Entry"),
    ("whole", "Order"),
    ("whole", "PositionID"),
    ("volume", "Volume"),
    ("number", "Price"),
    ("number", "Profit"),
    ("number", "Storage"),
    ("number", "Commission"),
    ("number", "Fee"),
    ("moment", "Time"),
    ("text", "Symbol"),
    ("text", "Comment"),
)


class CopyingSQLExport(SQLExport):
    """The export, which can also give a day's deals as lines."""

    def deal_lines(self, day: date) -> Iterator[bytes | bytearray | memoryview] | None:
        """The compared columns of all deals of a day of the server's clock, one line each; None where only records can be had.

        Raises SourceError on the way when the database stops answering.
        """
        return self._lines(day) if self._engine.dialect.name == "postgresql" else None

    def _lines(self, day: date) -> Iterator[bytes | bytearray | memoryview]:
        first = datetime(day.year, day.month, day.day)  # noqa: DTZ001  # the export's times are a wall clock's
        for table in self._look().deals:
            if table.year in (0, day.year):
                yield from self._copied(table, first, first + timedelta(days=1))

    def _copied(self, table: tables.Table, first: datetime, last: datetime) -> Iterator[bytes | bytearray | memoryview]:
        moment = table.time("Time")
        where = tables.Condition(f"{moment} >= %(first)s AND {moment} < %(last)s", {"first": first, "last": last})
        where &= self._of_groups(table)
        names = ", ".join(f"f{place}" for place in range(len(_FIELDS)))
        # A double's noise behind its meaning goes with the cast.
        exact = ", ".join(
            f"CAST(f{place} AS numeric)" if kind == "number" else f"f{place}" for place, (kind, *_) in enumerate(_FIELDS)
        )
        statement = (
            f"COPY (SELECT {exact} FROM (SELECT {table.fields(_FIELDS)} FROM {table.sql} WHERE {where.sql})"  # noqa: S608  # names as the database told them, values as parameters
            f" AS deals ({names})) TO STDOUT"
        )
        with self._reading() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            try:
                with driver.cursor() as cursor, cursor.copy(statement, where.values) as copy:
                    yield from copy
            except psycopg.Error as error:
                raise SourceError(f"the SQL export's database: {type(error).__name__}") from error
