"""Shared fixtures: each test process has its own PostgreSQL and Valkey, a migrated template database, and fast isolation.

`session` rolls everything back (deferred constraints are judged first, which a rollback alone would skip); `database` is a
clone of the template with real commits, for races, jobs and pages.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, sync_playwright
from psycopg.pq import TransactionStatus
from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app import create_app, embedded, migrate
from config import Settings, load_settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_clone_numbers = itertools.count(1)


#: A test's own way round the rights of the application's role; see `tamper`.
TAMPER = """
    CREATE SCHEMA tests;
    CREATE FUNCTION tests.tamper(statement text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public
        AS 'BEGIN EXECUTE statement; END';
    GRANT USAGE ON SCHEMA tests TO lotwise_app;
"""


def tamper(session: Session, statement: str) -> None:
    """Do, in the session's transaction, what only the owner of the tables may: a past that a test needs, or a forgery."""
    session.flush()
    session.execute(text("SELECT tests.tamper(:statement)"), {"statement": statement})
    session.expire_all()


def _named(url: str, name: str) -> str:
    """The address of another database on the same server."""
    head, _, query = url.partition("?")
    return head.rsplit("/", 1)[0] + "/" + name + ("?" + query if query else "")


@pytest.fixture(scope="session")
def base_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of this test process, on servers of its own."""
    running = embedded.start(tmp_path_factory.mktemp("servers"), durable=False)
    try:
        yield load_settings(
            {
                "LOTWISE_ENV": "test",
                "LOTWISE_VAR": str(tmp_path_factory.mktemp("var")),
                "DATABASE_URL": running.database_url,
                "DATABASE_OWNER_URL": running.database_owner_url,
                "REDIS_URL": running.redis_url,
                "SECRET_KEY": "test-" + "k" * 40,
                "DOCUMENT_KEY": "11" * 32,
                "STRIPE_SECRET_KEY": "sk_test_0123456789",
                "STRIPE_WEBHOOK_SECRET": "whsec_0123456789",
                "MT5_PASSWORD": "Mt5#Manager1",
            }
        )
    finally:
        running.stop()


@pytest.fixture(scope="session")
def template(base_settings: Settings) -> Settings:
    """Settings whose database is migrated; never written to, only cloned or rolled back."""
    migrate.upgrade(base_settings)
    engine = create_engine(base_settings.database_owner_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(TAMPER)
    engine.dispose()
    return base_settings


@pytest.fixture(scope="session")
def _rollback_engine(template: Settings) -> Iterator[Engine]:
    engine = create_engine(_named(template.database_url, _clone(template)))
    yield engine
    engine.dispose()


def _clone(template: Settings) -> str:
    """Make a database from the template; returns its name."""
    name = f"clone_{next(_clone_numbers)}"
    source = template.database_url.partition("?")[0].rsplit("/", 1)[1]
    engine = create_engine(_named(template.database_owner_url, "postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY FILE_COPY'))
    engine.dispose()
    return name


@pytest.fixture
def session(_rollback_engine: Engine) -> Iterator[Session]:
    """A session of the application's role. Code under test may commit; all of it is gone after the test."""
    with _rollback_engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
            # A rollback would skip the deferred triggers of what the test has not committed.
            if connection.connection.driver_connection.info.transaction_status == TransactionStatus.INTRANS:
                session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
            session.rollback()
        if outer.is_active:
            try:
                connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
            finally:
                outer.rollback()


@dataclass
class Database:
    """A database of one test, with real commits."""

    settings: Settings
    _engines: dict[str, Engine] = field(default_factory=dict)

    def session(self) -> Session:
        """A new session of the application's role; close it, or use it as a context manager."""
        return Session(self._engine(self.settings.database_url))

    def owner_session(self) -> Session:
        return Session(self._engine(self.settings.database_owner_url))

    def _engine(self, url: str) -> Engine:
        if url not in self._engines:
            self._engines[url] = create_engine(url, pool_size=20, max_overflow=20)
        return self._engines[url]

    def dispose(self) -> None:
        for engine in self._engines.values():
            engine.dispose()


@pytest.fixture
def database(template: Settings, tmp_path: Path) -> Iterator[Database]:
    """A fresh clone of the migrated template, dropped after the test."""
    name = _clone(template)
    settings = replace(
        template,
        database_url=_named(template.database_url, name),
        database_owner_url=_named(template.database_owner_url, name),
        var_dir=tmp_path,
        documents_dir=tmp_path / "documents",
    )
    made = Database(settings)
    yield made
    made.dispose()
    engine = create_engine(_named(template.database_owner_url, "postgres"), isolation_level="AUTOCOMMIT")
    # Forcing would end autovacuum's processes too, which the owner may not. What cannot be dropped goes with the server.
    with suppress(OperationalError), engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}"'))
    engine.dispose()


@pytest.fixture
def settings(database: Database) -> Settings:
    return database.settings


@pytest.fixture
def redis(base_settings: Settings) -> Iterator[Redis]:
    """A client of an empty Valkey."""
    client = Redis.from_url(base_settings.redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def app(database: Database, redis: Redis) -> Iterator[Flask]:
    """The web application on this test's database."""
    from app.extensions import db

    made = create_app(database.settings)
    made.config["TESTING"] = True
    yield made
    with made.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium per test process: Playwright takes one at a time."""
    if not CHROMIUM:
        pytest.fail("CI has no chromium")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        yield made
        made.close()
