"""Balance operations: done once or not at all, whatever the server, the network or our own processes do."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.tables import AuditEntry, Event
from app.core.uow import unit_of_work
from app.jobs import tasks
from app.metatrader import commands
from app.metatrader.errors import NotKnown, UnknownOutcome
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.models.metatrader import Deal, Server
from tests.integration.trading.house import QUICK, House, access, in_threads, wait_until

BALANCE = "trade/balance"


@pytest.fixture
def login(house: House) -> int:
    return house.add_account().login


def attempt_in_thread(house: House, operation_id: int) -> object:
    with house.database.session() as session, house.connect() as platform:
        return commands.send_operation(session, platform, operation_id)


def resolve_in_thread(house: House, operation_id: int) -> object:
    with house.database.session() as session, house.connect() as platform:
        return commands.resolve_operation(session, platform, operation_id)


def test_sent_and_done(house, login):
    operation_id = house.order(login, 60_050)
    assert house.send(operation_id) == "done"
    (deal,) = house.at_server(login)
    operation = house.operation(operation_id)
    assert (deal.profit, deal.comment) == (Decimal("600.50"), operation.token)
    assert (operation.deal_ticket, operation.sends, operation.error) == (deal.ticket, 1, "")
    assert operation.finished_at is not None
    assert house.events(operation_id) == ["operation.new", "operation.sending", "operation.done"]
    assert house.send(operation_id) == "done"
    assert len(house.at_server(login)) == 1


def test_taking_out(house, login):
    house.send(house.order(login, 60_000))
    assert house.send(house.order(login, -25_000)) == "done"
    assert house.platform.get_account(login).balance == 350


def test_refused_by_a_rule_is_final(house, login):
    operation_id = house.order(login, -1)
    assert house.send(operation_id) == "failed"
    operation = house.operation(operation_id)
    assert "free money" in operation.error
    assert operation.finished_at is not None
    assert house.events(operation_id)[-1] == "operation.failed"
    assert house.send(operation_id) == "failed"
    assert house.at_server(login) == []


def test_a_login_that_the_server_does_not_know_is_final(house):
    assert house.send(house.order(999)) == "failed"


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"url": "https://127.0.0.1:1"}, "NotSent"), ({"password": "wrong"}, "AccessDenied")],
)
def test_what_never_left_us_waits_and_is_sent_by_the_resolver(house, login, clock, changes, error):
    operation_id = house.order(login)
    with house.connect(**changes) as broken:
        assert commands.send_operation(house.session, broken, operation_id) == "new"
    operation = house.operation(operation_id)
    assert (operation.status, operation.error) == ("new", error)
    assert house.events(operation_id)[-1] == "operation.waiting"
    tasks.resolve_operations(house.session, house.settings)
    assert house.operation(operation_id).status == "new"  # too fresh to be anybody's but its own job's
    clock.advance(61)
    tasks.resolve_operations(house.session, house.settings)
    assert house.operation(operation_id).status == "done"
    assert house.with_token(operation_id) == [Decimal(600)]


def test_a_busy_server_is_asked_again_later(house, login, clock):
    house.faults("retcode", path=BALANCE, code=12)
    operation_id = house.order(login)
    assert house.send(operation_id) == "new"
    clock.advance(61)
    tasks.resolve_operations(house.session, house.settings)
    assert house.operation(operation_id).status == "done"
    assert house.with_token(operation_id) == [Decimal(600)]


@pytest.mark.parametrize("kind", ["execute_then_drop", "garble"])
def test_done_without_an_answer_is_found_by_its_token(house, login, kind):
    house.faults(kind, path=BALANCE)
    operation_id = house.order(login)
    assert house.send(operation_id) == "unknown"
    assert house.send(operation_id) == "unknown"
    assert house.resolve(operation_id) == "done"
    assert house.resolve(operation_id) == "done"
    assert house.with_token(operation_id) == [Decimal(600)]
    assert house.operation(operation_id).deal_ticket == house.at_server(login)[0].ticket
    assert house.events(operation_id, "operation.done") == ["operation.done"]


def test_not_done_is_sent_again_after_two_looks_a_minute_apart(house, login, clock):
    house.faults("drop", path=BALANCE)
    operation_id = house.order(login)
    assert house.send(operation_id) == "unknown"
    assert house.resolve(operation_id) == "unknown"
    assert house.resolve(operation_id) == "unknown"
    assert house.operation(operation_id).looks == 1  # the second look came too early and was none
    clock.advance(59)
    assert house.resolve(operation_id) == "unknown"
    clock.advance(2)
    assert house.resolve(operation_id) == "new"
    assert house.with_token(operation_id) == []
    assert house.events(operation_id)[-1] == "operation.new"
    assert house.send(operation_id) == "done"
    assert house.with_token(operation_id) == [Decimal(600)]
    assert house.operation(operation_id).sends == 2


def test_the_look_itself_may_fail(house, login, clock):
    house.faults("drop", path=BALANCE)
    operation_id = house.order(login)
    house.send(operation_id)
    house.faults("http_503", path="deal/get_batch")
    tasks.resolve_operations(house.session, house.settings)
    assert (house.operation(operation_id).status, house.operation(operation_id).looks) == ("unknown", 0)


def test_what_arrives_after_the_looks_is_found_before_it_is_sent_again(house, login, clock):
    house.faults("drop", path=BALANCE)
    operation_id = house.order(login)
    house.send(operation_id)
    house.resolve(operation_id)
    clock.advance(61)
    assert house.resolve(operation_id) == "new"
    late = house.simulator.exchange.balance_operation(login, 2, Decimal(600), house.operation(operation_id).token)
    assert house.send(operation_id) == "done"
    assert house.operation(operation_id).deal_ticket == late.ticket
    assert house.with_token(operation_id) == [Decimal(600)]


def test_nothing_is_sent_again_while_looking_fails(house, login, clock):
    house.faults("drop", path=BALANCE)
    operation_id = house.order(login)
    house.send(operation_id)
    house.resolve(operation_id)
    clock.advance(61)
    assert house.resolve(operation_id) == "new"
    house.faults("http_503", path="deal/get_batch")
    assert house.send(operation_id) == "new", "nothing went out, so nothing is unknown"
    assert house.with_token(operation_id) == []
    house.faults(path=BALANCE)
    assert house.send(operation_id) == "done"
    assert len(house.with_token(operation_id)) == 1


def test_a_wrong_time_zone_does_not_hide_the_deal(house, login):
    house.faults("execute_then_drop", path=BALANCE)
    operation_id = house.order(login)
    assert house.send(operation_id) == "unknown"
    operation = house.operation(operation_id)
    for zone in ("GMT-3", "GMT+9"):
        with MT5WebPlatform(replace(access(house.simulator), time_zone=zone), timeouts=QUICK) as wrong:
            since = operation.created_at - commands.SEARCH_MARGIN
            assert commands.find_token(wrong, login, operation.token, since), zone


def test_a_large_amount_waits_for_a_person(house, login, clock):
    officer = Actor.staff(1, "10.0.0.1")
    house.faults("drop", path=BALANCE)
    with unit_of_work(house.session, officer):
        house.session.get_one(Server, house.server_id).resend_limit_minor = 500_000
    operation_id = house.order(login, 500_001)
    house.send(operation_id)
    house.resolve(operation_id)
    with pytest.raises(commands.NotResendable):
        commands.resend_operation(house.session, operation_id, officer, "looked once only")
    for _ in range(3):
        clock.advance(61)
        assert house.resolve(operation_id) == "unknown"
    commands.resend_operation(house.session, operation_id, officer, "not in the server's journal")
    with pytest.raises(commands.NotResendable):
        commands.resend_operation(house.session, operation_id, officer, "again")
    assert house.send(operation_id) == "done"
    assert house.with_token(operation_id) == [Decimal("5000.01")]
    (entry,) = house.session.scalars(select(AuditEntry)).all()
    assert (entry.actor, entry.address, entry.action) == ("staff:1", "10.0.0.1", "operation.resend")
    assert (entry.target, entry.reason) == (f"balance_operation:{operation_id}", "not in the server's journal")


def test_one_operation_of_a_login_at_a_time(house, login, clock):
    other = house.add_account().login
    house.faults("execute_then_drop", path=BALANCE)
    first, second, elsewhere = house.order(login), house.order(login, -10_000), house.order(other)
    assert house.send(first) == "unknown"
    assert house.send(second) == "new"
    assert house.send(elsewhere) == "done"
    clock.advance(61)
    tasks.resolve_operations(house.session, house.settings)
    tasks.resolve_operations(house.session, house.settings)
    assert [house.operation(operation_id).status for operation_id in (first, second)] == ["done", "done"]
    assert house.platform.get_account(login).balance == 500


def test_the_deal_in_the_stream_is_proof_enough(house, login):
    house.faults("execute_then_drop", path=BALANCE)
    operation_id = house.order(login)
    assert house.send(operation_id) == "unknown"
    house.drain()
    (deal,) = house.session.scalars(select(Deal)).all()
    assert (house.operation(operation_id).status, house.operation(operation_id).deal_ticket) == ("done", deal.ticket)
    assert deal.is_ours


def test_the_stream_may_be_quicker_than_the_answer(house, login):
    house.drain()
    house.faults("execute_then_drop", path=BALANCE)
    operation_id = house.order(login)
    booked = threading.Event()

    class Slow:
        """The server's answer is lost after the stream was booked."""

        def __getattr__(self, name):
            return getattr(house.platform, name)

        def balance_operation(self, *arguments):
            try:
                return house.platform.balance_operation(*arguments)
            except UnknownOutcome:
                assert booked.wait(timeout=20)
                raise

    def book():
        wait_until(lambda: house.at_server(login))
        house.drain()
        booked.set()

    def send():
        with house.database.session() as session:
            return commands.send_operation(session, Slow(), operation_id)

    assert in_threads(send, book)[0] == "done"
    assert house.events(operation_id, "operation.")[-1] == "operation.done"


def test_a_second_deal_with_the_token_is_told_and_is_not_ours(house, login):
    operation_id = house.order(login)
    house.send(operation_id)
    token = house.operation(operation_id).token
    house.simulator.exchange.balance_operation(login, 2, Decimal(600), token)
    house.drain()
    first, second = house.session.scalars(select(Deal).order_by(Deal.ticket)).all()
    assert (first.is_ours, second.is_ours) == (True, False)
    assert house.operation(operation_id).deal_ticket == first.ticket
    (event,) = house.session.scalars(select(Event).where(Event.type == "operation.contradicted")).all()
    assert (event.subject_id, event.payload) == (operation_id, {"deal_ticket": second.ticket})


def test_a_deal_after_a_refusal_is_told(house, login):
    operation_id = house.order(login, -1)
    house.send(operation_id)
    house.simulator.exchange.balance_operation(login, 2, Decimal(1), house.operation(operation_id).token)
    house.drain()
    assert house.operation(operation_id).status == "failed"
    assert house.events(operation_id, "operation.")[-1] == "operation.contradicted"
    assert not house.session.scalars(select(Deal)).one().is_ours


def test_a_token_in_anothers_deal_or_in_a_trade_proves_nothing(house, login):
    house.send(house.order(login, 1_000_000))
    operation_id = house.order(login)
    token = house.operation(operation_id).token
    other = house.add_account().login
    house.simulator.exchange.balance_operation(other, 2, Decimal(600), token)
    house.simulator.exchange.open(login, "EURUSD", 0, 1_000_000, comment=token)
    house.drain()
    assert house.operation(operation_id).status == "new"
    assert not any(house.session.scalars(select(Deal.is_ours).where(Deal.comment == token)))
    house.send(operation_id)
    house.simulator.exchange.open(login, "EURUSD", 0, 1_000_000, comment=token)
    house.drain()
    trades = house.session.scalars(select(Deal).where(Deal.comment == token, Deal.action == 0)).all()
    assert [deal.is_ours for deal in trades] == [False, False]


def test_many_senders_of_one_operation(house, login):
    operation_id = house.order(login)
    in_threads(*[lambda: attempt_in_thread(house, operation_id)] * 6)
    assert house.operation(operation_id).status == "done"
    assert house.with_token(operation_id) == [Decimal(600)]
    assert house.operation(operation_id).sends == 1


def test_operations_of_one_login_race(house, login, clock):
    ids = [house.order(login, 100 * (number + 1)) for number in range(6)]
    in_threads(*[lambda operation_id=operation_id: attempt_in_thread(house, operation_id) for operation_id in ids])
    clock.advance(61)
    tasks.resolve_operations(house.session, house.settings)
    assert [house.operation(operation_id).status for operation_id in ids] == ["done"] * 6
    assert house.platform.get_account(login).balance == 21
    assert len(house.at_server(login)) == 6


def test_two_looks_at_the_same_time_are_one(house, login):
    house.faults("drop", path=BALANCE)
    operation_id = house.order(login)
    house.send(operation_id)
    in_threads(*[lambda: resolve_in_thread(house, operation_id)] * 5)
    operation = house.operation(operation_id)
    assert (operation.status, operation.looks) == ("unknown", 1)


def test_a_slow_sender_is_not_taken_for_dead(house, login, monkeypatch):
    monkeypatch.setattr(commands, "LOST_AFTER", commands.LOST_AFTER * 0)
    house.faults("slow", path=BALANCE, seconds=1.0)
    operation_id = house.order(login)

    def look():
        wait_until(lambda: not house.simulator.control.faults.listed())  # the server is at it
        return resolve_in_thread(house, operation_id)

    assert in_threads(lambda: attempt_in_thread(house, operation_id), look) == ["done", "sending"]
    assert house.with_token(operation_id) == [Decimal(600)]


def test_a_sender_that_was_taken_for_dead_sends_nothing(house, login, monkeypatch):
    """It claimed the operation and then stood still for so long that the resolver gave it up."""
    real = commands.try_lock
    monkeypatch.setattr(commands, "LOST_AFTER", commands.LOST_AFTER * 0)
    operation_id = house.order(login)

    def stand_still(session, name):
        monkeypatch.setattr(commands, "try_lock", real)
        assert resolve_in_thread(house, operation_id) == "unknown"
        return real(session, name)

    monkeypatch.setattr(commands, "try_lock", stand_still)
    assert house.send(operation_id) == "unknown"
    assert house.with_token(operation_id) == []


def test_a_process_that_died_while_sending(house, login, clock):
    operation_id = house.order(login)

    class Death(BaseException):
        pass

    class Dying:
        def balance_operation(self, *arguments):
            house.platform.balance_operation(*arguments)
            raise Death

    with house.database.session() as session, pytest.raises(Death):
        commands.send_operation(session, Dying(), operation_id)
    assert house.resolve(operation_id) == "sending"
    clock.advance(61)
    assert house.resolve(operation_id) == "done"
    assert house.with_token(operation_id) == [Decimal(600)]
    assert house.events(operation_id)[1:] == ["operation.sending", "operation.unknown", "operation.done"]


def test_a_sick_server_does_not_stop_the_resolver(house, login, clock):
    house.faults("drop", "drop", path=BALANCE)
    lost, other = house.order(login), house.order(house.add_account().login)
    house.send(lost)
    house.faults("drop", "drop", path="deal/get_batch")
    clock.advance(61)
    tasks.resolve_operations(house.session, house.settings)
    assert (house.operation(lost).status, house.operation(other).status) == ("unknown", "done")


def test_looking_at_a_login_that_is_gone_stays_open(house, login, clock):
    house.faults("drop", path=BALANCE)
    operation_id = house.order(login)
    house.send(operation_id)
    house.simulator.store.delete_account(login)
    with pytest.raises(NotKnown):
        house.resolve(operation_id)
    assert house.operation(operation_id).status == "unknown"
