from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.server_home import find_home
from tests.conftest import Database


@pytest.fixture
def superuser(database: Database, base_settings: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session of the database server's superuser, whom no right and no trigger stops."""
    password = find_home(_servers_dir(tmp_path_factory)).passwords()["postgres"]
    url = make_url(database.settings.database_owner_url).set(username="postgres", password=password)
    engine = create_engine(url)
    with Session(engine) as session:
        yield session
    engine.dispose()


def _servers_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests/conftest.py keeps the servers of this test process."""
    (found,) = tmp_path_factory.getbasetemp().glob("servers[0-9]*")
    return found
