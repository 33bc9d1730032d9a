"""Rates: recorded once, never changed, chosen by source and age, as they were known at any moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.core.clock import now
from app.core.money import InvalidMoney, Money
from app.ledger import ecb, rates
from app.ledger.errors import JournalSealed, NoRate, StaleRate, typed_errors
from app.models.fx import FXRate, FXSource

HOUR = timedelta(hours=1)


@pytest.fixture
def statements(session):
    """The statements that the session has sent, as they come."""
    sent: list[str] = []
    connection = session.connection()

    def keep(_connection, _cursor, statement, *_):
        sent.append(statement)

    event.listen(connection, "before_cursor_execute", keep)
    yield sent
    event.remove(connection, "before_cursor_execute", keep)


def seen(pair: str, rate: str, *, ago: timedelta = HOUR, source: str = "ecb", reference: str = "") -> rates.Observation:
    base, quote = pair.split("/")
    return rates.Observation(source, base, quote, Decimal(rate), now() - ago, reference)


def test_recorded_once(session):
    first, second = seen("EUR/USD", "1.1"), seen("EUR/JPY", "160")
    assert rates.record(session, [first, second]) == 2
    assert rates.record(session, [first, second, seen("EUR/GBP", "0.85")]) == 1
    assert rates.record(session, [rates.Observation(**{**vars(first), "rate": Decimal(9)})]) == 0
    assert rates.record(session, []) == 0
    assert rates.rate_at(session, "EUR", "USD").rate == Decimal("1.1")


@pytest.mark.parametrize("wrong", [{"rate": Decimal(0)}, {"rate": Decimal(-1)}, {"quote": "EUR"}, {"source": "rumour"}])
def test_what_no_table_takes(session, wrong):
    made = rates.Observation(**{**vars(seen("EUR/USD", "1.1")), **wrong})
    with pytest.raises(IntegrityError):
        rates.record(session, [made])
    session.rollback()


@pytest.mark.parametrize("statement", ["UPDATE fx_rate SET rate = 2", "DELETE FROM fx_rate", "TRUNCATE fx_rate CASCADE"])
@pytest.mark.parametrize("who", ["session", "owner_session"])
def test_append_only_for_everybody(database, statement, who):
    with database.session() as session:
        rates.record(session, [seen("EUR/USD", "1.1")])
        session.commit()
    with getattr(database, who)() as session, pytest.raises((JournalSealed, DBAPIError)) as refused, typed_errors():
        session.execute(text(statement))
    if who == "owner_session" or not statement.startswith("TRUNCATE"):  # which the application has no right to at all
        assert isinstance(refused.value, JournalSealed)


def test_no_rate_is_invented(session):
    rates.record(session, [seen("EUR/USD", "1.25")])
    with pytest.raises(NoRate) as caught:
        rates.rate_at(session, "BTC", "USD")
    assert not isinstance(caught.value, StaleRate)
    assert str(caught.value) == "There is no exchange rate from BTC to USD at present. Nothing was changed."
    assert rates.value(session, Money.parse("1", "BTC"), "USD") is None
    for base, quote in (("BTC", "XYZ"), ("XYZ", "USD")):
        with pytest.raises(InvalidMoney, match="XYZ"):
            rates.rate_at(session, base, quote)


def test_stale_rates_convert_nothing_but_stand_in_reports(session):
    rates.record(session, [seen("EUR/USD", "1.25", ago=timedelta(days=6, minutes=1))])
    with pytest.raises(StaleRate, match=r"from EUR to USD is from 20\d\d-\d\d-\d\d \d\d:\d\d UTC and too old"):
        rates.rate_at(session, "EUR", "USD")
    assert rates.value(session, Money.parse("10", "EUR"), "USD") == Decimal("12.5")
    valued = rates.RateBook(session, "USD").value(Money.parse("-0.01", "EUR"))
    assert (valued.amount, valued.rate, valued.source, valued.is_stale) == (Decimal("-0.0125"), Decimal("1.25"), "ecb", True)


def test_a_rate_has_sources(session):
    rates.record(session, [seen("EUR/USD", "1.25"), seen("EUR/JPY", "160", ago=2 * HOUR)])
    found = rates.rate_at(session, "USC", "JPY")
    assert found.rate == Decimal("1.28")
    assert [(used.source, used.base, used.quote, used.rate) for used in found.sources] == [
        ("fixed", "USD", "USC", 100),
        ("ecb", "EUR", "USD", Decimal("1.25")),
        ("ecb", "EUR", "JPY", Decimal(160)),
    ]
    recorded = session.get_one(FXRate, found.sources[2].id)
    assert recorded.observed_at == found.observed_at == found.sources[2].observed_at


def test_rates_of_the_past(session):
    for days, rate in ((30, "1.30"), (20, "1.20"), (10, "1.10")):
        rates.record(session, [seen("EUR/USD", rate, ago=timedelta(days=days))])
    present = now()

    def worth(days: float) -> Decimal | None:
        return rates.value(session, Money.parse("1", "EUR"), "USD", present - timedelta(days=days))

    assert [worth(days) for days in (40, 29.5, 25, 19, 0)] == [None, *map(Decimal, ("1.3", "1.3", "1.2", "1.1"))]
    assert rates.rate_at(session, "EUR", "USD", present - timedelta(days=29)).rate == Decimal("1.3")
    with pytest.raises(StaleRate):
        rates.rate_at(session, "EUR", "USD", present - timedelta(days=21))
    with pytest.raises(NoRate):
        rates.rate_at(session, "EUR", "USD", present - timedelta(days=31))


def test_a_book_of_rates_reads_once(session, statements):
    rates.record(session, [seen("EUR/USD", "1.25"), seen("EUR/JPY", "160")])
    book = rates.RateBook(session, "USD")
    before = len(statements)
    for currency, amount in (("EUR", "1.25"), ("JPY", "0.0078125"), ("USD", "1"), ("USC", "0.01"), ("BTC", None)):
        assert book.value(Money.parse("1", currency)).amount == (amount and Decimal(amount))
    assert len(statements) == before
    assert book.value(Money.parse("1", "USD")) == rates.Valued(Decimal(1), Decimal(1), "", None, is_stale=False)


def test_what_staff_set_for_a_source_counts(session):
    rates.record(session, [seen("EUR/USD", "1.25", ago=2 * HOUR), seen("EUR/USD", "1.2", ago=2 * HOUR, source="mt")])
    assert rates.rate_at(session, "EUR", "USD").rate == Decimal("1.25")
    session.execute(update(FXSource).where(FXSource.code == "mt").values(max_age_s=3 * 3600))
    assert rates.rate_at(session, "EUR", "USD").rate == Decimal("1.2")
    session.execute(update(FXSource).where(FXSource.code == "ecb").values(rank=0))
    assert rates.rate_at(session, "EUR", "USD").rate == Decimal("1.25")


def test_the_history_is_loaded_once(session):
    assert 6_000 < ecb.load_history(session) < 10_000
    assert ecb.load_history(session) == 0
    oldest, newest, currencies = session.execute(
        text("SELECT min(observed_at), max(observed_at), count(DISTINCT quote) FROM fx_rate WHERE source = 'ecb'")
    ).one()
    assert newest - oldest >= timedelta(days=360)
    assert currencies >= 28
    shown = rates.RateBook(session, "USD", newest).value(Money.parse("1", "EUR"))
    assert shown.source == "ecb"
    assert not shown.is_stale


def test_the_newest_rates_are_found_by_index(session):
    ecb.load_history(session)
    session.execute(text("SET LOCAL enable_seqscan = off"))  # fx_source has three rows
    plan = "\n".join(session.execute(text("EXPLAIN " + str(rates._NEWEST)), {"at": datetime(2026, 6, 1, tzinfo=UTC)}).scalars())
    assert "Seq Scan on fx_rate" not in plan
    assert "Sort" not in plan
