"""Alembic's entry: one transaction per revision, with lock and statement time-outs, one migrating process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

import app.models
from app.core.orm import Model
from app.metatrader.months import is_partition

LOCK_KEY = 7_201_00


def include_object(thing, name, type_, reflected, compare_to):
    """Leave out what migrations do not own: Alembic's table, and the months of deals. Flask-AppBuilder's tables are ours."""
    return not (type_ == "table" and (name == "alembic_version" or is_partition(name)))


def run() -> None:
    engine = create_engine(context.config.attributes["owner_url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.execute(text("SET statement_timeout = '60s'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Model.metadata,
            include_schemas=True,
            include_name=lambda name, type_, _parents: type_ != "schema" or name in (None, "ledger"),
            include_object=include_object,
            compare_server_default=False,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
