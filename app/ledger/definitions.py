"""The SQL that the ledger's tables need beside them: functions, triggers, grants.

They are repeatable: after every migration the files are run as they stand, in place of what the database has. A migration
changes tables only; a function or trigger is changed in its file. Run as the owner.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

_FOLDER = Path(__file__).parent / "sql"


def sql_files() -> list[Path]:
    """The files in the order they are to be run. Running them again changes nothing."""
    return sorted(_FOLDER.glob("[0-9]*.sql"))


def drop_file() -> Path:
    """The file that takes back what `sql_files` made."""
    return _FOLDER / "drop.sql"


def install(connection: Connection) -> None:
    """Run all of `sql_files` in the connection's transaction. The schema and its tables must be there."""
    for path in sql_files():
        _run(connection, path)


def uninstall(connection: Connection) -> None:
    """Run `drop_file` in the connection's transaction. A database without the schema is left alone."""
    if connection.scalar(text("SELECT to_regnamespace('ledger')")) is not None:
        _run(connection, drop_file())


def _run(connection: Connection, path: Path) -> None:
    # Without parameters the driver neither reads the percent signs of RAISE as placeholders nor splits statements.
    connection.execution_options(no_parameters=True).exec_driver_sql(path.read_text(encoding="utf-8"))
