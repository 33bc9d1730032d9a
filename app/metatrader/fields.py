"""Records as text fields: one table per record.

MetaTrader's Web API, its Kafka topics and our event stream name the fields alike and write every number as text, so one
table per record serves them all. How strict the reading is stands in field_kinds.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from app.metatrader.codes import DealEntry
from app.metatrader.field_kinds import (
    CLOCK_AHEAD_S,
    INT_MAX,
    OFFSET_MAX,
    OFFSET_MIN,
    TIME_MS_MAX,
    TIME_MS_MIN,
    FieldError,
    Kind,
    Moment,
    Number,
    Volume,
    Whole,
    Words,
    is_storable,
)
from app.metatrader.platform import AccountState, Deal, Group, Order, Position, Symbol

__all__ = [
    "CLOCK_AHEAD_S",
    "OFFSET_MAX",
    "OFFSET_MIN",
    "TIME_MS_MAX",
    "TIME_MS_MIN",
    "FieldError",
    "Kind",
    "Moment",
    "Number",
    "Volume",
    "Whole",
    "Words",
    "is_storable",
]

_ZERO = Decimal(0)
_ENTRIES = frozenset(DealEntry)

DEAL: dict[str, Kind] = {
    "ticket": Whole("Deal", low=1),
    "login": Whole("Login", low=1),
    "action": Whole("Action", high=63),
    "entry": Whole("Entry", high=255, missing=0),
    "reason": Whole("Reason", high=255, missing=0),
    "order_ticket": Whole("Order", missing=0),
    "position_ticket": Whole("PositionID", missing=0),
    "symbol": Words("Symbol", 31),
    "volume": Volume("Volume"),
    "volume_closed": Volume("VolumeClosed", missing=0),
    "price": Number("Price"),
    "price_position": Number("PricePosition", missing=_ZERO),
    "market_bid": Number("MarketBid", missing=_ZERO),
    "market_ask": Number("MarketAsk", missing=_ZERO),
    "contract_size": Number("ContractSize", missing=_ZERO),
    "digits": Whole("Digits", high=16, missing=0),
    "digits_currency": Whole("DigitsCurrency", high=8, missing=2),
    "profit": Number("Profit"),
    "swap": Number("Storage", missing=_ZERO),
    "commission": Number("Commission", missing=_ZERO),
    "fee": Number("Fee", missing=_ZERO),
    "rate_profit": Number("RateProfit", missing=_ZERO),
    "rate_margin": Number("RateMargin", missing=_ZERO),
    "server_time_ms": Moment("Time"),
    "comment": Words("Comment", 31),
    "modification_flags": Whole("ModificationFlags", high=INT_MAX, missing=0, also="ModifyFlags"),
    "dealer": Whole("Dealer", missing=0),
    "external_id": Words("ExternalID", 127),
}

POSITION: dict[str, Kind] = {
    "ticket": Whole("Position", low=1),
    "login": Whole("Login", low=1),
    "symbol": Words("Symbol", 31, missing=None),
    "action": Whole("Action", high=1),
    "reason": Whole("Reason", high=255, missing=0),
    "volume": Volume("Volume"),
    "price_open": Number("PriceOpen"),
    "price_current": Number("PriceCurrent"),
    "price_stop_loss": Number("PriceSL", missing=_ZERO),
    "price_take_profit": Number("PriceTP", missing=_ZERO),
    "profit": Number("Profit"),
    "swap": Number("Storage", missing=_ZERO),
    "contract_size": Number("ContractSize", missing=_ZERO),
    "digits": Whole("Digits", high=16, missing=0),
    "digits_currency": Whole("DigitsCurrency", high=8, missing=2),
    "rate_profit": Number("RateProfit", missing=_ZERO),
    "rate_margin": Number("RateMargin", missing=_ZERO),
    "created_ms": Moment("TimeCreate"),
    "update_ms": Moment("TimeUpdate"),
    "comment": Words("Comment", 31),
    "external_id": Words("ExternalID", 127),
}

ORDER: dict[str, Kind] = {
    "ticket": Whole("Order", low=1),
    "login": Whole("Login", low=1),
    "symbol": Words("Symbol", 31, missing=None),
    "type": Whole("Type", high=255),
    "state": Whole("State", high=255),
    "reason": Whole("Reason", high=255, missing=0),
    "volume_initial": Volume("VolumeInitial"),
    "volume_current": Volume("VolumeCurrent"),
    "price_order": Number("PriceOrder"),
    "price_trigger": Number("PriceTrigger", missing=_ZERO),
    "price_stop_loss": Number("PriceSL", missing=_ZERO),
    "price_take_profit": Number("PriceTP", missing=_ZERO),
    "position_ticket": Whole("PositionID", missing=0),
    "position_by_ticket": Whole("PositionByID", missing=0),
    "set_up_ms": Moment("TimeSetup"),
    "done_ms": Moment("TimeDone", may_be_never=True),
    "expiration_ms": Moment("TimeExpiration", may_be_never=True, in_seconds=True),
    "comment": Words("Comment", 31),
    "digits": Whole("Digits", high=16, missing=0),
    "external_id": Words("ExternalID", 127),
    "contract_size": Number("ContractSize", missing=_ZERO),
}

ACCOUNT: dict[str, Kind] = {
    "login": Whole("Login", low=1),
    "group": Words("Group", 127, missing=None),
    "leverage": Whole("Leverage", high=5000),
    "rights": Whole("Rights"),
    "balance": Number("Balance"),
    "credit": Number("Credit"),
    "equity": Number("Equity"),
    "margin": Number("Margin"),
    "margin_free": Number("MarginFree"),
    "margin_level": Number("MarginLevel"),
    "floating": Number("Floating"),
    "digits_currency": Whole("CurrencyDigits", high=8, missing=2),
    "mark": Words("ID", 127),
}

_GROUP: dict[str, Kind] = {
    "name": Words("Group", 127, missing=None),
    "currency": Words("Currency", 15, missing=None),
    "currency_digits": Whole("CurrencyDigits", high=8),
    "margin_mode": Whole("MarginMode", high=255),
    "margin_stop_out": Number("MarginStopOut", missing=_ZERO),
}

_SYMBOL: dict[str, Kind] = {
    "name": Words("Symbol", 31, missing=None),
    "digits": Whole("Digits", high=16),
    "currency_base": Words("CurrencyBase", 15),
    "currency_profit": Words("CurrencyProfit", 15),
    "contract_size": Number("ContractSize"),
    "volume_min": Volume("VolumeMin", missing=0),
    "volume_max": Volume("VolumeMax", missing=0),
    "volume_step": Volume("VolumeStep", missing=0),
}


def _read(table: dict[str, Kind], raw: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute: kind.read(raw) for attribute, kind in table.items()}


def _write(table: dict[str, Kind], record: object) -> dict[str, str]:
    fields: dict[str, str] = {}
    for attribute, kind in table.items():
        fields.update(kind.write(getattr(record, attribute)))
    return fields


def read_deal(raw: Mapping[str, Any]) -> Deal:
    """A deal from its fields. Raises FieldError, also when the fields contradict each other."""
    deal = Deal(**_read(DEAL, raw))
    check_deal(deal)
    return deal


def check_deal(deal: Deal) -> None:
    """Raises FieldError when the fields of a trade contradict each other."""
    if deal.is_trade:
        if not deal.symbol:
            raise FieldError("Symbol is empty on a trade")
        if deal.volume == 0:
            raise FieldError("Volume is zero on a trade")
        if deal.entry not in _ENTRIES:
            raise FieldError(f"Entry is unknown: {deal.entry}")
        if deal.volume_closed > deal.volume:
            raise FieldError("VolumeClosed is larger than Volume")


def write_deal(deal: Deal) -> dict[str, str]:
    """The deal's fields under MetaTrader's names, numbers as text."""
    return _write(DEAL, deal)


def read_position(raw: Mapping[str, Any]) -> Position:
    """A position from its fields. Raises FieldError."""
    return Position(**_read(POSITION, raw))


def write_position(position: Position) -> dict[str, str]:
    """The position's fields under MetaTrader's names, numbers as text."""
    return _write(POSITION, position)


def read_order(raw: Mapping[str, Any]) -> Order:
    """An order from its fields. Raises FieldError, also when more is left of it than it began with."""
    order = Order(**_read(ORDER, raw))
    check_order(order)
    return order


def check_order(order: Order) -> None:
    """Raises FieldError when the order's volumes contradict each other."""
    if order.volume_current > order.volume_initial:
        raise FieldError("VolumeCurrent is larger than VolumeInitial")


def write_order(order: Order) -> dict[str, str]:
    """The order's fields under MetaTrader's names, numbers as text."""
    return _write(ORDER, order)


def read_account(raw: Mapping[str, Any]) -> AccountState:
    """An account's state from its fields. Raises FieldError."""
    return AccountState(**_read(ACCOUNT, raw))


def write_account(account: AccountState) -> dict[str, str]:
    """The account's fields under MetaTrader's names, numbers as text."""
    return _write(ACCOUNT, account)


def read_group(raw: Mapping[str, Any]) -> Group:
    """A group from its fields. Raises FieldError."""
    return Group(**_read(_GROUP, raw))


def read_symbol(raw: Mapping[str, Any]) -> Symbol:
    """A symbol from its fields. Raises FieldError."""
    return Symbol(**_read(_SYMBOL, raw))
