"""Migrations: bring the database to the newest revision, as the owning role."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from app import ROOT
from app.commissions import agreed, payout_statements, publishing, symbol_groups, units
from app.compliance import categories
from app.core import tables
from app.engagement import material, tickets
from app.ledger import definitions
from app.metatrader import months
from app.partners import policy, privacy, tree

if TYPE_CHECKING:
    from config import Settings

LOCK_KEY = 7_201_05

#: Triggers and rights beside the tables; repeatable, in this order.
BESIDE = (
    months.SQL,
    tree.SQL,
    privacy.SQL,
    policy.SQL,
    units.SQL,
    publishing.SQL,
    agreed.SQL,
    payout_statements.SQL,
    symbol_groups.SQL,
    categories.SQL,
    tickets.SQL,
    material.SQL,
)


def configuration(owner_url: str) -> Config:
    """Alembic's configuration for one database; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations").replace("%", "%%"))
    config.attributes["owner_url"] = owner_url
    return config


def upgrade(settings: Settings) -> None:
    """Migrate to the newest revision, and put the functions, triggers and grants beside the tables.

    Two runs at once wait for each other. A database that has everything is only looked at.
    """
    command.upgrade(configuration(settings.database_owner_url), "head")
    with _owner(settings) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        wanted = _fingerprint(settings)
        if connection.scalar(text("SELECT obj_description('ledger'::regnamespace, 'pg_namespace')")) != wanted:
            tables.install_guards(connection)
            definitions.uninstall(connection)
            definitions.install(connection)
            for path in BESIDE:
                connection.execution_options(no_parameters=True).exec_driver_sql(path.read_text(encoding="utf-8"))
            # COMMENT takes no parameters; the fingerprint is hexadecimal.
            connection.execute(text(f"COMMENT ON SCHEMA ledger IS '{wanted}'"))


def downgrade(settings: Settings, revision: str) -> None:
    """Migrate down to a revision; what the revisions above it held is dropped.

    The ledger's functions and triggers go too: the code of that revision puts its own there when it migrates.
    """
    with _owner(settings) as connection:
        definitions.uninstall(connection)
        if connection.scalar(text("SELECT to_regnamespace('ledger')")) is not None:
            # Otherwise the next upgrade takes the database for one that has everything.
            connection.execute(text("COMMENT ON SCHEMA ledger IS NULL"))
    command.downgrade(configuration(settings.database_owner_url), revision)


@contextmanager
def _owner(settings: Settings) -> Iterator[Connection]:
    engine = create_engine(settings.database_owner_url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _fingerprint(settings: Settings) -> str:
    """A hash over the newest revision and the SQL beside it, by which a database tells what it has."""
    head = ScriptDirectory.from_config(configuration(settings.database_owner_url)).get_current_head() or ""
    files = [tables.GUARDS, *definitions.sql_files(), definitions.drop_file(), *BESIDE]
    return hashlib.sha256(b"".join([head.encode(), *(path.read_bytes() for path in files)])).hexdigest()


def revisions(settings: Settings) -> tuple[str | None, str | None]:
    """The database's revision and the newest one in the code."""
    head = ScriptDirectory.from_config(configuration(settings.database_owner_url)).get_current_head()
    engine = create_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision(), head
    finally:
        engine.dispose()
