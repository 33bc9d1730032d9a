"""Migrations: models and migrations agree, and every revision goes down and up again on data."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

import app.models  # noqa: F401  declares all tables
from app import migrate
from app.core.orm import Model
from app.metatrader.months import is_partition


def test_models_and_migrations_agree(database):
    with database.owner_session() as session:
        context = MigrationContext.configure(
            session.connection(),
            opts={
                "include_schemas": True,
                "include_name": lambda name, type_, _parents: type_ != "schema" or name in (None, "ledger"),
                "include_object": lambda _thing, name, type_, *_: (
                    type_ != "table" or (name != "alembic_version" and not is_partition(name))
                ),
            },
        )
        assert compare_metadata(context, Model.metadata) == []


def test_down_and_up_again_on_data(database):
    with database.owner_session() as session:
        session.execute(
            text(
                "INSERT INTO client (email, password_hash, first_name, last_name, country, terms_version, terms_accepted_at)"
                " VALUES ('a@b.example', 'x', 'A', 'B', 'DE', '1', now())"
            )
        )
        session.execute(text("INSERT INTO event (type, actor) VALUES ('client.registered', 'system:test')"))
        session.commit()
    database.dispose()
    migrate.downgrade(database.settings, "base")
    with database.owner_session() as session:
        assert session.execute(text("SELECT to_regclass('client')")).scalar() is None
        assert session.execute(text("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace")).scalar() == 0
    migrate.upgrade(database.settings)
    present, newest = migrate.revisions(database.settings)
    assert present == newest
