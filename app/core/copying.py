"""Rows on their way into the database, thousands at a time, by COPY."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

#: A column without a value.
NULL = r"\N"

#: So many lines go to the database at once: it works on them while the next are written.
_LINES_AT_ONCE = 100
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def copy(session: Session, table: str, columns: Sequence[str], lines: Iterator[str]) -> None:
    """Append lines, their values separated by tabs, to a table in the session's transaction.

    Errors are SQLAlchemy's, as those of its own statements.
    """
    part = "".join(islice(lines, _LINES_AT_ONCE))
    if not part:
        return
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copying:
            while part:
                copying.write(part)
                part = "".join(islice(lines, _LINES_AT_ONCE))
    except psycopg.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg.Error) from error


def escaped(words: str) -> str:
    """Any text as a value of a line."""
    return words.translate(_ESCAPES) if _SPECIAL.search(words) else words
