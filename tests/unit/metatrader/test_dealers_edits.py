"""What dealers do afterwards: deals changed, deleted, cancelled, entered late; logins moved, archived, cleaned."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.metatrader.codes import OrderType
from app.metatrader.events import AccountEvent, DealEvent, decode
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.journal import LOST

LOT = 100_000_000
EVER = (0, 2**62)


def refusal(call, *arguments, **named):
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value.retcode


def events(simulator):
    rows = simulator.store.outbox(10_000)
    return [decode({name.encode(): value.encode() for name, value in fields.items()}) for _, _, fields in rows]


@pytest.fixture
def login(new_login):
    return new_login(money="10000")


@pytest.fixture
def traded(exchange, login):
    """A closed position: the deals that opened and closed it."""
    opened = exchange.open(login, "EURUSD", 0, LOT // 2)
    exchange.shift("EURUSD", 108)
    return opened, exchange.close(opened.position_ticket)


def test_a_deal_is_changed(simulator, exchange, login, traded):
    _, closed = traded
    changed = exchange.edit_deal(closed.ticket, price=closed.price + Decimal("0.00020"), profit=Decimal("60.00"), comment="x")
    assert changed.modification_flags == 1
    assert simulator.store.deal(closed.ticket) == changed
    assert changed.fingerprint() != closed.fingerprint()
    assert exchange.state(login).balance == 10_000 + Decimal(60)
    assert exchange.check_balance(login).agrees
    deal, account = events(simulator)[-2:]
    assert (deal.kind, deal.deal) == ("deal.update", changed)
    assert (account.kind, account.account.balance) == ("account.state", Decimal(10_060))


def test_the_opening_price_moves_an_open_position_and_marks_its_exit(exchange, login):
    opened = exchange.open(login, "EURUSD", 0, LOT)
    exchange.edit_deal(opened.ticket, price=opened.price - Decimal("0.00100"))
    (position,) = exchange.positions(login)
    assert position.price_open == opened.price - Decimal("0.00100")
    closed = exchange.close(opened.position_ticket)
    assert closed.profit == Decimal("92.00")  # 100 points less the spread of 8
    assert closed.modification_flags == 1 | 4


def test_a_deal_is_deleted(simulator, exchange, login, traded):
    _, closed = traded
    exchange.delete_deal(closed.ticket)
    assert simulator.store.deal(closed.ticket) is None
    assert exchange.state(login).balance == 10_000
    assert [event.kind for event in events(simulator)[-2:]] == ["deal.delete", "account.state"]
    assert events(simulator)[-2].deal == closed
    assert refusal(exchange.delete_deal, closed.ticket) == 13


def test_a_credit_that_is_changed_moves_the_credit(exchange, login):
    deal = exchange.balance_operation(login, 3, Decimal(100), "credit")
    exchange.edit_deal(deal.ticket, profit=Decimal(40))
    assert (exchange.state(login).balance, exchange.state(login).credit) == (10_000, 40)
    exchange.delete_deal(deal.ticket)
    assert exchange.state(login).credit == 0
    assert exchange.check_balance(login).agrees


def test_a_trade_is_cancelled(simulator, exchange, new_login):
    login = new_login("real\\ecn\\usd", money="10000")
    opened = exchange.open(login, "EURUSD", 0, LOT)
    closed = exchange.close(opened.position_ticket, LOT // 4)
    assert exchange.cancel_deal(closed.ticket).action == 14
    cancelled = exchange.cancel_deal(opened.ticket)
    assert (cancelled.action, cancelled.result, cancelled.modification_flags) == (13, 0, 1)
    assert not cancelled.is_trade
    assert exchange.positions(login) == []
    assert exchange.state(login).balance == 10_000
    assert exchange.check_balance(login).agrees
    assert refusal(exchange.cancel_deal, opened.ticket) == 3
    assert refusal(exchange.cancel_deal, simulator.store.deals(login, *EVER)[0].ticket) == 3


def test_a_forgotten_deal_is_entered(simulator, exchange, clock, login, traded):
    _, closed = traded
    then_ms = closed.server_time_ms - 3 * 86_400_000
    deal = exchange.enter_deal(
        login, symbol="EURUSD", action=1, entry=1, volume=LOT, price=Decimal("1.1"), profit=Decimal("-12.50"), time_ms=then_ms,
        position_ticket=closed.position_ticket,
    )  # fmt: skip
    assert deal.ticket == closed.ticket + 1
    assert (deal.server_time_ms, deal.reason, deal.volume_closed, deal.modification_flags) == (then_ms, 2, LOT, 1)
    assert exchange.state(login).balance == 10_050 - Decimal("12.50")
    assert exchange.check_balance(login).agrees
    late = [event for event in events(simulator) if isinstance(event, DealEvent)][-1]
    assert (late.kind, late.deal.server_time_ms) == ("deal.add", then_ms)
    assert late.server_time_ms == exchange.now_ms()
    more = {"symbol": "EURUSD", "action": 0, "entry": 0, "volume": LOT, "price": Decimal(1)}
    assert refusal(exchange.enter_deal, login, **more, profit=Decimal(0), time_ms=exchange.now_ms() + 1) == 3
    assert refusal(exchange.enter_deal, login, **more, profit=Decimal("0.001"), time_ms=then_ms) == 3
    assert refusal(exchange.enter_deal, login, **{**more, "volume": 0}, profit=Decimal(0), time_ms=then_ms) == 10014


def test_money_finer_than_the_currency_is_refused(exchange, login, traded):
    assert refusal(exchange.edit_deal, traded[1].ticket, profit=Decimal("0.001")) == 3
    assert refusal(exchange.edit_deal, traded[1].ticket, swap=Decimal("NaN")) == 3
    assert refusal(exchange.edit_deal, 5, profit=Decimal(1)) == 13
    assert exchange.check_balance(login).agrees


def test_groups_that_a_login_may_not_move_to(exchange, new_login):
    login = new_login()
    assert exchange.change_group(login, "real\\std\\eur").group_name == "real\\std\\eur"
    assert exchange.change_group(login, "real\\std\\usd").group_name == "real\\std\\usd"
    assert refusal(exchange.change_group, login, "nowhere") == 13
    assert refusal(exchange.change_group, login, "real2\\std\\usd") == 3009
    exchange.balance_operation(login, 2, Decimal(1000), "in")
    assert refusal(exchange.change_group, login, "real\\std\\jpy") == 3010
    exchange.open(login, "EURUSD", 0, LOT // 10)
    assert refusal(exchange.change_group, login, "real\\netting\\usd") == 3008
    assert exchange.change_group(login, "real\\ecn\\usd").group_name == "real\\ecn\\usd"


def test_a_login_is_archived_and_restored(simulator, exchange, login, traded):
    before, deals = exchange.state(login), simulator.store.count_deals(login, *EVER)
    exchange.archive(login)
    assert refusal(exchange.state, login) == 13
    assert refusal(exchange.balance_operation, login, 2, Decimal(1), "") == 13
    assert refusal(exchange.archive, login) == 13
    assert [one.login for one in simulator.store.accounts()] == []
    assert [one.login for one in simulator.store.archived_accounts()] == [login]
    exchange.restore(login)
    assert exchange.state(login) == before
    assert simulator.store.count_deals(login, *EVER) == deals
    assert refusal(exchange.restore, login) == 3004
    assert refusal(exchange.restore, 5) == 13
    told = [event for event in events(simulator) if isinstance(event, AccountEvent)][-2:]
    assert [(event.kind, event.account) for event in told] == [("account.archived", before), ("account.restored", before)]


@pytest.mark.parametrize("what", ["archive", "delete_account"])
def test_a_login_with_something_open_stays(exchange, login, what):
    opened = exchange.open(login, "EURUSD", 0, LOT // 10)
    assert refusal(getattr(exchange, what), login) == 3008
    exchange.close(opened.position_ticket)
    quote = exchange.market.quote("EURUSD")
    order = exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, LOT, quote.bid_price - Decimal("0.01"))
    assert refusal(getattr(exchange, what), login) == 3008
    exchange.cancel_order(order.ticket)
    getattr(exchange, what)(login)


def test_a_deleted_login_is_gone_and_its_number_free(simulator, exchange, login):
    exchange.delete_account(login)
    assert refusal(exchange.account, login) == 13
    assert [event.kind for event in events(simulator)][-1] == "account.deleted"


def test_a_demo_login_is_cleaned(simulator, exchange, new_login):
    login, other = new_login("demo\\forex\\usd", money="5000"), new_login(money="100")
    exchange.open(login, "EURUSD", 0, LOT // 10)
    quote = exchange.market.quote("EURUSD")
    exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, LOT, quote.bid_price - Decimal("0.01"))
    assert exchange.clean(login) == 2
    assert simulator.store.deals(login, *EVER) == []
    assert (exchange.positions(login), exchange.orders(login)) == ([], [])
    assert exchange.state(login).balance == exchange.state(login).equity == 0
    assert exchange.check_balance(login).agrees
    assert exchange.state(other).balance == 100
    told = [fields["kind"] for _, stream, fields in simulator.store.outbox(1_000) if stream != LOST]
    assert told[-4:] == ["position.delete", "order.delete", "account.cleaned", "account.state"]
    assert [fields["kind"] for _, stream, fields in simulator.store.outbox(1_000) if stream == LOST] == ["deal.delete"] * 2
