"""Typed errors: words with values, and what database errors become."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.core import errors
from app.core.errors import AppError, InvalidInput, NotFound


class Full(AppError):
    code = "test.full"
    message = "There is room for %(most)s only."


def database_error(sqlstate: str | None = None, constraint: str | None = None) -> DBAPIError:
    original = SimpleNamespace(sqlstate=sqlstate, diag=SimpleNamespace(constraint_name=constraint))
    return IntegrityError("INSERT", {}, original)


@pytest.fixture(autouse=True)
def _own_mappings(monkeypatch):
    monkeypatch.setattr(errors, "_BY_SQLSTATE", {})
    monkeypatch.setattr(errors, "_BY_CONSTRAINT", {})


def test_the_message_carries_its_values():
    error = Full(most=3)
    assert (str(error), error.data, error.http_status) == ("There is room for 3 only.", {"most": 3}, 400)
    assert str(Full("Else: %(most)s", most=4)) == "Else: 4"
    assert str(Full()) == "There is room for %(most)s only."


def test_input_names_all_its_problems():
    assert InvalidInput({"a": "x", "b": "y"}).problems == {"a": "x", "b": "y"}
    assert InvalidInput().problems == {}


def test_database_errors_become_the_ones_they_are_mapped_to():
    errors.map_sqlstate("LG002", Full)
    errors.map_constraint("sufficient_funds", NotFound)
    assert isinstance(errors.typed(database_error("LG002")), Full)
    assert isinstance(errors.typed(database_error("23514", "sufficient_funds")), NotFound)
    assert isinstance(errors.typed(database_error("LG002", "sufficient_funds")), NotFound)  # the more exact one wins
    assert errors.typed(database_error("23505", "uq_else")) is None
    assert errors.typed(DBAPIError("X", {}, Exception("no such attributes"))) is None
