"""Clients with money and rates to convert it by, for the tests of conversions."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count

from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, fx, posting, rates
from app.models.clients import Client
from app.models.fx import FXPair, FXQuote

ACTOR = Actor.system("test")
_numbers = count(1)


def a_client(session: Session, *amounts: str, status: str = "approved", at: datetime | None = None) -> int:
    """The id of a new client, with deposits such as "100.00 USD"."""
    with unit_of_work(session, ACTOR):
        client = Client(
            email=f"fx{next(_numbers)}@example.com",
            password_hash="x",
            first_name="Fay",
            last_name="Xu",
            country="DE",
            terms_version="1",
            terms_accepted_at=now(),
            status=status,
        )
        session.add(client)
        session.flush()
        for text in amounts:
            amount, currency = text.split()
            money = Money.parse(amount, currency)
            wallet, clearing = chart.client_wallet(client.id, currency), chart.psp_clearing("stripe", currency)
            chart.open_accounts(session, wallet, clearing)
            posting.post(
                session,
                key=f"deposit:test:{client.id}:{currency}",
                kind="deposit",
                effective_at=at or now(),
                actor=ACTOR,
                legs=[posting.debit(clearing, money), posting.credit(wallet, money)],
            )
        return client.id


def a_rate(session: Session, pair: str, rate: str, *, at: datetime | None = None, source: str = "ecb") -> None:
    """1 of the first currency is so much of the second, since an hour ago unless said otherwise."""
    base, quote = pair.split("/")
    with unit_of_work(session, ACTOR):
        rates.record(session, [rates.Observation(source, base, quote, Decimal(rate), at or now() - timedelta(hours=1))])


def a_spread(session: Session, pair: str, basis_points: int) -> None:
    base, quote = sorted(pair.split("/"))
    with unit_of_work(session, ACTOR):
        session.add(FXPair(base=base, quote=quote, spread_bp=basis_points))


def a_quote(session: Session, client_id: int, sell: str, buy_currency: str) -> FXQuote:
    amount, currency = sell.split()
    return fx.quote(
        session,
        client_id=client_id,
        sell=Money.parse(amount, currency),
        buy_currency=buy_currency,
        actor=Actor.client(client_id),
    )


def convert(session: Session, client_id: int, sell: str, buy_currency: str) -> fx.Converted:
    promised = a_quote(session, client_id, sell, buy_currency)
    return fx.convert(session, quote_public_id=promised.public_id, client_id=client_id, actor=Actor.client(client_id))
