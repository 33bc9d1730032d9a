"""Conversion: a client is promised a rate for some seconds, and one transaction turns one currency into the other.

The amount given is exact. Our spread is taken from it, rounded up to a minor unit, and is a leg of its own; the rest times
the rate, rounded down, is what the client gets. What rounding leaves, less than one minor unit, stays in the position
account of the bought currency. docs/fx.md has the rules, docs/ledger.md the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import Money, exponent, parent, reporting_currency
from app.core.uow import unit_of_work
from app.ledger import chart, posting, rates
from app.ledger.errors import AmountTooSmall, ConversionNotAllowed, QuoteExpired
from app.ledger.known_rates import rate_text
from app.models.clients import Client
from app.models.fx import FXPair, FXQuote

#: How long a quote holds: long enough to read it and press a button, too short to wait for the market to move.
QUOTE_HOLDS = timedelta(seconds=30)

#: What converting a pair costs that nobody has set a spread for, in basis points: 1 %, which covers what a major pair moves
#: in a day, because a reference rate may be a day old.
DEFAULT_SPREAD_BP = 100

_EXACT = Context(prec=80)


@dataclass(frozen=True)
class Priced:
    """What becomes of an amount given: our spread, in its currency, and what is bought for the rest."""

    spread: Money
    bought: Money


@dataclass(frozen=True)
class Converted:
    """A conversion that was carried out: `sold` left one wallet (`spread` of it is ours), `bought` arrived in the other."""

    txn_id: UUID
    quote_id: int
    sold: Money
    spread: Money
    bought: Money
    rate: Decimal


def price(sell: Money, buy_currency: str, rate: Decimal, spread_bp: int) -> Priced:
    """Split an amount given into spread and what the rest buys. Pure.

    Raises AmountTooSmall when the amount, the rest or what it buys is less than a minor unit.
    """
    spread = Money(-(-sell.amount_minor * spread_bp // 10_000), sell.currency)
    rest = sell - spread
    bought = Money.round_down(_EXACT.multiply(rest.decimal, rate), buy_currency)
    if sell.amount_minor <= 0 or rest.amount_minor <= 0 or bought.amount_minor <= 0:
        raise AmountTooSmall({"amount": AmountTooSmall.message})
    return Priced(spread, bought)


def spread_bp(session: Session, one: str, other: str) -> int:
    """What converting between two currencies costs, either way, in basis points of the amount given; between a currency and
    its cents nothing, whatever is set.
    """
    if parent(one)[0] == parent(other)[0]:
        return 0
    base, quote = sorted((one, other))
    found = session.scalar(select(FXPair.spread_bp).where(FXPair.base == base, FXPair.quote == quote))
    return DEFAULT_SPREAD_BP if found is None else found


def quote(session: Session, *, client_id: int, sell: Money, buy_currency: str, actor: Actor) -> FXQuote:
    """Promise the client what `sell` would buy, for 30 seconds. Moves and reserves nothing.

    Raises ConversionNotAllowed, NoRate, StaleRate, AmountTooSmall, InvalidMoney (unknown currency, amount too large),
    InvalidInput (the same currency twice, an amount of zero or less).
    """
    exponent(buy_currency)
    problems = {}
    if sell.amount_minor <= 0:
        problems["amount"] = N_("Please enter an amount above zero.")
    if sell.currency == buy_currency:
        problems["buy_currency"] = N_("Please choose two different currencies.")
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor):
        _check_client(session, client_id)
        at = now()
        found = rates.rate_at(session, sell.currency, buy_currency, at)
        priced = price(sell, buy_currency, found.rate, spread_bp(session, sell.currency, buy_currency))
        made = FXQuote(
            client_id=client_id,
            sell_currency=sell.currency,
            sell_minor=sell.amount_minor,
            spread_minor=priced.spread.amount_minor,
            buy_currency=buy_currency,
            buy_minor=priced.bought.amount_minor,
            rate=found.rate,
            sources=[used.document() for used in found.sources],
            quoted_at=at,
            expires_at=at + QUOTE_HOLDS,
        )
        session.add(made)
        session.flush()
        session.refresh(made)
        return made


def convert(session: Session, *, quote_public_id: UUID | str, client_id: int, actor: Actor) -> Converted:
    """Carry out a quote, once: a second call gives the result of the first, also after the quote has expired.

    Raises NotFound (no such quote, or somebody else's), QuoteExpired, ConversionNotAllowed, InsufficientFunds.
    """
    try:
        public_id = UUID(str(quote_public_id))
    except ValueError:
        raise NotFound() from None
    with unit_of_work(session, actor) as unit:
        promised = session.scalars(
            select(FXQuote).where(FXQuote.public_id == public_id, FXQuote.client_id == client_id).with_for_update()
        ).one_or_none()
        if promised is None:
            raise NotFound()
        if promised.txn_id is not None:
            return _converted(promised)
        _check_client(session, client_id)
        at = now()
        if at >= promised.expires_at:
            raise QuoteExpired()
        legs = _legs(session, promised)
        promised.txn_id = posting.post(
            session,
            key=f"conversion:{public_id}",
            kind="conversion",
            effective_at=at,
            actor=actor,
            legs=legs,
            metadata=_metadata(session, promised, at),
        )
        promised.converted_at = at
        unit.emit(
            "conversion.done",
            subject_id=promised.id,
            client_id=client_id,
            quote_id=promised.id,
            txn_id=str(promised.txn_id),
            sold_minor=promised.sell_minor,
            sold_currency=promised.sell_currency,
            spread_minor=promised.spread_minor,
            bought_minor=promised.buy_minor,
            bought_currency=promised.buy_currency,
        )
        return _converted(promised)


def _check_client(session: Session, client_id: int) -> None:
    client = session.get(Client, client_id, with_for_update={"key_share": True})
    if client is None:
        raise NotFound()
    if client.status != "approved":
        raise ConversionNotAllowed()


def _legs(session: Session, promised: FXQuote) -> list[posting.Leg]:
    """The legs of docs/ledger.md's recipe; a spread of nothing has none. Opens the accounts that are missing."""
    sold, spread, bought = promised.sold, promised.spread, promised.bought
    wallet = chart.client_wallet(promised.client_id, sold.currency)
    position, income = chart.fx_position(sold.currency), chart.fx_spread(sold.currency)
    other_position = chart.fx_position(bought.currency)
    other_wallet = chart.client_wallet(promised.client_id, bought.currency)
    chart.open_accounts(session, wallet, position, income, other_position, other_wallet)
    legs = [
        posting.debit(wallet, sold),
        posting.credit(position, sold - spread),
        posting.debit(other_position, bought),
        posting.credit(other_wallet, bought),
    ]
    return [*legs, posting.credit(income, spread)] if spread else legs


def _metadata(session: Session, promised: FXQuote, at: datetime) -> dict[str, Any]:
    """All that explains the rate, and what the exchanged amount was worth in the reporting currency when it was booked."""
    value = rates.value(session, promised.sold - promised.spread, reporting_currency(), at)
    worth = {} if value is None else {"value": {"amount": f"{value:.10f}", "currency": reporting_currency()}}
    return {
        "quote_id": promised.id,
        "rate": rate_text(promised.rate),
        "sources": promised.sources,
        "spread_minor": promised.spread_minor,
        "quoted_at": promised.quoted_at.isoformat(),
        "expires_at": promised.expires_at.isoformat(),
        **worth,
    }


def _converted(promised: FXQuote) -> Converted:
    assert promised.txn_id is not None
    return Converted(promised.txn_id, promised.id, promised.sold, promised.spread, promised.bought, promised.rate)
