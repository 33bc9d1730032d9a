"""Import of a server's logins: matched, decided, carried out in parts, once, with balances that agree afterwards."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.errors import InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart
from app.metatrader import import_reading, importing, mirror, takeover
from app.metatrader.codes import DEFAULT_RIGHTS, UserRight
from app.models.ledger import Transaction
from app.models.metatrader import Product, TradingAccount
from app.models.trading_desk import LoginImport, LoginImportRow
from tests.integration.trading.house import SYSTEM, House, add_client
from tests.integration.trading.test_binding import make_login, wait_a_second

STAFF = Actor.staff(7)
COUNTRIES = {"italy": "IT"}
ELENA = {"EMail": "Elena@Example.com"}


def start(house: House, mask: str = "*") -> int:
    return importing_id(import_reading.start_import(house.session, server_id=house.server_id, group_mask=mask, actor=STAFF))


def importing_id(found: LoginImport) -> int:
    return found.id


def read(house: House, import_id: int, platform=None) -> str:
    return import_reading.read_users(house.session, platform or house.platform, import_id, COUNTRIES)


def carry_out(house: House, import_id: int, platform=None) -> str:
    with house.database.session() as session:
        return importing.carry_out(session, platform or house.platform, import_id)


def order(house: House, import_id: int) -> int:
    return importing.order_import(house.session, import_id, actor=STAFF)


def row(house: House, login: int) -> LoginImportRow:
    house.session.rollback()
    return house.session.scalars(select(LoginImportRow).where(LoginImportRow.login == login)).one()


def found(house: House, import_id: int) -> LoginImport:
    house.session.rollback()
    return house.session.get_one(LoginImport, import_id)


def test_from_reading_to_accounts_with_balances(house):
    first, second = make_login(house, 1_000, **ELENA), make_login(house, 2_000, r"real\ecn\usd", **ELENA)
    euro, demo = make_login(house, 300, r"real\std\eur", **ELENA), make_login(house, 5_000, r"demo\forex\usd", **ELENA)
    wait_a_second(house)
    import_id = start(house)
    assert read(house, import_id) == "ready"
    assert importing.counts(house.session, import_id) == {"matched": 4}
    assert house.count(TradingAccount) == 0  # looked through, nothing more
    assert importing.sums(house.session, import_id) == [("EUR", "matched", 1, 300), ("USD", "matched", 2, 3_000)]
    assert order(house, import_id) == 4
    assert carry_out(house, import_id) == "done"
    accounts = {account.login: account for account in house.session.scalars(select(TradingAccount))}
    assert {login: (one.product.code, one.origin, one.status) for login, one in accounts.items()} == {
        first: ("std", "imported", "active"),
        second: ("ecn", "imported", "active"),
        euro: ("eur", "imported", "active"),
        demo: ("demo", "imported", "active"),
    }
    assert (house.mirrored(first), house.mirrored(second)) == (Money(100_000, "USD"), Money(200_000, "USD"))
    assert house.mirrored(euro, "EUR") == Money(30_000, "EUR")
    assert house.ledger(chart.migration_opening("USD")) == Money(-300_000, "USD")
    assert house.count(Transaction, Transaction.kind == "migration_opening") == 2  # one run per currency
    house.drain()
    with house.database.session() as session:
        mirror.mirror_deals(session)
    assert house.mirrored(first) == Money(100_000, "USD")
    house.prove()
    assert (found(house, import_id).finished_at is not None, row(house, first).outcome) == (True, "imported")


def test_what_becomes_of_each(house):
    add_client(house.session, "marek@example.com")  # has Elena's name, too
    with unit_of_work(house.session, SYSTEM):
        house.session.delete(house.session.scalars(select(Product).where(Product.code == "ecn")).one())
    ours = house.add_account().login
    technical = make_login(house, Rights=str(DEFAULT_RIGHTS | UserRight.TECHNICAL), **ELENA)
    numbered = make_login(house, Comment=f"client #{house.client_id}")
    same_name = make_login(house, FirstName="Elena", LastName="Rossi", Country="Italy")
    stranger, no_product = make_login(house, EMail="x@example.com"), make_login(house, 0, r"real\ecn\usd", **ELENA)
    import_id = start(house)
    read(house, import_id)
    outcomes = {one.login: (one.outcome, one.note, one.client_id) for one in house.session.scalars(select(LoginImportRow))}
    assert outcomes == {
        ours: ("known", "known", None),
        technical: ("technical", "technical", None),
        numbered: ("ambiguous", "number", house.client_id),
        same_name: ("ambiguous", "names", None),
        stranger: ("unmatched", "nobody", None),
        no_product: ("no_product", "no_product", house.client_id),
    }
    with pytest.raises(importing.NothingToImport):
        order(house, import_id)


def test_a_person_decides_and_another_reading_keeps_it(house):
    decided, left, later = make_login(house), make_login(house, **ELENA), make_login(house, EMail="later@example.com")
    import_id = start(house)
    read(house, import_id)
    with pytest.raises(InvalidInput):
        importing.decide_row(house.session, row(house, decided).id, actor=STAFF, client_id=999)
    with pytest.raises(InvalidInput):
        importing.decide_row(house.session, row(house, decided).id, actor=STAFF)
    with pytest.raises(NotFound):
        importing.decide_row(house.session, 999, actor=STAFF, client_id=house.client_id)
    importing.decide_row(house.session, row(house, decided).id, actor=STAFF, client_id=house.client_id)
    importing.decide_row(house.session, row(house, left).id, actor=STAFF, leave_out=True)
    newcomer = add_client(house.session, "later@example.com")
    import_reading.read_again(house.session, import_id, actor=STAFF)
    with pytest.raises(importing.NotDecidable):
        importing.decide_row(house.session, row(house, left).id, actor=STAFF, client_id=house.client_id)
    read(house, import_id)
    assert [(row(house, one).outcome, row(house, one).client_id) for one in (decided, left, later)] == [
        ("matched", house.client_id), ("left_out", house.client_id), ("matched", newcomer),
    ]  # fmt: skip
    wait_a_second(house)
    order(house, import_id)
    assert carry_out(house, import_id) == "done"
    assert sorted(house.session.scalars(select(TradingAccount.login))) == sorted([decided, later])
    with pytest.raises(importing.NotDecidable):
        importing.decide_row(house.session, row(house, decided).id, actor=STAFF, leave_out=True)


def test_only_one_import_of_a_server_runs_at_a_time(house):
    make_login(house, **ELENA)
    import_id = start(house)
    with pytest.raises(importing.ImportUnderWay):
        start(house)
    with pytest.raises(importing.ImportUnderWay):
        import_reading.read_again(house.session, import_id, actor=STAFF)
    with pytest.raises(importing.ImportUnderWay):
        order(house, import_id)
    read(house, import_id)
    order(house, import_id)
    with pytest.raises(importing.ImportUnderWay):
        order(house, import_id)
    for mask in ("", " ", "x" * 201):
        with pytest.raises(InvalidInput):
            start(house, mask)


def test_carried_out_in_parts_goes_on_after_a_crash(house, monkeypatch):
    monkeypatch.setattr(importing, "LOGINS_PER_UNIT", 2)
    logins = [make_login(house, 10 * number, **ELENA) for number in range(1, 6)]
    wait_a_second(house)
    import_id = start(house)
    read(house, import_id)
    order(house, import_id)

    class Death(BaseException):
        pass

    parts, real = [], importing.take_over

    def dying(*arguments, **options):
        if len(parts) == 2:
            raise Death
        parts.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(importing, "take_over", dying)
    with pytest.raises(Death):
        carry_out(house, import_id)
    assert (house.count(TradingAccount), found(house, import_id).status) == (4, "importing")
    monkeypatch.setattr(importing, "take_over", real)
    assert carry_out(house, import_id) == "done"
    assert carry_out(house, import_id) == "done"
    assert sorted(house.session.scalars(select(TradingAccount.login))) == logins
    assert [house.mirrored(login).amount_minor for login in logins] == [1_000, 2_000, 3_000, 4_000, 5_000]
    house.prove()


def test_what_changed_since_it_was_looked_through(house):
    moved, bound, archived = (make_login(house, 10, **ELENA) for _ in range(3))
    wait_a_second(house)
    import_id = start(house)
    read(house, import_id)
    house.platform.update_account(moved, group=r"real\ecn\usd")
    house.add_account(login=bound)
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(LoginImportRow, row(house, archived).id).login = 999_999  # no longer there
    order(house, import_id)
    assert carry_out(house, import_id) == "done"
    assert [(row(house, login).outcome, row(house, login).note) for login in (moved, bound, 999_999)] == [
        ("no_product", "moved"), ("known", "known"), ("left_out", "gone"),
    ]  # fmt: skip
    assert house.count(TradingAccount, TradingAccount.origin == "imported") == 0


def test_a_login_that_trades_is_taken_over_when_it_rests(house):
    login, still = make_login(house, 100, **ELENA), make_login(house, 50, **ELENA)
    wait_a_second(house)
    import_id = start(house)
    read(house, import_id)
    order(house, import_id)

    class Busy:
        readings = 0

        def __getattr__(self, name):
            return getattr(house.platform, name)

        def users(self, mask):
            self.readings += 1
            if self.readings == 1:
                house.simulator.exchange.balance_operation(login, 2, Decimal(1), "meanwhile")
            return house.platform.users(mask)

    busy = Busy()
    assert carry_out(house, import_id, busy) == "done"
    assert busy.readings == 2
    assert (house.mirrored(login), house.mirrored(still)) == (Money(10_100, "USD"), Money(5_000, "USD"))
    house.drain()
    with house.database.session() as session:
        mirror.mirror_deals(session)
    assert house.mirrored(login) == Money(10_100, "USD")


def test_a_login_that_never_rests_waits_for_another_order(house, monkeypatch):
    monkeypatch.setattr(importing, "PAUSE_S", 0)
    login = make_login(house, 100, **ELENA)
    import_id = start(house)
    read(house, import_id)
    order(house, import_id)

    class Busy:
        def __getattr__(self, name):
            return getattr(house.platform, name)

        def users(self, mask):
            house.simulator.exchange.balance_operation(login, 2, Decimal(1), "meanwhile")
            return house.platform.users(mask)

    assert carry_out(house, import_id, Busy()) == "ready"
    assert "traded all the time" in found(house, import_id).error
    takeover.time.sleep(takeover.PAUSE_S)
    order(house, import_id)
    assert carry_out(house, import_id) == "done"
    assert house.mirrored(login).amount_minor == house.platform.get_account(login).balance * 100


def test_a_server_that_does_not_answer(house):
    make_login(house, **ELENA)
    import_id = start(house)
    with house.connect(url="https://127.0.0.1:1") as broken:
        assert read(house, import_id, broken) == "failed"
        assert "cannot be reached" in found(house, import_id).error
        import_reading.read_again(house.session, import_id, actor=STAFF)
        read(house, import_id)
        order(house, import_id)
        assert carry_out(house, import_id, broken) == "ready"
    assert house.count(TradingAccount) == 0
    order(house, import_id)
    assert carry_out(house, import_id) == "done"
    assert house.count(TradingAccount) == 1
