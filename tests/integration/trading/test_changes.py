"""Changes of trading accounts: each one, what refuses it, and that a lost answer neither loses nor repeats it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text, update

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import Conflict, InvalidInput, NotFound
from app.core.tables import AuditEntry
from app.core.uow import unit_of_work
from app.jobs import tasks
from app.ledger import chart, queries
from app.metatrader import accounts, change_sending, changes, rules
from app.metatrader.errors import AccessDenied, ServerBusy, UnknownOutcome, Unreachable
from app.metatrader.rules import Draft
from app.models.metatrader import AccountChange, Position, Product, Server, TradingAccount
from tests.integration.trading.house import SYSTEM, House, add_client, in_threads, wait_until

STAFF, OTHER_STAFF = Actor.staff(7), Actor.staff(8)
UPDATE, PASSWORD = "user/update", "user/change_password"
OWN = "Own1!word"
WHY = {"actor": STAFF, "reason": "asked by telephone"}


@pytest.fixture
def account(house: House) -> TradingAccount:
    """An account that was opened by us, without money."""
    product = house.session.scalars(select(Product).where(Product.code == "std")).one()
    made = accounts.request_account(
        house.session, client_id=house.client_id, product_id=product.id, leverage=100, actor=Actor.client(house.client_id)
    )
    accounts.open_account(house.session, house.platform, house.vault, made.id)
    return found(house, made.id)


def found(house: House, account_id: int) -> TradingAccount:
    house.session.rollback()
    return house.session.get_one(TradingAccount, account_id)


def send(house: House, change: AccountChange | int, platform=None) -> str:
    number = change if isinstance(change, int) else change.id
    return change_sending.send_change(house.session, platform or house.platform, house.vault, number)


def again(house: House, change_id: int) -> AccountChange:
    house.session.rollback()
    return house.session.get_one(AccountChange, change_id)


def client(house: House) -> Actor:
    return Actor.client(house.client_id)


def leverage(house: House, account: TradingAccount, value: int = 200, actor: Actor | None = None, reason: str = "") -> int:
    return changes.change_leverage(
        house.session, account_id=account.id, leverage=value, actor=actor or client(house), reason=reason
    ).id


def product_id(house: House, code: str, **values) -> int:
    with unit_of_work(house.session, SYSTEM):
        if values:
            house.session.execute(update(Product).where(Product.code == code).values(**values))
        return house.session.scalars(select(Product.id).where(Product.code == code)).one()


def group(house: House, account: TradingAccount, code: str) -> int:
    return changes.change_group(house.session, account_id=account.id, product_id=product_id(house, code), **WHY).id


def deposit(house: House, account: TradingAccount, amount: int = 100) -> None:
    house.simulator.exchange.balance_operation(account.login, 2, Decimal(amount), "by hand")
    house.drain()


def set_status(house: House, account: TradingAccount, status: str) -> None:
    with unit_of_work(house.session, SYSTEM):
        found(house, account.id).status = status


def at_server(house: House, account: TradingAccount):
    return house.platform.get_account(account.login)


def test_leverage(house, account):
    change = leverage(house, account, 200)
    assert at_server(house, account).leverage == 100
    assert send(house, change) == "done"
    assert (at_server(house, account).leverage, found(house, account.id).leverage) == (200, 200)
    done = again(house, change)
    assert (done.before, done.after, done.sends, done.finished_at is not None) == ("100", "200", 1, True)
    assert house.events(change, "account_change.") == ["account_change.requested", "account_change.done"]
    assert send(house, change) == "done"
    assert again(house, change).sends == 1


def test_a_client_chooses_from_what_is_offered_staff_up_to_the_cap(house, account):
    for value in (100, 300, 0):
        with pytest.raises(InvalidInput):
            leverage(house, account, value)
    rules.save_rule(
        house.session,
        Draft("ESMA", ("IT",), 150, protects_negative_balance=True, valid_from=date(2019, 9, 27)),
        actor=STAFF,
        reason="law",
    )
    with pytest.raises(InvalidInput) as refused:
        leverage(house, account, 200)
    assert refused.value.data == {"cap": 150, "rule": "ESMA"}
    with pytest.raises(InvalidInput):
        leverage(house, account, 151, STAFF, "asked for")
    with pytest.raises(InvalidInput):
        leverage(house, account, 150, STAFF, " ")
    assert house.count(AccountChange) == 0
    assert send(house, leverage(house, account, 150, STAFF, "asked for")) == "done"
    entry = house.session.scalars(select(AuditEntry).where(AuditEntry.action == "account_change.leverage")).one()
    assert (entry.actor, entry.target, entry.before, entry.after, entry.reason) == (
        "staff:7", f"trading_account:{account.id}", {"leverage": "100"}, {"leverage": "150"}, "asked for",
    )  # fmt: skip


def test_nobody_changes_what_belongs_to_somebody_else(house, account):
    stranger = Actor.client(add_client(house.session, "other@example.com"))
    with pytest.raises(NotFound):
        leverage(house, account, 200, stranger)
    with pytest.raises(NotFound):
        changes.archive(house.session, account_id=account.id, actor=stranger)
    with pytest.raises(NotFound):
        changes.set_password(house.session, house.vault, account_id=account.id, which="main", password=OWN, actor=stranger)
    with pytest.raises(NotFound):
        changes.disable(house.session, account_id=account.id + 1, **WHY)


@pytest.mark.parametrize("kind", ["execute_then_drop", "garble"])
def test_a_lost_answer_is_asked_for_and_not_sent_again(house, account, kind):
    house.faults(kind, path=UPDATE)
    change = leverage(house, account)
    with pytest.raises(UnknownOutcome):
        send(house, change)
    assert (again(house, change).status, again(house, change).error != "") == ("sending", True)
    assert at_server(house, account).leverage == 200
    house.faults("retcode", path=UPDATE, code=8)  # a second sending would be refused
    assert send(house, change) == "done"
    assert found(house, account.id).leverage == 200
    assert again(house, change).error == ""


def test_dropped_before_it_was_made_is_made_later(house, account):
    house.faults("drop", path=UPDATE)
    change = leverage(house, account)
    with pytest.raises(UnknownOutcome):
        send(house, change)
    assert at_server(house, account).leverage == 100
    assert send(house, change) == "done"
    assert at_server(house, account).leverage == 200


@pytest.mark.parametrize(
    ("changed", "error"), [({"url": "https://127.0.0.1:1"}, Unreachable), ({"password": "wrong"}, AccessDenied)]
)
def test_what_never_left_us_waits(house, account, changed, error):
    change = leverage(house, account)
    with house.connect(**changed) as broken, pytest.raises(error):
        send(house, change, broken)
    assert again(house, change).status == "new"
    assert again(house, change).error
    assert send(house, change) == "done"


def test_a_busy_server_is_asked_later(house, account):
    house.faults("retcode", path=UPDATE, code=12)
    change = leverage(house, account)
    with pytest.raises(ServerBusy):
        send(house, change)
    assert again(house, change).status == "new"
    assert send(house, change) == "done"


def test_refused_by_the_server_is_said_to_the_person(house, account):
    with unit_of_work(house.session, SYSTEM):
        found(house, account.id).product.leverages = [100, 200, 900]
    change = leverage(house, account, 900)
    assert send(house, change) == "failed"
    assert "value that it does not accept" in again(house, change).error
    assert found(house, account.id).leverage == 100
    assert house.events(change, "account_change.")[-1] == "account_change.failed"
    assert send(house, leverage(house, account, 200)) == "done"


def test_an_account_has_one_open_change_and_a_double_click_makes_one(house, account):
    first = leverage(house, account, 200)
    assert leverage(house, account, 200) == first
    with pytest.raises(changes.ChangeUnderWay):
        changes.disable(house.session, account_id=account.id, **WHY)
    with pytest.raises(changes.ChangeUnderWay):
        changes.set_password(house.session, house.vault, account_id=account.id, which="main", password=OWN, actor=client(house))
    assert house.count(AccountChange) == 1


def test_two_staff_at_once(house, account):
    account_id = account.id

    def ask(actor: Actor, value: int):
        def work() -> str:
            with house.database.session() as session:
                try:
                    changes.change_leverage(session, account_id=account_id, leverage=value, actor=actor, reason="x")
                except Conflict as error:
                    return error.code
                return "accepted"

        return work

    answers = in_threads(*(ask(actor, 20 + number) for number, actor in enumerate((STAFF, OTHER_STAFF) * 3)))
    assert sorted(answers) == ["accepted"] + ["account_changes.under_way"] * 5
    assert house.count(AccountChange) == 1


def test_two_workers_send_once(house, account):
    house.faults("slow", path=UPDATE, seconds=0.7)
    change = leverage(house, account)

    def work() -> str:
        with house.database.session() as session, house.connect() as platform:
            return change_sending.send_change(session, platform, house.vault, change)

    def late() -> str:
        wait_until(lambda: not house.simulator.control.faults.listed())  # the server is at it
        return work()

    assert in_threads(work, late) == ["done", "sending"]
    assert again(house, change).status == "done"


def test_another_group_of_the_same_currency(house, account):
    change = group(house, account, "ecn")
    assert send(house, change) == "done"
    moved = found(house, account.id)
    assert (moved.product.code, moved.group, at_server(house, account).group) == ("ecn", r"real\ecn\usd", r"real\ecn\usd")
    assert again(house, change).before == r"real\std\usd"


def test_another_currency_only_without_money_and_history(house, account):
    assert send(house, group(house, account, "eur")) == "done"
    moved = found(house, account.id)
    assert (moved.currency, moved.product.code) == ("EUR", "eur")
    assert queries.find_balance(house.session, chart.mt_balance("sim", moved.login, "EUR")) is not None
    assert send(house, group(house, account, "std")) == "done"
    deposit(house, account)
    with pytest.raises(changes.OtherCurrency):
        group(house, account, "eur")
    house.simulator.exchange.balance_operation(account.login, 2, Decimal(-100), "back")
    house.drain()
    with pytest.raises(changes.HistoryInCurrency):
        group(house, account, "eur")


def test_money_that_we_have_not_heard_of_is_seen_at_the_server(house, account):
    change = group(house, account, "eur")
    house.simulator.exchange.balance_operation(account.login, 2, Decimal(5), "just now")
    assert send(house, change) == "failed"
    assert "different currencies" in again(house, change).error
    assert (found(house, account.id).currency, at_server(house, account).group) == ("USD", r"real\std\usd")


def test_groups_that_an_account_cannot_get(house, account):
    with pytest.raises(changes.PracticeAndReal):
        group(house, account, "demo")
    with pytest.raises(InvalidInput):
        group(house, account, "std")
    with pytest.raises(NotFound):
        changes.change_group(house.session, account_id=account.id, product_id=999, **WHY)
    with unit_of_work(house.session, SYSTEM):
        other = Server(code="two", name="two", platform="mt5_web", url="https://x", manager_login=1, time_zone="EET")
        house.session.add(other)
        house.session.flush()
        house.session.execute(update(Product).where(Product.code == "ecn").values(server_id=other.id))
    with pytest.raises(changes.OtherServer):
        group(house, account, "ecn")


def test_a_group_that_the_server_does_not_have_or_holds_in_another_currency(house, account):
    product_id(house, "ecn", group=r"real\nowhere")
    change = group(house, account, "ecn")
    assert send(house, change) == "failed"
    assert "no group of this name" in again(house, change).error
    product_id(house, "ecn", group=r"real\std\eur")
    change = group(house, account, "ecn")
    assert send(house, change) == "failed"
    assert "another currency" in again(house, change).error


def test_a_password_of_our_making_is_shown_once(house, account):
    first = accounts.reveal_password(
        house.session, house.vault, client_id=house.client_id, account_id=account.id, actor=client(house)
    )
    change = changes.reset_password(house.session, house.vault, account_id=account.id, which="main", **WHY).id
    with pytest.raises(accounts.PasswordAlreadyShown):
        changes.reveal_password(house.session, house.vault, change_id=change, actor=client(house))
    assert send(house, change) == "done"
    stranger = Actor.client(add_client(house.session, "other@example.com"))
    for actor in (stranger, STAFF):
        with pytest.raises(NotFound):
            changes.reveal_password(house.session, house.vault, change_id=change, actor=actor)
    _, kind, password = changes.reveal_password(house.session, house.vault, change_id=change, actor=client(house))
    assert kind == "main_password"
    assert house.platform.check_password(account.login, "main", password)
    assert not house.platform.check_password(account.login, "main", first)
    with pytest.raises(accounts.PasswordAlreadyShown):
        changes.reveal_password(house.session, house.vault, change_id=change, actor=client(house))
    stored = "".join(
        str(house.session.execute(text(f"SELECT coalesce(json_agg(t)::text, '') FROM {table} t")).scalar_one())
        for table in ("trading_account", "account_change", "event", "audit_entry")
    )
    assert password not in stored
    assert password.encode().hex() not in stored


def test_an_older_password_that_nobody_saw_is_forgotten(house, account):
    assert found(house, account.id).password_sealed is not None
    first = changes.reset_password(house.session, house.vault, account_id=account.id, which="main", **WHY).id
    send(house, first)
    assert found(house, account.id).password_sealed is None
    investor = changes.reset_password(house.session, house.vault, account_id=account.id, which="investor", **WHY).id
    send(house, investor)
    second = changes.reset_password(house.session, house.vault, account_id=account.id, which="main", **WHY).id
    send(house, second)
    kept = house.session.scalars(select(AccountChange.id).where(AccountChange.password_sealed.is_not(None))).all()
    assert sorted(kept) == [investor, second]


@pytest.mark.parametrize("which", ["main", "investor"])
def test_a_password_of_the_clients_own(house, account, which):
    change = changes.set_password(
        house.session, house.vault, account_id=account.id, which=which, password=OWN, actor=client(house)
    ).id
    assert again(house, change).password_sealed is not None
    assert send(house, change) == "done"
    assert house.platform.check_password(account.login, which, OWN)
    assert again(house, change).password_sealed is None
    with pytest.raises(accounts.PasswordAlreadyShown):
        changes.reveal_password(house.session, house.vault, change_id=change, actor=client(house))


def test_a_weak_password_is_not_sent(house, account):
    with pytest.raises(InvalidInput) as refused:
        changes.set_password(
            house.session, house.vault, account_id=account.id, which="main", password="weakling", actor=client(house)
        )
    assert list(refused.value.problems) == ["password"]
    assert house.count(AccountChange) == 0


def test_main_and_investor_password_differ(house, account):
    for which in ("main", "investor"):
        change = changes.set_password(
            house.session, house.vault, account_id=account.id, which=which, password=OWN, actor=client(house)
        ).id
        send(house, change)
    assert again(house, change).status == "failed"
    assert "must differ" in again(house, change).error
    assert again(house, change).password_sealed is None


def test_a_password_whose_answer_was_lost_is_found_by_trying_it(house, account):
    house.faults("execute_then_drop", path=PASSWORD)
    change = changes.reset_password(house.session, house.vault, account_id=account.id, which="main", **WHY).id
    with pytest.raises(UnknownOutcome):
        send(house, change)
    house.faults("retcode", path=PASSWORD, code=8)
    assert send(house, change) == "done"
    _, _, password = changes.reveal_password(house.session, house.vault, change_id=change, actor=client(house))
    assert house.platform.check_password(account.login, "main", password)


def test_disable_and_enable_leave_other_rights_alone(house, account):
    before = at_server(house, account).rights
    assert send(house, changes.disable(house.session, account_id=account.id, **WHY)) == "done"
    state = at_server(house, account)
    assert (state.is_enabled, state.may_trade, found(house, account.id).status) == (False, False, "disabled")
    with pytest.raises(changes.NotInThisState):
        leverage(house, account)
    with pytest.raises(changes.NotInThisState):
        changes.disable(house.session, account_id=account.id, **WHY)
    assert send(house, changes.enable(house.session, account_id=account.id, **WHY)) == "done"
    assert (at_server(house, account).rights, found(house, account.id).status) == (before, "active")


def test_archive_and_restore(house, account):
    assert send(house, changes.archive(house.session, account_id=account.id, actor=client(house))) == "done"
    assert found(house, account.id).status == "archived"
    assert [state.login for state in house.platform.archived(r"real\*")] == [account.login]
    with pytest.raises(changes.NotInThisState):
        leverage(house, account)
    assert send(house, changes.restore(house.session, account_id=account.id, **WHY)) == "done"
    with pytest.raises(changes.NotInThisState):
        changes.restore(house.session, account_id=account.id, **WHY)
    assert (found(house, account.id).status, at_server(house, account).login) == ("active", account.login)


def test_a_disabled_account_comes_back_disabled(house, account):
    for ask in (changes.disable, changes.archive, changes.restore):
        assert send(house, ask(house.session, account_id=account.id, **WHY)) == "done"
    assert (found(house, account.id).status, at_server(house, account).is_enabled) == ("disabled", False)
    assert send(house, changes.enable(house.session, account_id=account.id, **WHY)) == "done"
    for ask in (changes.archive, changes.restore):
        assert send(house, ask(house.session, account_id=account.id, **WHY)) == "done"
    assert found(house, account.id).status == "active"


def test_an_archiving_whose_answer_was_lost(house, account):
    house.faults("execute_then_drop", path="user/archive/add")
    change = changes.archive(house.session, account_id=account.id, **WHY).id
    with pytest.raises(UnknownOutcome):
        send(house, change)
    assert send(house, change) == "done"
    assert found(house, account.id).status == "archived"


def test_only_empty_accounts_are_closed_unless_staff_insist(house, account):
    deposit(house, account)
    for actor in (client(house), STAFF):
        with pytest.raises(changes.NotEmpty):
            changes.archive(house.session, account_id=account.id, actor=actor, reason="x")
    with pytest.raises(changes.NotEmpty):
        changes.archive(house.session, account_id=account.id, actor=client(house), is_forced=True)
    change = changes.archive(house.session, account_id=account.id, is_forced=True, **WHY).id
    assert send(house, change) == "done"
    entry = house.session.scalars(select(AuditEntry).where(AuditEntry.action == "account_change.archive")).one()
    assert (entry.after["forced"], entry.before) == (True, {"archive": "100.00000000 USD"})


def test_an_account_with_money_on_its_way_is_not_closed(house, account):
    house.order(account.login)
    with pytest.raises(changes.MoneyIsMoving):
        changes.archive(house.session, account_id=account.id, is_forced=True, **WHY)


def test_money_that_arrived_meanwhile_keeps_the_account_open(house, account):
    change = changes.archive(house.session, account_id=account.id, actor=client(house)).id
    house.simulator.exchange.balance_operation(account.login, 2, Decimal(5), "just now")
    assert send(house, change) == "failed"
    assert "There is still money" in again(house, change).error
    assert found(house, account.id).status == "active"


def test_open_positions_keep_an_account_open(house, account):
    deposit(house, account, 10_000)
    house.simulator.exchange.open(account.login, "EURUSD", 0, 1_000_000)
    house.drain()
    assert house.count(Position) == 1
    with pytest.raises(changes.NotEmpty):
        changes.archive(house.session, account_id=account.id, actor=client(house))
    change = changes.archive(house.session, account_id=account.id, is_forced=True, **WHY).id
    assert send(house, change) == "failed"
    assert "open trades" in again(house, change).error


def test_a_paused_server_gets_nothing(house, account):
    change = leverage(house, account)
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(Server, house.server_id).commands_paused_at = now()
    assert send(house, change) == "new"
    assert at_server(house, account).leverage == 100
    assert change_sending.open_changes(house.session) == []


def test_what_waits_can_be_withdrawn_and_is_given_up_after_a_day(house, account):
    change = leverage(house, account)
    with pytest.raises(InvalidInput):
        changes.withdraw_change(house.session, change, actor=STAFF, reason="")
    changes.withdraw_change(house.session, change, actor=STAFF, reason="by mistake")
    assert send(house, change) == "failed"
    with pytest.raises(changes.NotWithdrawable):
        changes.withdraw_change(house.session, change, actor=STAFF, reason="again")
    old = leverage(house, account)
    with unit_of_work(house.session, SYSTEM):
        again(house, old).requested_at = now() - timedelta(days=1, minutes=1)
    assert send(house, old) == "failed"
    assert "for a day" in again(house, old).error
    assert at_server(house, account).leverage == 100


def test_what_may_have_been_sent_cannot_be_withdrawn(house, account):
    house.faults("drop", path=UPDATE)
    change = leverage(house, account)
    with pytest.raises(UnknownOutcome):
        send(house, change)
    with pytest.raises(changes.NotWithdrawable):
        changes.withdraw_change(house.session, change, actor=STAFF, reason="by mistake")


def test_the_task_brings_lost_changes_to_an_end(house, account):
    house.faults("execute_then_drop", path=UPDATE)
    change = leverage(house, account)
    with pytest.raises(UnknownOutcome):
        send(house, change)
    tasks.send_lost_changes(house.session, house.settings)
    assert again(house, change).status == "sending"  # its own job may still be at it
    with unit_of_work(house.session, SYSTEM):
        lost = again(house, change)
        lost.requested_at = lost.sent_at = now() - timedelta(minutes=2)
    tasks.send_lost_changes(house.session, house.settings)
    assert again(house, change).status == "done"


def test_a_sender_that_died(house, account):
    change = leverage(house, account)

    class Death(BaseException):
        pass

    class Dying:
        def __getattr__(self, name):
            return getattr(house.platform, name)

        def update_account(self, login, **values):
            house.platform.update_account(login, **values)
            raise Death

    with house.database.session() as session, pytest.raises(Death):
        change_sending.send_change(session, Dying(), house.vault, change)
    assert again(house, change).status == "sending"
    house.faults("retcode", path=UPDATE, code=8)
    assert send(house, change) == "done"


def test_practice_money_arrives_once_and_is_topped_up(house):
    demo = product_id(house, "demo", demo_deposit_minor=1_000_000)
    made = accounts.request_account(
        house.session, client_id=house.client_id, product_id=demo, leverage=100, actor=client(house), key="form-1"
    )
    assert accounts.open_account(house.session, house.platform, house.vault, made.id) == "active"
    (operation_id,) = house.session.scalars(text("SELECT id FROM balance_operation")).all()
    operation = house.operation(operation_id)
    assert (operation.purpose, operation.amount_minor) == ("demo_deposit", 1_000_000)
    with pytest.raises(accounts.NoTopUp):
        accounts.top_up(house.session, client_id=house.client_id, account_id=made.id, actor=client(house))
    assert house.send(operation_id) == "done"
    house.drain()
    login = found(house, made.id).login
    assert found(house, made.id).balance == 10_000
    with pytest.raises(accounts.NoTopUp):
        accounts.top_up(house.session, client_id=house.client_id, account_id=made.id, actor=client(house))
    house.simulator.exchange.balance_operation(login, 2, Decimal(-4_000), "lost")
    house.drain()
    missing = accounts.top_up(house.session, client_id=house.client_id, account_id=made.id, actor=client(house))
    assert str(missing) == "4000.00 USD"
    with pytest.raises(accounts.NoTopUp):
        accounts.top_up(house.session, client_id=house.client_id, account_id=made.id, actor=client(house))
    stranger = add_client(house.session, "other@example.com")
    with pytest.raises(NotFound):
        accounts.top_up(house.session, client_id=stranger, account_id=made.id, actor=Actor.client(stranger))


def test_the_same_form_opens_one_account(house):
    wish = {"client_id": house.client_id, "product_id": product_id(house, "std"), "leverage": 100, "actor": client(house)}
    first = accounts.request_account(house.session, key="form-1", **wish).id
    assert accounts.request_account(house.session, key="form-1", **wish).id == first
    with pytest.raises(accounts.OtherWish):
        accounts.request_account(house.session, key="form-1", **{**wish, "leverage": 200})
    assert accounts.request_account(house.session, key="form-2", **wish).id != first
    other = add_client(house.session, "other@example.com")
    assert accounts.request_account(house.session, key="form-1", **{**wish, "client_id": other}).client_id == other


def test_practice_accounts_are_few_and_closed_ones_do_not_count(house, monkeypatch):
    monkeypatch.setattr(accounts, "MOST_PRACTICE_ACCOUNTS", 1)
    wish = {"client_id": house.client_id, "product_id": product_id(house, "demo"), "leverage": 100, "actor": client(house)}
    made = accounts.request_account(house.session, **wish)
    accounts.open_account(house.session, house.platform, house.vault, made.id)
    with pytest.raises(accounts.TooManyPracticeAccounts):
        accounts.request_account(house.session, **wish)
    set_status(house, made, "archived")
    accounts.request_account(house.session, **wish)
    accounts.request_account(house.session, **{**wish, "product_id": product_id(house, "std")})


def test_a_leverage_above_the_new_rule_blocks_a_change_of_group(house, account):
    rule = Draft("ESMA", ("IT",), 30, protects_negative_balance=True, valid_from=date(2019, 9, 27))
    rules.save_rule(house.session, replace(rule), actor=STAFF, reason="law")
    with pytest.raises(InvalidInput):
        group(house, account, "ecn")
    assert send(house, leverage(house, account, 30, STAFF, "law")) == "done"
    assert send(house, group(house, account, "ecn")) == "done"
