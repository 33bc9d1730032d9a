"""An MT4 server behind its bridge, seen from the business: accounts, changes and balance operations, as with MT5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.crypto import Vault
from app.core.errors import InvalidInput
from app.core.money import Money
from app.core.uow import unit_of_work
from app.metatrader import accounts, change_sending, changes, commands
from app.metatrader.errors import UnknownOutcome
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms.mt4_bridge import MT4BridgePlatform
from app.metatrader.simulator.faults import Fault
from app.metatrader.simulator.mt4 import MT4Simulator
from app.models.metatrader import AccountChange, BalanceOperation, Product, Server, TradingAccount
from tests.integration.trading.house import PASSWORD, QUICK, SYSTEM, UNHURRIED, add_client

WHY = {"actor": Actor.staff(7), "reason": "asked by telephone"}


@dataclass
class MT4House:
    session: Session
    vault: Vault
    simulator: MT4Simulator
    platform: MT4BridgePlatform
    server_id: int
    client_id: int

    def open_account(self, code: str = "std") -> TradingAccount:
        product = self.session.scalars(select(Product).where(Product.code == code)).one()
        actor = Actor.client(self.client_id)
        made = accounts.request_account(
            self.session, client_id=self.client_id, product_id=product.id, leverage=100, actor=actor
        )
        assert accounts.open_account(self.session, self.platform, self.vault, made.id) == "active"
        return self.again(TradingAccount, made.id)

    def send(self, change: AccountChange) -> str:
        return change_sending.send_change(self.session, self.platform, self.vault, change.id)

    def again(self, table, number):
        self.session.rollback()
        return self.session.get_one(table, number)

    def order(self, login: int, amount_minor: int = 60_000) -> int:
        with unit_of_work(self.session, SYSTEM) as unit:
            amount = Money(amount_minor, "USD")
            return commands.create_operation(unit, server_id=self.server_id, login=login, amount=amount, prefix="T").id


@pytest.fixture
def mt4(database, tmp_path) -> Iterator[MT4House]:
    simulator = MT4Simulator(state_dir=tmp_path / "server", password=PASSWORD, tick_s=0)
    with simulator, database.session() as session:
        access = ServerAccess(
            code="sim4", platform="mt4_bridge", url=simulator.url, manager_login=1, password=PASSWORD,
            ca_file=str(simulator.ca_file), time_zone="GMT+2/EU", options=UNHURRIED,
        )  # fmt: skip
        with unit_of_work(session, SYSTEM):
            server = Server(
                code="sim4", name="MT4", platform="mt4_bridge", url=simulator.url, manager_login=1, time_zone="GMT+2/EU"
            )
            session.add(server)
            session.flush()
            for code, group, currency in (
                ("std", "std-usd", "USD"),
                ("ecn", "ecn-usd", "USD"),
                ("long", "std-usd-and-more", "USD"),
            ):
                session.add(
                    Product(
                        code=code, name=code, server_id=server.id, group=group, currency=currency, leverages=[100, 200],
                        is_demo=False,
                    )
                )  # fmt: skip
            server_id = server.id
        vault = Vault(database.settings.document_key, accounts.VAULT_PURPOSE)
        with MT4BridgePlatform(access, timeouts=QUICK) as platform:
            yield MT4House(session, vault, simulator, platform, server_id, add_client(session))


def test_an_account_is_opened_changed_and_disabled(mt4):
    account = mt4.open_account()
    state = mt4.platform.get_account(account.login)
    assert (state.group, state.leverage, state.mark) == ("std-usd", 100, account.token)
    client = Actor.client(mt4.client_id)
    shown = accounts.reveal_password(mt4.session, mt4.vault, client_id=mt4.client_id, account_id=account.id, actor=client)
    assert mt4.platform.check_password(account.login, "main", shown)

    ecn = mt4.session.scalars(select(Product.id).where(Product.code == "ecn")).one()
    for make in (
        lambda: changes.change_leverage(mt4.session, account_id=account.id, leverage=200, actor=client),
        lambda: changes.change_group(mt4.session, account_id=account.id, product_id=ecn, **WHY),
        lambda: changes.set_password(
            mt4.session, mt4.vault, account_id=account.id, which="main", password="Own1!word", actor=client
        ),
        lambda: changes.disable(mt4.session, account_id=account.id, **WHY),
    ):
        assert mt4.send(make()) == "done"
    state = mt4.platform.get_account(account.login)
    assert (state.group, state.leverage, state.is_enabled, state.may_trade) == ("ecn-usd", 200, False, False)
    assert mt4.platform.check_password(account.login, "main", "Own1!word")
    assert mt4.again(TradingAccount, account.id).status == "disabled"
    assert mt4.send(changes.enable(mt4.session, account_id=account.id, **WHY)) == "done"
    assert mt4.platform.get_account(account.login).may_trade


def test_what_the_server_cannot_do_ends_with_a_sentence(mt4):
    """MT4 has no archive. The change does not wait for ever, and the account stays as it is and can be changed again."""
    account = mt4.open_account()
    change = changes.archive(mt4.session, account_id=account.id, **WHY)
    assert mt4.send(change) == "failed"
    ended = mt4.again(AccountChange, change.id)
    assert (ended.status, ended.error) == ("failed", "This trading server cannot do this.")
    assert mt4.again(TradingAccount, account.id).status == "active"
    assert changes.open_change(mt4.session, account.id) is None
    assert mt4.send(changes.change_leverage(mt4.session, account_id=account.id, leverage=200, **WHY)) == "done"


def test_a_password_that_mt4_has_no_room_for(mt4):
    account = mt4.open_account()
    with pytest.raises(InvalidInput):
        changes.set_password(
            mt4.session,
            mt4.vault,
            account_id=account.id,
            which="main",
            password="Sixteen!charact1",
            actor=Actor.client(mt4.client_id),
        )
    assert mt4.session.scalars(select(AccountChange)).all() == []


def test_a_product_whose_group_mt4_has_no_room_for(mt4):
    product = mt4.session.scalars(select(Product).where(Product.code == "long")).one()
    made = accounts.request_account(
        mt4.session, client_id=mt4.client_id, product_id=product.id, leverage=100, actor=Actor.client(mt4.client_id)
    )
    assert accounts.open_account(mt4.session, mt4.platform, mt4.vault, made.id) == "failed"
    assert mt4.simulator.engine.logins() == []


@pytest.mark.parametrize("kind", ["execute_then_drop", "garble"])
def test_an_answer_that_was_lost_is_told_by_the_bridge(mt4, kind):
    account = mt4.open_account()
    mt4.simulator.faults.set([Fault(kind, "/v1/balance"), Fault("drop", "/v1/balance")])
    operation = mt4.order(account.login)
    assert commands.send_operation(mt4.session, mt4.platform, operation) == "done"
    done = mt4.again(BalanceOperation, operation)
    assert mt4.platform.deal(done.deal_ticket).comment == done.token
    assert len(mt4.simulator.faults.listed()) == 1, "it was sent once"


def test_one_that_did_not_arrive_goes_out_again(mt4):
    account = mt4.open_account()
    mt4.simulator.faults.set([Fault("drop", "/v1/balance")])
    operation = mt4.order(account.login)
    assert commands.send_operation(mt4.session, mt4.platform, operation) == "new"
    assert commands.send_operation(mt4.session, mt4.platform, operation) == "done"
    assert mt4.platform.get_account(account.login).balance == Decimal(600)


def test_one_that_nobody_can_tell_is_found_by_its_token(mt4, clock):
    account = mt4.open_account()
    mt4.simulator.faults.set([Fault("retcode", "/v1/balance", code=142)])  # accepted, and the end unknown
    operation = mt4.order(account.login)
    assert commands.send_operation(mt4.session, mt4.platform, operation) == "unknown"
    clock.advance(timedelta(minutes=2).total_seconds())
    assert commands.resolve_operation(mt4.session, mt4.platform, operation) == "done"
    assert mt4.platform.get_account(account.login).balance == Decimal(600)


def test_an_account_whose_opening_nobody_can_tell_is_found_by_its_mark(mt4):
    product = mt4.session.scalars(select(Product).where(Product.code == "std")).one()
    made = accounts.request_account(
        mt4.session, client_id=mt4.client_id, product_id=product.id, leverage=100, actor=Actor.client(mt4.client_id)
    )
    mt4.simulator.faults.set([Fault("retcode", "/v1/open_account", code=143)])
    with pytest.raises(UnknownOutcome):
        accounts.open_account(mt4.session, mt4.platform, mt4.vault, made.id)
    assert accounts.open_account(mt4.session, mt4.platform, mt4.vault, made.id) == "active"
    (only,) = mt4.simulator.engine.logins()
    assert mt4.again(TradingAccount, made.id).login == only.login
