"""Quotes and conversions: what the client is promised is what is posted, once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier

import pytest
from sqlalchemy import select, text, update

from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.money import InvalidMoney, Money
from app.core.tables import Event
from app.ledger import chart, errors, fx, holds, posting, proofs, queries
from app.models.clients import Client
from app.models.fx import FXQuote
from app.models.ledger import Account, Entry, Transaction
from tests.integration.ledger.market import ACTOR, a_client, a_quote, a_rate, a_spread, convert


@pytest.fixture
def client_id(session):
    """A client with 1,000.00 USD in a market of three currencies."""
    for pair, rate in (("EUR/USD", "1.25"), ("EUR/JPY", "160"), ("EUR/KWD", "0.36")):
        a_rate(session, pair, rate)
    return a_client(session, "1000.00 USD")


def wallet(session, client_id: int, currency: str) -> str:
    return str(queries.balance(session, chart.client_wallet(client_id, currency)).posted)


def legs(session, txn_id) -> dict[str, tuple[int, int]]:
    rows = session.execute(
        select(Account.code, Entry.debit, Entry.credit)
        .join(Account, Account.id == Entry.account_id)
        .where(Entry.txn_id == txn_id)
    )
    return {row.code: (row.debit, row.credit) for row in rows}


def test_a_quote(session, client_id):
    a_spread(session, "EUR/USD", 50)
    promised = a_quote(session, client_id, "100.50 USD", "EUR")
    assert (promised.sold, promised.spread, promised.bought) == (
        Money(10_050, "USD"),
        Money(51, "USD"),  # 0.5025 of it, rounded up
        Money(7_999, "EUR"),  # 99.99 at 0.8 are 79.992, rounded down
    )
    assert promised.rate == Decimal("0.8")
    assert promised.expires_at - promised.quoted_at == timedelta(seconds=30)
    assert abs(now() - promised.quoted_at) < timedelta(seconds=20)
    (source,) = promised.sources
    assert (source["source"], source["pair"], source["rate"]) == ("ecb", "EUR/USD", "1.25")
    assert (promised.txn_id, promised.converted_at) == (None, None)
    assert wallet(session, client_id, "USD") == "1000.00 USD"


def test_the_recipe(session, client_id):
    a_spread(session, "EUR/USD", 50)
    promised = a_quote(session, client_id, "100.50 USD", "EUR")
    done = fx.convert(session, quote_public_id=str(promised.public_id), client_id=client_id, actor=ACTOR)
    assert (done.sold, done.spread, done.bought) == (promised.sold, promised.spread, promised.bought)
    assert legs(session, done.txn_id) == {
        f"client:{client_id}:wallet:USD": (10_050, 0),
        "fx:position:USD": (0, 9_999),
        "income:fx_spread:USD": (0, 51),
        "fx:position:EUR": (7_999, 0),
        f"client:{client_id}:wallet:EUR": (0, 7_999),
    }
    txn = session.get_one(Transaction, done.txn_id)
    assert (txn.idempotency_key, txn.kind) == (f"conversion:{promised.public_id}", "conversion")
    assert txn.details == {
        "quote_id": promised.id,
        "rate": "0.8",
        "sources": promised.sources,
        "spread_minor": 51,
        "quoted_at": promised.quoted_at.isoformat(),
        "expires_at": promised.expires_at.isoformat(),
        "value": {"amount": "99.9900000000", "currency": "USD"},
    }
    event = session.scalars(select(Event).where(Event.type == "conversion.done")).one()
    assert (event.client_id, event.subject_id) == (client_id, promised.id)
    assert event.payload == {
        "quote_id": promised.id,
        "txn_id": str(done.txn_id),
        "sold_minor": 10_050,
        "sold_currency": "USD",
        "spread_minor": 51,
        "bought_minor": 7_999,
        "bought_currency": "EUR",
    }
    assert [found for proof in proofs.prove(session) for found in proof.breaks] == []


def test_a_pair_without_spread_has_no_leg_for_it(session, client_id):
    a_spread(session, "EUR/USD", 0)
    done = convert(session, client_id, "112.50 USD", "EUR")
    assert (done.spread, done.bought) == (Money(0, "USD"), Money(9_000, "EUR"))
    assert len(legs(session, done.txn_id)) == 4


def test_a_pair_that_nobody_has_priced_costs_one_percent(session, client_id):
    assert a_quote(session, client_id, "100.00 USD", "JPY").spread == Money(100, "USD")
    a_spread(session, "USD/JPY", 10)
    assert a_quote(session, client_id, "100.00 USD", "JPY").spread == Money(10, "USD")


def test_a_cent_currency_has_its_parent_s_rate_and_costs_nothing(session, client_id):
    a_spread(session, "USC/USD", 300)
    done = convert(session, client_id, "12.34 USD", "USC")
    assert done.bought == Money.parse("1234", "USC")
    back = convert(session, client_id, "1233.99 USC", "USD")
    assert back.bought == Money.parse("12.33", "USD")


def test_again_gives_the_first_result(session, client_id):
    promised = a_quote(session, client_id, "100.00 USD", "EUR")
    first = fx.convert(session, quote_public_id=promised.public_id, client_id=client_id, actor=ACTOR)
    session.execute(update(FXQuote).values(expires_at=now() - timedelta(days=1)))
    session.expire_all()
    assert fx.convert(session, quote_public_id=promised.public_id, client_id=client_id, actor=ACTOR) == first
    assert wallet(session, client_id, "USD") == "900.00 USD"
    assert session.scalars(select(Event).where(Event.type == "conversion.done")).one()


def test_an_expired_quote(session, client_id):
    promised = a_quote(session, client_id, "100.00 USD", "EUR")
    session.execute(update(FXQuote).values(expires_at=now() - timedelta(microseconds=1)))
    session.expire_all()
    with pytest.raises(errors.QuoteExpired, match="This offer has expired"):
        fx.convert(session, quote_public_id=promised.public_id, client_id=client_id, actor=ACTOR)
    assert wallet(session, client_id, "USD") == "1000.00 USD"


@pytest.mark.parametrize("name", ["somebody else's", "none", "no id", "another text"])
def test_no_quote_of_this_client(session, client_id, name):
    promised = a_quote(session, client_id, "100.00 USD", "EUR")
    other = a_client(session, "500.00 USD")
    asked = {"somebody else's": promised.public_id, "none": uuid.uuid4(), "no id": "", "another text": "1 OR 1=1"}[name]
    with pytest.raises(NotFound):
        fx.convert(session, quote_public_id=asked, client_id=other, actor=ACTOR)
    assert wallet(session, other, "USD") == "500.00 USD"


@pytest.mark.parametrize("status", ["registered", "verified", "blocked"])
def test_only_approved_clients_convert(session, client_id, status):
    promised = a_quote(session, client_id, "100.00 USD", "EUR")
    session.execute(update(Client).where(Client.id == client_id).values(status=status))
    session.commit()
    with pytest.raises(errors.ConversionNotAllowed, match="documents approved"):
        a_quote(session, client_id, "100.00 USD", "EUR")
    with pytest.raises(errors.ConversionNotAllowed):
        fx.convert(session, quote_public_id=promised.public_id, client_id=client_id, actor=ACTOR)
    assert wallet(session, client_id, "USD") == "1000.00 USD"


def test_a_client_that_does_not_exist(session, client_id):
    with pytest.raises(NotFound):
        a_quote(session, 10**12, "100.00 USD", "EUR")


@pytest.mark.parametrize(
    ("sell", "buy", "error"),
    [
        ("0.00 USD", "EUR", InvalidInput),
        ("-1.00 USD", "EUR", InvalidInput),
        ("5.00 USD", "USD", InvalidInput),
        ("5.00 USD", "XYZ", InvalidMoney),
        ("5.00 USD", "BTC", errors.NoRate),
        ("0.01 USD", "EUR", errors.AmountTooSmall),  # the spread takes it all
        ("0.02 USD", "EUR", errors.AmountTooSmall),  # 0.008 EUR
    ],
)
def test_refused_quotes(session, client_id, sell, buy, error):
    with pytest.raises(error):
        a_quote(session, client_id, sell, buy)
    assert session.scalars(select(FXQuote)).all() == []


def test_the_smallest_quote(session, client_id):
    smallest = a_quote(session, client_id, "0.02 USD", "JPY")
    assert (smallest.spread, smallest.bought) == (Money(1, "USD"), Money(1, "JPY"))  # of 1.28


def test_the_problems_name_their_fields(session, client_id):
    with pytest.raises(InvalidInput) as caught:
        a_quote(session, client_id, "0.00 USD", "USD")
    assert set(caught.value.problems) == {"amount", "buy_currency"}
    with pytest.raises(errors.AmountTooSmall, match="too small to convert") as small:
        a_quote(session, client_id, "0.01 USD", "EUR")
    assert set(small.value.problems) == {"amount"}


def test_more_than_a_wallet_can_hold_is_refused(session, client_id):
    with pytest.raises(InvalidMoney, match="too large"):
        fx.quote(session, client_id=client_id, sell=Money(2**63 - 1, "JPY"), buy_currency="KWD", actor=ACTOR)


def test_a_stale_rate_converts_nothing(session):
    a_rate(session, "EUR/USD", "1.25", at=now() - timedelta(days=8))
    client_id = a_client(session, "10.00 USD")
    with pytest.raises(errors.StaleRate, match="too old to convert by"):
        a_quote(session, client_id, "5.00 USD", "EUR")


@pytest.mark.parametrize("reason", ["more than there is", "held", "no wallet"])
def test_money_that_is_not_there(session, client_id, reason):
    if reason == "held":
        holds.place_hold(
            session,
            account=chart.client_wallet(client_id, "USD"),
            money=Money(95_000, "USD"),
            key="held:1",
            reason="withdrawal",
            actor=ACTOR,
        )
    sell = {"more than there is": "1000.01 USD", "held": "50.01 USD", "no wallet": "1.00 EUR"}[reason]
    promised = a_quote(session, client_id, sell, "JPY")
    before = session.execute(text("SELECT count(*), max(seq) FROM ledger.txn")).one()
    with pytest.raises(errors.InsufficientFunds):
        fx.convert(session, quote_public_id=promised.public_id, client_id=client_id, actor=ACTOR)
    session.expire_all()
    assert session.get_one(FXQuote, promised.id).txn_id is None
    assert session.execute(text("SELECT count(*), max(seq) FROM ledger.txn")).one() == before


def test_the_quote_s_rate_counts_whatever_the_market_does(session, client_id):
    promised = a_quote(session, client_id, "100.00 USD", "EUR")
    a_rate(session, "EUR/USD", "2.5", at=now())
    done = fx.convert(session, quote_public_id=promised.public_id, client_id=client_id, actor=ACTOR)
    assert done.bought == promised.bought == Money(7_920, "EUR")


def test_a_conversion_can_be_reversed(session, client_id):
    done = convert(session, client_id, "100.00 USD", "EUR")
    posting.reverse(session, done.txn_id, key="undo:1", actor=ACTOR, at=now(), reason="wrong currency")
    assert wallet(session, client_id, "USD") == "1000.00 USD"
    assert wallet(session, client_id, "EUR") == "0.00 EUR"


def test_two_at_once_convert_once(database):
    with database.session() as session:
        a_rate(session, "EUR/USD", "1.25")
        client_id = a_client(session, "1000.00 USD")
        quotes = [a_quote(session, client_id, "100.00 USD", "EUR").public_id for _ in range(4)]
    for public_id in quotes:
        together = Barrier(2)

        def act(_: int, public_id=public_id, together=together) -> fx.Converted:
            with database.session() as session:
                together.wait(10)
                return fx.convert(session, quote_public_id=public_id, client_id=client_id, actor=ACTOR)

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(act, range(2))
        assert first == second
    with database.session() as session:
        assert wallet(session, client_id, "USD") == "600.00 USD"
        assert wallet(session, client_id, "EUR") == "316.80 EUR"
        assert [found for proof in proofs.prove(session) for found in proof.breaks] == []


def test_many_clients_at_once_in_both_directions(database):
    """Everybody meets on the position accounts, first opened here; nobody waits for ever, nothing is lost."""
    with database.session() as session:
        a_rate(session, "EUR/USD", "1.25")
        clients = [a_client(session, "100.00 USD", "100.00 EUR") for _ in range(4)]

    def act(number: int) -> None:
        client_id, (sell, buy) = clients[number % 4], (("1.00 USD", "EUR") if number % 2 else ("1.00 EUR", "USD"))
        with database.session() as session:
            convert(session, client_id, sell, buy)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(act, range(40)))
    with database.session() as session:
        spread = sum(queries.balance(session, chart.fx_spread(currency)).posted.amount_minor for currency in ("USD", "EUR"))
        assert spread == 40
        assert [found for proof in proofs.prove(session) for found in proof.breaks] == []
