"""Exchange rates seen on deals: what a trading server says currencies are worth, between the bank's daily rates.

A deal carries two. Bid and ask of its symbol at that moment (MarketBid, MarketAsk) give, in the middle, 1 base currency in
the profit currency; RateProfit gives 1 profit currency in the account's. Which currencies a symbol has, the server says
(CurrencyBase, CurrencyProfit): its name does not tell, EURUSDm may be anything. Only accounts with real money count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.ledger.seen_rates import Seen
from app.metatrader.codes import DealAction
from app.metatrader.platform import Symbol
from app.models.metatrader import Deal, Product, Server, TradingAccount

#: Older deals say nothing of the present.
WITHIN = timedelta(minutes=15)
#: How many of the last deals are looked at, however busy the servers are.
LAST_DEALS = 5_000


@dataclass(frozen=True)
class TradedAt:
    """What one deal says about rates."""

    ticket: int
    symbol: str
    account_currency: str
    bid: Decimal
    ask: Decimal
    rate_profit: Decimal
    done_at: datetime


def recent_deals(session: Session) -> dict[tuple[int, str], list[TradedAt]]:
    """The trades of the last minutes on real accounts, newest first, by id and code of their server."""
    last = select(Deal.id).order_by(Deal.id.desc()).limit(LAST_DEALS).subquery()
    rows = session.execute(
        select(
            Server.id.label("server_id"),
            Server.code,
            Deal.ticket,
            Deal.symbol,
            TradingAccount.currency.label("account_currency"),
            Deal.market_bid.label("bid"),
            Deal.market_ask.label("ask"),
            Deal.rate_profit,
            Deal.done_at,
        )
        .join(last, last.c.id == Deal.id)
        .join(Server, Server.id == Deal.server_id)
        .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .join(Product, Product.id == TradingAccount.product_id)
        .where(
            Deal.is_current,
            ~Deal.is_void,
            ~Product.is_demo,
            Server.is_active,
            Deal.action.in_((DealAction.BUY, DealAction.SELL)),
            Deal.done_at > now() - WITHIN,
        )
        .order_by(Deal.done_at.desc(), Deal.id.desc())
    )
    found: defaultdict[tuple[int, str], list[TradedAt]] = defaultdict(list)
    names = [field.name for field in fields(TradedAt)]
    for row in rows:
        found[row.server_id, row.code].append(TradedAt(**{name: getattr(row, name) for name in names}))
    return dict(found)


def rates_of(server: str, deals: Sequence[TradedAt], symbols: Iterable[Symbol]) -> Iterator[Seen]:
    """The rates that the deals tell, best first: those from bid and ask have no part of a spread in them."""
    by_name = {symbol.name: symbol for symbol in symbols}
    known = [(deal, by_name[deal.symbol], f"{server}:{deal.ticket}") for deal in deals if deal.symbol in by_name]
    for deal, symbol, reference in known:
        if 0 < deal.bid <= deal.ask and symbol.currency_base != symbol.currency_profit:
            middle = (deal.bid + deal.ask) / 2
            yield Seen(symbol.currency_base, symbol.currency_profit, middle, deal.done_at, reference)
    for deal, symbol, reference in known:
        if deal.rate_profit > 0 and symbol.currency_profit != deal.account_currency:
            yield Seen(symbol.currency_profit, deal.account_currency, deal.rate_profit, deal.done_at, reference)
