"""A broker's flow of events: a house of trading accounts, and what its server tells while people trade."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count, islice
from random import Random
from threading import Event

from redis import Redis
from sqlalchemy import Engine

from app.metatrader.events import AnyEvent, Change, DealEvent, Origin, Stamp, deal_event, position_event
from app.metatrader.platform import Deal, Position
from app.metatrader.servertime import server_zone
from app.metatrader.stream import publish_events, stream_name, stream_names
from benchmarks.servers import BenchDatabase

SERVER = "bench"
#: One stream for each of two processes.
SHARDS = 2
ZONE = "GMT+2/EU"
FIRST_LOGIN = 100_001
PUBLISHED_AT_ONCE = 1_000

_HOUSE = """
INSERT INTO mt_server (code, name, platform, url, manager_login, time_zone, shards)
VALUES ('bench', 'Bench', 'mt5_web', 'https://localhost', 1, 'GMT+2/EU', 2);
INSERT INTO product (code, name, server_id, "group", currency, leverages)
SELECT 'std', 'Standard', id, 'real\\std\\usd', 'USD', '[100]' FROM mt_server;
INSERT INTO client (email, password_hash, first_name, last_name, country, status, terms_version, terms_accepted_at)
SELECT 'client-' || n || '@bench.example', 'x', 'Elena', 'Rossi', 'IT', 'approved', '1', now()
FROM generate_series(1, {accounts}) n;
INSERT INTO trading_account (client_id, product_id, server_id, login, currency, leverage, status, token, opened_at)
SELECT c.id, p.id, p.server_id, {first} + row_number() OVER (ORDER BY c.id) - 1, 'USD', 100, 'active',
       'A-' || lpad(c.id::text, 13, '0'), now()
FROM client c, product p;
ANALYZE;
"""


def build_house(database: BenchDatabase, accounts: int) -> None:
    """One server, and accounts of as many clients."""
    database.psql(database.superuser, _HOUSE.format(accounts=accounts, first=FIRST_LOGIN))


class Flow:
    """Deals and positions of one server, with ever new tickets. Deterministic but for the present time."""

    def __init__(self, random: Random, accounts: int) -> None:
        self._random = random
        self._accounts = accounts
        self._tickets = count(1_000_001)
        self._numbers = {name: count(1) for name in stream_names(SERVER, SHARDS)}
        self._zone = server_zone(ZONE)
        self._origin = Origin(SERVER, "bridge", "bench")
        self._with_positions = True

    def trades(self, number: int, *, positions: bool = True) -> Iterator[AnyEvent]:
        """So many positions are opened and closed: each a deal and a position, then a deal and the position's end. Without
        `positions` only the deals are told.
        """
        self._with_positions = positions
        waiting: list[tuple[Deal, Position]] = []
        for _ in range(number):
            opened = self._opening()
            waiting.append(opened)
            yield from self._tell("add", *opened)
            if len(waiting) > 50:
                yield from self._closing(*waiting.pop(self._random.randrange(len(waiting))))
        for opened in waiting:
            yield from self._closing(*opened)

    def _opening(self) -> tuple[Deal, Position]:
        random, ticket = self._random, next(self._tickets)
        login = FIRST_LOGIN + random.randrange(self._accounts)
        wall_ms = self._zone.wall_ms(datetime.now(UTC))
        volume = random.randint(1, 500) * 1_000_000
        bid = Decimal(random.randint(105_000, 115_000)).scaleb(-5)
        ask = bid + Decimal("0.00012")
        deal = Deal(
            ticket=ticket, login=login, action=0, entry=0, reason=0, order_ticket=ticket, position_ticket=ticket,
            symbol="EURUSD", volume=volume, volume_closed=0, price=ask, price_position=Decimal(0), market_bid=bid,
            market_ask=ask, contract_size=Decimal("100000.00"), digits=5, digits_currency=2, profit=Decimal("0.00"),
            swap=Decimal("0.00"), commission=Decimal("-3.50"), fee=Decimal("0.00"), rate_profit=Decimal("1.00000000"),
            rate_margin=ask, server_time_ms=wall_ms, comment="",
        )  # fmt: skip
        position = Position(
            ticket=ticket, login=login, symbol="EURUSD", action=0, reason=0, volume=volume, price_open=ask, price_current=bid,
            profit=Decimal("0.00"), swap=Decimal("0.00"), contract_size=Decimal("100000.00"), digits=5, digits_currency=2,
            rate_profit=Decimal("1.00000000"), rate_margin=ask, created_ms=wall_ms, update_ms=wall_ms,
        )  # fmt: skip
        return deal, position

    def _closing(self, deal: Deal, position: Position) -> Iterator[AnyEvent]:
        profit = Decimal(self._random.randint(-50_000, 50_000)).scaleb(-2)
        ticket = next(self._tickets)
        changes = {
            "ticket": ticket, "order_ticket": ticket, "action": 1, "entry": 1, "volume_closed": deal.volume, "profit": profit,
            "price": deal.market_bid, "price_position": deal.price,
        }  # fmt: skip
        yield from self._tell("delete", Deal(**{**vars(deal), **changes}), position)

    def _tell(self, change: Change, deal: Deal, position: Position) -> Iterator[AnyEvent]:
        stream = stream_name(SERVER, deal.login, SHARDS)
        moment = datetime.now(UTC)
        offset_min = self._zone.offset_min(moment)

        def stamp() -> Stamp:
            return Stamp(next(self._numbers[stream]), self._zone.wall_ms(moment), offset_min, moment)

        yield deal_event(self._origin, stamp(), "add", deal)
        if self._with_positions:
            yield position_event(self._origin, stamp(), change, position)


def publish(redis: Redis, events: Iterable[AnyEvent]) -> tuple[int, int]:
    """Put events into their streams; returns how many, and how many of them are deals."""
    total = deals = 0
    rest = iter(events)
    while part := list(islice(rest, PUBLISHED_AT_ONCE)):
        publish_events(redis, part, SHARDS)
        total += len(part)
        deals += sum(isinstance(event, DealEvent) for event in part)
    return total, deals


def some(events: Iterator[AnyEvent], number: int) -> Iterable[AnyEvent]:
    """The next ones of a flow that goes on."""
    return islice(events, number)


class Drained(Event):
    """Counts as set once these streams have nothing that is not acknowledged."""

    def __init__(self, redis: Redis, streams: Sequence[str] = tuple(stream_names(SERVER, SHARDS))) -> None:
        super().__init__()
        self._redis, self._streams = redis, streams

    def is_set(self) -> bool:
        for stream in self._streams:
            groups = self._redis.xinfo_groups(stream) if self._redis.exists(stream) else []
            if not groups or groups[0]["pending"] or groups[0]["lag"]:
                return False
        return True


def empty(database: BenchDatabase, redis: Redis, engine: Engine) -> None:
    """Streams and booked deals as at the beginning, so that every measurement starts alike."""
    redis.flushdb()
    database.psql(database.superuser, "TRUNCATE deal, deal_head, position; VACUUM ANALYZE deal; CHECKPOINT")
    engine.dispose()
