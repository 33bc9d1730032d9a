"""Changes between two looks at everything that is open: what an interface without events is asked for again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from app.metatrader.errors import NotKnown
from app.metatrader.platform import AccountState, Order, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.sources import Told


class PositionSnapshot:
    """Open positions as they were last seen; at first those that our own tables hold.

    A position counts as closed when `looks` looks in a row did not show it: more than one where a look may be incomplete.
    """

    def __init__(self, held: Iterable[Position], zone: ServerZone, looks: int = 1) -> None:
        self._seen = {position.ticket: position for position in held}
        self._missed: dict[int, int] = {}
        self._zone = zone
        self._looks = looks

    def compare(self, present: Iterable[Position], at: datetime) -> list[Told]:
        """What changed since the last look, the closed ones last."""
        news: list[Told] = []
        shown = {position.ticket: position for position in present}
        for ticket, position in shown.items():
            before = self._seen.get(ticket)
            if before != position:
                news.append(Told("add" if before is None else "update", position, at))
        missing = {ticket: self._missed.get(ticket, 0) + 1 for ticket in self._seen.keys() - shown.keys()}
        closed = sorted(ticket for ticket, times in missing.items() if times >= self._looks)
        news += [Told("delete", self.closed(self._seen[ticket], self._zone.wall_ms(at)), at) for ticket in closed]
        self._missed = {ticket: times for ticket, times in missing.items() if times < self._looks}
        self._seen = shown | {ticket: self._seen[ticket] for ticket in self._missed}
        return news

    @staticmethod
    def closed(position: Position, wall_ms: int) -> Position:
        """The position as its deletion tells it: as it last stood, at the moment at which it was seen no more."""
        return replace(position, update_ms=max(position.update_ms, wall_ms))


class OrderSnapshot:
    """Open orders as they were last seen; at first those that our own tables hold.

    `ask` says of one that is not shown any more what became of it, and raises NotKnown where the server has it no more; so
    many are asked for after one look, the others after the next.
    """

    MOST_ASKED = 100

    def __init__(self, held: Iterable[Order], ask: Callable[[int], Order]) -> None:
        self._seen = {order.ticket: order for order in held}
        self._ask = ask

    def compare(self, present: Iterable[Order], at: datetime) -> list[Told]:
        """What changed since the last look, the closed ones last."""
        news: list[Told] = []
        shown = {order.ticket: order for order in present}
        for ticket, order in shown.items():
            before = self._seen.get(ticket)
            if before != order:
                news.append(Told("add" if before is None else "update", order, at))
        missing = sorted(self._seen.keys() - shown.keys())
        news += [self._closed(self._seen[ticket], at) for ticket in missing[: self.MOST_ASKED]]
        self._seen = shown | {ticket: self._seen[ticket] for ticket in missing[self.MOST_ASKED :]}
        return news

    def _closed(self, order: Order, at: datetime) -> Told:
        """What became of it: done, or deleted. Still open, it has only left our sight, and is told as it is."""
        try:
            return Told("update", self._ask(order.ticket), at)
        except NotKnown:
            return Told("delete", order, at)


class AccountSnapshot:
    """Account states as they were last told."""

    def __init__(self) -> None:
        self._told: dict[int, AccountState] = {}

    def compare(self, present: Iterable[AccountState], at: datetime) -> list[Told]:
        """The states that are new or other than before."""
        changed = [state for state in present if self._told.get(state.login) != state]
        self._told.update({state.login: state for state in changed})
        return [Told("state", state, at) for state in changed]
