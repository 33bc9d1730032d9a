"""Many ids as one parameter of a statement."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ARRAY, BigInteger, ColumnElement, any_, literal


def any_of(ids: Collection[int]) -> ColumnElement[int]:
    """What a column equals when it is one of these. IN would make a parameter of each, and PostgreSQL takes 65,535."""
    return any_(literal(list(ids), ARRAY(BigInteger)))  # type: ignore[return-value]  # an array's elements, not a value
