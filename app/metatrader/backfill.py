"""Where a sweep and a check read what a server has: its own API, or a database that it exports to (mt_server.backfill)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from heapq import merge
from typing import Protocol, TypeVar, runtime_checkable

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from app.core.clock import now
from app.metatrader.errors import NotKnown
from app.metatrader.platform import AccountState, Deal, Order, Position, TradingPlatform
from app.metatrader.sources.exports import ExportDatabase
from app.models.metatrader import Product, TradingAccount

#: How much time one call asks for at first. It grows while answers are small and shrinks when they are large, so that a
#: day of millions of deals passes through in pieces.
FIRST_SPAN, SHORTEST_SPAN, LONGEST_SPAN = timedelta(minutes=15), timedelta(minutes=1), timedelta(days=90)
FEW_DEALS, MANY_DEALS = 2_000, 10_000
#: Masks travel in addresses.
LONGEST_MASK = 1_000

T = TypeVar("T")


class BackfillSource(Protocol):
    """What a server has, of the groups that are ours. Errors are those of app.metatrader.errors."""

    def deals(self, since: datetime, until: datetime) -> Iterator[Deal]:
        """Deals by ticket, as far as later deals have higher tickets. The range is UTC, both ends included; around a clock
        change it may give more.
        """

    def accounts(self) -> Iterator[AccountState]:
        """All logins."""

    def positions(self) -> Iterator[Position]:
        """All open positions."""

    def orders(self) -> Iterator[Order]:
        """All open orders."""


class Witness(Protocol):
    """Who can be asked for single things of a server: its API, or its bridge. What a list did not show is asked for alone
    before it is believed gone. NotKnown where the server has no such thing.
    """

    def get_account(self, login: int) -> AccountState: ...

    def deal(self, ticket: int) -> Deal: ...

    def deals(self, login: int, since: datetime, until: datetime) -> list[Deal]: ...

    def positions(self, login: int) -> list[Position]: ...

    def order(self, ticket: int) -> Order:
        """Open or done."""


@runtime_checkable
class HasWitness(Protocol):
    """An ability that a source may have: what it can be asked for alone needs no other way to the server."""

    @property
    def witness(self) -> Witness: ...


class PlatformBackfill:
    """The server's own API, asked for as many groups at once as one call may name."""

    def __init__(self, platform: TradingPlatform, groups: Sequence[str]) -> None:
        self._platform = platform
        self._masks = list(_joined(groups))
        self._span = FIRST_SPAN

    def deals(self, since: datetime, until: datetime) -> Iterator[Deal]:
        """As BackfillSource.deals, a piece of the range at a time."""
        start, before = since, set[int]()
        while True:
            end = min(start + self._span, until)
            tickets = set[int]()
            for deal in merge(*(self._platform.deals_by_group(mask, start, end) for mask in self._masks), key=_ticket):
                # Both ends of a piece belong to it, and masks may overlap.
                if deal.ticket not in before and deal.ticket not in tickets:
                    yield deal
                tickets.add(deal.ticket)
            if end >= until:
                return
            start, before = end, tickets
            if len(tickets) < FEW_DEALS:
                self._span = min(self._span * 2, LONGEST_SPAN)
            elif len(tickets) > MANY_DEALS:
                self._span = max(self._span / 2, SHORTEST_SPAN)

    def accounts(self) -> Iterator[AccountState]:
        return _once((state.login, state) for mask in self._masks for state in self._platform.accounts(mask))

    def positions(self) -> Iterator[Position]:
        return _once((one.ticket, one) for mask in self._masks for one in self._platform.positions_by_group(mask))

    def orders(self) -> Iterator[Order]:
        return _once((one.ticket, one) for mask in self._masks for one in self._platform.orders_by_group(mask))


def witness_of(source: BackfillSource, platform: TradingPlatform) -> Witness:
    """Whom to ask for single things: the source itself where it can tell, the server's API otherwise."""
    return source.witness if isinstance(source, HasWitness) else platform


def is_gone(witness: Witness, ticket: int, login: int) -> bool:
    """Whether the server has this deal no more. Not so for one that it does not show: of an archived login, or of one that
    our manager account may not see.
    """
    try:
        witness.deal(ticket)
    except NotKnown:
        pass
    else:
        return False
    try:
        witness.get_account(login)
    except NotKnown:
        return False
    return True


def asked_now(source: BackfillSource) -> datetime | None:
    """The present moment, where the server itself answers: then what it says holds. None for a copy, which may lag behind."""
    return None if isinstance(source, ExportDatabase) else now()


def our_groups(session: Session, server_id: int) -> list[str]:
    """The groups at a server that concern us: those of its products, and those that our accounts are in now."""
    of_products = select(Product.group).where(Product.server_id == server_id)
    of_accounts = select(TradingAccount.group).where(TradingAccount.server_id == server_id, TradingAccount.group != "")
    return sorted(session.scalars(union(of_products, of_accounts)))


def _joined(groups: Sequence[str]) -> Iterator[str]:
    """The groups as few masks. One that takes groups out again stands alone: it would take them from its neighbours, too."""
    mask = ""
    for group in groups:
        if "!" in group:
            yield group
        elif mask and len(mask) + len(group) < LONGEST_MASK:
            mask += f",{group}"
        else:
            if mask:
                yield mask
            mask = group
    if mask:
        yield mask


def _ticket(deal: Deal) -> int:
    return deal.ticket


def _once(keyed: Iterable[tuple[int, T]]) -> Iterator[T]:
    """What masks that overlap give twice, once."""
    seen = set[int]()
    for key, item in keyed:
        if key not in seen:
            seen.add(key)
            yield item
