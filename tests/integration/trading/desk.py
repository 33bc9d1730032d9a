"""Booking without a trading server: one server's row, accounts, and what a source would report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.metatrader import booking
from app.metatrader.booking import DealReport
from app.metatrader.servertime import server_zone
from app.models.clients import Client
from app.models.metatrader import Deal, Product, Server, TradingAccount
from tests.unit.metatrader.samples import DEAL

ACTOR = Actor.system("test")
ZONE = server_zone("GMT+2/EU")
NUMBERS = count(1)


@dataclass
class Desk:
    """What the tests act with; `heard` and `answered` make reports of a deal as of some seconds after the beginning."""

    session: Session
    server_id: int
    client_id: int
    product_id: int
    began_at: datetime

    def at(self, seconds: float) -> datetime:
        return self.began_at + timedelta(seconds=seconds)

    def heard(self, seconds: float, deal=DEAL, *, deleted: bool = False) -> DealReport:
        """A message of a stream."""
        moment = ZONE.to_utc(deal.server_time_ms)
        return DealReport(deal, moment.utc, moment.utc_offset_min, deleted, self.at(seconds))

    def answered(self, seconds: float, deal=DEAL) -> DealReport:
        """The server's answer to a question."""
        moment = ZONE.to_utc(deal.server_time_ms)
        return DealReport(deal, moment.utc, moment.utc_offset_min, seen_at=self.at(seconds), is_answer=True)

    def book(self, *reports: DealReport) -> booking.Booked:
        with unit_of_work(self.session, ACTOR) as unit:
            booking.lock_server(self.session, self.server_id)
            return booking.book_deals(unit, self.server_id, list(reports))

    def deals(self) -> list[Deal]:
        self.session.expire_all()
        return list(self.session.scalars(select(Deal).order_by(Deal.ticket, Deal.revision)))

    def events(self, type_: str) -> list[dict]:
        rows = select(Event.payload).where(Event.type == type_).order_by(Event.id)
        return list(self.session.scalars(rows))

    def add_account(self, login: int = DEAL.login, status: str = "active") -> TradingAccount:
        with unit_of_work(self.session, ACTOR):
            account = TradingAccount(
                client_id=self.client_id, product_id=self.product_id, server_id=self.server_id, login=login, currency="USD",
                leverage=100, status=status, token=f"A-{next(NUMBERS):013d}", opened_at=now(),
            )  # fmt: skip
            self.session.add(account)
        return account


@pytest.fixture
def desk(session: Session) -> Desk:
    with unit_of_work(session, ACTOR):
        server = Server(
            code="sim", name="Sim", platform="mt5_web", url="https://localhost", manager_login=1, time_zone="GMT+2/EU"
        )
        client = Client(
            email="elena@example.com", password_hash="x", first_name="Elena", last_name="Rossi", country="IT",
            status="approved", terms_version="1", terms_accepted_at=now(),
        )  # fmt: skip
        session.add_all([server, client])
        session.flush()
        product = Product(code="std", name="std", server_id=server.id, group=r"real\std\usd", currency="USD", leverages=[100])
        session.add(product)
    return Desk(session, server.id, client.id, product.id, now() - timedelta(minutes=10))
