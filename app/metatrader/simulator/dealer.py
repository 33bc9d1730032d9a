"""The dealer who, when that fault is on, changes or deletes deals some seconds after they were made."""

from __future__ import annotations

import heapq
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from app.metatrader.platform import Deal
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.exchange import Exchange
from app.metatrader.simulator.journal import Journal

log = logging.getLogger("lotwise.simulator")

#: By how much an edited deal's profit and price change.
CORRECTION = Decimal("1.00")
CORRECTION_POINTS = 3


class AnyDealer(ABC):
    """Listens to new deals; `act` does what is due. Which deals, and what, comes from the seed."""

    def __init__(self, journal: Journal, clock: Callable[[], datetime]) -> None:
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._planned: list[tuple[datetime, int, str]] = []
        journal.on_deal = self._notice

    @abstractmethod
    def edit(self, ticket: int) -> None:
        """Correct a deal's price and profit. May raise Refused."""

    @abstractmethod
    def delete(self, ticket: int) -> None:
        """Take a deal away. May raise Refused."""

    def act(self) -> None:
        """Edit and delete the deals whose time has come."""
        now = self._clock()
        while True:
            with self._lock:
                if not self._planned or self._planned[0][0] > now:
                    return
                _, ticket, what = heapq.heappop(self._planned)
            try:
                (self.delete if what == "delete" else self.edit)(ticket)
            except Refused as error:
                log.debug("dealer: deal=%d %s refused=%d", ticket, what, error.retcode)

    def _notice(self, deal: Deal) -> None:
        """Only trades that closed something: what the dealer does to them moves money, and no position hangs on them."""
        if not deal.closes:
            return
        plan = self._journal.faults.dealer(deal.ticket)
        if plan:
            what, after_s = plan
            with self._lock:
                heapq.heappush(self._planned, (self._clock() + timedelta(seconds=after_s), deal.ticket, what))


class Dealer(AnyDealer):
    """The one of an MT5 server."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.journal, exchange.clock)
        self._exchange = exchange

    def delete(self, ticket: int) -> None:
        self._exchange.delete_deal(ticket)

    def edit(self, ticket: int) -> None:
        deal = self._exchange.store.deal(ticket)
        if deal is None:
            raise Refused(13)
        self._exchange.edit_deal(ticket, price=corrected(deal.price, deal.digits), profit=deal.profit + CORRECTION)


def corrected(price: Decimal, digits: int) -> Decimal:
    """The price that a dealer writes in this one's stead."""
    return price + Decimal(CORRECTION_POINTS).scaleb(-digits)
