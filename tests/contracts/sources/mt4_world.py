"""A brokerage on MT4 whose events come out of its report database: the double, source thread, streams and booking, all real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import update

from app.core.uow import unit_of_work
from app.metatrader import mt4
from app.metatrader.mt4 import Cmd, Trade
from app.metatrader.simulator.mt4 import MT4Simulator
from app.models.metatrader import Product
from config import ServerSecrets
from tests.conftest import Database
from tests.contracts.sources.world import OPTIONS, World, business, open_now, own
from tests.integration.trading.house import PASSWORD, SYSTEM, add_client, add_server

SOURCE, GROUP = "mt4_report", "std-usd"
SIZE = Decimal(100_000)


@dataclass
class MT4World(World):
    """What tests act with; tickets of deals and positions are those that rows give."""

    @property
    def rows(self) -> list[Trade]:
        return self.simulator.engine.trades()

    def deals_there(self) -> dict[int, tuple[object, ...]]:
        deals = (deal for row in self.rows for deal in mt4.deals_of(row, SIZE))
        return {deal.ticket: business(deal) for deal in deals} | self.unseen

    def positions_there(self) -> dict[int, tuple[object, ...]]:
        positions = (mt4.position_of(row, SIZE) for row in self.simulator.engine.open_trades())
        return {position.ticket: open_now(position) for position in positions if position}

    def balance_there(self) -> Decimal:
        return self.simulator.engine.login(self.login).balance

    def deposit(self, amount: int = 10_000) -> int:
        row = self.simulator.engine.balance_operation(self.login, Cmd.BALANCE, Decimal(amount), "D-0000000000001")
        return mt4.opening_ticket(row.order)

    def open(self, lots: str = "0.50", side: str = "buy") -> int:
        return self.simulator.engine.open(self.login, "EURUSD", Cmd.BUY if side == "buy" else Cmd.SELL, Decimal(lots)).order

    def close(self, position: int, lots: str | None = None) -> int:
        """The ticket of the closing deal. What is left of a position goes on in a new row, which is meant afterwards."""
        order = self._goes_on.get(position, position)
        self.simulator.engine.close(order, None if lots is None else Decimal(lots))
        self._goes_on[position] = max(row.order for row in self.rows)
        return mt4.closing_ticket(order)

    def place(self, price: Decimal) -> int:
        return self.simulator.engine.place(self.login, "EURUSD", Cmd.BUY_LIMIT, Decimal("0.10"), price).order

    def reprice(self, order: int, price: Decimal) -> None:
        self.simulator.engine.edit(order, open_price=price)

    def cancel(self, order: int) -> None:
        self.simulator.engine.cancel(order)

    def edit(self, ticket: int, **changes: Any) -> None:
        self.simulator.engine.edit(mt4.order_of_ticket(ticket), **changes)

    def delete(self, ticket: int) -> None:
        self.unseen[ticket] = self.deals_there()[ticket]
        self.simulator.engine.delete(mt4.order_of_ticket(ticket))

    def __post_init__(self) -> None:
        self._goes_on: dict[int, int] = {}

    def _answer_hints(self) -> None:
        """The report gives none."""


def build(database: Database, redis: Redis, folder: Path) -> Iterator[MT4World]:
    """A world, until the caller is done with it. The server's bridge is there for commands and tells no events."""
    address = database.settings.database_owner_url
    secrets = ServerSecrets(PASSWORD, str(folder / "ca.pem"), database_url=address)
    settings = replace(database.settings, mt_secrets=(("sim", secrets),))
    simulator = MT4Simulator(state_dir=folder, password=PASSWORD, tick_s=0, report_url=address)
    with simulator, database.session() as session:
        server_id, client_id = add_server(session, simulator), add_client(session)
        world = MT4World(SOURCE, database, session, redis, simulator, settings, server_id)
        world.set(platform="mt4_bridge", events=SOURCE, backfill=SOURCE, options={SOURCE: OPTIONS[SOURCE]})
        with unit_of_work(session, SYSTEM):
            session.execute(update(Product).where(Product.code == "std").values(group=GROUP))
        world.login = simulator.engine.users.add(GROUP, 100, "Main1234!", "Invest1234!", name="Elena Rossi").login
        own(world, client_id)
        yield world
