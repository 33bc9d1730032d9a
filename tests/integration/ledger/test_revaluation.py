"""FX positions: what they are worth and cost on any day, and the result that each close takes into income."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from threading import Event

import pytest
from sqlalchemy import select

from app.core import money
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, close, errors, fx, position_costs, posting, proofs, queries, rates, revaluation
from app.ledger.posting import credit, debit
from app.models.ledger import Account, Transaction
from tests.integration.ledger.market import ACTOR, a_client, a_rate, a_spread, convert

#: Days of 2026 on which the tests' conversions and closes take place, and the closes' ends.
FEBRUARY, MARCH, APRIL, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3, 4, 5))
_keys = count(1)


@pytest.fixture
def clock(monkeypatch):
    """Sets the moment at which conversions take place."""

    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(fx, "now", lambda: moment)

    return set_to


@pytest.fixture
def client_id(session):
    """A client with money in three currencies; nothing is charged for converting them."""
    for pair in ("EUR/USD", "EUR/JPY", "JPY/USD"):
        a_spread(session, pair, 0)
    return a_client(session, "1000.00 USD", "1000.00 EUR", "100000 JPY", at=datetime(2026, 1, 1, tzinfo=UTC))


def at_rates(session, moment: datetime, **to_euro: str) -> None:
    for currency, rate in to_euro.items():
        a_rate(session, f"EUR/{currency}", rate, at=moment - timedelta(hours=1))


def post(session, *legs, at: datetime) -> None:
    posting.post(session, key=f"move:{next(_keys)}", kind="adjustment", effective_at=at, actor=ACTOR, legs=legs)


def shown(session, at: datetime) -> dict[str, tuple[str, Decimal | None, Decimal | None, Decimal | None]]:
    """Position, value, cost and result by currency."""
    report = revaluation.position_report(session, at)
    return {one.currency: (str(one.position.decimal), one.value, one.cost, one.result) for one in report}


def near(value: str) -> Decimal:
    return pytest.approx(Decimal(value), abs=Decimal("0.0001"))


def balances(session) -> tuple[str, str]:
    """What closes have taken into income, and the income."""
    return tuple(
        str(queries.balance(session, account).posted.decimal)
        for account in (chart.fx_revaluation("USD"), chart.fx_result("USD"))
    )


def end_period(session, through: datetime) -> list:
    with unit_of_work(session, ACTOR):
        posted = revaluation.post_result(session, through=through, actor=ACTOR)
        close.close_period(session, through, actor=ACTOR)
    return posted


def test_no_positions(session):
    assert revaluation.position_report(session) == []
    assert revaluation.unrealised([]) == 0
    assert revaluation.post_result(session, through=MARCH, actor=ACTOR) == []


def test_the_example_of_the_page(session, client_id, clock):
    """docs/fx.md tells this story with these numbers."""
    at_rates(session, FEBRUARY + timedelta(days=9), USD="1.25")
    clock(FEBRUARY + timedelta(days=9))
    convert(session, client_id, "100.00 USD", "EUR")
    assert shown(session, FEBRUARY + timedelta(days=10)) == {
        "EUR": ("-80.00", Decimal(-100), Decimal(-100), Decimal(0)),
        "USD": ("100.00", Decimal(100), Decimal(100), Decimal(0)),
    }
    at_rates(session, MARCH, USD="1.20")
    assert shown(session, MARCH) == {
        "EUR": ("-80.00", Decimal(-96), Decimal(-100), Decimal(4)),
        "USD": ("100.00", Decimal(100), Decimal(100), Decimal(0)),
    }
    (txn_id,) = end_period(session, MARCH)
    assert balances(session) == ("-4.00", "4.00")
    at_rates(session, APRIL, USD="1.30")
    assert revaluation.unrealised(revaluation.position_report(session, APRIL)) == Decimal(-4)
    assert len(end_period(session, APRIL)) == 1
    assert balances(session) == ("4.00", "-4.00")
    at_rates(session, MAY, USD="1.30")
    assert end_period(session, MAY) == []
    txn = session.get_one(Transaction, txn_id)
    assert (txn.idempotency_key, txn.kind) == ("revaluation:2026-03-01T00:00:00+00:00", "revaluation")
    assert txn.effective_at == MARCH - timedelta(microseconds=1)
    assert txn.details["through"] == MARCH.isoformat()
    assert (txn.details["reporting_currency"], Decimal(txn.details["result"])) == ("USD", 4)
    euro, dollar = txn.details["positions"]
    assert euro | {"value": "", "cost": ""} == {
        "currency": "EUR",
        "position_minor": -8000,
        "value": "",
        "cost": "",
        "rate": "1.2",
        "source": "ecb",
        "observed_at": "2026-02-28T23:00:00+00:00",
        "is_stale": False,
    }
    assert (Decimal(euro["value"]), Decimal(euro["cost"]), dollar["rate"]) == (-96, -100, "1")
    assert [found for proof in proofs.prove(session) for found in proof.breaks] == []


def test_every_result_adds_up_to_the_market_s(session, client_id, clock):
    """Also of conversions between two foreign currencies, which cost what they were worth when they were made."""
    day = FEBRUARY + timedelta(days=3)
    at_rates(session, day, USD="1.25", JPY="160")
    clock(day)
    convert(session, client_id, "100.00 EUR", "JPY")
    convert(session, client_id, "50.00 USD", "JPY")
    clock(day + timedelta(days=1))
    at_rates(session, day + timedelta(days=1), USD="1.50", JPY="150")
    convert(session, client_id, "1500 JPY", "EUR")
    after = shown(session, day + timedelta(days=2))
    assert after == {
        "EUR": ("90.00", Decimal(135), Decimal(110), Decimal(25)),  # 100 at 1.25, less 10 at 1.50
        "JPY": ("-20900", near("-209"), near("-160"), near("-49")),  # 16,000 and 6,400 at 1.25/160, less 1,500 at 0.01
        "USD": ("50.00", Decimal(50), Decimal(50), Decimal(0)),
    }
    assert sum(row[3] for row in after.values()) == sum(row[1] for row in after.values()) == near("-24")


def test_a_past_day_stays_as_it_was(session, client_id, clock):
    day = FEBRUARY + timedelta(days=3)
    at_rates(session, day, USD="1.25")
    clock(day)
    convert(session, client_id, "100.00 USD", "EUR")
    before = shown(session, day + timedelta(days=1))
    clock(MARCH)
    at_rates(session, MARCH, USD="1.40")
    convert(session, client_id, "100.00 USD", "EUR")
    end_period(session, MARCH + timedelta(hours=1))
    assert shown(session, day + timedelta(days=1)) == before
    assert shown(session, day)["EUR"] == ("0.00", Decimal(0), Decimal(0), Decimal(0))


def test_the_next_reports_continue_from_a_close(session, client_id, clock):
    for start, rate in ((FEBRUARY, "1.25"), (MARCH, "1.35"), (APRIL, "1.15")):
        day = start + timedelta(days=3)
        at_rates(session, day, USD=rate, JPY="160")
        clock(day)
        convert(session, client_id, "70.00 USD", "EUR")
        convert(session, client_id, "30.00 EUR", "JPY")
        end_period(session, day + timedelta(days=2))
    at = APRIL + timedelta(days=6)
    settled = revaluation._settled(session, at)
    assert settled.through == APRIL + timedelta(days=5)
    book = rates.RateBook(session, "USD", at)
    accounts = session.scalars(select(Account.id).where(Account.code.like("fx:position:%"))).all()
    anew = position_costs.costs(session, accounts, position_costs.Settled(), book)
    assert position_costs.costs(session, accounts, settled, book) == anew
    assert shown(session, at)["EUR"][2] == anew["EUR"]


def test_a_close_that_was_reversed_is_no_beginning(session, client_id, clock):
    at_rates(session, FEBRUARY, USD="1.25")
    clock(FEBRUARY)
    convert(session, client_id, "100.00 USD", "EUR")
    at_rates(session, FEBRUARY + timedelta(days=5), USD="1.20")
    (posted,) = end_period(session, FEBRUARY + timedelta(days=5))
    posting.reverse(session, posted, key="undo:close", actor=ACTOR, at=FEBRUARY + timedelta(days=6), reason="wrong rate")
    assert revaluation._settled(session, MARCH) == position_costs.Settled()
    assert balances(session) == ("0.00", "0.00")
    at_rates(session, MARCH, USD="1.20")
    assert len(end_period(session, MARCH)) == 1
    assert balances(session) == ("-4.00", "4.00")


def test_a_reversed_conversion_leaves_no_result(session, client_id, clock):
    at_rates(session, FEBRUARY, USD="1.25", JPY="160")
    clock(FEBRUARY)
    done = convert(session, client_id, "100.00 EUR", "JPY")
    at_rates(session, MARCH, USD="1.60", JPY="150")
    posting.reverse(session, done.txn_id, key="undo:conversion", actor=ACTOR, at=MARCH, reason="mistake")
    for row in shown(session, MARCH + timedelta(days=1)).values():
        assert [Decimal(value) for value in row] == [0, 0, 0, 0]


def test_what_did_not_come_from_a_conversion_costs_what_it_was_worth_that_day(session):
    """Such as own money that staff put into a position."""
    at_rates(session, FEBRUARY, USD="1.25")
    position, bank = chart.fx_position("EUR"), chart.bank_own_money("first", "EUR")
    chart.open_accounts(session, position, bank)
    post(session, debit(bank, Money(10_000, "EUR")), credit(position, Money(10_000, "EUR")), at=FEBRUARY + timedelta(hours=9))
    at_rates(session, MARCH, USD="1.40")
    assert shown(session, MARCH) == {"EUR": ("100.00", Decimal(140), Decimal(125), Decimal(15))}
    end_period(session, MARCH)
    assert balances(session) == ("-15.00", "15.00")


def test_what_nobody_could_value_then_begins_with_the_first_report(session):
    position, suspense = chart.fx_position("BTC"), chart.suspense("first", "BTC")
    chart.open_accounts(session, position, suspense)
    post(session, debit(suspense, Money(10**8, "BTC")), credit(position, Money(10**8, "BTC")), at=FEBRUARY)
    session.commit()
    (unknown,) = revaluation.position_report(session, MARCH)
    assert (unknown.value, unknown.cost, unknown.result, unknown.rate) == (None, None, None, None)
    assert revaluation.unrealised([unknown]) is None
    with pytest.raises(errors.NoRate, match="from BTC to USD"):
        revaluation.post_result(session, through=MARCH, actor=ACTOR)
    a_rate(session, "BTC/USD", "90000", at=MARCH)
    assert shown(session, APRIL) == {"BTC": ("1.00000000", Decimal(90_000), Decimal(90_000), Decimal(0))}


def test_old_rates_are_marked(session, client_id, clock):
    at_rates(session, FEBRUARY, USD="1.25")
    clock(FEBRUARY)
    convert(session, client_id, "100.00 USD", "EUR")
    assert [one.is_stale for one in revaluation.position_report(session, FEBRUARY + timedelta(days=1))] == [False, False]
    euro, dollar = revaluation.position_report(session, MARCH)
    assert (euro.is_stale, dollar.is_stale) == (True, False)
    assert (euro.source, euro.observed_at) == ("ecb", FEBRUARY - timedelta(hours=1))
    assert revaluation.post_result(session, through=MARCH, actor=ACTOR) == []  # the old rate is the one it was made at


def test_the_same_close_again(session, client_id, clock):
    at_rates(session, FEBRUARY, USD="1.25")
    clock(FEBRUARY)
    convert(session, client_id, "100.00 USD", "EUR")
    at_rates(session, MARCH, USD="1.20")
    first = revaluation.post_result(session, through=MARCH, actor=ACTOR)
    a_rate(session, "EUR/USD", "1.10", at=MARCH - timedelta(minutes=1))
    assert revaluation.post_result(session, through=MARCH, actor=ACTOR) == first
    assert balances(session) == ("-4.00", "4.00")
    close.close_period(session, MARCH, actor=ACTOR)
    assert revaluation.post_result(session, through=MARCH, actor=ACTOR) == first


def test_a_period_that_is_closed_takes_no_result(session, client_id, clock):
    at_rates(session, FEBRUARY, USD="1.25")
    clock(FEBRUARY)
    convert(session, client_id, "100.00 USD", "EUR")
    at_rates(session, MARCH, USD="1.20")
    close.close_period(session, MARCH, actor=ACTOR)
    with pytest.raises(errors.PeriodClosed):
        revaluation.post_result(session, through=MARCH, actor=ACTOR)


def test_less_than_a_cent_waits_for_the_next_close(session, client_id, clock):
    at_rates(session, FEBRUARY, USD="1.25")
    clock(FEBRUARY)
    convert(session, client_id, "10.00 USD", "EUR")
    at_rates(session, MARCH, USD="1.2490")  # 0.008 won
    assert end_period(session, MARCH) == []
    at_rates(session, APRIL, USD="1.2480")
    assert len(end_period(session, APRIL)) == 1
    assert balances(session) == ("-0.01", "0.01")


def test_another_reporting_currency(session, client_id, clock, monkeypatch):
    at_rates(session, FEBRUARY, USD="1.25")
    clock(FEBRUARY)
    convert(session, client_id, "100.00 USD", "EUR")
    at_rates(session, MARCH, USD="1.20")
    end_period(session, MARCH)
    monkeypatch.setattr(money, "_reporting", ["EUR"])
    at_rates(session, APRIL, USD="1.20")
    # 100 USD are 83.33 EUR, for 80 EUR; 4 USD of it were taken in March, now 3.33 EUR.
    assert revaluation.unrealised(revaluation.position_report(session, APRIL)) == near("3.3333")
    assert end_period(session, APRIL) == []
    at_rates(session, MAY, USD="1.00")
    assert len(end_period(session, MAY)) == 1
    assert str(queries.balance(session, chart.fx_result("EUR")).posted) == "16.00 EUR"  # 20 in all, 4 of them in March


def test_a_conversion_under_way_belongs_to_the_close(database):
    """Its close waits for it; one that begins later waits for the close, and is refused in the period."""
    with database.session() as session:
        a_rate(session, "EUR/USD", "1.25")
        client_id = a_client(session, "1000.00 USD")
    through, converted = now() + timedelta(seconds=1), Event()

    def close_it() -> list:
        with database.session() as session:
            converted.wait(10)
            return revaluation.post_result(session, through=through, actor=ACTOR)

    with ThreadPoolExecutor(1) as pool, database.session() as session:
        closing = pool.submit(close_it)
        with unit_of_work(session, ACTOR):
            convert(session, client_id, "100.00 USD", "EUR")
            a_rate(session, "EUR/USD", "1.20", at=now() - timedelta(minutes=1))
            converted.set()
            assert not closing.done()
        (posted,) = closing.result(20)
    with database.session() as session:
        euro, _ = session.get_one(Transaction, posted).details["positions"]
        assert euro["position_minor"] == -7920
