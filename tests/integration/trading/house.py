"""A brokerage with one trading server: the simulator over real TLS, publishing to a real Valkey."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.crypto import Vault
from app.core.money import Money
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.ledger import chart, posting, proofs, queries
from app.metatrader import accounts, commands, ingest
from app.metatrader.platform import Deal as SimulatorDeal
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.faults import Fault
from app.models.clients import Client
from app.models.metatrader import BalanceOperation, Product, Server, TradingAccount
from config import Settings
from tests.conftest import Database

PASSWORD = "Mt5#Manager1"
QUICK = httpx.Timeout(connect=2.0, read=5.0, write=2.0, pool=2.0)
#: The simulator has no limit of its own, and most tests are not about ours.
UNHURRIED = {"requests_per_second": 1000}
SYSTEM = Actor.system("test")
USER = {"Group": r"real\std\usd", "Leverage": "100", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}


class Clock:
    """The present, moved on at will."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass
class House:
    """What the tests act with. `session` is the main thread's."""

    database: Database
    session: Session
    redis: Redis
    simulator: Simulator
    platform: MT5WebPlatform
    settings: Settings
    server_id: int
    client_id: int

    @property
    def vault(self) -> Vault:
        return Vault(self.settings.document_key, accounts.VAULT_PURPOSE)

    def connect(self, **changes: object) -> MT5WebPlatform:
        """A platform with sessions of its own; close it, or use it as a context manager."""
        return MT5WebPlatform(replace(access(self.simulator), **changes), timeouts=QUICK)

    def faults(self, *kinds: str, path: str, **numbers: object) -> None:
        self.simulator.control.faults.set([Fault(kind=kind, path=f"/api/{path}", **numbers) for kind in kinds])

    def add_account(self, *, product: str = "std", login: int | None = None, client_id: int | None = None) -> TradingAccount:
        """An active account; its login is opened at the simulator unless it is given."""
        found = self.session.scalars(select(Product).where(Product.code == product)).one()
        number = login or self.simulator.control.users.add({**USER, "Group": found.group}).login
        with unit_of_work(self.session, SYSTEM):
            account = TradingAccount(
                client_id=client_id or self.client_id, product_id=found.id, server_id=self.server_id, login=number,
                currency=found.currency, leverage=100, status="active", token=f"A-{number:013d}", opened_at=now(),
            )  # fmt: skip
            self.session.add(account)
            self.session.flush()
        return account

    def order(self, login: int, amount_minor: int = 60_000, currency: str = "USD") -> int:
        """The id of a new balance operation."""
        with unit_of_work(self.session, SYSTEM) as unit:
            return commands.create_operation(
                unit, server_id=self.server_id, login=login, amount=Money(amount_minor, currency), prefix="T"
            ).id

    def operation(self, operation_id: int) -> BalanceOperation:
        """The operation as it stands now."""
        self.session.rollback()
        return self.session.get_one(BalanceOperation, operation_id)

    def send(self, operation_id: int) -> str:
        return commands.send_operation(self.session, self.platform, operation_id)

    def resolve(self, operation_id: int) -> str:
        with self.connect() as fresh:
            return commands.resolve_operation(self.session, fresh, operation_id)

    def at_server(self, login: int) -> list[SimulatorDeal]:
        return self.simulator.store.deals(login, 0, 2**62)

    def with_token(self, operation_id: int) -> list[Decimal]:
        """The amounts of all deals at the server that carry the operation's token."""
        operation = self.operation(operation_id)
        return [deal.profit for deal in self.at_server(operation.login) if deal.comment.startswith(operation.token)]

    def events(self, subject_id: int, prefix: str = "") -> list[str]:
        """Types of the facts about a row, in order."""
        self.session.rollback()
        rows = select(Event.type).where(Event.subject_id == subject_id, Event.type.startswith(prefix)).order_by(Event.id)
        return list(self.session.scalars(rows))

    def bring_money(self, client_id: int, amount_minor: int, currency: str = "USD") -> None:
        """Money in the client's wallet."""
        with unit_of_work(self.session, SYSTEM):
            bank, wallet = chart.bank_client_money("test", currency), chart.client_wallet(client_id, currency)
            chart.open_accounts(self.session, bank, wallet)
            amount = Money(amount_minor, currency)
            posting.post(
                self.session, key=f"opening:{client_id}:{currency}", kind="migration_opening", effective_at=now(),
                actor=SYSTEM, legs=[posting.debit(bank, amount), posting.credit(wallet, amount)],
            )  # fmt: skip

    def ledger(self, account: chart.AccountSpec) -> Money:
        self.session.rollback()
        found = queries.find_balance(self.session, account)
        return found.posted if found else Money.zero(account.currency)

    def mirrored(self, login: int, currency: str = "USD") -> Money:
        return self.ledger(chart.mt_balance("sim", login, currency))

    def count(self, table: type, *conditions: object) -> int:
        self.session.rollback()
        return self.session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0

    def prove(self) -> None:
        self.session.rollback()
        assert [proof for proof in proofs.prove(self.session) if proof.breaks] == []

    def edit(self, ticket: int, **changes: Any) -> None:
        """Change a deal as a dealer does: the server moves the balance along and tells of it."""
        self.simulator.exchange.edit_deal(ticket, **changes)

    def delete(self, ticket: int) -> None:
        """Delete a deal as a dealer does."""
        self.simulator.exchange.delete_deal(ticket)

    def drain(self) -> None:
        """Let the simulator publish what it has, and book all of it."""
        wait_until(lambda: self.simulator.store.outbox_size() == 0)
        stop = _StopWhen(self._is_drained)
        with self.database.session() as session:
            ingest.consume(session, self.redis, stop)
        self.session.rollback()

    def _is_drained(self) -> bool:
        stream = "mt:sim:0"
        groups = self.redis.xinfo_groups(stream) if self.redis.exists(stream) else []
        last = self.redis.xinfo_stream(stream)["last-generated-id"] if groups else None
        return bool(groups) and groups[0]["pending"] == 0 and groups[0]["last-delivered-id"] == last


class _StopWhen(threading.Event):
    """An event that counts as set once a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._condition = condition

    def is_set(self) -> bool:
        return super().is_set() or self._condition()


def wait_until(condition: Callable[[], object], within_s: float = 15.0, what: str = "") -> None:
    """Look again and again until the condition holds; fail when it does not in time."""
    deadline = datetime.now(UTC) + timedelta(seconds=within_s)
    while not condition():
        assert datetime.now(UTC) < deadline, what or "not in time"
        threading.Event().wait(0.01)


def access(simulator: Simulator) -> ServerAccess:
    return ServerAccess(
        code="sim", platform="mt5_web", url=simulator.url, manager_login=simulator.manager_login, password=PASSWORD,
        ca_file=str(simulator.ca_file), time_zone="GMT+2/EU", options=UNHURRIED,
    )  # fmt: skip


def add_server(session: Session, simulator: Simulator, code: str = "sim") -> int:
    """The server's row and its products: std and ecn in USD, eur, and a demo."""
    with unit_of_work(session, SYSTEM):
        server = Server(
            code=code, name=code, platform="mt5_web", url=simulator.url, manager_login=simulator.manager_login,
            time_zone="GMT+2/EU", options=UNHURRIED,
        )  # fmt: skip
        session.add(server)
        session.flush()
        for product, group, currency in (
            ("std", r"real\std\usd", "USD"),
            ("ecn", r"real\ecn\usd", "USD"),
            ("eur", r"real\std\eur", "EUR"),
            ("demo", r"demo\forex\usd", "USD"),
        ):
            session.add(
                Product(
                    code=product if code == "sim" else f"{code}-{product}",
                    name=product,
                    server_id=server.id,
                    group=group,
                    currency=currency,
                    leverages=[100, 200],
                    is_demo=product == "demo",
                )
            )
        return server.id


def add_client(session: Session, mail: str = "elena@example.com", status: str = "approved") -> int:
    with unit_of_work(session, SYSTEM):
        client = Client(
            email=mail, password_hash="x", first_name="Elena", last_name="Rossi", country="IT", status=status,
            terms_version="1", terms_accepted_at=now(),
        )  # fmt: skip
        session.add(client)
        session.flush()
        return client.id


@pytest.fixture
def house(database: Database, redis: Redis, tmp_path: Path) -> Iterator[House]:
    simulator = Simulator(state_dir=tmp_path / "server", password=PASSWORD, redis_url=database.settings.redis_url, tick_s=0)
    with simulator, database.session() as session, MT5WebPlatform(access(simulator), timeouts=QUICK) as platform:
        yield House(
            database=database,
            session=session,
            redis=redis,
            simulator=simulator,
            platform=platform,
            settings=replace(database.settings, mt5_password=PASSWORD, mt5_ca_file=str(simulator.ca_file)),
            server_id=add_server(session, simulator),
            client_id=add_client(session),
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the commands and of the tasks that resolve them."""
    made = Clock()
    for module in ("app.metatrader.commands", "app.jobs.tasks"):
        monkeypatch.setattr(f"{module}.now", made)
    return made


def in_threads(*works: Callable[[], object]) -> list[object]:
    """Run all at once; their results in order, errors raised."""
    results: list[object] = [None] * len(works)
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(index: int, work: Callable[[], object]) -> None:
        try:
            barrier.wait(timeout=10)
            results[index] = work()
        except BaseException as error:  # noqa: BLE001  # handed to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index, work)) for index, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    if errors:
        raise errors[0]
    return results
