"""From the stream to the tables: nothing lost, nothing twice, whatever repeats, comes late or cannot be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.core import live
from app.core.clock import now
from app.core.tables import Event
from app.metatrader import booking, ingest
from app.metatrader.events import Origin, Stamp, account_event, deal_event, encode, position_event
from app.metatrader.servertime import server_zone
from app.metatrader.stream import StreamConsumer, publish
from app.models.metatrader import DeadLetter, Deal, Position, Server, TradingAccount
from tests.integration.trading.house import House, add_server, in_threads, wait_until
from tests.unit.metatrader.samples import ACCOUNT, DEAL, POSITION

ORIGIN = Origin("sim", "bridge", "b00t")
ZONE = server_zone("GMT+2/EU")
LOGIN = 954402


def stamp(seq: int = 1, *, ago_s: float = 0) -> Stamp:
    moment = now() - timedelta(seconds=ago_s)
    return Stamp(seq, ZONE.wall_ms(moment), ZONE.offset_min(moment), now())


def put(house: House, *events) -> None:
    """Publish events, or raw fields as they are."""
    publish(house.redis, [("mt:sim:0", event if isinstance(event, dict) else encode(event)) for event in events])


def deal_events(*deals, change: str = "add"):
    return [deal_event(ORIGIN, stamp(), change, deal) for deal in deals]


def raise_(error: Exception) -> None:
    raise error


def deals(house: House) -> list[Deal]:
    house.session.rollback()
    return list(house.session.scalars(select(Deal).order_by(Deal.ticket, Deal.revision)))


def pending(house: House) -> int:
    return house.redis.xpending("mt:sim:0", "ingest")["pending"]


def test_a_trade_from_end_to_end(house):
    account = house.add_account()
    house.simulator.exchange.balance_operation(account.login, 2, Decimal(1000), "start")
    house.drain()
    with house.redis.pubsub() as channel:
        channel.subscribe(live.channel(house.client_id))
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        opened, closed = house.simulator.control.trade(account.login, "EURUSD", "buy", Decimal("0.50"), move_points=58)
        house.drain()
        message = channel.get_message(timeout=5)
        assert json.loads(message["data"]) == {"type": "trading.changed"}
    booked = {deal.ticket: deal for deal in deals(house)}
    deal = booked[closed.ticket]
    assert (deal.login, deal.trading_account_id, deal.symbol) == (account.login, account.id, "EURUSD")
    assert (deal.action, deal.entry, deal.volume, deal.volume_closed) == (1, 1, 50_000_000, 50_000_000)
    assert (deal.profit, deal.price, deal.market_bid) == (closed.profit, closed.price, closed.market_bid)
    assert (deal.position_ticket, deal.server_time_ms) == (opened.position_ticket, closed.server_time_ms)
    assert abs(deal.done_at - now()) < timedelta(minutes=1)
    assert (deal.revision, deal.is_current, deal.is_void, deal.is_ours) == (1, True, False, False)
    assert len(booked) == 3
    assert house.count(Position) == 0
    state = house.simulator.exchange.state(account.login)
    house.session.refresh(account)
    assert (account.balance, account.equity) == (state.balance, state.equity)
    told = house.session.scalars(select(Event).where(Event.type == "deal.booked")).all()
    assert sorted(deal_id for event in told for deal_id in event.payload["deal_ids"]) == sorted(d.id for d in booked.values())


def test_the_same_entry_twice_is_one_deal(house):
    (event,) = deal_events(DEAL)
    put(house, event, event)
    house.drain()
    put(house, event)
    house.drain()
    assert [(deal.revision, deal.is_current) for deal in deals(house)] == [(1, True)]
    assert house.events(house.server_id, "deal.booked") == ["deal.booked"]


def test_an_edit_is_a_revision_and_an_old_one_that_repeats_is_not(house):
    edited = replace(DEAL, price=Decimal("1.08560"), profit=Decimal("120.00"), modification_flags=1)
    again = replace(edited, profit=Decimal("121.00"))
    for batch in ([DEAL], [edited], [DEAL, edited], [DEAL, again, edited]):
        put(house, *deal_events(*batch, change="update"))
        house.drain()
    rows = [(deal.revision, deal.profit, deal.is_current) for deal in deals(house)]
    assert rows == [(1, Decimal("118.75"), False), (2, Decimal(120), False), (3, Decimal(121), True)]


def test_several_revisions_in_one_batch(house):
    edited = replace(DEAL, profit=Decimal("120.00"), modification_flags=1)
    put(house, *deal_events(DEAL, edited), *deal_events(edited, change="delete"))
    house.drain()
    rows = [(deal.revision, deal.is_current, deal.is_void) for deal in deals(house)]
    assert rows == [(1, False, False), (2, False, False), (3, True, True)]


def test_a_deletion_voids_and_stays(house):
    put(house, *deal_events(DEAL))
    put(house, *deal_events(DEAL, change="delete"))
    house.drain()
    put(house, *deal_events(DEAL, change="delete"), *deal_events(DEAL))
    house.drain()
    assert [(deal.is_current, deal.is_void) for deal in deals(house)] == [(False, False), (True, True)]


def test_a_deletion_that_overtook_the_deal(house):
    """The deal's own entry was lost; a pull that began before the deletion brings it after."""
    put(house, *deal_events(DEAL, change="delete"), *deal_events(DEAL))
    house.drain()
    assert [(deal.revision, deal.is_current, deal.is_void) for deal in deals(house)] == [(1, True, True)]


def test_a_cancelled_trade_is_void(house):
    put(house, *deal_events(DEAL, replace(DEAL, action=14)))
    house.drain()
    assert [deal.is_void for deal in deals(house)] == [False, True]


def test_nothing_is_acknowledged_before_the_commit(house, monkeypatch):
    seen = []
    real = StreamConsumer.ack

    def ack(self, entries, marks=None):
        with house.database.session() as other:
            seen.append(len(other.scalars(select(Deal)).all()))
        real(self, entries, marks)

    monkeypatch.setattr(StreamConsumer, "ack", ack)
    put(house, *deal_events(DEAL, replace(DEAL, ticket=2)))
    house.drain()
    assert seen
    assert seen[-1] == 2


def test_a_crash_before_the_commit_loses_nothing(house, monkeypatch):
    put(house, *deal_events(DEAL))
    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", lambda _: raise_(OperationalError("COMMIT", {}, Exception("gone"))))
        with pytest.raises(OperationalError):
            house.drain()
    assert deals(house) == []
    assert pending(house) > 0
    house.drain()
    assert len(deals(house)) == 1
    assert pending(house) == 0


def test_a_crash_between_commit_and_acknowledgement_doubles_nothing(house, monkeypatch):
    account = house.add_account(login=LOGIN)
    put(house, *deal_events(DEAL), position_event(ORIGIN, stamp(), "add", POSITION), account_event(ORIGIN, stamp(), ACCOUNT))
    with monkeypatch.context() as patch:
        patch.setattr(StreamConsumer, "ack", lambda *_: raise_(RedisConnectionError()))
        with pytest.raises(RedisConnectionError):
            house.drain()
    assert (len(deals(house)), pending(house) > 0) == (1, True)
    house.drain()
    assert (len(deals(house)), house.count(Position), pending(house)) == (1, 1, 0)
    assert house.events(house.server_id, "deal.booked") == ["deal.booked"]
    house.session.refresh(account)
    assert account.balance == 26_000


MALFORMED = [
    {},
    {"v": "9"},
    {"v": "1", "kind": "deal.add\x00"},
    {**encode(deal_events(DEAL)[0]), "payload": "{"},
    {**encode(deal_events(DEAL)[0]), "payload": '{"\\u0000": 1}'},
    {**encode(deal_events(DEAL)[0]), "server": "elsewhere"},
    {**encode(deal_events(DEAL)[0]), "key": "1"},
    {**encode(deal_events(DEAL)[0]), "note": b"\xff\x00\xfe".decode("latin-1")},
]


def test_what_cannot_be_read_is_parked_and_the_rest_is_booked(house):
    for index, fields in enumerate(MALFORMED):
        put(house, *deal_events(replace(DEAL, ticket=index + 1)))
        house.redis.xadd("mt:sim:0", fields or {"": ""})
    house.redis.xadd("mt:sim:0", {b"v": b"1", b"\xff\x00": b"\x00\xc3"})
    put(house, *deal_events(replace(DEAL, ticket=99)))
    house.drain()
    booked = {deal.ticket for deal in deals(house)}
    assert booked == {*range(1, len(MALFORMED) + 1), 99, DEAL.ticket}  # an unknown field more is no reason to refuse
    letters = house.session.scalars(select(DeadLetter).where(DeadLetter.login.is_(None)).order_by(DeadLetter.id)).all()
    assert {letter.server_id for letter in letters} == {house.server_id}
    reasons = [letter.reason for letter in letters]
    assert len(reasons) == len(MALFORMED)
    assert "unknown version '9'" in reasons
    assert "unknown server 'elsewhere'" in reasons
    assert pending(house) == 0


def test_parking_twice_keeps_one_row(house, monkeypatch):
    house.redis.xadd("mt:sim:0", {"v": "9"})
    with monkeypatch.context() as patch:
        patch.setattr(StreamConsumer, "ack", lambda *_: raise_(RedisConnectionError()))
        with pytest.raises(RedisConnectionError):
            house.drain()
    house.drain()
    assert house.count(DeadLetter) == 1


def test_what_the_database_refuses_is_parked_alone(house):
    huge = replace(DEAL, ticket=7, contract_size=Decimal(10**11), price=Decimal(999_999_999_999))
    overflowing = {**encode(deal_events(huge)[0])}
    payload = json.loads(overflowing["payload"])
    payload["ContractSize"] = "9" * 12 + "." + "9" * 16
    payload["RateProfit"] = "9" * 12
    overflowing["payload"] = json.dumps(payload)
    put(house, *deal_events(DEAL), overflowing, *deal_events(replace(DEAL, ticket=8)))
    house.drain()
    assert [deal.ticket for deal in deals(house)] == [8, DEAL.ticket]
    assert "cannot be booked" in house.session.scalars(select(DeadLetter.reason).where(DeadLetter.login.is_(None))).one()
    assert pending(house) == 0


def test_an_error_of_our_own_parks_its_entry_alone(house, monkeypatch):
    real = booking.book_deals

    def stumble(unit, server_id, reports, owners):
        if any(report.deal.ticket == 7 for report in reports):
            raise KeyError("a bug")
        return real(unit, server_id, reports, owners)

    monkeypatch.setattr(booking, "book_deals", stumble)
    put(house, *deal_events(DEAL, replace(DEAL, ticket=7), replace(DEAL, ticket=8)))
    house.drain()
    assert [deal.ticket for deal in deals(house)] == [8, DEAL.ticket]
    letter = house.session.scalars(select(DeadLetter).where(DeadLetter.login.is_(None))).one()
    assert (letter.reason, letter.server_id) == ("cannot be booked: KeyError", house.server_id)


def test_a_login_that_is_not_ours_is_booked_without_owner(house):
    put(house, *deal_events(DEAL), position_event(ORIGIN, stamp(), "add", POSITION), account_event(ORIGIN, stamp(), ACCOUNT))
    house.drain()
    assert [deal.trading_account_id for deal in deals(house)] == [None]
    assert house.session.scalars(select(Position.trading_account_id)).one() is None
    assert house.count(TradingAccount) == 0


def test_positions_open_change_and_close(house):
    account = house.add_account(login=LOGIN)
    put(house, position_event(ORIGIN, stamp(), "add", POSITION))
    house.drain()
    position = house.session.scalars(select(Position)).one()
    assert (position.trading_account_id, position.volume, position.profit) == (account.id, 125_000_000, Decimal("118.75"))
    assert position.opened_at == ZONE.to_utc(POSITION.created_ms).utc
    later = replace(
        POSITION, volume=25_000_000, profit=Decimal(7), action=1, update_ms=POSITION.update_ms + 10, swap=Decimal(-1)
    )
    put(house, position_event(ORIGIN, stamp(), "update", later), position_event(ORIGIN, stamp(), "update", POSITION))
    house.drain()
    house.session.refresh(position)
    assert (position.volume, position.profit, position.action, position.swap) == (25_000_000, 7, 1, -1)
    put(house, position_event(ORIGIN, stamp(), "update", replace(POSITION, profit=Decimal(9))))  # older than what is stored
    house.drain()
    house.session.refresh(position)
    assert position.profit == 7
    put(house, position_event(ORIGIN, stamp(), "delete", later))
    house.drain()
    assert house.count(Position) == 0


def test_an_older_account_state_changes_nothing(house):
    account = house.add_account(login=LOGIN)
    put(house, account_event(ORIGIN, stamp(ago_s=10), ACCOUNT))
    house.drain()
    put(house, account_event(ORIGIN, stamp(ago_s=20), replace(ACCOUNT, balance=Decimal(1))))
    house.drain()
    house.session.refresh(account)
    assert (account.balance, account.equity) == (26_000, Decimal("26118.75"))
    put(house, account_event(ORIGIN, stamp(ago_s=5), replace(ACCOUNT, balance=Decimal(2), leverage=50)))
    house.drain()
    house.session.refresh(account)
    assert (account.balance, account.leverage) == (2, 50)


def test_a_balance_operation_that_is_not_ours_is_marked_so(house):
    put(house, *deal_events(replace(DEAL, action=2, comment="T-0000000000000 by hand", symbol="")))
    house.drain()
    assert [deal.is_ours for deal in deals(house)] == [False]


def test_a_server_that_is_switched_off_is_not_read(house):
    house.session.get_one(Server, house.server_id).is_active = False
    house.session.commit()
    put(house, *deal_events(DEAL))
    ingest.consume(house.session, house.redis, threading.Event())
    assert deals(house) == []


@pytest.fixture
def process(house: House):
    """The ingest process as it runs in production, looking for new servers every second."""
    environment = {
        **os.environ,
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(house.settings.var_dir),
        "DATABASE_URL": house.settings.database_url,
        "REDIS_URL": house.settings.redis_url,
        "SECRET_KEY": house.settings.secret_key,
        "DOCUMENT_KEY": house.settings.document_key,
        "STRIPE_SECRET_KEY": "x",
        "STRIPE_WEBHOOK_SECRET": "x",
        "MT5_PASSWORD": house.settings.mt5_password,
    }
    script = "from app.metatrader import ingest as i; import config; i.RELOAD_EVERY_S = 1; i.run(config.load_settings())"
    started = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", script], env=environment))
        return started[-1]

    yield start
    for running in started:
        running.kill()
        running.wait()


def test_the_process_survives_kills_and_finds_new_servers(house, process):
    running = process()
    put(house, *deal_events(DEAL))
    wait_until(lambda: len(deals(house)) == 1, 30)
    add_server(house.session, house.simulator, "second")
    origin = Origin("second", "bridge", "b00t")
    publish(house.redis, [("mt:second:0", encode(deal_event(origin, stamp(), "add", replace(DEAL, ticket=5))))])
    wait_until(lambda: len(deals(house)) == 2, 15)
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=10)
    put(house, *deal_events(replace(DEAL, ticket=6)))
    running = process()
    wait_until(lambda: len(deals(house)) == 3, 30)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=10) == 0


def test_many_deals_while_a_consumer_stumbles(house, monkeypatch):
    """Acknowledging fails every third time: all deals are there once."""
    real, calls = StreamConsumer.ack, iter(range(1_000_000))

    def ack(self, entries, marks=None):
        if next(calls) % 3 == 0:
            raise RedisConnectionError
        real(self, entries, marks)

    monkeypatch.setattr(StreamConsumer, "ack", ack)
    monkeypatch.setattr(StreamConsumer, "__init__", _small_batches(StreamConsumer.__init__))
    put(house, *deal_events(*[replace(DEAL, ticket=ticket) for ticket in range(1, 101)]))
    for _ in range(30):
        try:
            house.drain()
            break
        except RedisConnectionError:
            continue
    assert [deal.ticket for deal in deals(house)] == list(range(1, 101))
    told = house.session.scalars(select(Event.payload).where(Event.type == "deal.booked"))
    assert sorted(deal_id for payload in told for deal_id in payload["deal_ids"]) == sorted(d.id for d in deals(house))


def _small_batches(real):
    def init(self, *arguments, **options):
        real(self, *arguments, **{**options, "batch": 7})

    return init


def test_two_sources_book_the_same_deals_at_once(house):
    """Ingest and a sweep meet: the server's lock lets one go first, the other finds all of it there."""
    entries = [replace(DEAL, ticket=ticket) for ticket in range(1, 51)]
    put(house, *deal_events(*entries))

    def book(group):
        with house.database.session() as session:
            servers = {"sim": session.get_one(Server, house.server_id)}
            session.expunge_all()
            consumer = StreamConsumer(house.redis, ["mt:sim:0"], name="reader", group=group)
            consumer.ensure_group()
            ingest.book_entries(session, servers, consumer.read(100).entries)

    in_threads(*[lambda group=group: book(group) for group in ("one", "two", "three")])
    assert len(deals(house)) == 50
    assert house.events(house.server_id, "deal.booked") == ["deal.booked"]
