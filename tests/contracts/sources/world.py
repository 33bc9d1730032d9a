"""A brokerage whose server's events come by one of the sources: simulator, source thread, streams and booking, all real."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from flask import Flask
from redis import Redis
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import Session

from app import create_app
from app.core.clock import now
from app.core.uow import unit_of_work
from app.extensions import db
from app.metatrader import ingest
from app.metatrader.codes import OrderType
from app.metatrader.platform import UNITS_PER_LOT
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.servertime import server_zone
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.outputs import KafkaOutput, WebRequests
from app.metatrader.sources import refetch, running
from app.metatrader.sources.held import Held
from app.models.metatrader import Deal, Position, Server, SourceCursor, TradingAccount
from config import ServerSecrets, Settings
from tests.conftest import Database
from tests.integration.trading.house import PASSWORD, QUICK, SYSTEM, USER, access, add_client, add_server, wait_until

ZONE = "GMT+2/EU"
SECRET = "a-secret-of-the-automation"
EVER = (0, 2**62)

#: Every source looks often here, so that tests need not wait.
OPTIONS = {
    "kafka": {"prefix": "mt5.", "topics_every_s": 0.1},
    "sql": {"schema": "mt5", "every_s": 0.1, "positions_every_s": 0.1, "accounts_every_s": 0.1, "look_back_every_s": 0.1},
    "poll": {"every_s": 1},
    "webhook": {},
    "mt4_report": {
        "schema": "mt4", "every_s": 0.1, "positions_every_s": 0.1, "accounts_every_s": 0.1, "look_back_every_s": 0.1,
    },
}  # fmt: skip


class Broker:
    """librdkafka's own broker, which speaks the protocol on a port of this machine, and a producer for it."""

    def __init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 3})
        brokers = self.producer.list_topics(timeout=10).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        self.producer.produce(topic, key=key, value=value)
        assert self.producer.flush(10) == 0

    @property
    def secrets(self) -> tuple[tuple[str, str], ...]:
        return (("bootstrap.servers", self.address), ("security.protocol", "PLAINTEXT"))


class Requests:
    """Posts the web requests of what happens to our own endpoint, in the order in which it happens."""

    def __init__(self, app: Flask | None, code: str = "sim") -> None:
        self._web = app.test_client() if app else None
        self._requests = WebRequests(code)
        self.statuses: list[int] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def offer(self, entry: Any) -> None:
        assert self._web is not None
        for body in [*self._requests.bodies(entry), *self._requests.flush()]:
            answer = self._web.post("/api/mt/sim/events", data=json.dumps(body), headers={"X-Webhook-Secret": SECRET})
            self.statuses.append(answer.status_code)


@dataclass
class World:
    """What tests act with."""

    source: str
    database: Database
    session: Session
    redis: Redis
    simulator: Any
    settings: Settings
    server_id: int
    app: Flask | None = None
    login: int = 0

    @property
    def sees_deletions(self) -> bool:
        """Whether the source itself tells of deals that are deleted; a comparison finds those of the others."""
        return self.source not in ("sql", "mt4_report")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The source's thread, from here to the end of the block."""
        if self.source == "webhook":
            yield
            return
        engine, stop = create_engine(self.settings.database_url), threading.Event()
        (assignment,) = running.assignments(engine)
        thread = threading.Thread(target=running.keep, args=(self.settings, engine, assignment, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=15)
            assert not thread.is_alive()
            engine.dispose()

    def drain(self) -> None:
        """Book what stands in the streams, and answer the hints."""
        self._answer_hints()
        stop = _StopWhen(self._is_drained)
        with self.database.session() as session:
            ingest.consume(session, self.redis, stop)
        self.session.rollback()

    def settles(self, within_s: float = 30.0) -> None:
        """Wait until we hold exactly what the server holds."""

        def agrees() -> bool:
            self.drain()
            return self.deals() == self.deals_there() and self.positions() == self.positions_there()

        try:
            wait_until(agrees, within_s=within_s)
        except AssertionError:
            assert self.deals() == self.deals_there()
            assert self.positions() == self.positions_there()
            raise

    def deals(self) -> dict[int, tuple[object, ...]]:
        """By ticket the business fields of all deals that stand and are not void."""
        self.session.rollback()
        rows = self.session.scalars(select(Deal).where(Deal.is_current, Deal.is_void.is_(False)))
        return {row.ticket: business(row) for row in rows}

    def deals_there(self) -> dict[int, tuple[object, ...]]:
        there = {deal.ticket: business(deal) for deal in self.simulator.store.deals(None, *EVER)}
        return there | self.unseen

    def positions(self) -> dict[int, tuple[object, ...]]:
        self.session.rollback()
        return {row.ticket: open_now(row) for row in self.session.scalars(select(Position))}

    def positions_there(self) -> dict[int, tuple[object, ...]]:
        return {position.ticket: open_now(position) for position in self.simulator.exchange.positions()}

    def balance_there(self) -> Decimal:
        balance: Decimal = self.simulator.exchange.state(self.login).balance
        return balance

    unseen: dict[int, tuple[object, ...]] = field(default_factory=dict)

    def account(self) -> TradingAccount:
        self.session.rollback()
        return self.session.scalars(select(TradingAccount).where(TradingAccount.login == self.login)).one()

    def set(self, **values: object) -> None:
        """Change the server's row, as staff do."""
        with unit_of_work(self.session, SYSTEM):
            self.session.execute(update(Server).where(Server.id == self.server_id).values(**values))

    def cursors(self) -> dict[str, str]:
        self.session.rollback()
        rows = self.session.execute(select(SourceCursor.name, SourceCursor.value).where(SourceCursor.source == self.source))
        return {row.name: row.value for row in rows}

    def deposit(self, amount: int = 10_000) -> int:
        return self.simulator.exchange.balance_operation(self.login, 2, Decimal(amount), "D-0000000000001").ticket

    def open(self, lots: str = "0.50", side: str = "buy") -> int:
        """The ticket of a new position."""
        (deal,) = self.simulator.control.trade(self.login, "EURUSD", side, Decimal(lots), close=False)
        return deal.position_ticket

    def close(self, position: int, lots: str | None = None) -> int:
        """The ticket of the deal that closes a position, or a part of it."""
        volume = None if lots is None else int(Decimal(lots) * UNITS_PER_LOT)
        return self.simulator.exchange.close(position, volume).ticket

    def place(self, price: Decimal) -> int:
        """The ticket of a new pending order that does not come true."""
        exchange = self.simulator.exchange
        return exchange.place_order(self.login, "EURUSD", OrderType.BUY_LIMIT, UNITS_PER_LOT // 10, price).ticket

    def reprice(self, order: int, price: Decimal) -> None:
        self.simulator.exchange.change_order(order, price=price)

    def cancel(self, order: int) -> None:
        self.simulator.exchange.cancel_order(order)

    def delete_order(self, order: int) -> None:
        self.simulator.exchange.delete_order(order)

    def edit(self, ticket: int, **changes: Any) -> None:
        self.simulator.exchange.edit_deal(ticket, **changes)

    def delete(self, ticket: int) -> None:
        if not self.sees_deletions:
            deal = self.simulator.store.deal(ticket)
            assert deal is not None
            self.unseen[ticket] = business(deal)
        self.simulator.exchange.delete_deal(ticket)

    def _answer_hints(self) -> None:
        engine = create_engine(self.settings.database_url)
        zone = server_zone(ZONE)
        with MT5WebPlatform(access(self.simulator), timeouts=QUICK) as platform:
            held = Held(engine, self.server_id, zone)
            refetch.refetch(self.redis, platform, held, code="sim", zone=zone, shards=1)
        engine.dispose()

    def _is_drained(self) -> bool:
        groups = self.redis.xinfo_groups("mt:sim:0") if self.redis.exists("mt:sim:0") else []
        last = self.redis.xinfo_stream("mt:sim:0")["last-generated-id"] if groups else None
        return bool(groups) and groups[0]["pending"] == 0 and groups[0]["last-delivered-id"] == last


class _StopWhen(threading.Event):
    """An event that counts as set once a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._condition = condition

    def is_set(self) -> bool:
        return super().is_set() or self._condition()


def build(source: str, database: Database, redis: Redis, folder: Path, broker: Broker) -> Iterator[World]:
    """A world, until the caller is done with it."""
    secrets = ServerSecrets(
        PASSWORD,
        str(folder / "ca.pem"),
        database_url=database.settings.database_owner_url,
        kafka=broker.secrets,
        webhook_secret=SECRET,
    )
    settings = replace(database.settings, mt_secrets=(("sim", secrets),))
    with web_application(settings if source == "webhook" else None) as app, database.session() as session:
        outputs: dict[str, list[Any]] = {"kafka": [KafkaOutput(broker.send, prefix="mt5.")], "webhook": [Requests(app)]}
        export = {"export_url": database.settings.database_owner_url} if source == "sql" else {}
        made = Simulator(state_dir=folder, password=PASSWORD, tick_s=0, outputs=outputs.get(source, []), **export)
        with made as simulator:
            server_id = add_server(session, simulator)
            client_id = add_client(session)
            world = World(source, database, session, redis, simulator, settings, server_id, app=app)
            world.set(events=source, options={source: OPTIONS[source]})
            world.login = simulator.control.users.add(USER).login
            own(world, client_id)
            yield world


@contextmanager
def web_application(settings: Settings | None) -> Iterator[Flask | None]:
    """The application that takes web requests, where they are what a test is about."""
    if settings is None:
        yield None
        return
    app = create_app(settings)
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def own(world: World, client_id: int) -> None:
    """The login is a trading account of ours, of which the server has told group and rights before."""
    from app.models.metatrader import Product

    product = world.session.scalars(select(Product).where(Product.code == "std")).one()
    with unit_of_work(world.session, SYSTEM):
        world.session.add(
            TradingAccount(
                client_id=client_id, product_id=product.id, server_id=world.server_id, login=world.login, currency="USD",
                leverage=100, status="active", token=f"A-{world.login:013d}", opened_at=now(), group=product.group, rights=355,
            )
        )  # fmt: skip


def business(deal: Any) -> tuple[object, ...]:
    """What a deal says, alike for our rows and the simulator's records."""
    return (
        deal.login, deal.action, deal.entry, deal.reason, deal.order_ticket, deal.position_ticket, deal.symbol, deal.volume,
        deal.volume_closed, deal.price.normalize(), deal.profit.normalize(), deal.swap.normalize(),
        deal.commission.normalize(), deal.server_time_ms, deal.comment,
    )  # fmt: skip


def open_now(position: Any) -> tuple[object, ...]:
    return (
        position.login, position.symbol, position.action, position.volume, position.price_open.normalize(),
        position.swap.normalize(),
    )  # fmt: skip
