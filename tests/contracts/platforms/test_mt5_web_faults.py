"""The Web API adapter when things go wrong: what is safe to repeat, what is unknown, and what never leaves us."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.core.clock import now
from app.metatrader.errors import (
    AccessDenied,
    BadAnswer,
    NotKnown,
    NotSent,
    ServerBusy,
    UnknownOutcome,
    Unreachable,
)
from app.metatrader.platforms.mt5_pool import KeepAlive, SessionPool
from app.metatrader.platforms.mt5_session import TIMEOUTS
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.commands import COMMANDS
from app.metatrader.simulator.faults import Fault
from app.metatrader.simulator.server import Handler
from app.metatrader.simulator.session import ApiSession
from tests.contracts.platforms.conftest import QUICK
from tests.contracts.platforms.houses import PASSWORD, access

BALANCE = "/api/trade/balance"
TOKEN = "D-8QK2N0V5ZT3RM"


@pytest.fixture
def login(mt5, wanted):
    return mt5.create_account(wanted)


@pytest.fixture
def faults(simulator):
    def switch_on(kind, path=BALANCE, **numbers):
        simulator.control.faults.set([Fault(kind=kind, path=path, **numbers)])

    return switch_on


def tokens(simulator, login):
    """Comments of the login's deals, as somebody with a session of his own finds them."""
    with MT5WebPlatform(access(simulator)) as fresh:
        return [deal.comment for deal in fresh.deals(login, now() - timedelta(minutes=5), now() + timedelta(minutes=5))]


def deposit(platform, login):
    return platform.balance_operation(login, Decimal(600), TOKEN)


def sign_ins(caplog):
    return sum("signed in" in record.message for record in caplog.records)


@pytest.mark.parametrize("kind", ["execute_then_drop", "garble"])
def test_carried_out_but_not_confirmed(mt5, simulator, login, faults, kind):
    faults(kind)
    with pytest.raises(UnknownOutcome):
        deposit(mt5, login)
    assert tokens(simulator, login) == [TOKEN]
    assert mt5.get_account(login).balance == 600


def test_neither_carried_out_nor_confirmed(mt5, simulator, login, faults):
    faults("drop")
    with pytest.raises(UnknownOutcome):
        deposit(mt5, login)
    assert tokens(simulator, login) == []


def test_too_slow(mt5, simulator, login, faults):
    faults("slow", seconds=1.5)
    with pytest.raises(UnknownOutcome):
        deposit(mt5, login)
    deadline = now() + timedelta(seconds=10)
    while not tokens(simulator, login) and now() < deadline:
        threading.Event().wait(0.1)
    assert tokens(simulator, login) == [TOKEN]


@pytest.mark.parametrize("code", [7, 9, 10, 11, 15, 10012, 10031])
def test_the_server_itself_does_not_know(mt5, login, faults, code):
    faults("retcode", code=code)
    with pytest.raises(UnknownOutcome) as caught:
        deposit(mt5, login)
    assert caught.value.retcode == code


@pytest.mark.parametrize("code", [12, 1018, 10024])
def test_busy_by_the_servers_own_word(mt5, simulator, login, faults, code):
    faults("retcode", code=code)
    with pytest.raises(ServerBusy):
        deposit(mt5, login)
    assert tokens(simulator, login) == []
    assert deposit(mt5, login) > 0


def test_an_http_status_proves_nothing_about_a_change(mt5, login, faults):
    faults("http_503")
    with pytest.raises(UnknownOutcome):
        deposit(mt5, login)


def test_a_change_is_sent_once_whatever_happens(mt5, simulator, login, faults):
    faults("drop", times=5)
    with pytest.raises(UnknownOutcome):
        deposit(mt5, login)
    assert simulator.control.faults.listed()[0]["times"] == 4


@pytest.mark.parametrize("kind", ["drop", "retcode"])
def test_reads_are_repeated_once(mt5, login, faults, kind):
    faults(kind, path="/api/user/get", code=10)
    assert mt5.get_account(login).balance == 0
    faults(kind, path="/api/user/get", code=10, times=2)
    with pytest.raises(Unreachable):
        mt5.get_account(login)


def test_reads_of_a_busy_server(mt5, login, faults):
    faults("http_503", path="/api/user/get")
    with pytest.raises(ServerBusy):
        mt5.get_account(login)
    faults("garble", path="/api/user/get")
    with pytest.raises(BadAnswer):
        mt5.get_account(login)
    assert mt5.get_account(login).login == login


def test_a_server_that_is_down(mt5, simulator, login):
    simulator.stop()
    with pytest.raises(NotSent):
        deposit(mt5, login)
    with pytest.raises(Unreachable):
        mt5.get_account(login)


def test_a_server_that_came_back(tmp_path, mt5, simulator, login):
    """The old connection is gone: a change is refused unread and safe to repeat; a read just works."""
    port = int(simulator.url.rpartition(":")[2])
    simulator.stop()
    with Simulator(state_dir=tmp_path / "server", password=PASSWORD, port=port, tick_s=0) as again:
        with pytest.raises(NotSent):
            deposit(mt5, login)
        assert tokens(again, login) == []
        assert deposit(mt5, login) > 0
        assert mt5.get_account(login).balance == 600
        assert tokens(again, login) == [TOKEN]


def test_what_broke_one_session_breaks_the_idle_ones(tmp_path, simulator, wanted):
    """After the server was started anew the second session is not tried at all."""
    port = int(simulator.url.rpartition(":")[2])
    with MT5WebPlatform(access(simulator)) as platform:
        pool = platform._server._pools["read"]
        with pool.session() as first, pool.session() as second:
            assert first is not second
        simulator.stop()
        with Simulator(state_dir=tmp_path / "server", password=PASSWORD, port=port, tick_s=0):
            assert platform.groups()
            assert len(pool._idle) == 1
            assert not {first, second}.intersection(pool._idle)


def test_an_idle_connection_that_the_server_closed(simulator, wanted, monkeypatch):
    monkeypatch.setattr(Handler, "timeout", 0.2)
    with MT5WebPlatform(access(simulator)) as platform:
        login = platform.create_account(wanted)
        threading.Event().wait(0.6)
        assert platform.get_account(login).login == login


def test_a_session_that_was_silent_is_tried_before_use(simulator, wanted, monkeypatch, caplog):
    monkeypatch.setattr(KeepAlive, "start", lambda _: None)
    monkeypatch.setattr("app.metatrader.platforms.mt5_session.PING_AFTER_S", 0.0)
    monkeypatch.setattr(Handler, "timeout", 0.5)
    caplog.set_level(logging.INFO, "lotwise.mt5_web")
    with MT5WebPlatform(access(simulator)) as platform:
        login = platform.create_account(wanted)
        assert deposit(platform, login) > 0
        assert sign_ins(caplog) == 1
        threading.Event().wait(1.0)
        assert deposit(platform, login) > 0
        assert sign_ins(caplog) == 2


def test_an_idle_session_is_kept_alive(simulator, wanted, monkeypatch, caplog):
    """The server closes after half a second of silence; after several of them the first command finds a live session."""
    monkeypatch.setattr("app.metatrader.platforms.mt5_session.PING_AFTER_S", 0.2)
    monkeypatch.setattr(Handler, "timeout", 0.5)
    pinged = threading.Event()
    original = SessionPool.ping_idle

    def ping_idle(pool):
        was_due = any(session.is_due for session in pool._idle)
        original(pool)
        if was_due:
            pinged.set()

    monkeypatch.setattr(SessionPool, "ping_idle", ping_idle)
    caplog.set_level(logging.INFO, "lotwise.mt5_web")
    with MT5WebPlatform(access(simulator)) as platform:
        login = platform.create_account(wanted)
        for _ in range(5):
            pinged.clear()
            assert pinged.wait(5)
        assert deposit(platform, login) > 0
        assert sign_ins(caplog) == 1


def test_the_keep_alive_thread_ends_with_its_adapter(simulator):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name == "mt5-keep-alive" and thread not in others]

    others = list(threading.enumerate())
    platform = MT5WebPlatform(access(simulator))
    platform.groups()
    platform.symbols()
    (thread,) = threads()
    platform.close()
    thread.join(timeout=5)
    assert threads() == []


def test_one_forbidden_command_does_not_end_the_session(mt5, login, caplog):
    mt5.get_account(login)
    caplog.set_level(logging.INFO, "lotwise.mt5_web")
    with pytest.raises(AccessDenied):
        mt5._server.read("book/subscribe", {"symbol": "EURUSD"})
    assert mt5.get_account(login).login == login
    assert sign_ins(caplog) == 0


def test_a_wrong_manager_password(simulator, wanted):
    with MT5WebPlatform(access(simulator, password="wrong")) as platform, pytest.raises(AccessDenied) as caught:
        platform.create_account(wanted)
    assert caught.value.retcode == 1001


def test_a_server_that_does_not_know_the_password(simulator, wanted, monkeypatch):
    """It lets us in without checking, but cannot answer our challenge: nothing is sent to it."""
    monkeypatch.setattr(ApiSession, "answer", lambda *_: {"cli_rand_answer": "00" * 16})
    with MT5WebPlatform(access(simulator)) as platform, pytest.raises(AccessDenied) as caught:
        platform.create_account(wanted)
    assert caught.value.retcode == 1008
    assert simulator.store.accounts() == []


@pytest.mark.parametrize("challenge", [{}, {"srv_rand": "xyz"}, {"srv_rand": "00" * 15}, {"srv_rand": None}])
def test_a_sign_in_that_breaks_the_protocol(simulator, wanted, monkeypatch, challenge):
    monkeypatch.setattr(ApiSession, "start", lambda *_: challenge)
    with MT5WebPlatform(access(simulator)) as platform:
        with pytest.raises(NotSent):
            platform.create_account(wanted)
        with pytest.raises(BadAnswer):
            platform.groups()


@pytest.mark.parametrize("answer", [None, {}, {"Ticket": ""}, {"Ticket": "0"}, [], "done"])
def test_a_confirmed_change_without_its_number(mt5, login, monkeypatch, answer):
    monkeypatch.setitem(COMMANDS, "trade/balance", lambda _: answer)
    with pytest.raises(UnknownOutcome):
        deposit(mt5, login)


@pytest.mark.parametrize("answer", [None, "text", [1], {"Login": "x"}, [{"Login": "100001", "Balance": "NaN"}]])
def test_reads_that_break_the_protocol(mt5, login, monkeypatch, answer):
    monkeypatch.setitem(COMMANDS, "user/get", lambda _: answer)
    with pytest.raises(BadAnswer):
        mt5.get_account(login)


def test_a_single_record_in_a_list(mt5, login, monkeypatch):
    original = COMMANDS["user/get"]
    monkeypatch.setitem(COMMANDS, "user/get", lambda call: [original(call)])
    assert mt5.get_account(login).login == login


def test_a_certificate_of_another_authority(tmp_path, simulator, wanted):
    with (
        Simulator(state_dir=tmp_path / "other", password=PASSWORD, tick_s=0) as other,
        MT5WebPlatform(access(simulator, ca_file=str(other.ca_file))) as platform,
    ):
        with pytest.raises(NotSent):
            platform.create_account(wanted)
        with pytest.raises(Unreachable):
            platform.groups()


def test_a_missing_authority_file(simulator, wanted, tmp_path):
    with MT5WebPlatform(access(simulator, ca_file=str(tmp_path / "none.pem"))) as platform:
        with pytest.raises(NotSent):
            platform.create_account(wanted)
        (tmp_path / "none.pem").write_bytes(simulator.ca_file.read_bytes())
        assert platform.create_account(wanted) > 0


def test_one_connection_per_session_and_no_more_sessions_than_allowed(simulator, wanted, caplog):
    caplog.set_level(logging.INFO, "lotwise.mt5_web")
    tickets: list[int] = []
    with MT5WebPlatform(access(simulator)) as platform:
        logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(4)]

        def work(login):
            tickets.extend(platform.balance_operation(login, Decimal(1), f"D-{number}") for number in range(10))

        threads = [threading.Thread(target=work, args=(login,)) for login in logins]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert len(set(tickets)) == 40
        assert [platform.get_account(login).balance for login in logins] == [10, 10, 10, 10]
    assert 2 <= sign_ins(caplog) <= 4


def test_no_password_in_any_address_or_log_line(mt5, simulator, wanted, caplog):
    caplog.set_level(logging.DEBUG)
    login = mt5.create_account(wanted)
    mt5.change_password(login, "main", "Changed1234!")
    mt5.check_password(login, "main", "Changed1234!")
    with pytest.raises(NotKnown):
        mt5.check_password(5, "main", "Changed1234!")
    deposit(mt5, login)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert re.search(rf"command=trade/balance login={login} outcome=OK", said)
    for secret in (PASSWORD, wanted.main_password, wanted.investor_password, "Changed1234!"):
        assert secret not in said
    for text in (repr(wanted), repr(access(simulator)), repr(mt5._server._access)):
        assert "1234!" not in text
        assert PASSWORD not in text


def test_timeouts_are_never_open_ended():
    for timeout in (QUICK, TIMEOUTS):
        assert None not in (timeout.connect, timeout.read, timeout.write, timeout.pool)
