"""Migrations: bring the database to the newest revision, as the owning role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from app import ROOT

if TYPE_CHECKING:
    from config import Settings


def configuration(owner_url: str) -> Config:
    """Alembic's configuration for one database; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations").replace("%", "%%"))
    config.attributes["owner_url"] = owner_url
    return config


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Migrate up to a revision. Two runs at once wait for each other."""
    command.upgrade(configuration(settings.database_owner_url), revision)


def downgrade(settings: Settings, revision: str) -> None:
    """Migrate down to a revision; what the revisions above it held is dropped."""
    command.downgrade(configuration(settings.database_owner_url), revision)


def revisions(settings: Settings) -> tuple[str | None, str | None]:
    """The database's revision and the newest one in the code."""
    head = ScriptDirectory.from_config(configuration(settings.database_owner_url)).get_current_head()
    engine = create_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision(), head
    finally:
        engine.dispose()
