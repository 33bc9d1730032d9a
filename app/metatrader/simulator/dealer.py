"""The dealer who, when that fault is on, changes or deletes deals some seconds after they were made."""

from __future__ import annotations

import heapq
import logging
import threading
from datetime import datetime, timedelta
from decimal import Decimal

from app.metatrader.platform import Deal
from app.metatrader.simulator.exchange import Exchange, Refused

log = logging.getLogger("lotwise.simulator")

#: By how much an edited deal's profit and price change.
CORRECTION = Decimal("1.00")
CORRECTION_POINTS = 3


class Dealer:
    """Listens to new deals; `act` does what is due. Which deals, and what, comes from the seed."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._lock = threading.Lock()
        self._planned: list[tuple[datetime, int, str]] = []
        exchange.journal.on_deal = self._notice

    def act(self) -> None:
        """Edit and delete the deals whose time has come."""
        now = self._exchange.clock()
        while True:
            with self._lock:
                if not self._planned or self._planned[0][0] > now:
                    return
                _, ticket, what = heapq.heappop(self._planned)
            try:
                self._do(ticket, what)
            except Refused as error:
                log.debug("dealer: deal=%d %s refused=%d", ticket, what, error.retcode)

    def _notice(self, deal: Deal) -> None:
        """Only trades that closed something: what the dealer does to them moves money, and no position hangs on them."""
        if not deal.closes:
            return
        plan = self._exchange.journal.faults.dealer(deal.ticket)
        if plan:
            what, after_s = plan
            with self._lock:
                heapq.heappush(self._planned, (self._exchange.clock() + timedelta(seconds=after_s), deal.ticket, what))

    def _do(self, ticket: int, what: str) -> None:
        if what == "delete":
            self._exchange.delete_deal(ticket)
            return
        deal = self._exchange.store.deal(ticket)
        if deal is None:
            raise Refused(13)
        price = deal.price + Decimal(CORRECTION_POINTS).scaleb(-deal.digits)
        self._exchange.edit_deal(ticket, price=price, profit=deal.profit + CORRECTION)
