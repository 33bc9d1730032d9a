"""Many at once: ids as one parameter of a statement, items in parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from sqlalchemy import ARRAY, BigInteger, ColumnElement, any_, literal

T = TypeVar("T")


def any_of(ids: Collection[int]) -> ColumnElement[int]:
    """What a column equals when it is one of these. IN would make a parameter of each, and PostgreSQL takes 65,535."""
    return any_(literal(list(ids), ARRAY(BigInteger)))  # type: ignore[return-value]  # an array's elements, not a value


def in_parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of a size."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
