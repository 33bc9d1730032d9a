"""The threads of sources: one per server, restarted, stopped and paused as staff wish, none in another's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import sources
from app.metatrader.events import ControlEvent, SequenceWatch, decode
from app.metatrader.platform import Position
from app.metatrader.servertime import server_zone
from app.metatrader.sources import running
from app.metatrader.sources.feed import Feed
from app.metatrader.sources.snapshot import AccountSnapshot, PositionSnapshot
from app.models.metatrader import EVENT_SOURCES, Server, ServerState, SourceCursor
from app.models.metatrader import Position as PositionRow
from tests.contracts.sources.world import OPTIONS, ZONE
from tests.integration.trading.house import SYSTEM, add_server, wait_until
from tests.unit.metatrader.samples import ACCOUNT, POSITION

ROOT = Path(__file__).parents[3]
MOMENT = now()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(running, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(running, "PAUSES_S", (0.1,))


@pytest.fixture
def run_all(world):
    """Starts the threads of all servers; `world` is one of them."""
    stops = []

    def start(settings=world.settings):
        stop = threading.Event()
        stops.append((stop, running.run_all(settings, stop)))
        return stop, stops[-1][1]

    yield start
    for stop, keeper in stops:
        stop.set()
        keeper.join(timeout=15)
        assert not keeper.is_alive()


@pytest.fixture
def world(make_world):
    return make_world("poll")


def events(world: object, code: str = "sim") -> list:
    return [decode(fields) for _, fields in world.redis.xrange(f"mt:{code}:0")]


def kinds(world, code="sim") -> list[str]:
    return [event.kind for event in events(world, code)]


def is_read(world, ticket) -> bool:
    return any(event.kind == "deal.add" and event.key == str(ticket) for event in events(world))


def test_a_source_says_that_it_lives(world, run_all):
    stop, keeper = run_all()
    wait_until(lambda: kinds(world).count("control.heartbeat") >= 3)
    stop.set()
    keeper.join(timeout=15)
    told = [event for event in events(world) if isinstance(event, ControlEvent)]
    assert [event.change for event in told][:2] == ["connected", "sync_done"]
    assert told[-1].change == "disconnected"
    assert {event.src for event in told} == {"poll"}


def test_numbers_go_on_over_restarts_without_a_gap(world, run_all):
    for _ in range(2):
        stop, keeper = run_all()
        ticket = world.deposit(100)
        wait_until(lambda it=ticket: is_read(world, it))
        stop.set()
        keeper.join(timeout=15)
    watch = SequenceWatch()
    assert [event.kind for event in events(world) if watch.gap("mt:sim:0", event)] == []
    assert len({event.boot for event in events(world)}) == 1


def test_every_shard_gets_the_signals_and_each_login_its_own(world, run_all):
    world.set(shards=3)
    ticket = world.deposit(100)
    run_all()
    streams = [f"mt:sim:{shard}" for shard in range(3)]

    def told(stream):
        return [decode(fields) for _, fields in world.redis.xrange(stream)]

    wait_until(lambda: any(event.key == str(ticket) for event in told(f"mt:sim:{world.login % 3}")))
    for stream in streams:
        wait_until(lambda it=stream: "control.heartbeat" in [event.kind for event in told(it)])
        deals = [event for event in told(stream) if event.kind == "deal.add"]
        assert bool(deals) == (stream == f"mt:sim:{world.login % 3}")


def test_staff_can_pause_and_resume(world, run_all):
    run_all()
    wait_until(lambda: "control.heartbeat" in kinds(world))
    world.set(events_paused_at=now())
    wait_until(lambda: kinds(world)[-1] == "control.disconnected")
    ticket = world.deposit(100)
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "source-sim"])
    assert not is_read(world, ticket)
    world.set(events_paused_at=None)
    wait_until(lambda: is_read(world, ticket))


@pytest.mark.parametrize("change", [{"is_active": False}, {"events": "stream"}, {"events": "webhook"}])
def test_a_server_that_needs_no_thread_has_none(world, run_all, change):
    run_all()
    wait_until(lambda: "control.heartbeat" in kinds(world))
    world.set(**change)
    wait_until(lambda: kinds(world)[-1] == "control.disconnected")
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "source-sim"])


def test_other_options_make_it_begin_anew(world, run_all):
    run_all()
    wait_until(lambda: "control.heartbeat" in kinds(world))
    world.set(options={"poll": {"every_s": 2}})
    wait_until(lambda: kinds(world).count("control.connected") == 2)


def test_a_sick_server_holds_up_no_other_and_says_what_it_has(world, run_all):
    with world.database.session() as session:
        sick_id = add_server(session, world.simulator, code="sick")
    world.set(options={"poll": OPTIONS["poll"]})
    with world.database.session() as session, unit_of_work(session, SYSTEM):
        session.get_one(Server, sick_id).events = "kafka"
    run_all()
    ticket = world.deposit(100)
    wait_until(lambda: is_read(world, ticket))

    def error():
        world.session.rollback()
        return world.session.scalars(select(ServerState.error).where(ServerState.server_id == sick_id)).one_or_none()

    wait_until(lambda: error() == "kafka with bootstrap.servers is missing in MT_SECRETS")
    world.session.rollback()
    assert world.session.scalars(select(ServerState.error).where(ServerState.server_id == world.server_id)).all() in ([], [""])


def test_trouble_that_is_over_is_no_longer_told(world, run_all):
    world.set(url="https://127.0.0.1:1")

    def error():
        world.session.rollback()
        return world.session.scalars(select(ServerState.error)).one_or_none()

    run_all()
    wait_until(lambda: "Web API" in (error() or ""))
    world.set(url=world.simulator.url)
    wait_until(lambda: error() == "")


def test_a_bug_in_a_library_ends_one_run_only(world, run_all, monkeypatch):
    calls = []

    def stumble(self, cursors):
        calls.append(cursors)
        if len(calls) == 1:
            raise ZeroDivisionError
        save(self, cursors)

    save = Feed.save
    monkeypatch.setattr(Feed, "save", stumble)
    run_all()
    ticket = world.deposit(100)
    wait_until(lambda: is_read(world, ticket) and len(calls) > 1)
    wait_until(lambda: kinds(world).count("control.connected") == 2)


def test_only_one_process_reads_a_server(world):
    engine = create_engine(world.settings.database_url)
    stop = threading.Event()
    with running.turn(engine, world.server_id, stop) as first:
        assert first is not None
        threading.Timer(0.3, stop.set).start()
        with running.turn(engine, world.server_id, stop) as second:
            assert second is None
    with running.turn(engine, world.server_id, threading.Event()) as third:
        assert third is not None
    engine.dispose()


def test_a_source_waits_while_nobody_books(world, run_all, monkeypatch):
    monkeypatch.setattr("app.metatrader.sources.feed.ROOM", 3)
    world.redis.xgroup_create("mt:sim:0", "ingest", id="0-0", mkstream=True)
    run_all()
    for _ in range(5):
        world.deposit(100)
    wait_until(lambda: kinds(world).count("deal.add") == 5)
    ticket = world.deposit(100)
    deadline = time.monotonic() + 2.5  # it asks every second
    while time.monotonic() < deadline:
        assert not is_read(world, ticket)
        threading.Event().wait(0.05)
    world.settles()


def test_cursors_stand_only_for_what_is_in_the_stream(world, run_all):
    run_all()
    ticket = world.deposit(100)
    wait_until(lambda: is_read(world, ticket))
    wait_until(lambda: {"boot", "deals", "seq:mt:sim:0"} <= world.cursors().keys())
    last = max(event.seq for event in events(world))
    assert int(world.cursors()["seq:mt:sim:0"]) <= last
    world.session.rollback()
    assert {row.source for row in world.session.scalars(select(SourceCursor))} == {"poll"}


def test_the_ingest_process_runs_the_sources_and_ends_at_once(world):
    settings = world.settings
    environment = {
        **os.environ,
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(settings.var_dir),
        "DATABASE_URL": settings.database_url,
        "DATABASE_OWNER_URL": settings.database_owner_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "DOCUMENT_KEY": settings.document_key,
        "STRIPE_SECRET_KEY": settings.stripe_secret_key,
        "STRIPE_WEBHOOK_SECRET": settings.stripe_webhook_secret,
        "MT5_PASSWORD": dict(settings.mt_secrets)["sim"].password,
        "MT5_CA_FILE": dict(settings.mt_secrets)["sim"].ca_file,
    }
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), "ingest"], env=environment, cwd=ROOT)
    try:
        ticket = world.deposit(123)
        wait_until(lambda: ticket in world.deals(), within_s=60)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
        assert time.monotonic() - began < 6
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_positions_that_closed_while_nobody_read_are_closed(world, run_all):
    world.deposit()
    position = world.open("0.10")
    stop, keeper = run_all()
    world.settles()
    stop.set()
    keeper.join(timeout=15)
    world.close(position)
    assert world.session.scalars(select(PositionRow.ticket)).all() == [position]
    run_all()
    world.settles()
    world.session.rollback()
    assert world.session.scalars(select(PositionRow.ticket)).all() == []


def test_a_snapshot_tells_changes_and_nothing_else():
    zone, first, second = server_zone(ZONE), POSITION, Position(**{**vars(POSITION), "ticket": 9})
    snapshot = PositionSnapshot([first], zone)
    assert snapshot.compare([first], MOMENT) == []
    changed = Position(**{**vars(first), "volume": 1})
    assert [(one.change, one.record.ticket) for one in snapshot.compare([changed, second], MOMENT)] == [
        ("update", first.ticket), ("add", 9),
    ]  # fmt: skip
    (closed,) = snapshot.compare([second], MOMENT)
    assert (closed.change, closed.record.ticket, closed.record.update_ms) == ("delete", first.ticket, zone.wall_ms(MOMENT))
    accounts = AccountSnapshot()
    assert [one.change for one in accounts.compare([ACCOUNT], MOMENT)] == ["state"]
    assert accounts.compare([ACCOUNT], MOMENT) == []


def test_each_source_is_described_in_words():
    described = {name for name in EVENT_SOURCES if sources.describe(name)}
    assert described == set(EVENT_SOURCES)
    assert {name for name in described if sources.load(name)} == {"kafka", "sql", "poll", "mt4_report"}
    assert sources.describe("telepathy") is None
    assert all(one.title and one.needs and one.misses and one.found_by for one in sources.DESCRIPTIONS.values())
