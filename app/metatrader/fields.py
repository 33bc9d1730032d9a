"""Strict reading and writing of records as text fields.

MetaTrader's Web API, its Kafka topics and our event stream name the fields alike and write every number as text, so one
table per record serves them all. Reading refuses what a server cannot have meant: a missing or malformed number, a
negative volume, text over the limit, characters that no database text can hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from app.metatrader.codes import DealEntry
from app.metatrader.platform import UNITS_PER_OLD_UNIT, AccountState, Deal, Group, Order, Position, Symbol

BIGINT_MAX = 2**63 - 1
INT_MAX = 2**31 - 1

#: Wall-clock milliseconds that a server can have: the years 2000 to 2099.
TIME_MS_MIN = 946_684_800_000
TIME_MS_MAX = 4_102_444_799_999

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,16})?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether a database can hold the text: no NUL, no half of a surrogate pair."""
    return not _UNSTORABLE.search(text)


class FieldError(ValueError):
    """A field is missing or its text cannot be meant. `reason` names the field and what is wrong, without long values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Kind(Protocol):
    """How one attribute stands in the fields."""

    def read(self, raw: Mapping[str, Any]) -> Any: ...

    def write(self, value: Any) -> dict[str, str]: ...


def _raw_text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        raise FieldError(f"{name} is not text")
    return value


@dataclass(frozen=True)
class Whole:
    """A whole number in a range. `also` is the name that older servers use; `missing` stands in for an absent field."""

    name: str
    low: int = 0
    high: int = BIGINT_MAX
    missing: int | None = None
    also: str = ""

    def read(self, raw: Mapping[str, Any]) -> int:
        text = _raw_text(raw, self.name)
        if text is None and self.also:
            text = _raw_text(raw, self.also)
        if text is None:
            if self.missing is None:
                raise FieldError(f"{self.name} is missing")
            return self.missing
        if not _INTEGER.fullmatch(text):
            raise FieldError(f"{self.name} is not a whole number: {text[:24]!r}")
        value = int(text)
        if not self.low <= value <= self.high:
            raise FieldError(f"{self.name} is out of range: {value}")
        return value

    def write(self, value: int) -> dict[str, str]:
        return {self.name: str(value)}


@dataclass(frozen=True)
class Number:
    """An exact decimal: 12 digits before the point at most, no exponent, no infinity."""

    name: str
    missing: Decimal | None = None

    def read(self, raw: Mapping[str, Any]) -> Decimal:
        text = _raw_text(raw, self.name)
        if text is None:
            if self.missing is None:
                raise FieldError(f"{self.name} is missing")
            return self.missing
        if not _DECIMAL.fullmatch(text):
            raise FieldError(f"{self.name} is not a decimal number: {text[:24]!r}")
        return Decimal(text)

    def write(self, value: Decimal) -> dict[str, str]:
        return {self.name: format(value, "f")}


@dataclass(frozen=True)
class Words:
    """Text of limited length that every store of ours can hold."""

    name: str
    limit: int
    missing: str | None = ""

    def read(self, raw: Mapping[str, Any]) -> str:
        text = _raw_text(raw, self.name)
        if text is None:
            if self.missing is None:
                raise FieldError(f"{self.name} is missing")
            return self.missing
        if len(text) > self.limit:
            raise FieldError(f"{self.name} is longer than {self.limit} characters")
        if not is_storable(text):
            raise FieldError(f"{self.name} holds characters that are no text")
        return text

    def write(self, value: str) -> dict[str, str]:
        return {self.name: value}


@dataclass(frozen=True)
class Volume:
    """A volume in 1/100000000 lot under NameExt, beside the older Name in 1/10000 lot; old servers send only that."""

    name: str
    missing: int | None = None

    def read(self, raw: Mapping[str, Any]) -> int:
        high = BIGINT_MAX // UNITS_PER_OLD_UNIT
        has_old, has_fine = self.name in raw, f"{self.name}Ext" in raw
        if not has_old and not has_fine and self.missing is not None:
            return self.missing
        old = Whole(self.name, high=high).read(raw) if has_old or not has_fine else None
        fine = Whole(f"{self.name}Ext").read(raw) if has_fine else None
        if fine is None or (fine == 0 and old):
            return (old or 0) * UNITS_PER_OLD_UNIT
        if old is not None and abs(fine - old * UNITS_PER_OLD_UNIT) >= UNITS_PER_OLD_UNIT:
            raise FieldError(f"{self.name} and {self.name}Ext contradict each other")
        return fine

    def write(self, value: int) -> dict[str, str]:
        return {self.name: str(value // UNITS_PER_OLD_UNIT), f"{self.name}Ext": str(value)}


@dataclass(frozen=True)
class Moment:
    """Server wall-clock milliseconds under NameMsc, beside the same in seconds under Name.

    `may_be_never`: 0, or no field at all, says that it has not come. `in_seconds`: MetaTrader has no NameMsc for it.
    """

    name: str
    may_be_never: bool = False
    in_seconds: bool = False

    def read(self, raw: Mapping[str, Any]) -> int:
        fine = not self.in_seconds and f"{self.name}Msc" in raw
        name, ms = (f"{self.name}Msc", 1) if fine else (self.name, 1000)
        if self.may_be_never and raw.get(name, "0") == "0":
            return 0
        return ms * Whole(name, TIME_MS_MIN // ms, TIME_MS_MAX // ms).read(raw)

    def write(self, value: int) -> dict[str, str]:
        seconds = {self.name: str(value // 1000)}
        return seconds if self.in_seconds else {**seconds, f"{self.name}Msc": str(value)}


_ZERO = Decimal(0)

_DEAL: dict[str, Kind] = {
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

_POSITION: dict[str, Kind] = {
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

_ORDER: dict[str, Kind] = {
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

_ACCOUNT: dict[str, Kind] = {
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
    deal = Deal(**_read(_DEAL, raw))
    if deal.is_trade:
        if not deal.symbol:
            raise FieldError("Symbol is empty on a trade")
        if deal.volume == 0:
            raise FieldError("Volume is zero on a trade")
        if deal.entry not in set(DealEntry):
            raise FieldError(f"Entry is unknown: {deal.entry}")
        if deal.volume_closed > deal.volume:
            raise FieldError("VolumeClosed is larger than Volume")
    return deal


def write_deal(deal: Deal) -> dict[str, str]:
    """The deal's fields under MetaTrader's names, numbers as text."""
    return _write(_DEAL, deal)


def read_position(raw: Mapping[str, Any]) -> Position:
    """A position from its fields. Raises FieldError."""
    return Position(**_read(_POSITION, raw))


def write_position(position: Position) -> dict[str, str]:
    """The position's fields under MetaTrader's names, numbers as text."""
    return _write(_POSITION, position)


def read_order(raw: Mapping[str, Any]) -> Order:
    """An order from its fields. Raises FieldError, also when more is left of it than it began with."""
    order = Order(**_read(_ORDER, raw))
    if order.volume_current > order.volume_initial:
        raise FieldError("VolumeCurrent is larger than VolumeInitial")
    return order


def write_order(order: Order) -> dict[str, str]:
    """The order's fields under MetaTrader's names, numbers as text."""
    return _write(_ORDER, order)


def read_account(raw: Mapping[str, Any]) -> AccountState:
    """An account's state from its fields. Raises FieldError."""
    return AccountState(**_read(_ACCOUNT, raw))


def write_account(account: AccountState) -> dict[str, str]:
    """The account's fields under MetaTrader's names, numbers as text."""
    return _write(_ACCOUNT, account)


def read_group(raw: Mapping[str, Any]) -> Group:
    """A group from its fields. Raises FieldError."""
    return Group(**_read(_GROUP, raw))


def read_symbol(raw: Mapping[str, Any]) -> Symbol:
    """A symbol from its fields. Raises FieldError."""
    return Symbol(**_read(_SYMBOL, raw))
