"""Objects of the fake API, a bridge in this process, and a gate between it and Redis that tests open and shut."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis

from app.metatrader.bridge import program
from app.metatrader.bridge.backfill import Answerer
from app.metatrader.bridge.manager import Connection
from app.metatrader.bridge.outbox import Outbox
from app.metatrader.bridge.publisher import redis_client
from app.metatrader.bridge.settings import BridgeSettings, RedisAccess
from app.metatrader.bridge.telling import Teller
from app.metatrader.events import Origin, decode
from app.metatrader.servertime import server_zone
from app.metatrader.stream import StreamConsumer, stream_names
from tests.contracts.bridge import fake_manager
from tests.contracts.bridge.fake_manager import MTAccount, MTConGroup, MTDeal, MTOrder, MTPosition, MTUser

ZONE = server_zone("GMT+2/EU")
GROUP = "real\\std\\usd"


def wall_ms(moment: datetime | None = None) -> int:
    return ZONE.wall_ms(moment or datetime.now(UTC))


def mt_group(name=GROUP, digits=2):
    return MTConGroup(Group=name, Currency="USD", CurrencyDigits=digits)


def mt_user(login=100001, **values):
    known = {"Group": GROUP, "Leverage": 100, "Rights": 355, "Balance": 1000.0, "FirstName": "Zoë", "ID": "A-8QK2N0V5ZT3RM"}
    return MTUser(Login=login, **{**known, **values})


def mt_state(login=100001, **values):
    known = {
        "CurrencyDigits": 2, "Balance": 1000.0, "Equity": 1012.3, "Margin": 54.21, "MarginFree": 958.09,
        "MarginLevel": 1867.3676, "Floating": 12.3,
    }  # fmt: skip
    return MTAccount(Login=login, **{**known, **values})


def mt_deal(ticket, login=100001, **values):
    known = {
        "Action": 0, "Entry": 0, "Order": 500000 + ticket, "PositionID": 700000 + ticket, "Symbol": "EURUSD", "Volume": 5000,
        "VolumeExt": 50_000_000, "Price": 1.08435, "MarketBid": 1.08431, "MarketAsk": 1.08435, "ContractSize": 100000.0,
        "Digits": 5, "DigitsCurrency": 2, "Commission": -3.5, "RateProfit": 1.0, "RateMargin": 1.08435,
        "TimeMsc": wall_ms(), "Comment": "",
    }  # fmt: skip
    return MTDeal(Deal=ticket, Login=login, **{**known, **values})


def mt_position(ticket, login=100001, **values):
    known = {
        "Symbol": "EURUSD", "Volume": 5000, "VolumeExt": 50_000_000, "PriceOpen": 1.08435, "PriceCurrent": 1.0845,
        "Profit": 7.5, "ContractSize": 100000.0, "Digits": 5, "DigitsCurrency": 2, "RateProfit": 1.0,
        "TimeCreateMsc": wall_ms(), "TimeUpdateMsc": wall_ms(), "PriceSL": 1.07,
    }  # fmt: skip
    return MTPosition(Position=ticket, Login=login, **{**known, **values})


def mt_order(ticket, login=100001, **values):
    known = {
        "Symbol": "EURUSD", "Type": 2, "State": 1, "VolumeInitial": 5000, "VolumeInitialExt": 50_000_000,
        "VolumeCurrent": 5000, "VolumeCurrentExt": 50_000_000, "PriceOrder": 1.05, "Digits": 5, "DigitsCurrency": 2,
        "ContractSize": 100000.0, "TimeSetupMsc": wall_ms(), "TimeExpiration": 0,
    }  # fmt: skip
    return MTOrder(Order=ticket, Login=login, **{**known, **values})


def mt(kind, fields, **more):
    """The API's object with these text fields: whole numbers and texts as they are, all others as floats."""
    values = {}
    for name, text in {**fields, **more}.items():
        if name in kind.WHOLE:
            values[name] = int(text)
        elif name in kind.FLOAT:
            values[name] = float(text)
        elif name in kind.TEXT:
            values[name] = text
    return kind(**values)


def until(condition, timeout_s=30.0, what=""):
    """The first true answer of a condition; fails when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"never came true: {what or condition}")


@dataclass
class Reader:
    """Reads a server's streams as ingest does: consumer group, decode, acknowledge."""

    redis: Redis
    shards: int = 1
    events: list = field(default_factory=list)

    def __post_init__(self):
        self.consumer = StreamConsumer(self.redis, stream_names("live1", self.shards), name="reader")
        self.consumer.ensure_group()

    def read(self):
        """Everything that has come so far."""
        while batch := self.consumer.read(block_ms=20):
            assert not batch.lost
            self.events += [decode(entry.fields) for entry in batch.entries]
            self.consumer.ack(batch.entries)
        return self.events

    def of(self, *kinds):
        return [event for event in self.read() if event.kind in kinds]

    def first(self, kind, **wanted):
        """The first event of a kind, whose attributes or notes are as wanted; waits for it."""

        def found():
            for event in self.of(kind):
                notes = getattr(event, "notes", {})
                if all(notes.get(name, getattr(event, name, None)) == value for name, value in wanted.items()):
                    return event
            return None

        return until(found, what=f"{kind} {wanted}")

    def without_beats(self):
        return [event for event in self.read() if event.kind != "control.heartbeat"]


def settings(folder: Path, redis_url: str, **values) -> BridgeSettings:
    known = {
        "code": "live1",
        "address": "mt5.broker.example:443",
        "manager_login": 1005,
        "password": "Mt5#Manager1",
        "groups": "real\\*",
        "zone": ZONE,
        "shards": 1,
        "connect_timeout_s": 5,
        "redis": RedisAccess(redis_url, "", ""),
        "folder": folder,
        "answers_requests": False,
        "asks_after_gap": False,
    }
    return BridgeSettings(**{**known, **values})


class NoSecond:
    """In place of the second process."""

    is_running = True

    def keep_running(self, boot):
        self.boot = boot

    def stop(self):
        pass


class Running:
    """The first process's work, in a thread of this one."""

    def __init__(self, loaded: BridgeSettings):
        self.settings = loaded
        self.outbox = Outbox(loaded.folder / "outbox.sqlite3")
        self.stopping = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.outbox.close()
        if self.error:
            raise self.error

    def _run(self):
        try:
            program.pump(self.settings, fake_manager, self.outbox, self.stopping, NoSecond())
        except BaseException as error:  # noqa: BLE001  told to whoever stops it
            self.error = error


@contextlib.contextmanager
def answering(loaded: BridgeSettings, boot="boot1"):
    """The second process's work, in a thread of this one."""
    outbox = Outbox(loaded.folder / "outbox.sqlite3")
    teller = Teller(Origin(loaded.code, "bridge", boot), loaded.zone, loaded.shards)
    answerer = Answerer(loaded, Connection(fake_manager), outbox, redis_client(loaded.redis), teller)
    thread = threading.Thread(target=answerer.run, daemon=True)
    thread.start()
    try:
        yield outbox
    finally:
        answerer.stop()
        thread.join(15)
        assert not thread.is_alive()
        outbox.close()


class Gate:
    """A TCP port, with TLS where a context is given, that leads to the real Redis while it is open.

    `swallow_answers`: what is sent arrives, but no answer comes back, and then the connection breaks.
    """

    def __init__(self, redis_url: str, tls: ssl.SSLContext | None = None, is_open: bool = True, port: int = 0):
        self._target = urlsplit(redis_url)
        self._tls = tls
        self.is_open = is_open
        self.swallow_answers = False
        self.passed = 0
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}/0"

    def open(self):
        self.is_open = True

    def shut(self):
        """Break every connection, and refuse new ones."""
        self.is_open = False
        for side in self._pairs:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        self._pairs = []

    def close(self):
        self.shut()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self.is_open:
                    client.close()
                    continue
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError):
            if self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
            redis = self._redis()
            self._pairs += [client, redis]
            self._carry(client, redis)
        client.close()

    def _redis(self) -> socket.socket:
        if self._target.scheme == "unix":
            redis = socket.socket(socket.AF_UNIX)
            redis.connect(self._target.path)
            return redis
        return socket.create_connection((self._target.hostname, self._target.port))

    def _carry(self, client, redis):
        selector = selectors.DefaultSelector()
        selector.register(client, selectors.EVENT_READ, redis)
        selector.register(redis, selectors.EVENT_READ, client)
        with client, redis:
            while True:
                for key, _ in selector.select(timeout=1):
                    data = key.fileobj.recv(65_536)
                    while isinstance(key.fileobj, ssl.SSLSocket) and key.fileobj.pending():
                        data += key.fileobj.recv(65_536)
                    if not data:
                        return
                    if key.fileobj is redis and self.swallow_answers:
                        self.passed += 1
                        return
                    key.data.sendall(data)
