"""A client with an open account, and the real Stripe connector against the sandbox over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, queries
from app.models.clients import Client
from app.models.metatrader import Product, Server, TradingAccount
from app.models.payments import Deposit
from app.payments import deposits
from app.payments.connectors.stripe import StripeConnector
from app.payments.sandbox import Sandbox
from app.payments.sandbox.payments import Delays
from tests.conftest import Database

SECRET, WEBHOOK_SECRET = "sk_test_made_up", "whsec_made_up"
OFFICER = Actor.staff(1)
OTHER_OFFICER = Actor.staff(2)


@dataclass
class Desk:
    """What the tests of payments act with."""

    database: Database
    session: Session
    connector: StripeConnector
    sandbox: Sandbox
    client_id: int
    account_id: int

    @property
    def client(self) -> Actor:
        return Actor.client(self.client_id)

    def wallet(self) -> queries.Balance:
        self.session.rollback()
        return queries.balance(self.session, chart.client_wallet(self.client_id, "USD"))

    def start(self, amount_minor: int = 100_000, key: str | None = None) -> Deposit:
        started = deposits.start_deposit(
            self.session,
            self.connector,
            client_id=self.client_id,
            amount=Money(amount_minor, "USD"),
            key=key or str(uuid.uuid4()),
            return_url="http://127.0.0.1/done?deposit={deposit}",
            cancel_url="http://127.0.0.1/cancelled",
            actor=self.client,
        )
        return self.session.get_one(Deposit, started.deposit_id)

    def pay(self, deposit: Deposit) -> None:
        """Pay as a client does, on the provider's page."""
        with httpx.Client(trust_env=False) as http:
            answer = http.post(
                deposit.redirect_url,
                data={"number": "4242 4242 4242 4242", "expiry": "12/40", "cvc": "123"},
                headers={"Origin": self.sandbox.url},
            )
        assert answer.status_code == 303, answer.text[:500]

    def settle(self, deposit: Deposit) -> None:
        """Bring a paid deposit into the wallet by asking the provider."""
        outcome = self.connector.fetch_deposit(deposit.provider_reference)
        with unit_of_work(self.session, Actor.system("test")) as unit:
            deposits.apply_outcome(unit, self.session.get_one(Deposit, deposit.id, with_for_update=True), outcome)

    def settled(self, amount_minor: int = 100_000) -> Deposit:
        deposit = self.start(amount_minor)
        self.pay(deposit)
        self.settle(deposit)
        return deposit


def add_client(session: Session, mail: str = "elena@example.com") -> int:
    with unit_of_work(session, Actor.system("test")):
        client = Client(
            email=mail, password_hash="x", first_name="Elena", last_name="Rossi", country="IT", status="approved",
            terms_version="1", terms_accepted_at=now(),
        )  # fmt: skip
        session.add(client)
        session.flush()
        return client.id


def add_account(session: Session, client_id: int, login: int = 5001, balance: int = 0) -> int:
    with unit_of_work(session, Actor.system("test")):
        server = Server(
            code="sim", name="Sim", platform="mt5_web", url="https://127.0.0.1:1", manager_login=1000, time_zone="EET"
        )
        session.add(server)
        session.flush()
        product = Product(
            code="std", name="Standard", server_id=server.id, group=r"real\std\usd", currency="USD", leverages=[100]
        )
        session.add(product)
        session.flush()
        account = TradingAccount(
            client_id=client_id, product_id=product.id, server_id=server.id, login=login, currency="USD", leverage=100,
            status="active", token="A-0000000000000", balance=balance,
        )  # fmt: skip
        session.add(account)
        session.flush()
        return account.id


def add_cent_account(session: Session, client_id: int, login: int = 5002) -> int:
    """A cent account of this client on the server of `add_account`."""
    with unit_of_work(session, Actor.system("test")):
        server = session.scalars(select(Server)).one()
        product = Product(
            code="cent", name="Cent", server_id=server.id, group=r"real\cent\usc", currency="USC", leverages=[100], is_cent=True
        )
        session.add(product)
        session.flush()
        account = TradingAccount(
            client_id=client_id, product_id=product.id, server_id=server.id, login=login, currency="USC", leverage=100,
            status="active", token="A-0000000000001", opened_at=now(),
        )  # fmt: skip
        session.add(account)
        session.flush()
        return account.id


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[Desk]:
    quick = Delays(refund_s=0.05, delayed_payment_s=0.05, first_retry_s=0.05, longest_retry_s=0.2)
    with (
        Sandbox(tmp_path / "stripe", SECRET, WEBHOOK_SECRET, "http://127.0.0.1:9/callbacks/stripe", delays=quick) as sandbox,
        database.session() as session,
    ):
        client_id = add_client(session)
        yield Desk(
            database,
            session,
            StripeConnector(SECRET, (WEBHOOK_SECRET,), sandbox.url, timeout_s=(2.0, 20.0)),
            sandbox,
            client_id,
            add_account(session, client_id),
        )
