"""Rates on deals: read from what the simulator trades, by what it says of its symbols."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app.core.clock import now
from app.jobs import tasks
from app.ledger import ecb
from app.ledger import rates as exchange
from app.metatrader import rates
from app.metatrader.platform import Symbol
from app.models.fx import FXRate
from app.models.metatrader import Deal, Server


def traded(symbol="EURUSD", currency="EUR", bid="1.1001", ask="1.1003", profit="0.9089", ticket=5) -> rates.TradedAt:
    return rates.TradedAt(ticket, symbol, currency, Decimal(bid), Decimal(ask), Decimal(profit), now())


def symbol(name: str, base: str, profit: str) -> Symbol:
    return Symbol(name, 5, base, profit, Decimal(100_000), 0, 0, 0)


SYMBOLS = [
    symbol("EURUSD", "EUR", "USD"),
    symbol("EURUSDm", "EUR", "USD"),
    symbol("#AAPL", "USD", "USD"),
    symbol("GBPJPY", "GBP", "JPY"),
]


@pytest.mark.parametrize(
    ("deal", "pairs"),
    [
        (traded(), ["EUR/USD 1.1002", "USD/EUR 0.9089"]),
        (traded("EURUSDm", "USD", profit="1"), ["EUR/USD 1.1002"]),
        (traded("GBPJPY", "USC", "200.10", "200.20", "0.67"), ["GBP/JPY 200.15", "JPY/USC 0.67"]),
        (traded("#AAPL", "EUR", "230", "230.1", "0.9089"), ["USD/EUR 0.9089"]),
        (traded(bid="0", ask="0"), ["USD/EUR 0.9089"]),
        (traded(bid="1.2", ask="1.1", profit="0"), []),
        (traded("XYZ"), []),
    ],
)
def test_what_a_deal_tells(deal, pairs):
    found = list(rates.rates_of("live", [deal], SYMBOLS))
    assert [f"{one.base}/{one.quote} {one.rate.normalize()}" for one in found] == pairs
    assert {one.reference for one in found} <= {"live:5"}


def test_prices_come_before_what_has_a_spread_in_it():
    found = list(rates.rates_of("live", [traded(ticket=1), traded(ticket=2)], SYMBOLS))
    assert [one.reference for one in found] == ["live:1", "live:2", "live:1", "live:2"]
    assert [one.base for one in found] == ["EUR", "EUR", "USD", "USD"]


@pytest.fixture
def login(house):
    """An account with money at the simulator, and another one in euros; the bank's rates of some weeks ago."""
    ecb.load_history(house.session)
    numbers = [house.add_account(product=product).login for product in ("std", "eur", "demo")]
    for number in numbers:
        house.simulator.exchange.balance_operation(number, 2, Decimal(10_000), "start")
    return numbers


def observe(house) -> dict[str, FXRate]:
    tasks.observe_rates(house.session, house.settings)
    house.session.rollback()
    return {f"{row.base}/{row.quote}": row for row in house.session.scalars(select(FXRate).where(FXRate.source == "mt"))}


def move_server(house, url: str) -> str:
    """Let our row of the server name another address; returns the one before."""
    before = house.session.scalars(select(Server.url)).one()
    house.session.execute(update(Server).values(url=url))
    house.session.commit()
    return before


def trade(house, login: int, symbol: str) -> int:
    (deal,) = house.simulator.control.trade(login, symbol, "buy", Decimal("0.10"), close=False)
    house.drain()
    return deal.ticket


def test_by_the_job(house, login):
    dollars, euros, practice = login
    assert observe(house) == {}
    first = trade(house, dollars, "USDJPY")
    trade(house, practice, "USDCHF")
    second = trade(house, euros, "GBPUSD")
    found = observe(house)
    assert {pair: row.reference for pair, row in found.items()} == {
        "USD/JPY": f"sim:{first}",
        "GBP/USD": f"sim:{second}",
        "USD/EUR": f"sim:{second}",
    }
    deal = house.session.scalars(select(Deal).where(Deal.ticket == first)).one()
    assert found["USD/JPY"].observed_at == deal.done_at
    assert found["USD/JPY"].rate == (deal.market_bid + deal.market_ask) / 2
    assert exchange.rate_at(house.session, "JPY", "USD").source == "mt"
    trade(house, dollars, "EURGBP")
    assert set(observe(house)) == {*found, "EUR/GBP"}


def test_a_server_is_not_asked_again_for_what_was_looked_at(house, login, caplog):
    trade(house, login[0], "USDJPY")
    found = observe(house)
    address = move_server(house, "https://127.0.0.1:9")
    trade(house, login[0], "USDJPY")
    assert observe(house) == found
    assert caplog.text == ""
    trade(house, login[0], "GBPUSD")
    observe(house)
    assert "rates not observed server=sim" in caplog.text
    move_server(house, address)
    assert set(observe(house)) == {*found, "GBP/USD"}


def test_what_was_voided_or_long_ago_tells_nothing(house, login):
    old, void = trade(house, login[0], "USDJPY"), trade(house, login[0], "GBPUSD")
    with house.database.owner_session() as owner:
        owner.execute(update(Deal).where(Deal.ticket == old).values(done_at=now() - timedelta(minutes=16)))
        owner.execute(update(Deal).where(Deal.ticket == void).values(is_void=True))
        owner.commit()
    assert observe(house) == {}


def test_a_server_that_is_down_is_a_line_in_the_log(house, login, caplog):
    trade(house, login[0], "USDJPY")
    move_server(house, "https://127.0.0.1:9")
    assert observe(house) == {}
    assert "rates not observed server=sim" in caplog.text
