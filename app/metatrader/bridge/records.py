"""The API's objects as plain values, and those as the port's records.

Copying is done inside callbacks, so it is all it does; making records is the worker's. The API hands money and prices over
as floats: their shortest text, rounded to the digits that the object itself states, is the number that the server meant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from app.metatrader.platform import UNITS_PER_OLD_UNIT, AccountState, Deal, Order, Position

#: Digits of rates and of averaged prices, which have more than their symbol.
FINE_DIGITS = 8
RATE_DIGITS = 10

DEAL_FIELDS = (
    "Deal", "Login", "Action", "Entry", "Reason", "Order", "PositionID", "Symbol", "Volume", "VolumeExt", "VolumeClosed",
    "VolumeClosedExt", "Price", "PricePosition", "MarketBid", "MarketAsk", "ContractSize", "Digits", "DigitsCurrency",
    "Profit", "Storage", "Commission", "Fee", "RateProfit", "RateMargin", "TimeMsc", "Comment", "ModificationFlags",
    "Dealer", "ExternalID",
)  # fmt: skip
POSITION_FIELDS = (
    "Position", "Login", "Symbol", "Action", "Reason", "Volume", "VolumeExt", "PriceOpen", "PriceCurrent", "PriceSL",
    "PriceTP", "Profit", "Storage", "ContractSize", "Digits", "DigitsCurrency", "RateProfit", "RateMargin",
    "TimeCreateMsc", "TimeUpdateMsc", "Comment", "ExternalID",
)  # fmt: skip
ORDER_FIELDS = (
    "Order", "Login", "Symbol", "Type", "State", "Reason", "VolumeInitial", "VolumeInitialExt", "VolumeCurrent",
    "VolumeCurrentExt", "PriceOrder", "PriceTrigger", "PriceSL", "PriceTP", "PositionID", "PositionByID", "TimeSetupMsc",
    "TimeDoneMsc", "TimeExpiration", "Comment", "Digits", "ExternalID", "ContractSize",
)  # fmt: skip
USER_FIELDS = ("Login", "Group", "Leverage", "Rights", "Balance", "Credit", "ID")
STATE_FIELDS = (
    "Login", "CurrencyDigits", "Balance", "Credit", "Equity", "Margin", "MarginFree", "MarginLevel", "Floating",
)  # fmt: skip

Values = Mapping[str, Any]


class Unreadable(ValueError):
    """An object of the API that no record can be made of."""


def copied(source: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    """The object's fields as plain values."""
    return {name: getattr(source, name) for name in fields}


def deal(values: Values) -> Deal:
    """A deal. Raises Unreadable."""
    digits, money = int(values["Digits"]), int(values["DigitsCurrency"])
    return Deal(
        ticket=int(values["Deal"]),
        login=int(values["Login"]),
        action=int(values["Action"]),
        entry=int(values["Entry"]),
        reason=int(values["Reason"]),
        order_ticket=int(values["Order"]),
        position_ticket=int(values["PositionID"]),
        symbol=_words(values, "Symbol"),
        volume=_volume(values, "Volume"),
        volume_closed=_volume(values, "VolumeClosed"),
        price=_number(values, "Price", digits),
        price_position=_plain(values, "PricePosition", FINE_DIGITS),
        market_bid=_number(values, "MarketBid", digits),
        market_ask=_number(values, "MarketAsk", digits),
        contract_size=_plain(values, "ContractSize", FINE_DIGITS),
        digits=digits,
        digits_currency=money,
        profit=_number(values, "Profit", money),
        swap=_number(values, "Storage", money),
        commission=_number(values, "Commission", money),
        fee=_number(values, "Fee", money),
        rate_profit=_plain(values, "RateProfit", RATE_DIGITS),
        rate_margin=_plain(values, "RateMargin", RATE_DIGITS),
        server_time_ms=int(values["TimeMsc"]),
        comment=_words(values, "Comment"),
        modification_flags=int(values["ModificationFlags"]),
        dealer=int(values["Dealer"]),
        external_id=_words(values, "ExternalID"),
    )


def position(values: Values) -> Position:
    """An open position. Raises Unreadable."""
    digits, money = int(values["Digits"]), int(values["DigitsCurrency"])
    return Position(
        ticket=int(values["Position"]),
        login=int(values["Login"]),
        symbol=_words(values, "Symbol"),
        action=int(values["Action"]),
        reason=int(values["Reason"]),
        volume=_volume(values, "Volume"),
        price_open=_plain(values, "PriceOpen", FINE_DIGITS),
        price_current=_number(values, "PriceCurrent", digits),
        profit=_number(values, "Profit", money),
        swap=_number(values, "Storage", money),
        contract_size=_plain(values, "ContractSize", FINE_DIGITS),
        digits=digits,
        digits_currency=money,
        rate_profit=_plain(values, "RateProfit", RATE_DIGITS),
        rate_margin=_plain(values, "RateMargin", RATE_DIGITS),
        created_ms=int(values["TimeCreateMsc"]),
        update_ms=int(values["TimeUpdateMsc"]),
        comment=_words(values, "Comment"),
        external_id=_words(values, "ExternalID"),
        price_stop_loss=_number(values, "PriceSL", digits),
        price_take_profit=_number(values, "PriceTP", digits),
    )


def order(values: Values) -> Order:
    """An order. Raises Unreadable."""
    digits = int(values["Digits"])
    return Order(
        ticket=int(values["Order"]),
        login=int(values["Login"]),
        symbol=_words(values, "Symbol"),
        type=int(values["Type"]),
        state=int(values["State"]),
        reason=int(values["Reason"]),
        volume_initial=_volume(values, "VolumeInitial"),
        volume_current=_volume(values, "VolumeCurrent"),
        price_order=_number(values, "PriceOrder", digits),
        price_trigger=_number(values, "PriceTrigger", digits),
        price_stop_loss=_number(values, "PriceSL", digits),
        price_take_profit=_number(values, "PriceTP", digits),
        position_ticket=int(values["PositionID"]),
        position_by_ticket=int(values["PositionByID"]),
        set_up_ms=int(values["TimeSetupMsc"]),
        done_ms=int(values["TimeDoneMsc"]),
        expiration_ms=int(values["TimeExpiration"]) * 1000,
        comment=_words(values, "Comment"),
        digits=digits,
        external_id=_words(values, "ExternalID"),
        contract_size=_plain(values, "ContractSize", FINE_DIGITS),
    )


def account(user: Values, state: Values | None, digits_currency: int = 2) -> AccountState:
    """A login's state. Without `state`, which an idle login may not have, nothing is open and equity is balance and credit.

    Raises Unreadable.
    """
    digits = int(state["CurrencyDigits"]) if state else digits_currency
    source = state or user
    balance, credit = _number(source, "Balance", digits), _number(source, "Credit", digits)
    zero = _number({"": 0.0}, "", digits)
    return AccountState(
        login=int(user["Login"]),
        group=_words(user, "Group"),
        leverage=int(user["Leverage"]),
        rights=int(user["Rights"]),
        balance=balance,
        credit=credit,
        equity=_number(state, "Equity", digits) if state else balance + credit,
        margin=_number(state, "Margin", digits) if state else zero,
        margin_free=_number(state, "MarginFree", digits) if state else balance + credit,
        margin_level=_number(state, "MarginLevel", 2) if state else Decimal("0.00"),
        floating=_number(state, "Floating", digits) if state else zero,
        digits_currency=digits,
        mark=_words(user, "ID"),
    )


def _number(values: Values, name: str, digits: int) -> Decimal:
    """A float of so many digits, exactly, with all of them."""
    value = float(values[name])
    if not math.isfinite(value):
        raise Unreadable(f"{name} is {value}")
    if not 0 <= digits <= 16:
        raise Unreadable(f"{name} has {digits} digits")
    # Adding zero takes the sign off a negative zero.
    return Decimal(repr(round(value, digits))).quantize(Decimal(1).scaleb(-digits)) + 0


def _plain(values: Values, name: str, digits: int) -> Decimal:
    """A float of at most so many digits, without trailing zeros."""
    exact = _number(values, name, digits).normalize()
    return exact if exact.as_tuple().exponent <= 0 else exact.quantize(Decimal(1))  # type: ignore[operator]  # finite, so a number


def _volume(values: Values, name: str) -> int:
    """1/100000000 lot; old servers fill only the coarser unit."""
    fine, old = int(values[f"{name}Ext"]), int(values[name])
    return fine or old * UNITS_PER_OLD_UNIT


def _words(values: Values, name: str) -> str:
    """Text that any store can hold: halves of surrogate pairs and NULs are replaced."""
    raw = str(values[name]).replace("\x00", "�")
    return raw.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
