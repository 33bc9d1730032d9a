"""Asking the Web API again and again: for brokers that have neither a bridge nor any push of their own.

Every round asks for all deals of the groups since the last round, with an overlap, for all open positions and orders and
for all account states, and tells what is other than before. A deal that has left a range in which it stood is asked for by
its ticket before it is told as deleted, and an order that is not open any more for what became of it.

Options (`mt_server.options["poll"]`): `groups` (masks; the groups of our products unless given), `every_s` (10 to 300, 15),
`overlap_s` (60 to 86,400, 600), `first_s` (how far the very first round looks back, a day).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from app.core.clock import now
from app.metatrader.backfill import PlatformBackfill, is_gone
from app.metatrader.errors import PlatformError
from app.metatrader.platform import Deal, TradingPlatform
from app.metatrader.sources import Batch, Place, SourceError, Told, idle
from app.metatrader.sources.snapshot import AccountSnapshot, OrderSnapshot, PositionSnapshot

PER_BATCH = 500
#: A server's clock may run ahead of ours: so far beyond our present a round asks for deals.
AHEAD = timedelta(minutes=5)


class PollSource:
    """One server's groups, asked in rounds over sessions of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._every_s = place.number("every_s", 15, 1, 300)
        self._overlap = timedelta(seconds=place.number("overlap_s", 600, 60, 86_400))
        self._first = timedelta(seconds=place.number("first_s", 86_400, 60, 366 * 86_400))
        self._groups = place.texts("groups", place.groups)
        if not self._groups:
            raise SourceError("no groups to ask for: make a product on this server, or set the option groups")
        self._platform: TradingPlatform = place.connect()
        self._server = PlatformBackfill(self._platform, self._groups)
        self._deals: dict[int, tuple[datetime, Deal]] = {}

    def read(self, stop: threading.Event) -> Iterator[Batch]:
        """One round after another."""
        positions = PositionSnapshot(self._place.held.positions(), self._place.zone)
        orders = OrderSnapshot(self._place.held.orders(), self._platform.order)
        accounts = AccountSnapshot()
        while not stop.is_set():
            began = time.monotonic()
            try:
                yield from self._round(positions, orders, accounts)
            except PlatformError as error:
                raise SourceError(f"the Web API does not answer as it should: {error.code}") from error
            yield from idle(stop, self._every_s - (time.monotonic() - began))

    def close(self) -> None:
        self._platform.close()

    def _round(self, positions: PositionSnapshot, orders: OrderSnapshot, accounts: AccountSnapshot) -> Iterator[Batch]:
        moment = now()
        since = self._since(moment)
        yield from _batches(self._deal_news(list(self._server.deals(since, moment + AHEAD)), since))
        yield Batch(cursors={"deals": moment.isoformat()}, clock_offset_min=self._platform.server_time().utc_offset_min)
        yield from _batches(orders.compare(self._server.orders(), now()))
        yield from _batches(positions.compare(self._server.positions(), now()))
        yield from _batches(accounts.compare(self._server.accounts(), now()))

    def _since(self, moment: datetime) -> datetime:
        told = self._place.cursors.get("deals")
        return (datetime.fromisoformat(told) - self._overlap) if told else moment - self._first

    def _deal_news(self, deals: list[Deal], since: datetime) -> list[Told]:
        """Deals that are new or other than in the last round, and those that are gone."""
        moments = self._place.zone.in_order((deal.server_time_ms for deal in deals), not_before=since)
        present = {deal.ticket: (at.utc, deal) for deal, at in zip(deals, moments, strict=True)}
        news = []
        for ticket, (at, deal) in present.items():
            before = self._deals.get(ticket)
            if before is None or before[1].fingerprint() != deal.fingerprint():
                news.append(Told("update" if before else "add", deal, at))
        for ticket, (at, deal) in self._deals.items():
            if ticket not in present and at >= since and is_gone(self._platform, ticket, deal.login):
                news.append(Told("delete", deal, at))
        self._deals = present
        return news


def _batches(news: list[Told]) -> Iterator[Batch]:
    for start in range(0, len(news), PER_BATCH):
        yield Batch(news[start : start + PER_BATCH])
