"""The MT4 double's event source: what a change of a row, or of a login, is in canonical events.

A row as it was and as it is gives deals, a position and a pending order each; what differs is told. So nothing that touches
rows has to think of events, and an activation, a partial close or a dealer's edit cannot be told in part.
"""

from __future__ import annotations

from decimal import Decimal

from app.metatrader import mt4
from app.metatrader.mt4 import Login, Trade
from app.metatrader.platform import Deal
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.journal import Journal


class Teller:
    """Call it inside the book's transaction. The account's state is told when the transaction ends."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def row(self, old: Trade | None, new: Trade | None) -> None:
        """Tell what became of a row; None: it was not there, or is no more."""
        self._order(old, new)
        self._deals(old, new)
        self._position(old, new)

    def login(self, shown: Login) -> None:
        self._journal.account(mt4.account_of(shown))

    def _deals(self, old: Trade | None, new: Trade | None) -> None:
        before, after = _deals(old), _deals(new)
        for ticket, deal in after.items():
            if ticket not in before:
                self._journal.deal("add", deal)
            elif before[ticket] != deal:
                self._journal.deal("update", deal)
        for ticket in before.keys() - after.keys():
            self._journal.deal("delete", before[ticket])

    def _position(self, old: Trade | None, new: Trade | None) -> None:
        before = mt4.position_of(old, contract_size(old)) if old else None
        after = mt4.position_of(new, contract_size(new)) if new else None
        if after and after != before:
            self._journal.position("update" if before else "add", after)
        elif before and not after:
            self._journal.position("delete", before)

    def _order(self, old: Trade | None, new: Trade | None) -> None:
        before = mt4.pending_of(old, contract_size(old)) if old else None
        after = mt4.pending_of(new, contract_size(new)) if new else None
        if before and new and new.is_trade:
            after = mt4.order_of(new, contract_size(new))
        if after and after != before:
            self._journal.order("update" if before else "add", after)
        elif before and not after:
            self._journal.order("delete", before)


def contract_size(trade: Trade) -> Decimal:
    """Of the row's symbol; money has none."""
    return INSTRUMENTS[trade.symbol].contract_size if trade.symbol else Decimal(0)


def _deals(trade: Trade | None) -> dict[int, Deal]:
    if trade is None or trade.is_deleted:
        return {}
    return {deal.ticket: deal for deal in mt4.deals_of(trade, contract_size(trade))}
