"""Trading accounts: opened once, found again when the answer was lost, the password shown once and never in the clear."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs import tasks
from app.ledger import chart, queries
from app.metatrader import accounts, booking
from app.metatrader.errors import AccessDenied, NotSent, ServerBusy, UnknownOutcome, Unreachable
from app.metatrader.servertime import server_zone
from app.models.metatrader import Deal, Product, TradingAccount
from tests.integration.trading.house import SYSTEM, House, add_client, in_threads, wait_until

ADD = "user/add"


def request(house: House, product: str = "std", **changes) -> int:
    found = house.session.scalars(select(Product).where(Product.code == product)).one()
    wanted = {"client_id": house.client_id, "product_id": found.id, "leverage": 100, "actor": Actor.client(house.client_id)}
    return accounts.request_account(house.session, **{**wanted, **changes}).id


def open_account(house: House, account_id: int, platform=None) -> str:
    return accounts.open_account(house.session, platform or house.platform, house.vault, account_id)


def account(house: House, account_id: int) -> TradingAccount:
    house.session.rollback()
    return house.session.get_one(TradingAccount, account_id)


def logins(house: House) -> list[int]:
    return [user.login for user in house.simulator.store.accounts()]


def reveal(house: House, account_id: int, client_id: int | None = None) -> str:
    client_id = client_id or house.client_id
    return accounts.reveal_password(
        house.session, house.vault, client_id=client_id, account_id=account_id, actor=Actor.client(client_id)
    )


def test_from_the_wish_to_the_account(house):
    account_id = request(house, leverage=200)
    assert account(house, account_id).status == "requested"
    assert logins(house) == []
    assert open_account(house, account_id) == "active"
    opened = account(house, account_id)
    state = house.platform.get_account(opened.login)
    assert (state.mark, state.group, state.leverage) == (opened.token, r"real\std\usd", 200)
    assert (opened.balance, opened.error, opened.opened_at is not None) == (0, "", True)
    assert house.events(account_id, "account.") == ["account.requested", "account.opened"]
    assert queries.balance(house.session, chart.mt_balance("sim", opened.login, "USD")).posted.amount_minor == 0
    assert open_account(house, account_id) == "active"
    assert logins(house) == [opened.login]


def test_a_demo_account_stays_outside_the_ledger(house):
    newcomer = add_client(house.session, "new@example.com", status="registered")
    account_id = request(house, "demo", client_id=newcomer)
    open_account(house, account_id)
    login = account(house, account_id).login
    assert queries.find_balance(house.session, chart.mt_balance("sim", login, "USD")) is None


def test_the_password_is_shown_once_and_never_stored_in_the_clear(house):
    account_id = request(house)
    open_account(house, account_id)
    login = account(house, account_id).login
    stored = "".join(
        str(house.session.execute(text(f"SELECT coalesce(json_agg(t)::text, '') FROM {table} t")).scalar_one())
        for table in ("trading_account", "event", "audit_entry")
    )
    with pytest.raises(NotFound):
        reveal(house, account_id, add_client(house.session, "other@example.com"))
    password = reveal(house, account_id)
    assert house.platform.check_password(login, "main", password)
    assert password not in stored
    assert password.encode().hex() not in stored
    with pytest.raises(accounts.PasswordAlreadyShown):
        reveal(house, account_id)
    assert (account(house, account_id).password_sealed, account(house, account_id).password_shown_at is not None) == (
        None,
        True,
    )


def test_a_password_cannot_be_moved_to_another_account(house):
    first, second = request(house), request(house)
    open_account(house, first)
    open_account(house, second)
    with unit_of_work(house.session, SYSTEM):
        account(house, second).password_sealed = account(house, first).password_sealed
    with pytest.raises(Exception, match="not for this context"):
        reveal(house, second)


def test_a_password_is_not_shown_before_the_account_is_open(house):
    account_id = request(house)
    with pytest.raises(NotFound):
        reveal(house, account_id)


@pytest.mark.parametrize("kind", ["execute_then_drop", "garble"])
def test_made_without_an_answer_is_found_by_its_mark(house, kind):
    house.faults(kind, path=ADD)
    account_id = request(house)
    with pytest.raises(UnknownOutcome):
        open_account(house, account_id)
    assert account(house, account_id).status == "unknown"
    assert open_account(house, account_id) == "active"
    assert logins(house) == [account(house, account_id).login]
    assert house.platform.check_password(logins(house)[0], "main", reveal(house, account_id))


def test_dropped_before_it_was_made_is_made_later(house):
    house.faults("drop", path=ADD)
    account_id = request(house)
    with pytest.raises(UnknownOutcome):
        open_account(house, account_id)
    assert logins(house) == []
    assert open_account(house, account_id) == "active"
    assert len(logins(house)) == 1


@pytest.mark.parametrize(("kind", "error"), [("http_503", ServerBusy), ("retcode", ServerBusy), ("drop", Unreachable)])
def test_made_but_not_read_back_is_not_made_twice(house, kind, error):
    house.faults(kind, kind, path="user/get", code=12)
    account_id = request(house)
    with pytest.raises(error):
        open_account(house, account_id)
    assert account(house, account_id).status == "unknown"
    house.faults(path="")
    assert open_account(house, account_id) == "active"
    assert logins(house) == [account(house, account_id).login]


def test_while_the_search_fails_nothing_is_made(house):
    house.faults("drop", path=ADD)
    account_id = request(house)
    with pytest.raises(UnknownOutcome):
        open_account(house, account_id)
    house.faults("retcode", path="user/get_batch", code=3)
    with pytest.raises(Exception, match="does not accept"):
        open_account(house, account_id)
    assert (account(house, account_id).status, logins(house)) == ("unknown", [])


@pytest.mark.parametrize(
    ("group", "leverage"), [(r"real\nowhere", 100), (r"real\std\usd", 501)], ids=["unknown group", "too much leverage"]
)
def test_refused_by_the_server_is_final(house, group, leverage):
    with unit_of_work(house.session, SYSTEM):
        product = house.session.scalars(select(Product).where(Product.code == "std")).one()
        product.group, product.leverages = group, [leverage]
    account_id = request(house, leverage=leverage)
    assert open_account(house, account_id) == "failed"
    refused = account(house, account_id)
    assert refused.error
    assert (refused.login, refused.password_sealed) == (None, None)
    assert house.events(account_id, "account.")[-1] == "account.failed"
    assert open_account(house, account_id) == "failed"


@pytest.mark.parametrize(
    ("changes", "error"), [({"url": "https://127.0.0.1:1"}, NotSent), ({"password": "wrong"}, AccessDenied)]
)
def test_what_never_left_us_is_simply_tried_again(house, changes, error):
    account_id = request(house)
    with house.connect(**changes) as broken, pytest.raises(error):
        open_account(house, account_id, broken)
    assert account(house, account_id).status == "requested"
    assert open_account(house, account_id) == "active"


def test_a_busy_server_makes_it_later(house):
    house.faults("retcode", path=ADD, code=1018)
    account_id = request(house)
    with pytest.raises(ServerBusy):
        open_account(house, account_id)
    assert account(house, account_id).status == "requested"
    assert open_account(house, account_id) == "active"
    assert len(logins(house)) == 1


def test_two_workers_make_one_account(house):
    house.faults("slow", path=ADD, seconds=0.7)
    account_id = request(house)

    def work():
        with house.database.session() as session, house.connect() as platform:
            return accounts.open_account(session, platform, house.vault, account_id)

    def late():
        wait_until(lambda: not house.simulator.control.faults.listed())  # the server is making it
        return work()

    assert in_threads(work, late) == ["active", "opening"]
    assert len(logins(house)) == 1


def test_the_task_brings_lost_accounts_to_an_end(house, clock):
    house.faults("execute_then_drop", path=ADD)
    lost, died, never_tried = request(house), request(house), request(house)
    with pytest.raises(UnknownOutcome):
        open_account(house, lost)

    class Death(BaseException):
        pass

    class Dying:
        def create_account(self, wanted):
            house.platform.create_account(wanted)
            raise Death

    with house.database.session() as session, pytest.raises(Death):
        accounts.open_account(session, Dying(), house.vault, died)
    assert account(house, died).status == "opening"
    tasks.open_lost_accounts(house.session, house.settings)
    assert account(house, lost).status == "unknown"  # its own job may still be at it
    clock.advance(121)
    house.faults("http_503", path="user/get_batch")
    tasks.open_lost_accounts(house.session, house.settings)
    assert [account(house, account_id).status for account_id in (lost, died, never_tried)] == ["unknown", "active", "active"]
    tasks.open_lost_accounts(house.session, house.settings)
    assert account(house, lost).status == "active"
    assert len(logins(house)) == 3


def test_deals_that_came_before_the_account_was_known(house):
    house.faults("execute_then_drop", path=ADD)
    account_id = request(house)
    with pytest.raises(UnknownOutcome):
        open_account(house, account_id)
    (login,) = logins(house)
    house.simulator.exchange.balance_operation(login, 2, Decimal(100), "bonus")
    house.simulator.exchange.open(login, "EURUSD", 0, 1_000_000)
    house.drain()
    deals = house.session.scalars(select(Deal)).all()
    assert [deal.trading_account_id for deal in deals] == [None, None]
    open_account(house, account_id)
    house.session.rollback()
    assert {deal.trading_account_id for deal in house.session.scalars(select(Deal))} == {account_id}
    assert house.session.execute(text("SELECT trading_account_id FROM position")).scalars().all() == [account_id]
    assert account(house, account_id).balance == 100
    told = house.session.scalars(select(Event.payload).where(Event.type == "deal.booked").order_by(Event.id)).all()
    assert told[-1] == {"deal_ids": sorted(deal.id for deal in deals), "again": True}


def test_a_deal_that_is_just_being_booked_is_adopted_too(house):
    """Ingest read who owns the login before the account was committed, and commits its deals after."""
    house.faults("execute_then_drop", path=ADD)
    account_id = request(house)
    with pytest.raises(UnknownOutcome):
        open_account(house, account_id)
    (login,) = logins(house)
    deal = house.simulator.exchange.balance_operation(login, 2, Decimal(100), "bonus")
    moment = server_zone("GMT+2/EU").to_utc(deal.server_time_ms)
    booked, waiting = threading.Event(), threading.Event()

    def book():
        with house.database.session() as session, unit_of_work(session, SYSTEM) as unit:
            booking.lock_server(session, house.server_id)
            booking.book_deals(unit, house.server_id, [booking.DealReport(deal, moment.utc, moment.utc_offset_min)])
            booked.set()
            waiting.wait(timeout=0.5)

    def adopt():
        assert booked.wait(timeout=10)
        with house.database.session() as session, house.connect() as platform:
            accounts.open_account(session, platform, house.vault, account_id)
        waiting.set()

    in_threads(book, adopt)
    house.session.rollback()
    assert house.session.scalars(select(Deal)).one().trading_account_id == account_id


def test_wishes_that_are_refused(house):
    house.session.scalars(select(Product).where(Product.code == "ecn")).one().is_open = False
    house.session.commit()
    newcomer = add_client(house.session, "new@example.com", status="registered")
    with pytest.raises(accounts.ClientNotApproved):
        request(house, client_id=newcomer)
    with pytest.raises(InvalidInput):
        request(house, leverage=500)
    with pytest.raises(NotFound):
        request(house, "ecn")
    with pytest.raises(NotFound):
        request(house, product_id=999)
    assert house.count(TradingAccount) == 0


def test_no_more_accounts_than_offered(house, monkeypatch):
    monkeypatch.setattr(accounts, "MOST_ACCOUNTS_PER_CLIENT", 2)
    for _ in range(2):
        request(house)
    with pytest.raises(accounts.TooManyAccounts):
        request(house)
    with unit_of_work(house.session, SYSTEM):
        house.session.scalars(select(TradingAccount)).first().status = "failed"
    request(house)


def test_wishes_at_the_same_time_count_each_other(house, monkeypatch):
    monkeypatch.setattr(accounts, "MOST_ACCOUNTS_PER_CLIENT", 1)
    product_id = house.session.scalars(select(Product.id).where(Product.code == "std")).one()
    house.session.rollback()

    def wish():
        with house.database.session() as session:
            try:
                accounts.request_account(session, client_id=house.client_id, product_id=product_id, leverage=100, actor=SYSTEM)
            except accounts.TooManyAccounts:
                return "refused"
            return "accepted"

    assert sorted(in_threads(*[wish] * 4)) == ["accepted", "refused", "refused", "refused"]


def test_the_request_is_recent(house):
    assert now() - account(house, request(house)).requested_at < timedelta(minutes=1)
