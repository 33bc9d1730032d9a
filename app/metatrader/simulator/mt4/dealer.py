"""The dealer of the MT4 double who, when that fault is on, changes or deletes closed rows some seconds after their close."""

from __future__ import annotations

from app.metatrader import mt4
from app.metatrader.simulator.dealer import CORRECTION, AnyDealer, corrected
from app.metatrader.simulator.mt4.engine import MT4Engine


class Dealer(AnyDealer):
    """The one of an MT4 server: a deal is a row's."""

    def __init__(self, engine: MT4Engine) -> None:
        super().__init__(engine.journal, engine.clock)
        self._engine = engine

    def delete(self, ticket: int) -> None:
        self._engine.delete(mt4.order_of_ticket(ticket))

    def edit(self, ticket: int) -> None:
        row = self._engine.trade(mt4.order_of_ticket(ticket))
        price = corrected(row.close_price, row.digits)
        self._engine.edit(row.order, close_price=price, profit=row.profit + CORRECTION)
