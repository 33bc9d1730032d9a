"""Rates that trading servers tell: near what is known, one in a while, between currencies with a value of their own."""

from __future__ import annotations

import logging
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.core.clock import now
from app.ledger import rates
from app.ledger.seen_rates import EVERY, Seen, record_seen
from app.models.fx import FXRate
from tests.integration.ledger.market import a_rate


@pytest.fixture(autouse=True)
def known(session):
    """What the bank said some weeks ago: too old to convert by, good enough to compare with."""
    for pair, rate in (("EUR/USD", "1.10"), ("EUR/JPY", "160"), ("EUR/GBP", "0.85")):
        a_rate(session, pair, rate, at=now() - timedelta(days=30))


def seen(pair: str, rate: str, *, ago: timedelta = timedelta(minutes=1), ticket: int = 1) -> Seen:
    base, quote = pair.split("/")
    return Seen(base, quote, Decimal(rate), now() - ago, f"sim:{ticket}")


def recorded(session) -> list[tuple[str, Decimal, str]]:
    rows = session.scalars(select(FXRate).where(FXRate.source == "mt").order_by(FXRate.id))
    return [(f"{row.base}/{row.quote}", row.rate, row.reference) for row in rows]


def test_recorded_with_its_deal(session):
    assert record_seen(session, [seen("EUR/USD", "1.11", ticket=77), seen("USD/JPY", "150", ticket=78)]) == 2
    assert recorded(session) == [("EUR/USD", Decimal("1.11"), "sim:77"), ("USD/JPY", Decimal(150), "sim:78")]
    assert rates.rate_at(session, "EUR", "USD").source == "mt"
    assert record_seen(session, []) == 0


def test_the_first_of_a_pair_counts_whatever_its_direction(session):
    assert record_seen(session, [seen("EUR/USD", "1.11"), seen("USD/EUR", "0.9"), seen("EUR/USD", "1.12")]) == 1
    assert recorded(session) == [("EUR/USD", Decimal("1.11"), "sim:1")]


def test_not_more_often_than_it_has_use_for(session):
    assert record_seen(session, [seen("EUR/USD", "1.11", ago=EVERY + timedelta(minutes=5))]) == 1
    assert record_seen(session, [seen("USD/EUR", "0.9", ago=timedelta(minutes=6))]) == 0
    assert record_seen(session, [seen("EUR/USD", "1.12", ago=timedelta(minutes=4))]) == 1
    assert record_seen(session, [seen("EUR/USD", "1.13", ago=EVERY)]) == 0
    assert record_seen(session, [seen("EUR/GBP", "0.86")]) == 1


@pytest.mark.parametrize(("rate", "kept"), [("1.32", 1), ("0.88", 1), ("1.3201", 0), ("0.8799", 0), ("110", 0)])
def test_what_is_far_off_is_left_out_and_told(session, caplog, rate, kept):
    assert record_seen(session, [seen("EUR/USD", rate)]) == kept
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1 - kept
    assert all("pair=EUR/USD" in line and "sim:1" in line for line in told)


def test_a_pair_that_nobody_knows_begins_with_a_manual_rate(session):
    assert record_seen(session, [seen("BTC/USD", "90000")]) == 0
    a_rate(session, "BTC/USD", "88000", source="manual")
    assert record_seen(session, [seen("BTC/USD", "90000")]) == 1


def test_cent_accounts_tell_of_their_parents(session):
    assert record_seen(session, [seen("GBP/USC", "129.4"), seen("USD/USC", "100"), seen("EUC/USC", "1.11")]) == 2
    assert recorded(session) == [("GBP/USD", Decimal("1.294"), "sim:1"), ("EUR/USD", Decimal("1.11"), "sim:1")]


@pytest.mark.parametrize(
    "one",
    [
        seen("XAU/USD", "2400"),
        seen("EUR/", "1.1"),
        seen("GER40/EUR", "24000"),
        seen("USD/USD", "1"),
        seen("EUR/USD", "1.11", ago=-timedelta(minutes=5)),
        seen("IDR/USD", "0.0000615"),
        seen("EUR/USD", "0"),
    ],
    ids=lambda one: f"{one.base}/{one.quote} {one.rate}",
)
def test_what_is_no_rate_of_the_present(session, one):
    assert record_seen(session, [one]) == 0
