"""What stands before every exchange: the rate, the places, the breaker; over real TLS and a real Valkey."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest
from redis import Redis

from app.core.clock import now
from app.metatrader.errors import BadAnswer, BusinessError, NotSent, ServerBusy, UnknownOutcome, Unreachable
from app.metatrader.platforms import health, traffic
from app.metatrader.platforms.breaker import Breaker, Verdict
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.platforms.traffic import Limits
from app.metatrader.simulator.faults import FOREVER, Fault
from tests.contracts.platforms.houses import access

IMPATIENT = httpx.Timeout(connect=2.0, read=0.3, write=2.0, pool=2.0)
BREAKER = {"breaker": {"failures": 3, "open_s": 1}}
FAST = {"requests_per_second": 1000}


@pytest.fixture
def connect(simulator, redis):
    """Adapters that share a Redis, as processes do."""
    made = []

    def open_one(*, places=None, redis=redis, timeouts=IMPATIENT, **options):
        made.append(MT5WebPlatform(access(simulator, options=options), redis=redis, places=places, timeouts=timeouts))
        return made[-1]

    yield open_one
    for platform in made:
        platform.close()


@pytest.fixture
def faults(simulator):
    def switch_on(kind=None, path="/api/", times=FOREVER, **numbers):
        rules = [Fault(kind=kind, path=path, times=times, **numbers)] if kind else []
        simulator.control.faults.set(rules)

    yield switch_on
    simulator.control.faults.set([])


@contextmanager
def within(seconds):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def eventually(condition, within_s=10.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestBreaker:
    def test_a_silent_server_is_left_alone_by_all(self, connect, redis, faults, simulator, wanted):
        one, other = connect(**BREAKER), connect(**BREAKER)
        login = one.create_account(wanted)
        assert health(redis, "sim").state == "closed"
        faults("slow", seconds=1.0)
        for _ in range(3):
            with pytest.raises(Unreachable):
                one.groups()
        found = health(redis, "sim")
        assert (found.state, found.failures, found.last_error.partition(":")[0]) == ("open", 3, "ReadTimeout")
        assert timedelta() <= now() - found.since < timedelta(seconds=10)
        left = simulator.control.faults.listed()[0]["times"]
        with within(1.0):
            with pytest.raises(Unreachable):
                other.groups()
            with pytest.raises(NotSent):
                other.balance_operation(login, Decimal(1), "x")
        assert simulator.control.faults.listed()[0]["times"] == left

    def test_commands_count_as_well(self, connect, redis, faults, wanted):
        platform = connect(**BREAKER)
        login = platform.create_account(wanted)
        faults("slow", path="/api/trade/balance", seconds=1.0)
        for _ in range(3):
            with pytest.raises(UnknownOutcome):
                platform.balance_operation(login, Decimal(1), "x")
        assert health(redis, "sim").state == "open"
        with pytest.raises(NotSent):
            platform.balance_operation(login, Decimal(1), "x")

    def test_a_harmless_question_tries_whether_it_is_back(self, connect, redis, faults, wanted):
        """While the server stays silent a command is never what tries it."""
        platform = connect(**BREAKER)
        login = platform.create_account(wanted)
        faults("slow", seconds=1.0)
        for _ in range(3):
            with pytest.raises(Unreachable):
                platform.groups()
        time.sleep(1.1)
        with pytest.raises(NotSent):
            platform.balance_operation(login, Decimal(1), "x")
        assert health(redis, "sim").state == "open"
        faults()
        time.sleep(1.1)
        assert platform.balance_operation(login, Decimal(1), "y") > 0
        found = health(redis, "sim")
        assert (found.state, found.failures) == ("closed", 0)
        assert found.last_error.startswith("ReadTimeout")
        assert platform.get_account(login).balance == 1

    def test_what_a_server_refuses_is_an_answer(self, connect, redis, faults):
        platform = connect(**BREAKER, **FAST)
        for kind, error, code in (
            ("http_503", ServerBusy, 0),
            ("garble", BadAnswer, 0),
            ("retcode", BusinessError, 3),
            ("retcode", Unreachable, 7),
        ):
            faults(kind, path="/api/group/get", code=code)
            for _ in range(5):
                with pytest.raises(error):
                    platform.groups()
        assert health(redis, "sim").failures == 0

    def test_failures_must_follow_each_other(self, connect, redis, faults):
        platform = connect(**BREAKER)
        for _ in range(3):
            faults("slow", times=2, seconds=1.0)
            for _ in range(2):
                with pytest.raises(Unreachable):
                    platform.groups()
            assert health(redis, "sim").failures == 2
            platform.groups()
            assert health(redis, "sim").failures == 0

    def test_a_server_that_is_down(self, connect, redis, simulator):
        platform = connect(**BREAKER)
        simulator.stop()
        for _ in range(2):
            with pytest.raises(Unreachable):
                platform.groups()
        found = health(redis, "sim")
        assert found.state == "open"
        assert found.last_error.startswith("ConnectError")

    def test_one_at_a_time_may_try(self, redis):
        breaker = Breaker(redis, "a", failures=2, open_s=0.2, probe_s=30)
        other = Breaker(redis, "b", failures=2, open_s=0.2, probe_s=30)
        breaker.failed("x")
        assert breaker.ask() is Verdict.GO
        breaker.failed("x")
        assert breaker.ask() is Verdict.SHUT
        assert other.ask() is Verdict.GO
        eventually(lambda: breaker.ask() is Verdict.PROBE)
        assert health(redis, "a").state == "half_open"
        assert breaker.ask() is Verdict.SHUT
        breaker.failed("again")
        assert breaker.ask() is Verdict.SHUT
        assert (health(redis, "a").state, health(redis, "a").last_error) == ("open", "again")
        eventually(lambda: breaker.ask() is Verdict.PROBE)
        breaker.answered()
        assert breaker.ask() is Verdict.GO


class TestRate:
    def test_all_processes_share_it(self, connect):
        options = {"requests_per_second": 5, "sessions": {"command": 1, "read": 1}}
        one, other = connect(**options), connect(**options)
        began = time.monotonic()
        for platform in (one, other) * 6:
            platform.groups()
        assert time.monotonic() - began > 1.9

    def test_it_holds_without_redis(self, connect):
        platform = connect(redis=None, requests_per_second=5, sessions={"command": 1, "read": 1})
        began = time.monotonic()
        for _ in range(11):
            platform.groups()
        assert time.monotonic() - began > 1.9

    def test_reads_do_not_use_up_the_rate_of_commands(self, connect, wanted):
        platform = connect(requests_per_second=2, sessions={"command": 1, "read": 1})
        login = platform.create_account(wanted)
        for _ in range(2):
            platform.groups()
        with within(0.8):
            platform.balance_operation(login, Decimal(1), "x")

    def test_what_would_wait_too_long_is_not_sent(self, connect, wanted, monkeypatch, simulator):
        monkeypatch.setattr(traffic, "RATE_PATIENCE_S", 0.2)
        platform = connect(requests_per_second=1, sessions={"command": 1, "read": 1})
        login = platform.create_account(wanted)
        with pytest.raises(ServerBusy):
            platform.balance_operation(login, Decimal(1), "x")
        assert simulator.store.deals(login, 0, 2**62) == []


class TestPlaces:
    @pytest.fixture
    def occupied(self, connect, faults):
        """A thread is in an exchange that takes three seconds, in the only place there is."""
        platform = connect(places=1, timeouts=httpx.Timeout(5.0))
        platform.groups()
        faults("slow", times=1, seconds=3.0)
        thread = threading.Thread(target=platform.symbols)
        thread.start()
        yield thread
        thread.join(timeout=10)

    def test_nobody_waits_long_for_a_slow_exchange(self, connect, occupied, monkeypatch, redis):
        monkeypatch.setattr(traffic, "PLACE_PATIENCE_S", 0.5)
        platform, free = connect(places=1), connect()
        eventually(lambda: redis.zcard("platform:sim:places") == 1)
        with within(1.0), pytest.raises(Unreachable):
            platform.groups()
        with within(1.0):
            for _ in range(3):
                with pytest.raises(Unreachable):
                    platform.groups()
            with pytest.raises(NotSent):
                platform.balance_operation(5, Decimal(1), "x")
        assert free.groups()
        occupied.join(timeout=10)
        assert platform.groups()
        assert health(redis, "sim").failures == 0

    def test_a_short_wait_is_taken(self, connect, occupied, redis, monkeypatch):
        monkeypatch.setattr(traffic, "PLACE_PATIENCE_S", 10.0)
        platform = connect(places=1)
        eventually(lambda: redis.zcard("platform:sim:places") == 1)
        assert platform.groups()
        assert not redis.exists("platform:sim:places")

    def test_the_place_of_one_who_died_is_free_again(self, connect, redis):
        platform = connect(places=1)
        lease_ms = platform._server._traffic._lease_ms
        redis.zadd("platform:sim:places", {"dead": time.time() * 1000 - lease_ms + 500})
        with pytest.raises(Unreachable):
            platform.groups()
        time.sleep(0.6)
        assert platform.groups()

    def test_a_waiting_command_keeps_reads_out(self, redis):
        gate = traffic.Traffic("sim", Limits.of({}), redis=redis, places=1)

        def enter(token, lane):
            return gate._enter("platform:sim:places", token, lane)

        assert enter("one", "read") == 1
        assert enter("command", "command") == 0
        redis.zrem("platform:sim:places", "one")
        assert enter("another", "read") == 0
        assert enter("command", "command") == 1
        redis.zrem("platform:sim:places", "command")
        assert enter("another", "read") == 1

    def test_commands_find_their_way_through_reads(self, connect, wanted, monkeypatch):
        monkeypatch.setattr(traffic, "PLACE_PATIENCE_S", 5.0)
        stop = threading.Event()
        readers = [connect(places=1, timeouts=httpx.Timeout(5.0), **FAST) for _ in range(3)]

        def read(platform):
            while not stop.is_set():
                platform.groups()

        threads = [threading.Thread(target=read, args=(platform,)) for platform in readers]
        commander = connect(places=1, timeouts=httpx.Timeout(5.0))
        login = commander.create_account(wanted)
        try:
            for thread in threads:
                thread.start()
            for number in range(10):
                with within(1.0):
                    assert commander.balance_operation(login, Decimal(1), f"D-{number}") > 0
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=10)


def test_a_redis_that_is_away_stops_nothing(connect, wanted):
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1)
    platform = connect(redis=nowhere, places=1)
    login = platform.create_account(wanted)
    assert platform.balance_operation(login, Decimal(1), "x") > 0
    assert platform.get_account(login).balance == 1


def test_limits_from_a_servers_options(caplog):
    assert Limits.of({}) == Limits(sessions={"command": 2, "read": 2})
    given = {"sessions": {"read": 4}, "requests_per_second": 25, "timeout_s": 10, "breaker": {"failures": 5, "open_s": 60}}
    assert Limits.of(given) == Limits({"command": 2, "read": 4}, 25, 10, 5, 60)
    assert Limits.of({"sessions": 3, "requests_per_second": "many", "timeout_s": 0, "breaker": {"open_s": True}}) == Limits.of(
        {}
    )
    assert "requests_per_second" in caplog.text
