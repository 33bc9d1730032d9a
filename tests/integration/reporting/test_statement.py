"""A client's statement over a real ledger, a real trading server and real transfers: its figures are the ledger's."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import update

from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting, queries
from app.metatrader import mirror
from app.metatrader.simulator.exchange import Refused
from app.models.clients import Client
from app.models.metatrader import BalanceOperation, Deal, TradingAccount
from app.models.payments import Deposit
from app.payments import deposits, transfers
from app.payments.connector import Settled
from app.reporting import rendering, statement
from app.reporting.accounts import Difference
from app.reporting.errors import InvalidPeriod, TooManyLines, UnknownClient
from app.reporting.sample import text_of
from tests.integration.trading.house import SYSTEM, USER, House
from tests.integration.trading.test_binding import bind, wait_a_second


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


def told(house: House, *, days: int = 2, client_id: int | None = None) -> statement.Statement:
    """The statement of the days around now."""
    house.session.rollback()
    today = now().date()
    return statement.client_statement(
        house.session, client_id=client_id or house.client_id, first=today - timedelta(days), last=today + timedelta(days)
    )


def pay_in(house: House, amount: str) -> Deposit:
    """A deposit that the provider says is settled."""
    with unit_of_work(house.session, SYSTEM) as unit:
        deposit = Deposit(
            public_id=uuid4(), client_id=house.client_id, connector="stripe", amount_minor=usd(amount).amount_minor,
            currency="USD", state="pending", idempotency_key=str(uuid4()),
        )  # fmt: skip
        house.session.add(deposit)
        house.session.flush()
        deposits.apply_outcome(unit, deposit, Settled(amount=usd(amount), payment_reference=f"pi_{deposit.id}"))
    return deposit


def transfer(house: House, account: TradingAccount, amount: str, direction: str = "to_account") -> None:
    made = transfers.request_transfer(
        house.session, client_id=house.client_id, trading_account_id=account.id, direction=direction,
        amount=usd(amount), key=str(uuid4()), actor=SYSTEM,
    )  # fmt: skip
    house.send(made.operation_id)
    with unit_of_work(house.session, SYSTEM) as unit:
        transfers.follow_operation(unit, made.operation_id)


def mirror_all(house: House) -> None:
    house.drain()
    mirror.mirror_deals(house.session)


def test_the_way_of_a_thousand_dollars(house):
    account = house.add_account()
    deposit = pay_in(house, "1000.00")
    transfer(house, account, "600.00")
    opened, closed = house.simulator.control.trade(account.login, "EURUSD", "buy", Decimal("0.50"), move_points=58)
    mirror_all(house)
    house.session.refresh(account)
    transfer(house, account, "100.00", "to_wallet")
    mirror_all(house)

    made = told(house)
    assert made.differences == ()
    assert not made.is_complete
    (wallet,) = made.wallets
    assert [(line.what, line.reference, line.debit, line.credit, line.balance) for line in wallet.movements] == [
        ("Deposit", str(deposit.id), None, usd("1000.00"), usd("1000.00")),
        ("To trading account", str(account.login), usd("600.00"), None, usd("400.00")),
        ("From trading account", str(account.login), None, usd("100.00"), usd("500.00")),
    ]
    assert (wallet.opening, wallet.debits, wallet.credits, wallet.closing) == (
        usd("0.00"), usd("600.00"), usd("1100.00"), usd("500.00"),
    )  # fmt: skip
    assert wallet.closing == queries.balance(house.session, chart.client_wallet(house.client_id, "USD")).posted

    (trading,) = made.accounts
    assert [line.what for line in trading.lines] == ["From wallet", "Buy", "Sell", "To wallet"]
    assert [line.entry for line in trading.lines] == ["", "opens", "closes", ""]
    trade = trading.lines[2]
    assert (trade.ticket, trade.symbol, trade.volume) == (closed.ticket, "EURUSD", 50_000_000)
    assert (trade.profit.decimal, trade.price) == (closed.profit, closed.price)
    assert trade.commission.decimal == closed.commission + closed.fee
    assert trading.operations == usd("500.00")
    at_server = house.simulator.exchange.state(account.login).balance
    assert trading.closing.decimal == at_server
    assert trading.closing == house.mirrored(account.login)
    assert trading.in_transit == usd("0.00")
    assert trading.positions == ()
    assert opened.ticket == trading.lines[1].ticket


def test_a_period_takes_up_where_the_one_before_ended(house):
    account = house.add_account()
    with unit_of_work(house.session, SYSTEM):
        account.opened_at = datetime(2026, 1, 1, tzinfo=UTC)
    pay_in(house, "900.00")
    transfer(house, account, "500.00")
    house.simulator.control.trade(account.login, "EURUSD", "sell", Decimal("0.10"))
    mirror_all(house)
    today = now().date()

    def of(first: date, last: date) -> statement.Statement:
        return statement.client_statement(house.session, client_id=house.client_id, first=first, last=last)

    before = of(today - timedelta(9), today - timedelta(3))
    around = of(today - timedelta(2), today + timedelta(2))
    assert before.is_complete
    assert before.wallets[0].closing == around.wallets[0].opening == usd("0.00")
    assert before.accounts[0].closing == around.accounts[0].opening == usd("0.00")
    assert before.differences == around.differences == ()
    with house.database.owner_session() as owner:
        owner.execute(update(Deal).values(done_at=now() - timedelta(days=5)))
        owner.commit()
    house.session.rollback()
    earlier = of(today - timedelta(9), today - timedelta(3))
    after = of(today - timedelta(2), today)
    closing = earlier.accounts[0].closing
    assert closing == after.accounts[0].opening == around.accounts[0].closing
    assert after.accounts[0].lines == ()
    # The server did it in the first period, the ledger took it in in the second: no difference, but shown.
    assert (earlier.accounts[0].in_transit, after.accounts[0].in_transit) == (closing, usd("0.00"))
    assert earlier.differences == after.differences == ()


def test_a_login_that_was_taken_over_begins_with_what_it_had(house):
    exchange = house.simulator.exchange
    login = house.simulator.control.users.add(USER).login
    exchange.balance_operation(login, 2, Decimal(5_000), "from another life")
    house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.50"), move_points=40)
    mirror_all(house)
    had = Money.parse(exchange.state(login).balance, "USD")
    bind(house, login)
    (account,) = told(house).accounts
    assert (account.opening, account.closing, account.lines, account.in_transit) == (had, had, (), usd("0.00"))
    wait_a_second(house)
    house.simulator.control.trade(login, "EURUSD", "sell", Decimal("0.10"), move_points=30)
    mirror_all(house)
    made = told(house)
    assert made.accounts[0].opening == had
    assert made.accounts[0].closing == Money.parse(exchange.state(login).balance, "USD")
    assert len(made.accounts[0].lines) == 2
    assert made.differences == ()


def test_what_the_ledger_has_not_taken_in_yet_is_in_transit(house):
    account = house.add_account()
    pay_in(house, "600.00")
    transfer(house, account, "600.00")
    assert [line.what for line in told(house).accounts[0].lines] == []
    assert told(house).accounts[0].in_transit == usd("-600.00")  # the ledger was first
    house.drain()
    assert told(house).accounts[0].in_transit == usd("0.00")
    house.simulator.control.trade(account.login, "EURUSD", "buy", Decimal("0.20"), move_points=-30)
    house.drain()
    made = told(house)
    result = made.accounts[0].commission + made.accounts[0].swap + made.accounts[0].profit
    assert result
    assert made.accounts[0].in_transit == result
    mirror_all(house)
    assert told(house).accounts[0].in_transit == usd("0.00")
    assert made.differences == told(house).differences == ()


def test_a_ledger_that_says_otherwise_is_not_hidden(house):
    account = house.add_account()
    pay_in(house, "600.00")
    transfer(house, account, "600.00")
    mirror_all(house)
    with unit_of_work(house.session, SYSTEM):
        posting.post(
            house.session, key="slip", kind="slip", effective_at=now(), actor=SYSTEM,
            legs=[
                posting.debit(chart.mt_balance("sim", account.login, "USD"), usd("0.01")),
                posting.credit(chart.client_wallet(house.client_id, "USD"), usd("0.01")),
            ],
        )  # fmt: skip
    made = told(house)
    assert made.differences == (Difference(str(account.login), usd("600.00"), usd("599.99")),)
    assert made.wallets[0].movements[-1].what == "Other movement"
    text = text_of(rendering.render_statement(made, "en"))
    assert f"{account.login}: this statement says 600.00 USD, the ledger says 599.99 USD." in " ".join(text.split())


def test_a_returned_withdrawal_is_called_by_its_name(house):
    house.bring_money(house.client_id, 50_000)
    wallet, payouts = chart.client_wallet(house.client_id, "USD"), chart.psp_payouts("stripe", "USD")
    with unit_of_work(house.session, SYSTEM):
        chart.open_accounts(house.session, payouts)
        txn_id = posting.post(
            house.session, key="w", kind="withdrawal", effective_at=now(), actor=SYSTEM,
            legs=[posting.debit(wallet, usd("300.00")), posting.credit(payouts, usd("300.00"))],
            metadata={"withdrawal_id": 17},
        )  # fmt: skip
        posting.reverse(house.session, txn_id, key="w:back", actor=SYSTEM, at=now(), reason="refused")
    movements = told(house).wallets[0].movements
    assert [(line.what, line.reference) for line in movements[1:]] == [("Withdrawal", "17"), ("Withdrawal given back", "")]


def test_what_the_house_gave_back_did_not_come_from_the_wallet(house):
    account = house.add_account()
    pay_in(house, "600.00")
    transfer(house, account, "600.00")
    house.drain()
    assert [line.what for line in told(house).accounts[0].lines] == ["From wallet"]
    with house.database.owner_session() as owner:
        owner.execute(update(BalanceOperation).values(purpose="negative_balance"))
        owner.commit()
    assert [line.what for line in told(house).accounts[0].lines] == ["Compensation after stop-out"]


def test_demo_accounts_and_other_clients_stay_out(house):
    demo = house.add_account(product="demo")
    house.simulator.exchange.balance_operation(demo.login, 2, Decimal(10_000), "play money")
    with unit_of_work(house.session, SYSTEM):
        other = Client(
            email="other@example.com", password_hash="x", first_name="O", last_name="O", country="IT", terms_version="1",
            terms_accepted_at=now(),
        )  # fmt: skip
        house.session.add(other)
        house.session.flush()
        other_id = other.id
    house.bring_money(other_id, 70_000)
    house.drain()
    made = told(house)
    assert (made.wallets, made.accounts) == ((), ())
    assert told(house, client_id=other_id).wallets[0].closing == usd("700.00")


def test_several_currencies_and_accounts_stand_apart(house):
    house.bring_money(house.client_id, 12_300, "EUR")
    house.bring_money(house.client_id, 45_000, "JPY")
    logins = {house.add_account(product=product).login for product in ("std", "eur")}
    made = told(house)
    assert [str(wallet.closing) for wallet in made.wallets] == ["123.00 EUR", "45000 JPY"]
    assert {account.login for account in made.accounts} == logins
    assert {account.currency for account in made.accounts} == {"USD", "EUR"}


def test_open_positions_are_those_of_the_server(house):
    account = house.add_account()
    exchange = house.simulator.exchange
    exchange.balance_operation(account.login, 2, Decimal(10_000), "start")
    whole = exchange.open(account.login, "EURUSD", 0, 10_000_000)
    part = exchange.open(account.login, "USDJPY", 1, 20_000_000)
    gone = exchange.open(account.login, "EURGBP", 0, 10_000_000)
    exchange.market.advance()
    exchange.close(part.position_ticket, 5_000_000)
    exchange.close(gone.position_ticket)
    mirror_all(house)
    positions = {position.ticket: position for position in told(house).accounts[0].positions}
    assert set(positions) == {whole.position_ticket, part.position_ticket}
    left = positions[part.position_ticket]
    assert (left.what, left.symbol, left.volume, left.price) == ("Sell", "USDJPY", 15_000_000, part.price)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_figures_agree(house, seed):
    """Trades, edits, deletions, balance operations and transfers in random order, mirrored now and then."""
    chance = random.Random(seed)
    accounts = [house.add_account() for _ in range(2)]
    pay_in(house, "5000.00")
    exchange = house.simulator.exchange
    for account in accounts:
        exchange.balance_operation(account.login, 2, Decimal(2_000), "start")
    for _ in range(40):
        account = chance.choice(accounts)
        deals = house.at_server(account.login)
        try:
            act = chance.random()
            if act < 0.45:
                exchange.open(account.login, chance.choice(["EURUSD", "USDJPY"]), chance.choice([0, 1]), 10_000_000)
            elif act < 0.7 and (positions := house.simulator.store.positions(account.login)):
                exchange.close(chance.choice(positions).ticket, chance.choice([None, 5_000_000]))
            elif act < 0.76:
                house.edit(chance.choice(deals).ticket, profit=Decimal(chance.randint(-5_000, 5_000)).scaleb(-2))
            elif act < 0.82:
                house.delete(chance.choice(deals).ticket)
            elif act < 0.88:
                exchange.balance_operation(account.login, chance.choice([2, 3, 5]), Decimal(chance.randint(1, 99)), "by hand")
            else:
                transfer(house, account, f"{chance.randint(1, 50)}.00", chance.choice(["to_account", "to_wallet"]))
        except (Refused, transfers.NotEnoughOnAccount, IndexError):
            pass
        exchange.market.advance()
        if chance.random() < 0.2:
            house.drain()
        if chance.random() < 0.2:
            mirror_all(house)
        assert told(house).differences == ()
    mirror_all(house)
    made = told(house)
    assert made.differences == ()
    for account in made.accounts:
        assert account.closing == house.mirrored(account.login)
        assert account.closing.decimal == exchange.state(account.login).balance
        assert account.in_transit == usd("0.00")
        assert account.closing == account.opening + account.operations + account.commission + account.swap + account.profit


def test_the_values_are_plain_json_and_the_pdf_says_them(house):
    account = house.add_account()
    with unit_of_work(house.session, SYSTEM):
        client = house.session.get_one(Client, house.client_id)
        client.first_name, client.last_name = "ليلى", "حداد"
    pay_in(house, "1000.00")
    transfer(house, account, "600.00")
    mirror_all(house)
    made = told(house)
    values = statement.as_values(made)
    assert json.loads(json.dumps(values)) == values
    text = text_of(rendering.render_statement(made, "en", broker="House of Lots"))
    for words in (
        "House of Lots",
        "1,000.00",
        "600.00",
        "400.00",
        f"Trading account {account.login}",
        "Page 1 of",
        "From wallet",
    ):
        assert words in text
    assert "حداد" in text.replace(" ", "")
    assert rendering.render_statement(made, "ar")[:5] == b"%PDF-"


@pytest.mark.parametrize(("first", "last"), [(0, -1), (-366, 0), (1, 2), (-3, 400)])
def test_periods_that_make_no_sense(house, first, last):
    today = now().date()
    with pytest.raises(InvalidPeriod):
        statement.client_statement(
            house.session, client_id=house.client_id, first=today + timedelta(first), last=today + timedelta(last)
        )


def test_nobody(house):
    with pytest.raises(UnknownClient):
        told(house, client_id=2**40)


def test_too_long_to_be_laid_out(house, monkeypatch):
    monkeypatch.setattr(statement, "MAX_LINES", 1)
    pay_in(house, "1.00")
    assert told(house)
    pay_in(house, "1.00")
    with pytest.raises(TooManyLines) as refused:
        told(house)
    assert str(refused.value).startswith("A statement holds 1 lines at most")
