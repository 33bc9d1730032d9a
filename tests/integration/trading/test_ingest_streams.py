"""Which process reads which streams, pauses, gaps: nothing is read twice, nothing is left, what is missing is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import func, select

from app.core.clock import now
from app.core.tables import Event
from app.metatrader import gaps, ingest
from app.metatrader.events import Origin, Stamp, control_event, deal_event, encode
from app.metatrader.ingest import Share
from app.metatrader.servertime import server_zone
from app.metatrader.stream import StreamConsumer, lag, publish, publish_events, stream_names
from app.models.metatrader import DeadLetter, Deal, Server, ServerState
from tests.conftest import Database
from tests.integration.trading.house import wait_until
from tests.unit.metatrader.samples import DEAL

ZONE = server_zone("EET")
ALONE = Share()


@dataclass
class Yard:
    """Servers without a simulator behind them, and their streams."""

    database: Database
    redis: Redis

    def add_server(self, code: str, shards: int = 1, **values: object) -> int:
        with self.database.session() as session:
            server = Server(
                code=code, name=code, platform="mt5_web", url="https://localhost", manager_login=1, time_zone="EET",
                shards=shards, **values,
            )  # fmt: skip
            session.add(server)
            session.commit()
            return server.id

    def change(self, server_id: int, **values: object) -> None:
        with self.database.session() as session:
            server = session.get_one(Server, server_id)
            for name, value in values.items():
                setattr(server, name, value)
            session.commit()

    def put(self, code: str, *seqs: int, shards: int = 1, login: int = DEAL.login) -> None:
        """A deal for each number in the source's sequence."""
        publish_events(self.redis, [self.deal(code, seq, login) for seq in seqs], shards)

    def deal(self, code: str, seq: int, login: int = DEAL.login):
        return deal_event(Origin(code, "bridge", "b00t"), stamp(seq), "add", replace(DEAL, ticket=seq, login=login))

    def count(self, *conditions: object) -> int:
        with self.database.session() as session:
            return session.scalar(select(func.count()).select_from(Deal).where(*conditions)) or 0

    def sweeps_ordered(self) -> list[dict]:
        with self.database.session() as session:
            return list(session.scalars(select(Event.payload).where(Event.type == "server.gap").order_by(Event.id)))

    def gaps(self, server_id: int) -> int:
        with self.database.session() as session:
            state = session.get(ServerState, server_id)
            return state.gaps if state else 0

    @contextmanager
    def ingest(self, share: Share = ALONE) -> Iterator[None]:
        """Ingest runs in a thread meanwhile."""
        stop, errors = threading.Event(), []

        def work() -> None:
            try:
                with self.database.session() as session:
                    while not stop.is_set():
                        ingest.consume(session, self.redis, stop, share)
            except Exception as error:  # noqa: BLE001  handed to the test
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=20)
        assert errors == []
        assert not thread.is_alive()


def stamp(seq: int) -> Stamp:
    return Stamp(seq, ZONE.wall_ms(now()), ZONE.offset_min(now()), now())


@pytest.fixture
def yard(database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setattr(ingest, "RELOAD_EVERY_S", 0.1)
    monkeypatch.setattr(gaps, "PATIENCE_S", 0.3)
    return Yard(database, redis)


@pytest.mark.parametrize("of", [1, 2, 3])
def test_every_stream_has_one_reader(of):
    for server_id in range(1, 6):
        for shard in range(64):
            assert sum(Share(index, of).owns(server_id, shard) for index in range(of)) == 1


def test_servers_of_one_stream_each_are_shared_too():
    readers = {next(index for index in range(2) if Share(index, 2).owns(server_id, 0)) for server_id in (1, 2)}
    assert readers == {0, 1}


def test_a_paused_server_waits_and_goes_on(yard):
    paused, other = yard.add_server("paused", events_paused_at=now()), yard.add_server("other")
    yard.put("paused", 1, 2)
    yard.put("other", 1)
    with yard.ingest():
        wait_until(lambda: yard.count(Deal.server_id == other) == 1)
        assert yard.count(Deal.server_id == paused) == 0
        yard.change(paused, events_paused_at=None)
        wait_until(lambda: yard.count(Deal.server_id == paused) == 2)
        yard.change(paused, events_paused_at=now())
        wait_until(lambda: not yard.redis.xinfo_consumers("mt:paused:0", "ingest")[0]["pending"])
        yard.put("other", 2)
        wait_until(lambda: yard.count(Deal.server_id == other) == 2)
    assert lag(yard.redis, "mt:paused:0").pending == 0


def test_a_server_that_pauses_while_it_is_read_stops_within_seconds(yard):
    server = yard.add_server("sim")
    with yard.ingest():
        yard.put("sim", 1)
        wait_until(lambda: yard.count() == 1)
        yard.change(server, events_paused_at=now())
        heard = threading.Event()
        assert not heard.wait(0.5)  # longer than RELOAD_EVERY_S here: the pause is known
        yard.put("sim", 2)
        assert not heard.wait(0.5)
        assert yard.count() == 1
    assert lag(yard.redis, "mt:sim:0").waiting == 1


def test_shards_of_a_server_are_read_by_their_readers_only(yard):
    yard.add_server("sim", shards=4)
    for login in range(1, 9):
        yard.put("sim", login, shards=4, login=login)
    with yard.ingest(Share(0, 2)):
        wait_until(lambda: yard.count() == 4)
    with yard.ingest(Share(1, 2)):
        wait_until(lambda: yard.count() == 8)
    readers = {
        stream: [consumer["name"] for consumer in yard.redis.xinfo_consumers(stream, "ingest")]
        for stream in stream_names("sim", 4)
    }
    assert sorted(map(tuple, readers.values())) == [(b"ingest",), (b"ingest",), (b"ingest-1",), (b"ingest-1",)]


def test_what_is_left_in_shards_that_a_server_had_is_read(yard):
    yard.add_server("sim", shards=1)
    yard.put("sim", 1, 2, 3, shards=4, login=3)  # into shard 3
    assert yard.redis.xlen("mt:sim:3") == 3
    with yard.ingest():
        wait_until(lambda: yard.count() == 3)


def test_skipped_numbers_order_a_sweep(yard):
    server_id = yard.add_server("sim")
    with yard.ingest():
        yard.put("sim", 1, 2, 5, 6)
        wait_until(lambda: yard.count() == 4)
        wait_until(lambda: yard.gaps(server_id) == 2)
    assert yard.sweeps_ordered() == [{"server_id": server_id, "lost": 2}]


def test_numbers_in_another_order_order_none(yard):
    server_id = yard.add_server("sim")
    with yard.ingest():
        yard.put("sim", 1, 4, 3, 2, 5)
        wait_until(lambda: yard.count() == 5)
        assert not threading.Event().wait(2 * gaps.PATIENCE_S)
        yard.put("sim", 6)
        wait_until(lambda: yard.count() == 6)
    assert (yard.gaps(server_id), yard.sweeps_ordered()) == (0, [])


def test_what_was_skipped_while_nobody_read_is_noticed(yard):
    server_id = yard.add_server("sim")
    with yard.ingest():
        yard.put("sim", 1, 2)
        wait_until(lambda: lag(yard.redis, "mt:sim:0").pending == 0 and yard.count() == 2)
    yard.put("sim", 9)
    with yard.ingest():
        wait_until(lambda: yard.gaps(server_id) == 6)


def test_entries_that_were_trimmed_unread_order_a_sweep(yard):
    server_id = yard.add_server("sim")
    yard.put("sim", 1, 2, 3)
    yard.redis.xgroup_create("mt:sim:0", "ingest", id="0-0")
    died = StreamConsumer(yard.redis, ["mt:sim:0"], name="ingest")
    yard.redis.xdel("mt:sim:0", died.read(1).entries[0].id)
    with yard.ingest():
        wait_until(lambda: yard.count() == 2)
        wait_until(lambda: yard.gaps(server_id) == 1)
    assert len(yard.sweeps_ordered()) == 1


def test_a_source_that_is_back_orders_a_sweep_once_for_all_its_shards(yard):
    server_id = yard.add_server("sim", shards=2)
    origin = Origin("sim", "bridge", "b00t")
    with yard.ingest():
        publish_events(yard.redis, [control_event(origin, stamp(1), "disconnected")], 2)
        publish_events(yard.redis, [control_event(origin, stamp(2), "connected")], 2)
        wait_until(lambda: yard.sweeps_ordered() != [])
        yard.put("sim", 3)
        wait_until(lambda: yard.count() == 1)
    assert yard.sweeps_ordered() == [{"server_id": server_id, "lost": 0}]
    with yard.database.session() as session:
        state = session.get_one(ServerState, server_id)
        assert state.disconnected_at < state.connected_at <= state.heartbeat_at


def test_a_bad_entry_keeps_no_gap_from_being_noticed(yard, monkeypatch):
    """The batch fails as a whole and is booked entry by entry."""
    server_id = yard.add_server("sim")
    huge = encode(yard.deal("sim", 2))
    huge["payload"] = huge["payload"].replace('"RateProfit":"1.00000000"', '"RateProfit":"999999999999"')
    publish(
        yard.redis, [("mt:sim:0", encode(yard.deal("sim", 1))), ("mt:sim:0", huge), ("mt:sim:0", encode(yard.deal("sim", 9)))]
    )
    with yard.ingest():
        wait_until(lambda: yard.count() == 2)
        wait_until(lambda: yard.gaps(server_id) == 6)
    with yard.database.session() as session:
        reasons = session.scalars(select(DeadLetter.reason).where(DeadLetter.login.is_(None))).all()
        assert reasons == ["cannot be booked: DataError"]


@pytest.fixture
def start(yard: Yard) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """The ingest processes as they run in production."""
    settings = yard.database.settings
    environment = {
        **os.environ,
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(settings.var_dir),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "DOCUMENT_KEY": settings.document_key,
        "STRIPE_SECRET_KEY": "x",
        "STRIPE_WEBHOOK_SECRET": "x",
        "MT5_PASSWORD": settings.mt5_password,
        "INGEST_PROCESSES": "2",
    }
    script = "import config; from app.metatrader import ingest; ingest.run(config.load_settings())"
    started: list[subprocess.Popen[bytes]] = []

    def run() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", script], env=environment))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_processes_share_the_work_and_end_together(yard, start):
    yard.add_server("sim", shards=2)
    running = start()
    for login in range(1, 21):
        yard.put("sim", login, shards=2, login=login)
    wait_until(lambda: yard.count() == 20, 40)
    names = {yard.redis.xinfo_consumers(stream, "ingest")[0]["name"] for stream in stream_names("sim", 2)}
    assert names == {b"ingest", b"ingest-1"}
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=20) == 0


def test_when_one_process_dies_the_others_end_and_a_new_start_loses_nothing(yard, start):
    yard.add_server("sim", shards=2)
    running = start()
    yard.put("sim", 1, shards=2, login=1)
    yard.put("sim", 2, shards=2, login=2)
    wait_until(lambda: yard.count() == 2, 40)
    (child,) = children(running.pid)
    os.kill(child, signal.SIGKILL)
    assert running.wait(timeout=20) == 1
    yard.put("sim", 3, shards=2, login=1)
    yard.put("sim", 4, shards=2, login=2)
    start()
    wait_until(lambda: yard.count() == 4, 40)


def test_a_parent_that_is_killed_takes_the_others_along(yard, start):
    yard.add_server("sim", shards=2)
    running = start()
    yard.put("sim", 1, shards=2, login=1)
    yard.put("sim", 2, shards=2, login=2)
    wait_until(lambda: yard.count() == 2, 40)
    (child,) = children(running.pid)
    running.kill()
    running.wait()
    wait_until(lambda: not is_running(child), 20)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
