"""The SQL that the ledger's tables need beside them: functions, triggers, grants. Migrations run it as the owner."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

_FOLDER = Path(__file__).parent / "sql"


def sql_files() -> list[Path]:
    """The files in the order they are to be run. Running them again brings an older database up to date."""
    return sorted(_FOLDER.glob("[0-9]*.sql"))


def drop_file() -> Path:
    """The file that takes back what `sql_files` made, before the tables are dropped."""
    return _FOLDER / "drop.sql"


def install(connection: Connection) -> None:
    """Run all of `sql_files` in the connection's transaction. The schema and its tables must be there."""
    for path in sql_files():
        _run(connection, path)


def uninstall(connection: Connection) -> None:
    """Run `drop_file` in the connection's transaction."""
    _run(connection, drop_file())


def _run(connection: Connection, path: Path) -> None:
    # Without parameters the driver neither reads the percent signs of RAISE as placeholders nor splits statements.
    connection.execution_options(no_parameters=True).exec_driver_sql(path.read_text(encoding="utf-8"))
