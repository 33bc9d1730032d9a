"""The MT4 adapter when things go wrong: a change is sent once, and the bridge says what became of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from app.core.clock import now
from app.metatrader.errors import (
    AccessDenied,
    BadAnswer,
    BusinessError,
    NotKnown,
    NotSent,
    PlatformError,
    ServerBusy,
    UnknownOutcome,
    Unreachable,
)
from app.metatrader.platforms import health, mt4_exchange
from app.metatrader.platforms.mt4_bridge import MT4BridgePlatform
from app.metatrader.simulator.faults import FOREVER, Fault
from app.metatrader.simulator.mt4 import MT4Simulator
from app.metatrader.simulator.mt4.commands import CHANGES, READS
from app.metatrader.simulator.mt4.server import Handler
from tests.contracts.platforms.houses import PASSWORD, access

PATIENT = httpx.Timeout(connect=5.0, read=10.0, write=5.0, pool=5.0)
IMPATIENT = httpx.Timeout(connect=5.0, read=0.5, write=5.0, pool=5.0)
BALANCE, OUTCOME, USERS = "/v1/balance", "/v1/outcome", "/v1/users"
TOKEN = "D-8QK2N0V5ZT3RM"


@pytest.fixture
def simulator(tmp_path):
    with MT4Simulator(state_dir=tmp_path / "server", password=PASSWORD, tick_s=0) as running:
        yield running


def connected(simulator, timeouts=PATIENT, **changes):
    return MT4BridgePlatform(access(simulator, platform="mt4_bridge", **changes), timeouts=timeouts)


@pytest.fixture
def mt4(simulator, monkeypatch):
    """The adapter, without a pause between questions."""
    monkeypatch.setattr(mt4_exchange, "OUTCOME_PAUSE_S", 0.0)
    with connected(simulator) as platform:
        yield platform


@pytest.fixture
def hasty(simulator):
    """The same, with little patience."""
    with connected(simulator, IMPATIENT) as platform:
        yield platform


@pytest.fixture
def wanted(wanted):
    return replace(wanted, group="std-usd")


@pytest.fixture
def login(mt4, wanted):
    return mt4.create_account(wanted)


@pytest.fixture
def faults(simulator):
    def switch_on(kind, path=BALANCE, **numbers):
        simulator.faults.set([Fault(kind=kind, path=path, **numbers)])

    return switch_on


@pytest.fixture
def replies(simulator, monkeypatch):
    """What the bridge answered to balance operations, late ones too."""
    seen, original = [], simulator.bridge.answer

    def answer(command, raw, id_, fault=None):
        reply = original(command, raw, id_, fault)
        if command == "balance":
            seen.append((reply.status, reply.content.get("outcome")))
        return reply

    monkeypatch.setattr(simulator.bridge, "answer", answer)
    return seen


def tokens(simulator, login):
    """Comments of the login's balance operations at the server."""
    return [trade.comment for trade in simulator.engine.trades(login) if trade.is_money]


def deposit(platform, login):
    return platform.balance_operation(login, Decimal(600), TOKEN)


def left(simulator):
    """How often the rules that are on would still hit."""
    return [rule["times"] for rule in simulator.faults.listed()]


def eventually(condition, within_s=10.0):
    deadline = now() + timedelta(seconds=within_s)
    while not condition():
        assert now() < deadline
        threading.Event().wait(0.02)


# ── what became of a change ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["execute_then_drop", "garble"])
def test_carried_out_but_not_confirmed(mt4, simulator, login, faults, kind):
    """The bridge has written its answer down: nothing is unknown."""
    faults(kind)
    ticket = deposit(mt4, login)
    assert tokens(simulator, login) == [TOKEN]
    assert mt4.deal(ticket).comment == TOKEN


def test_carried_out_and_then_silence(hasty, mt4, simulator, login, monkeypatch):
    """The answer comes too late; what was done is known all the same."""
    done, original = threading.Event(), Handler.answer

    def answer(handler, status, content, **options):
        if handler.path == BALANCE:
            done.wait(20)
        original(handler, status, content, **options)

    monkeypatch.setattr(Handler, "answer", answer)
    ticket = deposit(hasty, login)
    done.set()
    assert tokens(simulator, login) == [TOKEN]
    assert mt4.deal(ticket).comment == TOKEN


def test_neither_carried_out_nor_confirmed(mt4, simulator, login, faults):
    faults("drop")
    with pytest.raises(NotSent):
        deposit(mt4, login)
    assert tokens(simulator, login) == []
    deposit(mt4, login)
    assert tokens(simulator, login) == [TOKEN]


def test_a_command_that_arrives_after_it_was_asked_about_does_nothing(hasty, simulator, login, faults, replies):
    faults("slow", seconds=10.0)
    with pytest.raises(NotSent):
        deposit(hasty, login)
    assert replies == [], "it is still on its way"
    simulator._stopping.set()  # ends the waiting
    eventually(lambda: replies)
    assert replies == [(409, "never")]
    assert tokens(simulator, login) == []


def test_a_refusal_that_was_not_heard(mt4, simulator, login, faults):
    faults("execute_then_drop")
    with pytest.raises(BusinessError) as caught:
        mt4.balance_operation(login, Decimal(-1), TOKEN)
    assert caught.value.retcode == 10019
    assert "134 NO_MONEY" in caught.value.detail


def test_still_under_way(hasty, simulator, login, monkeypatch):
    """MT4 takes longer than we wait. The bridge cannot say yet how it ends, and it does end."""
    go_on, original = threading.Event(), simulator.engine.balance_operation

    def slowly(*arguments, **options):
        assert go_on.wait(20)
        return original(*arguments, **options)

    monkeypatch.setattr(simulator.engine, "balance_operation", slowly)
    with pytest.raises(UnknownOutcome):
        deposit(hasty, login)
    go_on.set()
    eventually(lambda: tokens(simulator, login) == [TOKEN])


@pytest.mark.parametrize(("code", "there"), [(128, []), (142, [TOKEN]), (143, [TOKEN])])
def test_mt4_itself_does_not_know(mt4, simulator, login, faults, code, there):
    faults("retcode", code=code)
    with pytest.raises(UnknownOutcome):
        deposit(mt4, login)
    assert tokens(simulator, login) == there


@pytest.mark.parametrize("code", [2, 4, 9, 77])
def test_refusals_that_prove_nothing(mt4, login, faults, code):
    faults("retcode", code=code)
    with pytest.raises(UnknownOutcome) as caught:
        deposit(mt4, login)
    assert caught.value.retcode == code


@pytest.mark.parametrize("code", [8, 137, 141, 146])
def test_busy(mt4, simulator, login, faults, code):
    faults("retcode", code=code)
    with pytest.raises(ServerBusy) as caught:
        deposit(mt4, login)
    assert caught.value.retcode == code
    assert tokens(simulator, login) == []
    assert deposit(mt4, login) > 0


def test_the_bridge_has_no_server(mt4, simulator, login, faults):
    faults("http_503")
    with pytest.raises(NotSent) as caught:
        deposit(mt4, login)
    assert caught.value.retcode == 6
    assert tokens(simulator, login) == []


def test_a_change_is_sent_once_whatever_happens(mt4, simulator, login, faults):
    faults("drop", times=5)
    with pytest.raises(NotSent):
        deposit(mt4, login)
    assert left(simulator) == [4]


@pytest.mark.parametrize(("times", "error"), [(1, None), (2, UnknownOutcome)])
def test_the_outcome_is_asked_for_twice(mt4, simulator, login, times, error):
    simulator.faults.set([Fault("execute_then_drop", BALANCE), Fault("drop", OUTCOME, times=times), Fault("drop", BALANCE)])
    if error:
        with pytest.raises(error):
            deposit(mt4, login)
    else:
        assert deposit(mt4, login) > 0
    assert tokens(simulator, login) == [TOKEN]
    assert left(simulator) == [1], "sent once"


def test_a_new_account_whose_answer_was_lost(mt4, simulator, wanted, faults):
    faults("execute_then_drop", "/v1/open_account")
    login = mt4.create_account(wanted)
    assert [known.login for known in simulator.engine.logins()] == [login]


def die_while_mt4_works(folder, told):
    """A bridge that is killed after MT4 did what it was told, and before it could write that down."""
    simulator = MT4Simulator(state_dir=folder, password=PASSWORD, tick_s=0)
    original = simulator.engine.balance_operation

    def fatal(*arguments, **options):
        original(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    simulator.engine.balance_operation = fatal
    with simulator:
        told.send(int(simulator.url.rpartition(":")[2]))
        threading.Event().wait()


def test_a_bridge_that_was_killed_in_between(tmp_path, wanted, monkeypatch):
    """It is started again with its database, and says that it does not know. The money is there once."""
    monkeypatch.setattr(mt4_exchange, "OUTCOME_ASKS", 100)
    monkeypatch.setattr(mt4_exchange, "OUTCOME_PAUSE_S", 0.1)
    folder = tmp_path / "server"
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=die_while_mt4_works, args=(folder, theirs))
    process.start()
    assert ours.poll(60)
    port = ours.recv()
    with connected(_Address(folder, port)) as platform:
        login = platform.create_account(wanted)
        found = []

        def send():
            try:
                found.append(deposit(platform, login))
            except PlatformError as error:
                found.append(error)

        sending = threading.Thread(target=send)
        sending.start()
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL
        with MT4Simulator(state_dir=folder, password=PASSWORD, tick_s=0, port=port) as again:
            sending.join(timeout=60)
            assert [type(one) for one in found] == [UnknownOutcome]
            assert tokens(again, login) == [TOKEN]
            deals = platform.deals(login, now() - timedelta(minutes=5), now() + timedelta(minutes=5))
            assert [deal.comment for deal in deals] == [TOKEN]


class _Address:
    """Where a simulator of another process listens."""

    def __init__(self, folder, port):
        self.url, self.ca_file, self.manager_login = f"https://127.0.0.1:{port}", folder / "ca.pem", 1


# ── reads ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reads_are_repeated_once(mt4, simulator, login, faults):
    faults("drop", USERS)
    assert mt4.get_account(login).balance == 0
    faults("drop", USERS, times=5)
    with pytest.raises(Unreachable):
        mt4.get_account(login)
    assert left(simulator) == [3]


def test_reads_are_not_repeated_after_silence(hasty, simulator, login, faults):
    faults("slow", USERS, times=5, seconds=2.0)
    with pytest.raises(Unreachable):
        hasty.get_account(login)
    assert left(simulator) == [4]


@pytest.mark.parametrize(
    ("kind", "code", "error"), [("http_503", 0, Unreachable), ("retcode", 8, ServerBusy), ("garble", 0, BadAnswer)]
)
def test_reads_of_a_bridge_that_cannot_answer(mt4, login, faults, kind, code, error):
    faults(kind, USERS, code=code)
    with pytest.raises(error):
        mt4.get_account(login)
    assert mt4.get_account(login).login == login


@pytest.mark.parametrize(
    "answer", [{}, {"users": None}, {"users": "text"}, {"users": [1]}, {"users": [{}]}, {"users": [{"login": 5}]}]
)
def test_reads_that_break_the_contract(mt4, login, monkeypatch, answer):
    monkeypatch.setitem(READS, "users", lambda engine, body: answer)
    with pytest.raises(BadAnswer):
        mt4.get_account(login)


@pytest.mark.parametrize("answer", [{}, {"order": ""}, {"order": "0"}, {"order": [7]}, {"order": "x"}])
def test_a_confirmed_change_without_its_number(mt4, login, monkeypatch, answer):
    monkeypatch.setitem(CHANGES, "balance", lambda engine, body: answer)
    with pytest.raises(UnknownOutcome):
        deposit(mt4, login)


def test_commands_and_bodies_that_the_bridge_does_not_take(mt4, login):
    with pytest.raises(AccessDenied):
        mt4._server.read("nothing", {})
    with pytest.raises(AccessDenied):
        mt4._server.change("nothing", {}, login=0)
    with pytest.raises(BusinessError) as caught:
        mt4._server.change("balance", {"login": "x"}, login=0)
    assert caught.value.retcode == 3


# ── the same money sent again ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_that_hangs_is_not_begun_a_second_time(hasty, mt4, simulator, login, monkeypatch):
    """Whoever looks for the token meanwhile finds nothing, twice, and may send again: the bridge knows better."""
    original, begun, let_go = CHANGES["balance"], threading.Event(), threading.Event()

    def hang(engine, body):
        begun.set()
        assert let_go.wait(30)
        return original(engine, body)

    monkeypatch.setitem(CHANGES, "balance", hang)
    try:
        with pytest.raises(UnknownOutcome):
            deposit(hasty, login)
        assert begun.is_set()
        assert tokens(simulator, login) == []
        with pytest.raises(UnknownOutcome):
            deposit(hasty, login)
    finally:
        let_go.set()
    eventually(lambda: tokens(simulator, login) == [TOKEN])
    (order,) = [trade.order for trade in simulator.engine.trades(login) if trade.is_money]
    assert deposit(mt4, login) == 2 * order, "what is done is told, not done again"
    assert tokens(simulator, login) == [TOKEN]


def test_a_sending_without_a_trace_is_followed_by_another(mt4, simulator, login, faults):
    faults("retcode", code=128)
    with pytest.raises(UnknownOutcome):
        deposit(mt4, login)
    assert tokens(simulator, login) == []
    deposit(mt4, login)
    assert tokens(simulator, login) == [TOKEN]


def test_an_id_that_came_too_late_is_followed_by_another(mt4, simulator, login):
    assert mt4._server.read("outcome", {"id": f"{TOKEN}-1"})["outcome"] == "never"
    deposit(mt4, login)
    deposit(mt4, login)
    assert tokens(simulator, login) == [TOKEN]


# ── who it talks to ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_secret(simulator, wanted):
    with connected(simulator, password="wrong") as platform:
        for call in (platform.groups, lambda: platform.create_account(wanted)):
            with pytest.raises(AccessDenied):
                call()
    assert simulator.engine.logins() == []


def test_a_bridge_that_is_down(mt4, simulator, login):
    simulator.stop()
    with pytest.raises(NotSent):
        deposit(mt4, login)
    with pytest.raises(Unreachable):
        mt4.get_account(login)


def test_a_bridge_that_came_back(tmp_path, mt4, simulator, login):
    """The kept connection is gone, which is seen before anything is sent on it."""
    port = int(simulator.url.rpartition(":")[2])
    simulator.stop()
    with MT4Simulator(state_dir=tmp_path / "server", password=PASSWORD, port=port, tick_s=0) as again:
        assert mt4.get_account(login).login == login
        assert deposit(mt4, login) > 0
        assert tokens(again, login) == [TOKEN]


def test_an_idle_connection_that_the_bridge_closed(simulator, wanted, monkeypatch):
    monkeypatch.setattr(Handler, "timeout", 0.2)
    with connected(simulator) as platform:
        login = platform.create_account(wanted)
        threading.Event().wait(0.6)
        assert deposit(platform, login) > 0


def test_connections_are_kept(simulator, wanted, monkeypatch):
    made, original = [], Handler.setup
    monkeypatch.setattr(Handler, "setup", lambda handler: made.append(handler) or original(handler))
    with connected(simulator) as platform:
        login = platform.create_account(wanted)
        for _ in range(3):
            deposit(platform, login)
            platform.get_account(login)
    assert len(made) == 2, "one for commands, one for reads"


def test_a_certificate_of_another_authority(tmp_path, simulator, wanted):
    with (
        MT4Simulator(state_dir=tmp_path / "other", password=PASSWORD, tick_s=0) as other,
        connected(simulator, ca_file=str(other.ca_file)) as platform,
    ):
        with pytest.raises(NotSent):
            platform.create_account(wanted)
        with pytest.raises(Unreachable):
            platform.groups()


def test_a_missing_authority_file(simulator, wanted, tmp_path):
    with connected(simulator, ca_file=str(tmp_path / "none.pem")) as platform:
        with pytest.raises(NotSent):
            platform.create_account(wanted)
        (tmp_path / "none.pem").write_bytes(simulator.ca_file.read_bytes())
        assert platform.create_account(wanted) > 0


def test_many_at_once(simulator, wanted):
    tickets: list[int] = []
    with connected(simulator, options={"requests_per_second": 1000}) as platform:
        logins = [platform.create_account(replace(wanted, mark=f"A-{number}")) for number in range(4)]

        def work(login):
            tickets.extend(platform.balance_operation(login, Decimal(1), f"D-{number}") for number in range(10))

        threads = [threading.Thread(target=work, args=(login,)) for login in logins]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert len(set(tickets)) == 40
        assert [platform.get_account(login).balance for login in logins] == [10, 10, 10, 10]


def test_a_bridge_that_stays_silent_is_left_alone(simulator, redis, login, faults):
    options = {"breaker": {"failures": 2, "open_s": 60}}
    address = access(simulator, platform="mt4_bridge", options=options)
    with MT4BridgePlatform(address, redis=redis, timeouts=IMPATIENT) as platform:
        faults("slow", "/v1/", times=FOREVER, seconds=2.0)
        for _ in range(2):
            with pytest.raises(Unreachable):
                platform.groups()
        assert health(redis, "sim").state == "open"
        before = left(simulator)
        with pytest.raises(NotSent):
            deposit(platform, login)
        assert left(simulator) == before


def test_no_secret_in_any_log_line(mt4, wanted, caplog):
    caplog.set_level(logging.DEBUG)
    login = mt4.create_account(wanted)
    mt4.change_password(login, "main", "Changed1234!")
    mt4.check_password(login, "main", "Changed1234!")
    with pytest.raises(NotKnown):
        mt4.check_password(5, "main", "Changed1234!")
    deposit(mt4, login)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert re.search(rf"command=balance login={login} id={TOKEN}-1 outcome=OK", said)
    for secret in (PASSWORD, wanted.main_password, wanted.investor_password, "Changed1234!"):
        assert secret not in said
