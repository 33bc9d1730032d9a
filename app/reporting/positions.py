"""Open positions worked out from deals, and prices written with the digits their symbol has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Protocol, TypeVar

from app.core.errors import N_

BUY = 0


class Trade(Protocol):
    """What a deal must tell; `action` is 0 for a buy and 1 for a sell, `volume` counts 1/100000000 lot."""

    @property
    def position_ticket(self) -> int: ...
    @property
    def action(self) -> int: ...
    @property
    def symbol(self) -> str: ...
    @property
    def volume(self) -> int: ...
    @property
    def price(self) -> Decimal: ...
    @property
    def done_at(self) -> datetime: ...


@dataclass(frozen=True)
class OpenPosition:
    """What is left of a position. `price` is the volume-weighted price of the deals that opened it, `what` a message id."""

    ticket: int
    what: str
    symbol: str
    volume: int
    price: Decimal
    opened_at: datetime


def open_positions(trades: Iterable[Trade]) -> tuple[OpenPosition, ...]:
    """The positions that trades leave open. The trades of one position stand together, in the order they were done."""
    left = (_left_open(ticket, list(deals)) for ticket, deals in groupby(trades, lambda trade: trade.position_ticket))
    return tuple(position for position in left if position is not None)


def _left_open(ticket: int, trades: list[Trade]) -> OpenPosition | None:
    """Follow one position: a trade the same way adds to it, one the other way takes from it, or reverses it."""
    volume, cost, opened = 0, Decimal(0), trades[0]
    for trade in trades:
        signed = trade.volume if trade.action == BUY else -trade.volume
        after = volume + signed
        if volume * after <= 0:  # opened, closed, or reversed: what is left was bought or sold at this price
            cost, opened = trade.price * abs(after), trade
        elif volume * signed > 0:
            cost += trade.price * abs(signed)
        else:
            cost = cost * abs(after) / abs(volume)
        volume = after
    if volume == 0:
        return None
    digits = 2 + max(_digits(trade.price) for trade in trades)  # an average lies between the prices
    return OpenPosition(
        ticket=ticket,
        what=N_("Buy") if volume > 0 else N_("Sell"),
        symbol=opened.symbol,
        volume=abs(volume),
        price=(cost / abs(volume)).quantize(Decimal(1).scaleb(-digits)),
        opened_at=opened.done_at,
    )


class Priced(Protocol):
    """A line with a symbol and a price: a frozen dataclass."""

    @property
    def symbol(self) -> str: ...
    @property
    def price(self) -> Decimal | None: ...


P = TypeVar("P", bound=Priced)


def align_prices(lines: Sequence[P]) -> tuple[P, ...]:
    """The lines with all prices of one symbol written with the same number of decimals; no digit is lost."""
    digits: dict[str, int] = {}
    for line in lines:
        if line.price is not None:
            digits[line.symbol] = max(digits.get(line.symbol, 0), _digits(line.price))
    return tuple(
        line if line.price is None else replace(line, price=line.price.quantize(Decimal(1).scaleb(-digits[line.symbol])))  # type: ignore[type-var]  # a protocol cannot say "dataclass"
        for line in lines
    )


def _digits(price: Decimal) -> int:
    """Decimals that matter: 2 for 1.25000000."""
    return max(0, -int(price.normalize().as_tuple().exponent))
