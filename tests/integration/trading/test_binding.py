"""Logins that exist at a server: bound to a client with their balance, so that ledger and server agree from then on."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.money import Money
from app.core.tables import AuditEntry
from app.core.uow import unit_of_work
from app.ledger import chart, queries, sources
from app.metatrader import accounts, binding, mirror, sync, takeover
from app.metatrader.codes import DEFAULT_RIGHTS, UserRight
from app.metatrader.errors import Unreachable
from app.metatrader.servertime import server_zone
from app.models.ledger import Transaction
from app.models.metatrader import Deal, Position, Product, TradingAccount
from app.models.trading_desk import ForeignOperation
from tests.integration.trading.house import SYSTEM, USER, House, add_client, in_threads

STAFF = Actor.staff(7)


def make_login(house: House, balance: int = 0, group: str = r"real\std\usd", **fields: str) -> int:
    login = house.simulator.control.users.add({**USER, "Group": group, **fields}).login
    if balance:
        house.simulator.exchange.balance_operation(login, 2, Decimal(balance), "old system", check_margin=balance > 0)
    return login


def product_id(house: House, code: str = "std") -> int:
    house.session.rollback()
    return house.session.scalars(select(Product.id).where(Product.code == code)).one()


def bind(house: House, login: int, **changes) -> int:
    wish = {"client_id": house.client_id, "reason": "came with the merger", "actor": STAFF}
    if "product_id" not in changes:
        wish["product_id"] = product_id(house)
    with house.database.session() as session:
        return binding.bind_login(session, house.platform, server_id=house.server_id, login=login, **{**wish, **changes}).id


def wait_a_second(house: House) -> None:
    """Until the server's clock shows another second than that of the newest deal."""
    takeover.time.sleep(takeover.PAUSE_S)


def account(house: House, account_id: int) -> TradingAccount:
    house.session.rollback()
    return house.session.get_one(TradingAccount, account_id)


def balance_there(house: House, login: int) -> Money:
    return Money.parse(house.platform.get_account(login).balance, "USD")


def mirror_all(house: House) -> None:
    with house.database.session() as session:
        mirror.mirror_deals(session)


def test_a_login_becomes_a_clients_account(house):
    login = make_login(house, 1_500, Leverage="50")
    wait_a_second(house)
    bound = account(house, bind(house, login))
    assert (bound.login, bound.client_id, bound.origin, bound.status, bound.product.code) == (
        login, house.client_id, "bound", "active", "std",
    )  # fmt: skip
    assert (bound.balance, bound.leverage, bound.group, bound.rights) == (1_500, 50, r"real\std\usd", DEFAULT_RIGHTS)
    assert house.mirrored(login) == Money(150_000, "USD")
    assert house.ledger(chart.migration_opening("USD")) == Money(-150_000, "USD")
    posted = house.session.get_one(Transaction, bound.opening_txn_id)
    cause = sources.cause_of(house.session, posted)
    assert (posted.kind, cause.subject, cause.id) == ("migration_opening", "trading_account", bound.id)
    entry = house.session.scalars(select(AuditEntry).where(AuditEntry.action == "trading_account.bind")).one()
    assert (entry.target, entry.reason, entry.after["login"]) == (f"trading_account:{bound.id}", "came with the merger", login)
    house.prove()


def test_what_happened_before_counts_once_whenever_it_is_booked(house):
    login = make_login(house, 1_000)
    house.simulator.exchange.open(login, "EURUSD", 0, 10_000_000)
    house.drain()  # two deals are booked, and belong to nobody
    house.simulator.exchange.balance_operation(login, 2, Decimal(500), "from the desk")
    wait_a_second(house)
    account_id = bind(house, login)  # of the third we have not heard yet
    assert house.mirrored(login) == balance_there(house, login)
    house.drain()
    mirror_all(house)
    assert house.mirrored(login) == balance_there(house, login)
    assert house.count(Deal, Deal.trading_account_id == account_id) == 3
    assert house.count(Deal, Deal.ledger_txn_id.is_(None)) == 0
    assert house.count(Position, Position.trading_account_id == account_id) == 1
    assert house.count(ForeignOperation, ForeignOperation.reviewed_at.is_(None), ForeignOperation.deal_ticket < 3) == 0
    house.prove()


def test_what_happens_afterwards_is_mirrored(house):
    login = make_login(house, 1_000)
    wait_a_second(house)
    account_id = bind(house, login)
    wait_a_second(house)
    house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.50"), move_points=108)
    house.drain()
    mirror_all(house)
    assert house.mirrored(login) == balance_there(house, login)
    assert house.mirrored(login) != Money(100_000, "USD")
    assert account(house, account_id).balance == house.platform.get_account(login).balance
    house.prove()


def test_a_dealer_edits_what_the_opening_balance_holds(house):
    login = make_login(house, 1_000)
    (ticket,) = [deal.ticket for deal in house.at_server(login)]
    house.drain()
    wait_a_second(house)
    bind(house, login)
    house.edit(ticket, profit=Decimal(900))
    house.drain()
    mirror_all(house)
    assert house.mirrored(login) == balance_there(house, login) == Money(90_000, "USD")
    house.prove()


def test_a_sweep_that_finds_old_deals_changes_nothing(house):
    login = make_login(house, 1_000)
    wait_a_second(house)
    bind(house, login)
    sync.sweep(house.session, house.platform, house.server_id, since=now() - timedelta(hours=1))
    mirror_all(house)
    assert house.count(Deal, Deal.login == login) == 1
    assert house.mirrored(login) == Money(100_000, "USD")


def test_money_that_moves_while_we_read_is_read_again(house):
    login = make_login(house, 1_000)
    wait_a_second(house)
    zone, readings = server_zone("GMT+2/EU"), []

    class Busy:
        def __getattr__(self, name):
            return getattr(house.platform, name)

        def get_account(self, number):
            readings.append(number)
            if len(readings) <= 2:
                house.simulator.exchange.balance_operation(login, 2, Decimal(10), "meanwhile")
            return house.platform.get_account(number)

    state, at = takeover.read_still(Busy(), zone, login)
    assert state.balance == 1_020
    assert len(readings) > 2
    assert all(zone.to_utc(deal.server_time_ms).utc <= at for deal in house.at_server(login))


def test_a_login_that_never_stands_still(house, monkeypatch):
    monkeypatch.setattr(takeover, "PAUSE_S", 0)
    login = make_login(house)

    class Busy:
        def __getattr__(self, name):
            return getattr(house.platform, name)

        def get_account(self, number):
            house.simulator.exchange.balance_operation(login, 2, Decimal(10), "meanwhile")
            return house.platform.get_account(number)

    with pytest.raises(takeover.TradingNow):
        takeover.read_still(Busy(), server_zone("GMT+2/EU"), login)


def test_debts_and_play_money(house):
    owing, playing, empty = make_login(house, -30), make_login(house, 5_000, r"demo\forex\usd"), make_login(house)
    wait_a_second(house)
    bind(house, owing)
    assert house.mirrored(owing) == Money(-3_000, "USD")
    played = account(house, bind(house, playing, product_id=product_id(house, "demo")))
    assert (played.balance, played.opening_txn_id) == (5_000, None)
    assert queries.find_balance(house.session, chart.mt_balance("sim", playing, "USD")) is None
    assert account(house, bind(house, empty)).opening_txn_id is None
    house.prove()


def test_a_disabled_login_comes_as_it_is(house):
    login = make_login(house, Rights=str(DEFAULT_RIGHTS & ~UserRight.ENABLED))
    wait_a_second(house)
    assert account(house, bind(house, login)).status == "disabled"


def test_who_may_not_be_bound(house):
    ours, technical = house.add_account().login, make_login(house, Rights=str(DEFAULT_RIGHTS | UserRight.TECHNICAL))
    free = make_login(house)
    wait_a_second(house)
    with pytest.raises(binding.NoSuchLogin):
        bind(house, 999_999)
    with pytest.raises(binding.LoginIsOurs):
        bind(house, ours)
    with pytest.raises(binding.TechnicalLogin):
        bind(house, technical)
    with pytest.raises(NotFound), house.database.session() as session:
        binding.bind_login(
            session, house.platform, server_id=99, login=free, client_id=1, product_id=1, reason="x", actor=STAFF
        )
    with pytest.raises(InvalidInput) as refused:
        bind(house, free, client_id=999, product_id=product_id(house, "ecn"), reason=" ")
    assert sorted(refused.value.problems) == ["client", "product", "reason"]
    with house.connect(url="https://127.0.0.1:1") as broken, pytest.raises(Unreachable), house.database.session() as session:
        binding.bind_login(
            session, broken, server_id=house.server_id, login=free, client_id=1, product_id=1, reason="x", actor=STAFF
        )
    assert house.count(TradingAccount) == 1


def test_a_product_of_another_currency_does_not_fit(house):
    login = make_login(house)
    with unit_of_work(house.session, SYSTEM):
        house.session.execute(update(Product).where(Product.code == "std").values(currency="EUR"))
    wait_a_second(house)
    with pytest.raises(InvalidInput) as refused:
        bind(house, login)
    assert "currency" in refused.value.problems["product"]


def test_a_login_that_we_are_just_opening_is_not_bound(house):
    house.faults("execute_then_drop", path="user/add")
    made = accounts.request_account(
        house.session, client_id=house.client_id, product_id=product_id(house), leverage=100, actor=SYSTEM
    )
    with pytest.raises(Exception, match="did not confirm"):
        accounts.open_account(house.session, house.platform, house.vault, made.id)
    (user,) = house.simulator.store.accounts()
    wait_a_second(house)
    with pytest.raises(binding.LoginIsOurs):
        bind(house, user.login)


def test_looking_up_says_what_fits(house):
    login = make_login(house, 250)
    found = binding.look_up(house.session, house.platform, server_id=house.server_id, login=login)
    assert (found.state.balance, found.currency, [product.code for product in found.products], found.obstacle) == (
        250, "USD", ["std"], None,
    )  # fmt: skip
    wait_a_second(house)
    bind(house, login)
    found = binding.look_up(house.session, house.platform, server_id=house.server_id, login=login)
    assert isinstance(found.obstacle, binding.LoginIsOurs)
    with pytest.raises(binding.NoSuchLogin):
        binding.look_up(house.session, house.platform, server_id=house.server_id, login=1)


def test_two_staff_bind_at_once(house):
    login, other = make_login(house, 100), add_client(house.session, "other@example.com")
    wait_a_second(house)
    product = product_id(house)

    def work(client_id: int):
        def run() -> str:
            try:
                bind(house, login, client_id=client_id, product_id=product)
            except binding.LoginIsOurs:
                return "refused"
            return "bound"

        return run

    assert sorted(in_threads(work(house.client_id), work(other))) == ["bound", "refused"]
    assert house.mirrored(login) == Money(10_000, "USD")


def test_unbinding_only_before_anything_happened(house):
    empty, funded = make_login(house), make_login(house, 100)
    wait_a_second(house)
    by_mistake, for_good = bind(house, empty), bind(house, funded)
    with pytest.raises(binding.MoneyHasMoved):
        binding.unbind_login(house.session, account_id=for_good, reason="mistake", actor=STAFF)
    with pytest.raises(InvalidInput):
        binding.unbind_login(house.session, account_id=by_mistake, reason=" ", actor=STAFF)
    binding.unbind_login(house.session, account_id=by_mistake, reason="mistake", actor=STAFF)
    assert house.count(TradingAccount) == 1
    other = add_client(house.session, "other@example.com")
    again = bind(house, empty, client_id=other)
    wait_a_second(house)
    house.simulator.exchange.balance_operation(empty, 2, Decimal(5), "desk")
    house.drain()
    with pytest.raises(binding.MoneyHasMoved):
        binding.unbind_login(house.session, account_id=again, reason="mistake", actor=STAFF)
    opened = house.add_account().id
    with pytest.raises(binding.MoneyHasMoved):
        binding.unbind_login(house.session, account_id=opened, reason="mistake", actor=STAFF)
    with pytest.raises(NotFound):
        binding.unbind_login(house.session, account_id=999, reason="mistake", actor=STAFF)
