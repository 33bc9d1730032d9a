"""One proof: how it is run as one statement, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

from sqlalchemy import ColumnElement, Select, Text, column, func, literal_column, select, text
from sqlalchemy.orm import Session

#: Of many breaks the first ones are named; all are counted.
NAMED_MOST = 200


@dataclass(frozen=True)
class Proof:
    """What one proof found: rows compared, a text with ids per break (the first ones), how many breaks, seconds it took."""

    name: str
    compared: int
    breaks: tuple[str, ...]
    seconds: float
    break_count: int
    error: str = ""

    @property
    def code(self) -> str:
        """P1 to P9."""
        return self.name.partition(" ")[0]

    @property
    def holds(self) -> bool:
        return self.break_count == 0

    def with_breaks(self, *more: str) -> Proof:
        """The same with further breaks."""
        named = (*self.breaks, *more)[:NAMED_MOST]
        return replace(self, breaks=named, break_count=self.break_count + len(more))


def compare(session: Session, name: str, *, compared: str | ColumnElement[int], broken: str | Select[tuple[str]]) -> Proof:
    """Run a proof as one statement, so that it sees one moment.

    `compared` is a scalar: how many rows are compared. `broken` selects one column `words`: each break as a text with ids.
    """
    started = perf_counter()
    found = (text(broken).columns(column("words", Text)) if isinstance(broken, str) else broken).cte("broken")
    named = select(found.c.words).order_by(found.c.words).limit(NAMED_MOST)
    count, break_count, breaks = session.execute(
        select(
            literal_column(f"({compared})") if isinstance(compared, str) else compared,
            select(func.count()).select_from(found).scalar_subquery(),
            func.array(named.scalar_subquery()),
        )
    ).one()
    return Proof(name, int(count), tuple(breaks), perf_counter() - started, int(break_count))


def found(name: str, compared: int, breaks: list[str], started: float) -> Proof:
    """A proof that was made in several steps since `started` (perf_counter)."""
    return Proof(name, compared, tuple(breaks[:NAMED_MOST]), perf_counter() - started, len(breaks))


def could_not_run(name: str, error: BaseException, started: float) -> Proof:
    """A proof that broke off: it shows nothing, so it does not hold."""
    kind = type(error).__name__
    return Proof(name, 0, (f"could not be run: {kind}",), perf_counter() - started, 1, error=kind)
